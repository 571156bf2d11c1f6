"""Centre lines of a mask: skeletons made smooth and led to the tips, with the nodes they run between.

Joins components, skeletons, graphs and polylines; knows nothing about photos, widths of profiles or units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cracktool.images import Mask
from cracktool.measuring.components import Components, Floats
from cracktool.measuring.graph import Branch, trace_graphs
from cracktool.measuring.instances import Ends
from cracktool.measuring.polylines import length, resample, smooth
from cracktool.measuring.skeleton import Skeleton, thin

_SMOOTHING = 2.0  # px: takes the staircase out of a line of any direction
_SMOOTHING_SHARE = 0.35  # of the half width: the skeleton of a wide crack follows its ragged edges
_BLUNT = 0.65  # half width over distance from the tip: towards a corner it grows by 0.7, along a wedge by less
_APART = 0.35  # half widths; nearer points of a wide crack tell nothing new
_HAIR_HALF = 1.5  # px of half width below which a mask is a staircase rather than a band
_HAIRLINE = 1.5  # px; shorter cuts would leave more to a straight guess than the skeleton is wrong by


@dataclass(eq=False)
class Line:
    """A piece of centre line between two nodes.

    Args:
        part: Number of the part of the mask it belongs to.
        points: float64 (N, 2), N >= 2, rows (y, x) in px of the photo, at even distances.
        half_width: Of the mask at the points by its distance transform, px, (N,).
        nodes: What it starts and ends at: equal numbers mean the same place.
        free: Whether it starts and ends at a free tip, not at a junction.
    """

    part: int
    points: Floats
    half_width: Floats
    nodes: tuple[int, int]
    free: tuple[bool, bool]

    @property
    def typical(self) -> float:
        """Median of the half widths, px."""
        return _median(self.half_width)


def trace_lines(mask: Mask, components: Components, keep: Mask, spacing: float) -> tuple[list[Line], dict[int, int]]:
    """Return the centre lines of the kept parts, and how many independent loops each part has.

    Args:
        mask: bool (H, W), True on crack; a memory map will do.
        components: Its parts.
        keep: Which parts are wanted, bool (count,).
        spacing: Distance of points in px; those of wide cracks lie a sixth of the width apart.
    """
    lines: list[Line] = []
    loops: dict[int, int] = {}
    names: dict[tuple[int, int], int] = {}
    for number, skeleton in enumerate(thin(mask, components, keep)):
        for part, graph in trace_graphs(skeleton).items():
            degree = graph.degree
            loops[part] = graph.loops
            for branch in graph.branches:
                nodes = [names.setdefault((number, node), len(names)) for node in (branch.start, branch.end)]
                free = (degree[branch.start] == 1, degree[branch.end] == 1)
                points, half_width = _smoothed(skeleton, branch)
                lines.append(Line(part, points, half_width, (nodes[0], nodes[1]), free))
    _reach_tips(lines, components)
    for line in lines:
        step = max(spacing, _APART * line.typical)
        line.points, line.half_width = _resampled(line.points, line.half_width, step)
    return lines, loops


def free_ends(lines: Iterable[Line]) -> tuple[Ends, list[tuple[Line, int]]]:
    """Return the free ends of lines, and of which line each is the start (0) or the end (1)."""
    owners = [(line, side) for line in lines for side in (0, 1) if line.free[side]]
    points = np.array([line.points[-side] for line, side in owners]).reshape(-1, 2)
    outward = np.array([_outward(line, side) for line, side in owners]).reshape(-1, 2)
    return Ends(points, outward, np.array([line.part for line, _ in owners], np.int64)), owners


def _smoothed(skeleton: Skeleton, branch: Branch) -> tuple[Floats, Floats]:
    """Return points at 1 px and half widths there, px of the photo."""
    points, half_width = _resampled(skeleton.to_photo(branch.path), branch.half_width, 1.0)
    sigma = max(_SMOOTHING * skeleton.factor, _SMOOTHING_SHARE * _median(half_width))
    if branch.start == branch.end:
        points[-1] = points[0]  # bit for bit, which is how a closed line is known
    return smooth(points, sigma), half_width


def _median(values: Floats) -> float:
    """Return the upper median; `np.median` takes ten times as long."""
    return float(np.sort(values)[len(values) // 2])


def _resampled(points: Floats, half_width: Floats, step: float) -> tuple[Floats, Floats]:
    rows = resample(np.column_stack([points, half_width]), step)
    return rows[:, :2], rows[:, 2]


def _outward(line: Line, side: int) -> Floats:
    """Return the unit vector that leads on beyond a tip, from a stretch half as long as the crack is wide.

    On a bend a longer one would lead aside.
    """
    tip = line.points[-side]
    step = length(line.points) / (len(line.points) - 1)
    back = max(1, round(max(5.0, line.typical) / max(step, 1e-9)))
    inner = line.points[min(back, len(line.points) - 1) if side == 0 else max(-1 - back, -len(line.points))]
    along = tip - inner
    norm = float(np.hypot(*along))
    return along / norm if norm else np.array([0.0, 1.0 if side else -1.0])


def _trim(line: Line) -> None:
    """Cut from free ends what is no longer than the crack is wide there: about 1.5 half widths.

    The skeleton of a blunt tip runs into one corner or two, of a pointed one straight into the tip.
    """
    step = length(line.points) / (len(line.points) - 1)
    distance = np.arange(len(line.points)) * step
    cut = [0, 0]
    for side, half_width in enumerate((line.half_width, line.half_width[::-1])):
        beyond = half_width + 0.5 < _BLUNT * distance
        if line.free[side] and beyond.any():
            far = int(np.argmax(beyond)) - 1
            cut[side] = far if distance[far] >= _HAIRLINE else 0
    if len(line.points) > 2 * sum(cut) + 4:
        kept = slice(cut[0], len(line.points) - cut[1])
        line.points, line.half_width = line.points[kept], line.half_width[kept]


def _reach_tips(lines: list[Line], components: Components) -> None:
    """Lead each free end straight on to the edge of the mask.

    Thinning ends before a blunt tip, or bends towards a corner of it.
    """
    for line in lines:
        _trim(line)
    ends, owners = free_ends(lines)
    if not owners:
        return
    reach = np.array([3 * float(line.half_width[-side]) + 4 for line, side in owners])
    steps = np.arange(0.25, reach.max() + 0.25, 0.25)
    # A hairline's mask is a staircase that a straight way leaves though it goes on half a pixel beside.
    thin_tip = np.array([float(line.half_width[-side]) < _HAIR_HALF for line, side in owners])
    aside = ends.outward[:, ::-1] * [1, -1] * np.where(thin_tip, 0.5, 0.0)[:, None]
    ways = ends.points[:, None] + steps[:, None] * ends.outward[:, None]  # (ends, steps, 2)
    places = np.stack([ways - aside[:, None], ways, ways + aside[:, None]])
    part = components.part_at(np.rint(places).astype(np.int64).reshape(-1, 2)).reshape(3, len(owners), -1)
    inside = (part == ends.part[:, None]).any(axis=0) & (steps <= reach[:, None])
    distance = 0.25 * np.logical_and.accumulate(inside, axis=1).sum(axis=1)
    for (line, side), tip, far, outward in zip(owners, ends.points, distance, ends.outward, strict=True):
        if far:
            added = [tip + far * outward]
            line.points = np.concatenate([line.points, added] if side else [added, line.points])
            line.half_width = np.pad(line.half_width, (1 - side, side), "edge")
