"""A running piece of work as seen from outside: progress, time left, preview, cancel.

The job runs wherever its generator is iterated (a worker thread, a command line, a test). It
forwards only as many signs of life as a person can follow, and it alone closes the method's
generator, so that the `finally` of the method runs in the thread that owns its tensors.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from napari_qsm.acquisition import FloatArray
from napari_qsm.process import Step

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """What a watcher of a job needs to know.

    Parameters
    ----------
    fraction : float
        Part of the work that is done, 0 to 1.
    message : str
        Stage and iteration in words.
    seconds : float
        Time since the start.
    remaining : float or None
        Estimated seconds to the end; None before there is anything to estimate from.
    preview : array or None
        Current estimate of chi in ppm, when a preview was asked for and is due.
    values : mapping of str to float
        The method's own figures, such as the relative change: the last ones it told.
    """

    fraction: float
    message: str
    seconds: float
    remaining: float | None
    preview: FloatArray | None
    values: Mapping[str, float]


class Job(Generic[T]):
    """Runs one generator of steps, a reconstruction or a stage, and reports on it.

    Parameters
    ----------
    start : callable
        Makes the generator; called in the thread that runs the job.
    interval : float
        Seconds between two reports.
    preview_interval : float
        Seconds between two previews.
    """

    def __init__(
        self,
        start: Callable[[], Generator[Step, None, T]],
        *,
        interval: float = 0.1,
        preview_interval: float = 0.7,
    ) -> None:
        self._start: Callable[[], Generator[Step, None, T]] | None = start
        self._interval = interval
        self._preview_interval = preview_interval
        self._cancelled = threading.Event()
        self.wants_preview = False

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked the job to stop."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask the job to stop at its next sign of life; callable from any thread."""
        self._cancelled.set()

    def run(self) -> Generator[Progress, None, T | None]:
        """Run to the end and return what was made, or None when cancelled.

        Whatever way it ends, the generator is closed and the job forgets it.
        """
        start, self._start = self._start, None
        if start is None:
            raise RuntimeError("A job runs once; make a new one.")
        steps = start()
        del start
        began = reported = previewed = time.perf_counter()
        values: Mapping[str, float] = {}
        try:
            while not self.cancelled:
                try:
                    step = next(steps)
                except StopIteration as stop:
                    made: T = stop.value
                    return made
                values = step.values or values  # a step that is not reported may tell them
                now = time.perf_counter()
                if now - reported < self._interval:
                    continue
                reported = now
                preview = None
                due = now - previewed > self._preview_interval and not self.cancelled
                if self.wants_preview and step.preview and due:
                    preview, previewed = step.preview(), now
                yield _progress(replace(step, values=values), now - began, preview)
            return None
        finally:
            steps.close()


def _progress(step: Step, seconds: float, preview: FloatArray | None) -> Progress:
    fraction = min(max(step.fraction, 0.0), 1.0)
    remaining = seconds * (1 - fraction) / fraction if fraction > 0.02 else None
    return Progress(fraction, step.message, seconds, remaining, preview, step.values)
