"""The input check: what is wrong, suspicious or assumed, in words."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_qsm.preparation.checks import Finding

_MARKS = {"error": ("✖", "#e06c6c"), "warning": ("▲", "#e0a84a"), "note": ("●", "#7f8a99")}


class FindingsPanel(QLabel):
    """Findings as a list, the gravest first; a plain sentence when there is nothing to say."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)

    def show_findings(self, findings: tuple[Finding, ...], *, empty: str) -> None:
        """Show `findings`, or the sentence `empty` if there are none."""
        if not findings:
            self.setText(f"<span style='color:gray'>{escape(empty)}</span>")
            return
        order = list(_MARKS)
        rows = []
        for finding in sorted(findings, key=lambda f: order.index(f.severity)):
            mark, colour = _MARKS[finding.severity]
            rows.append(
                f"<tr><td style='color:{colour}; padding-right:6px'>{mark}</td>"
                f"<td>{escape(finding.text)}</td></tr>"
            )
        self.setText(f"<table>{''.join(rows)}</table>")
