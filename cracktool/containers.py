"""What the bytes of a JPEG, PNG or TIFF say: whether the file is whole, how large and how turned the picture is.

Decodes no pixels and needs no library.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from cracktool.errors import InputError

AGAIN = "copy it again from its origin"
"""Remedy for a damaged file."""

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
"""First bytes of such files."""

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # without a length behind them
_LIBPNG_SIDE = 1_000_000  # px; of longer ones it talks on stderr
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def png_header(height: int, width: int, *, grey: bool) -> bytes:
    """Return the first bytes of a PNG of 8 bits, grey or RGB."""
    return PNG + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0 if grey else 2, 0, 0, 0))


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    """Return a chunk of a PNG with its length and checksum."""
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))))


def refuse_damaged(data: bytes, name: str) -> None:
    """Raise `InputError` for a JPEG, PNG or TIFF that is cut short or has a wrong checksum; `name` is for the message.

    OpenCV fills what is missing of a JPEG with grey and says nothing to its caller; on other damaged files the
    libraries below print.
    """
    whole = True
    if data.startswith(JPEG):
        whole = any(marker == 0xD9 for marker, _ in _jpeg_segments(data))
    elif data.startswith(PNG):
        whole = _check_png(data, name)
    elif data.startswith((b"II*\0", b"MM\0*")):
        whole = _tiff_directory_ends(data) <= len(data)
    if not whole:
        raise InputError("the file is cut short", path=name, remedy=AGAIN)


def _check_png(data: bytes, name: str) -> bool:
    """Tell whether the end chunk is there; InputError for a wrong checksum."""
    kind = b""
    for kind, start, stop in _png_chunks(data):
        critical = not kind[0] & 0x20  # small letters mark what a reader can do without
        if critical and zlib.crc32(memoryview(data)[start - 4 : stop]).to_bytes(4, "big") != data[stop : stop + 4]:
            raise InputError("damaged: a checksum in it is wrong", path=name, remedy=AGAIN)
    return kind == b"IEND"


def _tiff_directory_ends(data: bytes) -> int:
    """Return where the first directory of a TIFF and the values it points to end."""
    order = ">" if data.startswith(b"MM") else "<"
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        end: int = start + 2 + 12 * count
        for at in range(start + 2, end, 12):
            _, kind, values, place = struct.unpack_from(f"{order}HHII", data, at)
            size = values * _TIFF_SIZES.get(kind, 0)
            end = max(end, place + size if size > 4 else 0)
    except struct.error:
        return len(data) + 1
    return end


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and place of each segment to the end marker, as far as the file goes."""
    at = 2
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        yield marker, at
        if marker == 0xD9:
            return
        at += 2
        if marker not in _BARE_MARKERS:
            at += int.from_bytes(data[at : at + 2], "big")
        if marker == 0xDA:  # compressed pixels up to the next marker
            found = _END_OF_SCAN.search(data, at)
            at = found.start() if found else len(data)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and stop of each chunk's body to the end chunk, as far as the file goes."""
    at, kind = len(PNG), b""
    while kind != b"IEND" and at + 12 <= len(data):
        kind, start = data[at + 4 : at + 8], at + 8
        stop = start + int.from_bytes(data[at : at + 4], "big")
        if stop + 4 > len(data):
            return
        yield kind, start, stop
        at = stop + 4


def opencv_pixels(data: bytes) -> int:
    """Return how many pixels a picture that OpenCV reads rightly claims to have; 0 for any other."""
    if data.startswith(JPEG):
        frame = next((at for marker, at in _jpeg_segments(data) if marker in _FRAME_MARKERS), len(data))
        height, width, components = struct.unpack(">HHB", data[frame + 5 : frame + 10].ljust(5, b"\0"))
        return 0 if components == 4 else height * width  # CMYK and YCCK: OpenCV guesses the inversion
    if data.startswith(PNG):
        see_through = data[25:26] in (b"\4", b"\6") or any(kind == b"tRNS" for kind, _, _ in _png_chunks(data))
        height, width = struct.unpack(">II", data[16:24].ljust(8, b"\0"))
        return 0 if see_through or max(height, width) > _LIBPNG_SIDE else height * width
    return 0


def is_plain_grey_png(data: bytes) -> bool:
    """Tell whether a file is a PNG of 8 bits of grey that OpenCV reads rightly, without EXIF or animation."""
    eight_bits_of_grey = data.startswith(PNG) and data[24:26] == b"\x08\0" and opencv_pixels(data) > 0
    return eight_bits_of_grey and not any(kind in (b"eXIf", b"acTL") for kind, _, _ in _png_chunks(data))


def orientation(exif: bytes) -> int:
    """Return how EXIF bytes say that the picture is turned, 1 to 8; 1 where they say nothing."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = ">" if tiff.startswith(b"MM") else "<"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, at)
            if tag == 0x0112:
                return int(value)
    except struct.error:  # no EXIF, or a damaged one: as it lies
        pass
    return 1
