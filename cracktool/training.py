"""Training: ``train(config, folder)`` yields what happens, and leaves a run folder that can be resumed and used.

Prints nothing; the caller shows the events. All that a later session needs is in one state object.

A run folder holds ``config.toml`` (resolved settings), ``metrics.csv`` and ``curves.png`` (one row per epoch),
``first_batch.png``, ``best.safetensors`` (best crack IoU on the validation split), ``last.safetensors`` and ``last.pt``
(the state that ``resume`` continues from).
"""

from __future__ import annotations

import copy
import csv
import datetime
import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cracktool.config import TrainConfig
from cracktool.data import EpochSampler, training_loader, usable
from cracktool.device import Choice, choose_device
from cracktool.errors import CrackError, InputError, OutputError, UsageError, WeightsError
from cracktool.files import open_atomic, replace_file
from cracktool.images import Image, Mask, read_image, read_mask
from cracktool.inference import Predictor, TorchNetwork
from cracktool.losses import Loss, combine
from cracktool.manifest import Entry, Manifest, read_manifest
from cracktool.metrics import threshold_level
from cracktool.models import build_model, model_statistics
from cracktool.report import plot_batch, plot_curves
from cracktool.weights import Card, Checkpoint, load_tensors, read_weights, save_weights, weights_path

STATE, BEST, LAST, METRICS, CONFIG = "last.pt", "best.safetensors", "last.safetensors", "metrics.csv", "config.toml"


@dataclass(frozen=True, kw_only=True)
class Started:
    """The run is set up: what it learns from, on what, and from which epoch on."""

    device: Choice
    parameters: int
    train_images: int
    val_images: int
    first_epoch: int
    steps_per_epoch: int


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One batch was learned."""

    epoch: int
    step: int
    loss: float
    lr: float


@dataclass(frozen=True, kw_only=True)
class EpochEnded:
    """One pass and its validation are done and saved. Scores are of the crack class, pooled over the split."""

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


Event = Started | Stepped | EpochEnded | Finished


@dataclass
class State:
    """All that changes during a run, saved and restored as one."""

    model: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0
    best_iou: float = -1.0
    best_epoch: int = 0

    @property
    def validated(self) -> nn.Module:
        """The network that is validated and kept: the moving average where there is one."""
        return self.model if self.average is None else self.average

    def save(self, path: Path) -> None:
        """Write the state in one step."""
        values = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "best_iou": self.best_iou,
            "best_epoch": self.best_epoch,
        }
        with open_atomic(path) as file:
            torch.save(values, file)

    def restore(self, path: Path) -> None:
        """Read the state back.

        Raises:
            WeightsError: The file is damaged or belongs to another network.
        """
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(values["model"])
            if self.average is not None:
                self.average.load_state_dict(values["average"])
            self.optimizer.load_state_dict(values["optimizer"])
        except (OSError, RuntimeError, KeyError, ValueError, EOFError) as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(
                f"cannot be resumed from: {reason}", path=path, remedy="train into a new folder"
            ) from error
        self.scaler.load_state_dict(values["scaler"])
        self.epoch, self.best_iou, self.best_epoch = values["epoch"], values["best_iou"], values["best_epoch"]


def train(config: TrainConfig, folder: Path, *, resume: bool = False) -> Iterator[Event]:
    """Train a network and yield events; the run folder is complete after each `EpochEnded`.

    Args:
        config: Settings.
        folder: The run folder. It may not hold another run unless `resume`.
        resume: Continue from the last complete epoch in `folder`; the result is that of a run never stopped.

    Raises:
        UsageError: A setting is wrong, or `resume` is asked for with other settings.
        InputError: A data set is missing, empty or damaged.
        OutputError: `folder` holds a run already.
        WeightsError: Initial or pretrained weights cannot be had.

    Example:
        >>> config = TrainConfig(model="unet_resnet18", data=("data/cracks",), pretrained=False)
        >>> for event in train(config, Path("runs/first")):
        ...     print(event)
    """
    _check_folder(folder, config, resume=resume)
    loss = combine(config.loss)
    choice = choose_device(config.device, config.dtype)
    state = _new_state(config, choice)
    manifests = [read_manifest(path) for path in config.data]
    loader, sampler = training_loader([each.split("train") for each in manifests], config)
    validation = _validation_set(manifests, config.val_images)
    if resume and (folder / STATE).is_file():
        state.restore(folder / STATE)
    replace_file(folder / CONFIG, config.to_toml().encode())
    yield Started(
        device=choice,
        parameters=sum(parameter.numel() for parameter in state.model.parameters()),
        train_images=sampler.images,
        val_images=len(validation),
        first_epoch=state.epoch + 1,
        steps_per_epoch=len(loader),
    )
    if state.epoch == 0:
        _draw_first_batch(loader, sampler, folder)
    rows = _read_rows(folder / METRICS)[: state.epoch]
    while state.epoch < config.epochs:
        started = time.perf_counter()
        losses = []
        for event in _one_epoch(state, loader, sampler, loss, config, choice):
            losses.append(event.loss)
            yield event
        ended = _validate(state, validation, config, choice, losses, started)
        rows.append(asdict(ended))
        _save_epoch(state, ended, rows, folder, config)
        yield ended
    yield Finished(weights=folder / BEST, val_iou=state.best_iou, epoch=state.best_epoch)


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


def _check_folder(folder: Path, config: TrainConfig, *, resume: bool) -> None:
    settings = folder / CONFIG
    if settings.exists() and not resume:
        raise OutputError("holds a run already", path=folder, remedy="add --resume, or choose another folder with -o")
    if settings.exists() and settings.read_text(encoding="utf-8") != config.to_toml():
        raise UsageError(
            "cannot resume with other settings than those of the run",
            path=settings,
            remedy=f"resume with --recipe {settings}, or choose another folder with -o",
        )


def _new_state(config: TrainConfig, choice: Choice) -> State:
    torch.manual_seed(config.seed)
    model = build_model(config.model, pretrained=config.pretrained and not config.init, **config.model_args)
    if config.init:
        path = weights_path(config.init)
        load_tensors(model, read_weights(path)[0], path=path)
    model = model.to(choice.device).to(memory_format=torch.channels_last)
    average = None
    if config.ema:
        average = copy.deepcopy(model).eval()
    scaler = torch.amp.GradScaler(choice.device.type, enabled=choice.dtype == torch.float16)
    return State(model, average, build_optimizer(model, config), scaler)


def _one_epoch(
    state: State,
    loader: DataLoader[tuple[Tensor, Tensor]],
    sampler: EpochSampler,
    loss: Loss,
    config: TrainConfig,
    choice: Choice,
) -> Iterator[Stepped]:
    sampler.epoch = state.epoch
    torch.manual_seed(config.seed * 1_000_003 + state.epoch)  # dropout, alike in a resumed run
    state.model.train()
    normalise = _Normalise(config.model, choice)
    for number, (images, masks) in enumerate(loader):
        step = state.epoch * len(loader) + number
        rate = learning_rate(config, step, len(loader))
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        target = masks.to(choice.device, non_blocking=True).float()
        with torch.autocast(choice.device.type, choice.dtype, enabled=choice.dtype != torch.float32):
            logits = state.model(normalise(images))
        value = loss(logits, target)
        _descend(state, value, config.clip_norm)
        if state.average is not None:
            _follow(state.average, state.model, min(config.ema, (1 + step) / (10 + step)))
        yield Stepped(epoch=state.epoch + 1, step=step + 1, loss=value.item(), lr=rate)
    state.epoch += 1


class _Normalise:
    """uint8 RGB (B, 3, H, W) on the CPU -> normalised float on the device."""

    def __init__(self, model: str, choice: Choice) -> None:
        mean, std = model_statistics(model)
        self.device = choice.device
        self.mean = torch.tensor(mean, device=choice.device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(std, device=choice.device).view(1, 3, 1, 1) * 255

    def __call__(self, images: Tensor) -> Tensor:
        scaled = (images.to(self.device, non_blocking=True).float() - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last)


def _descend(state: State, value: Tensor, clip_norm: float) -> None:
    if not torch.isfinite(value):
        raise UsageError("the loss is no longer a number", remedy="lower --lr, or set clip_norm=1")
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(value).backward()  # type: ignore[no-untyped-call]
    if clip_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, current in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(current, 1 - decay)
        else:
            mean.copy_(current)


def _validation_set(manifests: Sequence[Manifest], limit: int) -> list[tuple[Manifest, Entry]]:
    pairs = [(each, entry) for each in manifests for entry in each.split("val").entries if usable(entry)]
    if not pairs:
        raise InputError(
            "no data set has a validation split with masks",
            path=manifests[0].folder,
            remedy="prepare it again with --val 0.1",
        )
    if limit and limit < len(pairs):
        return [pairs[index * len(pairs) // limit] for index in range(limit)]
    return pairs


def _validate(
    state: State,
    validation: Sequence[tuple[Manifest, Entry]],
    config: TrainConfig,
    choice: Choice,
    losses: Sequence[float],
    started: float,
) -> EpochEnded:
    network = state.validated.eval()
    checkpoint = Checkpoint(network, _card(config, 0, 0.0), "")
    predictor = Predictor(TorchNetwork(checkpoint, device=choice.device, dtype=choice.dtype), tile=config.tile)
    level = threshold_level(config.threshold)
    hit = predicted = true = 0
    for (manifest, entry), levels in predictor.stream(validation, _read_pair):
        if isinstance(levels, CrackError):
            raise levels
        truth = _truth(manifest, entry, levels.shape)
        mask = levels >= level
        hit += int((mask & truth).sum())
        predicted += int(mask.sum())
        true += int(truth.sum())
    iou = hit / max(predicted + true - hit, 1)
    best = iou > state.best_iou
    if best:
        state.best_iou, state.best_epoch = iou, state.epoch
    return EpochEnded(
        epoch=state.epoch,
        train_loss=sum(losses) / len(losses),
        val_iou=iou,
        val_precision=hit / max(predicted, 1),
        val_recall=hit / max(true, 1),
        lr=state.optimizer.param_groups[0]["lr"],
        seconds=time.perf_counter() - started,
        best=best,
    )


def _read_pair(pair: tuple[Manifest, Entry]) -> Image:
    manifest, entry = pair
    return read_image(manifest.image_path(entry))


def _truth(manifest: Manifest, entry: Entry, shape: tuple[int, ...]) -> Mask:
    path = manifest.mask_path(entry)
    return read_mask(path) if path else np.zeros(shape, bool)


def _save_epoch(state: State, ended: EpochEnded, rows: list[dict[str, Any]], folder: Path, config: TrainConfig) -> None:
    card = _card(config, ended.epoch, ended.val_iou)
    if ended.best:
        save_weights(folder / BEST, state.validated.state_dict(), card)
    save_weights(folder / LAST, state.validated.state_dict(), card)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(folder / METRICS, text.getvalue().encode())
    plot_curves(rows, folder / "curves.png")
    state.save(folder / STATE)  # last: a run killed before this line repeats the epoch


def _card(config: TrainConfig, epoch: int, iou: float) -> Card:
    mean, std = model_statistics(config.model)
    score = {
        "data": list(config.data),
        "split": "val",
        "protocol": "crack IoU, pooled over pixels, native size",
        "images": config.val_images or "all",
        "threshold": config.threshold,
        "epoch": epoch,
        "iou": round(iou, 4),
    }
    return Card(
        model=config.model,
        model_args=config.model_args,
        mean=mean,
        std=std,
        tile=config.tile,
        threshold=config.threshold,
        data=config.data,
        scores=(score,),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def _draw_first_batch(loader: DataLoader[tuple[Tensor, Tensor]], sampler: EpochSampler, folder: Path) -> None:
    sampler.epoch = 0
    dataset = loader.dataset
    samples = [dataset[key] for key, _ in zip(sampler, range(loader.batch_size or 1), strict=False)]
    images = torch.stack([image for image, _ in samples]).permute(0, 2, 3, 1).numpy()
    masks = torch.stack([mask for _, mask in samples])[:, 0].bool().numpy()
    plot_batch(images, masks, folder / "first_batch.png")


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
