"""Losses of single pixels, each on its own, and what all losses share: precision, and maps drawn from masks.

Knows nothing about the shape of cracks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from cracktool.images import Mask

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of logits and target, both (B, 1, H, W), to one number."""

ABSENT_SHARE = 0.01
"""Share of the pixels that a class without any pixel is taken to have; cracks fill 1 to 5 % of most data sets."""


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, mean over all pixels: -[t log p + (1 - t) log(1 - p)], p = sigmoid(logit)."""
    return F.binary_cross_entropy_with_logits(*in_precision(logits, target))


def weighted_bce(logits: Tensor, target: Tensor, *, crack_weight: float = 1.0) -> Tensor:
    """Weighted cross-entropy, mean over all pixels: -[w t log p + (1 - t) log(1 - p)] / (w + 1).

    With the weight w = 1 it is half of `bce`.

    Source: Kondo and Ukita 2023 (CSBSR, arXiv 2302.12491), the term L_WCE; w = 20 in its predecessor CSSR.
    """
    logits, truth = in_precision(logits, target)
    weight = crack_weight / (crack_weight + 1)
    return _cross_entropy(logits, truth, weight, 1 - weight)


def balanced_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Class-balanced cross-entropy, mean over all pixels: -[w1 t log p + w0 (1 - t) log(1 - p)].

    Each class weighs as much as the other one fills of the batch: w1 = N0 / N and w0 = 1.1 N1 / N, with N1 the sum of
    the target over the batch, N0 that of its inverse, and N = N0 + N1 px. In a batch of one class alone these weights
    would leave nothing to learn, so the class that is absent counts there as if it filled 1 % of the batch.

    Source: Liu et al. 2021 (CrackFormer, ICCV) and its released code, after Xie and Tu 2015 (HED, arXiv 1504.06375).
    """
    logits, truth = in_precision(logits, target)
    crack, background = present(truth.mean()), present((1 - truth).mean())
    return _cross_entropy(logits, truth, background, 1.1 * crack)


def focal(logits: Tensor, target: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss, mean over all pixels: -a_t (1 - p_t)^gamma log(p_t).

    p_t is the probability given to the true class, a_t is alpha on crack and 1 - alpha on background.

    Source: Lin et al. 2017 (arXiv 1708.02002), equation 5.
    """
    logits, truth = in_precision(logits, target)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probs = logits.sigmoid()
    wrong = probs * (1 - truth) + (1 - probs) * truth
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return (weight * wrong.pow(gamma) * entropy).mean()


def in_precision(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and target in float64 if the logits are, else in float32."""
    # Sums over a million pixels lose most of their digits in half precision.
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return precise, target.to(precise.dtype)


def present(share: Tensor) -> Tensor:
    """Return the shares of classes, in [0, 1], with `ABSENT_SHARE` for those of classes without any pixel."""
    return torch.where(share == 0, ABSENT_SHARE, share)


def is_crack(target: Tensor) -> Tensor:
    """Return where a target, soft or not, is crack: 0.5 and above."""
    return target >= 0.5


def draw_maps(draw: Callable[[Mask], npt.NDArray[Any]], target: Tensor, like: Tensor) -> Tensor:
    """Return maps (B, 1, H, W), of the type and on the device of `like`, each drawn on the CPU from one image's mask.

    Args:
        draw: From a mask to a map (H, W). It never sees two images, so nothing leaks from one to the other.
        target: (B, 1, H, W), crack from 0.5 on.
        like: A tensor of the type and device to return.
    """
    masks = is_crack(target)[:, 0].cpu().numpy()
    return torch.from_numpy(np.stack([draw(mask) for mask in masks])).unsqueeze(1).to(like)


def _cross_entropy(logits: Tensor, truth: Tensor, crack: float | Tensor, background: float | Tensor) -> Tensor:
    on_crack = crack * truth * F.logsigmoid(logits)
    on_background = background * (1 - truth) * F.logsigmoid(-logits)
    return -(on_crack + on_background).mean()
