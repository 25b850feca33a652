"""The *Export* button: a result as a script, a command, a paragraph, a table or a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Labels, Layer
from napari.utils.notifications import show_error, show_info
from qtpy.QtGui import QAction, QImage
from qtpy.QtWidgets import QApplication, QFileDialog, QMenu, QToolButton

from napari_qsm.acquisition import InputError, Maps, Quantity
from napari_qsm.io.label_names import read_label_names
from napari_qsm.widgets import export_texts as texts
from napari_qsm.widgets.background import run_function
from napari_qsm.widgets.picture import save_picture
from napari_qsm.workbench.layers import facts_of, maps_of, quantity_of, volume_of
from napari_qsm.workbench.report import as_command, as_python, methods_paragraph, result_table

if TYPE_CHECKING:
    from napari.components import ViewerModel


class ExportButton(QToolButton):
    """A button with a menu that acts on the selected result, else on the topmost one.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers hold results.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self.setText(texts.EXPORT)
        self.setToolTip(texts.EXPORT_TIP)
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        # napari draws the arrow of a menu over the text unless there is room for it.
        self.setStyleSheet("QToolButton { padding: 2px 16px 2px 6px; }")
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.copies = {
            text: self._copy_action(menu, text, tip, make, done)
            for text, tip, make, done in (
                (texts.PYTHON, texts.PYTHON_TIP, as_python, texts.PYTHON_DONE),
                (texts.COMMAND, texts.COMMAND_TIP, as_command, texts.COMMAND_DONE),
                (texts.METHODS, texts.METHODS_TIP, methods_paragraph, texts.METHODS_DONE),
            )
        }
        menu.addSeparator()
        self.table = menu.addAction(texts.TABLE)
        self.table.triggered.connect(lambda: self.save_table())
        self.screenshot = menu.addAction(texts.SCREENSHOT)
        self.screenshot.setToolTip(texts.SCREENSHOT_TIP)
        self.screenshot.triggered.connect(lambda: self.save_screenshot())
        menu.aboutToShow.connect(self.refresh)
        self.setMenu(menu)

    def _copy_action(
        self, menu: QMenu, text: str, tip: str, make: Callable[[Maps], str], done: str
    ) -> QAction:
        action = menu.addAction(text)
        action.setToolTip(tip)
        action.triggered.connect(lambda: self.copy(make, done))
        return action

    # -- what there is ----------------------------------------------------------------------

    @property
    def maps(self) -> Maps | None:
        """The maps of the selected result, else of the topmost one."""
        return maps_of(self._viewer.layers, self._viewer.layers.selection.active)

    @property
    def regions(self) -> Layer | None:
        """The selected Labels layer that is no mask, else the topmost one."""
        layers = self._viewer.layers
        selected = [layer for layer in layers if layer in layers.selection]
        for layer in (*selected, *reversed(layers)):
            # What was painted by hand has no quantity; labels that were opened have theirs.
            if isinstance(layer, Labels) and quantity_of(layer) in (None, Quantity.LABELS):
                return layer
        return None

    def refresh(self) -> None:
        """Enable what can be done now."""
        there = self.maps is not None
        for action in self.copies.values():
            action.setEnabled(there)
        self.table.setEnabled(there and self.regions is not None)
        self.table.setToolTip(texts.TABLE_TIP if self.regions is not None else texts.TABLE_NONE)
        self.screenshot.setEnabled(hasattr(self._viewer, "screenshot"))

    # -- doing it ---------------------------------------------------------------------------

    def copy(self, make: Callable[[Maps], str], done: str) -> None:
        """Put what `make` says of the result on the clipboard, and say so."""
        maps = self.maps
        if maps is None:
            show_error(texts.NO_RESULT)
            return

        def put(text: str) -> None:
            QApplication.clipboard().setText(text)
            show_info(done.format(maps.provenance.method))

        run_function(lambda: make(maps), on_done=put, on_error=_say)

    def save_table(self, path: Path | None = None) -> None:
        """Write the regions of the result to a CSV file; ask where to, unless a path is given."""
        maps, layer = self.maps, self.regions
        if maps is None or layer is None:
            show_error(texts.NO_RESULT if maps is None else texts.TABLE_NONE)
            return
        if path is None:
            chosen, _ = QFileDialog.getSaveFileName(self, texts.TABLE, "regions.csv", "CSV (*.csv)")
            if not chosen:
                return
            path = Path(chosen)
        beside = next((one for one in self._viewer.layers if _shows(one, maps)), None)
        target = path if path.suffix.lower() == ".csv" else path.with_name(f"{path.name}.csv")

        def write() -> Path:
            volume = volume_of(layer, beside)
            if mismatch := maps.grid.mismatch(volume.grid):
                raise InputError(
                    f"The layer '{layer.name}' {mismatch}; choose labels on the grid of the result."
                )
            table = result_table(maps, volume.data, names=read_label_names(volume.source))
            target.write_text(table, encoding="utf-8")
            return target

        run_function(
            write,
            on_done=lambda at: show_info(texts.TABLE_DONE.format(maps.provenance.method, at)),
            on_error=_say,
        )

    def save_screenshot(self, path: Path | None = None) -> None:
        """Save the canvas as a PNG image; ask where to, unless a path is given."""
        save_picture(self, self._picture, path)

    def _picture(self) -> QImage:
        pixels = self._viewer.screenshot(canvas_only=True, flash=False)
        height, width = pixels.shape[:2]
        return QImage(pixels.tobytes(), width, height, QImage.Format.Format_RGBA8888).copy()


def _shows(layer: Layer, maps: Maps) -> bool:
    return (facts_of(layer) or {}).get("maps") is maps


def _say(error: Exception) -> None:
    """Show an error as one sentence."""
    known = isinstance(error, InputError | OSError)
    show_error(str(error) if known else f"{type(error).__name__}: {error}")
