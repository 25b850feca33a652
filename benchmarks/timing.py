"""Wall times, and the pair of transforms they are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from napari_qsm.acquisition import Acquisition
from napari_qsm.physics import fourier

T = TypeVar("T")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def anew(measured: Acquisition) -> Acquisition:
    """Return the same measurement in volumes of its own, of which nothing has been found out yet.

    What follows from volumes, such as their noise, is computed once (`napari_qsm.methods.facts`): a
    repeated solve of the same ones would not be from nothing.
    """
    return measured.with_volumes({q: volume.copy() for q, volume in measured.volumes.items()})


def finished(steps: Generator[Any, None, T]) -> tuple[T, float]:
    """Run to the end; what was made, and the seconds it took."""
    began = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, time.perf_counter() - began


def transform_pair(volume: Tensor) -> None:
    """Transform there and back: what everything is compared with."""
    fourier.volume(fourier.spectrum(volume), volume.shape)


class Transforms(TorchFunctionMode):
    """Counts pairs of transforms of volumes while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = 0.0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Pass on every call; an ``irfft`` ends what an ``ifftn`` has begun."""
        if func in (torch.fft.rfftn, torch.fft.irfftn, torch.fft.irfft):
            self.pairs += 0.5
        return func(*args, **(kwargs or {}))
