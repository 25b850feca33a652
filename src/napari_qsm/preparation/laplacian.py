"""Laplacian unwrapping: the phase whose Laplacian is that of the wrapped differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor

from napari_qsm.acquisition import Acquisition, FloatArray, Quantity
from napari_qsm.generators import relayed
from napari_qsm.preparation.echo_box import EchoBox
from napari_qsm.preparation.echoes import wrapped
from napari_qsm.preparation.mask_parts import TURN, MaskParts
from napari_qsm.preparation.quality import ends, slabs
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.voxels import steps
from napari_qsm.process import Parameters, Step, Work, parameter
from napari_qsm.solvers.conjugate_gradient import conjugate_gradient
from napari_qsm.solvers.iteration import Pieces, until_converged
from napari_qsm.surroundings import fitting_threads

MAX_ITERATIONS = 50
"""A brain needs five; more are for masks of thin threads."""


class Laplacian(Parameters):
    """Parameters of Laplacian unwrapping."""

    tolerance: float = parameter(
        1e-3,
        "Stop when the equations in the mask hold to this part; a half is one step, fast but with "
        "a smooth error that background removal takes off again.",
        low=1e-6,
        high=0.5,
        log=True,
    )


@stage(
    key="laplacian",
    label="Laplacian",
    summary="One linear equation instead of paths: always smooth, but not by whole turns.",
    place=Place.UNWRAP,
    parameters=Laplacian,
    references=("10.1364/OL.28.001194", "10.1364/JOSAA.11.000107"),
    needs=(Quantity.PHASE,),
    uses=(Quantity.MASK,),
    gives=(Quantity.UNWRAPPED,),
    cpu_only=True,
)
def laplacian(acquisition: Acquisition, parameters: Laplacian, device: torch.device) -> Work:
    """Solve ``div(m grad phi) = div(m wrap(grad phase))`` for each echo by itself.

    Edges that leave the mask m do not count: noise outside stays outside, and no value has to be
    made up at the boundary. Up to a constant the result is exact where no true difference of
    neighbours reaches half a turn; where some do, poles spread an error over their surroundings.
    The constant is the one that fits the measured phase best, with the turns that bring an echo
    closest to proportion with the one before. References: Schofield & Zhu 2003 for the Laplacian,
    here of differences, and Ghiglia & Romero 1994 for the iteration that a mask asks for.
    """
    box = EchoBox(acquisition)
    yield Step(0.0, "looking for parts of the mask")
    parts = MaskParts.of(box.inside)
    poisson = MaskedPoisson(box.inside, acquisition.grid.voxel_size)
    misfits = []
    before: FloatArray | None = None
    with fitting_threads(torch.device("cpu"), box.inside.size):
        for echo in range(box.count):
            phase = box.phase(echo)
            work = poisson.unwrapping(phase, parameters.tolerance)
            message = f"unwrapping {box.name(echo)}"
            done = (echo + 1) / box.count
            solved = yield from steps(work, message, echo / box.count, done)
            yield Step(done, message)
            values, misfit = _fitted(solved[box.inside], phase[box.inside], parts)
            yield Step(done, message)
            ratio = np.float32(box.times[echo] / box.times[max(0, echo - 1)])
            values += TURN * parts.turns(values if before is None else values - ratio * before)
            before = values
            misfits.append(misfit)
            solved[:] = 0
            solved[box.inside] = values
            box.keep(echo, solved)
    return box.maps(_notes(box, misfits, poisson.stopped, parts))


def _fitted(solved: FloatArray, phase: FloatArray, parts: MaskParts) -> tuple[FloatArray, float]:
    """Add the constant to each part that fits the measured phase best; say what is left (rms)."""
    difference = phase - solved
    constants = np.arctan2(parts.means(np.sin(difference)), parts.means(np.cos(difference)))
    fitted = solved + parts.spread(constants)
    left = wrapped(phase - fitted)
    return fitted, float(np.sqrt(np.mean(np.square(left), dtype=np.float64)))


def _notes(box: EchoBox, misfits: list[float], stopped: bool, parts: MaskParts) -> list[str]:
    each = " and ".join(f"{m:.2g} rad in {box.name(e)}" for e, m in enumerate(misfits))
    notes = [
        "The unwrapped phase is not a whole number of turns from the measured one; it differs "
        f"besides by {each} (rms).",
        *parts.note(),
    ]
    if stopped:
        notes.append(f"It was stopped after {MAX_ITERATIONS} iterations, short of the tolerance.")
    return notes


class MaskedPoisson:
    """The Laplacian of a mask, with no flux through its boundary, and its inverse.

    Distances count: what the equation leaves open is harmonic in space, so that background removal
    takes it for background.

    Parameters
    ----------
    inside : (X, Y, Z) array of bool
        The mask.
    voxel_size : sequence of three float
        In mm.
    """

    def __init__(self, inside: NDArray[np.bool_], voxel_size: tuple[float, float, float]) -> None:
        self._shape = inside.shape
        self._edges = [
            torch.from_numpy(inside[before] & inside[after])
            for before, after in (ends(axis) for axis in range(3))
        ]
        # Only the ratios matter; those of isotropic voxels are 1.
        self._weights = [(min(voxel_size) / size) ** 2 for size in voxel_size]
        self._symbols = np.ix_(
            *(
                weight * (2 - 2 * np.cos(np.pi * np.arange(count) / count))
                for weight, count in zip(self._weights, self._shape, strict=True)
            )
        )
        self.stopped = False

    def unwrapping(
        self, phase: NDArray[np.floating], tolerance: float
    ) -> Generator[float, None, NDArray[np.floating]]:
        """Solve for the phase whose differences come closest to the wrapped ones of `phase`.

        The solution has the precision of `phase`, some constant, and no meaning outside the mask.
        """
        right = yield from _counting(self._divergence(torch.from_numpy(phase), wrap=True))
        iterates = conjugate_gradient(self._laplacian, right, preconditioner=self._inverse)
        running = until_converged(iterates, tolerance=tolerance, max_iterations=MAX_ITERATIONS)
        del right, iterates
        fraction = 0.0
        while True:
            try:
                now = next(running)
            except StopIteration as done:
                self.stopped |= done.value.change > tolerance
                solution: NDArray[np.floating] = done.value.estimate.numpy()
                return solution
            reached = math.log(min(1.0, max(now.change, 1e-30))) / math.log(tolerance)
            fraction = max(fraction, min(1.0, reached))
            yield fraction

    def _divergence(self, volume: Tensor, *, wrap: bool = False) -> Pieces:
        """Sum the differences over the edges at every voxel, those inside the mask alone."""
        total = torch.zeros_like(volume)
        for axis, (inside, weight) in enumerate(zip(self._edges, self._weights, strict=True)):
            before, after = ends(axis)
            step = volume[after] - volume[before]
            if wrap:
                step -= 2 * math.pi * torch.round(step / (2 * math.pi))
            step.mul_(inside).mul_(weight)
            total[after] += step
            total[before] -= step
            yield
        return total

    def _laplacian(self, volume: Tensor) -> Pieces:
        return self._divergence(volume)

    def _inverse(self, volume: Tensor) -> Pieces:
        """Invert the Laplacian of the whole box, which cosine transforms make diagonal."""
        values = volume.numpy().copy()
        yield from self._transform(values, fft.dct)
        x, y, z = (line.astype(values.dtype) for line in self._symbols)
        symbol = x + y + z
        symbol[0, 0, 0] = np.inf  # a constant makes no differences
        values /= symbol
        del symbol
        yield
        yield from self._transform(values, fft.idct)
        return torch.from_numpy(values)

    def _transform(
        self, values: NDArray[np.floating], transform: Callable[..., NDArray[np.floating]]
    ) -> Iterator[None]:
        for axis in range(3):
            for slab, _ in slabs(self._shape, axis):
                values[slab] = transform(values[slab], axis=axis, norm="ortho")
                yield


def _counting(work: Pieces) -> Generator[float, None, Tensor]:
    """Run `work` where fractions are expected; it is too short to have one."""
    return (yield from relayed(work, lambda _: 0.0))
