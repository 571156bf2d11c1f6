"""Draw a mask over its photo so that even a hairline is seen.

Pixels in, pixels out; knows no files and no networks.
"""

from __future__ import annotations

import cv2
import numpy as np

from cracktool.images import Image, Mask

COLOUR = (255, 0, 200)  # magenta: far from asphalt, concrete, brick, rust, moss and chalk alike
"""RGB of cracks wherever they are drawn."""

_TINT = 0.35
_LINE_SHARE = 1 / 800  # outline as a share of the photo's long side: about one pixel on a screen


def draw_overlay(photo: Image, mask: Mask) -> Image:
    """Return the photo with a line around each crack and a light tint on it.

    The line runs outside the crack, so that the crack itself stays to be judged.

    Args:
        photo: RGB uint8 (H, W, 3); enlarged where the mask is larger.
        mask: bool (H, W), True on crack; (scale H, scale W) of a network that enlarges.

    Example:
        >>> draw_overlay(photo, predictor.mask(photo)).shape == photo.shape
        True
    """
    result = photo.copy()
    if photo.shape[:2] != mask.shape:
        result = np.asarray(cv2.resize(photo, mask.shape[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    crack = mask.view(np.uint8)
    if not crack.any():
        return result
    reach = max(1, round(max(mask.shape) * _LINE_SHARE))
    grown = cv2.dilate(crack, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    tinted = result[mask] * (1 - _TINT) + np.array(COLOUR) * _TINT
    result[grown > crack] = COLOUR
    result[mask] = tinted.astype(np.uint8)
    return result
