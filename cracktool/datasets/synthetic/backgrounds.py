"""The user's own crack-free photos as surfaces: read, cut and varied.

Whether a photo really is crack-free is for the user to know.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from cracktool.datasets.synthetic.noise import Rng, log_uniform
from cracktool.datasets.synthetic.surfaces import Surface
from cracktool.images import Image, read_image

_LONGEST = 2048  # px: photos are kept no larger, so that the few in memory stay below 13 MB each
_KEPT = 8  # photos in memory


@lru_cache(maxsize=_KEPT)
def read_background(path: Path) -> Image:
    """Return a photo, uint8 RGB (height, width, 3), shrunk where it is large; not to be changed.

    Raises:
        InputError: The file is no picture that can be read.
    """
    photo = read_image(path)
    shrink = _LONGEST / max(photo.shape[:2])
    if shrink < 1:
        shape_hw = [max(1, round(side * shrink)) for side in photo.shape[:2]]
        photo = np.asarray(cv2.resize(photo, shape_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    return photo


def photo_surface(rng: Rng, shape_hw: tuple[int, int], photo: Image) -> Surface:
    """Make a surface of a piece of a photo: cut out anywhere, shrunk, turned, mirrored, in other light.

    Args:
        rng: Where the randomness comes from.
        shape_hw: Height and width in px.
        photo: uint8 RGB (height, width, 3); one that is smaller than the picture is enlarged.

    Example:
        >>> photo_surface(np.random.default_rng(0), (32, 48), np.full((40, 90, 3), 128, np.uint8)).colour.shape
        (32, 48, 3)
    """
    turned = np.rot90(photo, int(rng.integers(4)))
    fit = min(turned.shape[0] / shape_hw[0], turned.shape[1] / shape_hw[1])
    zoom = log_uniform(rng, 1.0, min(fit, 3.0)) if fit > 1 else fit  # px of the photo per px of the picture
    cut_hw = [max(1, int(side * zoom)) for side in shape_hw]
    top, left = (int(rng.integers(0, whole - cut + 1)) for whole, cut in zip(turned.shape, cut_hw, strict=False))
    piece = turned[top : top + cut_hw[0], left : left + cut_hw[1]]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    method = cv2.INTER_AREA if zoom > 1 else cv2.INTER_CUBIC
    piece = np.asarray(cv2.resize(np.ascontiguousarray(piece), shape_hw[::-1], interpolation=method), np.uint8)
    gamma, balance = np.exp(rng.normal(0, 0.2)), 1 + rng.normal(0, 0.02) * np.array([1, 0.2, -1])
    tones = (np.linspace(0, 1, 256) ** gamma)[:, None] * balance  # (256, 3): what each channel makes of each value
    colour = np.stack([tones[:, channel].astype(np.float32)[piece[..., channel]] for channel in range(3)], axis=-1)
    return Surface(colour=np.clip(colour, 0.02, 1), relief=np.zeros(shape_hw, np.float32))
