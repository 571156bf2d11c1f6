"""Pixels of photos and masks for measuring and for previews: held where they are few, else on disk.

A raster is read by rows, whatever its size; knows nothing about cracks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.errors import OutputError
from cracktool.images import MAX_PIXELS, Image, Mask, read_image, read_mask
from cracktool.inference.rasters import GeoRaster, is_raster

_Pixel = TypeVar("_Pixel", np.bool_, np.uint8)

_HELD = 2**26  # pixels; more of a raster's go through a file
_ROWS = 512  # read together: a row of blocks as `GeoWriter` makes them
CRACK = 128  # grey values from here on are crack, as in `read_mask`


@contextmanager
def opened(photo: Path | None, mask: Path, page: int = 0) -> Iterator[tuple[Image | None, Mask, float]]:
    """Give the grey levels of a photo, uint8 (H, W), its mask, bool (H, W), and the share of the photo not nodata.

    `page` is which picture of the photo's file. Large rasters are memory maps, which lie in a temporary folder, a byte
    a pixel, and are gone afterwards.

    Raises:
        InputError: A file cannot be read.
        OutputError: There is no room for the maps.
    """
    rasters = {path for path in (photo, mask) if path is not None and is_raster(path)[0]}
    room = tempfile.TemporaryDirectory(prefix="crack-", ignore_cleanup_errors=True) if rasters else nullcontext("")
    with room as folder:
        crack = _pixels(mask, Path(folder, "mask"), np.bool_)[0] if mask in rasters else read_mask(mask)
        if photo is None:  # a mask's nodata may be all that is no crack
            yield None, crack, 1.0
        elif photo in rasters:
            grey, shown = _pixels(photo, Path(folder, "photo"), np.uint8)
            yield grey, crack, shown
        else:
            most = max(MAX_PIXELS, crack.size)  # a photo as large as its mask is no trap
            yield read_image(photo, page=page, max_pixels=most, grey=True), crack, 1.0


def raster_bands(path: Path, side: int) -> tuple[int, Iterator[Image]] | None:
    """Return by how much a raster is to be shrunk to be `side` px long, and its bands of so many rows or multiples.

    None for other files.

    Raises:
        InputError: It cannot be read.
    """
    if not is_raster(path)[0]:
        return None
    raster = GeoRaster(path)
    factor = -(-max(raster.height, raster.width) // side)
    step = factor * max(1, _ROWS // factor)
    tops = range(0, raster.height, step)
    rows = (raster.read(top, min(top + step, raster.height))[0] for top in tops)
    return factor, map(np.ascontiguousarray, rows)


def _pixels(path: Path, spool: Path, kind: type[_Pixel]) -> tuple[npt.NDArray[_Pixel], float]:
    """Return a raster's grey levels, or where they are crack, (H, W), and the share of them that is no nodata.

    They are an array, or a map of the file `spool`.
    """
    raster = GeoRaster(path)
    size = raster.height * raster.width
    shown: list[int] = []
    if size <= _HELD:
        return np.concatenate(list(_rows(raster, kind, shown))), sum(shown) / size
    try:
        with spool.open("wb") as file:
            for rows in _rows(raster, kind, shown):
                file.write(rows.data)
        return np.memmap(spool, kind, "r", shape=(raster.height, raster.width)), sum(shown) / size
    except OSError as error:
        room = f"{size / 1e9:.1f} GB"
        raise OutputError(f"its pixels cannot be put aside: {error}", path=path, remedy=f"{room} are needed") from error


def _rows(raster: GeoRaster, kind: type[_Pixel], shown: list[int]) -> Iterator[npt.NDArray[_Pixel]]:
    """Give a raster's rows, and add to `shown` how many pixels of them are no nodata."""
    for top in range(0, raster.height, _ROWS):
        rows, valid = raster.read(top, min(top + _ROWS, raster.height))
        shown.append(rows.shape[0] * rows.shape[1] if valid is None else int(valid.sum()))
        grey = cv2.cvtColor(np.ascontiguousarray(rows), cv2.COLOR_RGB2GRAY)
        yield np.asarray(grey >= CRACK if kind is np.bool_ else grey, kind)
