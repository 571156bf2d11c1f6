"""What measuring says of a crack and of a photo: plain data, from which tables, maps and pages are made.

Numbers and names only; how they are found is said elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cracktool.measuring.components import Floats
from cracktool.measuring.instances import Kind
from cracktool.measuring.scale import Scale
from cracktool.measuring.severity import Severity, SeverityProfile
from cracktool.measuring.widths import Verdict, Widths


@dataclass(frozen=True, kw_only=True)
class WidthSummary:
    """Widths of one crack over its measured points, all in one unit.

    Args:
        mean: Mean over the points, which lie at even distances.
        median: Median.
        p95: 95th percentile.
        max: Largest that is borne out: the middle one of three that follow each other along a line, so that no single
            reading decides. Where that is less than the median, the largest of all.
        borne_out: Whether three in a row bear it out.
        max_at: (y, x) in px of the photo where that is.
        mean_low: Lower end of the 95 % interval of the mean. Depth and blur are assumed alike along a crack, so errors
            do not average out: the interval is as wide as that of a typical point.
        mean_high: Upper end of it.
        max_low: Lower end of the 95 % interval at the place of the largest.
        max_high: Upper end of it.
        points: How many points were measured.
    """

    mean: float
    median: float
    p95: float
    max: float
    borne_out: bool
    max_at: tuple[float, float]
    mean_low: float
    mean_high: float
    max_low: float
    max_high: float
    points: int


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a crack is, in px and px2 or in mm and mm2.

    Args:
        length: Along all its lines, from tip to tip, bridged gaps left out.
        gaps: Length of the gaps that were bridged.
        main_length: Along the longest of its ways, gaps included.
        area: Of its mask.
        mask_width: Width of the mask, interval of no width.
        width: Width from the photo; None where no point could be measured.
        relative_std: Standard deviation of the scale there, as a share of it; part of all intervals. 0 in px.
    """

    length: float
    gaps: float
    main_length: float
    area: float
    mask_width: WidthSummary
    width: WidthSummary | None
    relative_std: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class CrackLine:
    """A branch of a crack with its widths.

    Args:
        points: Centre line, float64 (N, 2), N >= 2, rows (y, x) in px of the photo, at even distances.
        widths: At each point, px.
        nodes: What it starts and ends at; equal numbers of lines of one photo mean the same junction.
    """

    points: Floats
    widths: Widths
    nodes: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Crack:
    """One crack.

    Args:
        id: 1, 2, ... in reading order of the anchors.
        anchor: (y, x) of its first mask pixel in reading order: names the crack whatever else is found.
        kind: Its type.
        lines: Its branches.
        gaps: Gaps that were bridged, float64 (2, 2) each, rows (y, x) in px.
        box: Top, left, bottom, right of its mask in px; the last two lie behind the last pixel.
        px: Its size in pixels.
        mm: Its size in millimetres; None without a scale, or beyond the horizon of the surface.
        tortuosity: Length of the main way over the distance of its ends, 1 or more; nan for a closed ring.
        angle: Mean direction in degrees, see `polylines.orientation`.
        agreement: How strongly its pieces agree in direction, 0 to 1.
        junctions: Points where three or more branches meet.
        loops: Independent closed ways.
        severity: Class by the profile; None without profile, scale or measured width.
    """

    id: int
    anchor: tuple[int, int]
    kind: Kind
    lines: tuple[CrackLine, ...]
    gaps: tuple[Floats, ...]
    box: tuple[int, int, int, int]
    px: Size
    mm: Size | None
    tortuosity: float
    angle: float
    agreement: float
    junctions: int
    loops: int
    severity: Severity | None

    @property
    def measured_share(self) -> float:
        """Share of the points of its lines where the photo gave a width."""
        verdicts = np.concatenate([line.widths.verdict for line in self.lines])
        return float((verdicts == Verdict.MEASURED).mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurements:
    """All cracks of one photo.

    Args:
        shape_hw: Height and width of the photo in px.
        cracks: In reading order.
        scale: From px to mm; None where it is not known.
        profile: By which severities were given, or None.
        mask_area: Crack pixels of the mask.
        specks: Parts of the mask too small to be listed.
        specks_area: Their pixels.
        area_mm2: Surface that the photo shows; None without a scale, or where that has no end: its horizon is seen.
        shown: Share of the photo that is no nodata.
    """

    shape_hw: tuple[int, int]
    cracks: tuple[Crack, ...]
    scale: Scale | None
    profile: SeverityProfile | None
    mask_area: int
    specks: int
    specks_area: int
    area_mm2: float | None
    shown: float

    @property
    def percent(self) -> float:
        """Crack pixels in per cent of those that show something; 0 where none does."""
        return 100 * self.mask_area / (self.shape_hw[0] * self.shape_hw[1] * self.shown) if self.shown else 0.0

    @property
    def length_px(self) -> float:
        """Length of all cracks in px."""
        return sum(crack.px.length for crack in self.cracks)

    @property
    def density(self) -> float | None:
        """Length of all cracks over the surface shown, m per m2; None without a scale or any surface."""
        if not self.area_mm2:
            return None
        return 1000 * sum(crack.mm.length for crack in self.cracks if crack.mm) / self.area_mm2
