"""What the window says of separated sources that does not come from data or from a method."""

COMPOSITE = "χ±"
COMPOSITE_TIP = (
    "Iron and myelin in one picture: χ+ in red to yellow, χ- in blue to cyan, on black; where "
    "there is much of both it is white. Again for the view as it was. In 3D it comes by itself."
)

LINEARITY = "Lesion linearity"
LINEARITY_TIP = (
    "How the chosen method's maps follow a lesion whose strength is scaled: what the lesion adds "
    "to the field, and to R2' and R2*, is simulated from the maps, scaled, added to the data, and "
    "the data are reconstructed anew."
)
REGION = "Labels with the lesion. Paint one, or choose a layer."
CHOOSE_REGION = "choose a region"
DRAW = "Draw"
DRAW_TIP = "Paint the lesion on a new layer of labels."
DRAWN = "lesion"
NUMBER = "Which label of the layer is the lesion."
STRENGTHS = "Strengths to try; 1 is the lesion as it was measured, 0 takes it out."
TRY = "Try strengths"
NO_REGION = "Paint a lesion or choose a layer of labels."
BUSY = "Wait until the running job is done."
NO_FIELD = "Choose a local field in Reconstruct to begin."
STRENGTH_AXIS = "strength of the lesion"
MEAN_AXIS = "mean in the lesion [ppb]"
SIMULATED = "simulated"
SLOPE = "{} slope <b>{:.2f}</b> ({:.0f} ppb at strength 1)"
NO_SLOPE = "{} was next to nothing ({:.0f} ppb at strength 1), so it has no slope"
TRIED = "{}, {} voxels, {} strengths in {}."
"""The panel that shows how maps follow a lesion."""
