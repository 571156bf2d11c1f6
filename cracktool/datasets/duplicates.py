"""Find images that show the same scene twice by a perceptual hash: saved again, resized, turned or mirrored.

Knows nothing about splits; works on fingerprints, so that no image has to stay in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.images import Image

_Grey = npt.NDArray[np.float32]

# Measured on nine public sets: copies saved again (JPEG quality 50) or at half size differ in 6 bits and correlate 0.98
# at worst, so 99 % are caught; different photos of one road come down to 1 bit, but never above 0.96 in correlation,
# turned and mirrored ones never above 0.95.
_MAX_BITS = 4
_MIN_CORRELATION = 0.98
_BLOCK = 512  # rows of the distance matrix at once: 10,000 images need 40 MB of it


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What is kept of an image: dHashes (8 x 8 brightness gradients) and a normalised 16 x 16 grey thumbnail.

    Args:
        bits: The 64 bits of the dHash of the image as it is, turned by 90, 180 and 270 degrees, and of its mirror image
            likewise, uint64 (8,).
        thumbnail: float32 (256,), mean 0, length 1 (or 0 for a picture of one grey).
    """

    bits: npt.NDArray[np.uint64]
    thumbnail: npt.NDArray[np.float32]


def fingerprint(image: Image) -> Fingerprint:
    """Return the fingerprint of an RGB image (height, width, 3).

    Example:
        >>> fingerprint(np.zeros((40, 60, 3), np.uint8)).bits.tolist()
        [0, 0, 0, 0, 0, 0, 0, 0]
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    while grey.shape[0] >= 2 * 128 and grey.shape[1] >= 2 * 144:  # by halves: a third of the time of one step
        half = grey.shape[1] // 2, grey.shape[0] // 2
        grey = cv2.resize(grey[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
    grey = cv2.resize(grey, (144, 128), interpolation=cv2.INTER_AREA).astype(np.float32)
    square: _Grey = np.asarray(cv2.resize(grey, (72, 72), interpolation=cv2.INTER_AREA), np.float32)
    # Of each turn 8 x 9 cells: whether one is darker than the next in its row.
    cells = np.stack(list(_turns(square))).reshape(8, 8, 9, 9, 8).sum(axis=4).sum(axis=2)
    bits = np.packbits(cells[..., 1:] > cells[..., :-1]).view(np.uint64)
    thumbnail = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).ravel()
    thumbnail = (thumbnail - thumbnail.mean()).astype(np.float32)
    length = np.float32(np.linalg.norm(thumbnail))
    return Fingerprint(bits=bits, thumbnail=thumbnail / max(length, np.float32(1)))


def near_duplicates(prints: Sequence[Fingerprint]) -> dict[tuple[int, int], bool]:
    """Return the pairs of positions, smaller first, whose images show the same, and whether one is turned or mirrored.

    About 2 s for 10,000 images.
    """
    found: dict[tuple[int, int], bool] = {}
    if not prints:
        return found
    bits, thumbnails = np.stack([one.bits for one in prints]), np.stack([one.thumbnail for one in prints])
    for turn, places in enumerate(_turns(np.arange(256, dtype=np.float32).reshape(16, 16))):
        turned = thumbnails[:, places.ravel().astype(int)]
        for start in range(0, len(prints), _BLOCK):
            near = np.bitwise_count(bits[start : start + _BLOCK, None, 0] ^ bits[None, :, turn]) <= _MAX_BITS
            rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
            alike = thumbnails[start + rows] @ turned[columns].T >= _MIN_CORRELATION
            for row, column in np.argwhere(alike & near[np.ix_(rows, columns)]):
                first, second = start + int(rows[row]), int(columns[column])
                if first < second:
                    found.setdefault((first, second), turn > 0)
    return dict(sorted(found.items()))


def _turns(square: _Grey) -> Iterator[_Grey]:
    """Yield a square image turned by 0, 90, 180 and 270 degrees, then its mirror image likewise."""
    for side in (square, square[:, ::-1]):
        yield from (np.rot90(side, quarter) for quarter in range(4))
