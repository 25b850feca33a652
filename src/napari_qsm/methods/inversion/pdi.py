"""PDI: a network that gives susceptibility and how sure it is of it."""

import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.direct import Direct, direct
from napari_qsm.methods.learned import weights_parameter
from napari_qsm.methods.registry import Reconstruction, method

FAMILY = "pdi"


class PDI(Direct):
    """Parameters of probabilistic dipole inversion."""

    weights: str = weights_parameter(FAMILY)


@method(
    key=FAMILY,
    label="PDI",
    summary="Network with mean and uncertainty, trained by likelihood on synthetic heads.",
    parameters=PDI,
    references=("10.59275/j.melba.2021-bbf2", "10.48550/arXiv.2009.04251"),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    odd=False,
    gives=(Quantity.CHI, Quantity.SIGMA, Quantity.RESIDUAL),
)
def pdi(acquisition: Acquisition, parameters: PDI, device: torch.device) -> Reconstruction:
    """Return mean and standard deviation of ``q(chi | f) = N(mu(f), diag sigma^2(f))``.

    Both come from one encoder and two decoders, trained to minimise ``(mu - chi)^2 / 2 sigma^2 +
    log sigma`` on synthetic heads; sigma is multiplied by the calibration T of the weights. q takes
    voxels for independent, so that errors along the cone, which many voxels share, are
    under-reported in sums and structures. Reference: Zhang et al. 2021.
    """
    return (yield from direct(acquisition, parameters, device, "PDI", FAMILY))
