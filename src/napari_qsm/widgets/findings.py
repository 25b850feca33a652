"""The input check: what is wrong, suspicious or assumed, in words."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_qsm.preparation.checks import Finding

_MARKS = {"error": ("✖", "#e06c6c"), "warning": ("▲", "#e0a84a"), "note": ("●", "#7f8a99")}


class FindingsPanel(QLabel):
    """Findings as a list, the gravest first; a plain sentence when there is nothing to say.

    Parameters
    ----------
    fold : bool
        Whether notes after the first, of which a scanner's files make many, are shown on a click
        only.
    """

    def __init__(self, *, fold: bool = False) -> None:
        super().__init__()
        self._folded = self._fold = fold
        self._findings: tuple[Finding, ...] = ()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.linkActivated.connect(self._toggle)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)

    def show_findings(self, findings: tuple[Finding, ...], *, empty: str) -> None:
        """Show `findings`, or the sentence `empty` if there are none."""
        self._findings, self._folded = findings, self._fold
        if not findings:
            self.setText(f"<span style='color:gray'>{escape(empty)}</span>")
            return
        self._show()

    def _toggle(self, _: str) -> None:
        self._folded = not self._folded
        self._show()

    def _show(self) -> None:
        order = list(_MARKS)
        ordered = sorted(self._findings, key=lambda f: order.index(f.severity))
        graver = sum(finding.severity != "note" for finding in ordered)
        told = ordered[: graver + 1] if self._folded else ordered
        rows = [_row(*_MARKS[finding.severity], escape(finding.text)) for finding in told]
        if self._fold and (more := len(ordered) - graver - 1) > 0:
            words = f"{more} more on how it was read" if self._folded else "less"
            link = f"<a href='notes' style='color:#7aa7d8'>{words}</a>"
            rows.append(_row("", _MARKS["note"][1], link))
        self.setText(f"<table>{''.join(rows)}</table>")


def _row(mark: str, colour: str, text: str) -> str:
    return f"<tr><td style='color:{colour}; padding-right:6px'>{mark}</td><td>{text}</td></tr>"
