"""Everything the window says that does not come from data or from a method's own description."""

RESEARCH_USE = "Research use only, not a medical device."

TITLE = "Quantitative susceptibility mapping"

FIELD = "Local field: background removed, any unit (ppm, ppb, Hz, rad)."
MASK = "Where chi is reconstructed. Without one, all voxels with a field count."
MAGNITUDE = "Optional: tells methods that can use it how far to trust each voxel."
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

GRID = "All visible maps side by side: same slice, same zoom, same angle."
CONVENTION = "Which side of the screen shows the patient's right."
RADIOLOGICAL = "Radiological (R on the left)"
NEUROLOGICAL = "Neurological (L on the left)"
SAVE = "Save the maps of the selected result as NIfTI with their provenance (JSON)."
NONE = "none"
