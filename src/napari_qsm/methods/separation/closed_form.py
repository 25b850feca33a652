"""Closed form: a susceptibility from any inversion, separated by R2' voxel by voxel."""

from __future__ import annotations

import numpy as np
import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.registry import DEFAULT_METHOD, Reconstruction, method, parameter
from napari_qsm.methods.separation.shared import (
    GIVES,
    RATES,
    USES,
    Separating,
    Sources,
    SourceSpace,
    zero_of,
)
from napari_qsm.methods.separation.susceptibility import inversions, susceptibility

LABEL = "Closed form"


class ClosedForm(Separating):
    """Parameters of the closed form."""

    inversion: str = parameter(
        DEFAULT_METHOD,
        "Method that makes the susceptibility, at its defaults; or the given one as it is.",
        choices=inversions,
    )
    find_zero: bool = parameter(
        True,
        "Shift the susceptibility, whose zero no field can tell, so that as little of it as "
        "possible exceeds what R2' allows.",
    )


@method(
    key="closed_form",
    label=LABEL,
    summary="Any inversion's susceptibility, separated by R2' voxel by voxel.",
    parameters=ClosedForm,
    references=("10.1016/j.neuroimage.2021.118371",),
    uses=(*USES, Quantity.MAGNITUDE, Quantity.FIELD_NOISE, Quantity.CHI),
    gives=GIVES,
    one_of=RATES,
)
def closed_form(
    acquisition: Acquisition, parameters: ClosedForm, device: torch.device
) -> Reconstruction:
    """Solve ``chi = chi+ - chi-`` and ``R2' = Dr+ chi+ + Dr- chi-`` in every voxel.

    ``chi+ = (R2' + Dr- chi) / (Dr+ + Dr-)`` and ``chi- = (R2' - Dr+ chi) / (Dr+ + Dr-)``, neither
    below zero. It is exact, so every error of chi and of R2' goes into the maps unchanged. The
    model is that of Shin et al. 2021.

    Raises
    ------
    InputError
        If neither R2' nor R2* is known, or there is no such inversion or no given susceptibility.
    """
    chi, told = yield from susceptibility(
        acquisition, parameters.inversion, device, label=LABEL, share=0.9
    )
    with SourceSpace(acquisition, device, LABEL, parameters) as space:
        space.notes += told
        estimate, rate = space.place(chi), space.rate()
        yield space.step(0.9, "separating", lambda: estimate)
        if parameters.find_zero:
            shift = zero_of(estimate, rate, space.relaxivity, space.region())
            estimate = estimate + shift * space.region()
            space.notes.append(
                f"{1e3 * shift:+.2f} ppb were added to the susceptibility, so that as little as "
                "possible of it exceeds what R2' allows."
            )
        sources = Sources(*space.relaxivity.separated(estimate, rate))
        beyond = space.restore((estimate - sources.difference).abs() > 1e-6)
        part = np.count_nonzero(beyond) / np.count_nonzero(acquisition.mask)
        space.notes.append(
            f"In {part:.0%} of the mask susceptibility exceeds what R2' allows, so one kind is all "
            "there is."
        )
        return (yield from space.separated(sources))
