"""Measure the cracks of one photo: mask and photo in, cracks with lengths, widths, types and severities out.

The one entry of this package; writes no files and knows no networks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError, UsageError
from cracktool.images import Image, Mask
from cracktool.measuring.components import Components, Floats, find_components
from cracktool.measuring.instances import Kind, facing_ends, group_parts, main_way, name_kind
from cracktool.measuring.lines import Line, free_ends, trace_lines
from cracktool.measuring.polylines import length, orientation, smooth, tangents
from cracktool.measuring.scale import Scale
from cracktool.measuring.severity import Severity, SeverityProfile
from cracktool.measuring.widths import Verdict, Widths, measure_widths

_Z95 = 1.959964
_TIP_REACH = 1.5  # px from a tip within which half of what a profile averages lies beyond the crack
_JUNCTION_REACH = 1.2  # half widths from a junction within which a perpendicular meets another branch


@dataclass(frozen=True, kw_only=True)
class WidthSummary:
    """Widths of one crack over its measured points, all in one unit.

    Args:
        mean: Mean over the points, which lie at even distances.
        median: Median.
        p95: 95th percentile.
        max: Largest; of noisy widths it is a little too large.
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
        mm: Its size in millimetres; None without a scale.
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
        area_mm2: Surface that the photo shows; None without a scale.
    """

    shape_hw: tuple[int, int]
    cracks: tuple[Crack, ...]
    scale: Scale | None
    profile: SeverityProfile | None
    mask_area: int
    specks: int
    specks_area: int
    area_mm2: float | None

    @property
    def percent(self) -> float:
        """Crack pixels in per cent of the photo."""
        return 100 * self.mask_area / (self.shape_hw[0] * self.shape_hw[1])

    @property
    def length_px(self) -> float:
        """Length of all cracks in px."""
        return sum(crack.px.length for crack in self.cracks)

    @property
    def density(self) -> float | None:
        """Length of all cracks over the surface shown, m per m2; None without a scale."""
        if self.area_mm2 is None:
            return None
        return 1000 * sum(crack.mm.length for crack in self.cracks if crack.mm) / self.area_mm2


def measure(
    photo: Image | None,
    mask: Mask,
    *,
    scale: Scale | None = None,
    severity: SeverityProfile | None = None,
    bridge: float = 12.0,
    min_length: float = 8.0,
    spacing: float = 3.0,
    reference: float = 90.0,
) -> Measurements:
    """Measure the cracks of a photo.

    Lengths are those of smoothed centre lines of the mask, widths those of the photo's grey profiles across them; the
    mask's own widths stand beside them. Memory goes with the crack pixels, not with the photo: both arrays may be
    memory maps.

    Args:
        photo: uint8 (H, W, 3) RGB or (H, W) grey; None for widths of the mask only.
        mask: bool (H, W), True on crack.
        scale: From px to mm; without it there are no millimetres.
        severity: Classes of widths; used where there is a scale.
        bridge: Widest gap in px between ends that face each other; 0 bridges none.
        min_length: Parts whose box has a shorter diagonal, px, are counted as specks and not listed.
        spacing: Distance in px of the points at which widths are measured.
        reference: Direction of the road or wall in degrees, 0 along the rows, 90 upright.

    Raises:
        InputError: The mask is not bool (H, W), or the photo has another size.
        UsageError: An option is out of range.

    Example:
        >>> mask = np.zeros((40, 200), bool)
        >>> mask[18:22, 20:180] = True
        >>> found = measure(None, mask)
        >>> [(crack.kind.value, round(crack.px.length), round(crack.px.mask_width.mean, 1)) for crack in found.cracks]
        [('transverse', 160, 4.0)]
    """
    _check(photo, mask, bridge, min_length, spacing)
    components = find_components(mask)
    boxes, areas = components.boxes, components.area
    keep = np.hypot(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) >= min_length
    lines, loops = trace_lines(mask, components, keep, spacing)
    measured = _measure_lines(photo, mask, lines)
    cracks = _assemble(components, lines, measured, loops, bridge, reference)
    if scale:
        cracks = [_in_mm(crack, scale, severity) for crack in cracks]
    height, width = components.shape_hw
    corners = np.array([[0, 0], [0, width], [height, width], [height, 0]]) - 0.5
    return Measurements(
        shape_hw=components.shape_hw,
        cracks=tuple(cracks),
        scale=scale,
        profile=severity,
        mask_area=int(areas.sum()),
        specks=int((~keep).sum()),
        specks_area=int(areas[~keep].sum()),
        area_mm2=_polygon_area(scale.to_mm(corners)) if scale else None,
    )


def _check(photo: Image | None, mask: Mask, bridge: float, min_length: float, spacing: float) -> None:
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
        raise InputError(f"the mask is {mask.dtype} {mask.shape}, expected bool (height, width)")
    if photo is not None and (photo.dtype != np.uint8 or photo.ndim not in (2, 3)):
        raise InputError(f"the photo is {photo.dtype} {photo.shape}, expected uint8 (height, width, 3)")
    if photo is not None and photo.shape[:2] != mask.shape:
        raise InputError(
            f"the photo is {photo.shape[1]}x{photo.shape[0]} px and its mask {mask.shape[1]}x{mask.shape[0]}",
            remedy="widths are measured where both lie pixel on pixel",
        )
    for name, value, least in (("bridge", bridge, 0), ("min_length", min_length, 0), ("spacing", spacing, 0.5)):
        if not (np.isfinite(value) and value >= least):
            raise UsageError(f"{name} is {value:g} px, expected {least} or more")


def _measure_lines(photo: Image | None, mask: Mask, lines: list[Line]) -> list[CrackLine]:
    """Measure widths along all lines, and move the lines into the middle of the mask."""
    if not lines:
        return []
    points = np.concatenate([line.points for line in lines])
    normals = np.concatenate([tangents(line.points)[:, ::-1] * [1, -1] for line in lines])
    half_width = np.concatenate([line.half_width for line in lines])
    unsuited = np.concatenate([_unsuited(line) for line in lines])
    widths = measure_widths(photo, mask, points, normals, half_width, unsuited)
    middle = np.where(unsuited == Verdict.MEASURED, widths.offset, 0)  # at a junction it is that of two branches
    offset = np.clip(middle, -half_width - 1, half_width + 1)[:, None] * normals
    result = []
    first = 0
    for line in lines:
        here = slice(first, first + len(line.points))
        first = here.stop
        moved = line.points.copy()
        moved[1:-1] += smooth(offset[here], 1.0)[1:-1]
        result.append(CrackLine(points=moved, widths=widths[here], nodes=line.nodes))
    return result


def _unsuited(line: Line) -> npt.NDArray[np.uint8]:
    """Return the verdict on points where nothing lies square to the line: near junctions and at tips."""
    count = len(line.points)
    distance = np.arange(count) * length(line.points) / (count - 1)
    verdict = np.full(count, Verdict.MEASURED, np.uint8)
    if line.nodes[0] == line.nodes[1]:
        return verdict
    for free, away, root in ((line.free[0], distance, 0), (line.free[1], distance[::-1], -1)):
        if free:
            verdict[away < _TIP_REACH] = Verdict.AT_TIP
        else:
            verdict[away < _JUNCTION_REACH * line.half_width[root] + 1] = Verdict.AT_JUNCTION
    return verdict


def _assemble(
    components: Components,
    lines: list[Line],
    measured: list[CrackLine],
    loops: dict[int, int],
    bridge: float,
    reference: float,
) -> list[Crack]:
    """Group lines into cracks across gaps, and describe each."""
    ends, owners = free_ends(lines)
    pairs = facing_ends(ends, reach=bridge)
    parts = sorted({line.part for line in lines})
    position = {part: number for number, part in enumerate(parts)}
    groups = group_parts(
        len(parts), [(position[int(ends.part[one])], position[int(ends.part[two])]) for one, two in pairs]
    )
    by_part: dict[int, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        by_part[line.part].append(number)
    gaps: dict[int, list[tuple[int, int, Floats]]] = defaultdict(list)
    for one, two in pairs:
        node_one, node_two = (owners[end][0].nodes[owners[end][1]] for end in (one, two))
        gaps[int(ends.part[one])].append((node_one, node_two, ends.points[[one, two]]))
    boxes, areas, anchors = components.boxes, components.area, components.anchors
    cracks = []
    for number, group in enumerate(groups, 1):
        members = [parts[each] for each in group]
        box = boxes[members]
        crack = _describe(
            [measured[each] for part in members for each in by_part[part]],
            [gap for part in members for gap in gaps.get(part, [])],
            float(areas[members].sum()),
            sum(loops[part] for part in members),
            reference,
        )
        top, left = box[:, :2].min(axis=0)
        bottom, right = box[:, 2:].max(axis=0)
        y, x = anchors[members[0]]
        place = (int(top), int(left), int(bottom), int(right))
        cracks.append(replace(crack, id=number, anchor=(int(y), int(x)), box=place))
    return cracks


def _describe(
    lines: list[CrackLine], gaps: list[tuple[int, int, Floats]], area: float, loops: int, reference: float
) -> Crack:
    lengths = [length(line.points) for line in lines]
    edges = [(*line.nodes, each) for line, each in zip(lines, lengths, strict=True)]
    edges += [(one, two, length(points)) for one, two, points in gaps]
    main_length, first, last = main_way(edges)
    place = {line.nodes[side]: line.points[-side] for line in lines for side in (0, 1)}
    chord = float(np.hypot(*(place[first] - place[last])))
    ring = first == last
    main_length = max(lengths) if ring else main_length
    degree = np.unique([line.nodes for line in lines], return_counts=True)[1]
    junctions = int((degree > 2).sum())
    angle, agreement = orientation([line.points for line in lines])
    px = _size_px(lines, lengths, [points for _, _, points in gaps], main_length, area)
    kind = name_kind(
        length=px.length,
        main_length=px.main_length,
        width=px.mask_width.mean,
        junctions=junctions,
        loops=loops,
        angle=angle,
        reference=reference,
    )
    return Crack(
        id=0,
        anchor=(0, 0),
        box=(0, 0, 0, 0),
        kind=kind,
        lines=tuple(lines),
        gaps=tuple(points for _, _, points in gaps),
        px=px,
        mm=None,
        tortuosity=float("nan") if ring or chord < 1 else max(1.0, main_length / chord),
        angle=angle,
        agreement=agreement,
        junctions=junctions,
        loops=loops,
        severity=None,
    )


def _size_px(lines: list[CrackLine], lengths: list[float], gaps: list[Floats], main_length: float, area: float) -> Size:
    points = np.concatenate([line.points for line in lines])
    widths = [line.widths for line in lines]
    mask_width = np.concatenate([each.mask_width for each in widths]).astype(np.float64)
    width = np.concatenate([each.width for each in widths]).astype(np.float64)
    log_std = np.concatenate([each.log_std for each in widths]).astype(np.float64)
    good = np.isfinite(width)
    whole = _whole(lines)
    return Size(
        length=sum(lengths),
        gaps=sum(length(gap) for gap in gaps),
        main_length=main_length,
        area=area,
        mask_width=_summary(mask_width[whole], np.zeros(int(whole.sum())), points[whole]),
        width=_summary(width[good], log_std[good], points[good]) if good.any() else None,
    )


def _whole(lines: Sequence[CrackLine]) -> Mask:
    """Return which points count for the mask's width: all but tips and junctions, unless there is nothing else."""
    verdict = np.concatenate([line.widths.verdict for line in lines])
    whole = (verdict != Verdict.AT_TIP) & (verdict != Verdict.AT_JUNCTION)
    return np.asarray(whole if whole.any() else np.ones_like(whole), np.bool_)


def _summary(width: Floats, log_std: Floats, points: Floats) -> WidthSummary:
    most = int(width.argmax())
    mean = float(width.mean())
    typical = float((width * log_std).mean()) / max(mean, 1e-9)
    spread, at_most = np.exp(_Z95 * typical), np.exp(_Z95 * log_std[most])
    return WidthSummary(
        mean=mean,
        median=float(np.median(width)),
        p95=float(np.percentile(width, 95)),
        max=float(width[most]),
        max_at=(float(points[most, 0]), float(points[most, 1])),
        mean_low=mean / float(spread),
        mean_high=mean * float(spread),
        max_low=float(width[most] / at_most),
        max_high=float(width[most] * at_most),
        points=len(width),
    )


def _in_mm(crack: Crack, scale: Scale, severity: SeverityProfile | None) -> Crack:
    """Return the crack with its size in mm, and its severity."""
    points = np.concatenate([line.points for line in crack.lines])
    relative_std = float(scale.relative_std_at(points).mean())
    per_px = [_width_scale(line, scale) for line in crack.lines]
    placed = [scale.to_mm(line.points) for line in crack.lines]
    lengths = [length(each) for each in placed]
    stretch = sum(lengths) / max(crack.px.length, 1e-9)
    width = np.concatenate([line.widths.width * each for line, each in zip(crack.lines, per_px, strict=True)]).astype(
        np.float64
    )
    mask_width = np.concatenate(
        [line.widths.mask_width * each for line, each in zip(crack.lines, per_px, strict=True)]
    ).astype(np.float64)
    log_std = np.concatenate([line.widths.log_std for line in crack.lines]).astype(np.float64)
    good, whole = np.isfinite(width), _whole(crack.lines)
    size = Size(
        length=sum(lengths),
        gaps=sum(length(scale.to_mm(gap)) for gap in crack.gaps),
        main_length=crack.px.main_length * stretch,
        area=crack.px.area * float((scale.mm_per_px(points) ** 2).mean()),
        mask_width=_summary(mask_width[whole], np.full(int(whole.sum()), relative_std), points[whole]),
        width=_summary(width[good], np.hypot(log_std[good], relative_std), points[good]) if good.any() else None,
        relative_std=relative_std,
    )
    return replace(crack, mm=size, severity=_severity(size.width, severity))


def _severity(width: WidthSummary | None, profile: SeverityProfile | None) -> Severity | None:
    if profile is None or width is None:
        return None
    if profile.statistic == "max":
        return profile.classify(width.max, width.max_low, width.max_high)
    value = {"mean": width.mean, "median": width.median, "p95": width.p95}[profile.statistic]
    return profile.classify(value, value * width.mean_low / width.mean, value * width.mean_high / width.mean)


def _width_scale(line: CrackLine, scale: Scale) -> Floats:
    """Return mm per px across the line at its points, (N,)."""
    normal = tangents(line.points)[:, ::-1] * [1, -1]
    return np.asarray(
        np.hypot(*(scale.to_mm(line.points + normal / 2) - scale.to_mm(line.points - normal / 2)).T), np.float64
    )


def _polygon_area(points: Floats) -> float:
    following = np.roll(points, -1, axis=0)
    return abs(float((points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]).sum())) / 2
