"""Measure the cracks of one photo: mask and photo in, cracks with lengths, widths, types and severities out.

The one entry of this package; writes no files and knows no networks.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError, UsageError
from cracktool.images import Image, Mask
from cracktool.measuring.components import Components, Floats, find_components
from cracktool.measuring.cracks import Crack, CrackLine, Measurements
from cracktool.measuring.instances import facing_ends, group_parts, main_way, name_kind
from cracktool.measuring.lines import Line, free_ends, trace_lines
from cracktool.measuring.polylines import length, orientation, smooth, tangents
from cracktool.measuring.scale import Scale
from cracktool.measuring.severity import SeverityProfile
from cracktool.measuring.sizes import in_mm, polygon_area, size_px
from cracktool.measuring.widths import Verdict, measure_widths

_TIP_REACH = 1.5  # px from a tip within which half of what a profile averages lies beyond the crack
_AGREED = 0.1  # of the pieces' directions: below it their mean says nothing, and that from end to end is taken
_JUNCTION_REACH = 1.2  # half widths from a junction within which a perpendicular meets another branch


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
    shown: float = 1.0,
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
        spacing: Distance in px of the points at which widths are measured; in wide cracks a sixth of the width.
        reference: Direction of the road or wall in degrees, 0 along the rows, 90 upright.
        shown: Share of the pixels that show something; the others are no surface.

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
    _check(photo, mask)
    check_lengths(bridge=bridge, min_length=min_length, spacing=spacing)
    components = find_components(mask)
    boxes, areas = components.boxes, components.area
    keep = np.hypot(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) >= min_length
    lines, loops = trace_lines(mask, components, keep, spacing)
    measured = _measure_lines(photo, mask, lines)
    cracks = _assemble(components, lines, measured, loops, bridge, reference)
    if scale:
        cracks = [in_mm(crack, scale, severity) for crack in cracks]
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
        area_mm2=shown * polygon_area(scale.to_mm(corners)) if scale and scale.holds(corners) else None,
        shown=shown,
    )


def check_lengths(*, bridge: float, min_length: float, spacing: float) -> None:
    """Refuse lengths in px that `measure` cannot take.

    Raises:
        UsageError: One is not finite, below 0, or a spacing below 0.5.
    """
    for name, value, least in (("bridge", bridge, 0), ("min_length", min_length, 0), ("spacing", spacing, 0.5)):
        if not (np.isfinite(value) and value >= least):
            raise UsageError(f"{name} is {value:g} px, expected {least} or more")


def _check(photo: Image | None, mask: Mask) -> None:
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
        raise InputError(f"the mask is {mask.dtype} {mask.shape}, expected bool (height, width)")
    if photo is not None and (photo.dtype != np.uint8 or photo.ndim not in (2, 3)):
        raise InputError(f"the photo is {photo.dtype} {photo.shape}, expected uint8 (height, width, 3)")
    if photo is not None and photo.shape[:2] != mask.shape:
        raise InputError(
            f"the photo is {photo.shape[1]}x{photo.shape[0]} px and its mask {mask.shape[1]}x{mask.shape[0]}",
            remedy="widths are measured where both lie pixel on pixel",
        )


def _measure_lines(photo: Image | None, mask: Mask, lines: list[Line]) -> list[CrackLine]:
    """Measure widths along all lines, and move the lines into the middle of the mask."""
    if not lines:
        return []
    points = np.concatenate([line.points for line in lines])
    normals = np.concatenate([tangents(line.points)[:, ::-1] * [1, -1] for line in lines])
    half_width = np.concatenate([line.half_width for line in lines])
    meeting = Counter(node for line in lines for node in line.nodes)
    unsuited = np.concatenate([_unsuited(line, alone=meeting[line.nodes[0]] == 2) for line in lines])
    group = np.repeat([line.part for line in lines], [len(line.points) for line in lines]).astype(np.int64)
    widths = measure_widths(photo, mask, points, normals, half_width, unsuited, group)
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


def _unsuited(line: Line, *, alone: bool) -> npt.NDArray[np.uint8]:
    """Return the verdict on points where nothing lies square to the line: near junctions and at tips.

    Args:
        line: A branch.
        alone: Whether a branch that ends where it begins meets no other there.
    """
    count = len(line.points)
    distance = np.arange(count) * length(line.points) / (count - 1)
    verdict = np.full(count, Verdict.MEASURED, np.uint8)
    if line.nodes[0] == line.nodes[1] and alone:
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
        top, left = box[:, :2].min(axis=0)
        bottom, right = box[:, 2:].max(axis=0)
        y, x = anchors[members[0]]
        crack = _describe(
            number,
            (int(y), int(x)),
            (int(top), int(left), int(bottom), int(right)),
            [measured[each] for part in members for each in by_part[part]],
            [gap for part in members for gap in gaps.get(part, [])],
            float(areas[members].sum()),
            sum(loops[part] for part in members),
            reference,
        )
        cracks.append(crack)
    return cracks


def _describe(
    number: int,
    anchor: tuple[int, int],
    box: tuple[int, int, int, int],
    lines: list[CrackLine],
    gaps: list[tuple[int, int, Floats]],
    area: float,
    loops: int,
    reference: float,
) -> Crack:
    lengths = [length(line.points) for line in lines]
    edges = [(one, two, length(points)) for one, two, points in gaps]
    place = {line.nodes[side]: line.points[-side] for line in lines for side in (0, 1)}
    for below, (line, along) in enumerate(zip(lines, lengths, strict=True), 1):
        place[-below] = line.points[len(line.points) // 2]  # its middle, the far end of a way around
        edges += [(-below, node, along / 2) for node in line.nodes]
    main_length, first, last = main_way(edges)
    ends = np.stack([place[first], place[last]])
    chord = length(ends)
    ring = len(lines) == 1 and lines[0].nodes[0] == lines[0].nodes[1]
    main_length = lengths[0] if ring else main_length
    degree = np.unique([line.nodes for line in lines], return_counts=True)[1]
    junctions = int((degree > 2).sum())
    angle, agreement = orientation([line.points for line in lines])
    px = size_px(lines, lengths, [points for _, _, points in gaps], main_length, area)
    kind = name_kind(
        length=px.length,
        main_length=px.main_length,
        width=px.mask_width.mean,
        junctions=junctions,
        loops=loops,
        ring=ring,
        angle=angle if agreement >= _AGREED else orientation([ends])[0],
        reference=reference,
    )
    return Crack(
        id=number,
        anchor=anchor,
        box=box,
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
