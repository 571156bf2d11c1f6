"""What a run minimises: a function of a network, its input and the targets to one number, made from the settings.

Knows nothing about data sets, optimisers or run folders.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cracktool.config import TrainConfig
from cracktool.data import IGNORED
from cracktool.losses import SR_WEIGHTS, Loss, boundary_share, combine, supervise
from cracktool.models import CSBSR, POOLINGS, Outputs, PaddedModel, joint_loss, main_logits

Objective = Callable[[PaddedModel, Tensor, list[Tensor]], Tensor]
"""Network, normalised images (B, 3, H, W) and targets as `cracktool.data.Samples` gives them -> one number."""

Supervised = Callable[[Outputs, Tensor], Tensor]

SURELY_BACKGROUND = -30.0
"""Logit that stands where a pixel is ignored: a probability of 1e-13, far below what any loss can tell from 0."""


def build_objective(config: TrainConfig, epoch: int) -> Objective:
    """Return the objective of one epoch, counted from 0: a function of the settings alone, so that resuming repeats it.

    Where masks teach, it is the loss of the main output plus ``aux_weight`` times that of each auxiliary one; where
    these are pseudo-masks, it is the loss `without_ignored` pixels. Where the label of the image is all there is, the
    main logits are pooled to one per image first. Where samples are degraded, restoring them is learned too.

    Raises:
        UsageError: The settings name an unknown loss.
    """
    share = boundary_share(epoch, ramp_epochs=config.boundary_epochs or config.epochs, cap=config.boundary_cap)
    loss = combine(config.loss, alpha=share)
    if config.supervision == "image":
        return _of_labels(loss, config.pooling)
    if config.degrade:
        return _of_restoring(loss, config, beta=0 if epoch < config.restore_epochs else config.beta)
    if config.supervision == "pseudo" or config.unlabelled:
        loss = without_ignored(loss)
    supervised = supervise(loss, aux_weight=config.aux_weight)
    if config.distil:
        return _of_masks_and_teacher(supervised, config.distil)

    def of_masks(model: PaddedModel, x: Tensor, targets: list[Tensor]) -> Tensor:
        (mask,) = targets
        return supervised(model(x), mask.float())

    return of_masks


def _of_masks_and_teacher(supervised: Supervised, weight: float) -> Objective:
    """Hinton et al. 2015, arXiv 1503.02531, with the teacher's probabilities as they are (temperature 1)."""
    cross_entropy = combine("bce")

    def of_masks_and_teacher(model: PaddedModel, x: Tensor, targets: list[Tensor]) -> Tensor:
        mask, probs = targets
        outputs = model(x)
        return supervised(outputs, mask.float()) + weight * cross_entropy(main_logits(outputs), probs)

    return of_masks_and_teacher


def _of_labels(loss: Loss, pooling: str) -> Objective:
    def of_labels(model: PaddedModel, x: Tensor, targets: list[Tensor]) -> Tensor:
        (label,) = targets
        return loss(image_logits(model(x), pooling), label.float())

    return of_labels


def _of_restoring(loss: Loss, config: TrainConfig, *, beta: float) -> Objective:
    supervised = supervise(loss, aux_weight=config.aux_weight)

    def of_restoring(model: PaddedModel, x: Tensor, targets: list[Tensor]) -> Tensor:
        mask, sharp, kernel = targets
        if not isinstance(model, CSBSR):  # it enlarges, but has no restored photo to compare
            return supervised(model(x), mask.float())
        return joint_loss(
            model,
            x,
            sharp.float() / 255,
            kernel,
            mask.float(),
            supervised=supervised,
            beta=beta,
            pixel_weights=SR_WEIGHTS[config.sr_weights],
        )

    return of_restoring


def without_ignored(loss: Loss) -> Loss:
    """Return a loss to which pixels with the target `IGNORED` give no gradient, and no more than rounding.

    They stand there as background that was surely found, which adds nothing to the numerator or denominator of an
    overlap. They do count as pixels: `bce` and the other means over all pixels become smaller by the share of ignored
    pixels. So each sure pixel weighs the same in all images, however many of its neighbours are ignored; divided by
    the sure pixels alone, an image of few of them would shout. They also count as background where `balanced_bce` and
    `generalised_dice` weigh the classes by size.

    Example:
        >>> logits, target = torch.zeros(1, 1, 1, 2), torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
        >>> without_ignored(combine("bce"))(logits, target)
        tensor(0.3466)
    """

    def of_sure_pixels(logits: Tensor, target: Tensor) -> Tensor:
        ignored = target == IGNORED
        return loss(torch.where(ignored, SURELY_BACKGROUND, logits), torch.where(ignored, 0, target))

    return of_sure_pixels


def image_logits(outputs: Outputs, pooling: str) -> Tensor:
    """Return one logit per image (B, 1, 1, 1), pooled from the main logits (B, 1, H, W)."""
    return POOLINGS[pooling](main_logits(outputs)).view(-1, 1, 1, 1)
