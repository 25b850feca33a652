"""Saving what is on the screen as a PNG image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari.utils.notifications import show_error, show_info
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_qsm.widgets import compare_texts as texts
from napari_qsm.widgets.background import run_function


def save_picture(
    parent: QWidget, take: Callable[[], QPixmap | QImage], path: Path | None = None
) -> None:
    """Take a picture and write it in the background; ask where to, unless a path is given."""
    picture = take()  # before a dialogue covers it
    image = picture.toImage() if isinstance(picture, QPixmap) else picture
    if path is None:
        chosen, _ = QFileDialog.getSaveFileName(parent, texts.SCREENSHOT, "", "PNG (*.png)")
        if not chosen:
            return
        path = Path(chosen)
    path = path if path.suffix.lower() == ".png" else path.with_name(path.name + ".png")

    def write() -> Path:
        if not image.save(str(path), "PNG"):
            raise OSError(f"The picture could not be written to {path}.")
        return path

    run_function(
        write,
        on_done=lambda done: show_info(texts.SAVED.format(done)),
        on_error=lambda error: show_error(str(error)),
    )
