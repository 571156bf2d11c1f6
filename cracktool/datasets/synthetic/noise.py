"""Building blocks of surfaces: smooth noise, stone-like cells, soft thresholds.

Knows nothing about cracks or materials. A field is float32 (height, width).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
Rng = np.random.Generator


def noise(rng: Rng, shape_hw: tuple[int, int], coarse: float, fine: float = 1.0, persistence: float = 0.6) -> Field:
    """Return smooth noise of several octaves, mean 0 and standard deviation 1.

    Each octave is made at its own resolution and enlarged, so a field costs little more than its finest octave.

    Args:
        rng: Where the randomness comes from.
        shape_hw: Height and width in px.
        coarse: Size of the largest features in px.
        fine: Size of the smallest features in px, at least 1.
        persistence: Weight of an octave relative to the one of twice its size, above 0.

    Example:
        >>> noise(np.random.default_rng(0), (40, 60), 16.0).shape
        (40, 60)
    """
    size, weight = max(coarse, fine, 1.0), 1.0
    field = _octave(rng, shape_hw, size)
    while size / 2 >= max(fine, 1.0):
        size, weight = size / 2, weight * persistence
        octave = _octave(rng, shape_hw, size)
        field = resize(field, (octave.shape[0], octave.shape[1])) + np.float32(weight) * octave
    return _standard(resize(field, shape_hw))


def spectral(rng: Rng, shape_hw: tuple[int, int], slope: float, grain: float, stretch: float = 1.0) -> Field:
    """Return Gaussian noise of a power spectrum (1 + (f grain)^2)^(-slope / 2), mean 0 and standard deviation 1.

    Args:
        rng: Where the randomness comes from.
        shape_hw: Height and width in px.
        slope: How fast the power falls with the frequency f: 0 is white, 4 nearly only clouds.
        grain: Size in px of what is about the largest that is strong; larger than the picture for clouds of any size.
        stretch: Length of the features relative to their width, in a direction drawn at random.

    Example:
        >>> spectral(np.random.default_rng(0), (40, 60), 2.5, 20.0).shape
        (40, 60)
    """
    fy = np.fft.fftfreq(shape_hw[0]).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(shape_hw[1]).astype(np.float32)[None]
    sine, cosine = np.float32(np.sin(turn := rng.uniform(0, np.pi))), np.float32(np.cos(turn))
    across, along = fy * cosine - fx * sine, (fy * sine + fx * cosine) * np.float32(stretch)
    amplitude = (1 + np.float32((2 * np.pi * grain) ** 2) * (across**2 + along**2)) ** np.float32(-slope / 4)
    white = np.frombuffer(rng.bytes(shape_hw[0] * shape_hw[1]), np.uint8).reshape(shape_hw).astype(np.float32)
    field = np.fft.irfft2(np.fft.rfft2(white - np.float32(127.5)) * amplitude, shape_hw)
    return _standard(np.asarray(field, np.float32))


def cells(rng: Rng, shape_hw: tuple[int, int], size: float) -> tuple[Labels, Field, int]:
    """Divide a picture into random convex cells, the shape of crushed stones.

    Args:
        rng: Where the randomness comes from.
        shape_hw: Height and width in px.
        size: Mean cell diameter in px.

    Returns:
        The number of each pixel's cell, the distance of each pixel from its cell's border in px, and how many numbers
        there are, counted from 0.
    """
    height, width = shape_hw
    count = max(2, round(height * width / size**2))
    seeds = np.ones(shape_hw, np.uint8)
    seeds[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    inside = np.ones(shape_hw, np.uint8)
    inside[:, 1:] = labels[:, 1:] == labels[:, :-1]
    inside[1:] &= labels[1:] == labels[:-1]
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    return np.asarray(labels, np.int32), np.asarray(distance, np.float32), count + 1


def soft_step(field: Field, low: float, high: float) -> Field:
    """Return 0 below `low`, 1 above `high` and a smooth rise between them."""
    rise = np.clip((field - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(rise * rise * (np.float32(3) - np.float32(2) * rise), np.float32)


def blur(field: Field, sigma: float) -> Field:
    """Return a field or a picture under a Gaussian of `sigma` px, which moves nothing."""
    shrink = int(sigma / 1.5)
    if shrink < 2 or min(field.shape[:2]) < 8 * shrink:
        return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)
    # A wide Gaussian needs no full resolution: the mean of a block and the interpolation are part of the blur.
    height, width = field.shape[:2]
    small = cv2.resize(field, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), (sigma**2 / shrink**2 - 0.25) ** 0.5)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def resize(field: Field, shape_hw: tuple[int, int]) -> Field:
    """Return a field stretched to another size by cubic interpolation."""
    return np.asarray(cv2.resize(field, shape_hw[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def coordinates(shape_hw: tuple[int, int]) -> tuple[Field, Field]:
    """Return y as a column and x as a row, in px."""
    return np.arange(shape_hw[0], dtype=np.float32)[:, None], np.arange(shape_hw[1], dtype=np.float32)[None, :]


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Return a number between two positive ones, each factor as likely as another.

    Example:
        >>> 1 <= log_uniform(np.random.default_rng(0), 1.0, 20.0) <= 20
        True
    """
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _standard(field: Field) -> Field:
    mean, deviation = cv2.meanStdDev(field)
    return (field - np.float32(mean[0, 0])) / np.float32(max(deviation[0, 0], 1e-6))


def _octave(rng: Rng, shape_hw: tuple[int, int], size: float) -> Field:
    grid = (int(shape_hw[0] / size) + 2, int(shape_hw[1] / size) + 2)
    values = np.frombuffer(rng.bytes(grid[0] * grid[1]), np.uint8).reshape(grid)  # 10 times as fast as floats
    return values.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)
