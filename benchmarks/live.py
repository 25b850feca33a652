"""How soon a closed-form method shows what a slider says: ``python -m benchmarks --live``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from benchmarks.tables import markdown
from benchmarks.timing import seconds, transform_pair
from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.methods.registry import Method, Parameters, methods
from napari_qsm.methods.workspace import PADDING
from napari_qsm.physics import fourier
from napari_qsm.process import number
from napari_qsm.workbench.live import LiveFilter

SHAPES = ((134, 166, 166), (102, 102, 102))
"""Boxes of a mask that, padded, are transformed at 168x210x210 and 128^3."""

REPETITIONS = 9


def box(shape: tuple[int, int, int]) -> Acquisition:
    """Noise in an ellipsoid that fills the box."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij", sparse=True)
    mask = sum(np.square(axis) for axis in axes) <= 1
    field = np.random.default_rng(0).normal(0, 0.01, shape).astype(np.float32) * mask
    return Acquisition(
        Grid(shape, np.eye(4)), {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask}, 3.0
    )


def values(method: Method[Parameters]) -> Iterable[Parameters]:
    """Yield parameters without end, each another value than the one before."""
    name = method.tuning
    known = number(method.parameters.model_fields[name])
    assert known is not None
    while True:
        for share in (0.4, 0.6):
            reach = known.high / known.low
            value = known.low * reach**share if known.log else known.high * share
            yield method.parameters.model_validate({name: value})


def live_table(shapes: Iterable[tuple[int, int, int]] = SHAPES) -> str:
    """Each look is timed right before a bare pair of transforms of the same volume."""
    rows = []
    closed = [method for method in methods().values() if method.symbol is not None]
    for shape in shapes:
        acquisition, size = box(shape), fourier.smooth_shape(shape, PADDING)
        volume, point = torch.randn(size), tuple(n // 2 for n in shape)
        for method in closed:
            live, other = LiveFilter(acquisition, method, torch.device("cpu")), values(method)
            looks: dict[str, Callable[[], object]] = {
                "three slices": lambda v=live, o=other, p=point: v.planes(next(o), p),
                "volume at half resolution": lambda v=live, o=other: v.volume(next(o), coarse=True),
                "volume": lambda v=live, o=other: v.volume(next(o)),
                "volume after its slices": lambda v=live: v.volume(v._made[0]),
            }
            for look, work in looks.items():
                work()
                own, pair = [], []
                for _ in range(REPETITIONS):
                    own.append(seconds(work))
                    pair.append(seconds(lambda v=volume: transform_pair(v)))
                rows.append(
                    (
                        "x".join(map(str, size)),
                        method.label,
                        look,
                        f"{1e3 * min(own):.0f}",
                        f"{1e3 * min(pair):.0f}",
                        f"{min(own) / min(pair):.2f}",
                    )
                )
    head = ("transform", "method", "shown", "ms, best", "rfftn + irfftn, ms", "in pairs")
    return markdown("From a new value to the numbers on show", head, rows)
