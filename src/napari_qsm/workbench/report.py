"""A result as what others can use: a script, a command, a paragraph for a paper, a table."""

from __future__ import annotations

from napari_qsm.workbench.report_command import as_command
from napari_qsm.workbench.report_script import as_python
from napari_qsm.workbench.report_tables import result_table
from napari_qsm.workbench.report_text import methods_paragraph

__all__ = ["as_command", "as_python", "methods_paragraph", "result_table"]
