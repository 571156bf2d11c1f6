"""A photo as the pixels of one row of tiles after the other, padded to what the tiles cover.

Knows where tiles lie; knows no network. Of a photo that is read by rows, two strips are held at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cracktool.images import Image, Mask
from cracktool.inference.decode import prefetched
from cracktool.inference.memory import Array, Memory
from cracktool.inference.rasters import Raster
from cracktool.tiles import Axis

Photo = Image | Raster
"""The pixels of a photo, uint8 (H, W, 3), or what gives them by rows."""

_ROWS = 512  # read at once, as high as most files' blocks: what is read lies in memory twice, until it is in its strip


@dataclass(eq=False)
class Strip:
    """The pixels of one row of tiles.

    Args:
        pixels: uint8 (tile, padded width, 3).
        valid: Where the photo shows something, bool (rows, width); None where it does everywhere.
        new: How many of its rows, the lowest ones, the strip before did not have.
        on_device: The same pixels on the device, where it has a memory of its own.
    """

    pixels: Image
    valid: Mask | None
    new: int
    on_device: Array | None = None

    def tile(self, left: int, width: int) -> Image:
        """Return the pixels of the tile from a column on, uint8 (tile, width, 3)."""
        return self.pixels[:, left : left + width]

    def is_empty(self, left: int, width: int) -> bool:
        """Tell whether a tile shows nothing, or one and the same colour everywhere."""
        if self.valid is not None and not self.valid[:, left : left + width].any():
            return True
        tile = self.tile(left, width)
        first = tile[0, 0]
        return bool((tile[0] == first).all() and (tile == first).all())  # the first row rules out nearly all, at once


def strips(photo: Photo, rows: Axis, columns: Axis, memory: Memory, timeout: float) -> Iterator[Strip]:
    """Give the strip of each row of tiles, from top to bottom; on a GPU with its pixels under way.

    Raises:
        InputError: Rows of the photo cannot be read, or not within `timeout` seconds.
    """
    if isinstance(photo, np.ndarray):
        given = _cut(photo, rows, columns)
    else:
        given = prefetched(_read(photo, rows, columns), ahead=1, timeout=timeout)
    return _uploaded(given, memory)


def _cut(image: Image, rows: Axis, columns: Axis) -> Iterator[Strip]:
    end = 0
    for start in rows.starts:
        kept, end = end - start, start + rows.tile
        yield Strip(_padded(image[start:end], rows.tile, columns.padded), None, rows.tile - kept)


def _read(raster: Raster, rows: Axis, columns: Axis) -> Iterator[Strip]:
    before: Image = np.empty((0, columns.padded, 3), np.uint8)
    valid: Mask | None = None
    end = 0
    for start in rows.starts:
        kept, begin, end = end - start, end, min(start + rows.tile, raster.height)
        pixels: Image = np.empty((rows.tile, columns.padded, 3), np.uint8)
        pixels[:kept] = before[len(before) - kept :]
        shown = [] if valid is None else [valid[len(valid) - kept :]]
        for top in range(begin, end, _ROWS):
            bottom = min(top + _ROWS, end)
            pixels[top - start : bottom - start, : raster.width], fresh_valid = raster.read(top, bottom)
            if fresh_valid is not None:
                shown.append(fresh_valid)
        pixels[kept : end - start, raster.width :] = pixels[kept : end - start, raster.width - 1, None]
        pixels[end - start :] = pixels[end - start - 1]
        before = pixels
        valid = np.concatenate(shown) if shown else None
        yield Strip(pixels, valid, rows.tile - kept)


def _uploaded(given: Iterator[Strip], memory: Memory) -> Iterator[Strip]:
    before: Array | None = None
    for strip in given:
        before = strip.on_device = memory.upload_rows(strip.pixels, strip.new, before)
        yield strip


def _padded(pixels: Image, height: int, width: int) -> Image:
    """Repeat the last row and column up to a size."""
    missing = (0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)
    return np.pad(pixels, missing, mode="edge") if any(after for _, after in missing) else pixels
