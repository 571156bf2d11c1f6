"""Parts of a mask as outlines that give back the very same pixels, for tools in which masks are corrected by hand.

Geometry on masks; knows no file format. Coordinates are continuous: pixel (0, 0) covers 0 to 1, its centre is at 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.images import Mask
from cracktool.inspection.records import CrackRecord
from cracktool.measuring.components import find_components

_FINE = 3  # lines through the middles of thirds of a pixel keep its centre on the right side


@dataclass(frozen=True, eq=False)
class Outline:
    """A connected part of a mask.

    Args:
        ring: Its outer line, (N, 2), x and y; every pixel whose centre lies in it is crack where there is no hole.
        left: Column of its box.
        top: Row of its box.
        crop: The part cut to its box, bool.
        whole: Whether it has no hole, so that the ring says all.
        crack: Number of the crack that it belongs to; 0 for a speck.
    """

    ring: npt.NDArray[np.float64]
    left: int
    top: int
    crop: Mask
    whole: bool
    crack: int


def find_outlines(mask: Mask, cracks: Mapping[int, CrackRecord]) -> Iterator[Outline]:
    """Give the 8-connected parts of a mask in reading order.

    Args:
        mask: bool (H, W), True on crack.
        cracks: What was measured in it, by number.
    """
    parts = find_components(mask)
    owner = np.zeros(parts.count + 1, np.int64)  # the last one takes what lies on no part
    for number, crack in cracks.items():
        points = np.concatenate([np.column_stack([line.y, line.x]) for line in crack.lines])
        owner[parts.part_at(np.rint(points).astype(np.int64))] = number
    order = np.argsort(parts.part, kind="stable")
    ends = np.searchsorted(parts.part[order], np.arange(parts.count + 1))
    for part in range(parts.count):
        runs = order[ends[part] : ends[part + 1]]
        row, start, stop = parts.row[runs], parts.start[runs], parts.stop[runs]
        top, left = int(row[0]), int(start.min())
        crop = np.zeros((int(row[-1]) + 1 - top, int(stop.max()) - left), np.bool_)
        for y, x0, x1 in zip((row - top).tolist(), (start - left).tolist(), (stop - left).tolist(), strict=True):
            crop[y, x0:x1] = True
        ring, whole = _ring(crop)
        yield Outline(ring + np.array([left, top]), left, top, crop, whole, int(owner[part]))


def shrunk(outline: Outline, factor: int) -> Outline:
    """Return an outline in the pixels of a photo whose mask is `factor` times as fine.

    The ring keeps its shape; a pixel of the crop is crack where any part of it is, so that a hairline stays whole.
    """
    lead = (outline.top % factor, outline.left % factor)
    edges = [(before, -(before + length) % factor) for before, length in zip(lead, outline.crop.shape, strict=True)]
    padded = np.pad(outline.crop, edges)
    rows, columns = (length // factor for length in padded.shape)
    crop = np.asarray(padded.reshape(rows, factor, columns, factor).any(axis=(1, 3)), np.bool_)
    top, left = outline.top // factor, outline.left // factor
    return replace(outline, ring=outline.ring / factor, left=left, top=top, crop=crop)


def run_lengths(mask: Mask, *, by_columns: bool) -> list[int]:
    """Return the lengths of runs of background and crack in turn, the first of background.

    Example:
        >>> run_lengths(np.array([[True, False], [True, True]]), by_columns=True)
        [0, 2, 1, 1]
    """
    flat = np.concatenate([[False], (mask.T if by_columns else mask).ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(length) for length in np.diff([0, *changes.tolist(), mask.size])]


def _ring(crop: Mask) -> tuple[npt.NDArray[np.float64], bool]:
    """Return the outer line of a part in its own coordinates, and whether it has no hole."""
    fine = np.repeat(np.repeat(crop.view(np.uint8), _FINE, axis=0), _FINE, axis=1)
    rings, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = max(rings, key=len) if len(rings) == 1 else max(rings, key=lambda each: np.ptp(each, axis=0).sum())
    return (outer[:, 0].astype(np.float64) + 0.5) / _FINE, len(rings) == 1
