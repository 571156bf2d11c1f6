"""Where and when a photo was taken, as its camera noted it in the EXIF data.

Reads metadata only; no pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags

from cracktool.errors import InputError
from cracktool.images import read_exif


@dataclass(frozen=True, kw_only=True)
class Position:
    """What the camera noted; None for what it did not.

    Args:
        latitude: Degrees north, WGS 84.
        longitude: Degrees east.
        altitude: Metres above the sea.
        heading: Degrees clockwise from north that the camera looked.
        taken: Date and time by the camera's clock, ``2026-05-01 12:30:00``.
    """

    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    heading: float | None = None
    taken: str | None = None


def read_position(path: Path) -> Position:
    """Return what a photo's EXIF data say; damaged or missing entries are None.

    Example:
        >>> read_position(Path("examples/photos/pavement.jpg")).latitude is None
        True
    """
    try:
        details, gps, _ = read_exif(path)
    except InputError:
        return Position()
    latitude = _degrees(gps, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S", 90)
    longitude = _degrees(gps, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W", 180)
    if latitude is None or longitude is None:
        latitude = longitude = None
    altitude = _number(gps.get(ExifTags.GPS.GPSAltitude))
    if altitude is not None and gps.get(ExifTags.GPS.GPSAltitudeRef) in (b"\x01", 1):
        altitude = -altitude
    return Position(
        latitude=latitude,
        longitude=longitude,
        altitude=altitude,
        heading=_number(gps.get(ExifTags.GPS.GPSImgDirection)),
        taken=_time(details.get(ExifTags.Base.DateTimeOriginal) or details.get(ExifTags.Base.DateTime)),
    )


def _degrees(gps: Mapping[int, Any], value: int, side: int, negative: str, limit: float) -> float | None:
    """Return degrees of the three numbers that EXIF keeps degrees, minutes and seconds in."""
    parts = gps.get(value)
    if not isinstance(parts, tuple | list) or len(parts) != 3:
        return None
    numbers = [_number(part) for part in parts]
    if any(number is None for number in numbers):
        return None
    degrees = sum((number or 0.0) / 60**power for power, number in enumerate(numbers))
    if degrees > limit:
        return None
    sign = -1 if str(gps.get(side, "")).strip("\0 ").upper() == negative else 1
    return float(round(sign * degrees, 8))


def _number(value: Any) -> float | None:
    try:
        number: float = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def _time(value: Any) -> str | None:
    """Return EXIF's ``2026:05:01 12:30:00`` with the date as the rest of the world writes it."""
    text = str(value or "").strip("\0 ")
    return text[:10].replace(":", "-") + text[10:] if len(text) >= 10 else None
