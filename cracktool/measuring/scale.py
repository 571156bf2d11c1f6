"""Scale: from pixels to millimetres on the surface, where it came from, and how far it can be trusted.

One form for all sources: a homography from the photo to a plane in mm. Knows nothing about cracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cracktool.errors import UsageError
from cracktool.measuring.components import Floats
from cracktool.measuring.polylines import tangents

_TOLERANCE = 0.05  # share by which two scales of a photo may differ beyond twice their standard deviations


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """From photo to surface.

    Args:
        matrix: Homography, float64 (3, 3): (x, y, 1) in px, the centre of the upper left pixel at (0, 0), to (X, Y, 1)
            in mm on the surface. The third number is above 0 on this side of the surface's horizon.
        source: Where it came from, for tables: ``given``, ``aruco``, ``exif`` or ``geotiff``.
        relative_std: Standard deviation of the whole scale, as a share of it.
        variants: Other homographies, each moved by one standard deviation of one thing measured: what they change is
            uncertainty that differs from place to place.
    """

    matrix: Floats
    source: str
    relative_std: float = 0.0
    variants: tuple[Floats, ...] = ()

    def to_mm(self, points: Floats) -> Floats:
        """Return places (N, 2) on the surface, rows (Y, X) in mm, of points (N, 2), rows (y, x) in px."""
        return _apply(self.matrix, points)

    def holds(self, points: Floats) -> bool:
        """Return whether the surface is what is seen at all points (N, 2), not its horizon or the sky above it."""
        return bool((_weight(self.matrix, points) > 0).all())

    def mm_per_px(self, points: Floats) -> Floats:
        """Return the local scale in mm per px at points (N, 2): the root of how much a pixel's area covers, (N,)."""
        return np.sqrt(_area_scale(self.matrix, points))

    def relative_std_at(self, points: Floats) -> Floats:
        """Return the standard deviation of the local scale at points (N, 2), as a share of it, (N,)."""
        here = self.mm_per_px(points)
        variance = np.full(len(points), self.relative_std**2)
        for variant in self.variants:
            variance += (np.sqrt(_area_scale(variant, points)) / here - 1) ** 2
        return np.asarray(np.sqrt(variance), np.float64)


def given_scale(mm_per_px: float, relative_std: float = 0.0) -> Scale:
    """Return a scale that is the same everywhere.

    Args:
        mm_per_px: Millimetres on the surface per pixel.
        relative_std: Its standard deviation as a share of it.

    Raises:
        UsageError: A value is not finite or not positive.

    Example:
        >>> given_scale(0.2).to_mm(np.array([[10.0, 5.0]])).tolist()
        [[2.0, 1.0]]
    """
    if not (np.isfinite(mm_per_px) and mm_per_px > 0):
        raise UsageError(f"a scale of {mm_per_px:g} mm per px is not possible", remedy="it must be above 0")
    if not 0 <= relative_std < 1:
        raise UsageError(f"an uncertainty of {relative_std:g} is not possible", remedy="it is a share, 0 to below 1")
    return Scale(matrix=np.diag([mm_per_px, mm_per_px, 1.0]), source="given", relative_std=relative_std)


def agree_on(scales: Sequence[Scale], shape_hw: tuple[int, int]) -> Scale | None:
    """Return the surest of several scales of one photo, or None where there is none.

    Args:
        scales: Those that are known, such as given by the user and found in the photo.
        shape_hw: Height and width of the photo in px; scales are compared in its middle.

    Raises:
        UsageError: Two of them contradict each other.
    """
    middle = np.array([[(shape_hw[0] - 1) / 2, (shape_hw[1] - 1) / 2]])
    found = [(float(each.relative_std_at(middle)[0]), float(each.mm_per_px(middle)[0]), each) for each in scales]
    for position, (std, value, scale) in enumerate(found):
        for other_std, other_value, other in found[:position]:
            if abs(np.log(value / other_value)) > _TOLERANCE + 2 * np.hypot(std, other_std):
                raise UsageError(
                    f"the scales contradict each other: {other.source} says {other_value:.4g} mm per px, "
                    f"{scale.source} says {value:.4g}",
                    remedy="keep the right one",
                )
    return min(found, key=lambda each: each[0])[2] if found else None


def scale_across(line: Floats, scale: Scale) -> Floats:
    """Return mm per px square to a line (N, 2) at its points, rows (y, x) in px, (N,)."""
    normal = tangents(line)[:, ::-1] * [1, -1]
    return np.asarray(np.hypot(*(scale.to_mm(line + normal / 2) - scale.to_mm(line - normal / 2)).T), np.float64)


def _apply(matrix: Floats, points: Floats) -> Floats:
    projected = np.column_stack([points[:, 1], points[:, 0], np.ones(len(points))]) @ matrix.T
    return np.asarray(projected[:, 1::-1] / projected[:, 2:], np.float64)


def _area_scale(matrix: Floats, points: Floats) -> Floats:
    """Return mm2 per px2: the determinant of a homography's derivative is det H / w^3."""
    return np.asarray(np.abs(np.linalg.det(matrix) / _weight(matrix, points) ** 3), np.float64)


def _weight(matrix: Floats, points: Floats) -> Floats:
    return np.asarray(np.column_stack([points[:, 1], points[:, 0], np.ones(len(points))]) @ matrix[2], np.float64)
