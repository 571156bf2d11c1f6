"""Scores as tables: rows of text, and these as CSV, Markdown or LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cracktool.evaluation import Difference, GroupScores, Matrix, Report, Spoilt, Summary
    from cracktool.metrics import Interval, Spread

Table = list[tuple[str, ...]]
"""Rows of text; the first is the head."""

_SCORES = (
    "score",
    "pooled [95 %]",
    "pooled, positives only",
    "per image, empty/empty = 1",
    "per image, positives only",
)
_GROUPS = ("images", "with crack", "iou", "precision", "recall", "cldice", "false alarm area")
_PLAIN = {
    "hd95",
    "surface_distance",
    "betti_0_error",
    "betti_1_error",
    "psnr",
    "kernel_psnr",
}  # no shares: pixels and numbers
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
)
_SMALL = {"false_alarm", "ece", "ece_near", "brier", "brier_near"}


def score_table(report: Report) -> Table:
    """Return all scores of a report.

    Example:
        >>> score_table(report)[1]
        ('iou', '0.612 [0.588, 0.634]', '0.612', '0.541 ± 0.210', '0.538 ± 0.208')
    """
    return [_SCORES, *(_score_row(name, summary) for name, summary in report.scores.items())]


def group_tables(report: Report) -> list[Table]:
    """Return the scores by origin and by width, each where there are several."""
    return [_group_table(kind, parts) for kind, parts in report.groups.items()]


def protocol_tables(report: Report) -> list[Table]:
    """Return the scores of each published evaluator that was asked for, under its own names."""
    return [
        [(name, "value"), *((score, "-" if value != value else f"{value:.4f}") for score, value in scores.items())]
        for name, scores in report.published.items()
    ]


def difference_table(differences: Sequence[Difference], first: str = "first", second: str = "second") -> Table:
    """Return paired differences of two sets of predictions, by their names, with what may be said of each."""
    head = ("score", first, second, "second - first [95 %]", "p", "verdict")
    rows = (
        (
            each.score,
            f"{each.first:.3f}",
            f"{each.second:.3f}",
            f"{each.second - each.first:+.3f}{_interval(each.ci95, '+.3f')}",
            f"{each.p:.3f}",
            each.verdict,
        )
        for each in differences
    )
    return [head, *rows]


def matrix_table(matrix: Matrix) -> Table:
    """Return one score of each set of predictions (rows) on each data set (columns), and its mean over these."""
    places = _places(matrix.score)
    head = (f"{matrix.score}", *matrix.columns, *(("mean",) if len(matrix.columns) > 1 else ()))
    rows = []
    for name, cells in zip(matrix.rows, matrix.cells, strict=True):
        texts = ["-" if cell is None else f"{cell.value:{places}}{_interval(cell.ci95, places)}" for cell in cells]
        known = [cell.value for cell in cells if cell is not None]
        mean = f"{sum(known) / len(known):{places}}" if len(known) == len(cells) else "-"
        rows.append((name, *texts, *((mean,) if len(cells) > 1 else ())))
    return [head, *rows]


def robustness_table(cases: Sequence[Spoilt], score: str) -> Table:
    """Return one score by what spoilt the photos (rows) and how much (columns); 0 is the photos as they are."""
    values = {(case.kind, case.severity): f"{case.cell.value:{_places(score)}}" for case in cases}
    clean = next((values[case.kind, 0] for case in cases if case.severity == 0), "-")
    kinds = dict.fromkeys(case.kind for case in cases if case.severity)
    severities = sorted({case.severity for case in cases if case.severity})
    head = (f"{score} by severity", "0", *map(str, severities))
    return [head, *((kind, clean, *(values.get((kind, each), "-") for each in severities)) for kind in kinds)]


def image_table(report: Report) -> Table:
    """Return counts and scores of each image, to six places."""
    names = tuple(report.rows[0].scores)
    head = ("image", "group", "origin", "crack_width", "height", "width", "positive", "tp", "fp", "fn", "tn", *names)
    rows: Table = [head]
    for row in report.rows:
        counts = (str(count) for count in asdict(row.measured.counts).values())
        size = (str(side) for side in row.shape_hw)
        entry = row.entry
        texts = (entry.image, entry.group, entry.origin, row.width_class, *size, str(int(row.positive)), *counts)
        rows.append((*texts, *(f"{row.scores[name]:.6f}" for name in names)))
    return rows


def photo_table(report: Report) -> Table:
    """Return the scores of each photo (group of images), as `group_tables` has them."""
    return _group_table("photo", report.by(lambda row: row.entry.group))


def to_csv(table: Table) -> str:
    """Return a table as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """Return a table as Markdown; numbers stand right."""
    head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in table)
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(table: Table) -> str:
    """Return a table as LaTeX, in the rules of the package booktabs."""
    head, *rows = ([cell.translate(_LATEX) for cell in row] for row in table)
    body = "".join(f"{' & '.join(row)} \\\\\n" for row in rows)
    columns = "l" + "r" * (len(head) - 1)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(head)} \\\\\n\\midrule\n{body}"
        "\\bottomrule\n\\end{tabular}\n"
    )


FORMATS: dict[str, Callable[[Table], str]] = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
"""Ending of a file -> the table as its text."""


def _score_row(name: str, summary: Summary) -> tuple[str, ...]:
    places = _places(name)
    pooled = "" if summary.pooled is None else f"{summary.pooled:{places}}{_interval(summary.pooled_ci95, places)}"
    cracked = "" if summary.pooled_positives is None else f"{summary.pooled_positives:{places}}"
    spreads = (_spread(each, places) for each in (summary.empty_is_one, summary.positives_only))
    return (name, pooled, cracked, *spreads)


def _places(score: str) -> str:
    return ".2f" if score in _PLAIN else ".4f" if score in _SMALL else ".3f"


def _spread(spread: Spread | None, places: str) -> str:
    return "" if spread is None else f"{spread.mean:{places}} ± {spread.std:{places}}"


def _interval(interval: Interval | None, places: str) -> str:
    return "" if interval is None else f" [{interval[0]:{places}}, {interval[1]:{places}}]"


def _group_table(kind: str, parts: dict[str, GroupScores]) -> Table:
    return [(kind, *_GROUPS), *(_group_row(name, scores) for name, scores in parts.items())]


def _group_row(name: str, scores: GroupScores) -> tuple[str, ...]:
    shares = (scores.iou, scores.precision, scores.recall, scores.cldice)
    return (
        name or "(none)",
        str(scores.images),
        str(scores.positives),
        *("-" if value is None else f"{value:.3f}" for value in shares),
        "-" if scores.false_alarm is None else f"{scores.false_alarm:.2%}",
    )
