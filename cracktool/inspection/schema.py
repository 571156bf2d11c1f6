"""The tables of an inspection: their version, their columns in order, and what each means.

The one place where columns are named; the values are made in `records`. Columns only ever get added at the end, and
the number in `SCHEMA` rises when one changes its meaning or goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

SCHEMA = "cracktool-cracks/3"

Value = str | float | int | None
Row = dict[str, Value]


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        name: As in the head of the table; ends in its unit.
        meaning: One phrase.
        scaled: Whether it is there only where a scale is known in the run.
        kind: What its values are in a database.
    """

    name: str
    meaning: str
    scaled: bool = False
    kind: Literal["TEXT", "INTEGER", "DOUBLE"] = "DOUBLE"


def _sizes(unit: str) -> list[Column]:
    scaled = unit == "mm"
    rows = {
        f"length_{unit}": "along all branches from tip to tip, bridged gaps left out",
        f"gaps_{unit}": "length of the gaps that were bridged",
        f"main_length_{unit}": "along the longest way through the crack, gaps included",
        f"area_{unit}2": "area of the mask",
        f"width_mean_{unit}": "mean width from the photo's grey profiles; empty where nothing could be measured",
        f"width_mean_low_{unit}": "lower end of the 95 % interval of the mean",
        f"width_mean_high_{unit}": "upper end of it",
        f"width_median_{unit}": "median of the widths along the crack",
        f"width_p95_{unit}": "95th percentile of them",
        f"width_max_{unit}": "largest that is borne out: the middle one of three points in a row",
        f"width_max_low_{unit}": "lower end of the 95 % interval at that place",
        f"width_max_high_{unit}": "upper end of it",
        f"mask_width_mean_{unit}": "mean width of the mask, to compare: masks are wider than cracks",
        f"mask_width_max_{unit}": "largest width of the mask",
    }
    return [Column(name, meaning, scaled) for name, meaning in rows.items()]


_SCALE = [
    Column("mm_per_px", "scale, its mean along the crack or in the middle of the photo", True),
    Column("scale_source", "given, aruco, exif or geotiff", True, kind="TEXT"),
    Column("scale_relative_std", "standard deviation of the scale as a share of it; part of all mm intervals", True),
]

CRACKS: tuple[Column, ...] = (
    Column("photo", "path as it was given; of the mask where there is no photo", kind="TEXT"),
    Column("crack", "number in the photo, in reading order", kind="INTEGER"),
    Column("id", "name that stays whatever else is found: place of the photo / first mask pixel", kind="TEXT"),
    Column("type", "longitudinal, transverse, diagonal, branched, network, ring or patch", kind="TEXT"),
    *_sizes("px"),
    Column("width_max_x_px", "where the largest width is, from the left edge"),
    Column("width_max_y_px", "and from the upper edge"),
    Column("width_max_borne_out", "whether three points in a row bear it out; a single reading ranks last"),
    Column("width_points", "points at which the photo gave a width", kind="INTEGER"),
    Column("measured_share", "share of all points at which it did, 0 to 1"),
    Column("tortuosity", "length of the main way over the distance of its ends; empty for a ring"),
    Column("angle_deg", "mean direction: 0 along the rows, 90 upright, anticlockwise"),
    Column("agreement", "how strongly its pieces agree in direction, 0 to 1"),
    Column("branches", "pieces between tips and junctions", kind="INTEGER"),
    Column("junctions", "places where three or more branches meet", kind="INTEGER"),
    Column("loops", "independent closed ways", kind="INTEGER"),
    Column("left_px", "box of its mask"),
    Column("top_px", "box of its mask"),
    Column("right_px", "box of its mask, behind the last pixel"),
    Column("bottom_px", "box of its mask, behind the last pixel"),
    *_sizes("mm"),
    *_SCALE,
    Column("severity", "class of the width by the profile; empty without width or profile", True, kind="TEXT"),
    Column("severity_possible", "all classes that the interval reaches into", True, kind="TEXT"),
    Column("severity_profile", "name and version of the profile", True, kind="TEXT"),
)

PHOTOS: tuple[Column, ...] = (
    Column("photo", "path as it was given; of the mask where there is no photo", kind="TEXT"),
    Column("mask", "file of the mask", kind="TEXT"),
    Column("height_px", "of the mask"),
    Column("width_px", "of the mask"),
    Column("cracks", "how many are listed", kind="INTEGER"),
    Column("length_px", "of all of them"),
    Column("area_px2", "crack pixels, specks included"),
    Column("area_percent", "crack pixels in per cent of the photo without its nodata; of all of a mask alone"),
    Column("specks", "parts of the mask too small to be listed", kind="INTEGER"),
    Column("specks_area_px2", "their pixels"),
    Column("width_max_px", "largest width found; one that is not borne out only where no other is"),
    Column("width_max_crack", "and the number of the crack it is of", kind="INTEGER"),
    Column("latitude_deg", "where the photo was taken, from its EXIF data, WGS 84"),
    Column("longitude_deg", "east positive"),
    Column("altitude_m", "from its EXIF data"),
    Column("heading_deg", "direction in which the camera looked, clockwise from north"),
    Column("taken", "when, by the camera's clock", kind="TEXT"),
    Column("notes", "what was not as it should be", kind="TEXT"),
    Column("length_mm", "of all cracks", True),
    Column(
        "area_mm2", "surface that the photo shows, without its nodata; all of a mask alone; empty with a horizon", True
    ),
    Column("density_m_per_m2", "length of all cracks over that surface", True),
    Column("width_max_mm", "largest width found", True),
    *_SCALE,
    Column("severity", "highest class of its cracks", True, kind="TEXT"),
    Column("severity_profile", "name and version of the profile", True, kind="TEXT"),
)

POINTS: tuple[Column, ...] = (
    Column("photo", "path as it was given", kind="TEXT"),
    Column("crack", "number in the photo", kind="INTEGER"),
    Column("id", "name of the crack", kind="TEXT"),
    Column("branch", "number in the crack", kind="INTEGER"),
    Column("along_px", "distance from the start of the branch"),
    Column("x_px", "from the left edge, centre of the first pixel at 0"),
    Column("y_px", "from the upper edge"),
    Column("width_px", "from the photo; empty where not measurable"),
    Column("width_low_px", "lower end of its 95 % interval"),
    Column("width_high_px", "upper end of it"),
    Column("mask_width_px", "of the mask"),
    Column("verdict", "measured, or why not", kind="TEXT"),
    Column("mm_per_px", "across the crack", True),
    Column("width_mm", "from the photo", True),
    Column("width_low_mm", "lower end of its 95 % interval, uncertainty of the scale included", True),
    Column("width_high_mm", "upper end of it", True),
)


def columns(table: Iterable[Column], *, scaled: bool) -> list[str]:
    """Return the head of a table; without a scale there is nothing in mm.

    Example:
        >>> [name for name in columns(POINTS, scaled=False) if "mm" in name]
        []
    """
    return [column.name for column in table if scaled or not column.scaled]
