"""chi-sepnet: a U-Net tells iron and myelin apart, from field, susceptibility and R2' or R2*."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from napari_qsm.acquisition import Acquisition, FloatArray, Quantity
from napari_qsm.methods.axes import in_order
from napari_qsm.methods.learned import runner, weights_parameter
from napari_qsm.methods.registry import Reconstruction, method
from napari_qsm.methods.separation.learned import (
    PREPARED,
    Learned,
    measured_sources,
    opened,
    sources_of,
)
from napari_qsm.methods.separation.shared import GIVES, RATES, USES, SourceSpace
from napari_qsm.networks.separator import Separator
from napari_qsm.networks.weights import Card

FAMILY, FAMILY_R2STAR = "sepnet", "sepnet_r2star"

SEEN = (Quantity.MAGNITUDE, Quantity.FIELD_NOISE, Quantity.CHI)
"""What the inversion before it uses, or replaces it."""

REFERENCES = ("10.1002/hbm.70136",)


class SepNet(Learned):
    """Parameters of chi-sepnet."""

    weights: str = weights_parameter(FAMILY)


class SepNetR2Star(Learned):
    """Parameters of chi-sepnet from R2* alone."""

    weights: str = weights_parameter(FAMILY_R2STAR)


@method(
    key=FAMILY,
    label="chi-sepnet",
    summary="U-Net trained on synthetic heads with iron and myelin, from field and R2'.",
    parameters=SepNet,
    references=REFERENCES,
    uses=(*USES, *SEEN),
    gives=GIVES,
    one_of=RATES,
    odd=False,
)
def sepnet(acquisition: Acquisition, parameters: SepNet, device: torch.device) -> Reconstruction:
    """Return ``(chi+, chi-) = max(x_0 + g(chi, R2'/Dr, f), 0)`` with g a U-Net.

    chi is the map of an inversion, x_0 the closed form of chi and R2'. g learned on synthetic heads
    what both sources look like; being homogeneous, it reads strong lesions on the scale of faint
    ones. Where R2' is not known it is made of R2*, as every separation does, and the notes say how;
    `sepnet_r2star` learned with R2* alone. Reference: Kim et al. 2025.

    Raises
    ------
    InputError
        If neither R2' nor R2* is known, or there are no such weights.
    """
    network, card = opened(parameters.weights, device, FAMILY)

    def separate(measured: Acquisition) -> Reconstruction:
        with SourceSpace(measured, device, "chi-sepnet", parameters) as space:
            return (yield from _separated(measured, space, network, card, parameters))

    return (yield from in_order(acquisition, separate))


@method(
    key=FAMILY_R2STAR,
    label="chi-sepnet R2*",
    summary="U-Net trained to separate from the field and R2* alone, without a measured R2.",
    parameters=SepNetR2Star,
    references=REFERENCES,
    needs=(Quantity.LOCAL_FIELD, Quantity.R2STAR),
    uses=(Quantity.MASK, *SEEN),
    gives=GIVES,
    odd=False,
)
def sepnet_r2star(
    acquisition: Acquisition, parameters: SepNetR2Star, device: torch.device
) -> Reconstruction:
    """Return ``(chi+, chi-) = max(x_0 + g(chi, (R2* - R2)/Dr, f), 0)`` with a nominal R2.

    The same network as `sepnet`, trained where nothing but R2* was measured: it has to learn what
    tissues differ in R2, which no data term can tell it. Reference: Kim et al. 2025.

    Raises
    ------
    InputError
        If there is no R2*, or there are no such weights.
    """
    network, card = opened(parameters.weights, device, FAMILY_R2STAR)
    others = (Quantity.R2, Quantity.R2PRIME)
    known = {q: v for q, v in acquisition.volumes.items() if q not in others}

    def separate(measured: Acquisition) -> Reconstruction:
        with SourceSpace(measured, device, "chi-sepnet R2*", parameters) as space:
            if len(known) < len(acquisition.volumes):
                space.notes.append("A given R2 or R2' was not used: this network knows R2* alone.")
            rate = measured[Quantity.R2STAR] - np.float32(parameters.nominal_r2)
            return (yield from _separated(measured, space, network, card, parameters, rate))

    return (yield from in_order(replace(acquisition, volumes=known), separate))


def _separated(
    acquisition: Acquisition,
    space: SourceSpace,
    network: torch.nn.Module,
    card: Card,
    parameters: Learned,
    rate: FloatArray | None = None,
) -> Reconstruction:
    assert isinstance(network, Separator)
    yield space.step(0.0, "preparing")
    measured = yield from measured_sources(acquisition, space, card, parameters.inversion, rate)
    shape, architecture = measured.shape[2:], network.unet.architecture
    run = runner(space, network, architecture, shape, parameters.precision, outputs=2)
    found = yield from run(measured, PREPARED, "running the network")
    return (yield from space.separated(sources_of(found, acquisition, space)))
