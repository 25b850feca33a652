"""iLSQR: least squares, and then its streaks estimated where edges allow none, and subtracted."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.inversion.lsqr import damping, solved, stepping
from napari_qsm.methods.inversion.tkd import truncated_inverse
from napari_qsm.methods.power import CAUTION
from napari_qsm.methods.registry import Parameters, Reconstruction, Step, method, parameter
from napari_qsm.methods.variation import weights_parameter
from napari_qsm.methods.workspace import Weighting, Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.gradient import Gradient
from napari_qsm.physics.laplacian import laplacian_symbol
from napari_qsm.physics.spherical_mean import SphericalMean
from napari_qsm.solvers.conjugate_gradient import conjugate_gradient
from napari_qsm.solvers.fourier import scale_spectrum
from napari_qsm.solvers.iteration import Pieces
from napari_qsm.solvers.lsqr import WeightedConvolution
from napari_qsm.solvers.restricted import filtered

FIELD_PERCENTILES = (60.0, 99.9)
"""Of the Laplacian of the field: full weight below the first, none above the second."""

EDGE_PERCENTILES = (50.0, 70.0)
"""Of the gradient of the fast estimate: the same."""

FAST_EXPONENT = 0.001
FAST_PERCENTILES = (1.0, 30.0)
"""The fast estimate is trusted by ``|D|^0.001``, rescaled between these percentiles of it."""

FAST_RADIUS = 3.0
"""Of the ball in mm whose mean stands in for what the fast estimate is not trusted with."""

FAST_THRESHOLD = 1 / 8
"""Of the division that the fast estimate is scaled to."""


STREAK_TOLERANCE, STREAK_ITERATIONS = 0.05, 20
"""When the streaks are known well enough; going on fits what is not streaks (measured)."""


class ILSQR(Parameters):
    """Parameters of iLSQR."""

    regularization: float | None = parameter(
        None,
        "Damping of the first least squares, relative to the ratio of noise to susceptibility in "
        "the field's spectrum (lambda): low values leave noise, high ones blur.",
        low=1e-5,
        high=10.0,
        log=True,
        alias="lambda",
        typical=CAUTION,
    )
    cone: float = parameter(
        0.1, "Streaks are looked for where the dipole kernel is smaller than this.",
        low=0.01, high=0.3,
    )  # fmt: skip
    edges: Literal["solution", "fast"] = parameter(
        "solution",
        "Where streaks may not be told from edges: where the first solution has its own, or the "
        "fast estimate of the original, which suits a solution that is not damped.",
    )
    discount_bends: bool = parameter(
        False, "Let the field count less where it bends most, as the original does."
    )
    weights: Weighting = weights_parameter()
    tolerance: float = parameter(
        5e-3,
        "Stop the first least squares when its gradient has fallen to this part of the first.",
        low=1e-5,
        high=0.5,
        log=True,
    )
    max_iterations: int = parameter(
        60, "Stop the first least squares after this many iterations.", low=1, high=500
    )


def falling(values: Tensor, region: Tensor, percentiles: tuple[float, float]) -> Tensor:
    """Weights that fall from 1 to 0 between two percentiles of a magnitude in a region.

    Percentiles of the magnitude: those of signed values, which public programs take, give full
    weight to the strongest negative ones.
    """
    size = values.abs()
    inside = size[region].cpu().numpy()
    low, high = np.percentile(inside, percentiles) if inside.size else (0.0, 0.0)
    if not high > low:
        return (size <= low).to(values)
    weights: Tensor = size.sub_(float(low)).div_(float(low - high)).add_(1).clamp_(0, 1)
    return weights


def fast_estimate(space: Workspace, field: Tensor, region: Tensor) -> Pieces:
    """Make an estimate with few streaks, whose edges are where susceptibility has edges.

    The field's spectrum with the sign of the kernel; near the cone, where that says little, its
    mean over a ball. Scaled to the truncated division.
    """
    symbol = space.dipole.spectrum
    trust = symbol.abs().pow_(FAST_EXPONENT)
    low, high = np.percentile(trust[symbol != 0].cpu().numpy(), FAST_PERCENTILES)
    trust.sub_(float(low)).div_(max(float(high - low), 1e-12)).clamp_(0, 1)
    yield
    estimate = (yield from filtered(field, symbol.sign())).mul_(region)
    yield
    smooth = _smooth(space)
    mixed = trust if smooth is None else trust + (1 - trust) * smooth
    for _ in range(2):
        estimate = (yield from filtered(estimate, mixed)).mul_(region)
        yield
    division = yield from filtered(field, truncated_inverse(symbol, FAST_THRESHOLD, "clamped"))
    power = float(estimate.square().sum())
    return estimate.mul_(float((estimate * division).sum()) / power if power else 1.0)


def _smooth(space: Workspace) -> Tensor | None:
    """Symbol of the mean over a ball; None if none fits into the volume."""
    radius = max(FAST_RADIUS, *space.voxel_size)
    try:
        mean = SphericalMean(space.shape, space.voxel_size, radius, device=space.device)
    except ValueError:
        return None
    return 1 - mean.deviation


class Streaks:
    """``min_q sum_a |W_a d_a (chi - q)|^2`` over the q whose spectrum lies in the cone.

    With the unknown p of ``q = C p``, where C cuts to the cone and divides by the length of the
    gradient's symbol, the normal operator is ``C G.H W G C`` and of size 1 where W is.

    Parameters
    ----------
    space : Workspace
        Where to work.
    weights : (3, X, Y, Z) tensor
        ``W_a^2``.
    cone : float
        |D| below which a frequency is in the cone.
    """

    def __init__(self, space: Workspace, weights: Tensor, cone: float) -> None:
        self._gradient, self._weights = Gradient(space.voxel_size), weights
        prior = self._gradient.spectrum(space.shape, device=space.device)
        prior[0, 0, 0] = 1
        self._filter = (space.dipole.spectrum.abs() < cone) / prior.sqrt()
        self._filter[0, 0, 0] = 0

    def _curvature(self, volume: Tensor) -> Tensor:
        """``G.H W^2 G`` of a volume."""
        total, everything = torch.zeros_like(volume), slice(0, volume.shape[0])
        scratch = torch.empty_like(volume)
        for axis, weights in zip((-3, -2, -1), self._weights, strict=True):
            self._gradient.difference(volume, axis, everything, scratch).mul_(weights)
            self._gradient.add_adjoint(scratch, axis, everything, total)
        return total

    def normal(self, unknown: Tensor) -> Pieces:
        """Apply the normal operator."""
        pattern = yield from filtered(unknown, self._filter)
        yield
        return (yield from filtered(self._curvature(pattern), self._filter))

    def right(self, estimate: Tensor) -> Pieces:
        """Right-hand side for an estimate with streaks."""
        return (yield from filtered(self._curvature(estimate), self._filter))

    def pattern(self, unknown: Tensor) -> Tensor:
        """``q = C p``."""
        transform = scale_spectrum(fourier.spectrum(unknown), self._filter)
        return fourier.volume(transform, unknown.shape)


def _straightness(space: Workspace, field: Tensor, region: Tensor) -> Generator[Step, None, Tensor]:
    """Weights that fall where the field bends most."""
    bend = laplacian_symbol(space.shape, space.voxel_size, device=space.device)
    laplacian = yield from stepping(filtered(field, bend), space)
    return falling(laplacian, region, FIELD_PERCENTILES)


def without_streaks(
    space: Workspace, estimate: Tensor, edges: Tensor, cone: float
) -> Generator[Step, None, Tensor]:
    """Subtract what in the cone makes gradients where `edges` has none."""
    region = space.region()
    slopes = Gradient(space.voxel_size)(edges)
    for axis, slope in enumerate(slopes):
        both = region & region.roll(-1, axis)
        slope.copy_(falling(slope, both, EDGE_PERCENTILES).mul_(both).square_())
        yield space.step(0.0, "finding edges", lambda: estimate)
    problem = Streaks(space, slopes, cone)
    right = yield from stepping(problem.right(estimate), space)
    return (
        yield from space.follow(
            conjugate_gradient(problem.normal, right),
            tolerance=STREAK_TOLERANCE,
            max_iterations=STREAK_ITERATIONS,
            view=lambda unknown: estimate - problem.pattern(unknown),
        )
    )


@method(
    key="ilsqr",
    label="iLSQR",
    summary="Least squares, then its streaks estimated off the edges and subtracted.",
    parameters=ILSQR,
    references=("10.1016/j.neuroimage.2014.12.043",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    tuning="regularization",
)
def ilsqr(acquisition: Acquisition, parameters: ILSQR, device: torch.device) -> Reconstruction:
    """Subtract from a least squares solution the streaks that its edges do not explain.

    1. ``chi0`` minimises ``|W (D chi - f)|^2`` in the mask, damped as `lsqr` is by the noise in the
    field's spectrum where the original stops early and lets W fall with the field's Laplacian.
    2. Edges are those of ``chi0``, which has few streaks then, or of the original's fast estimate.
    3. q with a spectrum in the cone minimises ``sum_a |W_a d_a (chi0 - q)|^2``,
    W_a small at edges. 4. The map is ``chi0 - q``. It takes no start: the cone would keep its
    streaks. Reference: Li et al. 2015.
    """
    with Workspace(acquisition, device, "iLSQR") as space:
        yield space.step(0.0, "preparing")
        weighting = space.weighting(parameters.weights)
        field, region = space.field(), space.region()
        if weighting == "none":
            weights = torch.ones(space.shape, device=device)
        else:
            weights = space.weights(weighting)
        if parameters.discount_bends:
            weights *= yield from _straightness(space, field, region)
        penalty = yield from damping("spectrum", parameters.regularization, space, field)
        problem = WeightedConvolution(
            space.dipole.spectrum, weights, damping=penalty, region=region.float()
        )
        del weights, penalty
        estimate = yield from solved(
            problem,
            field,
            None,
            space,
            tolerance=parameters.tolerance,
            max_iterations=parameters.max_iterations,
        )
        del problem
        edges = estimate
        if parameters.edges == "fast":
            edges = yield from stepping(fast_estimate(space, field, region), space)
        del field, region
        result = yield from without_streaks(space, estimate, edges, parameters.cone)
        return (yield from space.finish(result))
