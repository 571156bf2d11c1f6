"""Corruption: photos spoilt as weather, cameras and networks of wires spoil them, to see what a score is worth then.

Knows nothing of networks; the only randomness is that of the generator handed in. Five severities each, 1 to 5, in the
manner of Hendrycks and Dietterich 2019 (arXiv 1903.12261); the steps are ours, at the size of hairlines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.errors import UsageError, check_name
from cracktool.images import Image, through_jpeg

SEVERITIES = (1, 2, 3, 4, 5)

Corruption = Callable[[Image, int, np.random.Generator], Image]
"""A photo uint8 (H, W, 3), the severity counted from 0, and a source of chance -> the spoilt photo, of that shape."""


def corrupt(image: Image, kind: str, severity: int, rng: np.random.Generator) -> Image:
    """Spoil a photo; its size and the place of each crack stay.

    Args:
        image: RGB uint8 (H, W, 3).
        kind: A name of `CORRUPTIONS`.
        severity: 1 to 5; 0 changes nothing.
        rng: The same state gives the same photo.

    Raises:
        UsageError: There is no such kind or severity.

    Example:
        >>> corrupt(np.full((4, 4, 3), 200, np.uint8), "brightness", 5, np.random.default_rng(0)).max()
        60
    """
    check_name("corruption", kind, CORRUPTIONS)
    if severity not in (0, *SEVERITIES):
        raise UsageError(f"severity is {severity}, but must be 0 to 5")
    return CORRUPTIONS[kind](image, severity - 1, rng) if severity else image


def _blur(image: Image, step: int, rng: np.random.Generator) -> Image:
    """Gaussian, as out of focus."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), (1.0, 1.5, 2.0, 3.0, 4.0)[step]), np.uint8)


def _noise(image: Image, step: int, rng: np.random.Generator) -> Image:
    """Gaussian in each channel of each pixel, as in the dark."""
    sigma = (8, 15, 25, 38, 55)[step]
    return _bytes(image + rng.normal(0, sigma, image.shape))


def _jpeg(image: Image, step: int, rng: np.random.Generator) -> Image:
    """Stored as JPEG."""
    return through_jpeg(image, (40, 25, 15, 10, 6)[step])


def _brightness(image: Image, step: int, rng: np.random.Generator) -> Image:
    """Under-exposed, or as often over-exposed until the lights are lost."""
    factor = (0.8, 0.65, 0.5, 0.4, 0.3)[step]
    return _bytes(image.astype(np.float32) * (factor if rng.random() < 0.5 else 1 / factor))


def _fog(image: Image, step: int, rng: np.random.Generator) -> Image:
    """Light grey haze, thicker here and thinner there."""
    thickness = (0.25, 0.4, 0.55, 0.66, 0.76)[step]
    haze = thickness * (0.75 + 0.25 * _clouds(image.shape[:2], rng))[..., None]
    return _bytes(image * (1 - haze) + 225 * haze)


def _shadow(image: Image, step: int, rng: np.random.Generator) -> Image:
    """The part of the photo on one side of a line through its middle third, dark, with a soft edge of a few pixels."""
    height, width = image.shape[:2]
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-1 / 6, 1 / 6)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle) - offset
    lit = np.clip(0.5 + away * max(height, width) / 6, 0, 1)
    left = (0.75, 0.6, 0.47, 0.35, 0.25)[step]
    return _bytes(image * (left + (1 - left) * lit)[..., None])


def _shrink(image: Image, step: int, rng: np.random.Generator) -> Image:
    """Shrunk up to fourfold and enlarged again, as a photo from farther away or one sent by a messenger."""
    height, width = image.shape[:2]
    factor = (1.5, 2.0, 2.5, 3.0, 4.0)[step]
    size = max(round(width / factor), 1), max(round(height / factor), 1)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


CORRUPTIONS: Mapping[str, Corruption] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "fog": _fog,
    "shadow": _shadow,
    "shrink": _shrink,
}
"""Name -> what spoils a photo."""


def _clouds(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.floating]:
    """Return smooth noise between 0 and 1."""
    coarse = rng.random((5, 5), np.float32)
    return np.clip(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), 0, 1)


def _bytes(values: npt.NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
