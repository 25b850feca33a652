"""Long computations beside a generator: it keeps reporting while they run, and can stop them.

A pass of a network takes seconds and cannot pause. It runs in a thread of its own, which torch
leaves without Python's lock, while the generator looks every few hundredths of a second whether it
is done. When the generator is closed, the pass ends at the next layer, on the way back as well;
nobody waits for a layer that takes longer than `PATIENCE`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

INTERVAL = 0.05
"""Seconds between two looks."""

PATIENCE = 0.15
"""Seconds that closing waits for the layer at work; beyond, it ends and frees its memory alone."""


class _Stopped(Exception):
    """The generator was closed; nobody waits for the result."""


def in_background(function: Callable[[], T], *modules: nn.Module) -> Generator[None, None, T]:
    """Run `function` in a thread; yield while it works and return its result.

    Parameters
    ----------
    function : callable
        Without arguments. What must be set for each thread (gradients off, autocast) it sets
        itself.
    modules : nn.Module
        Networks that it passes through, forwards or backwards: at their layers it can be stopped.

    Raises
    ------
    Exception
        Whatever `function` raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    stop, done = threading.Event(), threading.Event()
    threads = torch.get_num_threads()

    def run() -> None:
        torch.set_num_threads(threads)  # OpenMP counts for every thread of its own
        try:
            with _stoppable(modules, stop):
                results.append(function())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="napari-qsm network", daemon=True).start()
    try:
        while not done.wait(INTERVAL):
            yield
    finally:
        stop.set()
        done.wait(PATIENCE)
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def _stoppable(modules: tuple[nn.Module, ...], stop: threading.Event) -> Iterator[None]:
    """Let every layer without parts of its own look at `stop`, on both ways."""

    def forwards(*_: Any) -> None:
        if stop.is_set():
            raise _Stopped

    def backwards(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(forwards)

    handles = []
    for module in modules:
        for layer in module.modules():
            if not list(layer.children()):
                handles.append(layer.register_forward_pre_hook(forwards))
                handles.append(layer.register_forward_hook(backwards))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
