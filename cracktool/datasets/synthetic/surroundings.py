"""What stands around a surface in a photo from afar: sky, trees, eaves, dark openings, beams, railings.

Their dark shapes and straight edges are there because they are not cracks. Nothing here ever covers a crack pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cracktool.datasets.synthetic.noise import Field, Rng, blur, coordinates, log_uniform, noise, soft_step, spectral
from cracktool.images import Mask

Part = Callable[[Rng, tuple[int, int]], tuple[Field, Field]]  # alpha (height, width), tone (height, width, 3)


def add_surroundings(rng: Rng, colour: Field, mask: Mask) -> None:
    """Put one to four things beside the surface of a picture, in place.

    Args:
        rng: Where the randomness comes from.
        colour: float32 (height, width, 3), 0 to 1.
        mask: A thing that would cover a True pixel is left away.
    """
    parts = list(_PARTS)
    for place in rng.choice(len(parts), int(rng.integers(1, 5)), p=list(_PARTS.values())):
        alpha, tone = parts[place](rng, mask.shape)
        if not mask[alpha > 0].any():
            colour += alpha[..., None] * (tone - colour)


def _backdrop(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Field, Field]:
    """What lies behind the surface, from an edge of the picture on: straight as eaves are, or ragged as trees are."""
    ragged = rng.random() < 0.5
    away = _beyond(rng, shape_hw, rng.uniform(0.05, 0.45))
    if ragged:
        size = rng.uniform(12, 80)
        away = away + np.float32(size * rng.uniform(0.2, 0.8)) * noise(rng, shape_hw, size, 3, 0.6)
    fills = _FILLS[1:] if ragged else _FILLS  # no sky is ragged
    return soft_step(away, -0.7, 0.7), fills[int(rng.integers(len(fills)))](rng, shape_hw)


def _opening(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Field, Field]:
    """A door, a window or a hole into the dark, with or without a frame."""
    u, v = _turned(rng, shape_hw, 0.12)
    sides = rng.uniform(0.08, 0.35, 2) * min(shape_hw)
    inside = np.minimum(np.float32(sides[0]) - np.abs(u), np.float32(sides[1]) - np.abs(v))
    frame = rng.uniform(2, 14) if rng.random() < 0.6 else 0.0
    wood = np.asarray(rng.uniform(0.1, 0.9) * np.array([1.0, rng.uniform(0.6, 1), rng.uniform(0.4, 1)]), np.float32)
    hole = soft_step(inside, frame - 0.7, frame + 0.7)[..., None]
    return soft_step(inside, -0.7, 0.7), wood + hole * (_dark(rng, shape_hw) - wood)


def _beam(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Field, Field]:
    """A beam, a pipe or a ledge across the picture, rounded or flat, with its shadow along one side."""
    across = _turned(rng, shape_hw, np.pi)[0]
    half = np.float32(log_uniform(rng, 4, 60))
    shadow = np.float32(log_uniform(rng, 1.5, 25))
    body = soft_step(half - np.abs(across), -0.7, 0.7)
    below = soft_step(across, float(half) - 1, float(half)) * soft_step(half + shadow - across, 0, 0.8 * float(shadow))
    turned_away = np.float32(rng.uniform(0, 0.7)) * np.clip(across / half, -1, 1) ** 2
    tone = np.float32(rng.uniform(0.15, 0.9)) * (1 - turned_away) * (1 + 0.05 * noise(rng, shape_hw, 30, 1, 0.7))
    tint = np.asarray(1 + rng.normal(0, 0.06, 3), np.float32)
    alpha = np.maximum(body, np.float32(rng.uniform(0.4, 1)) * below)
    return alpha, (body * tone + (1 - body) * np.float32(rng.uniform(0.01, 0.1)))[..., None] * tint


def _bars(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Field, Field]:
    """A railing, a fence or wires: even lines side by side, in a strip of the picture."""
    u, v = _turned(rng, shape_hw, 0.4)
    period, half = rng.uniform(8, 60), log_uniform(rng, 0.6, 6)
    phase = u / np.float32(period)
    bars = soft_step(np.float32(half) - np.abs(phase - np.rint(phase)) * np.float32(period), -0.7, 0.7)
    reach = np.float32(rng.uniform(0.05, 0.3) * shape_hw[0])
    strip = soft_step(reach - np.abs(v), -0.7, 0.7)
    rails = soft_step(np.float32(1.5 * half) - np.abs(np.abs(v) - reach), -0.7, 0.7)
    tone = np.full((*shape_hw, 3), rng.uniform(0.02, 0.25) if rng.random() < 0.7 else rng.uniform(0.6, 1), np.float32)
    return np.maximum(bars * strip, rails), tone


def _eaves(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Field, Field]:
    """Another plane that meets the surface in a dark band, straight but for its depth: eaves, a ceiling, a kerb."""
    away = _beyond(rng, shape_hw, rng.uniform(0.05, 0.5))
    band = log_uniform(rng, 1.0, 40)
    ragged = np.float32(rng.uniform(0, 0.4) * band) * noise(rng, shape_hw, rng.uniform(15, 100), 3, 0.6)
    deep = soft_step(np.float32(band) - away + ragged, -log_uniform(rng, 0.7, 8), 0.7) * np.float32(rng.uniform(0.5, 1))
    tone = np.float32(rng.uniform(0.15, 0.9)) * (1 + 0.08 * noise(rng, shape_hw, 60, 1, 0.7))
    plane = tone[..., None] * np.asarray(1 + rng.normal(0, 0.05, 3), np.float32)
    beyond = plane if rng.random() < 0.6 else _FILLS[int(rng.integers(len(_FILLS)))](rng, shape_hw)
    return soft_step(away, -1, 0.7), beyond + deep[..., None] * (_dark(rng, shape_hw) - beyond)


def _clump(rng: Rng, shape_hw: tuple[int, int]) -> tuple[Field, Field]:
    """A bush, a vehicle, people in the shade: dark, ragged and as wide as it is high."""
    size, squeeze = rng.uniform(15, 70), rng.uniform(0.5, 2)
    across, along = _turned(rng, shape_hw, np.pi)
    away = np.float32(size) - np.sqrt((across * np.float32(squeeze)) ** 2 + along**2)
    away += np.float32(size * rng.uniform(0.2, 0.7)) * noise(rng, shape_hw, size * rng.uniform(0.3, 1.5), 3, 0.6)
    return soft_step(away, -0.7, 0.7), (_dark if rng.random() < 0.7 else _leaves)(rng, shape_hw)


# By how often the weights that ship took such things for cracks: the first three often, the others hardly ever.
_PARTS: dict[Part, float] = {_backdrop: 0.35, _clump: 0.25, _eaves: 0.22, _opening: 0.06, _beam: 0.06, _bars: 0.06}
"""What may stand there -> how often."""


def _sky(rng: Rng, shape_hw: tuple[int, int]) -> Field:
    """Return a clear or a clouded sky."""
    fade = coordinates(shape_hw)[0] / np.float32(shape_hw[0])
    clouds = np.float32(rng.uniform(0, 0.12)) * spectral(rng, shape_hw, 3.0, 200)
    red = rng.uniform(0.35, 1)
    blue = np.array([red, red + 0.6 * (1 - red), 1.0]) * rng.uniform(0.75, 1.05)
    return np.asarray((0.8 + 0.2 * fade + clouds)[..., None] * blue, np.float32)


def _leaves(rng: Rng, shape_hw: tuple[int, int]) -> Field:
    """Return trees, hedges or grass: blotches of dark and light."""
    clumps = noise(rng, shape_hw, rng.uniform(10, 60), 2, 0.8) + 0.5 * noise(rng, shape_hw, 5, 1, 0.9)
    green = np.array([rng.uniform(0.5, 1), 1.0, rng.uniform(0.2, 0.7)])
    light = np.float32(log_uniform(rng, 0.04, 0.35)) * np.exp(np.float32(rng.uniform(0.3, 1)) * clumps)
    return np.asarray(light[..., None] * green, np.float32)


def _dark(rng: Rng, shape_hw: tuple[int, int]) -> Field:
    """Return deep shade, in which little is seen."""
    shapes = blur(noise(rng, shape_hw, rng.uniform(20, 120), 6, 0.5), 1.5)
    light = np.float32(log_uniform(rng, 0.01, 0.15)) * np.exp(np.float32(rng.uniform(0, 0.6)) * shapes)
    return np.asarray(light[..., None] * (1 + rng.normal(0, 0.08, 3)), np.float32)


_FILLS = (_sky, _leaves, _dark)


def _beyond(rng: Rng, shape_hw: tuple[int, int], share: float) -> Field:
    """Return how far each pixel lies beyond a line that cuts off about a share of the picture, px; the top mostly."""
    angle = rng.normal(0, 0.3) + np.pi / 2 * rng.choice([0, 0, 0, 1, 2, 3])
    y, x = coordinates(shape_hw)
    normal = np.array([-np.cos(angle), np.sin(angle)])
    along = np.float32(normal[0]) * (y - shape_hw[0] / 2) + np.float32(normal[1]) * (x - shape_hw[1] / 2)
    half = abs(normal[0]) * shape_hw[0] / 2 + abs(normal[1]) * shape_hw[1] / 2
    return np.asarray(along - np.float32(half * (1 - 2 * share)), np.float32)


def _turned(rng: Rng, shape_hw: tuple[int, int], spread: float) -> tuple[Field, Field]:
    """Return coordinates (across, along) in px about a point of the picture, turned by up to about `spread`."""
    y, x = coordinates(shape_hw)
    y, x = (each - np.float32(at) for each, at in zip((y, x), rng.uniform(0.05, 0.95, 2) * shape_hw, strict=True))
    angle = rng.uniform(-spread, spread)
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    return np.asarray(x * cosine + y * sine, np.float32), np.asarray(y * cosine - x * sine, np.float32)
