"""Small pictures of photos and masks for a page: decoded at reduced size, whatever the size of the file.

Pictures only; knows nothing about pages or cracks.
"""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from cracktool.errors import CrackError
from cracktool.images import MAX_PIXELS, Image, Mask, encode_jpeg, read_image, read_mask, read_size
from cracktool.inspection.pixels import CRACK, raster_bands
from cracktool.overlay import COLOUR

_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))
_QUALITY = 72  # of the JPEG


def photo_preview(path: Path, side: int, page: int = 0) -> str:
    """Return a photo as the text of a JPEG data URL, at most `side` px long; empty where it cannot be read any more."""
    try:
        image = _read_reduced(path, side, page)
        return _url("jpeg", encode_jpeg(_shrunk(image, side), _QUALITY))
    except CrackError:
        return ""


def mask_preview(path: Path, side: int) -> tuple[str, int]:
    """Return a mask as the text of a PNG data URL, coloured on crack, clear elsewhere, and how many px a cell covers.

    A cell is crack where any of its pixels is, so that a hairline stays whole.
    """
    try:
        small, factor = _read_small_mask(path, side)
    except CrackError:
        return "", 1
    palette = np.zeros((*small.shape, 4), np.uint8)
    palette[small] = (*COLOUR[::-1], 255)  # OpenCV's order
    _, data = cv2.imencode(".png", palette, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return _url("png", data.tobytes()), factor


def _read_small_mask(path: Path, side: int) -> tuple[Mask, int]:
    found = raster_bands(path, side)
    if found is None:
        mask = read_mask(path)
        factor = -(-max(mask.shape) // side)
        return _shrunk_mask(mask, factor), factor
    factor, bands = found
    return np.concatenate([_shrunk_mask(band[..., 0] >= CRACK, factor) for band in bands]), factor


def _read_reduced(path: Path, side: int, page: int) -> Image:
    """Read a photo, a JPEG at a half, a quarter or an eighth of its size where that is enough: ten times as fast."""
    if found := raster_bands(path, side):
        factor, bands = found
        return np.concatenate([_resized(band, 1 / factor) for band in bands])
    height, width = read_size(path, page=page)
    flag = next((flag for factor, flag in _REDUCED if max(height, width) >= factor * side), None)
    if flag is not None and path.suffix.lower() in (".jpg", ".jpeg"):
        small = cv2.imdecode(np.fromfile(path, np.uint8), flag)
        if small is not None:
            return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)
    return read_image(path, page=page, max_pixels=max(MAX_PIXELS, height * width))  # it has been measured: no trap


def _shrunk(image: Image, side: int) -> Image:
    factor = side / max(image.shape[:2])
    return image if factor >= 1 else _resized(image, factor)


def _resized(image: Image, factor: float) -> Image:
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _shrunk_mask(mask: Mask, factor: int) -> Mask:
    height, width = (-(-length // factor) for length in mask.shape)
    padded = np.zeros((height * factor, width * factor), np.bool_)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return np.asarray(padded.reshape(height, factor, width, factor).any(axis=(1, 3)), np.bool_)


def _url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
