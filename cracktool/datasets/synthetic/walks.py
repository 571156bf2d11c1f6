"""Cracks as branching random walks: wandering lines with branches and gaps, and steps along brick joints.

Decides places only; what they look like is decided elsewhere.
"""

from __future__ import annotations

import numpy as np

from cracktool.datasets.synthetic.noise import Rng, log_uniform
from cracktool.datasets.synthetic.raster import Crack, Floats
from cracktool.datasets.synthetic.strokes import Style, branch, outside, refine, rounded, widen
from cracktool.datasets.synthetic.surfaces import Bond

_OUTSIDE = 24.0  # px beyond the picture's edge where lines that enter it begin, at most


def grow_walks(rng: Rng, shape_hw: tuple[int, int], count: int, style: Style, bond: Bond | None = None) -> list[Crack]:
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
        line = refine(rng, control, style, 0.4 if stepped else 1.0)
        add_crack(rng, cracks, widen(rng, line, width, shape_hw, (True, True)), None)
        main = len(cracks) - 1
        add_branches(rng, cracks, main, style, shape_hw)
    return cracks


def add_crack(rng: Rng, cracks: list[Crack], crack: Crack, parent: int | None) -> None:
    """Append a crack, cut in two by a gap now and then, the longer piece last."""
    count = len(crack.widths)
    if count < 40 or rng.random() < 0.75:
        cracks.append(Crack(points=crack.points, widths=crack.widths, parent=parent))
        return
    gap = int(rng.integers(3, 12))
    first = int(rng.integers(8, count // 2))
    runs_out = np.clip(np.arange(1, count + 1) / (12 + crack.widths.max()), 0, 1) ** 0.6  # away from the gap
    parts = ((slice(0, first), runs_out[:first][::-1]), (slice(first + gap, None), runs_out[: count - first - gap]))
    for part, share in parts:
        cracks.append(rounded(crack.points[part], crack.widths[part] * share, parent))
        parent = len(cracks) - 1


def add_branches(
    rng: Rng, cracks: list[Crack], parent: int, style: Style, shape_hw: tuple[int, int], depth: int = 0
) -> None:
    """Append walks that leave the crack `parent`, and such that leave those."""
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
        if outside(control[0], shape_hw, 0.0) or length < 6:
            continue
        add_crack(rng, cracks, branch(rng, refine(rng, control, style), stem, int(place), shape_hw), parent)
        if depth < 2:
            add_branches(rng, cracks, len(cracks) - 1, style, shape_hw, depth + 1)


def _wander(rng: Rng, shape_hw: tuple[int, int]) -> Floats:
    """Return control points of a line that starts at an edge or inside, and leaves the picture or ends before."""
    size = np.array(shape_hw, np.float64)
    target = rng.uniform(0.2, 0.8, 2) * size
    start = rng.uniform(0.1, 0.6, 2) * size
    stride = max(min(shape_hw) * log_uniform(rng, 0.06, 0.25), 8.0)
    if rng.random() < 0.75:
        side, beyond = int(rng.integers(2)), min(_OUTSIDE, stride / 2)
        start[side] = rng.choice([-beyond, size[side] + beyond])
        start[1 - side] = rng.uniform(0.05, 0.95) * size[1 - side]
    length = np.inf if rng.random() < 0.7 else rng.uniform(0.3, 0.8) * min(shape_hw)
    heading = float(np.arctan2(*(target - start)))
    wobble = rng.uniform(0.05, 0.4)
    points, turn, walked = [start], 0.0, 0.0
    while walked < length and len(points) < 60:
        turn = 0.4 * turn + rng.normal(0, wobble)
        pace = stride * rng.uniform(0.5, 1.5)
        walked += pace
        points.append(points[-1] + pace * np.array([np.sin(heading + turn), np.cos(heading + turn)]))
        if outside(points[-1], shape_hw) and not outside(points[-2], shape_hw):
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
