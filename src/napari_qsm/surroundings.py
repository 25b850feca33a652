"""What every piece of work arranges around itself: the box it works in, and its threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SINGLE_THREAD_VOXELS = 1_000_000
"""Up to this size one thread is used: a second one gains little and, when another program is
busy, every operation waits for it."""


class _Threads:
    """The number of threads torch uses, which is one for the whole program.

    Several pieces of work may run at once: whoever comes first notes the number, whoever leaves
    last restores it, so that nobody restores what another one has set.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = 1

    def enter(self, *, single: bool) -> None:
        with self._lock:
            if not self._users:
                self._before = torch.get_num_threads()
            self._users += 1
            torch.set_num_threads(1 if single else self._before)

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                torch.set_num_threads(self._before)


_THREADS = _Threads()


@contextmanager
def fitting_threads(device: torch.device, voxels: int) -> Iterator[None]:
    """Choose the number of threads for volumes of so many voxels; restore it at the end.

    On a CUDA device the memory that became free is given back as well.
    """
    _THREADS.enter(single=device.type == "cpu" and voxels <= SINGLE_THREAD_VOXELS)
    try:
        yield
    finally:
        _THREADS.leave()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def bounding_box(mask: NDArray[Any], margin: int = 0) -> tuple[slice, slice, slice]:
    """Smallest box that holds every voxel of a non-empty `mask`, and `margin` more where it can."""
    extents = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        start, stop = int(occupied[0]) - margin, int(occupied[-1]) + 1 + margin
        extents.append(slice(max(0, start), min(stop, mask.shape[axis])))
    x, y, z = extents
    return x, y, z
