"""Skeleton of a mask: pixels of its centre lines with the half width there, found tile by tile.

Thins a part as it is, and a part that is wider than any crack shrunk first; knows nothing about graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.images import Mask
from cracktool.measuring.components import Components, Floats, Ints
from cracktool.thinning import thin_pixels

_TILE = 1024
_HALO = 128  # px; thinning moves news by at most two px a round, and a half width of 48 takes about 48 rounds
_WIDEST = 48.0  # px of half width; a part that is wider somewhere is thinned shrunk
_HOLE = 8  # px; smaller holes are filled before thinning, or each would become a loop


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Pixels of centre lines, those of one part and scale together.

    Args:
        pixels: int64 (N, 2), rows (y, x), in units of `factor` px from `origin`, each part's in reading order.
        half_width: Distance to the nearest background, (N,), in px of the photo.
        part: The part of the mask each pixel belongs to, (N,).
        factor: Side in px of what counts as a pixel here; 1 unless the part is very wide.
        origin: (y, x) in px of the upper left pixel (0, 0).
    """

    pixels: Ints
    half_width: Floats
    part: Ints
    factor: int = 1
    origin: tuple[int, int] = (0, 0)

    def to_photo(self, points: Floats) -> Floats:
        """Return points (N, 2) in px of the photo, where the centre of the upper left pixel is (0, 0)."""
        return np.asarray((points + 0.5) * self.factor - 0.5 + np.array(self.origin), np.float64)


def thin(mask: Mask, components: Components, keep: Mask) -> list[Skeleton]:
    """Return the skeleton of the kept parts: one of all usual parts together, one more for each very wide part.

    Tiles are thinned with a halo that is wider than a change can travel, so that the result is that of the whole mask.

    Args:
        mask: bool (H, W), True on crack; a memory map will do.
        components: Its parts.
        keep: Which parts are wanted, bool (count,).
    """
    found: list[tuple[Ints, Floats]] = []
    wide = np.zeros(components.count, np.bool_)
    height, width = mask.shape
    occupied = np.zeros((-(-height // _TILE), -(-width // _TILE)), np.bool_)
    for column in range(occupied.shape[1]):
        here = (components.start < (column + 1) * _TILE) & (components.stop > column * _TILE)
        occupied[np.unique(components.row[here] // _TILE), column] = True
    for tile_y, tile_x in np.argwhere(occupied).tolist():
        pixels, half_width, too_wide = _thin_tile(mask, tile_y * _TILE, tile_x * _TILE)
        wide[components.part_at(too_wide)] = True
        found.append((pixels, half_width))
    pixels = np.concatenate([np.zeros((0, 2), np.int64), *(each for each, _ in found)])
    half_width = np.concatenate([np.zeros(0), *(each for _, each in found)])
    part = components.part_around(pixels)
    usual = keep[part] & ~wide[part]
    order = np.lexsort((pixels[usual, 1], pixels[usual, 0]))
    skeletons = [Skeleton(pixels[usual][order], half_width[usual][order], part[usual][order])]
    return skeletons + [_thin_coarse(components, int(number)) for number in np.flatnonzero(wide & keep)]


def _thin_tile(mask: Mask, top: int, left: int) -> tuple[Ints, Floats, Ints]:
    """Return skeleton pixels of a tile, half widths there, and one pixel of each piece that is too wide."""
    first = np.maximum([top - _HALO, left - _HALO], 0)
    window = mask[first[0] : top + _TILE + _HALO, first[1] : left + _TILE + _HALO]
    rows, columns = np.flatnonzero(window.any(axis=1)), np.flatnonzero(window.any(axis=0))
    # Beyond the border of the photo lies background: a frame of it, at the edge of the halo it harms nothing.
    given = np.pad(window[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    crop = given.astype(np.uint8)
    first += [rows[0] - 1, columns[0] - 1]
    _fill_holes(crop)
    distance = _distance(crop)
    too_wide = np.zeros((0, 2), np.int64)
    if distance.max() > _WIDEST:
        _, labels = cv2.connectedComponents(crop)
        core = (distance > _WIDEST) & given
        widest, where = np.unique(labels[core], return_index=True)
        too_wide = np.argwhere(core)[where] + first
        crop[np.isin(labels, widest)] = 0
    pixels = _places(thin_pixels(crop.view(np.bool_)))
    half_width = distance[pixels[:, 0], pixels[:, 1]] - 0.5  # from the pixel's centre to the edge of the crack
    pixels = pixels + first
    inside = ((pixels >= [top, left]) & (pixels < [top + _TILE, left + _TILE])).all(axis=1)
    return pixels[inside], half_width[inside].astype(np.float64), too_wide


def _places(mask: Mask) -> Ints:
    """Return the pixels (N, 2) of a mask: `np.argwhere`, which takes ten times as long."""
    return np.column_stack(np.divmod(np.flatnonzero(mask), mask.shape[1]))


def _fill_holes(crop: cv2.typing.MatLike) -> None:
    borders, levels = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not borders:
        return
    holes = [borders[at] for at in np.flatnonzero(levels[0, :, 3] >= 0).tolist()]
    # Pixels inside of a border that runs through their neighbours: Pick's theorem.
    small = [border for border in holes if cv2.contourArea(border) - len(border) / 2 + 1 <= _HOLE]
    cv2.drawContours(crop, small, -1, 1, cv2.FILLED)


def _distance(crop: cv2.typing.MatLike) -> npt.NDArray[np.float32]:
    """Return the distance to the nearest background to 2 %: what it decides is rough, and exact takes six times."""
    return np.asarray(cv2.distanceTransform(crop, cv2.DIST_L2, cv2.DIST_MASK_5), np.float32)


def _thin_coarse(components: Components, part: int) -> Skeleton:
    """Thin a very wide part at a scale where it is at most `_WIDEST` cells in half width."""
    top, left, bottom, right = components.boxes[part].tolist()
    factor = max(2, -(-max(bottom - top, right - left) // 2048))
    while True:
        cells = np.pad(components.coarse(part, factor), 1).astype(np.uint8)
        distance = _distance(cells)
        if distance.max() <= _WIDEST:
            break
        factor *= 2
    _fill_holes(cells)
    distance = _distance(cells)
    pixels = _places(thin_pixels(cells.view(np.bool_)))
    half_width = (distance[pixels[:, 0], pixels[:, 1]].astype(np.float64) - 0.5) * factor
    return Skeleton(pixels - 1, half_width, np.full(len(pixels), part), factor, (top, left))
