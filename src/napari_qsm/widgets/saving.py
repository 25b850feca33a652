"""Writing files in the background, and asking before anything is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QMessageBox, QWidget

from napari_qsm.acquisition import ExistsError
from napari_qsm.widgets import texts
from napari_qsm.widgets.background import run_function


def save_asking(
    parent: QWidget,
    write: Callable[[bool], list[Path]],
    *,
    on_done: Callable[[list[Path]], None],
    on_error: Callable[[Exception], None],
    overwrite: bool = False,
) -> None:
    """Call ``write(overwrite)`` in a thread; where files exist, ask and call it again.

    Parameters
    ----------
    parent : QWidget
        The widget that asks.
    write : callable
        Writes and returns the paths; raises `ExistsError` where it must not replace a file.
    on_done, on_error : callable
        Called with the paths or the error, on this thread.
    overwrite : bool
        Whether files may be replaced without a question.
    """

    def failed(error: Exception) -> None:
        if not isinstance(error, ExistsError):
            on_error(error)
            return
        question = f"{error}\n\nReplace what is there?"
        if QMessageBox.question(parent, texts.TITLE, question) == QMessageBox.StandardButton.Yes:
            save_asking(parent, write, on_done=on_done, on_error=on_error, overwrite=True)

    run_function(lambda: write(overwrite), on_done=on_done, on_error=failed)
