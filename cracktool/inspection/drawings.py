"""Drawings of a photo's cracks: DXF for CAD, SVG to lay over the photo.

A record in, a file out; a class of severity is a layer, coloured from green to red.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from cracktool.files import printable, relative, replace_file
from cracktool.inspection.records import CrackRecord, PhotoRecord
from cracktool.overlay import COLOUR

_DXF_COLOURS = (3, 2, 30, 1, 6)  # AutoCAD's numbers: green, yellow, orange, red, magenta
_SVG_COLOURS = ("#2ca02c", "#e6c700", "#ff7f0e", "#d62728", "#c800c8")
_PLAIN = "#{:02x}{:02x}{:02x}".format(*COLOUR)


def write_dxf(path: Path, record: PhotoRecord) -> None:
    """Write the cracks of a photo as R12 polylines with a layer per severity, and a text at each widest place.

    y points upwards. Units are those of the map for a georeferenced photo, mm where there is a scale, else px. What
    reaches beyond the horizon of a scale has no place among mm and is left out.

    Raises:
        OutputError: It cannot be written.
    """
    tags: list[tuple[int, object]] = [(0, "SECTION"), (2, "HEADER"), (9, "$ACADVER"), (1, "AC1009"), (0, "ENDSEC")]
    names = _layers(record)
    tags += [(0, "SECTION"), (2, "TABLES"), (0, "TABLE"), (2, "LAYER"), (70, len(names) + 1)]
    for name, rank in (*((name, rank) for rank, name in names.items()), ("LABELS", -1)):
        colour = 7 if rank < 0 else _DXF_COLOURS[_shade(rank, len(record.severities), len(_DXF_COLOURS))]
        tags += [(0, "LAYER"), (2, name), (70, 0), (62, colour), (6, "CONTINUOUS")]
    tags += [(0, "ENDTAB"), (0, "ENDSEC"), (0, "SECTION"), (2, "ENTITIES")]
    for crack in record.cracks:
        if record.scaled and crack.row["length_mm"] is None:
            continue
        tags += _dxf_crack(record, crack, names[_rank(record, crack)])
    tags += [(0, "ENDSEC"), (0, "EOF")]
    decimals = _decimals(record)
    text = "".join(
        f"{code}\n{value:.{decimals}f}\n" if isinstance(value, float) else f"{code}\n{value}\n" for code, value in tags
    )
    replace_file(path, text.encode("ascii", "replace"))


def write_svg(path: Path, record: PhotoRecord) -> None:
    """Write the centre lines of a photo's cracks over the photo, which is linked, not contained.

    Lines are as wide as the cracks, with the figures of the table as tooltips; open it in a browser or an editor. They
    stand alone where the photo is a later page of its file, as a link would show the first.

    Raises:
        OutputError: It cannot be written.
    """
    height, width = record.row["height_px"], record.row["width_px"]
    photo = str(record.row["photo"])
    link = quoteattr(quote(relative(photo, path.parent) or Path(photo).as_posix(), errors="replace"))
    title = Path(photo).name + (f", page {record.page}" if record.page else "")
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="-0.5 -0.5 {width} {height}" width="{width}" height="{height}">',
        f"<title>{escape(printable(title))}</title>",
        *([] if record.page else [f'<image href={link} x="-0.5" y="-0.5" width="{width}" height="{height}"/>']),
        '<g fill="none" stroke-linecap="round" stroke-linejoin="round" stroke-opacity="0.8">',
        *(_svg_crack(record, crack) for crack in record.cracks),
        "</g>\n</svg>\n",
    ]
    replace_file(path, "\n".join(lines).encode("utf-8", "replace"))


def describe(crack: CrackRecord) -> str:
    """Return a crack's number, type, length and widest place in one line, in mm where there is a scale."""
    row = crack.row
    unit = "mm" if row.get("length_mm") is not None else "px"
    most = row[f"width_max_{unit}"]
    width = "width not measurable" if most is None else f"up to {most:.2f} {unit} wide"
    return f"{row['crack']}: {row['type']}, {row[f'length_{unit}']:.0f} {unit} long, {width}"


def _rank(record: PhotoRecord, crack: CrackRecord) -> int:
    """Return the number of a crack's class of severity, 0 for the narrowest; -1 without."""
    label = crack.row.get("severity")
    return record.severities.index(str(label)) if label in record.severities else -1


def _shade(rank: int, classes: int, colours: int) -> int:
    return round(rank * (colours - 1) / max(classes - 1, 1))


def _layers(record: PhotoRecord) -> dict[int, str]:
    """Return the layer of each class; R12 takes capitals, digits, $, - and _, 31 of them."""
    found = {-1: "CRACKS"}
    for rank, label in enumerate(record.severities):
        found[rank] = re.sub(r"[^A-Z0-9$-]+", "_", f"CRACKS {rank + 1} {label}".upper())[:31].rstrip("_")
    return found


def _dxf_crack(record: PhotoRecord, crack: CrackRecord, layer: str) -> Iterator[tuple[int, object]]:
    for line in crack.lines:
        yield from ((0, "POLYLINE"), (8, layer), (66, 1), (70, 0))
        for x, y in _placed(record, line.x, line.y):
            yield from ((0, "VERTEX"), (8, layer), (10, x), (20, y), (30, 0.0))
        yield from ((0, "SEQEND"), (8, layer))
    at_x, at_y = crack.row["width_max_x_px"], crack.row["width_max_y_px"]
    if isinstance(at_x, float) and isinstance(at_y, float):
        here, beside = _placed(record, [at_x, at_x + 12], [at_y, at_y])
        yield from ((0, "TEXT"), (8, "LABELS"), (10, here[0]), (20, here[1]), (30, 0.0), (40, math.dist(here, beside)))
        yield (1, describe(crack))


def _decimals(record: PhotoRecord) -> int:
    """Return how many decimals tell a hundredth of a pixel: many where the map's unit is a degree, else at least 4."""
    if record.geo is None:
        return 4
    a, _, _, d, _, _ = record.geo.transform
    return max(4, 2 - math.floor(math.log10(math.hypot(a, d))))


def _placed(record: PhotoRecord, xs: list[float], ys: list[float]) -> list[tuple[float, float]]:
    """Return places in px as those of the drawing, y upwards."""
    if record.geo is not None:
        return [record.geo.place(x, y) for x, y in zip(xs, ys, strict=True)]
    if record.matrix is None:
        return [(x, -y) for x, y in zip(xs, ys, strict=True)]
    placed = np.column_stack([xs, ys, np.ones(len(xs))]) @ np.array(record.matrix).T
    placed = placed[:, :2] / placed[:, 2:]
    return [(float(x), -float(y)) for x, y in placed]


def _svg_crack(record: PhotoRecord, crack: CrackRecord) -> str:
    rank = _rank(record, crack)
    colour = _PLAIN if rank < 0 else _SVG_COLOURS[_shade(rank, len(record.severities), len(_SVG_COLOURS))]
    width = crack.row["width_mean_px"] or crack.row["mask_width_mean_px"]
    ways = " ".join(
        "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(line.x, line.y, strict=True)) for line in crack.lines
    )
    look = f'stroke="{colour}" stroke-width="{width:.2f}"'
    return f'<path id="crack{crack.row["crack"]}" d="{ways}" {look}><title>{escape(describe(crack))}</title></path>'
