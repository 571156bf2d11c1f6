"""Light and camera: relief shading, gradients and cast shadows; exposure, blur, grain and JPEG.

Nothing here moves a pixel: every blur is symmetric.
"""

from __future__ import annotations

import cv2
import numpy as np

from cracktool.datasets.synthetic.noise import Field, Rng, blur, coordinates, log_uniform, noise, soft_step
from cracktool.images import Image, through_jpeg


def shade(rng: Rng, relief: Field) -> Field:
    """Return the light on a relief under a low sun or a cloudy sky, factors around 1.

    Args:
        rng: Where the randomness comes from.
        relief: float32 (height, width), in px.
    """
    angle, strength = rng.uniform(0, 2 * np.pi), log_uniform(rng, 0.06, 0.5)
    slope_y = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=0.125 * strength * np.sin(angle))
    slope_x = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=0.125 * strength * np.cos(angle))
    return np.asarray(np.clip(1 + 2 * (slope_y + slope_x), 0.35, 1.7), np.float32)


def light_field(rng: Rng, shape_hw: tuple[int, int]) -> Field:
    """Return uneven light and cast shadows as a factor per pixel and channel, float32 (height, width, 3)."""
    y, x = coordinates(shape_hw)
    y, x = y / np.float32(shape_hw[0]) - np.float32(0.5), x / np.float32(shape_hw[1]) - np.float32(0.5)
    angle, slope = rng.uniform(0, 2 * np.pi), abs(rng.normal(0, 0.18))
    light = 1 + np.float32(slope * np.sin(angle)) * y + np.float32(slope * np.cos(angle)) * x
    light -= np.float32(rng.uniform(0, 0.35) * (rng.random() < 0.5)) * (x * x + y * y)
    colour = np.repeat(np.asarray(light, np.float32)[..., None], 3, axis=2)
    if rng.random() < 0.22:
        depth = rng.uniform(0.2, 0.6)
        blue = np.asarray(depth * np.array([1.04, 1.0, rng.uniform(0.9, 1.0)]), np.float32)
        colour *= 1 - _shadow(rng, shape_hw)[..., None] * blue
    return colour


def photograph(rng: Rng, colour: Field) -> Image:
    """Take a photo: exposure, white balance, tone curve, blur, grain, sharpening and JPEG.

    Args:
        rng: Where the randomness comes from.
        colour: float32 (height, width, 3), 0 to 1 in usual light.

    Returns:
        uint8 RGB (height, width, 3).
    """
    height, width = colour.shape[:2]
    # The camera sets the exposure by the mean, as all do, and misses it by a little.
    gain = np.clip(rng.normal(0.49, 0.075) / float(colour.mean()), 0.6, 2.2)
    balance = gain * (
        1 + rng.normal(0.012, 0.025) * np.array([1, 0.2, -1]) + rng.normal(0, 0.008) * np.array([0, 1, 0])
    )
    photo = _blurred(rng, colour * np.asarray(balance, np.float32))
    pivot, contrast = np.float32(0.5), np.float32(np.exp(rng.normal(0.12, 0.13)))
    photo = (photo - pivot) * contrast + pivot
    photo += _grain(rng, (height, width))[..., None]
    if rng.random() < 0.35:
        photo += np.float32(rng.uniform(0.2, 0.9)) * (photo - blur(photo, rng.uniform(0.8, 1.6)))
    pixels = np.asarray(np.clip(photo * 255 + 0.5, 0, 255), np.uint8)
    return through_jpeg(pixels, int(rng.integers(45, 98)))


def _shadow(rng: Rng, shape_hw: tuple[int, int]) -> Field:
    """Return a cast shadow, 0 to 1: a building's edge, a pole, or a tree."""
    height, width = shape_hw
    kind = rng.random()
    if kind < 0.45:
        patch = noise(rng, shape_hw, min(shape_hw) / rng.uniform(1.5, 8), 8, 0.4)
        level = rng.uniform(-0.3, 0.8)
        return soft_step(patch, level, level + log_uniform(rng, 0.25, 1.5))
    y, x = coordinates(shape_hw)
    angle, soft = rng.uniform(0, np.pi), log_uniform(rng, 1.0, 25.0)
    through = rng.uniform(0.2, 0.8, 2) * (height, width)
    away = (y - np.float32(through[0])) * np.float32(np.cos(angle)) - (x - np.float32(through[1])) * np.float32(
        np.sin(angle)
    )
    if kind < 0.7:
        away = rng.uniform(0.02, 0.12) * min(shape_hw) - np.abs(away)
    return soft_step(away, -soft, soft)


def _blurred(rng: Rng, photo: Field) -> Field:
    """Blur as a lens does, a little always, more when out of focus; now and then by motion."""
    sigma = rng.uniform(0.35, 0.75) if rng.random() < 0.75 else rng.uniform(0.75, 1.8)
    photo = blur(photo, float(sigma))
    if rng.random() < 0.1:
        size = int(rng.choice([3, 5, 7]))
        kernel = np.zeros((size, size), np.float32)
        reach = (size // 2) * np.array([np.cos(angle := rng.uniform(0, np.pi)), np.sin(angle)])
        ends = [tuple(round(float(size // 2 + sign * part)) for part in reach) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0)
        kernel += kernel[::-1, ::-1]  # symmetric about its middle whatever the rounding
        photo = np.asarray(cv2.filter2D(photo, -1, kernel / kernel.sum()), np.float32)
    return photo


def _grain(rng: Rng, shape_hw: tuple[int, int]) -> Field:
    strength = log_uniform(rng, 0.004, 0.035)
    values = rng.random(shape_hw, np.float32) + rng.random(shape_hw, np.float32) - np.float32(1)
    grain = np.float32(strength * 2.45) * values  # the sum of two has a deviation of 1 / 2.45
    return blur(grain, 0.6) * np.float32(2) if rng.random() < 0.4 else grain
