"""A form generated from a method's parameter model: one row a field, nothing written by hand."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QWidget

from napari_qsm.methods.registry import Parameters
from napari_qsm.widgets.number import NumberControl


class ParameterForm(QWidget):
    """Controls for every field of a `Parameters` model.

    Parameters
    ----------
    parameters : Parameters
        The values to start from; its class decides the rows.
    """

    changed = Signal(str, object)

    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        self.controls: dict[str, QWidget] = {}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for attribute, field in type(parameters).model_fields.items():
            name = field.alias or attribute
            control = self._control(name, field, getattr(parameters, attribute))
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
        if get_origin(field.annotation) is Literal:
            combo = QComboBox()
            combo.addItems([str(choice) for choice in get_args(field.annotation)])
            combo.setCurrentText(str(value))
            combo.currentTextChanged.connect(lambda text: self.changed.emit(name, text))
            return combo
        if field.annotation in (int, float):
            low, high = number_range(field)
            whole = field.annotation is int
            number = NumberControl(value, low, high, log=is_log(field), whole=whole)
            number.value_changed.connect(
                lambda new: self.changed.emit(name, round(new) if whole else new)
            )
            return number
        raise TypeError(f"No control shows a parameter of type {field.annotation}.")


def row_label(name: str, field: FieldInfo) -> str:
    """Name and unit of a parameter as its row shows them."""
    unit = _extra(field).get("unit")
    return f"{name.replace('_', ' ')} [{unit}]" if unit else name.replace("_", " ")


def number_range(field: FieldInfo) -> tuple[float, float]:
    """Inclusive range of a numeric parameter.

    Raises
    ------
    TypeError
        If the model gives none: a slider needs both ends.
    """
    low = next((m.ge for m in field.metadata if isinstance(m, Ge)), None)
    high = next((m.le for m in field.metadata if isinstance(m, Le)), None)
    if low is None or high is None:
        raise TypeError("A numeric parameter needs a lowest and a highest value.")
    return float(low), float(high)  # type: ignore[arg-type]


def is_log(field: FieldInfo) -> bool:
    """Whether a parameter moves on a logarithmic scale."""
    return bool(_extra(field).get("log"))


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
