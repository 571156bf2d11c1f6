"""Losses: each a function of logits and a target, averaged to one number; ``combine`` adds them up by name.

Knows nothing about models or training. Logits are float (B, 1, H, W), targets float in [0, 1] of the same shape.
Every loss is computed in float32 at least, whatever the type of the logits, and gives a gradient on an empty mask too.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cracktool.errors import UsageError, did_you_mean

Loss = Callable[[Tensor, Tensor], Tensor]

_PIXELS = (1, 2, 3)


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, mean over all pixels: -[t log p + (1 - t) log(1 - p)], p = sigmoid(logit)."""
    return F.binary_cross_entropy_with_logits(*_precise(logits, target))


def dice(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Dice loss per image, mean over the batch: 1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s).

    The smoothing s, in px, keeps an empty mask differentiable: there the loss is 1 - s / (sum(p) + s).

    Source: Milletari et al. 2016 (V-Net, arXiv 1606.04797), with linear terms in the denominator.
    """
    logits, truth = _precise(logits, target)
    probs = logits.sigmoid()
    overlap = (probs * truth).sum(_PIXELS)
    total = probs.sum(_PIXELS) + truth.sum(_PIXELS)
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def focal(logits: Tensor, target: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss, mean over all pixels: -a_t (1 - p_t)^gamma log(p_t).

    p_t is the probability given to the true class, a_t is alpha on crack and 1 - alpha on background.

    Source: Lin et al. 2017 (arXiv 1708.02002), equation 5.
    """
    logits, truth = _precise(logits, target)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probs = logits.sigmoid()
    wrong = probs * (1 - truth) + (1 - probs) * truth
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return (weight * wrong.pow(gamma) * entropy).mean()


def tversky(logits: Tensor, target: Tensor, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> Tensor:
    """Tversky loss per image, mean over the batch: 1 - (TP + s) / (TP + alpha FP + beta FN + s).

    beta > alpha punishes missed crack more than false crack; alpha = beta = 0.5 is Dice.

    Source: Salehi et al. 2017 (arXiv 1706.05721), equation 3.
    """
    logits, truth = _precise(logits, target)
    probs = logits.sigmoid()
    hit = (probs * truth).sum(_PIXELS)
    false_alarm = (probs * (1 - truth)).sum(_PIXELS)
    missed = ((1 - probs) * truth).sum(_PIXELS)
    return (1 - (hit + smooth) / (hit + alpha * false_alarm + beta * missed + smooth)).mean()


LOSSES: dict[str, Loss] = {"bce": bce, "dice": dice, "focal": focal, "tversky": tversky}

_TERM = re.compile(r"(?:(?P<weight>\d*\.?\d+)\s*\*\s*)?(?P<name>[a-z_]+)")


def combine(formula: str) -> Loss:
    """Return the weighted sum of losses that a formula names.

    Args:
        formula: Names of `LOSSES` joined by ``+``, each with an optional weight in front: ``0.5*bce+dice``.

    Raises:
        UsageError: The formula cannot be read, or names an unknown loss.

    Example:
        >>> combine("0.5*bce+0.5*dice")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)) > 0
        tensor(True)
    """
    terms = [_parse_term(text.strip(), formula) for text in formula.split("+")]

    def total(logits: Tensor, target: Tensor) -> Tensor:
        return torch.stack([weight * loss(logits, target) for weight, loss in terms]).sum()

    return total


def _precise(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    # Sums over a million pixels lose most of their digits in half precision.
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return precise, target.to(precise.dtype)


def _parse_term(text: str, formula: str) -> tuple[float, Loss]:
    match = _TERM.fullmatch(text)
    if match is None:
        raise UsageError(f"the loss {formula!r} cannot be read", remedy="write names joined by +, such as 0.5*bce+dice")
    name = match["name"]
    if name not in LOSSES:
        remedy = did_you_mean(name, LOSSES) or f"use a sum of {', '.join(LOSSES)}"
        raise UsageError(f"no loss {name!r} in {formula!r}", remedy=remedy)
    return float(match["weight"] or 1), LOSSES[name]
