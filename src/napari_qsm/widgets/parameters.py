"""A form generated from a method's parameter model: one row a field, nothing written by hand."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QWidget,
)

from napari_qsm import process
from napari_qsm.widgets import texts
from napari_qsm.widgets.number import NumberControl
from napari_qsm.widgets.weights_choice import WeightsChoice
from napari_qsm.workbench.adapting import chooses_network


class OptionalNumber(QWidget):
    """A number that is chosen from the data until somebody takes it over."""

    value_changed = Signal(object)

    def __init__(self, value: float | None, number: process.Number) -> None:
        super().__init__()
        self.control = number_control(number.typical if value is None else value, number)
        self.auto = QCheckBox("auto")
        self.auto.setToolTip(texts.AUTO)
        self.auto.setChecked(value is None)
        self.control.setEnabled(value is not None)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.auto)
        layout.addWidget(self.control, 1)
        self.auto.toggled.connect(self._toggle)
        self.control.value_changed.connect(lambda new: self.value_changed.emit(new))

    @property
    def value(self) -> float | None:
        """The number, or None while it is chosen from the data."""
        return None if self.auto.isChecked() else self.control.value

    def _toggle(self, auto: bool) -> None:
        self.control.setEnabled(not auto)
        self.value_changed.emit(self.value)


def number_control(value: float, number: process.Number) -> NumberControl:
    """Make the slider and text of a numeric parameter."""
    return NumberControl(value, number.low, number.high, log=number.log, whole=number.whole)


class ParameterForm(QWidget):
    """Controls for every field of a `Parameters` model.

    Parameters
    ----------
    parameters : Parameters
        The values to start from; its class decides the rows.
    """

    changed = Signal(str, object)

    def __init__(self, parameters: process.Parameters) -> None:
        super().__init__()
        self.controls: dict[str, QWidget] = {}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, field in type(parameters).model_fields.items():
            control = self._control(name, field, getattr(parameters, name))
            label = QLabel(row_label(name, field))
            for part in (label, control):
                part.setToolTip(f"<p>{field.description}</p>")
            self.controls[name] = control
            layout.addRow(label, control)

    def _control(self, name: str, field: FieldInfo, value: Any) -> QWidget:
        if field.annotation is bool:
            box = QCheckBox()
            box.setChecked(value)
            box.toggled.connect(lambda on: self.changed.emit(name, on))
            return box
        if chooses_network(name, field):
            weights = WeightsChoice(process.choices(field) or (), value)
            weights.changed.connect(lambda key: self.changed.emit(name, key))
            return weights
        if (choices := process.choices(field)) is not None:
            combo = QComboBox()
            combo.addItems(list(dict.fromkeys((*choices, str(value)))))
            combo.setCurrentText(str(value))
            combo.currentTextChanged.connect(lambda text: self.changed.emit(name, text))
            return combo
        if field.annotation is str:
            line = QLineEdit(value)
            line.editingFinished.connect(lambda: self.changed.emit(name, line.text()))
            return line
        number = process.number(field)
        if number is None:
            raise TypeError(f"No control shows a parameter of type {field.annotation}.")
        control: OptionalNumber | NumberControl
        control = (
            OptionalNumber(value, number) if number.optional else number_control(value, number)
        )
        whole = number.whole
        control.value_changed.connect(
            lambda new: self.changed.emit(name, round(new) if whole and new is not None else new)
        )
        return control


def row_label(name: str, field: FieldInfo) -> str:
    """Name, as researchers say it, and unit of a parameter as its row shows them."""
    words = process.spoken(name, field).replace("_", " ")
    return f"{words} [{unit}]" if (unit := process.unit(field)) else words
