"""Correction: a last word of the field, around methods that smooth too much."""

from __future__ import annotations

import torch

from napari_qsm.acquisition import Acquisition, Maps, Provenance, Quantity
from napari_qsm.methods.correction import TOLD, corrected, ratio_parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.methods.wrapping import Inner, wrapper
from napari_qsm.process import Parameters, Work


class Correction(Parameters):
    """Parameters of the correction."""

    correction: float | None = ratio_parameter()


@wrapper(
    key="correction",
    label="corrected",
    summary="Fine structure that a method smoothed away comes back from what it left unexplained.",
    parameters=Correction,
    references=(),
)
def correction(
    inner: Inner, acquisition: Acquisition, parameters: Correction, device: torch.device
) -> Work:
    """Reconstruct, then add ``F^-1 [ tau D / (tau D^2 + 1) F m (f - D chi) ]``.

    See `napari_qsm.methods.correction.corrected`. Whatever else the method gave stays as it was: a
    sigma is that of the map before.
    """
    first = yield from inner.part(acquisition, 0.0, 0.94, "first map")
    with Workspace(acquisition, device, inner.label) as space:
        yield space.step(0.94, TOLD)
        chi = space.place(first[Quantity.CHI])
        kind = type(parameters)
        made = yield from corrected(space, chi, parameters.correction, "correction", kind)
        maps: Maps = yield from space.finish(made)
    notes = (*first.provenance.notes, *maps.provenance.notes)
    return Maps(
        maps.grid,
        {**first.volumes, **maps.volumes},
        Provenance(notes=notes, chosen={**first.provenance.chosen, **maps.provenance.chosen}),
    )
