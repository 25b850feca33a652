"""The parts of a mask that do not touch: nothing says how many turns lie between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_qsm.acquisition import FloatArray

TURN = np.float32(2 * np.pi)

SAMPLE = 1_000_000
"""Voxels a median is taken over; more would not change its third digit."""


class MaskParts:
    """The parts of a mask, by the voxels of the mask in their stored order.

    Parameters
    ----------
    part : (voxel,) array of int
        Number of the part that each voxel of the mask belongs to, from 0.
    """

    def __init__(self, part: NDArray[np.integer]) -> None:
        self._part = part
        self._sizes = np.bincount(part)

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> MaskParts:
        """Find the parts of a mask: voxels touch that share a face."""
        labels, _ = ndimage.label(mask)
        return cls(labels[mask] - 1)

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self._sizes)

    def means(self, values: FloatArray) -> NDArray[np.float64]:
        """Return the mean of mask voxels' `values` in every part."""
        if self.count == 1:
            return np.array([values.mean(dtype=np.float64)])
        means: NDArray[np.float64] = np.bincount(self._part, values) / self._sizes
        return means

    def spread(self, values: NDArray[np.float64]) -> FloatArray:
        """Return, for every voxel of the mask, the value of its part."""
        if self.count == 1:
            return np.broadcast_to(np.float32(values[0]), self._part.shape)
        spread: FloatArray = values.astype(np.float32)[self._part]
        return spread

    def turns(self, values: FloatArray, settled: NDArray[np.bool_] | None = None) -> FloatArray:
        """Return the whole turns that bring the parts of an unwrapped phase together.

        The median of the largest part comes closest to zero, the means of the others closest to
        its mean.

        Parameters
        ----------
        values : (voxel,) array
            Unwrapped phase in rad.
        settled : (voxel,) array of bool, optional
            Voxels that stay, with all of their part; other parts then come closest to zero.

        Returns
        -------
        (voxel,) array of float32
            Turns to add.
        """
        means = self.means(values)
        if settled is not None and settled.any():
            turns = np.rint(-means / TURN)
            turns[self._part[settled]] = 0
            return self.spread(turns)
        largest = int(self._sizes.argmax())
        own = values if self.count == 1 else values[self._part == largest]
        main = np.rint(-np.median(own[:: max(1, own.size // SAMPLE)]) / TURN)
        turns = np.rint((means[largest] - means) / TURN + main)
        turns[largest] = main
        return self.spread(turns)

    def note(self) -> tuple[str, ...]:
        """Say what is not known of a mask of several parts."""
        if self.count == 1:
            return ()
        return (
            f"The mask has {self.count} parts that do not touch; the phase of each was brought "
            "within half a turn of the largest, so a constant of whole turns between them is "
            "possible.",
        )
