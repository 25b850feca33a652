"""One place of the preparation: its state, its stage, its parameters and what it made."""

from __future__ import annotations

from html import escape

from napari.layers import Layer
from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QMenu,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_qsm.pipeline import NONE
from napari_qsm.preparation.registry import Place, Stage, stages
from napari_qsm.process import Parameters
from napari_qsm.widgets import texts
from napari_qsm.widgets.icons import eye_icon
from napari_qsm.widgets.parameters import ParameterForm
from napari_qsm.workbench.standing import Standing, State

_MARKS = {
    State.NOT_RUN: ("○", "#7f8a99"),
    State.WAITING: ("○", "#7f8a99"),
    State.LEFT_OUT: ("–", "#7f8a99"),
    State.STALE: ("◐", "#e0a84a"),
    State.RUNNING: ("▶", "#7aa7d8"),
    State.FAILED: ("✖", "#e06c6c"),
    State.DONE: ("●", "#6cc08b"),
}


class StageRow(QWidget):
    """A row for one place; it tells what the user wants and shows what it is told.

    Parameters
    ----------
    place : Place
        Which place.
    """

    stage_chosen = Signal(str)
    parameter_set = Signal(str, object)
    reset_wanted = Signal()
    show_wanted = Signal()
    layer_wanted = Signal(object)

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.mark = QLabel()
        self.mark.setFixedWidth(16)
        self.mark.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.title = QLabel(place.label)
        self.title.setToolTip(f"<p>{place.help}</p>")
        self.combo = self._stage_combo()
        self.seconds = QLabel()
        self.seconds.setStyleSheet("color: gray")
        self.seconds.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.eye = self._eye_button()
        self.fold = QToolButton()
        self.fold.setArrowType(Qt.ArrowType.RightArrow)
        self.fold.setCheckable(True)
        self.fold.setFixedWidth(16)
        self.fold.setToolTip(texts.UNFOLD)
        self.fold.toggled.connect(self._unfold)
        self.said = QLabel()
        self.said.setWordWrap(True)
        self.said.setContentsMargins(22, 0, 0, 0)
        self.said.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.said.hide()
        self.drawer: QWidget | None = None
        self._stage: Stage | None = None
        self._parameters: Parameters | None = None
        self._standing = Standing(State.NOT_RUN)
        self._layers: list[Layer] = []
        self._lay_out()

    def _stage_combo(self) -> QComboBox:
        combo = QComboBox()
        combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for stage in stages(self.place).values():
            combo.addItem(stage.label, stage.key)
            tip = f"<p>{stage.summary}</p>"
            combo.setItemData(combo.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        if self.place.optional:
            combo.addItem(texts.LEAVE_OUT, NONE)
        combo.activated.connect(lambda _: self.stage_chosen.emit(combo.currentData()))
        return combo

    def _eye_button(self) -> QToolButton:
        eye = QToolButton()
        eye.setIcon(eye_icon())
        eye.setIconSize(QSize(18, 18))
        eye.setFixedSize(38, 22)
        eye.setStyleSheet("QToolButton { padding: 0px 14px 0px 1px; }")
        policy = eye.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        eye.setSizePolicy(policy)
        eye.setCheckable(True)
        eye.hide()
        eye.setToolTip(texts.SHOW_LAYER)
        eye.setPopupMode(QToolButton.ToolButtonPopupMode.MenuButtonPopup)
        menu = QMenu(eye)
        menu.aboutToShow.connect(self._fill_menu)
        eye.setMenu(menu)
        eye.clicked.connect(self.show_wanted)
        return eye

    def _lay_out(self) -> None:
        line = QHBoxLayout()
        line.setSpacing(4)
        line.addWidget(self.mark)
        line.addWidget(self.title)
        line.addWidget(self.combo, 1)
        line.addWidget(self.seconds)
        line.addWidget(self.eye)
        line.addWidget(self.fold)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        self._column.addLayout(line)
        self._column.addWidget(self.said)

    def showEvent(self, event: QShowEvent) -> None:
        """Keep the columns of all rows in line, whatever font the theme has brought."""
        self._align()
        super().showEvent(event)

    def _align(self) -> None:
        for label, words in (
            (self.title, [place.label for place in Place]),
            (self.seconds, ["9.9 s", "2 min"]),
        ):
            letters = label.fontMetrics()
            label.setFixedWidth(max(letters.horizontalAdvance(text) for text in words) + 7)

    # -- choices ----------------------------------------------------------------------------

    def show_choice(self, stage: Stage | None, parameters: Parameters | None) -> None:
        """Show a stage and its parameters, or that the place is left out."""
        # A form built anew would take the focus from what the user edits in it.
        rebuild = stage is not self._stage or parameters != self._parameters
        self._stage, self._parameters = stage, parameters
        with QSignalBlocker(self.combo):
            self.combo.setCurrentIndex(self.combo.findData(stage.key if stage else NONE))
        self.combo.setToolTip(f"<p>{stage.summary}</p>" if stage else "")
        if rebuild and self.drawer is not None:
            self._build_drawer()

    def _unfold(self, on: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        if on and self.drawer is None:
            self._build_drawer()
        if self.drawer is not None:
            self.drawer.setVisible(on)
        self._say()

    def _build_drawer(self) -> None:
        if self.drawer is not None:
            self._column.removeWidget(self.drawer)
            self.drawer.deleteLater()
        self.drawer = QWidget()
        column = QVBoxLayout(self.drawer)
        column.setContentsMargins(22, 0, 0, 6)
        if self._stage is not None and self._parameters is not None:
            column.addWidget(self._about(self._stage))
            form = ParameterForm(self._parameters)
            form.changed.connect(self._set)
            column.addWidget(form)
        self._column.addWidget(self.drawer)
        self.drawer.setVisible(self.fold.isChecked())

    def _set(self, name: str, value: object) -> None:
        # The form shows the value already: remember it, so that it is not built anew.
        if self._parameters is not None:
            self._parameters = self._parameters.model_copy(update={name: value})
        self.parameter_set.emit(name, value)

    def _about(self, stage: Stage) -> QWidget:
        links = ", ".join(
            f'<a href="https://doi.org/{doi}" style="color:#7aa7d8">{doi}</a>'
            for doi in stage.references
        )
        known = f" <span style='color:gray'>({links})</span>" if links else ""
        text = QLabel(f"{escape(stage.summary)}{known}")
        text.setWordWrap(True)
        text.setOpenExternalLinks(True)
        reset = QToolButton()
        reset.setText("↺")
        reset.setToolTip(texts.RESET)
        reset.clicked.connect(self.reset_wanted)
        about = QWidget()
        line = QHBoxLayout(about)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(text, 1)
        if stage.parameters.model_fields:
            line.addWidget(reset, 0, Qt.AlignmentFlag.AlignTop)
        return about

    # -- standing ---------------------------------------------------------------------------

    def show_standing(self, standing: Standing) -> None:
        """Show how things stand, and say why where that matters."""
        self._standing = standing
        glyph, colour = _MARKS[standing.state]
        self.mark.setText(f"<span style='color:{colour}'>{glyph}</span>")
        self.mark.setToolTip(standing.state.value)
        took = "" if standing.seconds is None else _short(standing.seconds)
        self.seconds.setText(took)
        self._say()

    def _say(self) -> None:
        state, text = self._standing.state, self._standing.text
        self.title.setToolTip(f"<p>{self.place.help}</p><p>{escape(text)}</p>")
        colour = _MARKS[State.FAILED][1] if state is State.FAILED else "gray"
        # What a finished stage noted is there for who unfolds it; trouble is there for all.
        wanted = bool(text) and (state is not State.DONE or self.fold.isChecked())
        if wanted:
            self.said.setText(f"<small style='color:{colour}'>{escape(text)}</small>")
        self.said.setVisible(wanted)

    def show_layers(self, layers: list[Layer], *, main: Layer | None) -> None:
        """Offer the layers of this place; `main` is what the button itself shows and hides."""
        self.eye.setVisible(bool(layers))
        self.eye.setChecked(main is not None and main.visible)
        self._layers = layers

    def _fill_menu(self) -> None:
        menu = self.eye.menu()
        menu.clear()
        for layer in reversed(self._layers):
            action = menu.addAction(layer.name)
            action.setCheckable(True)
            action.setChecked(layer.visible)
            action.triggered.connect(lambda _, layer=layer: self.layer_wanted.emit(layer))


def _short(seconds: float) -> str:
    """Seconds in a few characters: ``1.2 s``, ``34 s``, ``2 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
