"""From a rough course to a crack: finer bends and a width along it, with the statistics of real masks.

Decides neither where cracks run nor what they look like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cracktool.datasets.synthetic.noise import Rng, log_uniform
from cracktool.datasets.synthetic.raster import Crack, Floats

WIDTHS = (0.5, 60.0)  # px; tips taper down to the lower one

# Measured by benchmarks/crack_statistics.py on the train masks of DeepCrack, Crack500, SUT-Crack, canal concrete,
# Rissbilder walls and masonry (60 pictures each). Medians of pictures: 4.5, 18, 5.5, 3.5, 4.5 and 6.5 px, so 5.8 px
# with a deviation of 0.57 between sets and 0.58 within one.
_TYPICAL = 5.8  # px: the median of what the logarithm of a picture's typical width is distributed about
_BETWEEN = 0.8  # deviation of that logarithm
_HAIRLINES = (0.15, 0.7, 2.0)  # share and range in px: masks drawn by hand show none below 2 px, inspectors need them
# Along the cracks of a picture the logarithm deviates by 0.24 to 0.54 and falls to 1/e in 5 to 54 px, 26 at the median.
_ALONG = ((0.4, 45.0), (0.16, 12.0))  # deviation at and distance in px of the knots that are interpolated


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
    """Draw a style as real masks have them; `width` sets the range of the typical width in px instead."""
    typical = float(np.clip(_TYPICAL * np.exp(_BETWEEN * rng.normal()), WIDTHS[0], WIDTHS[1] / 2))
    share, *hairline = _HAIRLINES
    low, high = width or ((hairline[0], hairline[1]) if rng.random() < share else (typical, typical))
    return Style(
        width=log_uniform(rng, low, high),
        roughness=log_uniform(rng, 0.04, 0.12),  # real pieces of 32 px: 0.08 to 0.11
        hurst=float(rng.uniform(0.5, 0.85)),
        step=float(rng.uniform(1.6, 3.0)),
    )


def refine(rng: Rng, control: Floats, style: Style, factor: float = 1.0) -> Floats:
    """Refine a line by displacing the middles of its pieces sideways (Fournier, Fussell and Carpenter 1982).

    Args:
        rng: Where the randomness comes from.
        control: Points (y, x), float (N, 2), which stay where they are.
        style: How rough.
        factor: Of the roughness.
    """
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


def widen(rng: Rng, line: Floats, width: float, shape_hw: tuple[int, int], free: tuple[bool, bool]) -> Crack:
    """Give a line a width that varies along it and runs out at its free ends where they lie inside of the picture.

    Args:
        rng: Where the randomness comes from.
        line: Points (y, x), float (N, 2).
        width: The median in px.
        shape_hw: Height and width of the picture in px.
        free: Whether the first and the last point are no part of another crack.
    """
    steps = np.diff(line, axis=0)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])
    # A wide crack has no short bulges: the knots are farther apart than it is wide.
    logs = sum(deviation * _wave(rng, along, max(spacing, 1.5 * width)) for deviation, spacing in _ALONG)
    widths = width * np.exp(logs + min(0.015 * width, 0.1) * _wave(rng, along, 3.0))
    # Broken edges differ from each other, which a width alone cannot give: the middle of a wide crack trembles as well.
    hold = np.clip(np.minimum(along, along[-1] - along) / (2 * width), 0, 1)  # but its ends stay on other cracks
    tremble = 0.09 * width * hold[:, None] * np.column_stack([_wave(rng, along, 5.0), _wave(rng, along, 5.0)])
    line = line + tremble
    reach = min(along[-1] * 0.8, 12 * width + 30)
    for end, distance, runs_out in ((line[0], along, free[0]), (line[-1], along[-1] - along, free[1])):
        if runs_out and not outside(end, shape_hw):
            widths = widths * np.clip(distance / reach, 0.02, 1) ** 0.6
    return rounded(line, widths)


def branch(rng: Rng, line: Floats, stem: Crack, place: int, shape_hw: tuple[int, int]) -> Crack:
    """Give a line that leaves a crack at its point `place` a width: less than there, and running out at the tip."""
    child = widen(rng, line, stem.widths[place] * rng.uniform(0.35, 0.8), shape_hw, (False, False))
    return rounded(child.points, child.widths * np.linspace(1, 0.02, len(line)) ** 0.7)


def rounded(points: Floats, widths: Floats, parent: int | None = None) -> Crack:
    """Return a crack in whole hundredths of a px, so that the truth written with two decimals is the truth itself."""
    limited = np.asarray(np.round(np.clip(widths, WIDTHS[0], WIDTHS[1]), 2), np.float64)
    return Crack(points=np.round(points, 2), widths=limited, parent=parent)


def outside(points: Floats, shape_hw: tuple[int, int], margin: float = 4.0) -> npt.NDArray[np.bool_]:
    """Return which of the points, float (..., 2) as (y, x), lie more than `margin` px outside of the picture."""
    return np.asarray(((points < -margin) | (points > np.array(shape_hw) - 1 + margin)).any(axis=-1))


def _wave(rng: Rng, along: Floats, spacing: float) -> Floats:
    knots = int(along[-1] / spacing) + 3
    return np.interp(along / spacing + rng.random(), np.arange(knots), rng.normal(0, 1, knots))
