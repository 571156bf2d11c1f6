"""Degradation: sharp photos made blurred and small, to teach networks that undo it (Kondo & Ukita 2024, CSBSR).

Knows nothing about networks; the only randomness is that of the generator handed in.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cracktool.errors import UsageError

SCALE = 4
"""Side of the sharp photo over side of the degraded one."""

KERNEL_SIDE = 21
"""Side of a blur kernel, in pixels of the sharp photo."""


SIGMA = (0.2, 4.0)
"""Smallest and largest standard deviation of the blur along each of its axes, px of the sharp photo."""


def degrade_randomly(
    image: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Do to a sharp photo what CSBSR does: blur by a random Gaussian, then every fourth pixel by bicubic.

    Args:
        image: Sharp photo, uint8 (H, W, 3), both sides 4 px at least.
        rng: Source of the kernel; the same state gives the same.

    Returns:
        The degraded photo, uint8 (H // 4, W // 4, 3), and the kernel, float32 (21, 21), that blurred it.

    Raises:
        UsageError: The photo has fewer than 4 rows or columns.

    Example:
        >>> small, kernel = degrade_randomly(np.zeros((64, 99, 3), np.uint8), np.random.default_rng(5))
        >>> small.shape, kernel.shape
        ((16, 24, 3), (21, 21))
    """
    kernel = random_kernel(rng)
    return degrade(image, kernel), kernel


def random_kernel(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw an anisotropic Gaussian kernel, float32 (21, 21), that sums to 1.

    Its standard deviations along its own two axes are uniform over `SIGMA`, independent of each other; the angle of
    the first axis is uniform over half a turn. The same state of `rng` gives the same kernel.

    Args:
        rng: Source of the three numbers that are drawn.

    Source: Kondo & Ukita 2024 (IEEE TIM 73, 5013816).

    Example:
        >>> float(random_kernel(np.random.default_rng(5)).sum()).__round__(6)
        1.0
    """
    sigma_x, sigma_y = rng.uniform(*SIGMA, size=2)
    angle = rng.uniform(0, np.pi)
    reach = KERNEL_SIDE // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    density = np.exp(-((along / sigma_x) ** 2 + (across / sigma_y) ** 2) / 2)
    return np.asarray(density / density.sum(), np.float32)


def degrade(image: NDArray[np.uint8], kernel: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Blur a photo with a kernel and shrink it to a quarter by bicubic interpolation, with no further smoothing.

    The up to three rows and columns beyond a multiple of four are cut off first, so that pixel (i, j) of the result
    lies in the middle of rows 4 i to 4 i + 3 and columns 4 j to 4 j + 3. Rounded once, at the end.
    Beyond the borders the photo is mirrored; black there, as published, would darken a rim of up to 10 px.

    Args:
        image: Sharp photo, uint8 (H, W, 3), both sides 4 px at least.
        kernel: Weights (21, 21), laid on the photo without turning (cross-correlation).

    Returns:
        The degraded photo, uint8 (H // 4, W // 4, 3).

    Raises:
        UsageError: The photo has fewer than 4 rows or columns.

    Example:
        >>> degrade(np.full((10, 8, 3), 90, np.uint8), random_kernel(np.random.default_rng(5)))[..., 0].tolist()
        [[90, 90], [90, 90]]
    """
    height, width = image.shape[0] // SCALE, image.shape[1] // SCALE
    if not (height and width):
        raise UsageError(f"a photo of {image.shape[1]} x {image.shape[0]} px cannot be shrunk to a quarter")
    sharp = image[: height * SCALE, : width * SCALE].astype(np.float32)
    blurred = cv2.filter2D(sharp, -1, np.asarray(kernel, np.float32), borderType=cv2.BORDER_REFLECT_101)
    small = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(np.rint(small), 0, 255), np.uint8)
