"""Profiles across lines: shares of crack in the mask and grey levels of the photo, read along their normals.

Pixels in, rows of samples out; memory maps are read tile by tile. Knows nothing about fits or verdicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from cracktool.images import Image, Mask
from cracktool.measuring.components import Floats, Ints
from cracktool.measuring.priors import Float32s
from cracktool.measuring.rows import Rows

_TILE = 1024  # px; points of a tile are sampled together
_REACH = (11, 14, 96)  # samples to either side, at least; usually and ever at most: longer profiles have wider steps
_STEP = 3.0  # px, from where on there are more samples: farther apart they do not show where between them an edge lies
_COARSE = 1.5  # px between samples, from where on the mask is read between them too
FLANK = 6.0  # px of background wanted on either side of the mask
SMOOTHING = 0.5  # px of Gaussian blur, added to that of the lens


@dataclass(frozen=True, eq=False)
class Profiles(Rows):
    """Profiles across n points, of S samples each.

    Args:
        share: Share of crack in the mask, float32 (n, S), -1 outside of the picture.
        grey: Grey levels, float32 (n, S); empty (n, 0) without a photo.
        step: px from sample to sample, float32 (n,).
    """

    share: Float32s
    grey: Float32s
    step: Float32s

    @property
    def place(self) -> Float32s:
        """Where the samples lie along the normals, px, (n, S)."""
        size = self.share.shape[1]
        return np.asarray(self.step[:, None] * (np.arange(size) - size // 2), np.float32)


def by_tile(points: Floats) -> list[Ints]:
    """Return the numbers of the points of each tile."""
    tile = np.maximum(points // _TILE, 0)  # tips reach half a pixel out of the picture
    order = np.lexsort((tile[:, 1], tile[:, 0]))
    return np.split(order, np.flatnonzero(np.any(np.diff(tile[order], axis=0), axis=1)) + 1)


def sample(photo: Image | None, mask: Mask, points: Floats, normals: Floats, half_width: Floats) -> Profiles:
    """Return the profiles across points, each as long as its crack needs."""
    wanted = 1.4 * half_width + FLANK + 2
    least, usual, most = _REACH
    reach = math.ceil(np.clip(wanted.max(), least, np.clip(wanted.max() / _STEP, usual, most)))
    step = np.maximum(wanted / reach, 1).astype(np.float32)
    size = 2 * reach + 1
    profiles = Profiles(
        share=np.empty((len(points), size), np.float32),
        grey=np.empty((len(points), size if photo is not None else 0), np.float32),
        step=step,
    )
    offsets = profiles.place
    for members in by_tile(points):
        profiles.share[members], profiles.grey[members] = _sample_tile(
            photo, mask, points[members], normals[members], offsets[members], step[members]
        )
    return profiles


def _sample_tile(
    photo: Image | None, mask: Mask, points: Floats, normals: Floats, offsets: Float32s, step: Float32s
) -> tuple[Float32s, Float32s]:
    """Return shares of crack and grey levels (n, S) across points that lie near each other."""
    reach = float(offsets.max()) + 10  # the filter below looks 8 px far
    low = np.maximum(np.floor(points.min(axis=0) - reach).astype(int), 0)
    high = np.ceil(points.max(axis=0) + reach).astype(int) + 1
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    shifts = np.array([-1, 0, 1], np.float32)[:, None, None]  # px along the line
    across = normals.astype(np.float32).T[:, :, None]
    along = across[::-1] * np.array([1, -1], np.float32)[:, None, None]
    places = [  # y and x in the window, (3, n, S)
        ((points[:, axis] - low[axis]).astype(np.float32)[:, None] + offsets * across[axis]) + shifts * along[axis]
        for axis in (0, 1)
    ]
    crack = mask[window].astype(np.float32)
    # Where samples lie far apart a share counts the pixels up to the next one, or edges would jump by steps.
    spread = np.where(step > _COARSE, step, 0)[:, None]
    fine = max(1, math.ceil(spread.max()))
    share = np.zeros(offsets.shape, np.float32)
    for part in (np.arange(fine) + 0.5) / fine - 0.5:
        beside = spread * np.float32(part)
        y, x = (
            (place + beside * normal).reshape(3 * len(points), -1) for place, normal in zip(places, across, strict=True)
        )
        share += cv2.remap(crack, x, y, cv2.INTER_LINEAR).reshape(places[0].shape).mean(axis=0) / fine
    for place, first, size in zip(places, low, mask.shape, strict=True):
        share[(place[1] < -0.5 - first) | (place[1] > size - 0.5 - first)] = -1
    if photo is None:
        return share, np.zeros((len(points), 0), np.float32)
    piece = photo[window]
    grey = np.asarray(piece if piece.ndim == 2 else cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY), np.float32)
    # A line through pixels meets them at all phases. Linear and cubic interpolation blur by the phase, which no one
    # blur can describe: 2 px come out as 2.2. Splines hardly do, once the photo is smooth enough not to ring.
    spline = np.asarray(
        cv2.sepFilter2D(grey, cv2.CV_32F, _SPLINE, _SPLINE, borderType=cv2.BORDER_REFLECT_101), np.float32
    )
    return share, np.asarray(_spline_at(spline, *places).mean(axis=0), np.float32)


def _spline_at(coefficients: Float32s, y: Float32s, x: Float32s) -> Float32s:
    """Return a cubic spline at places within its picture; beyond its border it is that of the border.

    `scipy.ndimage.map_coordinates` does the same in twice the time.
    """
    framed = cv2.copyMakeBorder(coefficients, 1, 2, 1, 2, cv2.BORDER_REFLECT_101)
    place, weights = [], []
    for value, size in zip((y, x), coefficients.shape, strict=True):
        inside = np.clip(value, 0, size - 1)
        whole = np.floor(inside)
        place.append(whole.astype(np.intp))
        weights.append(_spline_weights(inside - whole))
    stride = framed.shape[1]
    first = place[0] * stride + place[1]
    levels = framed.ravel()
    result = np.zeros(y.shape, np.float32)
    for row, weight in enumerate(weights[0]):
        across = [levels.take(first + (row * stride + column)) for column in range(4)]
        for each, beside in zip(across, weights[1], strict=True):
            each *= beside
        result += weight * (across[0] + across[1] + across[2] + across[3])
    return result


def _spline_weights(part: Float32s) -> list[Float32s]:
    """Return the weights of the four pixels around a place `part` of a pixel behind the second one (cubic B-spline)."""
    rest = 1 - part
    square, rest_square = part * part, rest * rest
    third = np.float32(1 / 6)
    inner = [np.float32(2 / 3) - each * (1 - other / 2) for each, other in ((square, part), (rest_square, rest))]
    return [rest_square * rest * third, *inner, square * part * third]


def _spline_filter() -> Float32s:
    """Return what turns pixels of a row into coefficients of a cubic spline through them (Unser 1999), smoothed."""
    pole = math.sqrt(3) - 2
    through = math.sqrt(3) * pole ** np.abs(np.arange(-6, 7))
    smoothing = np.exp(-0.5 * (np.arange(-2, 3) / SMOOTHING) ** 2)
    return np.convolve(through, smoothing / smoothing.sum()).astype(np.float32)


_SPLINE = _spline_filter()
