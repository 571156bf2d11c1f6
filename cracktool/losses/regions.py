"""Losses of regions: how well the crack found and the true crack cover each other.

Knows nothing about distances or lines.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cracktool.losses.pixels import in_precision, is_crack, present

_PIXELS = (1, 2, 3)


def dice(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Dice loss per image, mean over the batch: 1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s).

    The smoothing s, in px, keeps an empty mask differentiable: there the loss is 1 - s / (sum(p) + s).

    Source: Milletari et al. 2016 (V-Net, arXiv 1606.04797), with linear terms in the denominator.
    """
    return dice_of_images(logits, target, smooth=smooth).mean()


def dice_of_images(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Return the `dice` loss of each image, (B,)."""
    logits, truth = in_precision(logits, target)
    probs = logits.sigmoid()
    overlap = (probs * truth).sum(_PIXELS)
    total = probs.sum(_PIXELS) + truth.sum(_PIXELS)
    return 1 - (2 * overlap + smooth) / (total + smooth)


def batch_dice(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Dice loss of all pixels of the batch in one count: 1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s).

    The pooled form is that of segmentation_models_pytorch, which however sets the loss to 0 where the batch has no
    crack. This one does not: false crack costs 1 - s / (sum(p) + s) there, with the smoothing s in px.
    """
    return dice(logits.reshape(1, 1, 1, -1), target.reshape(1, 1, 1, -1), smooth=smooth)


def squared_dice(logits: Tensor, target: Tensor, *, smooth: float = 1e-6) -> Tensor:
    """V-Net's Dice loss per image, mean over the batch: 1 - (2 sum(p t) + s) / (sum(p^2) + sum(t^2) + s).

    A part of `boundary_combo` and none of `LOSSES`: at this smoothing, in px, an empty mask hardly has a gradient.

    Source: Milletari et al. 2016 (V-Net, arXiv 1606.04797), section 3.
    """
    logits, truth = in_precision(logits, target)
    probs = logits.sigmoid()
    overlap = (probs * truth).sum(_PIXELS)
    total = probs.square().sum(_PIXELS) + truth.square().sum(_PIXELS)
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def generalised_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Generalised Dice loss per image, mean over the batch: 1 - 2 sum_c(w_c sum(p t)) / sum_c(w_c sum(p + t)).

    The classes c are crack (p, t) and background (1 - p, 1 - t), each with the weight w_c = 1 / n_c^2, where n_c is
    its true share of the image: shares in place of pixel counts leave the value as it is and make it one for all
    sizes of image. A class that is absent has no weight in the published form; here it has that of a class that fills
    1 % of the image, so that an empty mask teaches, and nothing else needs smoothing.

    Source: Sudre et al. 2017 (arXiv 1707.03237), section 2.1.
    """
    logits, truth = in_precision(logits, target)
    probs = torch.cat([logits.sigmoid(), (-logits).sigmoid()], dim=1)  # (B, 2, H, W)
    classes = torch.cat([truth, 1 - truth], dim=1)
    share = classes.mean((2, 3))  # (B, 2)
    weight = present(share).pow(-2)
    # 1 - 2 sum(w p t) / sum(w (p + t)) with the 1 inside: p + t - 2 p t keeps its digits where the loss is near 0.
    wrong = (probs * (1 - classes) + (1 - probs) * classes).mean((2, 3))
    total = probs.mean((2, 3)) + share
    return ((weight * wrong).sum(1) / (weight * total).sum(1)).mean()


def tversky(logits: Tensor, target: Tensor, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> Tensor:
    """Tversky loss per image, mean over the batch: 1 - (TP + s) / (TP + alpha FP + beta FN + s).

    beta > alpha punishes missed crack more than false crack; alpha = beta = 0.5 is Dice.

    Source: Salehi et al. 2017 (arXiv 1706.05721), equation 3.
    """
    logits, truth = in_precision(logits, target)
    probs = logits.sigmoid()
    hit = (probs * truth).sum(_PIXELS)
    false_alarm = (probs * (1 - truth)).sum(_PIXELS)
    missed = ((1 - probs) * truth).sum(_PIXELS)
    return (1 - (hit + smooth) / (hit + alpha * false_alarm + beta * missed + smooth)).mean()


def lovasz(logits: Tensor, target: Tensor) -> Tensor:
    """Lovász hinge per image, mean over the batch: the convex extension of 1 - IoU to the errors of the pixels.

    The error of a pixel is max(0, 1 - y logit), y = 1 on crack (t >= 0.5) and -1 on background. With the errors in
    falling order, each weighs what its pixel, when wrong as well, adds to 1 - IoU. The value has no upper limit. On an
    empty mask the first wrong pixel brings the IoU down to 0, so the largest error of the image is all that counts.

    Source: Berman et al. 2018 (arXiv 1705.08790), equations 8, 9 and 12.
    """
    logits, target = in_precision(logits, target)
    crack = is_crack(target).to(logits.dtype).flatten(1)  # (B, pixels)
    errors = (1 - logits.flatten(1) * (2 * crack - 1)).relu()
    errors, order = errors.sort(dim=1, descending=True, stable=True)
    crack = crack.gather(1, order)
    intersection = crack.sum(1, keepdim=True) - crack.cumsum(1)
    union = crack.sum(1, keepdim=True) + (1 - crack).cumsum(1)
    weights = (1 - intersection / union).diff(dim=1, prepend=torch.zeros_like(union[:, :1]))
    return (errors * weights).sum(1).mean()
