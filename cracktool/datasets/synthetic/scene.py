"""One picture from its number: draws a scene, grows cracks, gives them their look, takes the photo.

A sample depends on its seed, number, shape and wishes alone, so threads and counts change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from cracktool.datasets.synthetic.camera import light_field, photograph, shade
from cracktool.datasets.synthetic.cracks import draw_style, grow_cracks, grow_network
from cracktool.datasets.synthetic.marks import add_marks, add_objects
from cracktool.datasets.synthetic.noise import Field, Rng, blur, log_uniform, noise, soft_step
from cracktool.datasets.synthetic.raster import Crack, Trace, trace
from cracktool.datasets.synthetic.surfaces import Bond, Material, make_surface
from cracktool.errors import UsageError
from cracktool.images import Image, Mask

_Name = TypeVar("_Name", bound=str)
Pattern = Literal["none", "single", "several", "network"]
_PATTERNS: dict[Pattern, float] = {"none": 0.15, "single": 0.48, "several": 0.23, "network": 0.14}
_MATERIALS: dict[Material, float] = {"asphalt": 0.4, "concrete": 0.3, "plaster": 0.15, "brick": 0.15}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is wanted of a picture; the rest is drawn at random.

    Args:
        material: asphalt, concrete, plaster or brick.
        pattern: none, single, several (2 to 4 cracks) or network.
        width: Range of the typical crack width in px.
    """

    material: Material | None = None
    pattern: Pattern | None = None
    width: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A picture and the whole truth about its cracks.

    Args:
        image: uint8 RGB (height, width, 3).
        mask: bool (height, width), True on crack: exactly `trace(cracks, shape).mask`.
        cracks: Centre lines and widths.
        material: What the surface is.
    """

    image: Image
    mask: Mask
    cracks: tuple[Crack, ...]
    material: Material


def make_sample(
    index: int, seed: int = 0, shape_hw: tuple[int, int] = (512, 512), wishes: Wishes | None = None
) -> Sample:
    """Make one picture of a wall or a road.

    Args:
        index: Number of the picture, from 0.
        seed: Another seed gives other pictures.
        shape_hw: Height and width in px, at least 16.
        wishes: What is wanted of it; None for chance.

    Raises:
        UsageError: A negative number or seed, or a picture too small.

    Example:
        >>> sample = make_sample(3, seed=1, shape_hw=(64, 96))
        >>> sample.image.shape, sample.mask.shape
        ((64, 96, 3), (64, 96))
    """
    if index < 0 or seed < 0:
        raise UsageError(f"picture {index} of seed {seed}", remedy="use numbers from 0 on")
    if min(shape_hw) < 16:
        raise UsageError(f"{shape_hw[1]} x {shape_hw[0]} px is too small", remedy="use 16 px or more")
    wishes = wishes or Wishes()
    rng = np.random.default_rng([seed, index, *shape_hw])
    material = _draw(rng, _MATERIALS, wishes.material)
    pattern = _draw(rng, _PATTERNS, wishes.pattern)
    surface = make_surface(rng, shape_hw, material)
    cracks = _grow(rng, shape_hw, pattern, wishes.width, surface.bond)
    traced = trace(cracks, shape_hw)
    amount = 1.0 if traced.mask.any() else 2.0
    add_marks(rng, surface, material, amount)
    colour, relief = surface.colour, surface.relief
    if cracks:
        colour = _paint_cracks(rng, colour, traced, material)
        relief = relief - np.float32(rng.uniform(0.5, 3.0)) * blur(traced.coverage, float(rng.uniform(0.6, 1.3)))
    colour *= shade(rng, relief)[..., None]
    add_objects(rng, colour, traced.mask, amount)
    colour *= light_field(rng, shape_hw)
    return Sample(image=photograph(rng, colour), mask=traced.mask, cracks=tuple(cracks), material=material)


def _draw(rng: Rng, weights: Mapping[_Name, float], wish: _Name | None) -> _Name:
    drawn = list(weights)[rng.choice(len(weights), p=list(weights.values()))]
    return wish or drawn


def _grow(
    rng: Rng, shape_hw: tuple[int, int], pattern: Pattern, width: tuple[float, float] | None, bond: Bond | None
) -> list[Crack]:
    if pattern == "none":
        return []
    style = draw_style(rng, width)
    if pattern == "network":
        return grow_network(rng, shape_hw, style)
    return grow_cracks(rng, shape_hw, 1 if pattern == "single" else int(rng.integers(2, 5)), style, bond)


def _paint_cracks(rng: Rng, colour: Field, traced: Trace, material: Material) -> Field:
    """Return the surface with cracks: dirt around them, broken edges, dark or filled inside."""
    height, width = traced.mask.shape
    patches = noise(rng, (height, width), 70, 8, 0.7)
    grit = noise(rng, (height, width), 5, 1, 0.9)
    colour = _surroundings(rng, colour, traced, patches, grit)
    around = blur(colour, 6.0)
    if rng.random() < 0.035:
        tone = around * np.float32(rng.uniform(1.1, 1.3))  # filled with dust or lime: lighter than the surface
    else:
        # The walls of a wide crack still get light, its middle does not.
        middle = soft_step(blur(traced.coverage, float(rng.uniform(1.0, 3.0))), 0.45, 1.0)
        deep = rng.uniform(0.1, 0.45)
        tone = around * np.asarray([1.04, 1.0, 0.95], np.float32)
        tone *= (np.float32(min(0.7, deep * rng.uniform(1, 2.2))) * (1 - middle) + np.float32(deep) * middle)[..., None]
    texture = rng.uniform(0.1, 0.35) if material == "asphalt" else rng.uniform(0.05, 0.2)
    tone *= (1 + np.float32(texture) * (grit + 0.5 * patches))[..., None]
    if rng.random() < 0.45:  # sand and crumbs that fell in
        crumbs = soft_step(grit + 0.6 * patches, low := float(rng.uniform(0.7, 1.8)), low + 0.6)
        tone += (np.float32(rng.uniform(0.3, 0.9)) * crumbs)[..., None] * (around - tone)
    depth = np.float32(rng.uniform(0.75, 1.0)) * (1 - np.float32(rng.uniform(0, 0.35)) * soft_step(patches, -0.5, 2))
    return np.asarray(colour + (traced.coverage * depth)[..., None] * (np.maximum(tone, 0.01) - colour), np.float32)


def _surroundings(rng: Rng, colour: Field, traced: Trace, patches: Field, grit: Field) -> Field:
    if rng.random() < 0.5:  # dirt or damp that follows the crack, or lime washed out of it
        halo = blur(traced.coverage, log_uniform(rng, 2.0, 12.0))
        halo *= np.clip(1 + 0.6 * patches, 0, 2) * np.float32(rng.choice([-1.0, -0.7, 0.5]) * rng.uniform(0.3, 1.0))
        colour = colour * (1 + np.clip(halo, -0.45, 0.3))[..., None]
    if rng.random() < 0.3:  # chips broken off the edges show fresh material
        near = blur(traced.coverage, float(rng.uniform(1.2, 3.5)))
        chips = soft_step(near + 0.16 * grit + 0.12 * patches, 0.42, 0.55)
        colour = colour * (1 + np.float32(rng.uniform(-0.25, 0.3)) * chips)[..., None]
    return np.asarray(colour, np.float32)
