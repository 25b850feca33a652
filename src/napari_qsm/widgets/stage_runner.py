"""Runs the stages of a preparation one after the other, each in a thread of its own."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from qtpy.QtCore import QObject, QTimer, Signal

from napari_qsm.acquisition import InputError, Maps, Quantity
from napari_qsm.preparation.registry import Place
from napari_qsm.widgets import texts
from napari_qsm.widgets.background import run_generator
from napari_qsm.workbench.preparation import Preparation
from napari_qsm.workbench.stage_layers import made_layers

if TYPE_CHECKING:
    from napari_qsm.workbench.job import Progress


class StageRunner(QObject):
    """Brings everything up to date that is not, and what changes meanwhile once more.

    Parameters
    ----------
    preparation : Preparation
        What is to be brought up to date.
    device : callable
        Says where to run.
    settled : callable
        Says whether what was made is on show: the next stage waits for that, since new layers are
        work for the main thread, which would otherwise have to share Python with it.

    Attributes
    ----------
    progressed : Signal
        The `Progress` of the whole.
    made : Signal
        A place and the layers that show what its stage made.
    running_changed : Signal
        Whether something runs.
    ended : Signal
        Why it ended early (cancelled, no such device); empty if all was done that could be.
    """

    progressed = Signal(object)
    made = Signal(object, object)
    running_changed = Signal(bool)
    ended = Signal(str)

    def __init__(
        self,
        preparation: Preparation,
        device: Callable[[], torch.device],
        settled: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__()
        self._preparation, self._device, self._settled = preparation, device, settled
        self._soon = QTimer(self)
        self._soon.setInterval(5)
        self._soon.timeout.connect(self._next_when_settled)
        self._again = self._stopped = False
        self.running = False
        self.ran: list[Place] = []
        preparation.changed.connect(self._give_up_what_is_outdated)

    def start(self) -> None:
        """Begin, unless something runs."""
        if not self.running:
            self.ran, self.running = [], True
            self._again = self._stopped = False
            self._preparation.retry()
            self.running_changed.emit(True)
            self._next()

    def cancel(self) -> None:
        """Ask the running stage to stop, and start no other."""
        self._stopped = True
        if self._preparation.job is not None:
            self._preparation.job.cancel()

    def close(self) -> None:
        """Cancel, and tell nobody any more (the dock closes)."""
        self.cancel()
        with suppress(RuntimeError):  # Qt's side may be gone already
            self._soon.stop()
            self.blockSignals(True)

    def _give_up_what_is_outdated(self) -> None:
        bench = self._preparation
        if bench.outdated and bench.job is not None and not bench.job.cancelled:
            self._again = True
            bench.job.cancel()

    def _next(self) -> None:
        if self._stopped:
            self._end(texts.CANCELLED)
            return
        place = self._preparation.next_stale()
        if place is None:
            self._end("")
            return
        try:
            job = self._preparation.start(place, self._device())
        except InputError as error:
            self._end(str(error))
            return
        stage, measured = self._preparation.running_stage, self._preparation.acquisition
        assert stage is not None
        assert measured is not None

        def work() -> Any:
            maps = yield from job.run()
            # Windows and ranges need a look at all voxels, which is no work for the main thread.
            return maps, made_layers(stage, maps, measured.notes) if maps is not None else {}

        run_generator(work, on_step=self._progressed, on_done=self._made, on_error=self._broke)

    def _progressed(self, progress: Progress) -> None:
        place = self._preparation.running
        if place is None:
            return
        done = len(self.ran)
        whole = done + max(self._preparation.count_stale(), 1)
        self.progressed.emit(
            replace(
                progress,
                fraction=(done + progress.fraction) / whole,
                message=f"{place.label} ({done + 1} of {whole}): {progress.message}",
            )
        )

    def _made(self, outcome: tuple[Maps | None, dict[Quantity, Any]]) -> None:
        maps, layers = outcome
        place = self._preparation.running
        if place is None:
            return
        self._stopped |= maps is None and not self._again
        self._again = False
        if self._preparation.finish(place, maps):
            self.ran.append(place)
            self.made.emit(place, layers)
        self._soon.start()

    def _next_when_settled(self) -> None:
        if self._settled():
            self._soon.stop()
            self._next()

    def _broke(self, error: Exception) -> None:
        # The frames of the traceback hold the arrays of the failed stage.
        traceback.clear_frames(error.__traceback__)
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        if (place := self._preparation.running) is not None:
            self._preparation.fail(place, text)
        self._next()

    def _end(self, text: str) -> None:
        self.running = False
        self.running_changed.emit(False)
        self.ended.emit(text)
