"""What the Compare dock and the orthogonal views say."""

MAPS = "Maps"
MAPS_TIP = "Ticked maps are on show; two or more stand side by side, one camera for all."
NO_MAPS = "No susceptibility map is there yet; reconstruct one or open a file."
SIDE_BY_SIDE = "Side by side"
SIDE_BY_SIDE_TIP = "Every ticked map in a box of its own: same slice, zoom and angle, in 2D and 3D."
ALL, NONE = "All", "None"

WINDOW = "One window for all maps of a kind"
WINDOW_OF_TIP = "Which maps the window below is for; each kind has a window of its own."
WINDOW_TIP = "Darkest and brightest value, the same in every map of this kind."
UNIT_TIP = "ppm or ppb; only what is written changes, never a map."
RESET_WINDOW = "Reset"
RESET_WINDOW_TIP = "Back to the usual window of these maps."

OVERLAY = "Two maps in one"
OVERLAY_A_TIP = "Map A."
OVERLAY_B_TIP = "Map B."
FIELD_TIP = "The local field that A should explain."
KINDS = {
    "difference": "Difference  A − B",
    "swipe": "Swipe  A | B",
    "checkerboard": "Checkerboard  A / B",
    "residual": "Residual  DA − f",
}
KIND_TIP = "What to make of the two maps: a layer that follows them when they change."
SHOW_OVERLAY = "Show"
HIDE_OVERLAY = "Remove"
AXES = {"R": "left ↔ right", "A": "front ↔ back", "S": "top ↔ bottom"}
AXIS_TIP = "Along which axis the curtain is drawn."
SWIPE_TIP = "How much of A is seen; A is on the left of the screen, or on top."
SIDE_TIP = "Side of the cubes in mm."
NEEDS_TWO = "Choose two different maps."
NEEDS_FIELD = "Choose a map and the local field."

TABLE = "Figures against a reference"
REFERENCE_TIP = "The map that all ticked maps of its kind are held against."
MASK_TIP = "The voxels that count."
CHOOSE_REFERENCE = "choose a reference"
CHOOSE_MASK = "choose a mask"
COMPUTE = "Compute"
COMPUTE_TIP = "Computes all figures of the ticked maps in the background."
CANCEL = "Cancel"
CANCELLED = "Cancelled."
NO_REFERENCE = "Choose a reference and a mask."
NOTHING_TICKED = "Tick a map of the reference's kind, other than the reference itself."
STALE = "'{}' has changed since; compute again."
COPY = "Copy"
COPY_TIP = "Copy the table for a spreadsheet."
COPIED = "Copied."
EXPORT = "Export CSV…"
EXPORT_TIP = "Save the table as comma-separated text."
SAVED = "Saved {}."

ORTHOGONAL = "Tri-planar + 3D…"
ORTHOGONAL_TIP = "Axial, coronal, sagittal and 3D with one crosshair, in a window of their own."
OPENING = "Opening view {} of 4 …"
SCREENSHOT = "Screenshot…"
SCREENSHOT_TIP = "Save the maps as they stand side by side as a PNG image."
WINDOW_SCREENSHOT_TIP = "Save this whole window as a PNG image."
SHOWN_TIP = "The map in the four views. Its window is the one it has in the main window."
PLANES = ("axial", "coronal", "sagittal", "3D")
HINT = "Click, or move with Shift held: the crosshair goes there in all views."
VOXEL_TIP = "Voxel under the crosshair as stored, axis by axis."
FIT = "Fit"
FIT_TIP = "Show the whole head in all views, the planes at one scale."
OUTSIDE = "outside the map"
"""Where the crosshair is when it lies on no voxel of the map."""
