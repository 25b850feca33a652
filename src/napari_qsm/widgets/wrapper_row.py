"""What is put around the method: one check box for each wrapper there is."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QWidget

from napari_qsm.methods.registry import Method
from napari_qsm.methods.wrapping import wrappers


class WrapperRow(QWidget):
    """Check boxes that are made from the registered wrappers, in their order.

    Two passes come before the uncertainty, so that it is that of both of them.
    """

    changed = Signal(tuple)

    def __init__(self) -> None:
        super().__init__()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.boxes: dict[str, QCheckBox] = {}
        known = wrappers().values()
        for wrapper in sorted(known, key=lambda w: len(w.gives)):  # what gives more goes outside
            box = QCheckBox(wrapper.label.capitalize())
            box.setToolTip(f"<p>{wrapper.summary}</p>")
            box.toggled.connect(lambda _: self.changed.emit(self.keys))
            self.boxes[wrapper.key] = box
            layout.addWidget(box)
        layout.addStretch(1)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the ticked wrappers, the innermost first."""
        return tuple(key for key, box in self.boxes.items() if box.isChecked())

    def show_wrappers(self, keys: tuple[str, ...], method: Method[Any]) -> None:
        """Tick what is around a method; grey what cannot be."""
        known = wrappers()
        for key, box in self.boxes.items():
            box.setEnabled(known[key].fits(method))
            with QSignalBlocker(box):
                box.setChecked(key in keys)
