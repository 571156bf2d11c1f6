"""Losses of outlines: probabilities weighed by their signed distance to the true outline, alone and in company.

Knows nothing about training; what changes from epoch to epoch is an argument.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cracktool.errors import UsageError
from cracktool.images import Mask
from cracktool.losses.pixels import Loss, draw_maps, in_precision, weighted_bce
from cracktool.losses.regions import generalised_dice, squared_dice
from cracktool.metrics.distances import distance_to


def boundary(logits: Tensor, target: Tensor, *, normalised: bool = True) -> Tensor:
    """Boundary loss, mean over all pixels: p phi, with phi the `signed_distance` of each image's own mask.

    The perfect prediction has the least value, the mean of phi t, which is 0 or below; in shares it is never below
    minus the share of crack, and no value is above 1. In thin cracks phi is 0 nearly everywhere, so that to find
    nothing is nearly perfect: use it with other losses.

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W), crack from 0.5 on.
        normalised: Distances as shares of the largest in the image, or in px.

    Source: Kervadec et al. 2019 (arXiv 1812.07032), equation 5; normalised as in Kondo and Ukita 2023 (CSBSR, arXiv
    2302.12491).
    """
    logits, target = in_precision(logits, target)
    phi = draw_maps(partial(signed_distance, normalised=normalised), target, logits)
    return (logits.sigmoid() * phi).mean()


def boundary_px(logits: Tensor, target: Tensor) -> Tensor:
    """`boundary` with distances in px."""
    return boundary(logits, target, normalised=False)


def signed_distance(mask: Mask, *, normalised: bool = True) -> npt.NDArray[np.float32]:
    """Return the distance of each pixel to the outline of the crack: above 0 outside, below 0 inside, 0 on its edge.

    Outside it is the distance to the nearest crack pixel; inside, minus the distance to the nearest background pixel.
    The edge are the crack pixels with a side against background. Beyond the border of the image there is nothing.

    The published map of a mask without crack is 0, which teaches nothing. This one is 1 everywhere: any crack found
    there is false. Where all is crack it is -1.

    Args:
        mask: (H, W).
        normalised: Divide each of the two sides by its largest distance, so that values lie in [-1, 1]; else px.

    Returns:
        (H, W).

    Example:
        >>> signed_distance(np.array([[False, False, True, True, True]])).tolist()
        [[1.0, 0.5, 0.0, -0.6666666865348816, -1.0]]
    """
    if mask.all() or not mask.any():
        return np.full(mask.shape, -1 if mask.any() else 1, np.float32)
    outside, inside = distance_to(mask), distance_to(~mask)
    edge = inside == 1
    if normalised:
        outside, inside = outside / outside.max(), inside / inside.max()
    signed = outside - inside
    signed[edge] = 0
    return signed


def boundary_combo(logits: Tensor, target: Tensor, *, alpha: float = 0.0) -> Tensor:
    """Boundary Combo loss: alpha L_B + (1 - alpha) (L_D + L_WCE) / 2.

    L_B is `boundary`, L_D `squared_dice` and L_WCE `weighted_bce` with equal weights: the loss named BoundaryCombo in
    the released code, at its settings.

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W), in [0, 1].
        alpha: Share of the boundary term, in [0, 1]; see `boundary_share`.

    Source: Kondo and Ukita 2023 (CSBSR, arXiv 2302.12491), with the terms of its released code.
    """
    return _combo(logits, target, squared_dice, alpha)


def boundary_combo_gdice(logits: Tensor, target: Tensor, *, alpha: float = 0.0) -> Tensor:
    """`boundary_combo` with `generalised_dice` as L_D, as the paper has it."""
    return _combo(logits, target, generalised_dice, alpha)


def boundary_share(epoch: int, *, ramp_epochs: int, cap: float) -> float:
    """Return the share alpha of the boundary term in an epoch: min(cap, epoch / ramp_epochs).

    It depends on nothing but its arguments, so a resumed run that knows its epoch has the share of one never stopped.
    CSBSR used 100 epochs and a cap of 0.99; another choice is a ramp over all epochs of the run.

    Args:
        epoch: Number of the epoch, from 0.
        ramp_epochs: Epochs in which the share would rise from 0 to 1, 1 or more.
        cap: The highest share, in [0, 1].

    Raises:
        UsageError: A value is out of its range.

    Example:
        >>> [boundary_share(epoch, ramp_epochs=4, cap=0.7) for epoch in range(5)]
        [0.0, 0.25, 0.5, 0.7, 0.7]
    """
    if epoch < 0 or ramp_epochs < 1 or not 0 <= cap <= 1:
        raise UsageError(
            f"no boundary share at epoch {epoch} of a ramp of {ramp_epochs} epochs up to {cap}",
            remedy="count epochs from 0, use a ramp of 1 epoch or more and a cap from 0 to 1",
        )
    return min(cap, epoch / ramp_epochs)


def _combo(logits: Tensor, target: Tensor, overlap: Loss, alpha: float) -> Tensor:
    rest = 0.5 * overlap(logits, target) + 0.5 * weighted_bce(logits, target)
    return alpha * boundary(logits, target) + (1 - alpha) * rest
