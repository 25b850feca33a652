"""Files, or a simulation, on their way to a raw measurement: in the background, the newest wins."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from napari_qsm.acquisition import Acquisition, InputError, Quantity
from napari_qsm.io.importer import Corrections, Measurement, Source, open_source
from napari_qsm.preparation.checks import Finding, inspect
from napari_qsm.widgets import texts
from napari_qsm.widgets.background import Latest, run_generator
from napari_qsm.workbench.job import Job
from napari_qsm.workbench.layers import LayerData
from napari_qsm.workbench.stage_layers import measured_layers


@dataclass(frozen=True, eq=False)
class Loaded:
    """A measurement that was read, with what was found in it and how it is shown.

    Parameters
    ----------
    acquisition : Acquisition or None
        None if it cannot be used; an error among the findings says why.
    findings : tuple[Finding, ...]
        What is wrong, suspicious or assumed.
    layers : mapping
        What is measured, as layers.
    again : bool
        Whether it is the same measurement as before, with other corrections.
    """

    acquisition: Acquisition | None
    findings: tuple[Finding, ...]
    layers: dict[Quantity, LayerData] = field(default_factory=dict)
    again: bool = False


def _looked_at(read: Callable[[], Acquisition], *, again: bool = False) -> Loaded:
    try:
        acquisition = read()
    except InputError as error:
        return Loaded(None, (Finding("error", str(error)),), again=again)
    return Loaded(acquisition, inspect(acquisition), measured_layers(acquisition), again)


class SourceReader(QObject):
    """Opens files, lists the measurements in them, and reads one.

    Attributes
    ----------
    listed : Signal
        The `Source`, once its files were looked at.
    loaded : Signal
        The `Loaded` measurement.
    progressed, failed, busy_changed : Signal
        The `Progress` of opening, a sentence, and whether files are being opened.
    """

    listed = Signal(object)
    loaded = Signal(object)
    progressed = Signal(object)
    failed = Signal(str)
    busy_changed = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.source: Source | None = None
        self.job: Job[Source] | None = None
        self._loads = Latest(self._failed)
        self._turn = 0  # which source a reading belongs to

    def open(self, paths: Sequence[Path]) -> None:
        """Look at files or a folder; what was opened before is closed once that succeeds."""
        if self.job is not None:
            return
        job: Job[Source] = Job(lambda: open_source(list(paths)))
        self.job = job
        self.busy_changed.emit(True)
        run_generator(
            job.run,
            on_step=self.progressed.emit,
            on_done=lambda source: self._opened(job, source),
            on_error=lambda error: self._failed_to_open(job, error),
        )

    def cancel(self) -> None:
        """Stop looking at files."""
        if self.job is not None:
            self.job.cancel()

    def read(
        self, measurement: Measurement, corrections: Corrections, *, again: bool = False
    ) -> None:
        """Read one of the measurements that were found."""
        source = self.source
        if source is not None:
            self._submit(lambda: source.load(measurement, corrections), again=again)

    def simulate(self, make: Callable[[], Acquisition]) -> None:
        """Take a measurement that a function makes, in place of files."""
        self._exchange(None)
        self._submit(make)

    def close(self) -> None:
        """Stop everything and remove temporary files; the reader is not used again."""
        self.cancel()
        self.job = None
        self._exchange(None)
        self.blockSignals(True)

    def _submit(self, read: Callable[[], Acquisition], *, again: bool = False) -> None:
        turn = self._turn

        def report(loaded: Loaded) -> None:
            if turn == self._turn:  # nobody has opened something else meanwhile
                self.loaded.emit(loaded)

        self._loads.submit(lambda: _looked_at(read, again=again), report)

    def _opened(self, job: Job[Source], source: Source | None) -> None:
        if self.job is not job:  # closed meanwhile: nobody else will remove temporary files
            if source is not None:
                source.close()
            return
        self._ended()
        if source is None:
            self.failed.emit(texts.CANCELLED)
            return
        self._exchange(source)
        self.listed.emit(source)

    def _failed_to_open(self, job: Job[Source], error: Exception) -> None:
        if self.job is job:
            self._ended()
            self._failed(error)

    def _ended(self) -> None:
        self.job = None
        self.busy_changed.emit(False)

    def _exchange(self, source: Source | None) -> None:
        self._loads.clear()
        self._turn += 1
        if self.source is not None:
            self.source.close()
        self.source = source

    def _failed(self, error: Exception) -> None:
        traceback.clear_frames(error.__traceback__)
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        self.failed.emit(text)
