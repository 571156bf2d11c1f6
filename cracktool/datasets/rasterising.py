"""Draw outlines, lines and run lengths of annotation files into masks.

Pure geometry on arrays; knows no file format beyond the two ways in which run lengths are written. Coordinates are
continuous, x to the right and y down: pixel (0, 0) covers 0 to 1 and has its centre at 0.5. A pixel belongs to a
shape when its centre lies in it, so that a bar from x = 2 to x = 5 is 3 px wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cracktool.images import Mask
from cracktool.linking import spans

Points = npt.NDArray[np.float64]  # (N, 2), x and y


def to_points(numbers: object) -> Points:
    """Return pairs of numbers, flat or nested, as points (N, 2).

    Raises:
        ValueError: They are no pairs of finite numbers.

    Example:
        >>> to_points([0, 1, 2, 3]).tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    points = np.asarray(numbers, np.float64)
    if points.size % 2 or (points.ndim == 2 and points.shape[1] != 2) or points.ndim > 2:
        raise ValueError("coordinates are no pairs of x and y")
    if not np.isfinite(points).all():
        raise ValueError("coordinates are no finite numbers")
    return points.reshape(-1, 2)


def fill_rings(mask: Mask, rings: Sequence[Points]) -> None:
    """Set the pixels inside closed rings by the even-odd rule: a ring within another is a hole.

    Args:
        mask: bool (height, width), changed in place.
        rings: The corners of each ring; the last is joined to the first.
    """
    height, width = mask.shape
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    (x0, y0), (x1, y1) = starts.T, ends.T
    # The rows whose centre an edge passes, half open: a corner on a centre counts for one of its two edges.
    first = np.ceil(np.clip(np.minimum(y0, y1), 0, height) - 0.5).astype(np.int64)
    last = np.ceil(np.clip(np.maximum(y0, y1), 0, height) - 0.5).astype(np.int64)
    counts = last - first
    if not counts.any():
        return
    edge, rows = spans(first, counts)
    crossings = x0[edge] + (rows + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    columns = np.ceil(np.clip(crossings, 0, width) - 0.5).astype(np.int64)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max()
    turns = np.zeros((bottom - top, right - left + 1), np.int32)
    np.add.at(turns, (rows - top, columns - left), 1)
    mask[top:bottom, left:right] |= (np.cumsum(turns, axis=1)[:, :-1] & 1).astype(np.bool_)


def draw_line(mask: Mask, points: Points, width: float) -> None:
    """Draw a line through points, with round joints and ends.

    At 1 px it is the thinnest line without gaps.

    Args:
        mask: bool (height, width), changed in place.
        points: Its corners; a single one makes a dot.
        width: In px.
    """
    for point in points:
        fill_ellipse(mask, point[0], point[1], width / 2, width / 2)
    for start, end in pairwise(points):
        along = end - start
        length = float(np.hypot(*along))
        if length:
            side = np.array([-along[1], along[0]]) / length * width / 2
            fill_rings(mask, [np.array([start + side, end + side, end - side, start - side])])


def fill_ellipse(mask: Mask, x: float, y: float, radius_x: float, radius_y: float, turned: float = 0.0) -> None:
    """Set the pixels whose centre lies in an ellipse around (x, y).

    Args:
        mask: bool (height, width), changed in place.
        x: Of its centre.
        y: Of its centre.
        radius_x: Half its width in px, above 0.
        radius_y: Half its height in px, above 0.
        turned: By how many degrees it is then turned clockwise about its centre.
    """
    cos, sin = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    reach_y, reach_x = math.hypot(radius_x * sin, radius_y * cos), math.hypot(radius_x * cos, radius_y * sin)
    top, bottom = (int(np.clip(edge, 0, mask.shape[0])) for edge in (y - reach_y, y + reach_y + 1))
    left, right = (int(np.clip(edge, 0, mask.shape[1])) for edge in (x - reach_x, x + reach_x + 1))
    down, across = np.arange(top, bottom)[:, None] + 0.5 - y, np.arange(left, right) + 0.5 - x
    inside = ((across * cos + down * sin) / radius_x) ** 2 + ((down * cos - across * sin) / radius_y) ** 2 < 1
    mask[top:bottom, left:right] |= inside


def paste(mask: Mask, patch: Mask, x: int, y: int) -> None:
    """Set the pixels of a patch whose upper left corner is at column `x` and row `y`; what sticks out is cut off."""
    top, left = max(y, 0), max(x, 0)
    part = patch[top - y :, left - x :]
    target = mask[top : top + part.shape[0], left : left + part.shape[1]]
    target |= part[: target.shape[0], : target.shape[1]]


def decode_runs(runs: Sequence[int], shape_hw: tuple[int, int], *, by_columns: bool) -> Mask:
    """Return the mask of run lengths, of background and crack in turn, the first of background.

    Args:
        runs: Pixels of each run, not negative.
        shape_hw: Height and width.
        by_columns: The runs go down the columns, as in COCO; else along the rows, as in CVAT.

    Raises:
        ValueError: They do not fill the mask.
    """
    lengths = np.asarray(runs, np.int64).reshape(-1)
    height, width = shape_hw
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths for {lengths.sum()} px, expected {height} x {width}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T.copy() if by_columns else flat.reshape(height, width)


def unpack_coco_runs(text: str) -> list[int]:
    """Return the run lengths that COCO's compressed form stands for.

    Each number is written in digits of 5 bits, lowest first, in characters from "0" on; 32 marks that digits follow,
    the highest bit of the last is the sign. From the fourth on, a number is the difference to the one two before.

    Raises:
        ValueError: The text is cut short or holds other characters.

    Example:
        >>> unpack_coco_runs("52203")
        [5, 2, 2, 2, 5]
    """
    runs: list[int] = []
    value = bits = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            raise ValueError(f"no compressed run lengths: {character!r} in it")
        value |= (digit & 31) << bits
        bits += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << bits
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = bits = 0
    if bits:
        raise ValueError("compressed run lengths are cut short")
    return runs
