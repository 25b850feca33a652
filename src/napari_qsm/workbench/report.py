"""A result as what others can use: a script, a command, a paragraph for a paper, a table."""

from __future__ import annotations

from napari_qsm.workbench.report_command import as_command
from napari_qsm.workbench.report_script import as_python
from napari_qsm.workbench.report_tables import FigureTable, figure_table, result_table
from napari_qsm.workbench.report_text import methods_paragraph

__all__ = [
    "FigureTable",
    "as_command",
    "as_python",
    "figure_table",
    "methods_paragraph",
    "result_table",
]
