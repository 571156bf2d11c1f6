"""All that changes during a training run, saved and restored as one; how a step changes it.

Knows nothing about data sets, validation or run folders.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cracktool.card import Card
from cracktool.config import TrainConfig
from cracktool.device import Choice, move
from cracktool.errors import UsageError, WeightsError
from cracktool.files import replace_file
from cracktool.models import PaddedModel, build_model, model_statistics
from cracktool.registry import weights_path
from cracktool.weights import load_fitting, read_any_weights


@dataclass
class State:
    """All that changes during a run, saved and restored as one, and what the run begins with.

    `card` is that of the initial weights, which says how the input is normalised and what was learned before; where
    there are none, that of the bare network. `fresh` are the network's tensors that the initial weights did not hold.
    `ranks` is the number of processes, which decides how many samples a step has.
    """

    model: PaddedModel
    ema: PaddedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    card: Card
    fresh: tuple[str, ...] = ()
    ranks: int = 1
    epoch: int = 0
    best_iou: float = -1.0
    best_epoch: int = 0

    @property
    def validated(self) -> PaddedModel:
        """The network that is validated and kept: the moving average where there is one."""
        return self.model if self.ema is None else self.ema

    def save(self, path: Path) -> None:
        """Write the state in one step."""
        values = {
            "model": self.model.state_dict(),
            "average": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "card": self.card.to_json(),
            "ranks": self.ranks,
            "epoch": self.epoch,
            "best_iou": self.best_iou,
            "best_epoch": self.best_epoch,
        }
        buffer = io.BytesIO()  # PyTorch hides what went wrong with a file, such as a full disk
        torch.save(values, buffer)
        replace_file(path, buffer.getbuffer())

    def restore(self, path: Path) -> None:
        """Read the state back.

        Raises:
            WeightsError: The file is damaged or belongs to another network.
            UsageError: The run has had another number of processes.
        """
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(values["model"])
            if self.ema is not None:
                self.ema.load_state_dict(values["average"])
            self.optimizer.load_state_dict(values["optimizer"])
            if self.scaler.is_enabled() and values["scaler"]:  # the run may have begun where none was needed
                self.scaler.load_state_dict(values["scaler"])
            if "card" in values:  # older runs lack it
                self.card = Card.from_json(values["card"], path=path)
            self.epoch, self.best_iou, self.best_epoch = values["epoch"], values["best_iou"], values["best_epoch"]
            ranks = int(values.get("ranks", self.ranks))  # older runs lack it
        except Exception as error:  # a damaged file can go wrong in any way
            reason = "cannot be resumed from: it is damaged, or of another network"
            raise WeightsError(reason, path=path, remedy="train into a new folder") from error
        if ranks != self.ranks:
            raise UsageError(
                f"cannot be resumed by another number of processes than {ranks}: there are {self.ranks}",
                path=path,
                remedy=f"resume with torchrun --nproc-per-node {ranks}, or train into a new folder",
            )


def new_state(config: TrainConfig, choice: Choice, *, ranks: int = 1, resumed: bool = False) -> State:
    """Return the state before the first step, its network in training; the seed decides it.

    Args:
        config: Settings.
        choice: Where the network learns.
        ranks: Number of processes. Batch norms take the statistics of all of them, which PyTorch can on GPUs only.
        resumed: A saved state will replace the weights, so that none are looked for.

    Raises:
        UsageError: The settings name no network, or one that does not learn from such samples, or they freeze
            weights that are random.
        WeightsError: Initial or pretrained weights cannot be had.
    """
    torch.manual_seed(config.seed)
    pretrained = config.pretrained and not config.init and not resumed
    model = build_model(config.model, pretrained=pretrained, **config.model_args)
    if config.degrade and model.scale == 1:
        raise UsageError(f"{config.model} restores no photos", remedy="set degrade=false, or use a csbsr_ model")
    if model.scale > 1 and not config.degrade:
        raise UsageError(f"{config.model} restores degraded photos, but none are made", remedy="set degrade=true")
    fresh: tuple[str, ...] = ()
    mean, std = model_statistics(config.model)
    card = Card(model=config.model, mean=mean, std=std)
    if config.init and not resumed:
        path = weights_path(config.init)
        tensors, card = read_any_weights(path, model, config.model)
        fresh = load_fitting(model, tensors, path=path)
    set_trainable(model, config.frozen, norms=not config.frozen_norms)
    if (config.frozen or config.frozen_norms) and not (config.init or config.pretrained):
        raise UsageError("what is frozen has learned nothing yet", remedy="set init=WEIGHTS, or pretrained=true")
    if ranks > 1 and choice.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model = move(model, choice.device)
    ema = None
    if config.ema:
        ema = copy.deepcopy(model).eval()
    if config.compile:
        model.compile()  # in place: the names of its tensors stay as they are
    scaler = torch.amp.GradScaler(choice.device.type, enabled=choice.dtype == torch.float16)
    return State(model, ema, build_optimizer(model, config), scaler, card, fresh, ranks)


def set_trainable(model: nn.Module, frozen: Sequence[str], *, norms: bool = True) -> None:
    """Put a network into training, but for the parts that keep their weights, and their norms' statistics.

    Args:
        model: Changed in place.
        frozen: What the names of those parts begin with, such as ``encoder``.
        norms: Whether the batch norms of all other parts gather statistics, instead of using those they have.

    Raises:
        UsageError: No name begins so, or nothing is left to learn.
    """
    names = [name for name, _ in model.named_parameters()]
    for start in frozen:
        if not any(name.startswith(start) for name in names):
            parts = sorted({name.partition(".")[0] for name in names})
            raise UsageError(f"nothing of the network begins with {start!r}", remedy=f"it has {', '.join(parts)}")
    still = tuple(frozen)
    if all(name.startswith(still) for name in names):
        raise UsageError("all of the network is frozen", remedy="leave a part out of frozen")
    for name, module in model.train().named_modules():
        if name.startswith(still) or (not norms and isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)):
            module.eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(still))


def backward_and_step(state: State, value: Tensor, *, share: float, step: bool, clip_norm: float) -> None:
    """Add the gradient of a loss to what was gathered, and take the step down it.

    Args:
        state: Changed in place.
        value: The loss of a batch, one number with its graph.
        share: Weight of this batch among those of the step.
        step: Whether this batch is the step's last; otherwise its gradient waits for the others.
        clip_norm: Largest norm of the gradient; 0 for no limit.

    Raises:
        UsageError: The loss is infinite or not a number.
    """
    if not torch.isfinite(value):
        raise UsageError("the loss is no longer a number", remedy="lower --lr, or set clip_norm=1")
    state.scaler.scale(share * value).backward()  # type: ignore[no-untyped-call]
    if not step:
        return
    if clip_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move an average of the weights, and of the norms' statistics, towards a model by the share 1 - decay."""
    for mean, current in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(current, 1 - decay)
        else:
            mean.copy_(current)


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step, counted from 0 over the whole run.

    Warm-up rises linearly to ``lr``; then cosine falls to 0 as (1 + cos(pi x)) / 2 and poly as (1 - x)^power, with x
    the share of the steps after warm-up that are done; step divides by ten every ``step_epochs``.
    """
    total = config.epochs * steps_per_epoch
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(total - config.warmup_steps, 1)
    if config.schedule == "cosine":
        return config.lr * (1 + math.cos(math.pi * done)) / 2
    if config.schedule == "poly":
        return config.lr * float((1 - done) ** config.poly_power)
    if config.schedule == "step":
        return config.lr * float(0.1 ** (step // steps_per_epoch // config.step_epochs))
    return config.lr


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser; weight decay spares biases and norms unless ``decay_all`` is set."""
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1 or config.decay_all]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1 and not config.decay_all]
    groups = [{"params": kernels, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=(config.momentum, 0.999))
