"""Everything the window says that does not come from data or from a method's own description."""

RESEARCH_USE = "Research use only, not a medical device."
RESEARCH_ONLY = "Research use only"
"""The same under a canvas, where there is little room; the docks say all of it."""

TITLE = "Quantitative susceptibility mapping"

FIELD = "Local field: background removed, any unit (ppm, ppb, Hz, rad)."
MASK = "Where chi is reconstructed. Without one, all voxels with a field count."
MAGNITUDE = "Optional: tells methods that can use it how far to trust each voxel."
NOISE = (
    "Optional: standard deviation of the field in ppm, as Prepare makes it. Methods that weight "
    "the field go by it first, and by the magnitude without it."
)
R2PRIME = (
    "R2' in 1/s or 1/ms: what susceptibility within a voxel adds to the decay. The best there is "
    "to tell iron from myelin."
)
R2STAR = (
    "R2* in 1/s or 1/ms, as Prepare makes it. Methods that separate take R2' = R2* - R2, with a "
    "nominal R2 where none is chosen."
)
START = "Optional: a χ map to begin with, or to separate ('given')."
R2 = "R2 in 1/s or 1/ms, of spin echoes: makes R2' of R2*."
ZERO = (
    "What susceptibility is relative to: a constant makes no field, so somebody must choose. "
    "The choice is recorded with every map."
)
ZEROS = {
    "mask": "the mean of the mask",
    "csf": "the ventricles' fluid (by R2*)",
    "roi": "a region you painted",
    "none": "whatever the method makes it",
}
ZERO_MAPS = {"csf": "The R2* map that tells fluid from tissue.", "roi": "Labels of the region."}
REFERENCE = "Optional: a known chi map; every result then comes with its error."
OPEN = "Open a NIfTI file"
UNIT = "Unit of the field. 'from file' trusts the sidecar, and ppm where there is none."
FIELD_STRENGTH = "B0 in tesla; needed for fields in Hz or rad and by nonlinear methods."
ECHO_TIME = "Echo time in milliseconds; needed for fields in rad and by nonlinear methods."
B0_DIRECTION = (
    "Direction of B0 along the stored voxel axes, from the file's affine. "
    "Edit it if the volume was resampled or registered."
)
B0_RESET = "Take the direction from the affine again"

METHOD = "How the field is inverted to susceptibility."
AUTO = "Chosen from the data; the notes of the result say which value ran."
RESET = "Back to the shipped parameters"
DEVICE = "Where the reconstruction runs."
PREVIEW = "Show the current estimate while the reconstruction runs."
RUN = "Reconstruct"
CANCEL = "Cancel"
CANCELLED = "Cancelled."

GRID = "All visible maps side by side: same slice, same zoom, same angle."
CONVENTION = "Which side of the screen shows the patient's right."
RADIOLOGICAL = "Radiological (R left)"
NEUROLOGICAL = "Neurological (L left)"
SAVE = "Save the maps of the selected result as NIfTI with their provenance (JSON)."
NONE = "none"

PREPARE = "Prepare"
PREPARE_DEVICE = "Where stages run that can use an accelerator."
OPEN_FOLDER = "Open folder…"
OPEN_FOLDER_TIP = "A folder of DICOM files, a BIDS data set, or NIfTI files with their sidecars."
OPEN_FILES = "Open files…"
OPEN_FILES_TIP = "Phase and magnitude as NIfTI: one file of all echoes, or one for each."
DIGITAL_HEAD = "Digital head"
DIGITAL_HEAD_TIP = "A simulated raw measurement of a head with a haemorrhage, 4 echoes, at 2 mm."
DROP = "Open or drop a folder or files with the phase of a gradient-echo measurement."
NOTHING_OPEN = "Nothing is opened yet."
MEASUREMENT = "Which of the measurements that were found is prepared."
SEVERAL = "{} measurements were found: choose one"
CORRECTIONS = "Corrections"
CORRECTIONS_TIP = "What the files state wrongly or not at all; grey is what was understood."
ECHO_TIMES = "Echo times in milliseconds, one for each echo, such as 4, 8, 12."
PREPARE_B0 = "B0 in tesla."
FLIP_PHASE = "flip the phase"
FLIP_PHASE_TIP = (
    "Turn the sign of the phase. Veins and iron-rich nuclei must be bright in susceptibility."
)
PHASE_SCALE = "How stored numbers become a phase in rad."
PHASE_SCALES = {
    "auto": "scale as it looks",
    "rad": "stored in rad",
    "range": "a turn over its range",
}
OWN_MASK = "A mask of your own goes first, untouched. Paint on it and what follows is out of date."
OWN_MASK_NONE = "made by the stage below"
EDIT_MASK = "Edit"
EDIT_MASK_TIP = "Paint on a copy of the newest mask and use that instead."
LEAVE_OUT = "leave out"
UNFOLD = "Parameters, references and notes"
SHOW_LAYER = "Show or hide what this stage made; the arrow lists everything."
LOAD_PRESET = "Load preset"
LOAD_PRESET_TIP = "Take all stages and parameters from a preset (TOML)."
LOAD_PRESET_FILE = "From a file…"
SAVE_PRESET = "Save preset…"
SAVE_PRESET_TIP = "Save all stages and parameters as a preset for the window and the command line."
SAVE_RESULTS = "Save results…"
SAVE_RESULTS_TIP = "Save fields, masks and R2* as BIDS derivatives with their provenance (JSON)."
TO_RECONSTRUCT = "Reconstruct ▸"
TO_RECONSTRUCT_TIP = (
    "The local field, its mask, its noise and the magnitude are chosen there already."
)
EDITED_MASK = "mask (edited)"
PREPARED = "The local field is ready and chosen in Reconstruct ({})."
SIMULATING = "Simulating …"
READING = "Reading …"

LIVE_METHOD = (
    "The method of Reconstruct, of the slider and of the sweep: choose it here or there. "
    "⚡ methods follow the slider; the others solve on release."
)
LIVE_PLAIN = "without {}"
LIVE_ZERO = (
    "χ is relative to the mean of the mask here; 'Keep as result' takes what Reconstruct says"
)
LIVE_UNTUNED = "{} has nothing to tune; the slider stays with {}"
LIVE_FOLLOWS = "⚡ follows the slider: first the slices in view, then the volume"
LIVE_RELEASE = "solves when the slider is released"
LIVE_WARM = "solves when the slider is released, starting from the last map"
LIVE_MOVE = "Move the slider to see χ."
LIVE_AUTO = "auto"
LIVE_AUTO_TIP = "Let the method choose the value from the data, and show which one it took."
LIVE_STOP = "Stop solving; the last map that was finished or shown stays."
LIVE_KEEP = "Keep as result"
LIVE_KEEP_TIP = "Reconstruct with this value into the results, with all maps and their provenance."
LIVE_USE = "Use in Reconstruct"
LIVE_USE_TIP = "Take the value over into the form of the Reconstruct dock."
"""The *Explore* dock; the slider's layer is called by method and value."""
