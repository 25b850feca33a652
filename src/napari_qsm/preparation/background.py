"""What all removals of a background field share: from a total field to tensors, and back."""

from __future__ import annotations

import math
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from torch import Tensor

from napari_qsm.acquisition import Acquisition, InputError, Maps, Provenance, Quantity
from napari_qsm.generators import relayed
from napari_qsm.physics import fourier
from napari_qsm.physics.spherical_mean import SphericalMean, covered, eroded, reach
from napari_qsm.preparation.morphology import filled
from napari_qsm.process import Step
from napari_qsm.solvers.iteration import Iterate, Iterates, Pieces, until_converged
from napari_qsm.solvers.restricted import filtered
from napari_qsm.surroundings import bounding_box, fitting_threads

NEEDS = (Quantity.TOTAL_FIELD, Quantity.MASK)
USES = (Quantity.FIELD_NOISE,)
GIVES = (Quantity.LOCAL_FIELD, Quantity.MASK)

NOISY = 10.0
"""Noise over its median in the mask from which on a voxel's field is none. Air and bone that a mask
takes for brain hold phases of any size; on the raw digital head this finds 99 % of them and one
voxel in a thousand of the brain."""

HOLE_ML = 1.0
"""Largest hole in a mask across which the field is continued, in ml."""

LONGEST_WAVES = 3
"""Waves along the box that stand for the slowest ones a mask holds, in preconditioners: from 2 to 4
the iterations hardly depend on it, 1 and 10 take half as many again (measured)."""


class BackgroundProblem:
    """The field of one acquisition whose background is to be removed; a context manager.

    The volume is cropped to the mask's bounding box and zero-padded behind to a smooth size, so
    that nothing at one end of the head reaches the other end around the volume's edge. Small
    holes of the mask are bridged and the field's mean is taken out. Entering it chooses the number
    of threads, leaving it restores that and frees everything.

    Parameters
    ----------
    acquisition : Acquisition
        With a total field in ppm and a mask.
    device : torch.device
        Where to work.
    label : str
        Name of the stage, for messages.
    margin : float
        Least room between the mask and its periodic image in mm.

    Attributes
    ----------
    field : Tensor
        Total field less its mean in the region, zero outside it (X, Y, Z).
    region : Tensor
        1 in the mask and its bridged holes, 0 elsewhere.
    notes : list of str
        What the user is told.
    """

    def __init__(
        self, acquisition: Acquisition, device: torch.device, label: str, *, margin: float
    ) -> None:
        grid = acquisition.grid
        self._acquisition = acquisition
        self._label = label
        self._fraction = 0.0
        self.device = device
        self.voxel_size, self.b0_direction = grid.voxel_size, grid.b0_direction
        self.notes: list[str] = []
        self._mask = self._without_noise(acquisition.mask)
        self._box = bounding_box(self._mask)
        x, y, z = (
            fourier.smooth_size(s.stop - s.start + math.ceil(margin / size) + 1)
            for s, size in zip(self._box, grid.voxel_size, strict=True)
        )
        self.shape = (x, y, z)
        self._note_edges()
        field, region = self._bridged()
        mean = field[region].mean(dtype=np.float64)
        self.field = self.place(np.where(region, field - mean, 0))
        self.region = self.place(region)

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
        del self.field, self.region, self._mask, self._acquisition
        self._threads.__exit__(kind, error, trace)

    def place(self, inside: NDArray[Any]) -> Tensor:
        """Bring values in the bounding box to the device: padded, float32."""
        padded = torch.zeros(self.shape, device=self.device)
        values = torch.from_numpy(inside.astype(np.float32))
        padded[tuple(slice(0, n) for n in inside.shape)] = values.to(self.device)
        return padded

    def measured(self) -> Tensor:
        """Return 1 where the field was measured, 0 elsewhere and in bridged holes."""
        return self.place(self._mask[self._box])

    def boxed(self, quantity: Quantity) -> NDArray[Any]:
        """Return a volume of the acquisition in the mask's bounding box."""
        return self._acquisition[quantity][self._box]

    def _note_edges(self) -> None:
        sides = sum(
            (s.start == 0) + (s.stop == n) for s, n in zip(self._box, self._mask.shape, strict=True)
        )
        if sides:
            self.notes.append(
                f"The mask reaches the edge of the volume on {sides} of 6 sides; the field beyond "
                "is unknown, so the mask ends there as it does elsewhere."
            )

    def _without_noise(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the mask without noise at its edge, where bone and air begin; noted.

        Noise that brain encloses stays: the signal of a haemorrhage decays fast, and a map that
        left it out would be none.
        """
        if Quantity.FIELD_NOISE not in self._acquisition:
            return mask
        noise = self._acquisition[Quantity.FIELD_NOISE]
        limit = NOISY * float(np.median(noise[mask])) or math.inf
        calm: NDArray[np.bool_] = mask & (noise <= limit)
        kept = calm.copy()
        if calm.any():
            box = bounding_box(calm)
            kept[box] = mask[box] & filled(calm[box])
        if count := np.count_nonzero(mask) - np.count_nonzero(kept):
            self.notes.append(
                f"{count} voxels at the mask's edge were left out, where the field's noise is more "
                f"than {NOISY:g} times its median."
            )
        if count := np.count_nonzero(kept) - np.count_nonzero(calm):
            self.notes.append(
                f"{count} voxels inside the brain are as noisy (a haemorrhage, calcification or "
                "vein); they were kept, and what is found in them is uncertain."
            )
        return kept

    def _bridged(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return field and mask in the box, small holes of the mask filled; noted."""
        field, mask = self.boxed(Quantity.TOTAL_FIELD), self._mask[self._box]
        holes, larger = _holes(mask, round(1e3 * HOLE_ML / math.prod(self.voxel_size)))
        if larger:
            self.notes.append(
                f"The mask has holes of more than {HOLE_ML:g} ml, {larger} voxels together; what "
                "lies in them counts as background, and voxels are left out around them."
            )
        if not holes.any():
            return field, mask
        self.notes.append(
            f"The mask has holes of {np.count_nonzero(holes)} voxels; the field was continued "
            "across them, so no voxels around them are left out."
        )
        return _continued(field, holes, self.voxel_size), mask | holes

    def step(self, fraction: float, message: str, **values: float) -> Step:
        """Return a sign of life; its fraction never goes back."""
        self._fraction = max(self._fraction, min(fraction, 1.0))
        return Step(self._fraction, f"{self._label}: {message}", None, values)

    def spherical_mean(self, radius: float) -> SphericalMean:
        """Return the mean over balls of `radius` mm, of at least a voxel's longest side; noted.

        Raises
        ------
        InputError
            If no such ball fits into the mask.
        """
        least = max(self.voxel_size)
        if radius < least:
            self.notes.append(
                f"A ball of {radius:g} mm is smaller than a voxel; {least:g} mm was used."
            )
            radius = least
        if not self.fits(radius):
            raise self.nothing_left(radius)
        return SphericalMean(self.shape, self.voxel_size, radius, device=self.device)

    def fits(self, radius: float) -> bool:
        """Whether the mask's bounding box has room for a ball of `radius` mm."""
        return all(
            2 * n < s.stop - s.start
            for n, s in zip(reach(radius, self.voxel_size), self._box, strict=True)
        )

    def nothing_left(self, thickness: float) -> InputError:
        """Return the sentence for a mask that is thinner than twice `thickness` mm everywhere."""
        return InputError(
            f"{self._label} leaves nothing of the mask, which is nowhere thicker than "
            f"{2 * thickness:.3g} mm; check the mask or take less off its edge."
        )

    def filtered(
        self, volume: Tensor, symbol: Tensor, fraction: float, message: str
    ) -> Generator[Step, None, Tensor]:
        """Apply a Fourier filter to a padded volume, with signs of life."""
        yield self.step(fraction, message)
        pieces: Pieces = filtered(volume, symbol)
        return (yield from relayed(pieces, lambda _: self.step(fraction, message)))

    def without_rim(self, width: float) -> Tensor:
        """Return the region (1 or 0) less a rim of `width` mm.

        Raises
        ------
        InputError
            If nothing else is there.
        """
        inside = eroded(self.region, covered(width, self.voxel_size))
        if not inside.any():
            raise self.nothing_left(width)
        return inside

    def beyond_mean(self, mean: SphericalMean) -> Generator[Step, None, tuple[Tensor, Tensor]]:
        """Return where the balls lie within the mask (1 or 0), and ``f - S f`` there.

        Raises
        ------
        InputError
            If they do so nowhere.
        """
        yield self.step(0.02, "eroding the mask")
        core = mean.core(self.region)
        if not core.any():
            raise self.nothing_left(mean.radius)
        beyond = yield from self.filtered(self.field, mean.deviation, 0.05, "taking means")
        return core, beyond.mul_(core)

    def slowest(self, symbol: Tensor) -> float:
        """Value of a symbol for the longest waves that a mask as large as the box holds."""
        x, y, z = (min(LONGEST_WAVES, n - 1) for n in symbol.shape)
        return float(min(symbol[x, 0, 0], symbol[0, y, 0], symbol[0, 0, z]))

    def follow(
        self, iterates: Iterates, *, tolerance: float, max_iterations: int
    ) -> Generator[Step, None, Tensor]:
        """Run a solver until it converges, and note in how many iterations it did."""
        running = until_converged(iterates, tolerance=tolerance, max_iterations=max_iterations)
        last = yield from self._report(running, tolerance, max_iterations)
        if last.change > tolerance:
            self.notes.append(
                f"Stopped after the {last.iteration} iterations allowed, at a residual of "
                f"{last.change:.1e} (tolerance {tolerance:.0e})."
            )
        else:
            self.notes.append(f"Converged in {last.iteration} iterations.")
        return last.estimate

    def _report(
        self, running: Generator[Iterate, None, Iterate], tolerance: float, max_iterations: int
    ) -> Generator[Step, None, Iterate]:
        def told(now: Iterate) -> Step:
            reached = math.log(min(1.0, max(now.change, 1e-30))) / math.log(tolerance)
            return self.step(
                0.1 + 0.8 * max(now.iteration / max_iterations, min(1.0, reached)),
                f"iteration {now.iteration} of at most {max_iterations}, residual {now.change:.1e}",
                change=now.change,
                iteration=now.iteration,
            )

        return (yield from relayed(running, told))

    def finish(self, local: Tensor, kept: Tensor) -> Generator[Step, None, Maps]:
        """Return the maps of a local field (ppm) where it is reliable (`kept`, 1 or 0)."""
        yield self.step(0.95, "restoring the volume")
        count = tuple(s.stop - s.start for s in self._box)
        inside = fourier.crop(kept, count).cpu().numpy() > 0
        inside &= self._mask[self._box]
        shape = self._acquisition.grid.shape
        field, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
        mask[self._box] = inside
        field[self._box] = np.where(inside, fourier.crop(local, count).cpu().numpy(), 0)
        share = np.count_nonzero(inside) / np.count_nonzero(self._acquisition.mask)
        notes = (*self.notes, f"The local field is known in {share:.1%} of the mask's voxels.")
        return Maps(
            self._acquisition.grid,
            {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask},
            Provenance(notes=notes),
        )


def _holes(mask: NDArray[np.bool_], limit: int) -> tuple[NDArray[np.bool_], int]:
    """Find holes of a mask of up to `limit` voxels; count the voxels of larger ones.

    A hole is a part of the outside from which no path leads to the edge of the volume.
    """
    parts, _ = ndimage.label(~np.pad(mask, 1))
    sizes = np.bincount(parts.ravel())
    small = sizes <= limit
    small[:2] = False  # 0 is the mask, 1 holds the first corner: the padded outside
    larger = int(sizes[2:][~small[2:]].sum())
    return small[parts[1:-1, 1:-1, 1:-1]], larger


def _continued(
    field: NDArray[Any], holes: NDArray[np.bool_], voxel_size: tuple[float, float, float]
) -> NDArray[Any]:
    """Fill holes with what solves Laplace's equation in them and meets the field around them.

    A background field is harmonic, so that it is continued as it is.
    """
    filled = field.copy()
    values, where = filled.ravel(), np.flatnonzero(holes)
    right, entries = np.zeros(where.size), []
    strides = [stride // filled.itemsize for stride in filled.strides]
    for size, stride in zip(voxel_size, strides, strict=True):
        for neighbour in (where - stride, where + stride):
            column = np.searchsorted(where, neighbour).clip(max=where.size - 1)
            hole = where[column] == neighbour
            right += np.where(hole, 0, values[neighbour]) / size**2
            row = np.flatnonzero(hole)
            entries.append((row, column[row], np.full(row.size, -1 / size**2)))
    rows, columns, weights = (np.concatenate(part) for part in zip(*entries, strict=True))
    matrix = sparse.csr_matrix((weights, (rows, columns)), shape=(where.size,) * 2)
    matrix += sparse.identity(where.size) * sum(2 / size**2 for size in voxel_size)
    values[where] = sparse.linalg.cg(matrix, right, rtol=1e-6)[0]
    return filled
