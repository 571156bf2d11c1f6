"""Connected parts of a mask as runs of pixels, found in bands of rows: the memory goes with the crack, not the photo.

Knows nothing about lines, widths or units other than pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cracktool.images import Mask
from cracktool.linking import lowest_linked, spans

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_BAND = 512  # rows looked at together


@dataclass(frozen=True, eq=False)
class Components:
    """The 8-connected parts of a mask, numbered in reading order of their first pixels.

    Args:
        shape_hw: Height and width of the mask in px.
        row: Row of each run of crack pixels, int64 (R,), in reading order.
        start: Column of its first pixel, (R,).
        stop: Column behind its last pixel, (R,).
        part: Number of the part that the run belongs to, (R,), 0 to `count` - 1.
        count: How many parts there are.
    """

    shape_hw: tuple[int, int]
    row: Ints
    start: Ints
    stop: Ints
    part: Ints
    count: int

    @property
    def area(self) -> Ints:
        """Pixels of each part, (count,)."""
        return np.bincount(self.part, self.stop - self.start, self.count).astype(np.int64)

    @property
    def boxes(self) -> Ints:
        """Top, left, bottom, right of each part in px, (count, 4); the last two lie behind the last pixel."""
        boxes = np.tile(np.array([*self.shape_hw, 0, 0], np.int64), (self.count, 1))
        np.minimum.at(boxes[:, 0], self.part, self.row)
        np.minimum.at(boxes[:, 1], self.part, self.start)
        np.maximum.at(boxes[:, 2], self.part, self.row + 1)
        np.maximum.at(boxes[:, 3], self.part, self.stop)
        return boxes

    @property
    def anchors(self) -> Ints:
        """First pixel (y, x) of each part in reading order, (count, 2)."""
        _, first = np.unique(self.part, return_index=True)
        return np.column_stack([self.row[first], self.start[first]])

    def part_at(self, pixels: Ints) -> Ints:
        """Return the number of the part at crack pixels (N, 2), rows (y, x); -1 where there is no crack."""
        if not len(self.row):
            return np.full(len(pixels), -1, np.int64)
        run = self._run_before(pixels)
        inside = (run >= 0) & (self.row[run] == pixels[:, 0]) & (pixels[:, 1] < self.stop[run])
        return np.where(inside, self.part[run], -1)

    def part_around(self, pixels: Ints) -> Ints:
        """Return the number of the part at pixels (N, 2) that are crack or in a hole of it: that of the run before."""
        return self.part[self._run_before(pixels)]

    def _run_before(self, pixels: Ints) -> Ints:
        stride = self.shape_hw[1] + 1
        starts = self.row * stride + self.start
        return np.searchsorted(starts, pixels[:, 0] * stride + pixels[:, 1], "right") - 1

    def coarse(self, part: int, factor: int) -> Mask:
        """Return one part cut to its box and shrunk: a cell of `factor` x `factor` px is crack where any pixel is."""
        top, left, bottom, right = self.boxes[part]
        cells = np.zeros((-(-(bottom - top) // factor), -(-(right - left) // factor)), np.bool_)
        chosen = self.part == part
        rows = (self.row[chosen] - top) // factor
        starts = (self.start[chosen] - left) // factor
        stops = (self.stop[chosen] - 1 - left) // factor + 1
        for row, start, stop in zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True):
            cells[row, start:stop] = True
        return cells


def find_components(mask: Mask) -> Components:
    """Return the 8-connected parts of a mask.

    Args:
        mask: bool (H, W), True on crack; a memory map will do.

    Example:
        >>> find_components(np.array([[1, 0, 0, 1], [0, 1, 0, 0]], bool)).area.tolist()
        [2, 1]
    """
    bands = [_runs(mask[top : top + _BAND], top) for top in range(0, mask.shape[0], _BAND)]
    runs = np.concatenate([np.zeros((0, 3), np.int64), *bands])
    row, start, stop = runs.T
    first, part = np.unique(lowest_linked(len(row), _touching(row, start, stop, mask.shape[1])), return_inverse=True)
    return Components((int(mask.shape[0]), int(mask.shape[1])), row, start, stop, part, len(first))


def _runs(band: Mask, top: int) -> Ints:
    """Return the runs of a band as rows (row, start, stop)."""
    stride = band.shape[1] + 1  # background behind each row
    padded = np.zeros(1 + band.shape[0] * stride, np.bool_)  # and before the first
    padded[1:].reshape(-1, stride)[:, :-1] = band
    change = np.flatnonzero(padded[1:] != padded[:-1])
    row, start = np.divmod(change[::2], stride)
    return np.column_stack([row + top, start, change[1::2] - row * stride]).astype(np.int64)


def _touching(row: Ints, start: Ints, stop: Ints, width: int) -> Ints:
    """Return the pairs (L, 2) of runs of neighbouring rows that touch, corners included."""
    stride = width + 3
    begins, ends = row * stride + start, row * stride + stop
    # In the next row: from the first run that ends at or behind my start to the last that starts at or before my stop.
    first = np.searchsorted(ends, (row + 1) * stride + start, "left")
    last = np.searchsorted(begins, (row + 1) * stride + stop, "right")
    return np.column_stack(spans(first, np.maximum(last - first, 0)))
