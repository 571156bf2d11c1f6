"""The table of centre lines and widths that lies beside each synthetic mask, as `lines/NAME.csv`.

One row per point; what is read is exactly what the mask was made of.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cracktool.datasets.synthetic.raster import Crack
from cracktool.errors import InputError

COLUMNS = ("crack", "parent", "point", "y_px", "x_px", "width_px")


def lines_csv(cracks: Sequence[Crack]) -> bytes:
    """Return cracks as a CSV table, UTF-8; only the header for none.

    ``crack`` and ``point`` count from 0 and rise row by row; ``parent`` is the number of the crack that this one
    branches from or goes on from, empty for none; places and widths are those of `Crack`, in px of the mask.

    Example:
        >>> bar = Crack(points=np.array([[8.0, -5.0], [8.0, 25.0]]), widths=np.array([3.0, 3.25]))
        >>> lines_csv([bar]).decode().splitlines()
        ['crack,parent,point,y_px,x_px,width_px', '0,,0,8.00,-5.00,3.00', '0,,1,8.00,25.00,3.25']
    """
    rows = [",".join(COLUMNS)]
    for number, crack in enumerate(cracks):
        head = f"{number},{'' if crack.parent is None else crack.parent}"
        places = zip(crack.points.tolist(), crack.widths.tolist(), strict=True)
        rows += [f"{head},{point},{y:.2f},{x:.2f},{width:.2f}" for point, ((y, x), width) in enumerate(places)]
    return ("\n".join(rows) + "\n").encode()


def read_lines(path: str | Path) -> tuple[Crack, ...]:
    """Read a table of centre lines and widths.

    Returns:
        The cracks; `trace` of them and the mask's shape gives the mask again, pixel by pixel.

    Raises:
        InputError: There is no such table, or a row of it cannot be understood.

    Example:
        >>> cracks = read_lines("data/synthetic/lines/synthetic_00000.csv")  # doctest: +SKIP
    """
    path = Path(path)
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text table"
        raise InputError(f"cannot be read: {reason}", path=path) from error
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"columns missing: {', '.join(missing)}", path=path, remedy="use a table of lines/")
    cracks: list[list[tuple[float, float, float]]] = []
    parents: list[int | None] = []
    try:
        for row in reader:
            _append(cracks, parents, row)
    except (csv.Error, TypeError, ValueError) as error:
        raise InputError(f"line {reader.line_num} cannot be understood: {error}", path=path) from error
    if any(len(points) < 2 for points in cracks):
        raise InputError("a crack has a single point", path=path, remedy="make the set again; the table is cut off")
    return tuple(
        Crack(points=np.array(points)[:, :2], widths=np.array(points)[:, 2], parent=parent)
        for points, parent in zip(cracks, parents, strict=True)
    )


def _append(
    cracks: list[list[tuple[float, float, float]]], parents: list[int | None], row: Mapping[str, str | None]
) -> None:
    number, point, parent = int(row["crack"] or ""), int(row["point"] or ""), row["parent"]
    place = float(row["y_px"] or ""), float(row["x_px"] or ""), float(row["width_px"] or "")
    if number == len(cracks) and point == 0:
        cracks.append([])
        parents.append(int(parent) if parent else None)
    if number != len(cracks) - 1 or point != len(cracks[-1]):
        raise ValueError(f"crack {number}, point {point} is out of order")
    cracks[-1].append(place)
