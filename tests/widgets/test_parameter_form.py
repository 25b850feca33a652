"""Every method's form shows its shipped values, its ranges and its help, and changes one thing."""

from typing import Literal

import pytest
from qtpy.QtWidgets import QCheckBox, QComboBox

from napari_qsm.methods.registry import Parameters, methods, parameter
from napari_qsm.process import number
from napari_qsm.widgets.number import NumberControl
from napari_qsm.widgets.parameters import OptionalNumber, ParameterForm


class Example(Parameters):
    strength: float = parameter(1e-3, "How strong.", low=1e-6, high=1.0, log=True)
    rounds: int = parameter(10, "How often.", low=1, high=99)
    variant: Literal["clamped", "zeroed"] = parameter("clamped", "Which one.")
    guessed: float | None = parameter(None, "By itself.", low=0.1, high=10.0, typical=2.0)
    careful: bool = parameter(True, "Whether to take care.")


@pytest.fixture
def form(qtbot):
    made = ParameterForm(Example())
    qtbot.addWidget(made)
    return made


def test_each_field_gets_the_control_of_its_type(form):
    assert isinstance(form.controls["strength"], NumberControl)
    assert isinstance(form.controls["rounds"], NumberControl)
    assert isinstance(form.controls["variant"], QComboBox)
    assert isinstance(form.controls["careful"], QCheckBox)


@pytest.mark.parametrize(
    ("name", "act", "value"),
    [
        ("strength", lambda c: c.slider.setValue(0), 1e-6),
        ("rounds", lambda c: c.slider.setValue(1000), 99),
        ("variant", lambda c: c.setCurrentText("zeroed"), "zeroed"),
        ("careful", lambda c: c.setChecked(False), False),
    ],
)
def test_using_a_control_reports_its_field_and_value(form, qtbot, name, act, value):
    with qtbot.waitSignal(form.changed) as signal:
        act(form.controls[name])
    assert signal.args == [name, value]
    assert type(signal.args[1]) is type(value)


def test_a_number_chosen_from_the_data_can_be_taken_over_and_given_back(form, qtbot):
    control = form.controls["guessed"]
    assert control.value is None
    with qtbot.waitSignal(form.changed) as signal:
        control.auto.setChecked(False)
    assert signal.args == ["guessed", 2.0]
    with qtbot.waitSignal(form.changed) as signal:
        control.auto.setChecked(True)
    assert signal.args == ["guessed", None]


def test_every_parameter_of_every_method_has_a_control_and_a_tooltip(qtbot):
    for method in methods().values():
        shipped = method.parameters()
        form = ParameterForm(shipped)
        qtbot.addWidget(form)
        for attribute, field in type(shipped).model_fields.items():
            control = form.controls[attribute]
            assert len(control.toolTip()) > 15, f"{method.key}.{attribute} has no help"
            if isinstance(control, NumberControl | OptionalNumber):
                assert control.value == getattr(shipped, attribute)
                assert number(field).low < number(field).high
