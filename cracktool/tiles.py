"""Where tiles start and how they are weighted: geometry along one axis, twice.

Pure arithmetic: no pixels, no network. A photo's tiles are the product of one `Axis` down and one across.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from cracktool.errors import UsageError

MAX_OVERLAP = 0.9


@dataclass(frozen=True)
class Axis:
    """The tiles along one side of a photo.

    Args:
        length: Pixels of the photo along this side.
        tile: Side of every tile in px, a multiple of the network's stride.
        starts: First pixel of each tile, rising multiples of the stride; the last tile is flush with `padded`.
    """

    length: int
    tile: int
    starts: tuple[int, ...]

    @property
    def padded(self) -> int:
        """Length that the tiles cover: `length` rounded up to the network's stride."""
        return self.starts[-1] + self.tile

    def enlarged(self, scale: int) -> Axis:
        """Return the same tiles in the pixels of an output `scale` times as large."""
        return Axis(self.length * scale, self.tile * scale, tuple(start * scale for start in self.starts))

    def weights(self) -> npt.NDArray[np.float32]:
        """Return what each tile counts at each of its pixels, float32 (tiles, tile) in [0, 1].

        The weights of all tiles at a pixel sum to 1, so blending needs neither a count map nor a division. In the
        overlap of two neighbours, the quarter next to a tile's edge counts nothing (the network lacks context there and
        the neighbour sees it better), the middle half is a cosine ramp. The ends of the photo count fully.
        """
        return _weights(self.tile, self.starts)


def plan_axis(length: int, *, tile: int, overlap: float, stride: int) -> Axis:
    """Place tiles along one side of a photo, evenly, at multiples of the network's stride.

    Starting at multiples of the stride keeps the network's sampling grid where it lies in the whole photo, so that
    tiles see exactly what the whole photo would give.

    Args:
        length: Pixels of the photo along this side, 1 or more.
        tile: Wanted side of a tile in px; rounded up to the stride, and cut to what the photo needs.
        overlap: Least share of a tile that it shares with the next, 0 to 0.9. A tile of a single stride cannot overlap.
        stride: Network's stride in px.

    Raises:
        UsageError: `tile` or `overlap` is out of range.

    Example:
        >>> plan_axis(1000, tile=512, overlap=0.25, stride=32).starts
        (0, 256, 512)
    """
    if tile < 1:
        raise UsageError(f"tile is {tile}, but must be 1 px or more", remedy="leave it out for what suits the weights")
    check_overlap(overlap)
    units = math.ceil(length / stride)
    side = min(math.ceil(tile / stride), units)
    step = max(side - math.ceil(overlap * side), 1)
    gaps = math.ceil((units - side) / step)
    starts = [gap * (units - side) // gaps for gap in range(gaps)] + [units - side]
    return Axis(length, side * stride, tuple(start * stride for start in starts))


def check_overlap(overlap: float) -> float:
    """Return the share of a tile that it shares with the next, or raise `UsageError` where it is out of range."""
    if 0 <= overlap <= MAX_OVERLAP:
        return overlap
    raise UsageError(f"overlap is {overlap:g}, but must be a share from 0 to {MAX_OVERLAP}", remedy="try 0.25")


def plan_even(length: int, *, most: int, halo: int, stride: int) -> Axis:
    """Place as few tiles as can be along one side of a photo, of such a size that they share `halo` and no more.

    The pixels that are run are `length` and `halo` for each further tile, so that a megapixel costs the same in small
    photos and large ones. `plan_axis` has tiles of one size, and what is too much of them overlaps.

    Args:
        length: Pixels of the photo along this side, 1 or more.
        most: Largest side of a tile in px.
        halo: Least that a tile shares with the next in px, less than `most`.
        stride: Network's stride in px.

    Example:
        >>> axis = plan_even(1500, most=1024, halo=128, stride=32)
        >>> axis.tile, axis.starts
        (832, (0, 672))
    """
    units, most, halo = math.ceil(length / stride), max(most // stride, 2), math.ceil(halo / stride)
    halo = min(halo, most - 1)
    count = 1 if units <= most else math.ceil((units - halo) / (most - halo))
    side = math.ceil((units + (count - 1) * halo) / count)
    starts = [index * (units - side) // max(count - 1, 1) for index in range(count)]
    return Axis(length, side * stride, tuple(start * stride for start in starts))


@lru_cache(maxsize=64)
def _weights(tile: int, starts: tuple[int, ...]) -> npt.NDArray[np.float32]:
    # Between each pair of neighbours a switch goes from 0 to 1; a tile counts what its left switch gives and its right
    # one takes away. The sum telescopes to 1 however many tiles cover a pixel, and later switches are never ahead.
    switches = [_switch(left + tile, right) for left, right in pairwise(starts)]
    rows = np.empty((len(starts), tile), np.float32)
    for index, start in enumerate(starts):
        pixels = np.arange(start, start + tile) + 0.5
        given = _rise(pixels, *switches[index - 1]) if index else np.ones(tile)
        taken = _rise(pixels, *switches[index]) if index < len(switches) else np.zeros(tile)
        rows[index] = given - taken
    rows.flags.writeable = False
    return rows


def _switch(end: int, next_start: int) -> tuple[float, float]:
    quarter = (end - next_start) / 4
    return next_start + quarter, end - quarter


def _rise(pixels: npt.NDArray[np.floating[Any]], begin: float, end: float) -> npt.NDArray[np.floating[Any]]:
    share = np.clip((pixels - begin) / max(end - begin, 1e-9), 0, 1)  # tiles that only touch: a step
    rise: npt.NDArray[np.floating[Any]] = 0.5 - 0.5 * np.cos(np.pi * share)
    return rise
