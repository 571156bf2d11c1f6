"""Cracks from fields: cheapest paths through a random toughness, plates broken again and again, random cells.

Decides places only; what they look like is decided elsewhere.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.datasets.synthetic.noise import Field, Rng, noise
from cracktool.datasets.synthetic.raster import Crack, Floats
from cracktool.datasets.synthetic.strokes import Style, branch, outside, refine, widen
from cracktool.datasets.synthetic.walks import add_branches, add_crack

_SMALLEST = 12.0  # px: side of plates and cells; below, there would be more crack than surface
_Cells = npt.NDArray[np.int64]


def grow_paths(rng: Rng, shape_hw: tuple[int, int], tips: int, style: Style) -> list[Crack]:
    """Grow one crack as a tree: the cheapest paths from a root to several tips through a field of random toughness.

    Paths share their beginning, so forks arise where the material lets them. Few trees miss the picture; nothing is
    returned of those.

    Args:
        rng: Where the randomness comes from.
        shape_hw: Height and width of the picture in px.
        tips: Ends of the tree; small branches come on top.
        style: How it is.
    """
    spacing = max(min(shape_hw) / 70, 3.0)
    side = int(np.hypot(*shape_hw) / spacing) + 2
    tough = np.exp(np.float32(rng.uniform(0.3, 1.2)) * noise(rng, (side, side), rng.uniform(6, 40), 1, 0.7))
    root = side // 2 + int(rng.integers(-side // 5, side // 5 + 1))
    cost, came_from = _cheapest(tough, root)
    turn = rng.uniform(0, 2 * np.pi)
    axes = spacing * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    cracks: list[Crack] = []
    taken = np.zeros((side, side), np.bool_)
    for _ in range(tips):
        row = side - 1 if rng.random() < 0.6 else int(rng.integers(side // 2, side))
        first = int(rng.integers(0, side - side // 3))
        path = _back(came_from, row, first + int(np.argmin(cost[row, first : first + side // 3])), taken)
        course = (path - (side - 1) / 2) @ axes + (np.array(shape_hw) - 1) / 2
        course = course[~outside(course, shape_hw, 20.0)]
        if len(course) < 5:
            continue
        course = np.concatenate([course[:-1:3], course[-1:]])
        if not cracks:
            add_crack(rng, cracks, widen(rng, refine(rng, course, style), style.width, shape_hw, (True, True)), None)
            add_branches(rng, cracks, len(cracks) - 1, style, shape_hw, depth=1)
        else:
            stem, place = _nearest(cracks, course[0])
            course[0] = cracks[stem].points[place]
            line = refine(rng, course, style)
            cracks.append(replace(branch(rng, line, cracks[stem], place, shape_hw), parent=stem))
    return cracks


def grow_plates(rng: Rng, shape_hw: tuple[int, int], style: Style) -> list[Crack]:
    """Grow the pattern of drying mud and old concrete: plates broken across, the parts again, later cracks thinner.

    Each crack ends on older ones, nearly at right angles (Bohn, Pauchard and Couder 2005, Hierarchical crack pattern).
    """
    size = max(min(shape_hw) * rng.uniform(0.09, 0.28), _SMALLEST)
    near, far = -0.5 * size, np.array(shape_hw) + 0.5 * size
    corners = np.array([[near, near], [near, far[1]], far, [far[0], near], [near, near]])
    edge = refine(rng, corners, replace(style, roughness=0.0, step=size / 8))[:-1]
    cracks: list[Crack] = []
    plates = deque([(edge, np.full(len(edge), -1), 0)])
    centre, radius = rng.uniform(0.2, 0.8, 2) * shape_hw, rng.uniform(0.4, 1.2) * max(shape_hw)
    while plates:
        outline, owners, age = plates.popleft()
        if (outline.max(axis=0) < 0).any() or (outline.min(axis=0) > shape_hw).any():
            continue
        rarer = 1 + max(0.0, float(np.hypot(*(outline.mean(axis=0) - centre))) / radius - 0.5) * 6
        ends = _break(rng, outline) if _area(outline) > size**2 * rarer * rng.uniform(0.8, 2.5) else None
        if ends is None:
            continue
        first, last = ends
        width = min(style.width, 0.08 * size) * 0.88**age * np.exp(0.25 * rng.normal())
        control = outline[[first, last]]
        crack = widen(rng, refine(rng, control, style), float(width), shape_hw, (False, False))
        parent = int(owners[first])
        cracks.append(replace(crack, parent=parent if parent >= 0 else None))
        inner, mine = crack.points[1:-1], np.full(len(crack.points) - 2, len(cracks) - 1)
        there, back = slice(first, last + 1), np.r_[last : len(outline), 0 : first + 1]
        plates.append((np.concatenate([outline[there], inner[::-1]]), np.r_[owners[there], mine], age + 1))
        plates.append((np.concatenate([outline[back], inner]), np.r_[owners[back], mine], age + 1))
    return _visible(cracks, shape_hw)


def grow_cells(rng: Rng, shape_hw: tuple[int, int], style: Style) -> list[Crack]:
    """Grow alligator cracking: the borders of random cells, in a part of the picture, some of them missing."""
    side = max(min(shape_hw), 24)
    size = max(side * rng.uniform(0.09, 0.28), _SMALLEST)
    centre = rng.uniform(0.2, 0.8, 2) * shape_hw
    radius = rng.uniform(0.35, 1.2) * side
    missing = rng.uniform(0.05, 0.4)
    kept = []
    for edge in _cell_edges(rng, shape_hw, size):
        far = float(np.hypot(*(edge.mean(axis=0) - centre))) / radius
        if rng.random() >= missing and rng.random() >= 2 * far - 1:
            kept.append((edge, far))
    degree = Counter(tuple(end) for edge, _ in kept for end in edge)
    cracks = []
    for edge, far in kept:
        base = min(style.width, 0.08 * size) * np.exp(rng.normal(-0.1, 0.2)) * np.clip(1.3 - 0.6 * far, 0.4, 1)
        free = (degree[tuple(edge[0])] == 1, degree[tuple(edge[1])] == 1)
        cracks.append(widen(rng, refine(rng, edge, style, 0.9), float(base), shape_hw, free))
    return cracks


def _cheapest(tough: Field, root: int) -> tuple[Field, _Cells]:
    """Return the cost of the cheapest path to each cell from `root` in row 0, and the column it comes from.

    Paths go on by one row per step, straight or to a neighbour, so one pass over the rows finds them all.
    """
    side = len(tough)
    cost = np.full((side, side + 2), np.inf, np.float32)  # with a border that no path comes from
    choices = np.ones((side, side), np.int64)
    cost[0, 1 + root] = 0.0
    aslant, straight = np.float32(2**0.5) * tough, tough
    for row in range(1, side):
        before = cost[row - 1]
        left, middle, right = before[:-2] + aslant[row], before[1:-1] + straight[row], before[2:] + aslant[row]
        cheaper = right < left
        side_way = np.where(cheaper, right, left)
        choices[row] = np.where(middle <= side_way, 1, 2 * cheaper)
        np.minimum(middle, side_way, out=cost[row, 1:-1])
    return cost[:, 1:-1], np.arange(side) + choices - 1


def _back(came_from: _Cells, row: int, column: int, taken: npt.NDArray[np.bool_]) -> _Cells:
    """Return the cells of the path to a cell, from the root or the first cell that is not taken, and take them."""
    path = [(row, column)]
    while row > 0 and not taken[row, column]:
        taken[row, column] = True
        row, column = row - 1, int(came_from[row, column])
        path.append((row, column))
    return np.array(path[::-1])


def _nearest(cracks: Sequence[Crack], point: Floats) -> tuple[int, int]:
    """Return the crack and the place in it that are nearest to a point."""
    found = [np.hypot(*(crack.points - point).T) for crack in cracks]
    stem = int(np.argmin([distance.min() for distance in found]))
    return stem, int(found[stem].argmin())


def _break(rng: Rng, outline: Floats) -> tuple[int, int] | None:
    """Return where a line across the longer axis of a plate meets its outline: the numbers of two points, rising."""
    away = outline - outline.mean(axis=0)
    longer = np.linalg.eigh(away.T @ away)[1][:, 1]
    turn = np.arctan2(*longer) + rng.normal(0, 0.25)
    along = away @ [np.sin(turn), np.cos(turn)]
    along -= rng.uniform(-0.2, 0.2) * np.ptp(along)
    across = away @ [np.cos(turn), -np.sin(turn)]
    crossing = np.flatnonzero(along * np.roll(along, -1) <= 0)
    up, down = crossing[across[crossing] > 0], crossing[across[crossing] <= 0]
    if not len(up) or not len(down):
        return None
    first, last = sorted((int(up[across[up].argmin()]), int(down[across[down].argmax()])))
    return (first, last) if min(last - first, first + len(outline) - last) > 2 else None


def _visible(cracks: Sequence[Crack], shape_hw: tuple[int, int]) -> list[Crack]:
    """Return the cracks that come near the picture, with the parents that are left."""
    inside = [not outside(crack.points, shape_hw, 30.0).all() for crack in cracks]
    number = np.cumsum(inside) - 1
    return [
        replace(crack, parent=int(number[crack.parent]) if crack.parent is not None and inside[crack.parent] else None)
        for crack, near in zip(cracks, inside, strict=True)
        if near
    ]


def _area(outline: Floats) -> float:
    y, x = outline.T
    return float(abs(np.dot(y, np.roll(x, 1)) - np.dot(x, np.roll(y, 1))) / 2)


def _cell_edges(rng: Rng, shape_hw: tuple[int, int], size: float) -> Sequence[Floats]:
    """Return the borders of random cells as pairs of points, each border once."""
    height, width = shape_hw
    margin = 2 * size
    y, x = np.meshgrid(
        np.arange(-margin, height + margin, size), np.arange(-margin, width + margin, size), indexing="ij"
    )
    seeds = np.stack([x, y], axis=-1).reshape(-1, 2) + rng.uniform(-0.45, 0.45, (x.size, 2)) * size
    far = 4 * margin
    division = cv2.Subdiv2D((int(-far), int(-far), int(width + 2 * far), int(height + 2 * far)))
    division.insert([(float(seed[0]), float(seed[1])) for seed in seeds])
    facets, _ = division.getVoronoiFacetList([])
    edges: dict[tuple[tuple[float, float], ...], Floats] = {}
    for facet in facets:
        corners = np.round(np.asarray(facet, np.float64)[:, ::-1], 2)
        for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            middle = (one + other) / 2
            if np.hypot(*(one - other)) < 0.05 * size or outside(middle, shape_hw, size / 2):
                continue
            key = tuple(sorted([(one[0], one[1]), (other[0], other[1])]))
            edges.setdefault(key, np.array(key))
    return list(edges.values())
