"""Losses: each a function of logits and a target, averaged to one number; ``combine`` adds them up by name.

Knows nothing about models or training. Logits are float (B, 1, H, W), targets float in [0, 1] of the same shape.
Every loss is computed in float32 at least, whatever the type of the logits, and gives a gradient on an empty mask too.

=====================  ========================================================================================
name                   what it measures
=====================  ========================================================================================
bce                    log likelihood of each pixel
balanced_bce           the same, the two classes weighed against each other in each batch (CrackFormer-II)
focal                  the same, with less weight on what is nearly right
dice                   overlap, image by image
batch_dice             overlap, all pixels of the batch in one count
generalised_dice       overlap of crack and of background, each weighed by its size
tversky                overlap, with missed crack dearer than false crack
lovasz                 intersection over union, as the Lovász hinge
boundary               distance between outlines, as shares of the largest distance in the image
boundary_px            distance between outlines, in px
boundary_combo         boundary, squared Dice and cross-entropy, with a share that changes from epoch to epoch
boundary_combo_gdice   the same with generalised Dice
cldice                 overlap of centre lines with the other mask, both ways
skeleton_recall        share of the true centre lines that is found
=====================  ========================================================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from cracktool.errors import UsageError, did_you_mean
from cracktool.losses.boundary import (
    boundary,
    boundary_combo,
    boundary_combo_gdice,
    boundary_px,
    boundary_share,
    signed_distance,
)
from cracktool.losses.centrelines import cldice, skeleton_recall
from cracktool.losses.pixels import Loss, balanced_bce, bce, focal, weighted_bce
from cracktool.losses.regions import batch_dice, dice, generalised_dice, lovasz, squared_dice, tversky
from cracktool.losses.restoring import SR_WEIGHTS

__all__ = [
    "COMBOS",
    "LOSSES",
    "SR_WEIGHTS",
    "Loss",
    "balanced_bce",
    "batch_dice",
    "bce",
    "boundary",
    "boundary_combo",
    "boundary_combo_gdice",
    "boundary_px",
    "boundary_share",
    "cldice",
    "combine",
    "dice",
    "focal",
    "generalised_dice",
    "lovasz",
    "signed_distance",
    "skeleton_recall",
    "squared_dice",
    "supervise",
    "tversky",
    "weighted_bce",
]

_TERM = re.compile(r"(?:(?P<weight>\d*\.?\d+)\s*\*\s*)?(?P<name>[a-z_]+)")


class Combo(Protocol):
    """A loss with a share of the boundary term."""

    def __call__(self, logits: Tensor, target: Tensor, *, alpha: float = 0.0) -> Tensor:
        """Return the loss with the share `alpha`, in [0, 1], of the boundary term."""


COMBOS: dict[str, Combo] = {"boundary_combo": boundary_combo, "boundary_combo_gdice": boundary_combo_gdice}
"""The losses of `LOSSES` that have a share of the boundary term; called without one they have none of it."""

LOSSES: dict[str, Loss] = {
    "bce": bce,
    "balanced_bce": balanced_bce,
    "focal": focal,
    "dice": dice,
    "batch_dice": batch_dice,
    "generalised_dice": generalised_dice,
    "tversky": tversky,
    "lovasz": lovasz,
    "boundary": boundary,
    "boundary_px": boundary_px,
    **COMBOS,
    "cldice": cldice,
    "skeleton_recall": skeleton_recall,
}


def combine(formula: str, *, alpha: float = 0.0) -> Loss:
    """Return the weighted sum of losses that a formula names.

    Args:
        formula: Names of `LOSSES` joined by ``+``, each with an optional weight in front: ``0.5*bce+dice``.
        alpha: Share of the boundary term in the losses of `COMBOS`, in [0, 1]; the others have none. See
            `boundary_share` for the share of an epoch.

    Raises:
        UsageError: The formula cannot be read, or names an unknown loss; or `alpha` is out of its range.

    Example:
        >>> combine("0.5*bce+0.5*dice")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)) > 0
        tensor(True)
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"the boundary share is {alpha}, expected 0 to 1")
    terms = [_parse_term(text.strip(), formula, alpha) for text in formula.split("+")]

    def total(logits: Tensor, target: Tensor) -> Tensor:
        return torch.stack([weight * loss(logits, target) for weight, loss in terms]).sum()

    return total


def supervise(loss: Loss, *, aux_weight: float) -> Callable[[Tensor | tuple[Tensor, ...], Tensor], Tensor]:
    """Return a loss for networks with auxiliary outputs (deep supervision).

    Args:
        loss: Applied to each output.
        aux_weight: Weight of each output but the first, 0 or more: 0.4 in PSPNet and CSBSR, 1 in CrackFormer-II.

    Returns:
        A function of the outputs, one tensor or a tuple of (B, 1, H, W) with the main output first, and the target:
        the loss of the first plus `aux_weight` times the sum of the losses of the others.

    Raises:
        UsageError: `aux_weight` is negative or not a number.

    Example:
        >>> main, aux, target = torch.zeros(3, 1, 1, 4, 4)
        >>> supervise(bce, aux_weight=0.4)((main[None], aux[None]), target[None])
        tensor(0.9704)
    """
    if not 0 <= aux_weight < math.inf:
        raise UsageError(f"the weight of auxiliary outputs is {aux_weight}, expected 0 or more")

    def total(outputs: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):
            return loss(outputs, target)
        main, *others = outputs
        return torch.stack([loss(main, target), *(aux_weight * loss(other, target) for other in others)]).sum()

    return total


def _parse_term(text: str, formula: str, alpha: float) -> tuple[float, Loss]:
    match = _TERM.fullmatch(text)
    if match is None:
        raise UsageError(f"the loss {formula!r} cannot be read", remedy="write names joined by +, such as 0.5*bce+dice")
    name = match["name"]
    if name not in LOSSES:
        remedy = did_you_mean(name, LOSSES) or f"use a sum of {', '.join(LOSSES)}"
        raise UsageError(f"no loss {name!r} in {formula!r}", remedy=remedy)
    loss = partial(COMBOS[name], alpha=alpha) if name in COMBOS else LOSSES[name]
    return float(match["weight"] or 1), loss
