"""Losses of centre lines: a crack that breaks in two costs as much where it is thin as where it is wide.

Knows nothing about the metrics of the same name, which count pixels and have no gradient.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from cracktool.images import Mask
from cracktool.losses.pixels import draw_maps, in_precision, is_crack
from cracktool.losses.regions import dice_of_images

EROSIONS = 10
"""Of the soft skeleton in `cldice`: at least half the width of the widest crack, in px."""

SMOOTH = 1.0
"""What `cldice` adds to each sum, in px."""

_PIXELS = (1, 2, 3)


def cldice(logits: Tensor, target: Tensor) -> Tensor:
    """Soft clDice loss per image, mean over the batch: 1 - 2 P R / (P + R).

    P = (sum(S(p) t) + 1) / (sum(S(p)) + 1) is the share of the line found that lies on true crack, R the share of the
    true line that lies on crack found, with p and t in exchange; S is `soft_skeleton`. Targets count as crack from 0.5
    on. The paper adds Dice: ``0.5*dice+0.5*cldice``.

    A true mask without such a line (empty, all crack, or too wide for the erosions) would teach nothing or hardly
    anything. The loss of such an image is `dice`.

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W).

    Source: Shit et al. 2021 (arXiv 2003.07311), algorithms 1 and 2.
    """
    logits, target = in_precision(logits, target)
    probs, truth = logits.sigmoid(), is_crack(target).to(logits.dtype)
    found_line, true_line = soft_skeleton(probs, EROSIONS), soft_skeleton(truth, EROSIONS)
    precision = ((found_line * truth).sum(_PIXELS) + SMOOTH) / (found_line.sum(_PIXELS) + SMOOTH)
    recall = ((true_line * probs).sum(_PIXELS) + SMOOTH) / (true_line.sum(_PIXELS) + SMOOTH)
    loss = 1 - 2 * precision * recall / (precision + recall)
    return torch.where(true_line.sum(_PIXELS) > 0, loss, dice_of_images(logits, target)).mean()


def soft_skeleton(probs: Tensor, iterations: int) -> Tensor:
    """Return the differentiable centre line of soft masks: what an opening removes, from each of a row of erosions.

    Args:
        probs: (B, 1, H, W), in [0, 1].
        iterations: Erosions, each of 1 px on every side.

    Returns:
        (B, 1, H, W), in [0, 1]; for a mask of 0 and 1 the pixels of its line.

    Source: Shit et al. 2021 (arXiv 2003.07311), algorithm 1, with a cross for erosion and a square for dilation.
    """
    line = torch.zeros_like(probs)
    for _ in range(iterations + 1):
        eroded = torch.minimum(_least(probs, (3, 1)), _least(probs, (1, 3)))
        removed = (probs - F.max_pool2d(eroded, 3, stride=1, padding=1)).relu()
        line = line + removed * (1 - line)
        probs = eroded
    return line


def skeleton_recall(logits: Tensor, target: Tensor) -> Tensor:
    """Skeleton recall loss per image, mean over the batch: 1 - sum(p S) / sum(S), S the `tubed_skeleton` of the target.

    False crack is free, so use it with other losses, such as ``bce+dice+skeleton_recall``. Targets count as crack from
    0.5 on. An image without crack has no line to be found, and would teach nothing; its loss is `dice`.

    Source: Kirchhoff et al. 2024 (arXiv 2404.03010), section 3.
    """
    logits, target = in_precision(logits, target)
    line = draw_maps(tubed_skeleton, target, logits)
    length = line.sum(_PIXELS)
    loss = 1 - (logits.sigmoid() * line).sum(_PIXELS) / length.clamp(min=1)
    return torch.where(length > 0, loss, dice_of_images(logits, target)).mean()


def tubed_skeleton(mask: Mask) -> npt.NDArray[np.uint8]:
    """Return 1 within 2 steps, each up, down, left or right, of the mask's skeleton and inside the mask, else 0.

    Args:
        mask: (H, W).

    Returns:
        (H, W).

    Source: Kirchhoff et al. 2024 (arXiv 2404.03010), algorithm 1; skeleton of Zhang and Suen 1984, by scikit-image.
    """
    from skimage.morphology import skeletonize  # 0.3 s, and most trainings need no skeleton

    line = skeletonize(mask).astype(np.uint8)  # type: ignore[no-untyped-call]
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return np.asarray(cv2.dilate(line, cross, iterations=2) * mask, np.uint8)


def _least(x: Tensor, window: tuple[int, int]) -> Tensor:
    return -F.max_pool2d(-x, window, stride=1, padding=(window[0] // 2, window[1] // 2))
