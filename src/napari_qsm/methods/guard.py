"""Whether a network knows fields like this one, and whether its map and its sigma fit the field.

Three questions, each answered in words: does the input lie where training data lay, does the map
explain the field to within its error, and is sigma large enough for what the map leaves
unexplained. None of them sees an error along the cone, which makes no field.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_qsm.acquisition import FloatArray, Quantity
from napari_qsm.methods.field_error import field_error
from napari_qsm.methods.learned import Seen, working
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.inverter import SCALE
from napari_qsm.networks.weights import Card
from napari_qsm.preparation.noise import field_noise
from napari_qsm.process import Step

SLACK = 1.25
"""Factor by which a feature may leave the range of training before it is told."""

UNEXPLAINED = 2.0
"""Residual over the field's error from which on the map does not explain the field."""

TOO_SURE = 1.5
"""Residual over what sigma and the field's error predict, from which on sigma is too small."""

LOCAL = 3.0
"""The same around one voxel, from which on it counts as unreliable."""

KERNEL_POWER = 4 / 45
"""Mean of D^2 over all directions: what independent errors of a map become in the field."""

SAMPLE = 1_000_000
"""Voxels that order statistics are taken over."""

_STRONG = "adapt the network to this field (FINE, PDI-VI) and compare with TV"
_ROUGH = "look for wraps and noise at the edge of the mask, and compare with TV"

FEATURES = {
    "spread": ("weaker", "stronger", "RMS {:.3g} ppm", "check the field's unit"),
    "peak": ("poorer in strong values", "richer in strong values", "{:.3g} times its RMS", _STRONG),
    "kurtosis": ("more even", "more concentrated in few places", "kurtosis {:.3g}", _STRONG),
    "roughness": ("smoother", "rougher", "roughness {:.3g}", _ROUGH),
    "noise": ("less noisy", "noisier", "noise {:.3g} of its RMS", _ROUGH),
    "contrast": (
        *("explained by less susceptibility", "explained by more susceptibility"),
        *("{:.3g} times its RMS", "check the background removal"),
    ),
    "voxels": ("smaller", "larger", "{:.3g} voxels in the mask", "check the mask"),
}
"""In words: what a field is below and above the range of a feature, its value, and what to do."""

_SAYINGS = (
    *("This field lies", "The card of these weights", "The map leaves"),
    *("That is more than an error", "Sigma is too small"),
)
_ALARMS = ("This field lies outside", *_SAYINGS[3:])
_MARKED = "are marked as unreliable"


def said(notes: Iterable[str]) -> dict[str, bool]:
    """Return what the guard says among the notes of a result, and whether it is a warning."""
    return {
        note: note.startswith(_ALARMS) or _MARKED in note
        for note in notes
        if note.startswith(_SAYINGS) or _MARKED in note
    }


def features(
    field: NDArray[Any], mask: NDArray[np.bool_], start: NDArray[Any] | None = None
) -> dict[str, float]:
    """Describe an input in a few numbers that need no voxel size.

    Parameters
    ----------
    field, mask : (X, Y, Z) array
        In ppm, and where it counts.
    start : (X, Y, Z) array, optional
        The susceptibility the network starts from.

    Returns
    -------
    dict of str to float
        ``spread`` s is the root mean square of the field in ppm; ``peak`` its 99.9th percentile,
        ``roughness`` the difference of neighbours, ``noise`` that of the finest scale and
        ``contrast`` the susceptibility, all relative to s; ``kurtosis`` the fourth moment over
        s^4, and ``voxels`` the size of the mask.
    """
    values = np.asarray(field, dtype=np.float32)[mask]
    count = max(1, values.size)
    spread = math.sqrt(float(np.square(values).sum(dtype=np.float64)) / count)
    found = {"spread": spread, "voxels": float(values.size)}
    if not spread:
        return found
    some = np.abs(values[:: max(1, values.size // SAMPLE)])
    found["peak"] = float(np.percentile(some, 99.9)) / spread
    found["kurtosis"] = float(np.square(np.square(values / spread)).mean(dtype=np.float64))
    found["roughness"] = _roughness(np.asarray(field, dtype=np.float32), mask) / spread
    found["noise"] = field_noise(np.asarray(field, dtype=np.float32), mask) / spread
    if start is not None:
        power = np.square(np.asarray(start, dtype=np.float32)[mask]).sum(dtype=np.float64)
        found["contrast"] = math.sqrt(float(power) / count) / spread
    return found


def _roughness(field: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Root mean square of the differences of neighbours in a mask."""
    total, pairs = 0.0, 0
    for axis in range(3):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        both = mask[tuple(low)] & mask[tuple(high)]
        step = (field[tuple(high)] - field[tuple(low)])[both]
        total += float(np.square(step).sum(dtype=np.float64))
        pairs += int(both.sum())
    return math.sqrt(total / pairs) if pairs else 0.0


def statistics_of(
    cases: Iterable[NDArray[Any]], start: int | None = None
) -> dict[str, list[float]]:
    """Return the 1st and 99th percentile of every feature over training cases.

    Parameters
    ----------
    cases : iterable of (C + 2, X, Y, Z) array
        As `napari_qsm.training.cases.Pool` keeps them: the field first, the mask last.
    start : int, optional
        Channel of the susceptibility the network starts from.
    """
    found: dict[str, list[float]] = {}
    for case in cases:
        begun = None if start is None else case[start]
        for name, value in features(case[0], case[-1] > 0.5, begun).items():
            found.setdefault(name, []).append(value)
    ends = {name: np.percentile(values, (1, 99)) for name, values in found.items()}
    return {name: [float(f"{end:.4g}") for end in pair] for name, pair in ends.items()}


def strange(found: dict[str, float], ranges: dict[str, list[float]]) -> list[str]:
    """Say in what way features lie outside of the ranges of training, and what to do."""
    told = []
    for name, value in found.items():
        if name not in ranges or name not in FEATURES:
            continue
        low, high = ranges[name]
        below, above, figure, advice = FEATURES[name]
        if low / SLACK <= value <= high * SLACK:
            continue
        said = figure.format(value)
        told.append(
            f"{below if value < low else above} ({said}; in training {low:.3g} to {high:.3g}: "
            f"{advice})"
        )
    return told


def watch(space: Workspace, view: Seen, chi: Tensor, sigma: Tensor | None, card: Card) -> None:
    """Tell in the notes what the guard found, and mark voxels where the map cannot be right.

    Parameters
    ----------
    space : Workspace
        With a field.
    view : Seen
        What the network saw.
    chi : Tensor
        Its map in ppm, padded.
    sigma : Tensor, optional
        Its calibrated standard deviation in ppm, padded.
    card : Card
        Of its weights.
    """
    mask = view.mask[0, 0].cpu().numpy() > 0.5
    inputs = view.inputs[0].cpu().numpy()
    start = None if card.design.channels[-1] in SCALE else inputs[-1]
    odd = strange(features(inputs[0], mask, start), card.statistics)
    space.notes.append(_about_input(odd, card))
    told, residual, expected = _about_residual(space, chi, sigma)
    space.notes += told
    if odd or len(told) > 1:
        _mark(space, residual, expected)


def watched(
    space: Workspace, view: Seen, chi: Tensor, sigma: Tensor | None, card: Card
) -> Generator[Step, None, None]:
    """Watch a finished map beside the generator; see `watch`."""
    yield from working(
        space,
        lambda: watch(space, view, chi, sigma, card),
        fraction=0.96,
        message="looking whether the network knows such fields",
        preview=lambda: chi,
    )


def _about_input(odd: list[str], card: Card) -> str:
    if not card.statistics:
        return (
            "The card of these weights does not say what fields they learned from, so whether this "
            "one is of that kind was not checked."
        )
    if odd:
        return f"This field lies outside what the network learned from: it is {'; '.join(odd)}."
    return "This field lies inside what the network learned from."


def _about_residual(
    space: Workspace, chi: Tensor, sigma: Tensor | None
) -> tuple[list[str], Tensor, Tensor]:
    """Return sentences (more than one where something is wrong), residual, expected variance."""
    region = space.region()
    residual = (space.dipole(chi) - space.field()) * region
    count = max(1, int(region.count_nonzero()))
    size = math.sqrt(float(residual.square().sum()) / count)
    error = field_error(space).error
    expected = torch.full_like(residual, error**2)
    if sigma is not None:
        expected = expected + KERNEL_POWER * sigma.square()
    told = [
        f"The map leaves {1e3 * size:.3g} ppb of the field unexplained; the field's own error is "
        f"about {1e3 * error:.3g} ppb."
    ]
    if size > UNEXPLAINED * error:
        told.append(
            f"That is more than an error of the field, so the map misses something: {_STRONG}."
        )
    predicted = math.sqrt(float((expected * region).sum()) / count)
    if sigma is not None and size > TOO_SURE * predicted:
        told.append(
            f"Sigma is too small for this field: with it the field would be explained to "
            f"{1e3 * predicted:.3g} ppb."
        )
    return told, residual, expected


def _mark(space: Workspace, residual: Tensor, expected: Tensor) -> None:
    """Mark voxels around which the residual is `LOCAL` times what is expected there."""
    region = space.region().float()
    local, usual = (_around(values) for values in (residual.square(), expected * region))
    marked = (local > LOCAL**2 * usual) & (region > 0)
    count = int(marked.count_nonzero())
    if count:
        shown: FloatArray = space.restore(marked.float())
        space.extras[Quantity.UNRELIABLE] = shown
        space.notes.append(
            f"{count} voxels ({100 * count / float(region.sum()):.2g} % of the mask) {_MARKED}: "
            f"around them the residual is more than {LOCAL:g} times what is expected."
        )


def _around(values: Tensor) -> Tensor:
    """Mean over the 5^3 voxels around each, with zeros beyond the volume."""
    padded = functional.pad(values[None, None], (2,) * 6)
    mean: Tensor = functional.avg_pool3d(padded, 5, 1)[0, 0]
    return mean
