"""One picture from its number: draws a scene, grows cracks, gives them their look, takes the photo.

A sample depends on its seed, number, shape and wishes alone, so threads and counts change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from cracktool.datasets.synthetic.backgrounds import photo_surface
from cracktool.datasets.synthetic.camera import light_field, photograph, shade
from cracktool.datasets.synthetic.fracture import grow_cells, grow_paths, grow_plates
from cracktool.datasets.synthetic.look import paint_cracks
from cracktool.datasets.synthetic.marks import add_marks, add_objects
from cracktool.datasets.synthetic.noise import Rng, blur
from cracktool.datasets.synthetic.raster import Crack, trace
from cracktool.datasets.synthetic.strokes import draw_style
from cracktool.datasets.synthetic.surfaces import Bond, Material, make_surface
from cracktool.datasets.synthetic.surroundings import add_surroundings
from cracktool.datasets.synthetic.walks import grow_walks
from cracktool.errors import UsageError
from cracktool.images import Image, Mask

_Name = TypeVar("_Name", bound=str)
Pattern = Literal["none", "single", "several", "network"]
PATTERN_CHANCES: dict[Pattern, float] = {"none": 0.15, "single": 0.48, "several": 0.23, "network": 0.14}
MATERIAL_CHANCES: dict[Material, float] = {
    "asphalt": 0.4,
    "concrete": 0.3,
    "plaster": 0.15,
    "brick": 0.08,
    "paving": 0.07,
}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is wanted of a picture; the rest is drawn at random.

    Args:
        material: asphalt, concrete, plaster, brick or paving.
        pattern: none, single, several (2 to 4 cracks) or network.
        width: Range of the typical crack width in px.
        scene: Whether things stand around the surface; only where they cover no crack.
    """

    material: Material | None = None
    pattern: Pattern | None = None
    width: tuple[float, float] | None = None
    scene: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A picture and the whole truth about its cracks.

    Args:
        image: uint8 RGB (height, width, 3).
        mask: bool (height, width), True on crack: exactly `trace(cracks, shape).mask`.
        cracks: Centre lines and widths.
        material: What the surface is; None for a background of the user's.
    """

    image: Image
    mask: Mask
    cracks: tuple[Crack, ...]
    material: Material | None


def make_sample(
    index: int,
    seed: int = 0,
    shape_hw: tuple[int, int] = (512, 512),
    wishes: Wishes | None = None,
    background: Image | None = None,
) -> Sample:
    """Make one picture of a wall or a road.

    Args:
        index: Number of the picture, from 0.
        seed: Another seed gives other pictures.
        shape_hw: Height and width in px, at least 16.
        wishes: What is wanted of it; None for chance.
        background: A photo without cracks, uint8 RGB of any size, to draw them on a piece of; None makes a surface.

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
    material = _draw(rng, MATERIAL_CHANCES, wishes.material)
    pattern = _draw(rng, PATTERN_CHANCES, wishes.pattern)
    own = background is None
    surface = make_surface(rng, shape_hw, material) if background is None else photo_surface(rng, shape_hw, background)
    cracks = _grow(rng, shape_hw, pattern, wishes.width, surface.bond)
    traced = trace(cracks, shape_hw)
    amount = 1.0 if traced.mask.any() else 2.0
    if own:  # a photo has its own marks and light
        add_marks(rng, surface, material, amount)
    colour, relief = surface.colour, surface.relief
    if cracks:
        grain = rng.uniform(0.1, 0.35) if own and material == "asphalt" else rng.uniform(0.05, 0.2)
        colour = paint_cracks(rng, colour, traced, grain)
        relief = relief - np.float32(rng.uniform(0.2, 1.8)) * blur(traced.coverage, float(rng.uniform(0.6, 1.3)))
    colour *= shade(rng, relief)[..., None]
    add_objects(rng, colour, traced.mask, amount)
    if wishes.scene:
        add_surroundings(rng, colour, traced.mask)
    if own or rng.random() < 0.3:
        colour *= light_field(rng, shape_hw)
    image = photograph(rng, colour)
    return Sample(image=image, mask=traced.mask, cracks=tuple(cracks), material=material if own else None)


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
        return (grow_cells if rng.random() < 0.5 else grow_plates)(rng, shape_hw, style)
    count = 1 if pattern == "single" else int(rng.integers(2, 5))
    along_joints = bond is not None and rng.random() < 0.7
    paths = grow_paths(rng, shape_hw, count, style) if not along_joints and rng.random() < 0.5 else []
    return paths or grow_walks(rng, shape_hw, count, style, bond)
