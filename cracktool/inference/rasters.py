"""GeoTIFF, COG, BigTIFF and JP2 by rows: read without ever holding the photo, written tiled with their georeference.

Pixels by rasterio, in files that `cracktool.georeference` opens; knows nothing about networks.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cracktool.containers import AGAIN
from cracktool.errors import InputError, OutputError
from cracktool.files import MAKE_ROOM, is_file
from cracktool.georeference import ENDINGS, has_rasterio, open_raster
from cracktool.images import EIGHT_BITS, Image, Mask, read_exif

_BLOCK = 512
_WIDE_PIXELS = 2**26  # a picture that is larger is read by rows though it has no georeference: 201 MB of RGB
_ORIENTATION = 0x0112  # tag of a TIFF; 1, as without it: upright


class Raster(Protocol):
    """A photo that gives its rows from top to bottom instead of being held.

    Attributes:
        height: Rows.
        width: Pixels of a row.
    """

    height: int
    width: int

    def read(self, top: int, bottom: int) -> tuple[Image, Mask | None]:
        """Return rows uint8 (bottom - top, width, 3), and where they show something, bool (bottom - top, width).

        None in place of the second where every pixel shows something.

        Raises:
            InputError: The rows cannot be read.
        """
        ...


def is_raster(path: Path) -> tuple[bool, bool]:
    """Return whether a file is to be read by rows, and whether it has a georeference; (False, False) for no raster.

    A large one without georeference is not where it has several pages or must be turned, which rasterio does not do.
    """
    if path.suffix.lower() not in ENDINGS or not is_file(path) or not has_rasterio():
        return False, False
    try:
        with open_raster(path) as dataset:
            georeferenced = dataset.crs is not None or not dataset.transform.is_identity
            large = dataset.width * dataset.height > _WIDE_PIXELS and dataset.driver != "JP2OpenJPEG"
            return georeferenced or (large and not dataset.subdatasets and _is_upright(path)), georeferenced
    except InputError:
        return False, False  # the other readers may be able to, or have a better word for what is wrong


def _is_upright(path: Path) -> bool:
    try:
        return read_exif(path)[0].get(_ORIENTATION, 1) in (0, 1)
    except InputError:
        return True  # of a kind that only rasterio reads


class GeoRaster:
    """A file that rasterio opens, read by rows.

    One, three or more bands of 8 or 16 bits: one is grey, of more the first three are RGB; 16 bits keep their upper 8.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be opened, or its values are no picture.
        UsageError: rasterio is not installed.

    Example:
        >>> GeoRaster(Path("orthophoto.tif")).read(0, 512)[0].shape
        (512, 20000, 3)
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # a GDAL dataset belongs to one thread at a time
        self._dataset = open_raster(path)
        kinds = set(self._dataset.dtypes)
        if not kinds <= {"uint8", "uint16"}:
            reason = f"its values are {', '.join(sorted(kinds))}, not 8 or 16 bits"
            raise InputError(reason, path=path, remedy=EIGHT_BITS)
        self.height: int = self._dataset.height
        self.width: int = self._dataset.width
        self._bands, self._palette = _colours(self._dataset)
        self._always_valid = _always_valid(self._dataset)
        self._inverted = self._dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"

    def read(self, top: int, bottom: int) -> tuple[Image, Mask | None]:
        """Return rows and where they show something; see `Raster`."""
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        window = Window(0, top, self.width, bottom - top)
        try:
            with self._lock:
                values = self._dataset.read(self._bands, window=window)  # (bands, rows, width)
                valid = None if self._always_valid else self._dataset.dataset_mask(window=window) > 0
        except (RasterioError, OSError) as error:
            raise InputError(f"rows {top} to {bottom} cannot be read", path=self._path, remedy=AGAIN) from error
        return self._rgb(values), valid

    def profile(self, scale: int) -> dict[str, Any]:
        """Return what a file with the same place on Earth needs, its pixels `scale` times as fine."""
        dataset = self._dataset
        transform = dataset.transform @ dataset.transform.scale(1 / scale)
        return {"crs": dataset.crs, "transform": transform, "has_holes": not self._always_valid}

    def _rgb(self, values: npt.NDArray[Any]) -> Image:
        if self._inverted:
            values = ~values
        if values.dtype == np.uint16:
            values = (values >> 8).astype(np.uint8)
        if self._palette is not None:
            coloured: Image = self._palette[values[0]]
            return coloured
        if len(values) == 1:
            return np.repeat(values[0][..., None], 3, axis=2)
        return values.transpose(1, 2, 0)  # a view: whoever lays the rows beside others copies them there


class GeoWriter:
    """Writes a one-channel 8-bit GeoTIFF band by band: tiled, compressed, BigTIFF where it must be.

    Pixels that showed nothing in the photo are nothing in the file too, by its internal mask: 0 and 255 both stay
    values.

    Args:
        path: The file.
        raster: The photo whose place on Earth it has.
        height: Rows that will be written in all.
        width: Pixels of a row; a whole multiple of the photo's.
    """

    def __init__(self, path: Path, raster: GeoRaster, height: int, width: int) -> None:
        import rasterio

        place = raster.profile(width // raster.width)
        self._path = path
        self._holes = place.pop("has_holes")
        self._waiting: list[tuple[npt.NDArray[np.uint8], Mask | None]] = []
        self._top, self._count, self._height, self._width = 0, 0, height, width
        try:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                self._dataset = rasterio.open(
                    path, "w", driver="GTiff", dtype="uint8", count=1, height=height, width=width, tiled=True,
                    blockxsize=_BLOCK, blockysize=_BLOCK, compress="deflate", BIGTIFF="IF_SAFER", **place,
                )  # fmt: skip
        except (rasterio.errors.RasterioError, OSError) as error:
            raise _unwritten(error) from error

    def write(self, rows: npt.NDArray[np.uint8], valid: Mask | None = None) -> None:
        """Append rows, uint8 (rows, width), and where the photo showed something, bool (rows, width)."""
        self._waiting.append((rows, valid))
        self._count += len(rows)
        whole = self._count // _BLOCK * _BLOCK
        if whole or self._top + self._count == self._height:
            self._flush(whole if self._top + self._count < self._height else self._count)

    def close(self) -> None:
        """Finish the file; ValueError when rows are missing, `OutputError` where it is not whole."""
        if self._top != self._height:
            self.abandon()
            raise ValueError(f"{self._height - self._top} rows were never written")
        self._guarded(self._dataset.close)
        self._guarded(self._read_again)

    def _read_again(self) -> None:
        # What cannot be written at the end, as on a full disk, is lost without an error of GDAL's.
        from rasterio.windows import Window

        with open_raster(self._path) as dataset:
            for top in range(0, self._height, _BLOCK):
                window = Window(0, top, self._width, min(_BLOCK, self._height - top))
                dataset.read(1, window=window, masked=self._holes)

    def abandon(self) -> None:
        """Let go of the file, whole or not."""
        from rasterio.errors import RasterioError

        try:
            self._dataset.close()
        except (RasterioError, OSError):
            return  # what is thrown away need not be whole

    def _flush(self, count: int) -> None:
        # Whole rows of blocks only: a block written twice would be compressed twice, and its first form stays in the
        # file.
        from rasterio.windows import Window

        rows = np.concatenate([rows for rows, _ in self._waiting])
        window = Window(0, self._top, self._width, count)
        self._guarded(self._dataset.write, rows[:count], 1, window=window)
        rest: Mask | None = None
        if self._holes:
            valid = np.concatenate([_shown(each, valid) for each, valid in self._waiting])
            self._guarded(self._dataset.write_mask, valid[:count].astype(np.uint8) * np.uint8(255), window=window)
            rest = valid[count:].copy()
        self._waiting = [(rows[count:].copy(), rest)]
        self._top += count
        self._count -= count

    def _guarded(self, call: Any, *values: Any, **options: Any) -> None:
        import rasterio
        from rasterio.errors import RasterioError

        try:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                call(*values, **options)
        except (InputError, RasterioError, OSError) as error:
            raise _unwritten(error) from error


def _shown(rows: npt.NDArray[np.uint8], valid: Mask | None) -> Mask:
    return np.ones(rows.shape, bool) if valid is None else valid


def _colours(dataset: Any) -> tuple[list[int], Image | None]:
    """Return the bands that make the picture, and the RGB of each value (256, 3) where it has a palette."""
    from rasterio.enums import ColorInterp

    colours = [index for index, kind in enumerate(dataset.colorinterp, 1) if kind != ColorInterp.alpha]
    if dataset.colorinterp[0] == ColorInterp.palette and dataset.dtypes[0] == "uint8":
        table = dataset.colormap(1)
        return [1], np.array([table.get(value, (0, 0, 0, 0))[:3] for value in range(256)], np.uint8)
    return colours[:3] if len(colours) >= 3 else colours[:1] or [1], None


def _always_valid(dataset: Any) -> bool:
    """Return whether no pixel of any band can be without a value."""
    from rasterio.enums import MaskFlags

    return all(flags == [MaskFlags.all_valid] for flags in dataset.mask_flag_enums)


def _unwritten(error: Exception) -> OutputError:
    # Without a path, for that of the file until it is whole means nothing to anyone: the photo is named instead.
    cause = error.__cause__ or error
    reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    return OutputError(f"its result cannot be written: {reason}", remedy=f"if the disk is full, {MAKE_ROOM}")
