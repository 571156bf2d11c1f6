"""A report as a folder: scores, tables, plots, pictures, and a page with all of it."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cracktool.errors import CrackError
from cracktool.files import replace_file
from cracktool.images import encode_png
from cracktool.report.page import report_page
from cracktool.report.pictures import choose_rows, draw_comparison
from cracktool.report.plots import plot_confusion, plot_reliability, plot_spread, plot_sweep
from cracktool.report.tables import FORMATS, Table, image_table, photo_table, to_csv

if TYPE_CHECKING:
    from cracktool.evaluation import Report


@dataclass(frozen=True)
class Written:
    """The files of a report, and what the user should know of them."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...]


def write_report(report: Report, folder: Path, *, figures: int = 12) -> Written:
    """Write scores, tables, plots and pictures, and ``report.html`` with all of it.

    ``report.json``, ``per_image.csv``, ``per_photo.csv`` where photos have several images, ``confusion.png``,
    ``spread.png``, ``sweep.png`` and ``reliability.png`` where there are probabilities, and ``figures/NAME.png``. The
    page holds the pictures too, and needs no network.

    Args:
        report: What `cracktool.evaluation.evaluate` returned.
        folder: Where to write; files of these names are replaced.
        figures: Number of images to draw: worst, median and best by IoU in equal parts.

    Raises:
        OutputError: The folder cannot be written.

    Example:
        >>> write_report(report, Path("runs/first/eval")).files[0].name
        'report.json'
    """
    files = [folder / "report.json", folder / "per_image.csv"]
    replace_file(
        files[0], (json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    )
    replace_file(files[1], to_csv(image_table(report)).encode())
    photos = photo_table(report)
    if len(photos) <= len(report.rows):
        files.append(folder / "per_photo.csv")
        replace_file(files[-1], to_csv(photos).encode())
    plots = _plots(report, folder)
    drawn, warnings = _figures(report, folder, figures)
    pictures = [[(name, path.read_bytes()) for name, path in some] for some in (plots, drawn)]
    page = folder / "report.html"
    replace_file(page, report_page(report, *pictures).encode("utf-8", "replace"))
    return Written((*files, *(path for _, path in plots + drawn), page), tuple(warnings))


def write_table(table: Table, path: Path) -> list[Path]:
    """Write a table as ``PATH.csv``, ``PATH.md`` and ``PATH.tex``, and return the files."""
    files = []
    for ending, text in FORMATS.items():
        files.append(path.with_name(f"{path.name}.{ending}"))
        replace_file(files[-1], text(table).encode("utf-8", "surrogateescape"))
    return files


def _plots(report: Report, folder: Path) -> list[tuple[str, Path]]:
    plots = {"confusion": plot_confusion, "spread": plot_spread}
    if report.curve is not None:
        plots |= {"sweep": plot_sweep, "reliability": plot_reliability}
    for name, plot in plots.items():
        plot(report, folder / f"{name}.png")
    return [(name, folder / f"{name}.png") for name in plots]


def _figures(report: Report, folder: Path, most: int) -> tuple[list[tuple[str, Path]], list[str]]:
    """Draw images; return each with the file of its picture, and what could not be drawn."""
    drawn: dict[Path, str] = {}
    warnings = []
    for row in choose_rows(report.rows, most):
        path = _free(folder / "figures" / _below_images(row.image).with_suffix(".png"), drawn)
        try:
            picture = draw_comparison(report, row)
        except CrackError as error:
            warnings.append(f"no figure: {error}")
            continue
        replace_file(path, encode_png(picture))
        drawn[path] = row.image
    return [(image, path) for path, image in drawn.items()], warnings


def _below_images(image: str) -> PurePosixPath:
    """Return where an image lies below `images`; one that lies elsewhere gets no place outside of the figures."""
    parts = [part for part in PurePosixPath(image).parts if part not in ("/", "..")]
    return PurePosixPath(*parts[1:] if parts[0] == "images" else parts)


def _free(path: Path, taken: Container[Path]) -> Path:
    """Return a path, numbered where it is taken, as by x.jpg beside x.png."""
    numbered = (path.with_name(f"{path.stem}-{number}.png") for number in count(2))
    return next(each for each in chain([path], numbered) if each not in taken)
