"""What an inspection is asked for, and the scale that it finds in a photo.

Options in, a scale and remarks out; measures nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cracktool.errors import CrackError, InputError, UsageError, check_name
from cracktool.georeference import ENDINGS
from cracktool.images import Image
from cracktool.measuring import (
    Scale,
    SeverityProfile,
    agree_on,
    given_scale,
    scale_from_aruco,
    scale_from_exif,
    scale_from_geotiff,
)
from cracktool.measuring.measure import check_lengths

_UNITS = {"": 1.0, "mm": 1.0, "cm": 10.0, "m": 1000.0}
_SOURCES = ("aruco:SIDE", "exif", "geotiff")


@dataclass(frozen=True, kw_only=True)
class InspectionOptions:
    """How cracks are measured.

    Args:
        mm_per_px: Scale that holds for all photos.
        scale_from: Where else a scale comes from: ``aruco:20`` (side of the marker in mm), ``exif``, ``geotiff``.
        distance: From the lens to the surface in mm, for ``exif``.
        scale_std: Standard deviation of `mm_per_px` or of `distance`, as a share of it; None for 0 and 2 %.
        severity: Classes of widths; without a scale they stay empty.
        bridge: Widest gap in px between ends that face each other; 0 bridges none.
        min_length: Parts of the mask whose box has a shorter diagonal, px, are specks.
        spacing: Least distance in px of the points at which widths are measured.
        reference: Direction of the road or wall in degrees: 0 along the rows, 90 upright.

    Raises:
        UsageError: A value is impossible, or two contradict each other.
    """

    mm_per_px: float | None = None
    scale_from: tuple[str, ...] = ()
    distance: float | None = None
    scale_std: float | None = field(default=None, metadata={"set": True})
    severity: SeverityProfile | None = None
    bridge: float = field(default=12.0, metadata={"set": True})
    min_length: float = field(default=8.0, metadata={"set": True})
    spacing: float = field(default=3.0, metadata={"set": True})
    reference: float = field(default=90.0, metadata={"set": True})

    def __post_init__(self) -> None:
        if self.mm_per_px is not None:
            given_scale(self.mm_per_px, self.scale_std or 0.0)
        for source in self.scale_from:
            _check_source(source)
        sides = sorted({parse_length(each.partition(":")[2]) for each in self.scale_from if each.startswith("aruco:")})
        if len(sides) > 1:
            raise UsageError(
                f"a marker's side is {sides[0]:g} mm or {sides[1]:g} mm, not both", remedy="keep the right one"
            )
        if self.distance is not None and not (math.isfinite(self.distance) and self.distance > 0):
            raise UsageError(f"a distance of {self.distance:g} mm is not possible", remedy="it must be above 0")
        if "exif" in self.scale_from and self.distance is None:
            raise UsageError("the scale of exif needs the distance to the surface", remedy="say --distance 1.5m")
        if self.scale_std is not None and self.mm_per_px is None and self.distance is None:
            raise UsageError("scale_std is set without a scale it is of", remedy="say --mm-per-px or --distance too")
        check_lengths(bridge=self.bridge, min_length=self.min_length, spacing=self.spacing)
        if not math.isfinite(self.reference):
            raise UsageError(f"reference is {self.reference:g} degrees", remedy="0 to 180")

    def settings(self) -> Mapping[str, object]:
        """Return everything that decides a result, as JSON takes it."""
        profile = repr(self.severity).encode()
        return {**asdict(self), "severity": self.severity and hashlib.sha256(profile).hexdigest()[:16]}


def parse_length(text: str) -> float:
    """Return the mm of a length such as ``1.5m``, ``150 cm`` or ``1500``.

    Raises:
        UsageError: It is none.

    Example:
        >>> parse_length("1.5m")
        1500.0
    """
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(mm|cm|m|)\s*", text)
    with contextlib.suppress(ValueError):  # such as 1.5.2
        if found:
            return float(found[1]) * _UNITS[found[2]]
    raise UsageError(f"the length {text!r} cannot be read", remedy="write such as 1.5m")


def parse_settings(pairs: tuple[str, ...]) -> dict[str, float]:
    """Return what ``key=value`` pairs set: bridge, min_length, spacing, reference or scale_std.

    Raises:
        UsageError: A key or a value means nothing.
    """
    known = [name for name, each in InspectionOptions.__dataclass_fields__.items() if each.metadata.get("set")]
    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        check_name("setting", key, known)
        try:
            found[key] = float(value)
        except ValueError as error:
            raise UsageError(f"{key} is {value!r}, expected a number") from error
    return found


def find_scale(
    options: InspectionOptions, photo: Path | None, image: Image | None, mask: Path, shape_hw: tuple[int, int]
) -> tuple[Scale | None, list[str]]:
    """Return the scale of a photo in its own pixels, and remarks on what was wanted but not found.

    A GeoTIFF's own transform is used without being asked for; it may be that of a mask without photo.

    Args:
        options: What is known and wanted.
        photo: File of the photo; None where there is only a mask.
        image: Its pixels.
        mask: File of the mask.
        shape_hw: Height and width in px.

    Raises:
        UsageError: Two sources contradict each other.
    """
    found, remarks = [], []
    placed = photo or mask
    if options.mm_per_px is not None:
        found.append(given_scale(options.mm_per_px, options.scale_std or 0.0))
    wanted = list(dict.fromkeys((*options.scale_from, *(("exif",) if options.distance else ()))))
    for source in wanted:
        try:
            found.append(_scale(source, options, photo, image, placed))
        except (InputError, UsageError) as error:
            remarks.append(f"{error.reason} ({error.remedy})" if error.remedy else error.reason)
    if "geotiff" not in wanted and placed.suffix.lower() in ENDINGS:
        with contextlib.suppress(CrackError):  # a plain TIFF, degrees, or no rasterio: nobody asked for it
            found.append(scale_from_geotiff(placed))
    return agree_on(found, shape_hw), remarks


def _scale(source: str, options: InspectionOptions, photo: Path | None, image: Image | None, placed: Path) -> Scale:
    if source == "geotiff":
        return scale_from_geotiff(placed)
    if photo is None or image is None:
        raise InputError(f"there is no photo to take the scale from ({source})")
    if source == "exif":
        std = 0.02 if options.scale_std is None else options.scale_std
        return scale_from_exif(photo, options.distance or 0.0, distance_relative_std=std)
    return scale_from_aruco(image, parse_length(source.partition(":")[2]))


def _check_source(source: str) -> None:
    name, _, side = source.partition(":")
    if name == "aruco":
        if not side or parse_length(side) <= 0:
            raise UsageError(f"the scale of {source!r} needs the marker's side", remedy="such as aruco:20 for 20 mm")
    elif source not in ("exif", "geotiff"):
        raise UsageError(f"there is no scale source {source!r}", remedy=f"one of {', '.join(_SOURCES)}")
