"""Read and write pictures: EXIF orientation, bit depth, alpha and palette on the way in; PNG and JPEG on the way out.

Knows nothing about cracks or networks. A picture in memory is uint8 RGB (height, width, 3), a mask bool
(height, width).
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps

from cracktool.errors import InputError
from cracktool.files import replace_file

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".ppm", ".pgm"})
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def read_image(source: str | Path | bytes) -> Image:
    """Read a picture as uint8 RGB (height, width, 3), turned upright as its EXIF orientation says.

    16-bit pictures keep their upper 8 bits, grey and palette become RGB, transparency is laid on white.

    Args:
        source: A file, or the bytes of one.

    Raises:
        InputError: The file is missing, unreadable, empty, cut short, or not a picture.

    Example:
        >>> read_image("examples/photos/pavement.jpg").shape
        (1200, 1600, 3)
    """
    data, name = _read_bytes(source)
    if data.startswith((_JPEG, _PNG)) and not _needs_pillow(data):
        _refuse_truncated(data, name)
        return _decode_opencv(data, name)
    return _decode_pillow(data, name, "RGB")


def read_mask(source: str | Path | bytes, *, threshold: int = 128, inverted: bool = False) -> Mask:
    """Read a mask as bool (height, width), True on crack.

    Args:
        source: A file, or the bytes of one. Colour is reduced to grey first.
        threshold: Grey values from here on, 1 to 255, are crack. Masks that went through JPEG need 128.
        inverted: The crack is dark in this file.

    Raises:
        InputError: As in `read_image`.
    """
    data, name = _read_bytes(source)
    grey = _decode_pillow(data, name, "L")
    return (grey < threshold) if inverted else (grey >= threshold)


def encode_png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return the PNG bytes of a grey (height, width) or RGB (height, width, 3) picture."""
    file = io.BytesIO()
    PillowImage.fromarray(picture).save(file, "PNG", compress_level=4)
    return file.getvalue()


def encode_jpeg(picture: Image, quality: int = 92) -> bytes:
    """Return the JPEG bytes of an RGB (height, width, 3) picture, with full colour resolution."""
    file = io.BytesIO()
    PillowImage.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def write_mask(path: Path, mask: Mask) -> None:
    """Write a mask as a one-channel PNG of 0 and 255, in one step."""
    replace_file(path, encode_png(mask.astype(np.uint8) * 255))


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
        file.write(_PNG)
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))

    def write(self, rows: npt.NDArray[np.uint8]) -> None:
        """Append rows, uint8 (rows, width)."""
        if rows.shape[1] != self._width or len(rows) > self._missing:
            raise ValueError(f"rows of shape {rows.shape} do not fit: {self._missing} x {self._width} px are missing")
        self._missing -= len(rows)
        filtered = np.zeros((len(rows), self._width + 1), np.uint8)  # PNG filter byte 0 in front of each row
        filtered[:, 1:] = rows
        self._data(self._deflate.compress(filtered))

    def close(self) -> None:
        """Write the end of the file; ValueError when rows are missing."""
        if self._missing:
            raise ValueError(f"{self._missing} rows were never written")
        self._data(self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _data(self, compressed: bytes) -> None:
        if compressed:
            self._chunk(b"IDAT", compressed)

    def _chunk(self, kind: bytes, body: bytes) -> None:
        self._file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


def _read_bytes(source: str | Path | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        data, name = source, "<bytes>"
    else:
        name = str(source)
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", path=name) from error
    if not data:
        raise InputError("the file is empty", path=name, remedy="copy it again from its origin")
    return data, name


def _needs_pillow(data: bytes) -> bool:
    if data.startswith(_JPEG):
        return _jpeg_components(data) == 4  # CMYK and YCCK: OpenCV guesses the inversion
    return data[25] in (4, 6) or b"tRNS" in data[: data.find(b"IDAT")]


def _jpeg_components(data: bytes) -> int:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return data[at + 9]
        at += 2 + length
    return 0


def _refuse_truncated(data: bytes, name: str) -> None:
    # OpenCV fills what is missing with grey and says nothing to its caller.
    if data.startswith(_PNG):
        complete = b"IEND" in data[-4096:]
    else:
        complete = data.find(b"\xff\xd9", max(_start_of_scan(data), 0)) >= 0
    if not complete:
        raise InputError("the file is cut short", path=name, remedy="copy it again from its origin")


def _start_of_scan(data: bytes) -> int:
    at = 2
    while at + 4 < len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def _decode_opencv(data: bytes, name: str) -> Image:
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"cannot be decoded: {error.err}", path=name) from error
    if bgr is None:
        raise InputError("not a picture, or damaged", path=name)
    # In place, by rows: cv2.cvtColor would hold the photo twice.
    for row in range(0, len(bgr), 256):
        bgr[row : row + 256] = bgr[row : row + 256, :, ::-1].copy()
    return bgr


def _decode_pillow(data: bytes, name: str, mode: str) -> npt.NDArray[np.uint8]:
    try:
        with PillowImage.open(io.BytesIO(data)) as picture:
            upright = ImageOps.exif_transpose(picture)
            return np.array(_to_eight_bits(upright, mode))
    except PillowImage.DecompressionBombError as error:
        raise InputError("too large to decode without tiles", path=name, remedy="cut it into parts") from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        reason = "the file is cut short" if "truncated" in str(error) else "not a picture, or damaged"
        raise InputError(reason, path=name) from error


def _to_eight_bits(picture: PillowImage.Image, mode: str) -> PillowImage.Image:
    if picture.mode.startswith("I"):  # 16 and 32 bits grey: Pillow would clip instead of scale
        values = np.asarray(picture).astype(np.int64)
        shift = 8 if values.max(initial=0) > 255 else 0
        picture = PillowImage.fromarray((values >> shift).clip(0, 255).astype(np.uint8))
    if mode == "RGB" and picture.has_transparency_data:
        white = PillowImage.new("RGBA", picture.size, "white")
        picture = PillowImage.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert(mode)
