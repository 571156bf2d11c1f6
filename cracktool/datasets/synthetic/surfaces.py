"""Bare materials: asphalt with its stones, concrete, plaster, brick and stone walls, paving.

Makes colour and relief before there is any crack, dirt or light.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.datasets.synthetic.noise import (
    Field,
    Rng,
    blur,
    cells,
    coordinates,
    log_uniform,
    noise,
    soft_step,
    spectral,
)

_SPECKS = (2.0, 3.2)  # where fine noise becomes a dark speck
Material = Literal["asphalt", "concrete", "plaster", "brick", "paving"]


@dataclass(frozen=True, kw_only=True)
class Bond:
    """Where the joints of a brick wall run; its own coordinates (v, u) are turned about the picture's corner.

    Args:
        height: Distance of two bed joints in px.
        length: Distance of two head joints of one course in px.
        offset: Shift of every second course, as a share of the length.
        angle: Turn in radians.
    """

    height: float
    length: float
    offset: float
    angle: float

    def head_joint(self, row: int, number: int) -> float:
        """Return u of a head joint of one course, in px."""
        return self.length * (number + self.offset * (row % 2))

    def to_picture(self, v: float, u: float) -> npt.NDArray[np.float64]:
        """Return (y, x) in the picture of a point of the wall."""
        sine, cosine = np.sin(self.angle), np.cos(self.angle)
        return np.array([v * cosine + u * sine, u * cosine - v * sine])

    def to_wall(self, shape_hw: tuple[int, int]) -> tuple[Field, Field]:
        """Return v and u of every pixel."""
        y, x = coordinates(shape_hw)
        sine, cosine = np.float32(np.sin(self.angle)), np.float32(np.cos(self.angle))
        return y * cosine - x * sine, y * sine + x * cosine


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """A material without light.

    Args:
        colour: float32 (height, width, 3), RGB as seen in even light, 0 to 1.
        relief: float32 (height, width), height above the plane in px.
        bond: Where the joints of a wall run; None for what has none.
    """

    colour: Field
    relief: Field
    bond: Bond | None = None


def make_surface(rng: Rng, shape_hw: tuple[int, int], material: Material) -> Surface:
    """Make a piece of a material, with a scale, colour and wear drawn at random.

    Example:
        >>> make_surface(np.random.default_rng(0), (32, 48), "concrete").colour.shape
        (32, 48, 3)
    """
    return MATERIALS[material](rng, shape_hw)


def _asphalt(rng: Rng, shape_hw: tuple[int, int]) -> Surface:
    grey = rng.uniform(0.3, 0.66)
    tint = _tint(rng, 0.035)
    stone = log_uniform(rng, 3.0, 22.0) * _zoom(shape_hw)
    contrast = rng.uniform(0.25, 1.3)
    grit = noise(rng, shape_hw, 4, 1, rng.uniform(0.9, 1.4))
    blotches = noise(rng, shape_hw, min(shape_hw) / rng.uniform(1.5, 6), 8, rng.uniform(0.55, 0.8))
    matrix = grey * rng.uniform(0.6, 0.95) * (1 + 0.13 * grit)
    labels, border, count = cells(rng, shape_hw, stone)
    gap = rng.uniform(0.3, 0.22 * min(stone, 10))
    present = (rng.random(count) < rng.uniform(0.25, 0.98)).astype(np.float32)
    alpha = soft_step(border, gap, gap + min(2.0, 0.3 * stone)) * present[labels]
    palette = _stone_colours(rng, count, grey, contrast)
    worn = np.clip(np.float32(rng.uniform(0.5, 1.0)) + np.float32(rng.uniform(0, 0.3)) * blotches, 0.1, 1)
    matrix *= 1 - np.float32(rng.uniform(0.1, 0.45)) * soft_step(grit, 1.3, 2.4)  # holes between the sand
    top = palette[labels] * (1 + 0.05 * grit)[..., None]
    colour = matrix[..., None] * tint
    colour += (worn * alpha)[..., None] * (top * tint - colour)
    colour *= _tone(rng, shape_hw, 0.02, 0.08)[..., None]
    relief = alpha * np.minimum(border, 0.35 * stone) * log_uniform(rng, 0.08, 0.9) + rng.uniform(0.05, 0.4) * grit
    return Surface(colour=_colour(colour), relief=np.asarray(relief, np.float32))


def _stone_colours(rng: Rng, count: int, grey: float, contrast: float) -> Field:
    shade = grey * np.exp(0.25 * contrast * rng.normal(0, 1, count))
    odd = rng.random(count)
    shade = np.where(odd < 0.03, 0.72 + 0.2 * rng.random(count), shade)  # quartz and lime
    warmth = 0.035 * contrast * rng.normal(0, 1, count) + np.where(odd > 0.96, 0.12, 0)  # rusty ones
    colours = shade[:, None] * (1 + warmth[:, None] * np.array([1.0, 0.25, -1.0]))
    return np.asarray(colours, np.float32)


def _concrete(rng: Rng, shape_hw: tuple[int, int]) -> Surface:
    grey = rng.uniform(0.36, 0.78)
    clouds = noise(rng, shape_hw, min(shape_hw) / rng.uniform(1.5, 4), 4, rng.uniform(0.55, 0.8))
    grain = noise(rng, shape_hw, rng.uniform(2, 8), 1, rng.uniform(0.75, 1.3))
    value = grey * _tone(rng, shape_hw, 0.03, 0.13) * (1 + rng.uniform(0.01, 0.05) * grain)
    value *= 1 - np.float32(rng.uniform(0, 0.35)) * soft_step(grain + 0.5 * clouds, *_SPECKS)
    relief = log_uniform(rng, 0.03, 0.35) * grain
    if rng.random() < 0.35:  # the sand and stones show where the skin is worn off
        labels, border, count = cells(rng, shape_hw, log_uniform(rng, 3, 8) * _zoom(shape_hw))
        bare = soft_step(clouds, *(low := float(rng.uniform(-1, 2)), low + log_uniform(rng, 0.2, 2))) * soft_step(
            border, 0.4, 1.6
        )
        shade = np.asarray(rng.normal(0, rng.uniform(0.08, 0.22), count), np.float32)
        value *= 1 + bare * shade[labels]
        relief += bare * np.minimum(border, 2) * rng.uniform(0.1, 0.4)
    if rng.random() < 0.6:
        pores = _pores(rng, shape_hw)
        value *= 1 - rng.uniform(0.25, 0.7) * pores
        relief -= 1.5 * blur(pores, 0.7)
    if rng.random() < 0.25:
        value *= _boards(rng, shape_hw)
    return Surface(colour=_colour(value[..., None] * _tint(rng, 0.045)), relief=np.asarray(relief, np.float32))


def _plaster(rng: Rng, shape_hw: tuple[int, int]) -> Surface:
    paint = _hsv(rng.uniform(0.02, 0.2) if rng.random() < 0.75 else rng.random(), rng.uniform(0, 0.35) ** 1.4, 0.0, rng)
    clouds = noise(rng, shape_hw, min(shape_hw) / rng.uniform(1.2, 3), 10, 0.7)
    size = log_uniform(rng, 2, 14) * _zoom(shape_hw)
    texture = noise(rng, shape_hw, size, max(1.0, size / 8), rng.uniform(0.4, 0.8))
    colour = paint * (_tone(rng, shape_hw, 0.01, 0.08) * (1 + rng.uniform(0.005, 0.03) * texture))[..., None]
    relief = texture * log_uniform(rng, 0.03, 0.5)
    if rng.random() < 0.25:  # paint that comes off, with a sharp edge
        ragged = clouds + 0.12 * texture
        off = soft_step(ragged, level := float(rng.uniform(0.7, 2.2)), level + 0.08)
        under = _hsv(rng.uniform(0.05, 0.13), rng.uniform(0, 0.2), 0.0, rng) * (1 + 0.06 * texture)[..., None]
        colour += off[..., None] * (under - colour)
        relief -= 2 * off
    return Surface(colour=_colour(colour), relief=np.asarray(relief, np.float32))


def _brick(rng: Rng, shape_hw: tuple[int, int]) -> Surface:
    height = rng.uniform(24, 72) * _zoom(shape_hw)
    bond = Bond(
        height=height,
        length=height * rng.uniform(2.2, 3.7),
        offset=float(rng.choice([0.5, 0.5, 0.33, 0.25])),
        angle=float(rng.normal(0, 0.025)),
    )
    number, bed, head = _courses(*bond.to_wall(shape_hw), bond)
    grain = noise(rng, shape_hw, 8, 1, rng.uniform(0.8, 1.2))
    edge = np.minimum(bed, head) + np.float32(rng.uniform(0.2, 0.9)) * noise(rng, shape_hw, 12, 3, 0.8)
    half = max(1.0, 0.5 * height * rng.uniform(0.1, 0.22))
    alpha = soft_step(edge, half - 0.7, half + 0.9)
    bricks = _brick_colours(rng)[number] * (1 + rng.uniform(0.03, 0.09) * grain)[..., None]
    bricks *= (1 + rng.uniform(0.0, 0.09) * noise(rng, shape_hw, height, 4, 0.7))[..., None]
    mortar = _hsv(rng.uniform(0.05, 0.14), rng.uniform(0, 0.18), -0.12, rng) * (1 + 0.06 * grain)[..., None]
    colour = mortar + alpha[..., None] * (bricks - mortar)
    relief = alpha * np.clip(edge - half + 0.7, 0, 3) * rng.uniform(-0.2, 1.0) + rng.uniform(0.05, 0.4) * grain
    return Surface(colour=_colour(colour), relief=np.asarray(relief, np.float32), bond=bond)


def _paving(rng: Rng, shape_hw: tuple[int, int]) -> Surface:
    """Slabs, setts or cobbles with open joints, mostly dark ones: what passes for cracks most easily."""
    size = log_uniform(rng, 22, 120) * _zoom(shape_hw)
    laid = Bond(
        height=size,
        length=size * rng.uniform(1.0, 2.2),
        offset=float(rng.choice([0.5, 0.5, 0.0, 0.3])),
        angle=float(rng.uniform(0, 2 * np.pi)),
    )
    uneven = np.float32(size * max(0.0, rng.uniform(-0.06, 0.12)))
    v, u = (each + uneven * noise(rng, shape_hw, size, size / 3, 0.6) for each in laid.to_wall(shape_hw))
    number, bed, head = _courses(v, u, laid)
    edge = np.minimum(bed, head)
    if rng.random() < 0.4:  # rounded corners
        edge = bed * head / np.maximum(np.hypot(bed, head), np.float32(1e-3))
    grain = noise(rng, shape_hw, rng.uniform(3, 8), 1, rng.uniform(0.8, 1.2))
    edge += np.float32(rng.uniform(0.1, 0.8)) * noise(rng, shape_hw, 12, 3, 0.8)
    half = max(0.6, size * log_uniform(rng, 0.01, 0.09))
    alpha = soft_step(edge, half - 0.7, half + rng.uniform(0.7, 0.2 * min(size, 15)))
    stones = _varied(rng, rng.uniform(0.3, 0.7) * _tint(rng, 0.06), log_uniform(rng, 0.01, 0.25))[number]
    stones *= (_tone(rng, shape_hw, 0.02, 0.12) * (1 + rng.uniform(0.02, 0.08) * grain))[..., None]
    earth = rng.uniform(0.04, 0.3) if rng.random() < 0.8 else rng.uniform(0.3, 0.7)  # or sand
    green = np.array([0.9, 1.0, 0.6]) if rng.random() < 0.25 else np.array([1.0, 0.95, 0.86])
    joints = np.asarray(earth * green, np.float32) * (1 + np.float32(rng.uniform(0.1, 0.35)) * grain)[..., None]
    colour = joints + alpha[..., None] * (stones - joints)
    domed = np.clip(edge - half, 0, 0.3 * size) * log_uniform(rng, 0.02, 0.3)
    return Surface(colour=_colour(colour), relief=np.asarray(domed + rng.uniform(0.05, 0.4) * grain, np.float32))


MATERIALS: dict[Material, Callable[[Rng, tuple[int, int]], Surface]] = {
    "asphalt": _asphalt,
    "concrete": _concrete,
    "plaster": _plaster,
    "brick": _brick,
    "paving": _paving,
}


def _courses(v: Field, u: Field, bond: Bond) -> tuple[npt.NDArray[np.int32], Field, Field]:
    """Return of every pixel the number of its brick, 0 to 996, and the distance to the nearest bed and head joint."""
    row = np.floor(v / np.float32(bond.height)).astype(np.int32)
    u = u - np.float32(bond.length * bond.offset) * (row % 2)
    column = np.floor(u / np.float32(bond.length)).astype(np.int32)
    return (row * 61 + column * 127) % 997, _joint_distance(v, bond.height), _joint_distance(u, bond.length)


def _brick_colours(rng: Rng) -> Field:
    """Return the colours of 997 bricks of one wall."""
    hue, saturation, value = rng.uniform(0.0, 0.07), rng.uniform(0.3, 0.68), rng.uniform(0.42, 0.78)
    if rng.random() < 0.3:  # sand-lime bricks, stone, painted walls
        hue, saturation, value = rng.uniform(0.05, 0.6), rng.uniform(0.02, 0.16), rng.uniform(0.45, 0.85)
    base = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
    return _varied(rng, base, rng.uniform(0.03, 0.2))


def _varied(rng: Rng, base: npt.NDArray[np.floating], spread: float) -> Field:
    """Return the colours of 997 bricks or stones around one, float32 (997, 3)."""
    shade = np.exp(spread * rng.normal(0, 1, (997, 1)))
    warmth = rng.uniform(0.01, 0.05) * rng.normal(0, 1, (997, 1)) * np.array([1.0, 0.0, -1.0])
    return np.asarray(base * shade * (1 + warmth), np.float32)


def _joint_distance(along: Field, period: float) -> Field:
    """Return the distance from the nearest multiple of `period`, in px."""
    phase = along / np.float32(period)
    return np.asarray(np.abs(phase - np.rint(phase)) * np.float32(period), np.float32)


def _pores(rng: Rng, shape_hw: tuple[int, int]) -> Field:
    """Return air holes, 0 to 1; most are small."""
    canvas = np.zeros(shape_hw, np.uint8)
    count = int(log_uniform(rng, 1e-5, 8e-4) * shape_hw[0] * shape_hw[1])
    largest = rng.uniform(1.5, 6) * _zoom(shape_hw)
    for y, x, size, squeeze, angle in rng.random((count, 5)):
        radius = 0.5 + largest * size**6
        centre = (int(x * shape_hw[1] * 16), int(y * shape_hw[0] * 16))
        axes = (int(radius * 16), max(8, int(radius * 16 * (0.6 + 0.4 * squeeze))))
        cv2.ellipse(canvas, centre, axes, 180 * angle, 0, 360, 255, -1, cv2.LINE_AA, 4)
    return np.asarray(canvas, np.float32) / np.float32(255)


def _boards(rng: Rng, shape_hw: tuple[int, int]) -> Field:
    """Return the tone of shuttering boards, around 1."""
    y, x = coordinates(shape_hw)
    along = x if rng.random() < 0.7 else y
    period = np.float32(rng.uniform(50, 180) * _zoom(shape_hw))
    board = np.floor(along / period).astype(np.int32) % 97
    tone = np.asarray(rng.normal(1, rng.uniform(0.02, 0.07), 97), np.float32)[board]
    seam = soft_step(_joint_distance(along, float(period)), 0.3, rng.uniform(1.0, 2.5))
    return np.asarray(np.broadcast_to(tone * (1 - rng.uniform(0.05, 0.4) * (1 - seam)), shape_hw), np.float32)


def _tone(rng: Rng, shape_hw: tuple[int, int], low: float, high: float) -> Field:
    """Return the tone of weathered material, around 1: noise of a spectrum as real surfaces have them.

    Crack-free pieces of 64 px of real photos have exponents of 1.3 to 4.0 and deviations of 0.07 to 0.24 (medians of
    six sets, benchmarks/crack_statistics.py). Now and then it is drawn out, as by a float, a brush or running water.

    Args:
        rng: Where the randomness comes from.
        shape_hw: Height and width in px.
        low: Smallest deviation.
        high: Largest deviation.
    """
    stretch = log_uniform(rng, 2, 12) if rng.random() < 0.25 else 1.0
    field = spectral(rng, shape_hw, rng.uniform(1.3, 4.0), log_uniform(rng, 8, 400), stretch)
    skewed = np.float32(rng.uniform(-0.35, 0.25)) * (field * field - 1)  # dark specks, or light ones
    return np.asarray(np.exp(np.float32(log_uniform(rng, low, high)) * (field + skewed)), np.float32)


def _zoom(shape_hw: tuple[int, int]) -> float:
    """Return by how much a large photo shows a larger piece of the surface in more pixels."""
    return float(np.clip(min(shape_hw) / 512, 0.5, 4) ** 0.5)


def _hsv(hue: float, saturation: float, lighter: float, rng: Rng) -> Field:
    return np.asarray(colorsys.hsv_to_rgb(hue % 1, saturation, rng.uniform(0.55, 0.92) + lighter), np.float32)


def _tint(rng: Rng, strength: float) -> Field:
    """Return a factor per channel, from bluish to brownish."""
    warmth = rng.normal(0.4, 0.7) * strength
    return np.asarray([1 + warmth, 1 + 0.35 * warmth + rng.normal(0, 0.008), 1 - warmth], np.float32)


def _colour(values: npt.NDArray[np.floating]) -> Field:
    return np.asarray(np.clip(values, 0.02, 1), np.float32)
