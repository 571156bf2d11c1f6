"""What is on a surface besides cracks: stains, paint, joints, scratches below them; leaves, twigs, cables on top.

The dark thin ones are there because they are not cracks. Nothing here ever covers a crack pixel by an object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.datasets.synthetic.noise import Field, Rng, blur, coordinates, log_uniform, noise, resize, soft_step
from cracktool.datasets.synthetic.surfaces import Material, Surface
from cracktool.images import Mask

Canvas = npt.NDArray[np.uint8]  # (height, width), 0 to 255: what is drawn on it

Mark = Callable[[Rng, Field, Field], None]  # changes colour (height, width, 3) and relief (height, width) in place


def add_marks(rng: Rng, surface: Surface, material: Material, amount: float) -> None:
    """Put stains, paint, joints and scratches on a surface, in place: they lie below the cracks.

    Args:
        rng: Where the randomness comes from.
        surface: Its colour and relief are changed.
        material: Decides what is likely.
        amount: Factor of how many there are; 1 is usual.
    """
    for mark, chances in _MARKS.items():
        if rng.random() < amount * chances[material]:
            mark(rng, surface.colour, surface.relief)


def add_objects(rng: Rng, colour: Field, mask: Mask, amount: float) -> None:
    """Lay leaves, twigs, cables and pebbles with their shadows on a picture, in place.

    Args:
        rng: Where the randomness comes from.
        colour: float32 (height, width, 3), 0 to 1.
        mask: An object that would cover a True pixel is left away.
        amount: Factor of how many there are; 1 is usual.
    """
    for make, chance in ((_leaf, 0.08), (_twig, 0.1), (_cable, 0.09), (_pebbles, 0.1)):
        if rng.random() >= amount * chance:
            continue
        for _ in range(int(rng.integers(1, 4)) if make is not _cable else 1):
            shape, tone = make(rng, mask.shape)
            away = rng.uniform(-4, 4, 2)
            move = np.array([[1, 0, away[0]], [0, 1, away[1]]])
            shadow = np.asarray(cv2.warpAffine(shape, move, (shape.shape[1], shape.shape[0])), np.uint8)
            if mask[(shape > 0) | (shadow > 0)].any():
                continue
            colour *= (1 - rng.uniform(0.2, 0.6) * blur(_share(shadow), 1.5))[..., None]
            alpha = _share(shape)[..., None]
            colour += alpha * (tone - colour)


def _stain(rng: Rng, colour: Field, relief: Field) -> None:
    """Damp, oil, dirt or bleached areas with a soft or a clear edge."""
    shape = relief.shape
    patch = _slow_noise(rng, shape, min(shape) / rng.uniform(1, 3), rng.uniform(0.35, 0.6)) + 0.15 * relief
    level, edge = rng.uniform(0.2, 1.6), log_uniform(rng, 0.15, 1.8)
    alpha = soft_step(patch, level, level + edge)
    factor = np.exp(rng.normal(-0.2, 0.2)) * (1 + rng.normal(0.02, 0.03) * np.array([1, 0.2, -1]))
    colour *= 1 + alpha[..., None] * (np.asarray(factor, np.float32) - 1)


def _streaks(rng: Rng, colour: Field, relief: Field) -> None:
    """Traces of running water: long in one direction."""
    height, width = relief.shape
    lanes = noise(rng, (max(2, height // 24), width), rng.uniform(8, 30), 1, 0.7)
    alpha = soft_step(resize(lanes, (height, width)), rng.uniform(0.3, 1.2), 2.2)
    tone = np.asarray(rng.uniform(0.6, 1.2) * (1 + rng.normal(0.02, 0.04) * np.array([1, 0.2, -1])), np.float32)
    fade = np.linspace(rng.uniform(0.3, 1), rng.uniform(0.3, 1), height, dtype=np.float32)[:, None]
    colour *= 1 + (alpha * fade)[..., None] * (tone - 1)


def _moss(rng: Rng, colour: Field, relief: Field) -> None:
    """Green or black growth in a part of the picture."""
    shape = relief.shape
    patch = _slow_noise(rng, shape, min(shape) / 2, 0.7) + 0.5 * noise(rng, shape, 6, 1, 0.8)
    alpha = rng.uniform(0.3, 0.85) * soft_step(patch, rng.uniform(0.8, 1.8), 2.6)
    tone = np.asarray(rng.uniform(0.12, 0.3) * np.array([0.85, 1.0, rng.uniform(0.4, 0.8)]), np.float32)
    colour += alpha[..., None] * (tone - colour)


def _paint(rng: Rng, colour: Field, relief: Field) -> None:
    """A worn marking of white or yellow paint."""
    shape = relief.shape
    away = _line_distance(rng, shape)
    half = rng.uniform(0.04, 0.16) * min(shape)
    worn = noise(rng, shape, 20, 1, 0.8)
    alpha = soft_step(half - np.abs(away) + worn, -0.8, 0.8)
    alpha *= soft_step(worn + 0.4 * relief, low := float(rng.uniform(-3, 0.5)), low + 0.7) * np.float32(0.92)
    tone = np.array([0.88, 0.87, 0.84] if rng.random() < 0.7 else [0.76, 0.6, 0.25]) * rng.uniform(0.75, 1.05)
    colour += alpha[..., None] * (np.asarray(tone, np.float32) - colour)


def _tyre(rng: Rng, colour: Field, relief: Field) -> None:
    """Dark soft bands of rubber."""
    shape = relief.shape
    away = np.abs(_line_distance(rng, shape))
    half = rng.uniform(0.03, 0.12) * min(shape)
    band = soft_step(half - np.abs(away - half * rng.choice([0.0, 2.5])), 0, half * 0.6)
    tread = 0.7 + 0.3 * noise(rng, shape, 8, 2, 0.8)
    colour *= (1 - rng.uniform(0.1, 0.4) * band * tread)[..., None]


def _joint(rng: Rng, colour: Field, relief: Field) -> None:
    """A straight joint or saw cut, open, sealed or filled with dirt: dark and thin, but no crack."""
    shape = relief.shape
    away = _line_distance(rng, shape)
    for offset in (0.0, float(rng.uniform(40, 200)))[: 1 + int(rng.random() < 0.15)]:
        half = log_uniform(rng, 0.5, 7)
        ragged = rng.uniform(0, 0.5) * noise(rng, shape, 16, 2, 0.8)
        alpha = soft_step(half - np.abs(away - offset) + ragged, -0.7, 0.7)
        dirt = 1 + 0.25 * noise(rng, shape, 5, 1, 0.9)
        tone = np.asarray(rng.uniform(0.08, 0.4) * np.array([1.0, 0.97, 0.92]), np.float32)
        colour += (alpha * rng.uniform(0.5, 1))[..., None] * (tone * dirt[..., None] - colour)
        relief -= 1.5 * blur(alpha, 0.8)


def _patch(rng: Rng, colour: Field, relief: Field) -> None:
    """A repaired area or a second layer: the other side of a line has another tone."""
    shape = relief.shape
    away = _line_distance(rng, shape) + rng.uniform(0.5, 6) * noise(rng, shape, 60, 4, 0.6)
    alpha = soft_step(away, -1, 1)
    tone = np.asarray(rng.uniform(0.7, 1.25) * (1 + rng.normal(0, 0.03) * np.array([1, 0.2, -1])), np.float32)
    colour *= 1 + alpha[..., None] * (tone - 1)
    relief += rng.uniform(-1.5, 1.5) * alpha


def _scratches(rng: Rng, colour: Field, relief: Field) -> None:
    """Thin light or dark scratches, nearly straight."""
    canvas: Canvas = np.zeros(relief.shape, np.uint8)
    for _ in range(int(rng.integers(1, 9))):
        _draw_curve(rng, canvas, min(relief.shape) * rng.uniform(0.1, 0.9), 1, bend=0.05)
    alpha = rng.uniform(0.15, 0.6) * _share(canvas) * soft_step(noise(rng, relief.shape, 30, 2, 0.8), -0.8, 0.8)
    colour += alpha[..., None] * (np.float32(rng.choice([0.12, 0.85])) - colour)


def _leaf(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Canvas, Field]:
    size = rng.uniform(0.02, 0.08) * min(shape_hw) + 4
    angle = np.linspace(0, 2 * np.pi, 40)
    lobes = 1 + rng.uniform(0, 0.35) * np.cos(angle * int(rng.integers(3, 8)))
    radius = size * lobes * (1 + rng.normal(0, 0.04, 40))
    turn = rng.uniform(0, 2 * np.pi)
    long, short = radius * np.cos(angle), radius * np.sin(angle) * rng.uniform(0.35, 0.8)
    outline = np.column_stack([long * np.cos(turn) - short * np.sin(turn), long * np.sin(turn) + short * np.cos(turn)])
    outline += rng.random(2) * shape_hw[::-1]
    canvas = np.zeros(shape_hw, np.uint8)
    cv2.fillPoly(canvas, [np.rint(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return canvas, _textured(_earthy(rng), noise(rng, shape_hw, 10, 1, 0.7), 0.12)


def _twig(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Canvas, Field]:
    canvas = np.zeros(shape_hw, np.uint8)
    _draw_curve(rng, canvas, min(shape_hw) * rng.uniform(0.08, 0.4), int(rng.integers(1, 5)), bend=0.25)
    return canvas, _textured(_earthy(rng) * np.float32(0.7), noise(rng, shape_hw, 6, 1, 0.8), 0.2)


def _cable(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Canvas, Field]:
    canvas = np.zeros(shape_hw, np.uint8)
    _draw_curve(rng, canvas, 2.5 * max(shape_hw), int(rng.integers(2, 9)), bend=0.02)
    tone = np.asarray(rng.uniform(0.05, 0.3) * (1 + rng.normal(0, 0.1, 3)), np.float32)
    return canvas, _textured(tone, noise(rng, shape_hw, 80, 20), 0.3)


def _pebbles(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Canvas, Field]:
    canvas = np.zeros(shape_hw, np.uint8)
    for y, x, size, squeeze, turn in rng.random((int(rng.integers(1, 12)), 5)):
        axes = (int(16 * (1 + 7 * size**2)), int(16 * (1 + 7 * size**2) * (0.6 + 0.4 * squeeze)))
        centre = (int(16 * x * shape_hw[1]), int(16 * y * shape_hw[0]))
        cv2.ellipse(canvas, centre, axes, 180 * turn, 0, 360, 255, -1, cv2.LINE_AA, 4)
    return canvas, _textured(np.full(3, rng.uniform(0.3, 0.8), np.float32), noise(rng, shape_hw, 6, 1, 0.8), 0.15)


_MARKS: dict[Mark, dict[Material, float]] = {
    _stain: {"asphalt": 0.35, "concrete": 0.4, "plaster": 0.3, "brick": 0.25, "paving": 0.35},
    _streaks: {"asphalt": 0.03, "concrete": 0.25, "plaster": 0.2, "brick": 0.12, "paving": 0.03},
    _moss: {"asphalt": 0.04, "concrete": 0.1, "plaster": 0.06, "brick": 0.08, "paving": 0.15},
    _patch: {"asphalt": 0.1, "concrete": 0.1, "plaster": 0.05, "brick": 0.03, "paving": 0.02},
    _paint: {"asphalt": 0.14, "concrete": 0.04, "plaster": 0.03, "brick": 0.02, "paving": 0.05},
    _tyre: {"asphalt": 0.15, "concrete": 0.03, "plaster": 0.0, "brick": 0.0, "paving": 0.05},
    _joint: {"asphalt": 0.07, "concrete": 0.2, "plaster": 0.05, "brick": 0.0, "paving": 0.0},
    _scratches: {"asphalt": 0.06, "concrete": 0.12, "plaster": 0.12, "brick": 0.05, "paving": 0.05},
}


def _draw_curve(rng: Rng, canvas: Canvas, length: float, thickness: int, bend: float) -> None:
    height, width = canvas.shape
    turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, 40))
    steps = length / 40 * np.column_stack([np.cos(turns), np.sin(turns)])
    points = np.cumsum(steps, axis=0)
    points += rng.random(2) * [width, height] - points[20]
    cv2.polylines(canvas, [np.rint(points * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)


def _line_distance(rng: Rng, shape_hw: Sequence[int]) -> Field:
    """Return the signed distance in px from a random straight line through the picture."""
    height, width = shape_hw
    y, x = coordinates((height, width))
    angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.08) if rng.random() < 0.6 else rng.uniform(0, np.pi)
    through = rng.uniform(0.05, 0.95, 2) * (height, width)
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    return (y - np.float32(through[0])) * cosine - (x - np.float32(through[1])) * sine


def _slow_noise(rng: Rng, shape_hw: tuple[int, ...], coarse: float, persistence: float) -> Field:
    return noise(rng, (shape_hw[0], shape_hw[1]), coarse, 2, persistence)


def _earthy(rng: Rng) -> Field:
    return np.asarray(
        rng.uniform(0.2, 0.6) * np.array([1.0, rng.uniform(0.6, 0.95), rng.uniform(0.3, 0.65)]), np.float32
    )


def _textured(tone: Field, texture: Field, strength: float) -> Field:
    return np.asarray(tone * (1 + np.float32(strength) * texture)[..., None], np.float32)


def _share(canvas: Canvas) -> Field:
    return np.asarray(canvas, np.float32) / np.float32(255)
