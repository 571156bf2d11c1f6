"""From centre lines and widths to pixels: the mask by its definition, and how much of each pixel a crack covers.

Knows nothing about how cracks grow or what they look like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cracktool.datasets.synthetic.noise import Field
from cracktool.images import Mask

Floats = npt.NDArray[np.float64]
_CHUNK = 1_000_000  # pixel-segment pairs looked at together: bounds the memory


@dataclass(frozen=True, kw_only=True, eq=False)
class Crack:
    """A crack as a line of known place and width.

    Args:
        points: Centre line, float (N, 2), N >= 2, rows (y, x) in px; the centre of the upper left pixel is (0, 0).
            Points may lie outside of the picture.
        widths: Width at each point in px, float (N,), changing linearly between points.
        parent: Position in the picture's list of the crack that this one branches from or goes on from after a gap;
            None for a crack of its own.
    """

    points: Floats
    widths: Floats
    parent: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Cracks as pixels.

    Args:
        mask: bool (height, width), True where the crack, widened to 1 px where it is narrower, covers at least half of
            the pixel. For a straight edge that is where the pixel's centre lies within half of the width of the centre
            line, which is how it is decided: by the nearest point of each piece, at any sub-pixel place. 1 px is just
            what keeps a line of any direction connected over corners.
        coverage: float32 (height, width), share 0 to 1 of the pixel that is crack, which for hairlines stays below 1.
        inset: float32 (height, width), distance in px of the pixel's centre from the crack's edge; 0 outside.
    """

    mask: Mask
    coverage: Field
    inset: Field


def trace(cracks: Sequence[Crack], shape_hw: tuple[int, int]) -> Trace:
    """Return which pixels the cracks cover, and how much of them.

    Args:
        cracks: In pixel coordinates of the picture.
        shape_hw: Height and width of the picture in px.

    Example:
        >>> line = Crack(points=np.array([[8.0, -5.0], [8.0, 25.0]]), widths=np.array([3.0, 3.0]))
        >>> int(trace([line], (16, 20)).mask.sum())
        60
    """
    mask = np.zeros(shape_hw, np.bool_)
    coverage, inset = np.zeros(shape_hw, np.float32), np.zeros(shape_hw, np.float32)
    for start, end in _batches(cracks):
        index, distance, half = _near(start, end, shape_hw)
        mask.reshape(-1)[index[distance <= np.maximum(half, 0.5)]] = True
        # The crack and the pixel as intervals across the line: their overlap is the covered share.
        share = np.minimum(distance + half, 0.5) - np.maximum(distance - half, -0.5)
        touched = share > 0
        np.maximum.at(coverage.reshape(-1), index[touched], share[touched].astype(np.float32))
        np.maximum.at(inset.reshape(-1), index[touched], (half - distance)[touched].astype(np.float32))
    return Trace(mask=mask, coverage=coverage, inset=inset)


def _batches(cracks: Sequence[Crack]) -> Iterator[tuple[Floats, Floats]]:
    """Yield pieces as rows (y, x, half width) of their starts and ends, those of similar reach together."""
    if not cracks:
        return
    lines = [np.column_stack([crack.points, crack.widths / 2]) for crack in cracks]
    start = np.concatenate([line[:-1] for line in lines])
    end = np.concatenate([line[1:] for line in lines])
    reach = _reach(start, end)
    limits = np.array([2, 3, 4, 6, 9, 13, 19, 28, 64, 256, 1024, 1 << 30])
    bucket = np.searchsorted(limits, reach)
    for number in np.unique(bucket):
        members = np.flatnonzero(bucket == number)
        rows = max(1, _CHUNK // int(2 * reach[members].max() + 1) ** 2)
        for first in range(0, len(members), rows):
            chosen = members[first : first + rows]
            yield start[chosen], end[chosen]


def _reach(start: Floats, end: Floats) -> npt.NDArray[np.int64]:
    """Return how far from the middle of a piece, in px, a pixel can be touched by it."""
    length = np.abs(end - start)[:, :2].max(axis=1)
    half = np.maximum(start[:, 2], end[:, 2])
    return np.asarray(np.ceil(length / 2 + np.maximum(half, 0.5) + 1), np.int64)


def _near(start: Floats, end: Floats, shape_hw: tuple[int, int]) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return for each near pair of piece and pixel: the pixel's flat index, its distance and the half width there."""
    reach = int(_reach(start, end).max())
    centre = np.rint((start + end)[:, :2] / 2).astype(np.int64)
    window = np.arange(-reach, reach + 1)
    y = (centre[:, :1] + window)[:, :, None]  # (pieces, 2 reach + 1, 1)
    x = (centre[:, 1:] + window)[:, None, :]
    inside = (y >= 0) & (y < shape_hw[0]) & (x >= 0) & (x < shape_hw[1])
    step = (end - start)[:, :, None, None]  # (pieces, 3, 1, 1)
    from_y, from_x = y - start[:, 0, None, None], x - start[:, 1, None, None]
    squared = np.maximum(step[:, 0] ** 2 + step[:, 1] ** 2, 1e-12)
    along = np.clip((from_y * step[:, 0] + from_x * step[:, 1]) / squared, 0, 1)
    distance = np.sqrt((from_y - along * step[:, 0]) ** 2 + (from_x - along * step[:, 1]) ** 2)
    half = start[:, 2, None, None] + along * step[:, 2]
    inside &= distance < np.maximum(half, 0.5) + 0.5
    return (y * shape_hw[1] + x)[inside], distance[inside], half[inside]
