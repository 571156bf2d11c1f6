"""Inspections: measured photos -> tables, maps, drawings and a page that can go into an inspection file.

`run` measures photo by photo beside the inference, `schema` says what the columns mean, the others write.
"""

from __future__ import annotations

from cracktool.inspection.collected import check_formats, write_collected
from cracktool.inspection.records import PhotoRecord, read_record
from cracktool.inspection.run import Inspected, Pair, find_pairs, inspect_photo, inspect_photos, pair_of
from cracktool.inspection.schema import CRACKS, PHOTOS, POINTS
from cracktool.inspection.settings import InspectionOptions, parse_length, parse_settings

__all__ = [
    "CRACKS",
    "PHOTOS",
    "POINTS",
    "Inspected",
    "InspectionOptions",
    "Pair",
    "PhotoRecord",
    "check_formats",
    "find_pairs",
    "inspect_photo",
    "inspect_photos",
    "pair_of",
    "parse_length",
    "parse_settings",
    "read_record",
    "write_collected",
]
