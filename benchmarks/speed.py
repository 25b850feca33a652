"""Time per iteration in units of the Fourier transform it cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor

from benchmarks.tables import markdown
from benchmarks.timing import seconds, transform_pair
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.admm import admm, total_variation
from napari_qsm.solvers.data_terms import DataTerm, LeastAbsolute, LeastSquares, Wrapped
from napari_qsm.solvers.fourier import (
    GradientNormal,
    QuadraticStep,
    SplitStep,
    inverse_normal,
    scale_spectrum,
)
from napari_qsm.solvers.gauss_newton import Misfit, gauss_newton
from napari_qsm.solvers.generalised_variation import GeneralisedNormal, GeneralisedSplit
from napari_qsm.solvers.gradient_descent import gradient_descent
from napari_qsm.solvers.iteration import Iterates, Pieces, until_converged
from napari_qsm.solvers.penalties import SmoothedNorm

REGULARIZATION = 1e-4
PENALTY = 300 * REGULARIZATION
DATA_PENALTY = 0.15


@dataclass(frozen=True)
class Cube:
    """A lattice of n^3 voxels of 1 mm with a noisy field of a few boxes."""

    n: int
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    b0_direction: tuple[float, float, float] = (0.0, 0.0, 1.0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        return self.n, self.n, self.n

    def dipole(self) -> DipoleConvolution:
        """Unpadded operator."""
        return DipoleConvolution(self, padded_shape=self.shape)

    def field(self) -> Tensor:
        """Field of random boxes, 0.002 ppm noise, nothing outside a ball."""
        generator = torch.Generator().manual_seed(0)
        chi = torch.zeros(self.shape)
        for corner in torch.randint(self.n // 5, 3 * self.n // 5, (40, 3), generator=generator):
            x, y, z = corner.tolist()
            size = int(torch.randint(2, self.n // 6, (1,), generator=generator))
            value = float(torch.randn(1, generator=generator)) * 0.05
            chi[x : x + size, y : y + size, z : z + size] = value
        field = self.dipole()(chi) + 0.002 * torch.randn(self.shape, generator=generator)
        return field * self.ball()

    def ball(self) -> Tensor:
        """Where the data lie."""
        axis = torch.linspace(-1, 1, self.n).square()
        return (axis[:, None, None] + axis[None, :, None] + axis < 0.9**2).float()


def tv(cube: Cube) -> Iterates:
    """Unweighted total variation."""
    gradient = Gradient(cube.voxel_size)
    symbols = cube.dipole().spectrum, gradient.spectrum(cube.shape)
    step = QuadraticStep(cube.field(), *symbols, penalty=PENALTY)
    start = torch.zeros(cube.shape)
    return total_variation(step, gradient, start, threshold=REGULARIZATION / PENALTY)


def split_tv(cube: Cube, make: Callable[..., DataTerm]) -> Iterates:
    """Total variation with a data term that is made of data and weights."""
    gradient = Gradient(cube.voxel_size)
    symbols = cube.dipole().spectrum, gradient.spectrum(cube.shape)
    step = SplitStep(
        make(cube.field(), cube.ball(), penalty=DATA_PENALTY),
        symbols[0],
        GradientNormal(*symbols, ratio=PENALTY / DATA_PENALTY),
        shape=torch.Size(cube.shape),
    )
    start = torch.zeros(cube.shape)
    return total_variation(step, gradient, start, threshold=REGULARIZATION / PENALTY)


def tgv(cube: Cube) -> Iterates:
    """Total generalised variation, nonlinear."""
    gradient, dipole = Gradient(cube.voxel_size), cube.dipole().spectrum
    prior = GeneralisedSplit(
        gradient,
        threshold=REGULARIZATION / PENALTY,
        order_ratio=2.0,
        penalty_ratio=4.0,
        split=torch.zeros((9, *cube.shape)),
    )
    normal = GeneralisedNormal(
        dipole,
        gradient.spectrum(cube.shape),
        voxel_size=cube.voxel_size,
        shape=torch.Size(cube.shape),
        ratio=PENALTY / DATA_PENALTY,
        penalty_ratio=4.0,
    )
    term = Wrapped(cube.field(), cube.ball(), scale=16.0, penalty=DATA_PENALTY)
    step = SplitStep(term, dipole, normal, shape=torch.Size(cube.shape))
    return admm(prior, step, torch.zeros((4, *cube.shape)))


def medi(cube: Cube) -> Iterates:
    """Reweighted total variation without edges, nonlinear, by Gauss-Newton."""
    gradient, symbol, smoothing = Gradient(cube.voxel_size), cube.dipole().spectrum, 5e-4
    everywhere = torch.ones((3, *cube.shape))
    norm = SmoothedNorm(gradient, everywhere, weight=REGULARIZATION, smoothing=smoothing)
    stiffness = 0.2 * REGULARIZATION / smoothing
    inverse = inverse_normal(symbol, gradient.spectrum(cube.shape), stiffness)
    misfit = Misfit(-cube.field(), cube.ball(), scale=16.0)
    return gauss_newton(misfit, [norm], symbol, inverse, torch.zeros(cube.shape))


def ndi(cube: Cube) -> Iterates:
    """Nonlinear dipole inversion."""
    symbol, phase, weights = cube.dipole().spectrum, 16 * cube.field(), cube.ball()

    def gradient(transform: Tensor) -> Pieces:
        error = torch.fft.irfftn(transform * symbol, s=cube.shape)
        error.sub_(phase).sin_().mul_(weights)
        yield
        return scale_spectrum(torch.fft.rfftn(error), symbol)

    return gradient_descent(gradient, torch.zeros(symbol.shape, dtype=torch.complex64), step=2.0)


SOLVERS: dict[str, Callable[[Cube], Iterates]] = {
    "TV": tv,
    "TV, weighted; HD-QSM, second stage": lambda cube: split_tv(cube, LeastSquares),
    "FANSI": lambda cube: split_tv(cube, partial(Wrapped, scale=16.0)),
    "FANSI, TGV": tgv,
    "L1-QSM; HD-QSM, first stage": lambda cube: split_tv(cube, partial(LeastAbsolute, scale=0.002)),
    "MEDI": medi,
    "NDI, plain": ndi,
}


def iterations(iterates: Iterates) -> Iterator[float]:
    """Change after each completed iteration."""
    return (iterate.change for iterate in iterates if iterate.complete)


def iteration_table(sizes: Iterable[int], repetitions: int = 9) -> str:
    """Each iteration is timed right before a bare pair of transforms of the same volume."""
    rows = []
    for n in sizes:
        volume = torch.randn(n, n, n)
        for name, make in SOLVERS.items():
            running = iterations(make(Cube(n)))
            next(running)
            own, pair = [], []
            for _ in range(repetitions):
                own.append(seconds(lambda running=running: next(running)))
                pair.append(seconds(lambda v=volume: transform_pair(v)))
            rows.append(
                (
                    f"{n}^3",
                    name,
                    f"{1e3 * median(own):.0f}",
                    f"{1e3 * median(pair):.0f}",
                    f"{median(own) / median(pair):.2f}",
                    f"{min(own) / min(pair):.2f}",
                )
            )
    head = ("size", "solver", "iteration, ms", "rfftn + irfftn, ms", "ratio of medians", "minima")
    return markdown("Time per iteration", head, rows)


def convergence_table(sizes: Iterable[int]) -> str:
    """Unweighted TV from nothing to a relative change of 1e-3."""
    rows = []
    for n in sizes:
        cube = Cube(n)
        cube.field()  # not part of the time

        def solve(cube: Cube = cube) -> int:
            running = until_converged(tv(cube), tolerance=1e-3, max_iterations=500)
            *_, last = running
            return last.iteration

        times = [seconds(solve) - seconds(cube.field) for _ in range(3)]
        rows.append((f"{n}^3", solve(), f"{min(times):.2f}", f"{median(times):.2f}"))
    head = ("size", "iterations", "seconds, best of 3", "median")
    return markdown("TV to a relative change of 1e-3", head, rows)
