"""chi-separation after iLSQR: where the field says little, the difference is that of iLSQR."""

from collections.abc import Generator

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Maps, Quantity
from napari_qsm.methods.registry import Reconstruction, Step, find, method, parameter
from napari_qsm.methods.separation.joint import (
    Penalties,
    balance_parameter,
    chosen_balance,
    solved,
)
from napari_qsm.methods.separation.shared import (
    GIVES,
    RATES,
    USES,
    Separating,
    SourceSpace,
    after,
    zero_of,
)
from napari_qsm.methods.variation import (
    DATA_PENALTY,
    iterations_parameter,
    tolerance_parameter,
    weights_parameter,
)
from napari_qsm.methods.workspace import Weighting
from napari_qsm.methods.wrapping import Inner

LABEL = "chi-separation, iLSQR"

INVERTED = 0.6
"""About the part of the work that iLSQR is."""

BARRIER = 2.0
"""Penalty of the sign's split over beta."""


class ChiSeparationILSQR(Separating):
    """Parameters of chi-separation after iLSQR."""

    cone: float = parameter(
        0.2,
        "Where the dipole kernel is smaller than this, the map of iLSQR fills up what the field "
        "does not tell.",
        low=0.01,
        high=0.66,
    )
    balance: float | None = balance_parameter()
    weights: Weighting = weights_parameter()
    tolerance: float = tolerance_parameter()
    max_iterations: int = iterations_parameter()


@method(
    key="chi_separation_ilsqr",
    label=LABEL,
    summary="From iLSQR's map: field and R2' explained at once, by signs alone.",
    parameters=ChiSeparationILSQR,
    references=("10.1016/j.neuroimage.2021.118371", "10.1016/j.neuroimage.2014.12.043"),
    uses=(*USES, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    gives=GIVES,
    tuning="cone",
    one_of=RATES,
)
def chi_separation_ilsqr(
    acquisition: Acquisition, parameters: ChiSeparationILSQR, device: torch.device
) -> Reconstruction:
    """Start from iLSQR's map, and let signs, field and R2' decide.

    Over ``chi+ >= 0`` and ``chi- >= 0``, with ``d = chi+ - chi-``, it minimises by ADMM

        ``1/2 |W (D d - f)|^2 + beta/2 |(Dr+ chi+ + Dr- chi- - R2') / Dr|^2
        + 1/2 |C (d - c)|^2``, ``C^2 = max(h^2 - D^2, 0)``.

    c is the map of iLSQR, its zero found by R2', which is also the start; C lets it count where the
    kernel is below the cone's h, so that all frequencies together count ``max(h^2, D^2)``. Nothing
    is smoothed, so all noise of R2' that the signs do not catch is in the maps. The variant with
    sign constraints after Li et al. 2015 is one of Shin et al. 2021; how it is solved is our own.

    Raises
    ------
    InputError
        If neither R2' nor R2* is known.
    """
    inversion = find("ilsqr")
    settings = inversion.with_settings({"weights": parameters.weights})
    inner = Inner(inversion, LABEL, settings, device)
    with SourceSpace(acquisition, device, LABEL, parameters) as space:
        maps = yield from inner.part(acquisition, 0.0, INVERTED, "iLSQR")
        space.notes += [f"{inversion.label}: {note}" for note in maps.provenance.notes]
        chi = space.place(maps[Quantity.CHI])
        del maps
        return (yield from after(_joint(space, chi, parameters), INVERTED))


def _joint(
    space: SourceSpace, chi: Tensor, parameters: ChiSeparationILSQR
) -> Generator[Step, None, Maps]:
    """Separate what iLSQR has made."""
    yield space.step(0.0, "preparing")
    weighting = space.weighting(parameters.weights)
    balance = yield from chosen_balance(parameters.balance, ChiSeparationILSQR, space, weighting)
    chi += zero_of(chi, space.rate(), space.relaxivity, space.region()) * space.region()
    yield space.step(0.0, "preparing")
    filled = (parameters.cone**2 - space.dipole.gram).clamp_(min=0)
    sources = yield from solved(
        space,
        weighting,
        balance,
        Penalties(ratio=balance / DATA_PENALTY, barrier=BARRIER),
        start=torch.stack(space.relaxivity.separated(chi, space.rate())),
        anchor=(chi, filled),
        tolerance=parameters.tolerance,
        max_iterations=parameters.max_iterations,
    )
    return (yield from space.separated(sources))
