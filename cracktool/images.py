"""Read and write pictures: EXIF orientation, bit depth, alpha and palette on the way in; PNG and JPEG on the way out.

Knows nothing about cracks or networks. A picture in memory is uint8 RGB (height, width, 3), a mask bool
(height, width).
"""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags
from PIL import Image as PillowImage

from cracktool.containers import (
    AGAIN,
    is_plain_grey_png,
    opencv_pixels,
    orientation,
    png_chunk,
    png_header,
    refuse_damaged,
)
from cracktool.errors import InputError, OutputError, UsageError
from cracktool.files import replace_file

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".ppm", ".pgm", ".gif", ".heic", ".heif"}
)
EIGHT_BITS = "make 8 bits of it: gdal_translate -ot Byte -scale"
"""Remedy for values that are no picture."""

MAX_PIXELS = 2**28  # 805 MB of RGB; a file of a few kB may claim to be larger
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM", "GIF")  # not those that start other programs
_OPENCV_PIXELS = 2**30  # its own limit
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_BITS, _COMPRESSION, _PLANES = 258, 259, 284  # tags of a TIFF; 1 is none, 2 a plane for each colour
_HALF_PICTURES = 0b101  # bits of a TIFF page's kind: a smaller copy of another page, or its transparency
_TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"} | {
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_SIDES_EXCHANGED = range(5, 9)  # of the numbers above
_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, struct.error, UserWarning)  # of Pillow, as errors or not


def read_image(source: str | Path | bytes, *, page: int = 0, max_pixels: int = MAX_PIXELS, grey: bool = False) -> Image:
    """Read a picture as uint8 RGB (height, width, 3), turned upright as its EXIF orientation says.

    16-bit pictures keep their upper 8 bits, grey and palette become RGB, transparency is laid on white.

    Args:
        source: A file, or the bytes of one.
        page: Which picture of a file with several, such as a multi-page TIFF; one of `read_pages`.
        max_pixels: More are refused before they are decoded: a file of a few kB can claim to hold gigabytes.
        grey: Read its brightness alone, (height, width): half the time of a JPEG.

    Raises:
        InputError: The file is missing, unreadable, empty, cut short, too large, or not a picture.

    Example:
        >>> read_image("examples/photos/pavement.jpg").shape
        (1200, 1600, 3)
    """
    data, name = _read_bytes(source)
    pixels = opencv_pixels(data)
    _refuse_more(pixels, max_pixels, name)
    if 0 < pixels <= _OPENCV_PIXELS:
        return _decode_opencv(data, name, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB)
    return _decode_pillow(data, name, "L" if grey else "RGB", page, max_pixels)


def read_pages(path: Path) -> tuple[int, ...]:
    """Return which pages of a file are pictures of their own: (0,) for most, more for a multi-page TIFF or a GIF.

    Smaller copies of a page, which a cloud-optimised GeoTIFF is full of, are passed over.

    Raises:
        InputError: The file is missing, unreadable, or not a picture.
    """
    with _header(path) as picture:
        pages = range(getattr(picture, "n_frames", 1))
        return tuple(page for page in pages if len(pages) == 1 or _is_whole(picture, page)) or (0,)


def read_grey(source: str | Path | bytes) -> npt.NDArray[np.uint8]:
    """Read a picture of numbers, such as a mask, as grey uint8 (height, width).

    A 16-bit picture without a value above 255 is taken as it is; any other is reduced to its upper 8 bits.

    Args:
        source: A file, or the bytes of one. Colour is reduced to grey.

    Raises:
        InputError: As in `read_image`.

    Example:
        >>> read_grey(encode_png(np.array([[0, 128, 255]], np.uint8)))
        array([[  0, 128, 255]], dtype=uint8)
    """
    data, name = _read_bytes(source)
    if is_plain_grey_png(data):
        return _decode_opencv(data, name, cv2.IMREAD_GRAYSCALE)  # the same values in two thirds of the time
    return _decode_pillow(data, name, "L", 0, MAX_PIXELS)


def read_size(path: Path, *, page: int = 0, max_pixels: int | None = None) -> tuple[int, int]:
    """Return the height and width in px that `read_image` will give of a page, from the header alone.

    Raises:
        InputError: The file is missing, unreadable, too large, or not a picture.

    Example:
        >>> read_size(Path("examples/photos/pavement.jpg"))
        (1200, 1600)
    """
    with _header(path) as picture:
        if page:
            picture.seek(page)
        height, width = picture.height, picture.width
        turned = orientation(picture.info.get("exif") or b"") in _SIDES_EXCHANGED
    if max_pixels is not None:
        _refuse_more(height * width, max_pixels, str(path))
    return (width, height) if turned else (height, width)


def read_exif(path: Path) -> tuple[dict[int, Any], dict[int, Any], tuple[int, int]]:
    """Return EXIF data of the camera and of its GPS, and a photo's stored height and width, from the header alone.

    Raises:
        InputError: The file is missing, unreadable, or not a picture.

    Example:
        >>> read_exif(Path("examples/photos/pavement.jpg"))[2]
        (1200, 1600)
    """
    try:
        with _PILLOW_LIMIT.lifted(), PillowImage.open(path, formats=_formats_of(path)) as picture:
            exif = picture.getexif()
            camera = dict(exif) | exif.get_ifd(ExifTags.IFD.Exif)
            return camera, exif.get_ifd(ExifTags.IFD.GPSInfo), (picture.height, picture.width)
    except _DAMAGE as error:
        raise InputError("its EXIF data cannot be read", path=path) from error


def read_mask(source: str | Path | bytes, *, threshold: int = 128) -> Mask:
    """Read a mask as bool (height, width), True on crack.

    Args:
        source: A file, or the bytes of one, read as `read_grey` does.
        threshold: Grey values from here on, 1 to 255, are crack. Masks that went through JPEG need 128.

    Raises:
        InputError: As in `read_image`.

    Example:
        >>> read_mask(encode_png(np.array([[0, 127, 128, 255]], np.uint8)))
        array([[False, False,  True,  True]])
    """
    return read_grey(source) >= threshold


def encode_png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return the PNG bytes of a grey (height, width) or RGB (height, width, 3) picture.

    Made for speed, as whole data sets are written with it: photos hold the differences to the row above, which makes
    them 14 % smaller than Pillow's level 4 in a third of its time; grey pictures are taken for masks, long runs of one
    value.
    """
    height, width = picture.shape[:2]
    rows = picture.reshape(height, -1)  # (height, width) or (height, 3 * width)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)  # with the number of its filter in front of each row
    if picture.ndim == 2:
        filtered[:, 0] = 0
        filtered[:, 1:] = rows
    else:
        filtered[:, 0] = 2
        filtered[:1, 1:] = rows[:1]
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    strategy = zlib.Z_RLE if picture.ndim == 2 else zlib.Z_DEFAULT_STRATEGY
    deflate = zlib.compressobj(1, memLevel=9, strategy=strategy)  # 9 needs 256 kB, and 5 % less time than 8
    header = png_header(height, width, grey=picture.ndim == 2)
    return header + png_chunk(b"IDAT", deflate.compress(filtered.data) + deflate.flush()) + png_chunk(b"IEND")


def encode_jpeg(picture: Image, quality: int = 92) -> bytes:
    """Return the JPEG bytes of an RGB (height, width, 3) picture, with full colour resolution.

    Raises:
        OutputError: The picture is larger than a JPEG can be.
    """
    file = io.BytesIO()
    if max(picture.shape[:2]) > 65500:  # libjpeg's limit
        reason = f"a JPEG has at most 65500 px a side, not {picture.shape[1]}x{picture.shape[0]}"
        raise OutputError(reason, remedy="leave --overlay out")
    PillowImage.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def through_jpeg(picture: Image, quality: int) -> Image:
    """Return an RGB (height, width, 3) picture as JPEG of a quality, 0 to 100, leaves it; colours at half size."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def write_mask(path: str | Path, mask: Mask | npt.NDArray[np.uint8]) -> None:
    """Write a mask as a one-channel PNG of 0 and 255, in one step.

    Args:
        path: The file, ending in .png.
        mask: bool (H, W), or uint8 (H, W) of 0 and 255.

    Raises:
        UsageError: It is no such mask, or the file no PNG.
        OutputError: It cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError("a mask is a PNG file", path=path, remedy="let its name end in .png")
    is_mask = mask.dtype == np.bool_ or (mask.dtype == np.uint8 and np.isin(mask, (0, 255)).all())
    if mask.ndim != 2 or not mask.size or not is_mask:
        reason = f"no mask, but {mask.dtype} {mask.shape}"
        raise UsageError(reason, path=path, remedy="give bool (height, width), or uint8 of 0 and 255")
    replace_file(Path(path), encode_png((mask > 0).astype(np.uint8) * 255))


class PngWriter:
    """Writes a one-channel 8-bit PNG band by band, so that a picture of any height needs the memory of one band.

    Args:
        file: Where the bytes go; left open.
        height: Rows that will be written in all.
        width: Pixels of a row.
    """

    def __init__(self, file: BinaryIO, height: int, width: int) -> None:
        self._file = file
        self._deflate = zlib.compressobj(4)
        self._missing = height
        self._width = width
        file.write(png_header(height, width, grey=True))

    def write(self, rows: npt.NDArray[np.uint8]) -> None:
        """Append rows, uint8 (rows, width); ValueError when they do not fit."""
        fits = rows.ndim == 2 and rows.dtype == np.uint8 and rows.shape[1] == self._width
        if not fits or len(rows) > self._missing:
            raise ValueError(
                f"rows of {rows.dtype} {rows.shape} do not fit: {self._missing} x {self._width} px are missing"
            )
        self._missing -= len(rows)
        filtered = np.zeros((len(rows), self._width + 1), np.uint8)  # PNG filter byte 0 in front of each row
        filtered[:, 1:] = rows
        self._data(self._deflate.compress(filtered.data))

    def close(self) -> None:
        """Write the end of the file; ValueError when rows are missing."""
        if self._missing:
            raise ValueError(f"{self._missing} rows were never written")
        self._data(self._deflate.flush())
        self._file.write(png_chunk(b"IEND"))

    def _data(self, compressed: bytes) -> None:
        if compressed:
            self._file.write(png_chunk(b"IDAT", compressed))


def _read_bytes(source: str | Path | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        data, name = source, "<bytes>"
    else:
        name = str(source)
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", path=name) from error
        except ValueError as error:  # a zero byte in the name
            raise InputError(f"cannot be read: {error}", path=repr(name)) from error
    if not data:
        raise InputError("the file is empty", path=name, remedy=AGAIN)
    refuse_damaged(data, name)
    return data, name


@contextlib.contextmanager
def _header(path: Path) -> Iterator[PillowImage.Image]:
    """Open a file of which no pixel is wanted."""
    try:
        with _PILLOW_LIMIT.lifted(), PillowImage.open(path, formats=_formats_of(path)) as picture:
            yield picture
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:  # of the system; Pillow's own have none
            raise InputError(f"cannot be read: {error.strerror}", path=path) from error
        raise InputError("not a picture, or damaged", path=path, remedy=AGAIN) from error


def _refuse_more(pixels: int, most: int, name: str) -> None:
    if pixels > most:
        reason = f"{pixels / 1e6:.6g} megapixels are more than the limit of {most / 1e6:.6g}"
        raise InputError(reason, path=name, remedy="raise it with --max-megapixels if the picture is no trap")


def _is_whole(picture: PillowImage.Image, page: int) -> bool:
    if picture.format != "TIFF":  # to look at a frame of a GIF is to decode all before it
        return True
    picture.seek(page)
    return not int(getattr(picture, "tag_v2", {}).get(254, 0)) & _HALF_PICTURES


def _decode_opencv(data: bytes, name: str, mode: int) -> npt.NDArray[np.uint8]:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        raise InputError(f"cannot be decoded: {error.err}", path=name) from error
    if picture is None:
        raise InputError("not a picture, or damaged", path=name, remedy=AGAIN)
    return np.asarray(picture, np.uint8)


def _decode_pillow(data: bytes, name: str, mode: str, page: int, max_pixels: int) -> npt.NDArray[np.uint8]:
    try:
        with _PILLOW_LIMIT.lifted(), PillowImage.open(io.BytesIO(data), formats=_formats(data, name)) as picture:
            if page:
                picture.seek(page)
            _refuse_more(picture.width * picture.height, max_pixels, name)
            _refuse_misread(picture, name)
            return np.array(_to_eight_bits(_upright(picture), mode))
    except EOFError as error:
        raise InputError(f"it has no page {page}", path=name) from error
    except _DAMAGE as error:
        reason = "the file is cut short" if "truncated" in str(error) else "not a picture, or damaged"
        raise InputError(reason, path=name, remedy=AGAIN) from error


def _refuse_misread(picture: PillowImage.Image, name: str) -> None:
    """Refuse what Pillow gives without an error, but wrong."""
    tags = getattr(picture, "tag_v2", {})
    raw_planes = tags.get(_PLANES) == 2 and tags.get(_COMPRESSION, 1) == 1
    if picture.mode == "F":  # of fractions from 0 to 1 it makes black
        reason = "its values are fractions, not whole numbers of 8 or 16 bits"
    elif raw_planes and max(tags.get(_BITS, (8,))) > 8:  # it takes the bytes of 16 bits for two pixels
        reason = "its 16-bit colours lie in planes, uncompressed"
    else:
        return
    raise InputError(reason, path=name, remedy=EIGHT_BITS)


def _formats_of(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        return _formats(file.read(12), str(path))


def _formats(head: bytes, name: str) -> tuple[str, ...]:
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return _FORMATS
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        reason = "HEIC photos need the plug-in pillow-heif"
        raise InputError(reason, path=name, remedy="pip install 'cracktool[heic]'") from error
    register_heif_opener()
    return ("HEIF",)


class _PillowLimit:
    """Lifts Pillow's limit of 89 megapixels, a setting of the whole process, only while a picture is decoded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decoding = 0
        self._limit: int | None = None

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        with self._lock:
            if not self._decoding:
                self._limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
            self._decoding += 1
        try:
            yield
        finally:
            with self._lock:
                self._decoding -= 1
                if not self._decoding:
                    PillowImage.MAX_IMAGE_PIXELS = self._limit


_PILLOW_LIMIT = _PillowLimit()


def _upright(picture: PillowImage.Image) -> PillowImage.Image:
    # Not ImageOps.exif_transpose: it copies, warns of damaged EXIF, and also believes XMP, which OpenCV does not read.
    picture.load()  # a TIFF turns itself here
    turn = _TURNS.get(orientation(picture.info.get("exif") or b""))
    return picture.transpose(PillowImage.Transpose[turn]) if turn else picture


def _to_eight_bits(picture: PillowImage.Image, mode: str) -> PillowImage.Image:
    if picture.mode.startswith("I"):  # 16 and 32 bits grey: Pillow would clip instead of scale
        values = np.asarray(picture)
        highest = 65535 if mode == "RGB" and picture.mode.startswith("I;16") else int(values.max(initial=0))
        shift = 0 if highest < 2**8 else 8 if highest < 2**16 else 24
        picture = PillowImage.fromarray((values >> shift).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")  # a palette with several transparent colours has no other way
        if mode == "RGB":
            picture = PillowImage.alpha_composite(PillowImage.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)
