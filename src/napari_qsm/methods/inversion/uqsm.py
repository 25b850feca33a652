"""uQSM: a U-Net that learned to invert fields without ever seeing a susceptibility."""

import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.direct import Direct, direct
from napari_qsm.methods.learned import weights_parameter
from napari_qsm.methods.registry import Reconstruction, method

FAMILY = "uqsm"


class UQSM(Direct):
    """Parameters of uQSM."""

    weights: str = weights_parameter(FAMILY)


@method(
    key=FAMILY,
    label="uQSM",
    summary="U-Net trained without labels, by the field that its maps make.",
    parameters=UQSM,
    references=("10.1007/978-3-030-61598-7",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    odd=False,
)
def uqsm(acquisition: Acquisition, parameters: UQSM, device: torch.device) -> Reconstruction:
    """Return ``chi = g(f)``, g a U-Net with one convolution per level and nearest upsampling.

    g learned to make ``|W (exp(i s D g(f)) - exp(i s f))|^2`` and the variation of its maps small
    on fields of whole heads, and that maps add up as fields do: physics alone, and no label.
    Reference: Liu & Koch 2020, Machine Learning for Medical Image Reconstruction, 48-59.
    """
    return (yield from direct(acquisition, parameters, device, "uQSM", FAMILY))
