"""The number control: exact text, sane slider, one report a change."""

import pytest

from napari_qsm.widgets.number import NumberControl


@pytest.fixture
def control(qtbot):
    made = NumberControl(2e-4, 1e-6, 1e-1, log=True)
    qtbot.addWidget(made)
    return made


def test_a_typed_number_is_kept_to_the_last_digit(control, qtbot):
    control.text.setText("4.9999999e-3")
    with qtbot.waitSignal(control.value_changed) as signal:
        control.text.editingFinished.emit()
    assert signal.args == [4.9999999e-3]
    assert control.value == 4.9999999e-3
    assert float(control.text.text()) == pytest.approx(4.9999999e-3, rel=1e-9)


def test_setting_a_value_is_not_reported_and_round_trips(control, qtbot):
    with qtbot.assertNotEmitted(control.value_changed):
        for value in (1e-6, 3.3e-5, 1e-3, 1e-1):
            control.set_value(value)
            assert control.value == value


def test_the_slider_reports_exactly_the_number_it_shows(control, qtbot):
    with qtbot.waitSignal(control.value_changed) as signal:
        control.slider.setValue(500)
    assert signal.args[0] == float(control.text.text()) == control.value
    assert control.value == pytest.approx((1e-6 * 1e-1) ** 0.5, rel=5e-3)  # middle of the decades


def test_both_ends_of_the_slider_are_the_ends_of_the_range(control):
    control.slider.setValue(0)
    assert control.value == 1e-6
    control.slider.setValue(1000)
    assert control.value == 1e-1


def test_a_half_typed_number_does_not_stay(control, qtbot):
    control.text.setText("5e")
    control.text.clearFocus()
    control.text.focusOutEvent(focus_out())
    assert float(control.text.text()) == 2e-4


def focus_out():
    from qtpy.QtCore import QEvent
    from qtpy.QtGui import QFocusEvent

    return QFocusEvent(QEvent.Type.FocusOut)


def test_whole_numbers_stay_whole(qtbot):
    control = NumberControl(150, 1, 500, whole=True)
    qtbot.addWidget(control)
    control.slider.setValue(333)
    assert control.value == round(control.value)
    assert control.text.text() == str(control.value)
