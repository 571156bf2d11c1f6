"""How cracks grow: wandering fractal lines, branches, gaps, networks, steps along brick joints.

Decides places and widths only; what a crack looks like is decided elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cracktool.datasets.synthetic.noise import Rng, log_uniform
from cracktool.datasets.synthetic.raster import Crack, Floats
from cracktool.datasets.synthetic.surfaces import Bond

WIDTHS = (0.5, 20.0)  # px; tips taper down to the lower one
_OUTSIDE = 24.0  # px beyond the picture's edge where lines that enter it begin, at most


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the cracks of one picture are.

    Args:
        width: Typical width of a main crack in px.
        roughness: Sideways displacement of the middle of a 32 px piece, as a share of its length.
        hurst: 1 for equal roughness on all scales; the smaller, the rougher the fine scales.
        step: Longest distance of two points in px.
    """

    width: float
    roughness: float
    hurst: float
    step: float


def draw_style(rng: Rng, width: tuple[float, float] | None = None) -> Style:
    """Draw a style; `width` narrows the range of the typical width in px."""
    ranges = ((0.7, 1.5), (1.5, 4.0), (4.0, 9.0), (9.0, 18.0))
    low, high = width or ranges[rng.choice(4, p=(0.3, 0.4, 0.2, 0.1))]
    return Style(
        width=log_uniform(rng, low, high),
        roughness=float(rng.uniform(0.06, 0.2)),
        hurst=float(rng.uniform(0.7, 1.0)),
        step=float(rng.uniform(1.6, 3.0)),
    )


def grow_cracks(rng: Rng, shape_hw: tuple[int, int], count: int, style: Style, bond: Bond | None = None) -> list[Crack]:
    """Grow main cracks with their branches.

    Args:
        rng: Where the randomness comes from.
        shape_hw: Height and width of the picture in px.
        count: Main cracks; branches and the pieces behind a gap come on top.
        style: How they are; the width differs by a factor of up to 2 among several.
        bond: Bricks whose joints a main crack may follow.
    """
    cracks: list[Crack] = []
    for number in range(count):
        width = style.width * (1.0 if number == 0 else rng.uniform(0.5, 1.0))
        stepped = bond is not None and rng.random() < 0.6
        control = _stepped(rng, shape_hw, bond) if bond and stepped else _wander(rng, shape_hw)
        line = _fractal(rng, control, style, 0.4 if stepped else 1.0)
        _add(rng, cracks, _with_widths(rng, line, width, shape_hw, (True, True)), None)
        main = len(cracks) - 1
        _branch(rng, cracks, main, style, shape_hw, depth=0)
    return cracks


def grow_network(rng: Rng, shape_hw: tuple[int, int], style: Style) -> list[Crack]:
    """Grow map cracking: the borders of random cells, in a part of the picture, some of them missing."""
    height, width = shape_hw
    side = max(min(shape_hw), 24)
    size = side * rng.uniform(0.09, 0.28)
    centre = rng.uniform(0.2, 0.8, 2) * shape_hw
    radius = rng.uniform(0.35, 1.2) * side
    missing = rng.uniform(0.05, 0.4)
    kept = []
    for edge in _cell_edges(rng, (height, width), size):
        far = float(np.hypot(*(edge.mean(axis=0) - centre))) / radius
        if rng.random() >= missing and rng.random() >= 2 * far - 1:
            kept.append((edge, far))
    degree = Counter(tuple(end) for edge, _ in kept for end in edge)
    cracks = []
    for edge, far in kept:
        base = min(style.width, 0.08 * size) * np.exp(rng.normal(-0.2, 0.35)) * np.clip(1.3 - 0.6 * far, 0.4, 1)
        free = (degree[tuple(edge[0])] == 1, degree[tuple(edge[1])] == 1)
        cracks.append(_with_widths(rng, _fractal(rng, edge, style, 0.9), float(base), shape_hw, free))
    return cracks


def _wander(rng: Rng, shape_hw: tuple[int, int]) -> Floats:
    """Return control points of a line that starts at an edge or inside, and leaves the picture or ends before."""
    size = np.array(shape_hw, np.float64)
    target = rng.uniform(0.2, 0.8, 2) * size
    start = rng.uniform(0.1, 0.6, 2) * size
    stride = max(min(shape_hw) * rng.uniform(0.1, 0.25), 8.0)
    if rng.random() < 0.75:
        side, beyond = int(rng.integers(2)), min(_OUTSIDE, stride / 2)
        start[side] = rng.choice([-beyond, size[side] + beyond])
        start[1 - side] = rng.uniform(0.05, 0.95) * size[1 - side]
    length = np.inf if rng.random() < 0.7 else rng.uniform(0.3, 0.8) * min(shape_hw)
    heading = float(np.arctan2(*(target - start)))
    wobble = rng.uniform(0.08, 0.45)
    points, turn, walked = [start], 0.0, 0.0
    while walked < length and len(points) < 60:
        turn = 0.4 * turn + rng.normal(0, wobble)
        walked += stride
        points.append(points[-1] + stride * np.array([np.sin(heading + turn), np.cos(heading + turn)]))
        if _outside(points[-1], shape_hw) and not _outside(points[-2], shape_hw):
            break
    return np.array(points)


def _stepped(rng: Rng, shape_hw: tuple[int, int], bond: Bond) -> Floats:
    """Return control points that go down a wall in stairs along the joints, and sometimes straight through a brick."""
    first, last = 0, int(shape_hw[0] / bond.height) + 2
    if rng.random() < 0.3:
        first, last = int(rng.integers(0, max(1, last // 3))), last - int(rng.integers(0, max(1, last // 3)))
    course = np.round(rng.uniform(0.1, 0.9) * shape_hw[1] / bond.length)
    side = float(rng.choice([-1, 1]))
    points = []
    for row in range(first, last + 1):
        x = bond.head_joint(row, int(course))
        points += [bond.to_picture(row * bond.height, x), bond.to_picture((row + 1) * bond.height, x)]
        if rng.random() < 0.15:
            side = -side
        ahead = bond.head_joint(row + 1, int(course)) - x
        course += side if ahead * side <= 0 else 0
    return np.array(points)


def _fractal(rng: Rng, control: Floats, style: Style, factor: float) -> Floats:
    """Refine a line by displacing the middles of its pieces sideways (Fournier, Fussell and Carpenter 1982)."""
    points = control
    while True:
        step = np.diff(points, axis=0)
        length = np.hypot(step[:, 0], step[:, 1])
        if length.max() <= style.step:
            return points
        scale = np.minimum(factor * style.roughness * (32 / np.maximum(length, 1e-6)) ** (1 - style.hurst), 0.4)
        # Most pieces stay nearly straight and a few bend much: kinks, where equal displacements would give a worm.
        shift = np.clip(rng.normal(0, 1, len(length)) * rng.random(len(length)) ** 2 * 2, -1.5, 1.5) * scale
        middle = (points[:-1] + points[1:]) / 2 + shift[:, None] * step[:, ::-1] * [1, -1]
        refined = np.empty((2 * len(points) - 1, 2))
        refined[::2], refined[1::2] = points, middle
        points = refined


def _with_widths(rng: Rng, line: Floats, width: float, shape_hw: tuple[int, int], free: tuple[bool, bool]) -> Crack:
    """Give a line a slowly varying width that runs out at its free ends where they lie inside of the picture."""
    steps = np.diff(line, axis=0)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])
    widths = width * np.exp(
        0.3 * _wave(rng, along, 45.0) + 0.16 * _wave(rng, along, 9.0) + min(0.015 * width, 0.1) * _wave(rng, along, 3.0)
    )
    # Broken edges differ from each other, which a width alone cannot give: the middle of a wide crack trembles as well.
    hold = np.clip(np.minimum(along, along[-1] - along) / (2 * width), 0, 1)  # but its ends stay on other cracks
    tremble = 0.09 * width * hold[:, None] * np.column_stack([_wave(rng, along, 5.0), _wave(rng, along, 5.0)])
    line = line + tremble
    reach = min(along[-1] * 0.8, 12 * width + 30)
    for end, distance, runs_out in ((line[0], along, free[0]), (line[-1], along[-1] - along, free[1])):
        if runs_out and not _outside(end, shape_hw):
            widths = widths * np.clip(distance / reach, 0.02, 1) ** 0.6
    # Rounded before anything is drawn, so that the truth written with two decimals is the truth itself.
    return Crack(points=np.round(line, 2), widths=_limited(widths))


def _limited(widths: Floats) -> Floats:
    return np.asarray(np.round(np.clip(widths, WIDTHS[0], WIDTHS[1]), 2), np.float64)


def _wave(rng: Rng, along: Floats, spacing: float) -> Floats:
    knots = int(along[-1] / spacing) + 3
    return np.interp(along / spacing + rng.random(), np.arange(knots), rng.normal(0, 1, knots))


def _add(rng: Rng, cracks: list[Crack], crack: Crack, parent: int | None) -> None:
    """Append a crack, cut in two by a gap now and then, the longer piece last."""
    count = len(crack.widths)
    if count < 40 or rng.random() < 0.75:
        cracks.append(Crack(points=crack.points, widths=crack.widths, parent=parent))
        return
    gap = int(rng.integers(3, 12))
    first = int(rng.integers(8, count // 2))
    cracks.append(Crack(points=crack.points[:first], widths=crack.widths[:first], parent=parent))
    rest = slice(first + gap, None)
    cracks.append(Crack(points=crack.points[rest], widths=crack.widths[rest], parent=len(cracks) - 1))


def _branch(rng: Rng, cracks: list[Crack], parent: int, style: Style, shape_hw: tuple[int, int], depth: int) -> None:
    stem = cracks[parent]
    count = min(int(rng.poisson(1.3 if depth == 0 else 0.4)), 5)
    for place in rng.integers(0, max(1, len(stem.points) - 4), count):
        ahead = stem.points[min(place + 6, len(stem.points) - 1)] - stem.points[place]
        heading = np.arctan2(*ahead) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.3)
        length = min(shape_hw) * log_uniform(rng, 0.06, 0.45)
        pieces = int(rng.integers(2, 5))
        turns = heading + np.cumsum(rng.normal(0, 0.3, pieces))
        strides = length / pieces * np.column_stack([np.sin(turns), np.cos(turns)])
        control = np.concatenate([stem.points[place][None], stem.points[place] + np.cumsum(strides, axis=0)])
        if _outside(control[0], shape_hw, 0.0) or length < 6:
            continue
        line = _fractal(rng, control, style, 1.0)
        child = _with_widths(rng, line, stem.widths[place] * rng.uniform(0.35, 0.8), shape_hw, (False, False))
        taper = np.linspace(1, 0.02, len(line)) ** 0.7
        widths = _limited(child.widths * taper)
        _add(rng, cracks, Crack(points=child.points, widths=widths), parent)
        if depth < 2:
            _branch(rng, cracks, len(cracks) - 1, style, shape_hw, depth + 1)


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
            if np.hypot(*(one - other)) < 0.05 * size or _outside(middle, shape_hw, size / 2):
                continue
            key = tuple(sorted([(one[0], one[1]), (other[0], other[1])]))
            edges.setdefault(key, np.array(key))
    return list(edges.values())


def _outside(point: Floats, shape_hw: tuple[int, int], margin: float = 4.0) -> bool:
    return bool((point < -margin).any() or (point > np.array(shape_hw) - 1 + margin).any())
