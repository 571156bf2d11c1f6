"""What is kept of a measured photo: its row, its cracks' rows, and their lines, as one JSON file beside the mask.

All tables, maps, drawings and pages are made from these files alone; the columns are those of `schema`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError
from cracktool.files import replace_file
from cracktool.georeference import GeoReference
from cracktool.inspection.positions import Position
from cracktool.inspection.schema import CRACKS, PHOTOS, SCHEMA, Row, columns
from cracktool.measuring import Crack, CrackLine, Measurements, Scale, SeverityProfile, Size
from cracktool.measuring.scale import scale_across

Numbers = list[float | None]


@dataclass(frozen=True, kw_only=True)
class LineRecord:
    """A branch of a crack; all lists are as long as it has points.

    Args:
        x: px from the left edge; the centre of the first pixel lies at 0.
        y: px from the upper edge.
        width: px, from the photo; None where not measurable.
        low: Lower end of its 95 % interval.
        high: Upper end of it.
        mask_width: px.
        verdict: Codes of `cracktool.measuring.Verdict`.
        mm_per_px: Across the line; None without a scale.
    """

    x: list[float]
    y: list[float]
    width: Numbers
    low: Numbers
    high: Numbers
    mask_width: list[float]
    verdict: list[int]
    mm_per_px: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class CrackRecord:
    """One crack: its row of the table, its branches, and the gaps that were bridged as [x, y, x, y] in px."""

    row: Row
    lines: tuple[LineRecord, ...]
    gaps: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class PhotoRecord:
    """One photo.

    Args:
        made_from: What the values depend on: files with their states, options, version of the package.
        row: Its row of the table of photos.
        cracks: In reading order.
        matrix: Homography from px to mm, three rows; None without a scale.
        geo: How it lies on a map, or None.
        severities: Labels of the profile's classes from narrow to wide.
        rules: Which standard they are of, and what a reader must know of it.
        enlarged: How many times as fine as the photo its mask is. All px are those of the mask.
    """

    made_from: Mapping[str, Any]
    row: Row
    cracks: tuple[CrackRecord, ...]
    matrix: tuple[tuple[float, ...], ...] | None = None
    geo: GeoReference | None = None
    severities: tuple[str, ...] = ()
    rules: str = ""
    enlarged: int = 1

    @property
    def page(self) -> int:
        """Which picture of the photo's file it was made from, where that has several."""
        return int(self.made_from.get("page", 0))

    @property
    def scaled(self) -> bool:
        """Whether there are mm."""
        return self.matrix is not None


def make_record(
    found: Measurements,
    *,
    photo: str,
    mask: str,
    place: str,
    made_from: Mapping[str, Any],
    position: Position | None = None,
    geo: GeoReference | None = None,
    enlarged: int = 1,
    notes: Sequence[str] = (),
) -> PhotoRecord:
    """Return what is kept of the measurements of one photo.

    Args:
        found: The measurements.
        photo: How the tables call it.
        mask: File of the mask.
        place: Of the photo among the others, without ending; the ids of the cracks start with it.
        made_from: What the values depend on.
        position: What the camera noted.
        geo: How the mask lies on a map.
        enlarged: How many times as fine as the photo the mask is.
        notes: Remarks for the table.
    """
    cracks = tuple(_crack(crack, found, photo, place) for crack in found.cracks)
    scale = found.scale
    return PhotoRecord(
        made_from=made_from,
        row=_photo_row(found, photo, mask, position or Position(), notes),
        cracks=cracks,
        matrix=tuple(tuple(map(float, row)) for row in scale.matrix) if scale else None,
        geo=geo,
        severities=_severities(found.profile),
        rules=_rules(found.profile) if found.profile else "",
        enlarged=enlarged,
    )


def _severities(profile: SeverityProfile | None) -> tuple[str, ...]:
    return tuple(each.label for each in profile.classes) if profile else ()


def _profile_name(profile: SeverityProfile | None) -> str | None:
    return f"{profile.name}, version {profile.version}" if profile else None


def _rules(profile: SeverityProfile) -> str:
    return f"Classes after {profile.standard}. {profile.note or 'Check against your edition.'}"


def write_record(path: Path, record: PhotoRecord) -> None:
    """Write a record as JSON in one step.

    Raises:
        OutputError: It cannot be written.
    """
    content = {"schema": SCHEMA, **vars(record)}
    # `asdict` would copy each number by itself, which takes half as long as measuring.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=vars)
    replace_file(path, text.encode("utf-8", "surrogateescape"))


def read_record(path: Path) -> PhotoRecord:
    """Read what `write_record` wrote.

    Raises:
        InputError: The file is missing, damaged, or of another version of the schema.
    """
    try:
        content = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
        if content.pop("schema") != SCHEMA:
            raise InputError("it was measured by another version", path=path, remedy="measure again with --overwrite")
        return _parsed(content)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError("it holds no measurements of cracks", path=path, remedy="move it away") from error


def _parsed(content: dict[str, Any]) -> PhotoRecord:
    cracks = tuple(
        CrackRecord(
            row=crack["row"],
            lines=tuple(LineRecord(**line) for line in crack["lines"]),
            gaps=tuple(tuple(gap) for gap in crack["gaps"]),
        )
        for crack in content.pop("cracks")
    )
    geo, matrix = content.pop("geo"), content.pop("matrix")
    return PhotoRecord(
        **content | {"severities": tuple(content["severities"])},
        cracks=cracks,
        matrix=tuple(map(tuple, matrix)) if matrix else None,
        geo=_georeference(geo) if geo else None,
    )


def _georeference(values: dict[str, Any]) -> GeoReference:
    unit_mm = values["unit_mm"]
    return GeoReference(
        **values | {"transform": tuple(values["transform"]), "unit_mm": tuple(unit_mm) if unit_mm else None}
    )


def _photo_row(found: Measurements, photo: str, mask: str, position: Position, notes: Sequence[str]) -> Row:
    widest = max((crack for crack in found.cracks if crack.px.width), key=_widest, default=None)
    values: Row = {
        "photo": photo,
        "mask": mask,
        "height_px": found.shape_hw[0],
        "width_px": found.shape_hw[1],
        "cracks": len(found.cracks),
        "length_px": _rounded(found.length_px),
        "area_px2": found.mask_area,
        "area_percent": _rounded(found.percent, 5),
        "specks": found.specks,
        "specks_area_px2": found.specks_area,
        "width_max_px": _rounded(widest.px.width.max) if widest and widest.px.width else None,
        "width_max_crack": widest.id if widest else None,
        "latitude_deg": position.latitude,
        "longitude_deg": position.longitude,
        "altitude_m": position.altitude,
        "heading_deg": position.heading,
        "taken": position.taken,
        "notes": "; ".join(notes),
    }
    if found.scale:
        widths_mm = [crack.mm.width for crack in found.cracks if crack.mm and crack.mm.width]
        _, widest_mm = max(((each.borne_out, each.max) for each in widths_mm), default=(False, None))
        middle = (np.array([found.shape_hw]) - 1) / 2
        order = _severities(found.profile)
        labels = [crack.severity.label for crack in found.cracks if crack.severity]
        values |= {
            "length_mm": _rounded(sum(crack.mm.length for crack in found.cracks if crack.mm)),
            "area_mm2": _rounded_or_none(found.area_mm2, 3),
            "density_m_per_m2": _rounded_or_none(found.density, 5),
            "width_max_mm": _rounded_or_none(widest_mm, 4),
            **_scale_values(found.scale, middle),
            "severity": max(labels, key=order.index, default=None),
            "severity_profile": _profile_name(found.profile),
        }
    return {name: values[name] for name in columns(PHOTOS, scaled=found.scale is not None)}


def _widest(crack: Crack) -> tuple[bool, float]:
    """Rank by the largest width, single readings behind all that are borne out."""
    return (crack.px.width.borne_out, crack.px.width.max) if crack.px.width else (False, 0.0)


def _crack(crack: Crack, found: Measurements, photo: str, place: str) -> CrackRecord:
    points = np.concatenate([line.points for line in crack.lines])
    at = crack.px.width.max_at if crack.px.width else (None, None)
    top, left, bottom, right = crack.box
    values: Row = {
        "photo": photo,
        "crack": crack.id,
        "id": f"{place}/x{crack.anchor[1]}y{crack.anchor[0]}",
        "type": crack.kind.value,
        **_size(crack.px, "px", 3),
        "width_max_x_px": _rounded_or_none(at[1], 1),
        "width_max_y_px": _rounded_or_none(at[0], 1),
        "width_max_borne_out": crack.px.width.borne_out if crack.px.width else None,
        "width_points": crack.px.width.points if crack.px.width else 0,
        "measured_share": _rounded(crack.measured_share),
        "tortuosity": _rounded_or_none(crack.tortuosity, 4),
        "angle_deg": round(crack.angle, 1) % 180 if np.isfinite(crack.angle) else None,  # 180 is 0
        "agreement": _rounded(crack.agreement),
        "branches": len(crack.lines),
        "junctions": crack.junctions,
        "loops": crack.loops,
        "left_px": left,
        "top_px": top,
        "right_px": right,
        "bottom_px": bottom,
    }
    if found.scale and crack.mm:
        severity = crack.severity
        values |= {
            **_size(crack.mm, "mm", 4),
            **_scale_values(found.scale, points),
            "severity": severity.label if severity else None,
            "severity_possible": " | ".join(severity.possible) if severity else None,
            "severity_profile": _profile_name(found.profile),
        }
    names = columns(CRACKS, scaled=found.scale is not None)
    if found.scale and not crack.mm:  # beyond the horizon of the scale
        values = dict.fromkeys(names) | values
    return CrackRecord(
        row={name: values[name] for name in names},
        lines=tuple(_line(line, found.scale if crack.mm else None) for line in crack.lines),
        gaps=tuple(tuple(_list(gap[:, ::-1].ravel(), 2)) for gap in crack.gaps),  # type: ignore[misc]  # four each
    )


def _size(size: Size, unit: str, decimals: int) -> Row:
    width, mask = size.width, size.mask_width
    names = ("mean", "mean_low", "mean_high", "median", "p95", "max", "max_low", "max_high")
    return {
        f"length_{unit}": _rounded(size.length, decimals),
        f"gaps_{unit}": _rounded(size.gaps, decimals),
        f"main_length_{unit}": _rounded(size.main_length, decimals),
        f"area_{unit}2": _rounded(size.area, decimals),
        **{f"width_{name}_{unit}": _rounded(getattr(width, name), decimals) if width else None for name in names},
        f"mask_width_mean_{unit}": _rounded(mask.mean, decimals),
        f"mask_width_max_{unit}": _rounded(mask.max, decimals),
    }


def _scale_values(scale: Scale, points: npt.NDArray[np.float64]) -> Row:
    return {
        "mm_per_px": _rounded(float(scale.mm_per_px(points).mean()), 6),
        "scale_source": scale.source,
        "scale_relative_std": _rounded(float(scale.relative_std_at(points).mean()), 5),
    }


def _line(line: CrackLine, scale: Scale | None) -> LineRecord:
    widths = line.widths
    return LineRecord(
        x=_list(line.points[:, 1], 2),
        y=_list(line.points[:, 0], 2),
        width=_gappy(widths.width),
        low=_gappy(widths.low),
        high=_gappy(widths.high),
        mask_width=_list(widths.mask_width, 2),
        verdict=widths.verdict.tolist(),
        mm_per_px=_list(scale_across(line.points, scale), 6) if scale else None,
    )


def _list(values: npt.NDArray[Any], decimals: int) -> list[float]:
    rounded: list[float] = np.round(values.astype(np.float64), decimals).tolist()
    return rounded


def _gappy(values: npt.NDArray[Any]) -> Numbers:
    found: Numbers = [*_list(values, 3)]
    for at in np.flatnonzero(~np.isfinite(values)).tolist():
        found[at] = None
    return found


def _rounded(value: float, decimals: int = 3) -> float:
    return round(float(value), decimals)


def _rounded_or_none(value: Any, decimals: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), decimals)
