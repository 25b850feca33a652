"""What the window says of separated sources that does not come from data or from a method."""

COMPOSITE = "χ+ | χ-"
COMPOSITE_TIP = (
    "Iron and myelin in one picture: χ+ in red to yellow, χ- in blue to cyan, on black; where "
    "there is much of both it is white. Again for the view as it was. In 3D it comes by itself."
)
