"""What teachers add to a batch: soft targets of a larger network, or masks for photos that have none.

Everything happens on the run's device; photos and files are left to the loader.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from cracktool.config import TrainConfig
from cracktool.data import IGNORED, UNKNOWN, Normalise
from cracktool.device import Choice
from cracktool.errors import UsageError
from cracktool.inference import load_network
from cracktool.models import Outputs, PaddedModel
from cracktool.training.state import State

Batch = tuple[Tensor, list[Tensor]]
"""Normalised images (B, 3, H, W) and their targets, on the device."""


class Teaching(Protocol):
    """What is done to each batch before the network sees it."""

    def __call__(self, images: Tensor, targets: list[Tensor], *, epoch: int) -> Batch:
        """Return the batch of an epoch, counted from 0, of images uint8 (B, 3, H, W) and targets of the loader."""


def build_teaching(config: TrainConfig, choice: Choice, state: State, normalise: Normalise) -> Teaching:
    """Return what is done to each batch before the network sees it.

    Raises:
        UsageError: The teacher does not fit.
        WeightsError: The teacher cannot be had.
    """

    def plain(images: Tensor, targets: list[Tensor], *, epoch: int) -> Batch:
        return normalise(images), [target.to(choice.device, non_blocking=True) for target in targets]

    if config.distil:
        return _distilling(config, choice, state, plain)
    if config.unlabelled:
        return _self_training(config, state, plain)
    return plain


def _distilling(config: TrainConfig, choice: Choice, state: State, plain: Teaching) -> Teaching:
    teacher = load_network(config.teacher, device=choice.device, dtype=choice.dtype, engine="torch")
    if teacher.card.scale != 1 or config.size % teacher.card.stride:
        raise UsageError(
            f"the teacher {config.teacher} takes sides of a multiple of {teacher.card.stride} px and gives masks of "
            f"{teacher.card.scale} times the side, but samples have {config.size} px",
            remedy="choose another --size, or another teacher",
        )
    state.card = state.card.taught_by(teacher.card.data, teacher.card.licence)

    def distil(images: Tensor, targets: list[Tensor], *, epoch: int) -> Batch:
        probs = torch.as_tensor(teacher(images.to(teacher.device).permute(0, 2, 3, 1)))
        x, targets = plain(images, targets, epoch=epoch)
        return x, [*targets, probs[:, None].to(choice.device).clone()]  # an inference tensor has no place in a graph

    return distil


def _self_training(config: TrainConfig, state: State, plain: Teaching) -> Teaching:
    ema = state.ema
    assert ema is not None  # the settings see to it

    def guess(images: Tensor, targets: list[Tensor], *, epoch: int) -> Batch:
        x, (mask, *others) = plain(images, targets, epoch=epoch)
        unknown = mask == UNKNOWN
        if not unknown.any():
            return x, [mask, *others]
        if epoch == 0:  # the average knows nothing yet
            return x, [mask.masked_fill(unknown, IGNORED), *others]
        guessed = confident_mask(ema, x, config.trust)
        photos = unknown.flatten(1).any(dim=1)
        return disturbed(x, photos), [torch.where(unknown, guessed, mask), *others]

    return guess


@torch.no_grad()
def confident_mask(teacher: PaddedModel, x: Tensor, trust: tuple[float, float]) -> Tensor:
    """Return what a network is sure of: uint8 (B, 1, H, W), 0 and 1, and `IGNORED` between the two probabilities.

    Args:
        teacher: Set to evaluation here, such as the moving average of the network that learns.
        x: Normalised images (B, 3, H, W).
        trust: Background up to the first probability, crack from the second on.

    Source: Tarvainen and Valpola 2017, arXiv 1703.01780 (the average as teacher); Sohn et al. 2020, arXiv 2001.07685.
    """
    logits: Outputs = teacher.eval()(x)
    assert isinstance(logits, Tensor)
    probs = logits.float().sigmoid()
    low, high = trust
    sure = torch.where(probs >= high, 1, torch.where(probs <= low, 0, IGNORED))
    return sure.to(torch.uint8)


def disturbed(x: Tensor, photos: Tensor) -> Tensor:
    """Return a batch in which some images are harder: contrast times 0.5 to 1.5, brightness and grain up to 0.3 sigma.

    The network learns to see in these what the average saw in the clear ones. Draws from the run's own generator.

    Args:
        x: Normalised images (B, 3, H, W).
        photos: Which of them, bool (B,).
    """
    shape = (len(x), 1, 1, 1)
    contrast = 0.5 + torch.rand(shape, device=x.device)
    brightness = 0.6 * torch.rand(shape, device=x.device) - 0.3
    grain = 0.3 * torch.rand(shape, device=x.device) * torch.randn_like(x)
    return torch.where(photos.view(shape), x * contrast + brightness + grain, x)
