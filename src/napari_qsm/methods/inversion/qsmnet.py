"""QSMnet: a U-Net trained on synthetic heads inverts the field in one pass."""

import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.direct import Direct, direct
from napari_qsm.methods.learned import weights_parameter
from napari_qsm.methods.registry import Reconstruction, method

FAMILY = "qsmnet"


class QSMnet(Direct):
    """Parameters of QSMnet."""

    weights: str = weights_parameter(FAMILY)


@method(
    key=FAMILY,
    label="QSMnet",
    summary="U-Net trained on synthetic heads, starting from a physical inversion.",
    parameters=QSMnet,
    references=("10.1016/j.neuroimage.2018.06.030", "10.1016/j.neuroimage.2020.116619"),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    odd=False,
)
def qsmnet(acquisition: Acquisition, parameters: QSMnet, device: torch.device) -> Reconstruction:
    """Return ``chi = chi_0 + g(f, chi_0)`` with g a U-Net and chi_0 a physical inversion.

    g learned to make the error of chi on synthetic heads small; being homogeneous, it reads strong
    sources on the scale of weak ones. References: Yoon et al. 2018 for the network and its losses,
    Jung et al. 2020 for the range of its sources.
    """
    return (yield from direct(acquisition, parameters, device, "QSMnet", FAMILY))
