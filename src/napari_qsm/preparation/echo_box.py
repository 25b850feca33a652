"""The echoes of a measurement in the bounding box of its mask, one at a time and in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, Maps, Provenance, Quantity
from napari_qsm.preparation.echoes import echoes, magnitude_echoes
from napari_qsm.preparation.voxels import by_time
from napari_qsm.surroundings import bounding_box


class EchoBox:
    """Echoes in the order of their times, cropped to the mask, and what they become on the grid.

    Parameters
    ----------
    acquisition : Acquisition
        With a phase.

    Attributes
    ----------
    times : (E,) array
        Ascending echo times in s.
    inside : (x, y, z) array of bool
        The mask in its bounding box.
    """

    def __init__(self, acquisition: Acquisition) -> None:
        self._grid = acquisition.grid
        self._phase = echoes(acquisition, Quantity.PHASE)
        self._magnitude = magnitude_echoes(acquisition)
        self._order, self.times = by_time(acquisition.echo_times)
        self._masked = Quantity.MASK in acquisition
        self._box = bounding_box(acquisition.mask)
        self.inside: NDArray[np.bool_] = np.ascontiguousarray(acquisition.mask[self._box])
        self._unwrapped = np.zeros(acquisition[Quantity.PHASE].shape, dtype=np.float32)

    @property
    def count(self) -> int:
        """Number of echoes."""
        return len(self.times)

    def name(self, echo: int) -> str:
        """Return what to call an echo in a sentence."""
        return f"echo {echo + 1} ({1000 * self.times[echo]:g} ms)"

    def phase(self, echo: int) -> FloatArray:
        """Return a contiguous copy of an echo's phase in the box."""
        return np.array(self._phase[(*self._box, self._order[echo])], order="C")

    def magnitude(self, echo: int) -> FloatArray | None:
        """Return a contiguous copy of an echo's magnitude in the box, or None without one."""
        if self._magnitude is None:
            return None
        return np.array(self._magnitude[(*self._box, self._order[echo])], order="C")

    def keep(self, echo: int, unwrapped: FloatArray) -> None:
        """Keep what became of an echo: values in the box, zero outside the mask."""
        echoes_last = self._unwrapped.reshape(*self._grid.shape, -1)
        echoes_last[(*self._box, self._order[echo])] = unwrapped

    def maps(self, notes: Sequence[str], quality: FloatArray | None = None) -> Maps:
        """Return all echoes that were kept, and a quality in the box, on the grid."""
        if not self._masked:
            notes = [*notes, "There was no mask, so noise outside the head was unwrapped, too."]
        volumes = {Quantity.UNWRAPPED: self._unwrapped}
        if quality is not None:
            volumes[Quantity.QUALITY] = np.zeros(self._grid.shape, dtype=np.float32)
            volumes[Quantity.QUALITY][self._box] = quality
        return Maps(self._grid, volumes, Provenance(notes=tuple(notes)))
