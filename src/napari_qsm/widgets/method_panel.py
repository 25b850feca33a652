"""Choose a method, read what it does, set its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.methods.direct import DISCLAIMER
from napari_qsm.methods.registry import Method
from napari_qsm.widgets import texts
from napari_qsm.widgets.parameters import ParameterForm
from napari_qsm.widgets.wrapper_row import WrapperRow
from napari_qsm.workbench.session import Workbench


class MethodPanel(QWidget):
    """The list of methods with their summaries, what is put around, and the form of all that.

    Attributes
    ----------
    refused, changed : Signal
        A value was refused, with the reason; one was taken.
    """

    refused = Signal(str)
    changed = Signal()

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self.combo = QComboBox()
        self.combo.setToolTip(texts.METHOD)
        self._fill(workbench.methods.values())
        self.wrappers = WrapperRow()
        self.reset_button = QToolButton()
        self.reset_button.setText("↺")
        self.reset_button.setToolTip(texts.RESET)
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.summary.setOpenExternalLinks(True)
        self.form: ParameterForm | None = None

        top = QHBoxLayout()
        top.addWidget(self.combo, 1)
        top.addWidget(self.reset_button)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addLayout(top)
        self._layout.addWidget(self.wrappers)
        self._layout.addWidget(self.summary)

        self.combo.currentIndexChanged.connect(lambda _: self._choose())
        self.wrappers.changed.connect(workbench.choose_wrappers)
        self.reset_button.clicked.connect(workbench.reset_parameters)
        workbench.method_changed.connect(self.show_method)
        self.show_method(workbench.method)

    def _fill(self, methods: Iterable[Method[Any]]) -> None:
        """List methods under the headings of their groups, which cannot be chosen."""
        grouped: dict[str, list[Method[Any]]] = {}
        for method in methods:
            grouped.setdefault(method.group, []).append(method)
        model = self.combo.model()
        assert isinstance(model, QStandardItemModel)
        for group, members in grouped.items():
            if len(grouped) > 1:
                self.combo.addItem(group)
                model.item(self.combo.count() - 1).setEnabled(False)
            for method in members:
                self.combo.addItem(method.label, method.key)
                where = self.combo.count() - 1
                self.combo.setItemData(where, help_of(method), Qt.ItemDataRole.ToolTipRole)

    def _choose(self) -> None:
        """Take the method that was picked, in the wrappers there were, as far as they fit."""
        self._workbench.change_method(self.combo.currentData())

    def show_method(self, key: str) -> None:
        """Show the summary, references and parameters of a method, and what is around it."""
        bench = self._workbench
        method, plain = bench.chosen, bench.methods[bench.unwrapped]
        links = ", ".join(
            f'<a href="https://doi.org/{doi}" style="color:#7aa7d8">{doi}</a>'
            for doi in method.references
        )
        self.summary.setToolTip(help_of(plain))
        self.summary.setText(f"{plain.summary} <span style='color:gray'>({links})</span>")
        with QSignalBlocker(self.combo):
            self.combo.setCurrentIndex(self.combo.findData(plain.key))
        self.wrappers.show_wrappers(bench.wrappers, plain)
        if self.form is not None:
            self._layout.removeWidget(self.form)
            self.form.hide()  # it goes with the next round of events, which may be long in coming
            self.form.deleteLater()
        self.form = ParameterForm(self._workbench.parameters)
        self.form.changed.connect(self._set)
        self._layout.addWidget(self.form)

    def _set(self, name: str, value: object) -> None:
        try:
            self._workbench.set_parameter(name, value)
        except InputError as error:
            self.refused.emit(str(error))
            return
        self.changed.emit()


def help_of(method: Method[Any]) -> str:
    """Return what is said of a method under the mouse, and what its uncertainty is not."""
    caution = f"<p>{DISCLAIMER}</p>" if Quantity.SIGMA in method.gives else ""
    return f"<p>{method.summary}</p>{caution}"
