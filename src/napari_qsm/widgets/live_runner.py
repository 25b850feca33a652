"""Who computes what the slider asks for: a filter that follows it, or a solver that is restarted.

Both work in threads of their own, report on the main thread, and hold on to nothing when closed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_qsm.acquisition import Acquisition, FloatArray, Maps, Quantity
from napari_qsm.methods.registry import Method, Parameters
from napari_qsm.widgets.background import run_generator
from napari_qsm.workbench.job import Job, Progress
from napari_qsm.workbench.live import Frame, Live, Wish

PREVIEWS = 0.4
"""Seconds between two previews of a solver: whoever has just let go of a slider is looking."""


class FilterRunner:
    """Shows frames of a closed-form method for as long as there are wishes.

    Parameters
    ----------
    live : Live
        The field and the method.
    on_frame, on_error : callable
        Called on the main thread; never after `close`.
    """

    def __init__(
        self,
        live: Live,
        on_frame: Callable[[Frame], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.live = live
        self._on_frame, self._on_error = on_frame, on_error
        self._closed = False

    def wish(self, wish: Wish) -> None:
        """Show this next, instead of whatever was to be shown."""
        if self.live.wish(wish):
            run_generator(
                self.live.frames,
                on_step=self._arrived,
                on_done=lambda _: None,
                on_error=self._failed,
            )

    def close(self) -> None:
        """Show nothing any more and free everything."""
        self._closed = True
        self.live.close()

    def _arrived(self, _: object) -> None:
        # Where painting takes longer than computing, frames that nobody saw are left out.
        frame = self.live.take()
        if frame is not None and not self._closed:
            self._on_frame(frame)

    def _failed(self, error: Exception) -> None:
        if not self._closed:
            self._on_error(error)


@dataclass(frozen=True)
class Solved:
    """What a solver made.

    Parameters
    ----------
    method : Method
        Which one.
    acquisition : Acquisition
        Of what, without the susceptibility it may have started from.
    parameters : Parameters
        With which.
    maps : Maps
        What came out.
    residual : float or None
        ``|D chi - f| / |f|`` in the mask, for methods that tell.
    warm : bool
        Whether it started from an earlier map.
    """

    method: Method[Any]
    acquisition: Acquisition
    parameters: Parameters
    maps: Maps
    residual: float | None
    warm: bool

    @property
    def chi(self) -> FloatArray:
        """The susceptibility in ppm."""
        return self.maps[Quantity.CHI]


class SolverRunner:
    """Runs an iterative method for the newest parameters, from the last map it made.

    A newer request cancels the running one and starts as soon as that has ended, so that there are
    never two.

    Parameters
    ----------
    on_progress : callable
        Called with the parameters and the `Progress`, previews included.
    on_solved : callable
        Called with `Solved`, or with None when somebody cancelled and nothing follows.
    on_error : callable
        Called with what was raised.
    """

    def __init__(
        self,
        on_progress: Callable[[Parameters, Progress], None],
        on_solved: Callable[[Solved | None], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._on_progress, self._on_solved, self._on_error = on_progress, on_solved, on_error
        self._job: Job[Maps] | None = None
        self._waiting: Callable[[], None] | None = None
        self._last: Solved | None = None
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether something is being solved."""
        return self._job is not None

    def solve(
        self,
        acquisition: Acquisition,
        method: Method[Any],
        parameters: Parameters,
        device: torch.device,
    ) -> None:
        """Solve this next, instead of whatever is being solved."""
        self._waiting = lambda: self._start(acquisition, method, parameters, device)
        if self._job is None:
            self._next()
        else:
            self._job.cancel()

    def cancel(self) -> None:
        """Stop at the solver's next sign of life."""
        self._waiting = None
        if self._job is not None:
            self._job.cancel()

    def forget(self) -> None:
        """Stop, and never start from what was solved so far."""
        self.cancel()
        self._last = None

    def close(self) -> None:
        """Stop and report nothing any more."""
        self._closed = True
        self.forget()

    def _next(self) -> None:
        start, self._waiting = self._waiting, None
        if start is not None:
            start()

    def _start(
        self,
        acquisition: Acquisition,
        method: Method[Any],
        parameters: Parameters,
        device: torch.device,
    ) -> None:
        given, last = acquisition, self._last
        same = last is not None and last.method is method and last.acquisition is acquisition
        if warm := same and Quantity.CHI in method.uses:
            assert last is not None
            given = acquisition.with_volumes({Quantity.CHI: last.chi})
        job: Job[Maps] = Job(
            lambda: method(given, parameters, device), interval=0.05, preview_interval=PREVIEWS
        )
        job.wants_preview = True
        self._job = job

        def work() -> Generator[Progress, None, Solved | None]:
            maps = yield from job.run()
            if maps is None:
                return None
            residual = _residual(maps, acquisition)
            return Solved(method, acquisition, parameters, maps, residual, warm)

        run_generator(
            work,
            on_step=lambda progress: self._progressed(job, parameters, progress),
            on_done=lambda solved: self._finished(None if job.cancelled else solved),
            on_error=self._failed,
        )

    def _progressed(self, job: Job[Maps], parameters: Parameters, progress: Progress) -> None:
        if not self._closed and not job.cancelled:
            self._on_progress(parameters, progress)

    def _finished(self, solved: Solved | None) -> None:
        self._job = None
        if self._closed:
            return
        if solved is not None:
            self._last = solved
        if self._waiting is not None:
            self._next()
        else:
            self._on_solved(solved)

    def _failed(self, error: Exception) -> None:
        self._job = None
        if self._closed:
            return
        if self._waiting is not None:
            self._next()
        else:
            self._on_error(error)


def _residual(maps: Maps, acquisition: Acquisition) -> float | None:
    if Quantity.RESIDUAL not in maps:
        return None
    field = acquisition[Quantity.LOCAL_FIELD] * acquisition.mask
    size = float(np.linalg.norm(field))
    return float(np.linalg.norm(maps[Quantity.RESIDUAL] * acquisition.mask)) / size if size else 0.0
