"""Find images that show part of the same scene: a crop of one photo, turned or enlarged, or two photos of one place.

Knows nothing about splits; keeps a few hundred marks of each image, so that no image has to stay in memory.

Measured on nine public sets: of 216 crops of 40 to 70 % of a photo's sides, resized by 0.6 to 1.5 and saved again as
JPEG of quality 75, 84 % are found, of those of 55 % and more 93 %; what is missed is almost without texture. Among
2,959 images of eight sets no pair across two sets is claimed; 12 claimed pairs across the splits of Crack500 and
DeepCrack, laid on each other, all showed the same stones, some in two photos of one place. About 50 ms an image.
Mirrored crops are found like the others, by the marks of the mirror image: across two sets of 4,559 images none is
claimed, and of 8 claimed pairs that were looked at all but one, of brick walls, show the same stones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.images import Image

Grey = npt.NDArray[np.uint8]

_SIDE = 512  # px: longer images are shrunk to this first
_MARKS = 300
_KEYS = 16  # each mark is filed under 16 keys of 24 of its 256 bits; marks that share a key are compared
_COMMON = 8  # a key shared by more marks than this is of a pattern that is everywhere
_NEAR_BITS = 50
_LEAST_SHARED = 4  # marks that make a pair of images worth a closer look
_LEAST_FITTING = 10  # marks that one turn, shift and change of size brings together
_REACH = 4.0  # px: to within this
_SAME_BITS = 64
_ZOOM = (0.2, 5.0)
_LEAST_AREA = 1000  # px that are seen in both
_LEAST_CORRELATION = 0.5


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Corners of an image that are found again in a copy of it (ORB, Rublee 2011).

    Args:
        points: float32 (N, 2): x and y in px of the image as `shrunk` returns it.
        bits: uint8 (N, 32): what is around each.
    """

    points: npt.NDArray[np.float32]
    bits: npt.NDArray[np.uint8]


def shrunk(image: Image) -> Grey:
    """Return an RGB image (height, width, 3) as grey with sides of 512 px at most."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    zoom = _SIDE / max(grey.shape)
    if zoom >= 1:
        return np.asarray(grey, np.uint8)
    size = max(round(grey.shape[1] * zoom), 1), max(round(grey.shape[0] * zoom), 1)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def mirror(grey: Grey) -> Grey:
    """Return the mirror image, left for right."""
    return np.asarray(cv2.flip(grey, 1), np.uint8)


def find_marks(grey: Grey) -> Marks:
    """Return the marks of an image as `shrunk` returns it; none where it is flat or tiny."""
    finder = cv2.ORB.create(nfeatures=_MARKS, edgeThreshold=15, fastThreshold=5)
    corners, bits = finder.detectAndCompute(grey, None)
    if bits is None:
        return Marks(points=np.zeros((0, 2), np.float32), bits=np.zeros((0, 32), np.uint8))
    points = np.array([corner.pt for corner in corners], np.float32)
    return Marks(points=points, bits=np.asarray(bits, np.uint8))


def candidates(marks: Sequence[Marks]) -> list[tuple[int, int]]:
    """Return the pairs of positions, smaller first, whose images share enough marks to be compared."""
    count = len(marks)
    owner = np.repeat(np.arange(count), [len(each.bits) for each in marks])
    bits = np.concatenate([each.bits for each in marks]) if marks else np.zeros((0, 32), np.uint8)
    found = [np.zeros(0, np.int64), *_shared(np.ascontiguousarray(bits), owner)]
    pairs = np.unique(np.concatenate(found))  # a pair of marks may share several keys
    first, second = owner[pairs // max(len(bits), 1)], owner[pairs % max(len(bits), 1)]
    images, often = np.unique(first * count + second, return_counts=True)
    return [(int(pair // count), int(pair % count)) for pair in images[often >= _LEAST_SHARED]]


def overlap(first: Marks, second: Marks, read: Callable[[], tuple[Grey, Grey]]) -> float:
    """Return the share, 0 to 1, of the one image that is seen in the other, whichever is more; 0 where none is.

    Args:
        first: The marks of one image.
        second: Those of the other.
        read: Returns both images as `shrunk` does; called only where the marks fit, for one pair in four.
    """
    move = _movement(first, second)
    if move is None:
        return 0.0
    one, other = read()
    if np.linalg.det(move[:, :2]) > 1:  # compare at the lower resolution: what it lacks cannot be invented
        one, other, move = other, one, np.asarray(cv2.invertAffineTransform(move), np.float64)
    size = other.shape[1], other.shape[0]
    zoom = float(np.sqrt(np.linalg.det(move[:, :2])))
    soft = cv2.GaussianBlur(one, (0, 0), 0.4 / zoom) if zoom < 0.7 else one  # or fine texture turns into noise
    moved = np.asarray(cv2.warpAffine(soft, move, size), np.uint8)
    covered = cv2.warpAffine(np.ones_like(one), move, size, flags=cv2.INTER_NEAREST)
    seen = cv2.erode(covered, np.ones((9, 9), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1).astype(bool)
    area = int(np.count_nonzero(seen))
    if area < _LEAST_AREA or _correlation(moved, other, seen) < _LEAST_CORRELATION:
        return 0.0
    whole = min(one.size * zoom**2, other.size)
    return float(min(area / whole, 1.0))


def _shared(bits: npt.NDArray[np.uint8], owner: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the pairs of marks of different images under each key, as first * number of marks + second."""
    words = bits.view(np.uint64)
    for key in range(_KEYS):
        one, two, three = (bits[:, (2 * key + step) % 32].astype(np.int32) for step in (0, 11, 22))
        filed = one | two << 8 | three << 16
        order = np.argsort(filed, kind="stable")
        filed = filed[order]
        starts = np.flatnonzero(np.diff(filed, prepend=-1))
        lengths = np.diff(starts, append=len(filed))
        rare = np.repeat(lengths <= _COMMON, lengths)
        for step in range(1, _COMMON):
            same = (filed[step:] == filed[:-step]) & rare[step:]
            first, second = order[:-step][same], order[step:][same]  # stable: first < second
            near = np.bitwise_count(words[first] ^ words[second]).sum(axis=1) <= _NEAR_BITS
            near &= owner[first] != owner[second]
            yield first[near] * len(bits) + second[near]


def _movement(first: Marks, second: Marks) -> npt.NDArray[np.float64] | None:
    """Return the 2 x 3 matrix that lays the first image on the second, or None where no single one fits."""
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(first.bits, second.bits)
    matches = [match for match in matches if match.distance <= _SAME_BITS]
    if len(matches) < _LEAST_FITTING:
        return None
    start = first.points[[match.queryIdx for match in matches]]
    end = second.points[[match.trainIdx for match in matches]]
    move, fitting = cv2.estimateAffinePartial2D(start, end, ransacReprojThreshold=_REACH)
    if move is None or np.count_nonzero(fitting) < _LEAST_FITTING:
        return None
    return np.asarray(move, np.float64) if _ZOOM[0] < np.linalg.det(move[:, :2]) ** 0.5 < _ZOOM[1] else None


def _correlation(one: Grey, other: Grey, seen: npt.NDArray[np.bool_]) -> float:
    first, second = _texture(one)[seen], _texture(other)[seen]
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-6))


def _texture(grey: Grey) -> npt.NDArray[np.float32]:
    # Divided by its own local strength: otherwise one dark crack or a watermark outweighs all the ground around it, and
    # two cracks laid on each other look like one (of false pairs 3 in 4 go, of true ones 1 in 50).
    pixels = grey.astype(np.float32)
    fine = cv2.GaussianBlur(pixels, (0, 0), 1.5) - cv2.GaussianBlur(pixels, (0, 0), 12)
    return np.asarray(fine / (np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 8)) + 2), np.float32)
