"""Scales found in photos: ArUco markers, EXIF focal length and distance, a GeoTIFF's transform.

Reads pixels and metadata; what a scale is, is said in `scale`.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags

from cracktool.errors import InputError, UsageError
from cracktool.georeference import read_georeference
from cracktool.images import Image, read_exif
from cracktool.measuring.components import Floats
from cracktool.measuring.scale import Scale

_DICTIONARIES = ("4X4_250", "5X5_250", "6X6_250", "7X7_250", "ARUCO_ORIGINAL", "APRILTAG_36h11")
_CORNER_STD = 0.15  # px of a refined corner, along each axis
_DIAGONAL_35MM = math.hypot(36, 24)
_FOCAL_35MM_ROUNDING = 0.5 / math.sqrt(3)  # mm; EXIF holds whole ones


def scale_from_aruco(photo: Image, side_mm: float) -> Scale:
    """Return the scale of the plane that ArUco markers lie in, perspective corrected.

    The corners of the largest marker give the homography. Others of the same size are a check: how much their sides
    come out wrong is added to the uncertainty.

    Args:
        photo: uint8 (H, W, 3) RGB or (H, W) grey.
        side_mm: Side of the black square of each marker in mm.

    Raises:
        UsageError: The side is not positive.
        InputError: No marker is found, or the markers contradict each other by more than 10 %.
    """
    if not (math.isfinite(side_mm) and side_mm > 0):
        raise UsageError(f"a marker's side of {side_mm:g} mm is not possible", remedy="it must be above 0")
    markers = _find_markers(photo)
    if not markers:
        raise InputError(
            "no ArUco marker was found", remedy="its white margin must be visible and its side 30 px at least"
        )
    markers.sort(key=lambda corners: -cv2.contourArea(corners.astype(np.float32)))
    matrix = _homography(markers[0], side_mm)
    spread = 0.0
    for corners in markers[1:]:
        placed = cv2.perspectiveTransform(corners[None], matrix)[0]
        side = float(np.hypot(*(placed - np.roll(placed, -1, axis=0)).T).mean())
        spread = max(spread, abs(side / side_mm - 1))
    if spread > 0.1:
        raise InputError(
            f"the ArUco markers contradict each other by {spread:.0%}",
            remedy="they must lie in the plane of the crack and be of one size",
        )
    moves = _CORNER_STD * np.eye(8).reshape(8, 4, 2)
    variants = tuple(_homography(markers[0] + move, side_mm) for move in moves)
    return Scale(matrix=matrix, source="aruco", relative_std=spread, variants=variants)


def scale_from_exif(path: Path, distance_mm: float, *, distance_relative_std: float = 0.02) -> Scale:
    """Return the scale of a photo taken square to the surface, from the focal length in its EXIF data.

    mm per px = distance / focal length x size of a pixel, where the focal length in 35 mm terms refers to the diagonal
    of 43.27 mm (CIPA DCG-001).

    Args:
        path: The photo as the camera wrote it, neither cut nor enlarged.
        distance_mm: From the lens to the surface in mm.
        distance_relative_std: Standard deviation of the distance as a share of it.

    Raises:
        UsageError: The distance is not positive.
        InputError: The file cannot be read or says no focal length.
    """
    if not (math.isfinite(distance_mm) and distance_mm > 0):
        raise UsageError(f"a distance of {distance_mm:g} mm is not possible", remedy="it must be above 0")
    exif, _, size_hw = read_exif(path)
    tan_per_px, relative_std = _focal(exif, size_hw[::-1], path)
    value = distance_mm * tan_per_px
    return Scale(
        matrix=np.diag([value, value, 1.0]),
        source="exif",
        relative_std=math.hypot(distance_relative_std, relative_std),
    )


def scale_from_geotiff(path: Path) -> Scale:
    """Return the scale of a GeoTIFF from its transform.

    Where map units are not lengths on the ground, as in Mercator projections, it is that of the middle of the picture.

    Args:
        path: The file.

    Raises:
        UsageError: rasterio is not installed.
        InputError: The file has no transform, or its coordinates are no lengths.
    """
    geo = read_georeference(path)
    if geo is None:
        raise InputError("the file has no georeference", path=path, remedy="say --mm-per-px")
    if geo.unit_mm is None:
        reason = "its coordinates are degrees, or askew on the ground"
        raise InputError(reason, path=path, remedy="reproject it to metres, such as UTM")
    # The transform counts from the corner of the upper left pixel, we from its centre. Only differences are used, and
    # small numbers keep their decimals, so the origin is left out.
    a, b, _, d, e, _ = geo.transform
    matrix = np.diag([*geo.unit_mm, 1.0]) @ [[a, b, 0], [d, e, 0], [0, 0, 1]]
    return Scale(matrix=matrix, source="geotiff")


def _find_markers(photo: Image) -> list[Floats]:
    """Return the corners (4, 2) in px, columns (x, y), of the markers of the first dictionary that fits."""
    grey = photo if photo.ndim == 2 else cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    settings = cv2.aruco.DetectorParameters()
    settings.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    for name in _DICTIONARIES:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{name}"))
        corners, _, _ = cv2.aruco.ArucoDetector(dictionary, settings).detectMarkers(np.ascontiguousarray(grey))
        if len(corners):
            return [np.asarray(each, np.float64).reshape(4, 2) for each in corners]
    return []


def _homography(corners: Floats, side_mm: float) -> Floats:
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * np.float32(side_mm)
    matrix = np.asarray(cv2.getPerspectiveTransform(corners.astype(np.float32), square), np.float64)
    return np.asarray(
        matrix / (matrix[2] @ [*corners[0], 1]), np.float64
    )  # above 0 on the marker's side of the horizon


def _focal(exif: dict[int, object], size: tuple[int, int], path: Path) -> tuple[float, float]:
    """Return the size of a pixel over the focal length, and the standard deviation of that as a share of it."""
    in_35mm = _number(exif.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if in_35mm:
        return _DIAGONAL_35MM / math.hypot(*size) / in_35mm, _FOCAL_35MM_ROUNDING / in_35mm
    focal = _number(exif.get(ExifTags.Base.FocalLength))
    density = _number(exif.get(ExifTags.Base.FocalPlaneXResolution))
    unit_mm = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}.get(
        int(_number(exif.get(ExifTags.Base.FocalPlaneResolutionUnit, 2)))
    )
    if focal and density and unit_mm:
        return unit_mm / density / focal, 0.01  # makers round the focal length to a percent or so
    raise InputError(
        "its EXIF data say no focal length", path=path, remedy="say --mm-per-px or lay an ArUco marker beside the crack"
    )


def _number(value: object) -> float:
    """Return an EXIF number; 0 where there is none or it is damaged."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
