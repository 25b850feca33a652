"""Presets and results of the preparation on their way to and from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QWidget,
)

from napari_qsm.acquisition import InputError
from napari_qsm.io.derivatives import stem_of, write_derivatives
from napari_qsm.pipeline import Recipe, presets, read_preset
from napari_qsm.widgets import texts
from napari_qsm.widgets.reconstruct import dock_of
from napari_qsm.widgets.saving import save_asking
from napari_qsm.workbench.preparation import Preparation

if TYPE_CHECKING:
    from napari.components import ViewerModel

_FILTER = "Preset (*.toml);;All files (*)"


class PrepareFiles(QWidget):
    """Buttons that load and save a preset and save results.

    A preset holds the whole chain: what is chosen in the Reconstruct dock of the same viewer is
    saved with it and set by it.

    Attributes
    ----------
    name : str
        What results are called: the name of the measurement.
    """

    failed = Signal(str)
    said = Signal(str)

    def __init__(self, viewer: ViewerModel, preparation: Preparation) -> None:
        super().__init__()
        self._viewer, self._preparation = viewer, preparation
        self.name = ""
        self.load_button = self._button(texts.LOAD_PRESET, texts.LOAD_PRESET_TIP)
        self.load_button.setMenu(self._menu())
        self.save_button = self._button(texts.SAVE_PRESET, texts.SAVE_PRESET_TIP)
        self.save_button.clicked.connect(self._ask_and_save_preset)
        self.results_button = self._button(texts.SAVE_RESULTS, texts.SAVE_RESULTS_TIP)
        self.results_button.clicked.connect(self._ask_and_save)
        self.results_button.setEnabled(False)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        for button in (self.load_button, self.save_button, self.results_button):
            line.addWidget(button, 1)

    @staticmethod
    def _button(words: str, tip: str) -> QPushButton:
        button = QPushButton(words)
        button.setToolTip(tip)
        return button

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        for name in presets():
            menu.addAction(name, lambda _=False, name=name: self.load_preset(name))
        menu.addSeparator()
        menu.addAction(texts.LOAD_PRESET_FILE, self._ask_and_load)
        return menu

    def show_ready(self) -> None:
        """Offer to save results where there are some that hold."""
        self.results_button.setEnabled(self._preparation.complete)

    # -- presets ----------------------------------------------------------------------------

    def _ask_and_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, texts.LOAD_PRESET_TIP, "", _FILTER)
        if path:
            self.load_preset(Path(path))

    def load_preset(self, preset: str | Path) -> None:
        """Take all choices from a shipped preset or a file, for both docks."""
        try:
            recipe = read_preset(preset)
        except InputError as error:
            self.failed.emit(str(error))
            return
        self._preparation.use_recipe(recipe)
        if (dock := dock_of(self._viewer)) is not None:
            dock.use(recipe)
        self.said.emit(f"The preset '{Path(preset).stem}' is chosen.")

    def _ask_and_save_preset(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, texts.SAVE_PRESET_TIP, "preset.toml", _FILTER)
        if path:
            self.save_preset(Path(path))

    def save_preset(self, path: Path) -> None:
        """Save all choices; the dialog has asked already whether a file may be replaced."""
        try:
            path.write_text(self._recipe().to_toml(), encoding="utf-8")
        except (InputError, OSError) as error:
            self.failed.emit(f"The preset could not be saved: {error}")
            return
        self.said.emit(f"Saved {path}.")

    def _recipe(self) -> Recipe:
        recipe = self._preparation.recipe
        dock = dock_of(self._viewer)
        return recipe if dock is None else dock.completed(recipe)

    # -- results ----------------------------------------------------------------------------

    def _ask_and_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, texts.SAVE_RESULTS_TIP)
        if folder:
            self.save(Path(folder))

    def save(self, folder: Path) -> None:
        """Save what was prepared as BIDS derivatives; asks before it replaces anything."""
        preparation, recipe, stem = self._preparation, self._recipe(), stem_of(self.name)
        save_asking(
            self,
            lambda again: write_derivatives(
                preparation.prepared(), None, recipe, folder, stem=stem, overwrite=again
            ),
            on_done=lambda paths: self.said.emit(f"Saved {len(paths)} files to {folder}."),
            on_error=lambda error: self.failed.emit(str(error)),
        )
