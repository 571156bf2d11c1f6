"""What happens in a training run, as data. The caller shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cracktool.device import Choice


@dataclass(frozen=True, kw_only=True)
class Started:
    """The run is set up: what it learns from, on what, in how many processes, and from which epoch on.

    `fresh` are the network's tensors that the weights of `init` did not hold, and that start at random therefore.
    """

    device: Choice
    rank: int
    ranks: int
    parameters: int
    fresh: tuple[str, ...]
    train_images: int
    val_images: int
    first_epoch: int
    batches_per_epoch: int


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The teacher made one more of the pseudo-masks that are learned from."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """This process has learned from one batch, of so many images."""

    epoch: int
    batch: int
    loss: float
    lr: float
    images: int


@dataclass(frozen=True, kw_only=True)
class EpochEnded:
    """One pass and its validation are done and saved.

    Scores are of the crack class, pooled over the pixels of the split; counted in images where masks may not be opened.
    """

    epoch: int
    train_loss: float
    val_iou: float
    val_precision: float
    val_recall: float
    lr: float
    seconds: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The run is complete."""

    weights: Path
    val_iou: float
    epoch: int
    stopped_early: bool
    rank: int


Event = Started | Labelled | Stepped | EpochEnded | Finished
