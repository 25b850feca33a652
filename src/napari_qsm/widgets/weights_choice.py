"""Choose the trained weights of a network, and read what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QToolButton, QWidget

from napari_qsm.acquisition import InputError
from napari_qsm.networks import weights
from napari_qsm.networks.weights import Card

FOLDER_TIP = "Open the folder for weights of your own: a pair of files put there is offered here."
_LONGEST = 22
"""Characters of a title that ask for room; what is longer is cut and told in the tooltip."""


class WeightsChoice(QWidget):
    """A list of weights by key and title; tooltips tell what their cards do.

    Parameters
    ----------
    keys : iterable of str
        Of the weights that are offered.
    chosen : str
        Which one is chosen; shown even if there are no such weights.

    Attributes
    ----------
    changed : Signal
        Emitted with the key of the weights.
    """

    changed = Signal(str)

    def __init__(self, keys: Iterable[str], chosen: str) -> None:
        super().__init__()
        self.combo = QComboBox()
        self.combo.setMinimumContentsLength(_LONGEST)
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.combo.setSizeAdjustPolicy(policy)
        for index, key in enumerate(dict.fromkeys((*keys, chosen))):
            name, tip = described(key)
            self.combo.addItem(name, key)
            self.combo.setItemData(index, tip, Qt.ItemDataRole.ToolTipRole)
        self.combo.setCurrentIndex(self.combo.findData(chosen))
        self.folder = QToolButton()
        self.folder.setText("…")
        self.folder.setToolTip(FOLDER_TIP)
        self.folder.clicked.connect(open_folder)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo, 1)
        layout.addWidget(self.folder)
        self.combo.currentIndexChanged.connect(self._choose)
        self._show_tip()

    @property
    def value(self) -> str:
        """The key of the chosen weights."""
        return str(self.combo.currentData())

    def _choose(self, _: int) -> None:
        self._show_tip()
        self.changed.emit(self.value)

    def _show_tip(self) -> None:
        self.combo.setToolTip(self.combo.currentData(Qt.ItemDataRole.ToolTipRole))


def open_folder() -> None:
    """Show the user's folder of weights in the file manager, making it if need be."""
    folder = weights.user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))


def described(key: str) -> tuple[str, str]:
    """Return how weights are called in a list, and what is told of them (rich text)."""
    try:
        card = weights.find(key)
    except InputError as error:
        return f"{key} · not there", f"<p>{escape(str(error))}</p>"
    return f"{key} · {card.title}", told(card)


def told(card: Card) -> str:
    """Return what a card says of its weights as rich text."""
    small, large = card.voxel_size
    lines = {
        "Made for": f"voxels of {small:.3g} to {large:.3g} mm, B0 tilted by {card.tilt:.3g}° "
        "at most; others are resampled",
        "Trained": _trained(card.training),
        "Held-out figures": ", ".join(f"{k} {v}" for k, v in card.metrics.items()),
        "Sigma": f"times {card.calibration:.3g}" if card.design.uncertain else "none",
        "Limits": card.limits,
        "Licence": card.licence,
    }
    rows = "".join(f"<p><b>{k}:</b> {escape(v)}</p>" for k, v in lines.items() if v)
    return f"<p><b>{escape(card.title)}</b></p>{rows}"


def _trained(training: Mapping[str, Any]) -> str:
    """Say how long and on what weights were trained, as far as the card knows."""
    parts = [f"{training['steps']} steps" if "steps" in training else ""]
    parts.append(f"on {training['device']}" if "device" in training else "")
    parts.append("on synthetic heads only" if "recipe" in training else "")
    return " ".join(part for part in parts if part)
