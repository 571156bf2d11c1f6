"""Thin a soft crack map to its ridges, as Dollar's edge toolbox does for FPHBN, in its 32-bit arithmetic.

Knows nothing of thresholds, truths or scores.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError

Map = npt.NDArray[np.float32]

_TRIANGLE = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1], np.float32) / 25  # convTri of radius 4
_REACH = 2  # px to both sides with which a pixel is compared
_MARGIN = 5  # px of a strip along the picture's edge in which values fall linearly to 0
_SLACK = 1.01  # a pixel goes only where a neighbour is greater than so many times its value
_FAR = 1.001  # keeps the four neighbours of a point inside the picture


def ridges(probabilities: Map) -> Map:
    """Return the map with 0 where it is not the greatest across the crack, and fading to 0 at the picture's edge.

    Args:
        probabilities: float32 (H, W).

    Raises:
        InputError: The picture is less than 2 px high or wide, which has no direction.

    Source: Dollar and Zitnick 2015 (Structured Edge Detection Toolbox), `edgesNmsMex`, as called by `crack_nms.m`.
    """
    if min(probabilities.shape) < 2:
        height, width = probabilities.shape
        raise InputError(f"the picture is {height} x {width} px, but ridges need at least 2 px each way")
    crack = np.nonzero(probabilities)
    values, towards = probabilities[crack], across(probabilities)[crack]
    rows, columns = (places.astype(np.float32) for places in crack)
    dy, dx = np.sin(towards), np.cos(towards)
    keep = np.ones(len(values), bool)
    for step in (*range(-_REACH, 0), *range(1, _REACH + 1)):
        keep &= ~(values * np.float32(_SLACK) < _between(probabilities, rows + step * dy, columns + step * dx))
    result = np.zeros_like(probabilities)
    result[crack] = np.where(keep, values, 0)
    return _faded(result)


def across(probabilities: Map) -> Map:
    """Return the direction across the crack at each pixel, radians in [0, pi), x to the right and y down.

    It comes from second derivatives of the smoothed map. Where the mixed one is exactly 0, as along a perfectly
    horizontal crack, the formula says 0: along the crack.
    """
    smooth = cv2.sepFilter2D(probabilities, cv2.CV_32F, _TRIANGLE, _TRIANGLE, borderType=cv2.BORDER_REFLECT)
    y, x = np.gradient(smooth)
    xx = np.gradient(x, axis=1)
    yy, xy = np.gradient(y)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(
            np.mod(np.arctan(yy * np.sign(-xy) / (xx + np.float32(1e-5))), np.float32(math.pi)), np.float32
        )


def _between(values: Map, rows: Map, columns: Map) -> Map:
    """Return the values at points between pixels, bilinear; points outside move to the edge."""
    height, width = values.shape
    rows = np.clip(rows, 0, height - _FAR).astype(np.float32)
    columns = np.clip(columns, 0, width - _FAR).astype(np.float32)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, right = rows - top.astype(np.float32), columns - left.astype(np.float32)
    upper = values[top, left] * (1 - right) + values[top, left + 1] * right
    lower = values[top + 1, left] * (1 - right) + values[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def _faded(values: Map) -> Map:
    height, width = values.shape
    margin = min(_MARGIN, width // 2, height // 2)
    for axis, length in enumerate((height, width)):
        place = np.arange(length)
        ramp = np.minimum(np.minimum(place, place[::-1]) / margin, 1).astype(np.float32)
        values = values * (ramp[:, None] if axis == 0 else ramp)
    return values
