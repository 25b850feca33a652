"""Slow work away from the main thread.

superqt's workers are used, not napari's: napari keeps every worker it ever made, with its
arguments, for the life of the window.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtCore import QThread
from superqt.utils import create_worker


def give_way() -> None:
    """Let the window go first: lower the priority of this thread and of those it starts.

    Threads of a numerical library inherit it. Linux gives each thread a niceness of its own, which
    Qt's priorities do not touch; elsewhere Qt's are what there is.
    """
    QThread.currentThread().setPriority(QThread.Priority.LowPriority)
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(19, os.getpriority(os.PRIO_PROCESS, thread)))


def run_generator(
    generator: Callable[[], Generator[Any, None, Any]],
    *,
    on_step: Callable[[Any], None],
    on_done: Callable[[Any], None],
    on_error: Callable[[Exception], None],
) -> Any:
    """Iterate a generator in a thread; steps, return value and error arrive on this thread."""

    def pump() -> Generator[Any, None, Any]:
        give_way()
        return (yield from generator())

    worker = create_worker(pump, _start_thread=False, _ignore_errors=True)
    worker.yielded.connect(on_step)
    worker.returned.connect(on_done)
    worker.errored.connect(on_error)
    worker.start()
    return worker


def run_function(
    function: Callable[[], Any],
    *,
    on_done: Callable[[Any], None],
    on_error: Callable[[Exception], None],
) -> Any:
    """Call a function in a thread; its value or error arrives on this thread."""

    def call() -> Any:
        give_way()
        return function()

    worker = create_worker(call, _start_thread=False, _ignore_errors=True)
    worker.returned.connect(on_done)
    worker.errored.connect(on_error)
    worker.start()
    return worker


class Latest:
    """Runs functions in the background, one at a time, and reports only the newest.

    While one runs, a newer one waits and replaces whatever waited before it.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._running = False
        self._waiting: tuple[Callable[[], Any], Callable[[Any], None]] | None = None

    def submit(self, function: Callable[[], Any], on_done: Callable[[Any], None]) -> None:
        """Run `function` and hand its value to `on_done`, unless a newer submission comes."""
        self._waiting = (function, on_done)
        if not self._running:
            self._next()

    @property
    def busy(self) -> bool:
        """Whether something runs or waits."""
        return self._running or self._waiting is not None

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting = None

    def _next(self) -> None:
        if self._waiting is None:
            return
        (function, on_done), self._waiting = self._waiting, None
        self._running = True
        run_function(
            function,
            on_done=lambda value: self._finished(lambda: on_done(value)),
            on_error=lambda error: self._finished(lambda: self._on_error(error)),
        )

    def _finished(self, report: Callable[[], None]) -> None:
        self._running = False
        if self._waiting is None:
            report()
        else:
            self._next()
