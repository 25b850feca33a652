"""Adapt a network to the patient at hand: one button, and what that changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING
from weakref import ref

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_qsm.acquisition import InputError, Maps, Quantity
from napari_qsm.widgets import adapt_texts as texts
from napari_qsm.widgets.background import run_function
from napari_qsm.workbench.adapting import (
    FIGURES,
    Adaptation,
    adaptation,
    figures,
    same_inputs,
)
from napari_qsm.workbench.layers import facts_of, quantity_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_qsm.widgets.reconstruct import ReconstructWidget
    from napari_qsm.workbench.session import Inputs, Result

_COMPARED = (Quantity.CHI, Quantity.SIGMA)


class AdaptPanel(QWidget):
    """Runs a network and then what adapts it, shows both maps side by side, and their figures.

    `button` begins that; its place is beside the one that reconstructs, and it is there where a
    network is chosen or was the last to run. Both are runs of the Reconstruct dock: they preview,
    draw curves, can be cancelled and end as results like any other.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers show the maps.
    dock : ReconstructWidget
        Runs the methods.
    """

    def __init__(self, viewer: ViewerModel, dock: ReconstructWidget) -> None:
        super().__init__()
        self._viewer, self._dock, self._bench = viewer, dock, dock.workbench
        self._last: tuple[ref[Maps], Inputs] | None = None
        self._plan: Adaptation | None = None
        self._made: list[Maps] = []
        self._closed = False
        self.button = QPushButton(texts.ADAPT)
        self.what = QLabel()
        self.what.setWordWrap(True)
        self.table = QLabel(visible=False)
        self.table.setWordWrap(True)
        self.table.setToolTip(texts.TABLE_TIP)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.what)
        column.addWidget(self.table)
        # A map must be on show before another one begins to grow.
        self._soon = QTimer(self, interval=20)
        self._soon.timeout.connect(self._when_settled)
        self.button.clicked.connect(lambda: self.start())
        bench = self._bench
        for changed in (bench.method_changed, bench.understood, bench.running_changed):
            changed.connect(self.refresh)
        bench.result_added.connect(self._remember)
        dock.method.changed.connect(self.refresh)
        dock.ended.connect(self._ended)
        self.refresh()

    @property
    def running(self) -> bool:
        """Whether an adaptation is under way."""
        return self._plan is not None

    # -- what would be done -----------------------------------------------------------------

    def refresh(self, _: object = None) -> None:
        """Say what the button would do, or why it cannot; hide it where no network is in view."""
        if self.running:
            return
        last = self._last[0]() if self._last else None
        try:
            plan, reason = adaptation(self._bench, last), ""
        except InputError as error:
            plan, reason = None, str(error)
        self.button.setVisible(bool(plan or reason))
        missing = reason or (self._bench.reason_not_to_run(plan.after.method) if plan else "")
        self.button.setEnabled(not missing and self._bench.job is None)
        self.button.setToolTip(texts.tip(plan) if plan and not missing else missing)
        self.what.setText(reason)
        self.what.setVisible(bool(reason))

    def _remember(self, result: Result) -> None:
        """Remember the last result, but keep it no longer than its layers do."""
        self._last = (ref(result.maps), self._bench.inputs)
        self.refresh()

    # -- doing it ---------------------------------------------------------------------------

    def start(self) -> None:
        """Make the map of the network as it was trained, unless there is one, and adapt it."""
        maps, inputs = (self._last[0](), self._last[1]) if self._last else (None, None)
        try:
            plan = adaptation(self._bench, maps)
        except InputError:  # it stands there already
            return
        if plan is None or self._bench.job is not None:
            return
        self._plan, self._made = plan, []
        if maps is not None and inputs is self._bench.inputs and plan.before.made(maps):
            self._made.append(maps)
        self.table.clear()
        self.table.hide()
        self._begin()

    def _begin(self) -> None:
        """Start what comes next: the map before, or the adaptation."""
        if self._plan is None:
            return
        self.button.setEnabled(False)
        run = self._plan.after if self._made else self._plan.before
        self._dock.start(run.method, run.parameters)
        if self._bench.job is None:  # the dock says why
            self._end()

    def _ended(self, maps: Maps | None) -> None:
        """Go on after a run of the dock."""
        if self._plan is None:
            return
        if maps is None:
            self._end()
            return
        self._made.append(maps)
        self._soon.start()

    def _when_settled(self) -> None:
        if not self._dock.layers.settled:
            return
        self._soon.stop()
        if len(self._made) > 1:
            self._compare()
        elif self._bench.job is None:
            self._begin()
        else:  # somebody began something else in the meantime
            self._end()

    def _end(self) -> None:
        self._plan, self._made = None, []
        self.refresh()

    # -- what it did ------------------------------------------------------------------------

    def _compare(self) -> None:
        """Show both maps next to each other, and their figures."""
        plan, (before, after) = self._plan, self._made
        self._end()
        if plan is None:
            return
        for layer in self._viewer.layers:
            of = (facts_of(layer) or {}).get("maps")
            ours = any(of is maps for maps in (before, after))
            layer.visible = ours and quantity_of(layer) in _COMPARED
        self._dock.view.grid.setChecked(True)
        self._viewer.fit_to_view()
        names = (plan.before.method.label, plan.after.method.label)
        note = "" if same_inputs(before, after) else texts.OTHERS
        run_function(
            lambda: (figures(before), figures(after)),
            on_done=lambda found: self._fill(names, found, note),
            on_error=lambda error: self.what.setText(str(error)),
        )

    def _fill(
        self,
        names: tuple[str, str],
        found: tuple[dict[Quantity, float], dict[Quantity, float]],
        note: str,
    ) -> None:
        if not self._closed:
            self.table.setText(as_table(names, *found) + note)
            self.table.show()

    def shut_down(self) -> None:
        """Go on with nothing (the dock closes); may come twice."""
        self._closed = True
        self._plan, self._made = None, []
        with suppress(RuntimeError):  # Qt's side may be gone already
            self._soon.stop()


def as_table(
    names: tuple[str, str], before: Mapping[Quantity, float], after: Mapping[Quantity, float]
) -> str:
    """Return figures before and after as rich text."""
    head = "".join(f"<th align='right'>&nbsp; {escape(name)}</th>" for name in names)
    rows = []
    for quantity, (name, _) in FIGURES.items():
        if quantity in before or quantity in after:
            cells = (f"{f[quantity]:.3g}" if quantity in f else "–" for f in (before, after))
            told = "".join(f"<td align='right'>&nbsp; {cell}</td>" for cell in cells)
            rows.append(f"<tr><td>{escape(name)}</td>{told}</tr>")
    return f"<table width='100%'><tr><th></th>{head}</tr>{''.join(rows)}</table>"
