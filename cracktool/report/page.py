"""One HTML page with everything a report has: scores, published protocols, groups, plots, pictures.

The page holds all that it shows and runs no program.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from cracktool.html import page
from cracktool.report.tables import Table, group_tables, protocol_tables, score_table

if TYPE_CHECKING:
    from cracktool.evaluation import Report

Picture = tuple[str, bytes]
"""What a picture shows, and its PNG."""


def report_page(report: Report, plots: Sequence[Picture], figures: Sequence[Picture]) -> str:
    """Return the page as text.

    Args:
        report: The scores.
        plots: Plots of them.
        figures: Images with their errors, worst first.
    """
    title = f"{report.manifest.name}, {report.split}: {report.origin.name}"
    body = (
        f"<header><h1>{escape(title)}</h1>{_facts(report)}</header>\n<main>",
        _section("Scores", [_scores(report)]),
        _section("By group", [_table(table) for table in group_tables(report)]),
        _section("Published protocols", _protocols(report)),
        _section("Plots", [f'<div class="grid">{_pictures(plots)}</div>']),
        _section("Images: worst, median and best by IoU", [_pictures(figures)]),
        _section("What was not scored", [_failures(report)]),
        _section("How to read this", [_notes(report)]),
        "</main>",
    )
    return "".join(page(title, body, package="cracktool.report", name="page"))


def _facts(report: Report) -> str:
    threshold = "" if report.threshold is None else f", threshold {report.threshold:g}"
    digest = f" ({report.origin.digest[:12]})" if report.origin.digest else ""
    images = f"{len(report.rows)} images, {report.positives} with crack, {report.skipped} without truth skipped"
    return (
        f"<p>{escape(report.origin.kind)}: {escape(report.origin.name)}{digest}{threshold}</p>"
        f"<p>{escape(report.data)}, split {escape(report.split)}: {images}</p>"
        + "".join(f'<p class="warn">{escape(line)}</p>' for line in report.warnings)
    )


def _scores(report: Report) -> str:
    texts = report.texts
    return _table(score_table(report), {name: escape(text, quote=True) for name, text in texts.items()})


def _protocols(report: Report) -> list[str]:
    texts = report.protocol_texts
    return [f"<div>{_table(table)}<p>{escape(texts[table[0][0]])}</p></div>" for table in protocol_tables(report)]


def _pictures(pictures: Iterable[Picture]) -> str:
    return "".join(
        f'<figure><img alt="{escape(name, quote=True)}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode("ascii")}"><figcaption>{escape(name)}</figcaption></figure>'
        for name, png in pictures
    )


def _failures(report: Report) -> str:
    lines = "".join(f"<li>{escape(str(failure.error))}" for failure in report.failures)
    return f"<ul>{lines}</ul>" if lines else ""


def _notes(report: Report) -> str:
    meanings = "".join(f"<dt>{escape(name)}<dd>{escape(text)}" for name, text in report.texts.items())
    notes = "".join(f"<li>{escape(note)}" for note in report.notes)
    return f"<ul>{notes}</ul><dl>{meanings}</dl>"


def _section(title: str, parts: Sequence[str]) -> str:
    inner = "\n".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2>\n{inner}\n</section>" if inner else ""


def _table(table: Table, hints: dict[str, str] | None = None) -> str:
    head, *rows = table
    lines = []
    for first, *cells in rows:
        hint = f' title="{hints[first]}"' if hints and first in hints else ""
        inner = "".join(f"<td>{escape(cell)}" for cell in cells)
        lines.append(f"<tr><th scope=row{hint}>{escape(first)}{inner}")
    return f"<table><thead><tr>{''.join(f'<th>{escape(cell)}' for cell in head)}<tbody>{''.join(lines)}</table>"
