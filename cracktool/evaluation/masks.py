"""Predicted masks kept for the pictures of a report: packed, and on disk once they are many."""

from __future__ import annotations

import tempfile
import weakref
import zlib

import numpy as np

from cracktool.images import Mask

_IN_MEMORY = 1 << 24


def packed(mask: Mask) -> bytes:
    """Return a mask as one bit per pixel, compressed."""
    return zlib.compress(np.packbits(mask).tobytes(), 1)


class Masks:
    """Masks by image; beyond 16 MiB they lie in a temporary file that goes with this object."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (lives as long as this object)
        weakref.finalize(self, self._file.close)
        self._places: dict[str, tuple[int, int]] = {}

    def keep(self, image: str, mask: bytes) -> None:
        """Add the packed mask of an image."""
        start = self._file.seek(0, 2)
        self._places[image] = start, len(mask)
        self._file.write(mask)

    def read(self, image: str, shape: tuple[int, int]) -> Mask:
        """Return the mask of an image that was added, bool of its shape (H, W)."""
        start, length = self._places[image]
        self._file.seek(start)
        bits = np.frombuffer(zlib.decompress(self._file.read(length)), np.uint8)
        return np.unpackbits(bits, count=shape[0] * shape[1]).astype(bool).reshape(shape)
