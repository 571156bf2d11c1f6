"""What a crack looks like: dirt and chips around it, walls that darken inwards, crumbs and dust in it.

Changes colours only; places and widths are given.
"""

from __future__ import annotations

import numpy as np

from cracktool.datasets.synthetic.noise import Field, Rng, blur, log_uniform, noise, soft_step
from cracktool.datasets.synthetic.raster import Trace


def paint_cracks(rng: Rng, colour: Field, traced: Trace, grain: float) -> Field:
    """Return a surface with cracks; `colour` may be changed on the way.

    Args:
        rng: Where the randomness comes from.
        colour: float32 (height, width, 3), the surface without cracks, 0 to 1.
        traced: Where the cracks are.
        grain: How rough their walls are, as a deviation of their tone.
    """
    shape_hw = traced.mask.shape[0], traced.mask.shape[1]
    patches = noise(rng, shape_hw, 70, 8, 0.7)
    grit = noise(rng, shape_hw, 5, 1, 0.9)
    colour = _surroundings(rng, colour, traced, patches, grit)
    touched = traced.coverage > 0  # few pixels: from here on only these, as rows
    ground, around = colour[touched], blur(colour, 6.0)[touched]
    patch, crumb = patches[touched], grit[touched]
    if rng.random() < 0.03:
        tone = around * np.float32(rng.uniform(1.1, 1.3))  # filled with dust or lime: lighter than the surface
    else:
        inside = around + np.float32(rng.uniform(0, 0.6)) * (ground - around)  # the same stones, broken
        light = _light(rng, traced.inset[touched])
        tone = inside * (np.asarray([1.04, 1.0, 0.95], np.float32) * light[:, None])
    tone *= (1 + np.float32(grain) * (crumb + 0.5 * patch))[:, None]
    if rng.random() < 0.45:  # sand and crumbs that fell in
        sand = soft_step(crumb + 0.6 * patch, low := float(rng.uniform(0.7, 1.8)), low + 0.6)
        tone += (np.float32(rng.uniform(0.3, 0.9)) * sand)[:, None] * (around - tone)
    faded = np.float32(rng.uniform(0, 0.5)) * soft_step(patch, -0.5, 2)
    share = traced.coverage[touched] * (np.float32(rng.uniform(0.8, 1.0)) * (1 - faded))
    colour[touched] = ground + share[:, None] * (np.maximum(tone, 0.01) - ground)
    return colour


def _light(rng: Rng, inset: Field) -> Field:
    """Return how much light the inside of a crack gets at these distances in px from its edge, 0 to 1.

    A wall at a depth of d sees a share 1 / sqrt(1 + (d / r)^2) of the sky past an edge at the distance r; the depth is
    taken to grow with the distance from the edge, and what the walls scatter leaves some light at the bottom. On real
    photos the middle of a crack has 0.33 to 0.83 of the tone around it (benchmarks/crack_statistics.py), hairlines
    more than wide ones because the lens mixes them with their edges, which happens later.
    """
    typical = 4 * float(inset.sum()) / max(1, int(np.count_nonzero(inset)))  # the mean over a crack of w px is w / 4
    broken = max(0.05, typical * log_uniform(rng, 0.01, 0.15))  # px: how far the edges are rounded off
    openness = 1 / np.sqrt(1 + (inset / np.float32(broken)) ** 2)
    bottom = np.float32(0.03 + 0.55 * rng.random() ** 1.5)
    return np.asarray(bottom + (1 - bottom) * openness, np.float32)


def _surroundings(rng: Rng, colour: Field, traced: Trace, patches: Field, grit: Field) -> Field:
    if rng.random() < 0.5:  # dirt or damp that follows the crack, or lime washed out of it
        halo = blur(traced.coverage, log_uniform(rng, 2.0, 12.0))
        halo *= np.clip(1 + 0.6 * patches, 0, 2) * np.float32(rng.choice([-1.0, -0.7, 0.5]) * rng.uniform(0.3, 1.0))
        colour = colour * (1 + np.clip(halo, -0.45, 0.3))[..., None]
    if rng.random() < 0.35:  # chips broken off the edges show fresh material, mostly brighter
        near = blur(traced.coverage, float(rng.uniform(1.2, 3.5)))
        chips = soft_step(near * (1 + 0.45 * grit + 0.35 * patches), 0.4, 0.55)
        colour = colour * (1 + np.float32(rng.uniform(-0.15, 0.35)) * chips)[..., None]
    return colour
