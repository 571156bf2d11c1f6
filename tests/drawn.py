"""Cracks of exactly known place and width, drawn for tests and benchmarks: blurred rectangles along lines."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.special import ndtr


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a crack looks: blur and noise in px and grey levels, depth as a share of the background."""

    blur: float = 1.0
    depth: float = 0.85
    background: float = 150.0
    noise: float = 4.0
    texture: float = 0.0


def turned(line, angle, centre):
    """Turn a line (N, 2) of (y, x) anticlockwise by degrees around its middle and lay that on `centre`."""
    t = np.radians(angle)
    rotation = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    return (line - (line.min(axis=0) + line.max(axis=0)) / 2) @ rotation.T + centre


def straight(length):
    return np.column_stack([np.zeros(2), [0.0, length]])


def sinusoid(amplitude, period, span):
    x = np.linspace(0, span, 4000)
    return np.column_stack([amplitude * np.sin(2 * np.pi * x / period), x])


def arc(radius, turn):
    t = np.linspace(0, np.radians(turn), 4000)
    return radius * np.column_stack([np.sin(t), np.cos(t)])


def draw(line, width, shape, look=None, seed=0):
    """Return a grey photo, its mask with flat ends, and the line's length. Pixels count as averages of their area."""
    look = look or Look()
    distance = _distance(line, shape, spacing=0.05 * max(1, width / 50))  # the nearest of many far points takes long
    # A pixel averages over its square: to second order a blur of variance 1/12 whatever the direction.
    if look.blur:
        sigma = np.hypot(look.blur, 12**-0.5)
        covered = ndtr((distance + width / 2) / sigma) - ndtr((distance - width / 2) / sigma)
    else:
        covered = np.clip(np.minimum(distance + 0.5, width / 2) - np.maximum(distance - 0.5, -width / 2), 0, None)
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, look.noise, shape)
    if look.texture:
        rough = gaussian_filter(rng.normal(size=shape), 1.5)
        noise += look.texture * rough / rough.std()
    grey = look.background * (1 - look.depth * covered) + noise
    photo = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return photo, distance <= max(width / 2, 0.5), float(np.hypot(*np.diff(line, axis=0).T).sum())


def _distance(line, shape, spacing):
    """Return the distance of each pixel's centre from the line; far beyond its ends."""
    at = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    even = np.arange(0, at[-1] + 0.02, spacing).clip(max=at[-1])
    dense = np.column_stack([np.interp(even, at, line[:, axis]) for axis in (0, 1)])
    pixels = np.argwhere(np.ones(shape, bool)).astype(float)
    _, nearest = cKDTree(dense).query(pixels)
    tangent = np.gradient(dense, axis=0)
    tangent /= np.hypot(*tangent.T)[:, None]
    off = pixels - dense[nearest]
    across = np.abs(off[:, 0] * tangent[nearest, 1] - off[:, 1] * tangent[nearest, 0])
    along = (off * tangent[nearest]).sum(axis=1)
    beyond = ((nearest == 0) & (along < -0.03)) | ((nearest == len(dense) - 1) & (along > 0.03))
    return np.where(beyond, 1e3, across).reshape(shape)
