"""The curves of a sweep in tabs, the marks that stand out, and the point that is looked at."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QTabBar, QVBoxLayout, QWidget

from napari_qsm.evaluation.swept import Sweep
from napari_qsm.widgets import sweep_texts as texts
from napari_qsm.widgets.curve_plot import GLYPHS, CurvePlot, Drawing, Line, colour_of
from napari_qsm.workbench.sweeping import symbol, unit

PPB = 1000.0
"""ppb in a ppm: residuals and gradients are small."""


class SweepCurves(QWidget):
    """Tabs over one plot, and two lines of text below it.

    Attributes
    ----------
    picked : Signal
        Emitted with the place of the point that was clicked.
    """

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._sweep: Sweep | None = None
        self._index: int | None = None
        self.tabs = QTabBar()
        self.tabs.setExpanding(True)
        self.tabs.setUsesScrollButtons(False)
        self._drawers: list[Callable[[Sweep], Drawing]] = [
            _l_curve,
            _u_curve,
            _errors,
            _frequencies,
        ]
        for number, (name, tip) in enumerate(texts.TABS.items()):
            self.tabs.addTab(name)
            self.tabs.setTabToolTip(number, tip)
        self.plot = CurvePlot()
        self.plot.picked.connect(self.picked)
        self.marks, self.figures = QLabel(), QLabel(texts.NOTHING_YET)
        for text in (self.marks, self.figures):
            text.setWordWrap(True)
            text.setTextFormat(Qt.TextFormat.RichText)
            text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.figures.setMinimumHeight(2 * self.figures.fontMetrics().lineSpacing())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.tabs, self.plot, self.marks, self.figures):
            layout.addWidget(widget)
        self.tabs.currentChanged.connect(self._draw)
        self.show_sweep(None)

    def show_sweep(self, sweep: Sweep | None) -> None:
        """Show another sweep, or the same one with more points; None shows nothing."""
        self._sweep, self._index = sweep, None
        error = list(texts.TABS).index(texts.ERROR)
        compared = sweep is not None and bool(np.isfinite(sweep.column("nrmse")).any())
        self.tabs.setTabEnabled(error, compared)
        self.tabs.setTabToolTip(error, texts.TABS[texts.ERROR] if compared else texts.NO_REFERENCE)
        self.marks.setText("" if sweep is None else _legend(sweep))
        self.figures.setText(texts.NOTHING_YET)
        self._draw()

    def forget(self) -> None:
        """Let the sweep go without touching what is drawn (the widget may be gone already)."""
        self._sweep = None

    def highlight(self, index: int | None) -> None:
        """Ring a point in the plot and say its figures."""
        self._index = index
        self.plot.highlight(index)
        if self._sweep is not None and index is not None:
            self.figures.setText(_figures(self._sweep, index))

    def _draw(self, _: int = 0) -> None:
        drawer = self._drawers[self.tabs.currentIndex()]
        self.plot.draw(Drawing() if self._sweep is None else drawer(self._sweep))
        self.plot.highlight(self._index)


def _named(sweep: Sweep) -> str:
    """Name of the parameter with its unit."""
    name, its_unit = symbol(sweep.method), unit(sweep.method)
    return f"{name} [{its_unit}]" if its_unit else name


def _legend(sweep: Sweep) -> str:
    """Return the marks in words, each with the colour and shape it is drawn in."""
    told = [
        f"<span style='color:{colour_of(mark.key)}'>{GLYPHS[mark.key]}</span> "
        f"{escape(mark.label)}&nbsp;<b>{mark.value:.3g}</b>"
        for mark in sweep.marks
    ]
    return " &nbsp; ".join(told) or f"<span style='color:gray'>{texts.NO_MARK}</span>"


def _figures(sweep: Sweep, index: int) -> str:
    """Return what is known of a point in one or two lines."""
    point = sweep.points[index]
    m = point.measures
    parts = [f"residual {PPB * m.residual:.3g} ppb", f"|∇χ|₁ {PPB * m.variation:.3g} ppb/mm"]
    parts.append(f"cone energy {m.cone:.2f}")
    if m.nrmse is not None and m.xsim is not None:
        parts.append(f"NRMSE {m.nrmse:.1f} %, XSIM {m.xsim:.3f}")
    after = f" after {point.iterations} iterations" if point.iterations else ""
    parts.append(f"{point.seconds:.2g} s{after}")
    its_unit = unit(sweep.method)
    head = f"{symbol(sweep.method)} = {point.value:.3g} {its_unit}".rstrip()
    return f"<b>{escape(head)}</b> <span style='color:gray'>{escape(' · '.join(parts))}</span>"


def _tips(sweep: Sweep) -> list[str]:
    its_unit = unit(sweep.method)
    return [
        f"{symbol(sweep.method)} = {p.value:.3g} {its_unit}\n"
        f"residual {PPB * p.measures.residual:.3g} ppb\n"
        f"|∇χ|₁ {PPB * p.measures.variation:.3g} ppb/mm"
        + ("" if p.measures.nrmse is None else f"\nNRMSE {p.measures.nrmse:.1f} %")
        for p in sweep.points
    ]


def _l_curve(sweep: Sweep) -> Drawing:
    curve = sweep.curve
    own = np.searchsorted(curve.values, sweep.values)
    smooth = None
    if curve.usable:
        smooth = tuple(PPB * part for part in curve.at(curve.places))
    marks = []
    for mark in sweep.marks if curve.usable else ():
        residual, roughness = curve.at([mark.value])
        marks.append((mark.key, PPB * float(residual[0]), PPB * float(roughness[0])))
    line = Line(PPB * curve.residual[own], PPB * curve.roughness[own], smooth=smooth)
    rough = texts.VARIATION if sweep.closed_form is None else texts.GRADIENT
    axes = (f"{texts.RESIDUAL} [ppb]", f"{rough} [ppb/mm]")
    return Drawing((line,), axes, _tips(sweep), marks)


def _u_curve(sweep: Sweep) -> Drawing:
    curve, heights = sweep.curve, sweep.u_curve
    own = np.searchsorted(curve.values, sweep.values)
    line = Line(curve.values[own], heights[own], smooth=(curve.values, heights))
    return Drawing((line,), (_named(sweep), texts.U), _tips(sweep), verticals=_verticals(sweep))


def _errors(sweep: Sweep) -> Drawing:
    line = Line(sweep.values, sweep.column("nrmse"))
    return Drawing(
        (line,),
        (_named(sweep), f"{texts.NRMSE} [%]"),
        _tips(sweep),
        verticals=_verticals(sweep),
        log_y=False,
    )


def _frequencies(sweep: Sweep) -> Drawing:
    amplitudes = np.array([point.measures.amplitudes for point in sweep.points]).reshape(-1, 3)
    lines = [Line(sweep.values, amplitudes[:, n], name) for n, name in enumerate(texts.REGIONS)]
    return Drawing(
        lines,
        (_named(sweep), texts.AMPLITUDE),
        _tips(sweep),
        verticals=_verticals(sweep),
        log_y=False,
    )


def _verticals(sweep: Sweep) -> list[tuple[str, float]]:
    return [(mark.key, mark.value) for mark in sweep.marks]
