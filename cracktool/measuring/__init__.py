"""Measuring: from a mask and its photo to cracks with length, width, type and severity.

Arrays in, dataclasses out; tables, maps and pages are made from them elsewhere.
"""

from __future__ import annotations

from cracktool.measuring.cracks import Crack, CrackLine, Measurements, Size, WidthSummary
from cracktool.measuring.instances import Kind
from cracktool.measuring.measure import measure
from cracktool.measuring.scale import Scale, agree_on, given_scale
from cracktool.measuring.scale_sources import scale_from_aruco, scale_from_exif, scale_from_geotiff
from cracktool.measuring.severity import Severity, SeverityProfile, list_severities, read_severity
from cracktool.measuring.widths import Verdict, Widths

__all__ = [
    "Crack",
    "CrackLine",
    "Kind",
    "Measurements",
    "Scale",
    "Severity",
    "SeverityProfile",
    "Size",
    "Verdict",
    "WidthSummary",
    "Widths",
    "agree_on",
    "given_scale",
    "list_severities",
    "measure",
    "read_severity",
    "scale_from_aruco",
    "scale_from_exif",
    "scale_from_geotiff",
]
