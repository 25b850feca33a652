"""How wrong a field is, read off the field itself: what regularisation by itself is chosen from.

On the cone of k-space where the dipole kernel vanishes no susceptibility leaves a field, so all
power there is error: noise, and also anisotropy, remnants of the background and what else no
susceptibility explains. Measured fields hold several times more of that than noise.

One figure for the whole field, off the finer half of the cone, is what a weight of variation needs.
Methods that filter need the error at each ``|k|`` beside the susceptibility's power, which
`napari_qsm.methods.power` reads off shells, with the whole cone and the rim's share.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_qsm.generators import relayed
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.networks.background import in_background
from napari_qsm.physics import fourier
from napari_qsm.process import Step

CONE = 0.03
"""|D| below which a field is error alone."""

LOCAL_CONE = 0.06
"""The same where it is asked in which voxels the error lies: a thicker cone tells places better."""

FINEST = 0.35
"""Part of the Nyquist frequency from which on the cone is looked at. Below it the cone is as narrow
as what the mask smears into it."""

OUTLIERS = 4.0
"""The error is at most so many times the noise by which most neighbours differ: a few voxels that
are wrong by whole turns fill all of k-space, but are no reason to flatten the rest. Measured fields
of brains are at 2."""

FEWEST = 100
"""Frequencies an estimate needs; in smaller volumes the field's differences must do."""

LEAST_TRUST = 1e-3
"""Weight below which a voxel counts like one of this weight."""


@dataclass(frozen=True)
class FieldError:
    """Error of a field beside its size.

    Parameters
    ----------
    error : float
        sigma, the standard deviation of what no susceptibility explains, in ppm, with each voxel
        counting as its data weight says.
    spread : float
        s, the root mean square of the field in the mask, in ppm.
    """

    error: float
    spread: float

    @property
    def relative(self) -> float:
        """``rho = sigma / s``, 0 for a field without error or without anything."""
        return self.error / self.spread if self.spread else 0.0

    @property
    def weight(self) -> float:
        """``sigma^2 / s`` in ppm, which the weight of a variation is a share (mm) of.

        The most probable map under noise sigma and exponentially distributed gradients of mean g
        has ``lambda = sigma^2 / g``, and gradients grow with the field. On digital heads and on
        measured fields one share is near the best (docs/benchmarks.md).
        """
        return self.error * self.relative


def field_error(space: Workspace, weighting: Weighting = "mask") -> FieldError:
    """Measure the error of the field of a workspace.

    ``sigma^2 = mean |F f|^2 / n`` over the frequencies with ``|D| <`` `CONE` beyond `FINEST`, n the
    number of voxels in the mask; not more than `OUTLIERS` allows. Weights W^2, with a mean of 1,
    leave ``mean W^2 e^2`` of an error e. Two things are known of that, each too high if anything,
    and the smaller one counts: W^2 over the part e of the field that lies about the cone, which is
    not quite where it came from; and ``c^2 + n^2 / mean(1 / W^2)``, n what is known of the noise
    and c the rest, as if that were the same everywhere.

    Parameters
    ----------
    space : Workspace
        With a field.
    weighting : str
        How much each voxel counts.
    """
    error, spread = space.fact("field error", lambda: _measure(space))
    if weighting in ("noise", "magnitude"):
        error *= space.fact(f"error under {weighting}", lambda: _left(space, weighting, error))
    return FieldError(error, spread)


def measured_error(
    space: Workspace, weighting: Weighting = "mask"
) -> Generator[Step, None, FieldError]:
    """Measure the error of a field beside the generator: a large volume takes seconds."""
    told = "measuring the field's error"
    yield space.step(0.0, told)
    running = in_background(lambda: field_error(space, weighting))
    return (yield from relayed(running, lambda _: space.step(0.0, told)))


def carry_over(space: Workspace, other: Workspace, factor: float = 1.0) -> None:
    """Let a workspace with an interpolated field know the error that the measured one has.

    Interpolation adds voxels and no scales: differences of neighbours and the finest half of the
    cone, which errors are read off, are then nearly empty. (Slices of 2 mm made cubes of 0.9 mm had
    2.1 ppb where 4.7 were measured.) What is read off the interpolated field counts if it is more.

    Parameters
    ----------
    space, other : Workspace
        With the field as measured, and with the interpolated one.
    factor : float
        What averaging has left of the error where voxels became larger.
    """
    known, found = field_error(space), field_error(other)
    noise = max(factor * space.noise(), other.noise())
    other.learn("field error", (max(factor * known.error, found.error), found.spread))
    other.learn("noise", noise)


def _left(space: Workspace, weighting: Weighting, error: float) -> float:
    """Return the part of an error that weights leave, at most 1."""
    region = space.region()
    weights = space.weights(weighting)[region].clamp_(min=LEAST_TRUST)
    noise, discounted = _discounted(space, weighting, weights)
    share = min(1.0, noise / error**2) if error else 0.0
    known = 1 - share * (1 - discounted)
    transform = fourier.spectrum(space.field()).mul_(_cone(space, LOCAL_CONE) > 0)
    power = fourier.volume(transform, space.shape)[region].square_()
    total = float(power.sum())
    seen = float((weights * power).sum()) / total if total else 1.0
    return math.sqrt(min(known, seen, 1.0))


def _discounted(space: Workspace, weighting: Weighting, weights: Tensor) -> tuple[float, float]:
    """Return n^2 in ppm^2, and the part of it that weights leave, ``1 / mean(1 / W^2)``.

    The variance of the noise is ``v / W^2``, with v what the map of the noise says. Without one,
    the noise that most neighbours differ by is the noise at the median weight.
    """
    variance = weights.reciprocal()
    known = space.deviation()[space.region()] if weighting == "noise" else space.noise()
    unit = float(torch.median(known**2 / variance))
    mean = float(variance.mean())
    return unit * mean, 1 / mean


def _measure(space: Workspace) -> tuple[float, float]:
    """Return sigma, every voxel counting the same, and s."""
    field = space.field()
    count = float(torch.count_nonzero(space.region()))
    spread = float(field.square().sum() / count) ** 0.5 if count else 0.0
    cone = _cone(space)
    if int(cone.count_nonzero()) < FEWEST:
        return space.noise(), spread
    power = torch.view_as_real(fourier.spectrum(field)).square_().sum(-1)
    error = float((power * cone).sum() / cone.sum() / count) ** 0.5
    return min(error, OUTLIERS * space.noise()), spread


def _cone(space: Workspace, width: float = CONE) -> Tensor:
    """How often each frequency of the half grid counts: 0 off the cone, else its multiplicity."""
    frequencies = fourier.frequencies(space.shape, space.voxel_size, device=space.device)
    parts = [(2 * k * size).square() for k, size in zip(frequencies, space.voxel_size, strict=True)]
    cone = (parts[0] + parts[1] + parts[2] > FINEST**2) & (space.dipole.spectrum.abs() < width)
    return cone * fourier.multiplicity(space.shape, space.device)
