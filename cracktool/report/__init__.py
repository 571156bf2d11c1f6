"""Results as files: scores as JSON and tables, plots, pictures of right and wrong pixels, a page with all of it.

Draws what it is given and computes no score.
"""

from __future__ import annotations

from cracktool.report.page import report_page
from cracktool.report.pictures import choose_rows, draw_comparison, plot_batch
from cracktool.report.plots import plot_curves, plot_robustness
from cracktool.report.tables import (
    FORMATS,
    Table,
    difference_table,
    group_tables,
    matrix_table,
    protocol_tables,
    robustness_table,
    score_table,
)
from cracktool.report.writing import Written, write_report, write_table

__all__ = [
    "FORMATS",
    "Table",
    "Written",
    "choose_rows",
    "difference_table",
    "draw_comparison",
    "group_tables",
    "matrix_table",
    "plot_batch",
    "plot_curves",
    "plot_robustness",
    "protocol_tables",
    "report_page",
    "robustness_table",
    "score_table",
    "write_report",
    "write_table",
]
