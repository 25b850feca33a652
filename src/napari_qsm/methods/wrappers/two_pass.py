"""Two passes: what strong sources do to the map is taken out before the rest is reconstructed."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, Maps, Provenance, Quantity
from napari_qsm.methods.workspace import Workspace
from napari_qsm.methods.wrapping import Inner, wrapper
from napari_qsm.preparation.strength import total_signal
from napari_qsm.process import Parameters, Step, Work, parameter

EDGE = 2 / 3
"""A strong source reaches out to this part of the threshold. Half, and one voxel more all round,
both leave more error around the haemorrhage of the digital head."""

MISFIT = 10.0
"""Robust deviations of the residual beyond which the field of a strong source is noise. Measured on
the digital head at 2 mm: 3 to 10 all help where the field's weight is not known, 10 most."""

DARK = 0.1
"""Signal over its median in the mask below which a voxel is dark; its inverse for the noise."""


class TwoPass(Parameters):
    """Parameters of the two passes."""

    strong: float = parameter(
        0.3,
        "From this susceptibility on a source is strong: haemorrhage, calcification, large veins. "
        "Its field is taken out before the rest is reconstructed.",
        low=0.05,
        high=5.0,
        unit="ppm",
        log=True,
    )


@wrapper(
    key="two_pass",
    label="two passes",
    summary="Strong sources first, then the rest: fewer streaks around a haemorrhage.",
    parameters=TwoPass,
    references=("10.1002/nbm.3383", "10.1002/mrm.29048"),
    uses=(Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
)
def two_pass(
    inner: Inner, acquisition: Acquisition, parameters: TwoPass, device: torch.device
) -> Work:
    """Reconstruct, keep the strong sources, and reconstruct what their field leaves.

    ``chi = S chi1 + R(f - D S chi1)`` with R the method, ``chi1 = R(f)``, and S one in the voxels
    of `strong_sources`, zero elsewhere. For a linear method that adds ``(1 - R D) S chi1`` to the
    first map: what R makes of the source beyond the source itself, its streaks, goes, and what R
    does not see of it in the cone of small D comes from where the source lies.

    The second pass does not see the field of `untrustworthy` voxels, is warm where the method takes
    a susceptibility, and uses what the first one chose. Without a strong source the first map
    stands. References: Wei et al. 2015 for strong sources first, Stewart et al. 2022 for a second
    pass without unreliable voxels.
    """
    first = yield from inner.part(acquisition, 0.0, 0.5, "first pass")
    yield inner.step(0.5, "separating strong sources")
    strong = yield from _separated(inner, first, acquisition.mask, parameters.strong)
    if not strong.any():
        told = f"No source reaches {parameters.strong:g} ppm, so one pass was enough."
        return _noted(first, (*first.provenance.notes, told), first)
    chi1 = first[Quantity.CHI]
    kept = np.where(strong, chi1, np.float32(0))
    field = yield from _field_of(kept, inner, acquisition, device)
    untrusted = strong & untrustworthy(first, acquisition)
    rest = _without(acquisition, field, untrusted)
    if Quantity.CHI in inner.method.uses:
        rest = rest.with_volumes({Quantity.CHI: chi1 - kept})

    def whole(chi: FloatArray) -> FloatArray:
        return _referenced(kept + chi, acquisition.mask)

    second = yield from inner.repeating(first).part(rest, 0.55, 1.0, "second pass", whole)
    yield inner.step(1.0, "adding both", lambda: whole(second[Quantity.CHI]))
    # The second pass may have been given zero where the field was not to be trusted.
    short = rest[Quantity.LOCAL_FIELD] + field - acquisition[Quantity.LOCAL_FIELD]
    made = {
        **second.volumes,
        **first.volumes,
        Quantity.CHI: whole(second[Quantity.CHI]),
        Quantity.RESIDUAL: second[Quantity.RESIDUAL] + np.where(acquisition.mask, short, 0),
    }
    notes = (
        *(f"First pass: {note}" for note in first.provenance.notes),
        f"Strong sources, from {parameters.strong:g} ppm on, were taken out after the first pass: "
        f"{np.count_nonzero(strong)} voxels; in {np.count_nonzero(untrusted)} of them the field "
        "was not trusted.",
        *(f"Second pass: {note}" for note in second.provenance.notes),
        "The sum of both passes is relative to its mean in the mask.",
    )
    return _noted(Maps(acquisition.grid, made), notes, first)


def _noted(maps: Maps, notes: tuple[str, ...], first: Maps) -> Maps:
    return Maps(maps.grid, maps.volumes, Provenance(notes=notes, chosen=first.provenance.chosen))


def _separated(
    inner: Inner, first: Maps, mask: NDArray[np.bool_], threshold: float
) -> Generator[Step, None, NDArray[np.bool_]]:
    strength = np.abs(first[Quantity.CHI])
    yield inner.step(0.51, "separating strong sources")
    return strong_sources(strength, mask, threshold)


def strong_sources(
    chi: NDArray[Any], mask: NDArray[np.bool_], threshold: float
) -> NDArray[np.bool_]:
    """Return where ``|chi|`` reaches a threshold, and what hangs together with that.

    From the voxels beyond the threshold a source grows over faces as long as ``|chi|`` stays above
    `EDGE` of it, so that a blurred border belongs to it and noise elsewhere does not.

    Parameters
    ----------
    chi : (X, Y, Z) array
        In ppm.
    mask : (X, Y, Z) array of bool
        Voxels that count.
    threshold : float
        In ppm.
    """
    padded = np.zeros(np.add(chi.shape, 2), np.float32)
    np.copyto(padded[1:-1, 1:-1, 1:-1], chi, where=mask)
    strength = np.abs(padded, out=padded).ravel()
    open_ = strength > EDGE * threshold
    sources = strength > threshold
    strides = np.array([s // 4 * side for s in padded.strides for side in (-1, 1)])
    front = np.flatnonzero(sources)
    while front.size:  # a shell of voxels at a time: few, so this is fast
        near = (front[:, None] + strides).ravel()
        front = np.unique(near[open_[near] & ~sources[near]])
        sources[front] = True
    inside: NDArray[np.bool_] = sources.reshape(padded.shape)[1:-1, 1:-1, 1:-1]
    return inside


def untrustworthy(first: Maps, acquisition: Acquisition) -> NDArray[np.bool_]:
    """Return where the field is noise: the map misses it by far and, if known, the signal is low.

    The residual is compared with `MISFIT` times its robust deviation in the mask, the signal with
    `DARK` times its median there. Signal alone would drop the field of good dark tissue, residual
    alone that of all voxels a weighted method does not look at.
    """
    mask, residual = acquisition.mask, np.abs(first[Quantity.RESIDUAL])
    deviation = 1.4826 * _median(residual, mask)
    lost: NDArray[np.bool_] = (residual > MISFIT * deviation) & mask
    if Quantity.FIELD_NOISE in acquisition:
        noise = acquisition[Quantity.FIELD_NOISE]
        lost &= noise > _median(noise, mask) / DARK
    elif Quantity.MAGNITUDE in acquisition:
        signal = total_signal(acquisition[Quantity.MAGNITUDE])
        lost &= signal < DARK * _median(signal, mask)
    return lost


def _median(values: FloatArray, mask: NDArray[np.bool_]) -> float:
    inside = np.flatnonzero(mask)
    return float(np.median(values.ravel()[inside[:: max(1, inside.size // 100_000)]]))


def _field_of(
    chi: FloatArray, inner: Inner, acquisition: Acquisition, device: torch.device
) -> Generator[Step, None, FloatArray]:
    with Workspace(acquisition, device, inner.label) as space:
        yield inner.step(0.52, "computing the field of strong sources")
        made = space.dipole(space.place(chi))
        yield inner.step(0.54, "computing the field of strong sources")
        return space.restore(made)


def _without(
    acquisition: Acquisition, field: FloatArray, untrusted: NDArray[np.bool_]
) -> Acquisition:
    """Return what is measured without a field, and with nothing known in `untrusted` voxels.

    There the strong sources are taken to explain all of the field, for methods without weights; for
    those with weights magnitude and noise are zero, which stands for no weight.
    """
    left = np.where(untrusted, np.float32(0), acquisition[Quantity.LOCAL_FIELD] - field)
    volumes: dict[Quantity, FloatArray] = {Quantity.LOCAL_FIELD: left}
    for quantity in (Quantity.MAGNITUDE, Quantity.FIELD_NOISE):
        if quantity in acquisition:
            known = acquisition[quantity]
            where = untrusted if known.ndim == 3 else untrusted[..., None]
            volumes[quantity] = np.where(where, np.float32(0), known)
    return acquisition.with_volumes(volumes)


def _referenced(chi: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    mean = np.float32(chi.sum(dtype=np.float64, where=mask) / np.count_nonzero(mask))
    referenced: FloatArray = np.where(mask, chi - mean, np.float32(0))
    return referenced
