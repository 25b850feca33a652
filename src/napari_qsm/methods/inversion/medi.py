"""MEDI: morphology enabled dipole inversion."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, InputError, Maps, Quantity
from napari_qsm.methods.edges import spared
from napari_qsm.methods.phase import phase_scale, phase_scale_parameter
from napari_qsm.methods.registry import Parameters, Reconstruction, Step, method, parameter
from napari_qsm.methods.variation import chosen_regularization, data_weights, weights_parameter
from napari_qsm.methods.workspace import PADDING, Weighting, Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.gradient import Gradient
from napari_qsm.physics.spherical_mean import SphericalMean, reach
from napari_qsm.preparation.reference import ventricles
from napari_qsm.solvers.fourier import inverse_normal
from napari_qsm.solvers.gauss_newton import Misfit, Penalty, gauss_newton
from napari_qsm.solvers.iteration import Iterates
from napari_qsm.solvers.penalties import SmoothedNorm, Uniformity
from napari_qsm.surroundings import bounding_box

SHARE = 0.4
"""lambda in mm over `FieldError.weight` (docs/benchmarks.md)."""

FLATNESS = 0.2
"""Typical part of the largest reweighting ``1 / eps`` that a difference gets, for the
preconditioner; 0.1 to 0.3 are soonest (measured)."""

MERIT_ROUNDS = (10, 14, 18, 22, 26)
"""Iterations before which outliers are looked for: once the map is there, often enough for
outliers that hid each other."""


class MEDI(Parameters):
    """Parameters of morphology enabled dipole inversion."""

    regularization: float | None = parameter(
        None,
        "Weight of susceptibility's edges that the magnitude lacks (lambda): low values leave "
        "noise and streaks, high ones flatten fine structures. By itself chosen from the field's "
        "error. The lambda of Cornell's program stands at the data and is 1 / (2 s lambda), s "
        "being the phase scale: its 1000 is 3.1e-5 here at 20 ms and 3 T.",
        low=1e-6,
        high=1e-2,
        log=True,
        unit="ppm mm",
        alias="lambda",
        typical=5e-5,
    )
    edges: float = parameter(
        0.3,
        "Part of the pairs of neighbours in the mask that count as edges of the magnitude, where "
        "susceptibility may jump for free (Cornell's 90 % are 0.3 along each axis).",
        low=0.0,
        high=0.9,
    )
    data: Literal["nonlinear", "linear"] = parameter(
        "nonlinear",
        "Compare signals, which do not see whole turns of the phase and discount voxels that "
        "contradict all others, or fields.",
    )
    weights: Weighting = weights_parameter()
    phase_scale: float | None = phase_scale_parameter()
    merit: bool = parameter(
        False, "Lower the weight of voxels that fit six times worse than usual, while it runs."
    )
    csf: float = parameter(
        0.0,
        "Weight of one susceptibility in the ventricles relative to the data (MEDI+0), which also "
        "makes it the zero; they are found by R2*. Usual is 0.1; 0 for none.",
        low=0.0,
        high=100.0,
    )
    smv_radius: float = parameter(
        0.0,
        "Radius of the spherical mean that is taken out of field and model, against what is left "
        "of the background; voxels nearer to the mask's edge lose their data. Usual is 5; 0 for "
        "none.",
        low=0.0,
        high=30.0,
        unit="mm",
    )
    smoothing: float = parameter(
        5e-4,
        "Differences well below this count by their square, which keeps the norm smooth.",
        low=1e-6,
        high=10.0,
        log=True,
        unit="ppm/mm",
    )
    tolerance: float = parameter(
        2e-2,
        "Stop when the change falls below this part of the map, both measured by what they change "
        "in what is minimised: its square is what an iteration still gains.",
        low=1e-6,
        high=0.5,
        log=True,
    )
    max_iterations: int = parameter(60, "Stop after this many iterations.", low=1, high=1000)


@dataclass
class Data:
    """What is to be explained: the operator's symbol, the field in ppm, and W^2."""

    symbol: Tensor
    field: Tensor
    weights: Tensor


@method(
    key="medi",
    label="MEDI",
    summary="Edges only where the magnitude has some, against a nonlinear data term.",
    parameters=MEDI,
    references=(
        "10.1002/mrm.22816",
        "10.1016/j.neuroimage.2011.08.082",
        "10.1002/mrm.24272",
        "10.1002/mrm.26946",
    ),
    uses=(
        Quantity.MASK,
        Quantity.MAGNITUDE,
        Quantity.FIELD_NOISE,
        Quantity.R2STAR,
        Quantity.CHI,
    ),
    tuning="regularization",
)
def medi(acquisition: Acquisition, parameters: MEDI, device: torch.device) -> Reconstruction:
    """Minimise ``1/2 |W (exp(i s D chi) - exp(i s f))|^2 / s^2 + lambda |M G chi|_1``.

    M is 0 at edges of the magnitude and 1 elsewhere, G the gradient in 1/mm, |.|_1 the anisotropic
    norm smoothed by ``sqrt(x^2 + eps^2)``, and s the phase that 1 ppm makes. The linear data term
    is ``1/2 |W (D chi - f)|^2``, which the other one equals where the misfit is small. Every
    iteration renews Gauss-Newton's model and the reweighting of the norm, and takes one
    preconditioned conjugate gradient towards its minimum.

    MERIT divides W by ``rho^2`` where the misfit is ``rho > 1`` times six standard deviations.
    MEDI+0 adds ``c/2 |chi - mean|^2`` in the ventricles. With a spherical mean S,
    ``(1 - S) D`` and ``(1 - S) f`` stand for D and f.

    References: Liu et al. 2011 for the edges, Liu et al. 2013 for the data term and MERIT, Liu et
    al. 2018 for MEDI+0.

    Raises
    ------
    InputError
        If there is no R2* or no fluid for MEDI+0, or the ball does not fit the mask.
    """
    fluid = ventricles(acquisition, acquisition.mask) if parameters.csf else None
    room = (
        {"padding": _padding(acquisition, parameters.smv_radius)} if parameters.smv_radius else {}
    )
    with Workspace(acquisition, device, "MEDI", **room) as space:
        yield space.step(0.0, "preparing")
        weighting = space.weighting(parameters.weights)
        strength = yield from chosen_regularization(
            parameters.regularization, SHARE, MEDI, space, weighting
        )
        scale = None
        if parameters.data == "nonlinear":
            scale = phase_scale(acquisition, parameters.phase_scale, space)
        gradient = Gradient(space.voxel_size)
        selection = yield from spared(acquisition, space, gradient, parameters.edges)
        smoothing = parameters.smoothing
        penalties: list[Penalty] = [
            SmoothedNorm(gradient, selection, weight=strength, smoothing=smoothing)
        ]
        if fluid is not None:
            penalties.append(Uniformity(space.place(fluid).bool(), weight=parameters.csf))
        del selection
        data = yield from _data(space, weighting, parameters.smv_radius)
        stiffness = FLATNESS * strength / smoothing / float(data.weights.mean())
        prior = gradient.spectrum(space.shape, device=device)
        inverse = inverse_normal(data.symbol, prior, stiffness)
        del prior
        yield space.step(0.0, "starting")
        estimate = _start(acquisition, space)
        misfit = Misfit(_residual(data, estimate), data.weights, scale=scale)
        iterates = gauss_newton(misfit, penalties, data.symbol, inverse, estimate)
        if parameters.merit:
            iterates = _merit(iterates, misfit, space)
        del data, misfit, penalties, inverse, estimate
        result = yield from space.follow(
            iterates, tolerance=parameters.tolerance, max_iterations=parameters.max_iterations
        )
        maps = yield from space.finish(result)
    return maps if fluid is None else _relative_to(maps, fluid, acquisition)


def _padding(acquisition: Acquisition, radius: float) -> float:
    """Return the padding that leaves room for the balls of a spherical mean.

    Raises
    ------
    InputError
        If the ball is smaller than a voxel.
    """
    sizes = acquisition.grid.voxel_size
    if radius < max(sizes):
        raise InputError(
            f"The spherical mean's radius of {radius:g} mm is below the longest side of a voxel, "
            f"{max(sizes):g} mm; take a larger one, or 0 for none."
        )
    lengths = [s.stop - s.start for s in bounding_box(acquisition.mask)]
    room = zip(lengths, reach(radius, sizes), strict=True)
    return float(max([PADDING, *((n + 2 * r + 1) / n for n, r in room)]))


def _data(space: Workspace, weighting: Weighting, radius: float) -> Generator[Step, None, Data]:
    """Return what is to be explained, less its mean over balls if they have a radius."""
    yield space.step(0.0, "preparing the data")
    data = Data(space.dipole.spectrum, space.field(), data_weights(weighting, space))
    yield space.step(0.0, "preparing the data")
    if radius:
        yield from _without_mean(data, space, radius)
    return data


def _without_mean(data: Data, space: Workspace, radius: float) -> Generator[Step, None, None]:
    """Take the mean over balls out of field and model; weights stay where a ball fits the mask.

    Raises
    ------
    InputError
        If it fits nowhere.
    """
    mean = SphericalMean(space.shape, space.voxel_size, radius, device=space.device)
    yield space.step(0.0, "taking out spherical means")
    core = mean.core((space.region() & (data.weights > 0)).float())
    if not bool(core.any()):
        raise InputError(
            f"A ball of {radius:g} mm fits nowhere into what is measured in the mask; take a "
            "smaller radius, or 0 for none."
        )
    yield space.step(0.0, "taking out spherical means")
    transform = fourier.spectrum(data.field).mul_(mean.deviation)
    data.field = fourier.volume(transform, space.shape)
    data.symbol = data.symbol * mean.deviation
    before = float((data.weights * space.region()).sum())
    data.weights = data.weights * core
    lost = 1 - float(data.weights.sum()) / before
    space.notes.append(
        f"The mean over balls of {radius:g} mm was taken out of field and model, which leaves "
        f"{lost:.0%} of the data's weight, near the mask's edge, unused."
    )


def _start(acquisition: Acquisition, space: Workspace) -> Tensor:
    """Return what to start from: a given susceptibility, noted, or nothing."""
    if Quantity.CHI not in acquisition:
        return torch.zeros(space.shape, device=space.device)
    space.notes.append("Started from the given susceptibility.")
    return space.place(acquisition[Quantity.CHI])


def _residual(data: Data, estimate: Tensor) -> Tensor:
    predicted = fourier.spectrum(estimate).mul_(data.symbol)
    return fourier.volume(predicted, estimate.shape).sub_(data.field)


def _merit(iterates: Iterates, misfit: Misfit, space: Workspace) -> Iterates:
    """Lower the weights of outliers while the solver runs; the last count is noted."""
    with closing(iterates):
        for iterate in iterates:
            if iterate.complete and iterate.iteration in MERIT_ROUNDS:
                count = misfit.discount_outliers(space.region())
                told = "MERIT lowered the weights of"
                space.notes[:] = [note for note in space.notes if not note.startswith(told)]
                space.notes.append(f"{told} {count} voxels in its last round.")
            yield iterate


def _relative_to(maps: Maps, fluid: np.ndarray, acquisition: Acquisition) -> Maps:
    """Refer the susceptibility to its mean in the ventricles instead of that in the mask."""
    chi = maps[Quantity.CHI]
    count = int(np.count_nonzero(fluid))
    mean = float(chi.sum(where=fluid, dtype=np.float64) / count)
    notes = (
        *maps.provenance.notes[:-1],
        f"Susceptibility is relative to its mean in the ventricles (CSF), {count} voxels.",
    )
    return replace(
        maps,
        volumes={**maps.volumes, Quantity.CHI: np.where(acquisition.mask, chi - mean, 0)},
        provenance=replace(maps.provenance, notes=notes),
    )
