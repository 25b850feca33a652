"""What every dipole inversion shares: from an acquisition to tensors, and back to maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_qsm.acquisition import (
    Acquisition,
    FloatArray,
    InputError,
    Maps,
    Provenance,
    Quantity,
)
from napari_qsm.generators import relayed
from napari_qsm.methods.facts import facts_of
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.preparation.noise import field_noise
from napari_qsm.process import Parameters, Step, number
from napari_qsm.solvers.iteration import Iterate, Iterates, until_converged
from napari_qsm.surroundings import bounding_box, fitting_threads

T = TypeVar("T")

PADDING = 1.25
"""Room around the mask's bounding box, as a factor on each side.

The k-space kernel is periodic, so the field of one side of the head would reach the other."""

Weighting = Literal["auto", "noise", "magnitude", "mask", "none"]
"""How much each voxel of the field counts; ``"auto"`` is the first of the next three possible."""

_WEIGHTED = {"noise": "field noise", "magnitude": "magnitude"}

_SUM = {"cpu": torch.float64, "cuda": torch.float64, "mps": torch.float32}
"""Precision of sums; Apple's GPUs have no double precision."""


@dataclass(frozen=True)
class Lattice:
    """A grid as far as the dipole must know it."""

    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    b0_direction: tuple[float, float, float]


class Workspace:
    """The inversion problem of one acquisition, on one device; a context manager.

    The volume is cropped to the mask's bounding box, which leaves a third of the voxels of a
    typical head, and zero-padded at its far ends to a smooth size `PADDING` times as long.
    Entering it chooses the number of threads, leaving it restores that and frees everything, also
    for `Step`s that somebody kept.

    Parameters
    ----------
    acquisition : Acquisition
        With a local field in ppm.
    device : torch.device
        Where to work.
    label : str
        Name of the method, for messages.
    padding : float
        See `PADDING`.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        device: torch.device,
        label: str,
        *,
        padding: float = PADDING,
    ) -> None:
        grid = acquisition.grid
        self._acquisition = acquisition
        self.device = device
        self.label = label
        self._box = bounding_box(acquisition.mask)
        self._estimate: Callable[[], Tensor] | None = None
        self._fraction = 0.0
        self.notes: list[str] = []
        self.chosen: dict[str, Any] = {}
        self.extras: dict[Quantity, FloatArray] = {}
        shape = fourier.smooth_shape([s.stop - s.start for s in self._box], padding)
        lattice = Lattice(shape, grid.voxel_size, grid.b0_direction)
        self.dipole = DipoleConvolution(lattice, padded_shape=shape, device=device)
        self.voxel_size = grid.voxel_size
        self.b0_direction = grid.b0_direction

    def __enter__(self) -> Self:
        self._threads = fitting_threads(self.device, math.prod(self.shape))
        self._threads.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._estimate = None
        for name in ("_inside", "_region"):
            self.__dict__.pop(name, None)
        del self.dipole, self._acquisition
        self._threads.__exit__(kind, error, trace)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the padded volumes."""
        return self.dipole.shape

    def place(self, values: NDArray[Any]) -> Tensor:
        """Bring a volume of the acquisition to the device: masked, cropped, padded, float32."""
        padded = np.zeros(self.shape, np.float32)
        inside = padded[tuple(slice(0, side.stop - side.start) for side in self._box)]
        np.copyto(inside, values[self._box], where=self._mask, casting="same_kind")
        return torch.from_numpy(padded).to(self.device)

    def restore(self, padded: Tensor) -> FloatArray:
        """Bring a padded volume back to the acquisition's grid, zero outside the mask."""
        return self._restore(self._masked(padded))

    @property
    def _mask(self) -> NDArray[np.bool_]:
        return self._acquisition.mask[self._box]

    def region(self) -> Tensor:
        """Return whether a voxel of the padded volume is in the mask; not to be written to."""
        return self._region

    @cached_property
    def _region(self) -> Tensor:
        return self.place(self._acquisition.mask).bool()

    def fact(self, name: str, compute: Callable[[], T]) -> T:
        """Return something small that follows from what was measured: found out only once.

        A sweep, a restart and a live lambda work on the same measurement again and again. A given
        susceptibility is not a measurement: nothing that depends on it may be a fact.
        """
        facts = facts_of(self._acquisition, (self.shape, self.device))
        if name not in facts:
            facts[name] = compute()
        found: T = facts[name]
        return found

    def learn(self, name: str, value: object) -> None:
        """Keep a fact that is known better than these volumes tell."""
        facts_of(self._acquisition, (self.shape, self.device))[name] = value

    def field(self) -> Tensor:
        """Return the local field in ppm, zero outside the mask."""
        return self.place(self._acquisition[Quantity.LOCAL_FIELD])

    def deviation(self) -> Tensor:
        """Return the noise of the field in ppm as its map says, zero outside the mask."""
        return self.place(self._acquisition[Quantity.FIELD_NOISE])

    def weighting(self, wanted: Weighting) -> Weighting:
        """Return the weighting that is possible, noted: what is known best for ``"auto"``.

        Raises
        ------
        InputError
            If a map is wanted that the acquisition does not have.
        """
        known = self._acquisition
        has = {"noise": Quantity.FIELD_NOISE in known, "magnitude": Quantity.MAGNITUDE in known}
        if wanted == "auto":
            wanted = "noise" if has["noise"] else "magnitude" if has["magnitude"] else "mask"
        elif not has.get(wanted, True):
            raise InputError(
                f"{self.label} was asked to weight by the {_WEIGHTED[wanted]}, which is not "
                "there; choose one, or another weighting."
            )
        told = {
            "noise": "The field is weighted by one over its noise variance.",
            "magnitude": "The field is weighted by the squared magnitude.",
            "mask": "The field counts the same everywhere in the mask.",
            "none": "The field counts the same everywhere, being zero outside the mask.",
        }
        self.notes.append(told[wanted])
        return wanted

    def weights(self, weighting: Weighting) -> Tensor:
        """Squared data weights W^2 with a mean of 1 in the mask, 0 outside it.

        ``"magnitude"`` is the squared magnitude, echoes combined by their sum of squares,
        ``"noise"`` one over the variance of the field. Values above the 99th percentile are
        clipped: a few bright vessels must not decide how much everything else counts.

        Raises
        ------
        InputError
            If they are zero everywhere in the mask.
        """
        mask = self._acquisition.mask
        if weighting == "magnitude":
            signal = self._acquisition[Quantity.MAGNITUDE].astype(np.float32)
            power = np.square(signal).reshape(*signal.shape[:3], -1).sum(-1)
        elif weighting == "noise":
            noise = self._acquisition[Quantity.FIELD_NOISE].astype(np.float32)
            power = np.where(noise > 0, 1 / np.square(np.maximum(noise, 1e-12)), 0)
        else:
            return self.region().float()
        highest, mean = self.fact(f"weights by {weighting}", lambda: _clipped(power[mask]))
        if not mean > 0:
            raise InputError(
                f"The {_WEIGHTED[weighting]} is zero in the whole mask; choose another one or run "
                "without weights."
            )
        return self.place(np.minimum(power, highest) / mean)

    def noise(self) -> float:
        """Return the noise of the field in ppm, read off differences of neighbours."""
        known = self._acquisition
        return self.fact("noise", lambda: field_noise(known[Quantity.LOCAL_FIELD], known.mask))

    def choose(
        self, name: str, value: float, why: str, model: type[Parameters] | None = None
    ) -> float:
        """Choose a parameter that was left to the method: rounded, told, kept with the result.

        Parameters
        ----------
        name : str
            Of the parameter's field.
        value : float
            In its unit; a whole number stays one.
        why : str
            Unit and how it came about, for the note "name = value WHY."
        model : type[Parameters], optional
            Into the range its field has the value is brought.
        """
        whole = isinstance(value, int)
        if model is not None and (limits := number(model.model_fields[name])) is not None:
            value = min(max(value, limits.low), limits.high)
        chosen = round(value) if whole else float(f"{value:.3g}")
        self.chosen[name] = chosen
        told = {"regularization": "lambda"}.get(name, name.replace("_", " "))
        self.notes.append(f"{told} = {chosen:g} {why}.")
        return chosen

    def step(
        self,
        fraction: float,
        message: str,
        estimate: Callable[[], Tensor] | None = None,
        **values: float,
    ) -> Step:
        """Return a sign of life whose preview is `estimate`; its fraction never goes back."""
        self._estimate = estimate
        self._fraction = max(self._fraction, min(fraction, 1.0))
        preview = None if estimate is None else self._preview
        return Step(self._fraction, f"{self.label}: {message}", preview, values)

    def _preview(self) -> FloatArray:
        if self._estimate is None:
            raise RuntimeError("This preview has expired; take it before the run goes on.")
        return self._restore(self._referenced(self._estimate())[0])

    def filtered(self, symbol: Callable[[], Tensor]) -> Generator[Step, None, Tensor]:
        """Apply a Fourier filter to the field, in pieces; for closed-form methods."""
        yield self.step(0.0, "transforming the field")
        transform = fourier.spectrum(self.field())
        yield self.step(0.4, "filtering")
        transform.mul_(symbol())
        yield self.step(0.6, "transforming back")
        estimate = fourier.volume(transform, self.shape)
        yield self.step(0.9, "done", lambda: estimate)
        return estimate

    def follow(
        self,
        iterates: Iterates,
        *,
        tolerance: float,
        max_iterations: int,
        view: Callable[[Tensor], Tensor] = lambda estimate: estimate,
    ) -> Generator[Step, None, Tensor]:
        """Run a solver until it converges; `view` turns its variable into susceptibility.

        The fraction is the larger of two honest guesses: iterations done of those allowed, and
        how far the change has come from 1 to the tolerance on a logarithmic scale.
        """
        running = until_converged(iterates, tolerance=tolerance, max_iterations=max_iterations)
        last = yield from self._report(running, tolerance, max_iterations, view)
        if last.change > tolerance:
            self.notes.append(
                f"Stopped after the {last.iteration} iterations allowed, at a relative change of "
                f"{last.change:.1e} (tolerance {tolerance:.0e})."
            )
        else:
            self.notes.append(f"Converged in {last.iteration} iterations.")
        return view(last.estimate)

    def _report(
        self,
        running: Generator[Iterate, None, Iterate],
        tolerance: float,
        max_iterations: int,
        view: Callable[[Tensor], Tensor],
    ) -> Generator[Step, None, Iterate]:
        def told(now: Iterate) -> Step:
            reached = math.log(min(1.0, max(now.change, 1e-30))) / math.log(tolerance)
            estimate = now.estimate
            return self.step(
                0.98 * max(now.iteration / max_iterations, min(1.0, reached)),
                f"iteration {now.iteration} of at most {max_iterations}, change {now.change:.1e}",
                lambda: view(estimate),
                change=now.change,
                iteration=now.iteration,
            )

        return (yield from relayed(running, told))

    def finish(self, estimate: Tensor) -> Generator[Step, None, Maps]:
        """Return the maps of an `estimate` (ppm, padded): susceptibility and residual field.

        The susceptibility is referenced to its mean in the mask, since a constant makes no field.
        The residual ``D chi - f`` is that of the estimate as the method made it, before it is set
        to zero outside the mask. Whatever lies in `extras` is a map of the result, too.
        """
        yield self.step(0.98, "computing the residual", lambda: estimate)
        residual = self.dipole(estimate)
        yield self.step(0.99, "computing the residual", lambda: estimate)
        residual.sub_(self.field())
        referenced, mean = self._referenced(estimate)
        notes = (
            *self.notes,
            f"Susceptibility is relative to its mean in the mask ({mean:+.4f} ppm was subtracted).",
        )
        return Maps(
            self._acquisition.grid,
            {
                Quantity.CHI: self._restore(referenced),
                Quantity.RESIDUAL: self.restore(residual),
                **self.extras,
            },
            Provenance(notes=notes, chosen=self.chosen),
        )

    @cached_property
    def _inside(self) -> Tensor:
        """The mask in its bounding box, on the device."""
        return torch.from_numpy(self._mask.copy()).to(self.device)

    def _masked(self, padded: Tensor) -> Tensor:
        """Copy a padded tensor's values in the mask, zero elsewhere in the bounding box."""
        return fourier.crop(padded, self._inside.shape) * self._inside

    def _referenced(self, padded: Tensor) -> tuple[Tensor, float]:
        """Return a padded tensor in the mask less its mean there, and that mean.

        A product and a sum are four times as fast as indexing with the mask.
        """
        values = self._masked(padded)
        mean = float(values.sum(dtype=_SUM[self.device.type])) / self._count
        return values.sub_(mean).mul_(self._inside), mean

    @cached_property
    def _count(self) -> int:
        return int(np.count_nonzero(self._mask))

    def _restore(self, inside: Tensor) -> FloatArray:
        """Bring values in the bounding box back to the acquisition's grid, zero elsewhere."""
        volume = np.zeros(self._acquisition.grid.shape, dtype=np.float32)
        volume[self._box] = inside.cpu().numpy()
        return volume


def _clipped(power: FloatArray) -> tuple[float, float]:
    """Return the 99th percentile of values and the mean of what is left when they are clipped."""
    highest = np.percentile(power, 99)
    return float(highest), float(np.minimum(power, highest).mean(dtype=np.float64))
