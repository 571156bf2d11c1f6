"""Tables of an inspection: CSV and JSON lines, per photo, per crack and per point.

Records in, one file per table out, row by row; the columns are those of `schema`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from cracktool.files import open_atomic
from cracktool.inspection.records import CrackRecord, LineRecord, PhotoRecord
from cracktool.inspection.schema import CRACKS, PHOTOS, POINTS, SCHEMA, Column, Row, columns
from cracktool.measuring import Verdict
from cracktool.measuring.widths import Z95

_NAMES = ("photo", "mask", "id")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what begins like this


def write_photos_csv(path: Path, records: Iterable[PhotoRecord], *, scaled: bool) -> None:
    """Write a line per photo; `scaled` says whether the columns in mm are there."""
    _write_csv(path, PHOTOS, (record.row for record in records), scaled)


def write_cracks_csv(path: Path, records: Iterable[PhotoRecord], *, scaled: bool) -> None:
    """Write a line per crack."""
    _write_csv(path, CRACKS, (crack.row for record in records for crack in record.cracks), scaled)


def write_points_csv(path: Path, records: Iterable[PhotoRecord], *, scaled: bool) -> None:
    """Write a line per point at which a width was asked for."""
    _write_csv(path, POINTS, (row for record in records for row in _points(record)), scaled)


def write_photos_jsonl(path: Path, records: Iterable[PhotoRecord]) -> None:
    """Write a JSON object per photo: the columns of the table, and the schema's name."""
    _write_jsonl(path, ({"schema": SCHEMA, **record.row} for record in records))


def write_cracks_jsonl(path: Path, records: Iterable[PhotoRecord]) -> None:
    """Write a JSON object per crack: the columns of the table, its lines point by point, and the gaps bridged."""
    objects = (
        {"schema": SCHEMA, **crack.row, "lines": [vars(line) for line in crack.lines], "gaps": crack.gaps}
        for record in records
        for crack in record.cracks
    )
    _write_jsonl(path, objects)


def along(line: LineRecord) -> list[float]:
    """Return the distance of each point of a line from its start, px.

    Example:
        >>> along(LineRecord(x=[0, 3], y=[0, 4], width=[], low=[], high=[], mask_width=[], verdict=[]))
        [0.0, 5.0]
    """
    at = [0.0]
    for before, (x, y) in enumerate(list(zip(line.x, line.y, strict=True))[1:]):
        at.append(at[-1] + math.hypot(x - line.x[before], y - line.y[before]))
    return at


def _points(record: PhotoRecord) -> Iterator[Row]:
    for crack in record.cracks:
        for number, line in enumerate(crack.lines, 1):
            for point, distance in enumerate(along(line)):
                yield _point(record, crack, line, number, point, distance)


def _point(record: PhotoRecord, crack: CrackRecord, line: LineRecord, branch: int, at: int, distance: float) -> Row:
    width, low, high = line.width[at], line.low[at], line.high[at]
    row: Row = {
        "photo": record.row["photo"],
        "crack": crack.row["crack"],
        "id": crack.row["id"],
        "branch": branch,
        "along_px": round(distance, 2),
        "x_px": line.x[at],
        "y_px": line.y[at],
        "width_px": width,
        "width_low_px": low,
        "width_high_px": high,
        "mask_width_px": line.mask_width[at],
        "verdict": Verdict(line.verdict[at]).text,
    }
    if line.mm_per_px is not None:
        scale = line.mm_per_px[at]
        row["mm_per_px"] = scale
        if width and low and high:
            # Both intervals are of logarithms, so their widths add as squares.
            scale_std = float(crack.row.get("scale_relative_std") or 0.0)
            spread = math.exp(math.hypot(math.log(high / width), Z95 * scale_std))
            mm = width * scale
            row |= {
                "width_mm": round(mm, 4),
                "width_low_mm": round(mm / spread, 4),
                "width_high_mm": round(mm * spread, 4),
            }
    return row


def _write_csv(path: Path, table: Iterable[Column], rows: Iterable[Row], scaled: bool) -> None:
    with open_atomic(path) as file:
        text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
        writer = csv.DictWriter(text, columns(table, scaled=scaled), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(_without_formulas, rows))
        text.flush()
        text.detach()


def _without_formulas(row: Row) -> Row:
    """Return a row in which no file's name is a formula to a spreadsheet: =1.jpg is the same file as ./=1.jpg."""
    names: Row = {key: f"./{row[key]}" for key in _NAMES if str(row.get(key)).startswith(_FORMULAS)}
    return row | names if names else row


def _write_jsonl(path: Path, objects: Iterable[object]) -> None:
    with open_atomic(path) as file:
        for each in objects:
            file.write(json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape"))
            file.write(b"\n")
