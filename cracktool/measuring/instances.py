"""Cracks from parts of a mask: parts whose ends face each other are one crack; its main way, and what type it is.

Lines in, groups and names out; knows nothing about masks, photos or widths of profiles.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cracktool.linking import lowest_linked, spans
from cracktool.measuring.components import Floats, Ints


class Kind(StrEnum):
    """What a crack looks like, by the first rule that holds.

    Attributes:
        PATCH: Shorter than twice its width: a spot, or a mask that is one blob; it has no direction.
        RING: One closed way without ends, as around a manhole.
        NETWORK: Two or more independent loops: alligator, block or map cracking.
        BRANCHED: A junction, and less than 80 % of the length on the main way.
        LONGITUDINAL: Its mean direction, or that from end to end where its pieces have none in common, is within 20
            degrees of the reference (AASHTO R 85).
        TRANSVERSE: Within 20 degrees of the perpendicular to the reference.
        DIAGONAL: Any other.
    """

    PATCH = "patch"
    RING = "ring"
    NETWORK = "network"
    BRANCHED = "branched"
    LONGITUDINAL = "longitudinal"
    TRANSVERSE = "transverse"
    DIAGONAL = "diagonal"


_ALONG = 20.0  # degrees from the reference that still count as along it
_MAIN_SHARE = 0.8
_TOGETHER = 1024  # ends compared with those of the rows below them at a time; bounds the memory
_ROUND = 2.0  # times its width: a shorter crack has no direction
_ASIDE = 30.0  # degrees by which either of two ends that face each other may point away from the other one


def name_kind(
    *,
    length: float,
    main_length: float,
    width: float,
    junctions: int,
    loops: int,
    ring: bool,
    angle: float,
    reference: float,
) -> Kind:
    """Return the type of a crack by the rules of `Kind`.

    Args:
        length: Of all branches, px.
        main_length: Of the main way, px.
        width: Mean width of the mask, px.
        junctions: Points where three or more branches meet.
        loops: Independent closed ways.
        ring: Whether it is one closed way.
        angle: Direction, degrees as in `polylines.orientation`.
        reference: Direction of the road or wall, same convention: 90 for upright in the picture.
    """
    if length < _ROUND * width or not (ring or np.isfinite(angle)):
        return Kind.PATCH
    if ring:
        return Kind.RING
    if loops >= 2:
        return Kind.NETWORK
    if junctions and main_length < _MAIN_SHARE * length:
        return Kind.BRANCHED
    off = abs((angle - reference + 90) % 180 - 90)
    if off <= _ALONG:
        return Kind.LONGITUDINAL
    return Kind.TRANSVERSE if off >= 90 - _ALONG else Kind.DIAGONAL


@dataclass(frozen=True, eq=False)
class Ends:
    """Free ends of lines.

    Args:
        points: float64 (N, 2), px.
        outward: Unit vectors (N, 2) that lead on beyond the ends.
        part: Part of the mask that each end belongs to, (N,).
    """

    points: Floats
    outward: Floats
    part: Ints


def facing_ends(ends: Ends, *, reach: float) -> list[tuple[int, int]]:
    """Return pairs of ends of different parts that face each other, nearest first; each end and each two parts once.

    Args:
        ends: Free ends.
        reach: Widest gap in px; 0 finds none.

    Example:
        >>> two = Ends(np.array([[0.0, 9], [0, 14]]), np.array([[0.0, 1], [0, -1]]), np.array([0, 1]))
        >>> facing_ends(two, reach=6)
        [(0, 1)]
    """
    if reach <= 0 or len(ends.points) < 2:
        return []
    one, two = _near(ends.points, reach)
    one, two = np.array([one, two])[:, ends.part[one] != ends.part[two]]
    gap = ends.points[two] - ends.points[one]
    distance = np.hypot(gap[:, 0], gap[:, 1])
    # Ends that touch or overlap by a pixel have no direction between them: they must point against each other then.
    direction = np.where(distance[:, None] > 1.5, gap / np.maximum(distance, 1e-9)[:, None], ends.outward[one])
    limit = np.cos(np.radians(_ASIDE))
    facing = ((ends.outward[one] * direction).sum(axis=1) >= limit) & (
        (ends.outward[two] * -direction).sum(axis=1) >= limit
    )
    chosen: list[tuple[int, int]] = []
    used: set[int] = set()
    linked: set[tuple[int, int]] = set()
    for at in np.flatnonzero(facing)[np.argsort(distance[facing], kind="stable")].tolist():
        a, b = int(one[at]), int(two[at])
        parts = (min(int(ends.part[a]), int(ends.part[b])), max(int(ends.part[a]), int(ends.part[b])))
        if a in used or b in used or parts in linked:
            continue
        chosen.append((a, b))
        used |= {a, b}
        linked.add(parts)
    return chosen


def _near(points: Floats, reach: float) -> tuple[Ints, Ints]:
    """Return the pairs of points that are at most `reach` apart: sorted by y, only those of near rows are compared."""
    order = np.argsort(points[:, 0], kind="stable")
    y, x = points[order].T
    behind = np.searchsorted(y, y + reach, "right")
    found = [(order[:0], order[:0])]
    for first in range(0, len(y), _TOGETHER):
        at = np.arange(first, min(first + _TOGETHER, len(y)))
        one, two = spans(at + 1, behind[at] - at - 1)
        one += first
        near = np.hypot(y[one] - y[two], x[one] - x[two]) <= reach
        found.append((order[one[near]], order[two[near]]))
    one, two = (np.concatenate(each) for each in zip(*found, strict=True))
    return one, two


def group_parts(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the parts 0 to `count` - 1 as groups that `pairs` of parts connect, in the order of their lowest part."""
    groups: dict[int, list[int]] = defaultdict(list)
    for part, lowest in enumerate(lowest_linked(count, pairs).tolist()):
        groups[lowest].append(part)
    return list(groups.values())


def main_way(edges: Sequence[tuple[int, int, float]]) -> tuple[float, int, int]:
    """Return the length of the longest of the shortest ways between nodes, and the two nodes.

    Found by two sweeps from the first node of the longest branch, which is exact where there is no loop.

    Args:
        edges: (node, node, length) of each branch, in any unit; at least one.
    """
    around: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for one, two, cost in edges:
        around[one].append((two, cost))
        around[two].append((one, cost))

    def farthest(start: int) -> tuple[float, int]:
        """Return the longest of the shortest ways from a node, and where it leads (Dijkstra 1959)."""
        found: dict[int, float] = {}
        waiting = [(0.0, start)]
        while waiting:
            distance, node = heapq.heappop(waiting)
            if node not in found:
                found[node] = distance
                for other, cost in around[node]:
                    heapq.heappush(waiting, (distance + cost, other))
        return max((distance, node) for node, distance in found.items())

    _, first = farthest(max(edges, key=lambda edge: edge[2])[0])
    longest, last = farthest(first)
    return longest, first, last
