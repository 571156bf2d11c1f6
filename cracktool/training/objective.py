"""What a run minimises: a function of a network, its input and the targets to one number, made from the settings.

Knows nothing about data sets, optimisers or run folders.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from cracktool.config import TrainConfig
from cracktool.errors import UsageError
from cracktool.losses import Loss, boundary_share, combine, supervise
from cracktool.models import CSBSR, POOLINGS, Outputs, PaddedModel, joint_loss

Objective = Callable[[PaddedModel, Tensor, list[Tensor]], Tensor]
"""Network, normalised images (B, 3, H, W) and targets as `cracktool.data.Samples` gives them -> one number."""


def build_objective(config: TrainConfig, epoch: int) -> Objective:
    """Return the objective of one epoch, counted from 0: a function of the settings alone, so that resuming repeats it.

    Where masks teach, it is the loss of the main output plus ``aux_weight`` times that of each auxiliary one. Where
    the label of the image is all there is, the main logits are pooled to one per image first. Where samples are
    degraded, restoring them is learned too.

    Raises:
        UsageError: The settings name an unknown loss.
    """
    share = boundary_share(epoch, ramp_epochs=config.boundary_epochs or config.epochs, cap=config.boundary_cap)
    loss = combine(config.loss, alpha=share)
    if config.supervision == "image":
        return _of_labels(loss, config.pooling)
    if config.degrade:
        return _of_restoring(loss, config, beta=0 if epoch < config.restore_epochs else config.beta)
    supervised = supervise(loss, aux_weight=config.aux_weight)

    def of_masks(model: PaddedModel, x: Tensor, targets: list[Tensor]) -> Tensor:
        (mask,) = targets
        return supervised(model(x), mask.float())

    return of_masks


def _of_labels(loss: Loss, pooling: str) -> Objective:
    def of_labels(model: PaddedModel, x: Tensor, targets: list[Tensor]) -> Tensor:
        (label,) = targets
        return loss(image_logits(model(x), pooling), label.float())

    return of_labels


def _of_restoring(loss: Loss, config: TrainConfig, *, beta: float) -> Objective:
    def of_restoring(model: PaddedModel, x: Tensor, targets: list[Tensor]) -> Tensor:
        if not isinstance(model, CSBSR):
            raise UsageError(f"{config.model} restores no photos", remedy="set degrade=false, or use a csbsr_ model")
        mask, sharp, kernel = targets
        return joint_loss(
            model,
            x,
            sharp.float() / 255,
            kernel,
            mask.float(),
            pixel_loss=loss,
            beta=beta,
            aux_weight=config.aux_weight,
        )

    return of_restoring


def image_logits(outputs: Outputs, pooling: str) -> Tensor:
    """Return one logit per image (B, 1, 1, 1), pooled from the main logits (B, 1, H, W)."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return POOLINGS[pooling](logits).view(-1, 1, 1, 1)
