"""The training loop: `train` yields events and keeps the run folder complete after each epoch."""

from __future__ import annotations

import csv
import datetime
import io
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cracktool.config import Augment, TrainConfig, read_recipe, resolve
from cracktool.data import IGNORED, EpochSampler, Samples, examples, training_loader
from cracktool.degradation import Degradation
from cracktool.device import Choice, choose_device
from cracktool.errors import CrackError, InputError, OutputError, UsageError
from cracktool.evaluation import read_truth
from cracktool.files import replace_file
from cracktool.images import Image, read_image
from cracktool.inference import Predictor, TorchNetwork
from cracktool.manifest import Entry, Manifest, read_manifest
from cracktool.metrics import Counts, Histogram, Levels, threshold_level
from cracktool.models import model_statistics
from cracktool.report import plot_batch, plot_curves
from cracktool.training.events import EpochEnded, Event, Finished, Labelled, Started, Stepped
from cracktool.training.objective import build_objective, image_logits
from cracktool.training.pseudo import PseudoMasks
from cracktool.training.state import State, descend, follow, learning_rate, new_state
from cracktool.weights import Card, Checkpoint, save_weights

STATE, BEST, LAST, METRICS, CONFIG = "last.pt", "best.safetensors", "last.safetensors", "metrics.csv", "config.toml"


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
    build_objective(config, 0)  # a wrong name is refused before anything is read
    choice = choose_device(config.device, config.dtype)
    state = new_state(config, choice)
    manifests = [read_manifest(path) for path in config.data]
    if state.model.scale > 1 and not config.degrade:
        raise UsageError(f"{config.model} restores degraded photos, but none are made", remedy="set degrade=true")
    learned, labelling = _train_set(manifests, folder, config, choice)
    loader, sampler = training_loader(learned, config)
    validation = _validation_set(manifests, config)
    if resume and (folder / STATE).is_file():
        state.restore(folder / STATE)
    replace_file(folder / CONFIG, config.to_toml().encode())
    yield Started(
        device=choice,
        parameters=sum(parameter.numel() for parameter in state.model.parameters()),
        train_images=sampler.images,
        val_images=sum(len(each.entries) for each in validation),
        first_epoch=state.epoch + 1,
        steps_per_epoch=len(loader),
    )
    yield from labelling
    if state.epoch == 0:
        _draw_first_batch(loader, sampler, folder)
    rows = _read_rows(folder / METRICS)[: state.epoch]
    while state.epoch < config.epochs:
        started = time.perf_counter()
        losses = []
        for event in _one_epoch(state, loader, sampler, config, choice):
            losses.append(event.loss)
            yield event
        ended = _validate(state, validation, config, choice, losses, started)
        rows.append(asdict(ended))
        _save_epoch(state, ended, rows, folder, config)
        yield ended
    yield Finished(weights=folder / BEST, val_iou=state.best_iou, epoch=state.best_epoch)


def _check_folder(folder: Path, config: TrainConfig, *, resume: bool) -> None:
    settings = folder / CONFIG
    if settings.exists() and not resume:
        raise OutputError("holds a run already", path=folder, remedy="add --resume, or choose another folder with -o")
    if not settings.exists():
        return
    earlier = resolve([read_recipe(str(settings))])  # not the text: runs of older versions lack newer settings
    if earlier.to_toml() != config.to_toml():
        raise UsageError(
            "cannot resume with other settings than those of the run",
            path=settings,
            remedy=f"resume with --recipe {settings}, or choose another folder with -o",
        )


def _one_epoch(
    state: State,
    loader: DataLoader[tuple[Tensor, ...]],
    sampler: EpochSampler,
    config: TrainConfig,
    choice: Choice,
) -> Iterator[Stepped]:
    sampler.epoch = state.epoch
    torch.manual_seed(config.seed * 1_000_003 + state.epoch)  # dropout, alike in a resumed run
    state.model.train()
    normalise = _Normalise(config.model, choice)
    objective = build_objective(config, state.epoch)
    for number, (images, *targets) in enumerate(loader):
        step = state.epoch * len(loader) + number
        rate = learning_rate(config, step, len(loader))
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        targets = [target.to(choice.device, non_blocking=True) for target in targets]
        with torch.autocast(choice.device.type, choice.dtype, enabled=choice.dtype != torch.float32):
            value = objective(state.model, normalise(images), targets)
        descend(state, value, config.clip_norm)
        if state.average is not None:
            follow(state.average, state.model, min(config.ema, (1 + step) / (10 + step)))
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


def _train_set(
    manifests: Sequence[Manifest], folder: Path, config: TrainConfig, choice: Choice
) -> tuple[list[Manifest], Iterator[Labelled]]:
    """Return what is learned from, and the work that its masks still need."""
    learned = [each.split("train") for each in manifests]
    if config.supervision != "pseudo":
        return learned, iter(())
    masks = PseudoMasks(learned, folder, config, choice)
    return masks.manifests, masks.make()


def _validation_set(manifests: Sequence[Manifest], config: TrainConfig) -> list[Manifest]:
    by_label = config.supervision != "pixels"
    pairs = [
        (each, entry)
        for each in manifests
        for entry in each.split("val").entries
        if (entry.label != "unknown" if by_label else entry.has_truth)
    ]
    if not pairs:
        raise InputError(
            f"no data set has a validation split with {'labels' if by_label else 'masks'}",
            path=manifests[0].folder,
            remedy="prepare it again with --val 0.1",
        )
    limit = config.val_images
    if limit and limit < len(pairs):
        pairs = [pairs[index * len(pairs) // limit] for index in range(limit)]
    chosen = [Manifest(each.folder, tuple(entry for owner, entry in pairs if owner is each)) for each in manifests]
    return [each for each in chosen if each.entries]


def _validate(
    state: State,
    validation: Sequence[Manifest],
    config: TrainConfig,
    choice: Choice,
    losses: Sequence[float],
    started: float,
) -> EpochEnded:
    scores = _COUNTS[config.supervision](state, validation, config, choice).scores()
    best = config.select == "last" or scores.iou > state.best_iou
    if best:
        state.best_iou, state.best_epoch = scores.iou, state.epoch
    return EpochEnded(
        epoch=state.epoch,
        train_loss=sum(losses) / len(losses),
        val_iou=scores.iou,
        val_precision=scores.precision,
        val_recall=scores.recall,
        lr=state.optimizer.param_groups[0]["lr"],
        seconds=time.perf_counter() - started,
        best=best,
    )


def _count_pixels(state: State, validation: Sequence[Manifest], config: TrainConfig, choice: Choice) -> Counts:
    counts = _NO_COUNTS
    for manifest, entry, levels in _predictions(state, validation, config, choice):
        truth = read_truth(manifest, entry)[: levels.shape[0], : levels.shape[1]]  # quarters cut off a rest
        counts += Histogram.of(levels, truth).counts(threshold_level(config.threshold))
    return counts


def _count_found(state: State, validation: Sequence[Manifest], config: TrainConfig, choice: Choice) -> Counts:
    """Count images by their labels, found cracked where any pixel is; masks are not opened.

    It shows false alarms on uncracked images and cracks that are missed altogether, but soon is near 1 and says nothing
    of where the crack lies. So it does not choose: the last weights are kept, without any pooling to be tuned.
    """
    counts = _NO_COUNTS
    for _, entry, levels in _predictions(state, validation, config, choice):
        found = bool((levels >= threshold_level(config.threshold)).any())
        counts += _one_image(found=found, cracked=entry.label == "cracked")
    return counts


def _predictions(
    state: State, validation: Sequence[Manifest], config: TrainConfig, choice: Choice
) -> Iterator[tuple[Manifest, Entry, Levels]]:
    network = TorchNetwork(Checkpoint(state.validated.eval(), _card(config, state), ""), choice.device, choice.dtype)
    predictor = Predictor(network)
    for manifest in validation:
        read = partial(_validation_image, manifest, degrade=config.degrade)
        for entry, levels in predictor.stream(manifest.entries, read):
            if isinstance(levels, CrackError):
                raise levels
            yield manifest, entry, levels


def _validation_image(manifest: Manifest, entry: Entry, *, degrade: bool) -> Image:
    image = read_image(manifest.image_path(entry))
    if not degrade:
        return image
    seed = zlib.crc32(entry.image.encode())  # alike in every epoch and run
    return Degradation()(image, np.random.default_rng(seed))[0]


@torch.no_grad()
def _count_images(state: State, validation: Sequence[Manifest], config: TrainConfig, choice: Choice) -> Counts:
    """Count images by their labels; masks are not opened, so none can choose a checkpoint."""
    model, normalise = state.validated.eval(), _Normalise(config.model, choice)
    items = [item for manifest in validation for item in examples(manifest, "image")]
    still = Augment(hflip=0, vflip=0, quarter_turns=0, brightness=0, contrast=0, saturation=0)
    samples = Samples(items, size=config.size, fit="resize", augment=still)
    counts = _NO_COUNTS
    for index in range(len(samples)):
        image, target = samples[index, 0][:2]
        with torch.autocast(choice.device.type, choice.dtype, enabled=choice.dtype != torch.float32):
            logit = image_logits(model(normalise(image[None])), config.pooling)
        counts += _one_image(found=logit.item() > 0, cracked=bool(target.item()))
    return counts


def _one_image(*, found: bool, cracked: bool) -> Counts:
    return Counts(
        tp=int(found and cracked),
        fp=int(found and not cracked),
        fn=int(cracked and not found),
        tn=int(not cracked and not found),
    )


_NO_COUNTS = Counts(tp=0, fp=0, fn=0, tn=0)
_COUNTS = {"pixels": _count_pixels, "image": _count_images, "pseudo": _count_found}


def _save_epoch(state: State, ended: EpochEnded, rows: list[dict[str, Any]], folder: Path, config: TrainConfig) -> None:
    card = _card(config, state, ended)
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


def _card(config: TrainConfig, state: State, ended: EpochEnded | None = None) -> Card:
    mean, std = model_statistics(config.model)
    by_label = config.supervision != "pixels"
    score = {
        "data": list(config.data),
        "split": "val",
        "protocol": "IoU of cracked images by label" if by_label else "crack IoU, pooled over pixels, native size",
        "images": config.val_images or "all",
        "threshold": config.threshold,
    }
    return Card(
        model=config.model,
        model_args=config.model_args,
        mean=mean,
        std=std,
        tile=config.tile,
        stride=state.model.stride,
        scale=state.model.scale,
        threshold=config.threshold,
        data=config.data,
        scores=({**score, "epoch": ended.epoch, "iou": round(ended.val_iou, 4)},) if ended else (),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def _draw_first_batch(loader: DataLoader[tuple[Tensor, ...]], sampler: EpochSampler, folder: Path) -> None:
    sampler.epoch = 0
    dataset = loader.dataset
    samples = [dataset[key] for key, _ in zip(sampler, range(loader.batch_size or 1), strict=False)]
    images = torch.stack([sample[0] for sample in samples]).permute(0, 2, 3, 1).numpy()
    targets = torch.stack([sample[1] for sample in samples])[:, 0]
    targets = (targets >= 0.5) & (targets != IGNORED)
    if targets.shape[-1] > 1:  # shrunken samples are drawn at the size of their masks
        scale = targets.shape[-1] // images.shape[2]
        images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    masks = targets.expand(-1, *images.shape[1:3]).numpy()  # a label stands for all of its image
    plot_batch(images, masks, folder / "first_batch.png")


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
