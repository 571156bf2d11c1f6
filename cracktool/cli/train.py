"""`crack train`: prepared sets in, weights out."""

from __future__ import annotations

import shlex
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cracktool.cli.options import Debug, Quiet, refuse_others
from cracktool.cli.screen import leaving_at_once, print_data, print_table, tell
from cracktool.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from cracktool.config import TrainConfig
    from cracktool.training import EpochEnded, Event, Started, Stepped


def train(
    context: typer.Context,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Name of the network.")] = None,
    data: Annotated[list[Path] | None, typer.Option("--data", "-d", help="Prepared data set; may be repeated.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of a recipe, or a TOML file.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder [runs/MODEL].")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[
        str | None, typer.Option(metavar="INTEGER|auto", help="Samples of a batch; auto tries what suits.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the square samples in px.")] = None,
    loss: Annotated[str | None, typer.Option(help="Sum of losses, such as bce+dice.")] = None,
    pretrained: Annotated[bool | None, typer.Option(help="Start from ImageNet weights of the encoder.")] = None,
    init: Annotated[Path | None, typer.Option(help="Start from these weights; what does not fit starts anew.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Learn from these weights too: their probabilities, or pseudo-masks.")
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Learn from photos without masks too (needs ema).")
    ] = None,
    mine: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Learn from false alarms in these crack-free photos too.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as augment.blur=0.2.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides weights, order and augmentation.")] = None,
    list_models: Annotated[bool, typer.Option("--list-models", help="Print model names and leave.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a network on prepared data sets.

    The run folder keeps the settings, a table and curves of the scores, the first batch as a picture, and the best
    weights by crack IoU on the validation split. Prints the path of those weights. Several GPUs, or processes on a CPU:
    torchrun --nproc-per-node 2 -m cracktool train, with the same options.

    Example: crack train --model unet_resnet34 --data data/crack500 --epochs 50
    """
    if list_models:
        refuse_others(context, ["list_models"], "--list-models trains nothing")
        _list_models()
        return
    from cracktool.config import read_recipe, recipe_names, resolve

    named = recipe or (model if model in recipe_names() else None)
    options: dict[str, Any] = {
        "model": model,
        "data": [str(path) for path in data] if data else None,
        "epochs": epochs,
        "batch_size": _whole_number(batch_size) if batch_size and batch_size != "auto" else None,
        "lr": lr,
        "size": size,
        "loss": loss,
        "pretrained": pretrained,
        "init": init,
        "teacher": teacher,
        "unlabelled": unlabelled,
        "mine": mine,
        "device": device,
        "seed": seed,
    }
    if pretrained and init:
        raise UsageError("--pretrained has no effect beside --init", remedy="leave one out")
    chosen = {
        key: str(value) if isinstance(value, Path) else value for key, value in options.items() if value is not None
    }
    config = resolve([_network_of(init, resume=resume), read_recipe(named) if named else {}, chosen], set_ or [])
    folder = out or Path("runs") / config.model
    if batch_size == "auto":
        config = _probed(config, folder, resume=resume, quiet=quiet)
    _show_training(config, folder, resume=resume, quiet=quiet)


def _network_of(init: Path | None, *, resume: bool) -> dict[str, Any]:
    """Return the settings of the network that weights are of, so that all of them fit unless the user asks for other.

    An authors' file says its network by its published name alone, and a run that goes on may have lost the weights
    that it began with.
    """
    if init is None:
        return {}
    from cracktool.registry import ENDINGS, REGISTRY, read_card, weights_path

    try:
        path = weights_path(init)
    except WeightsError:
        if resume:
            return {}
        raise
    if path.suffix in ENDINGS:
        return {"model": REGISTRY[str(init)].model} if str(init) in REGISTRY else {}
    card = read_card(path)
    return {"model": card.model, "model_args": card.model_args}


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"--batch-size is {text!r}", remedy="give a whole number, or auto")
    return int(text)


def _probed(config: TrainConfig, folder: Path, *, resume: bool, quiet: bool) -> TrainConfig:
    """Return the settings with a batch size that suits this machine; a resumed run keeps the one that it has."""
    from cracktool.config import read_recipe, resolve

    with leaving_at_once():
        from cracktool.training import CONFIG, check_folder, choose_batch_size

    if resume and (folder / CONFIG).is_file():
        return replace(config, batch_size=resolve([read_recipe(str(folder / CONFIG))]).batch_size)
    check_folder(folder, config, resume=resume)
    size = choose_batch_size(config)
    if not quiet:
        tell(f"batches of {size} suit this machine")
    return replace(config, batch_size=size)


def _list_models() -> None:
    from cracktool.models import FAMILIES, LISTED, describe

    header = ("model", "parameters", "GMACs at 512", "CPU time (unet_resnet18 = 1)", "stride", "source")
    print_table([header, *map(describe, LISTED)], sys.stdout)
    tell(f"Any {' or '.join(f'{family}_ENCODER' for family in FAMILIES)} with an encoder of timm works likewise.")


def _show_training(config: TrainConfig, folder: Path, *, resume: bool, quiet: bool) -> None:
    with leaving_at_once():
        from cracktool.training import EpochEnded, Finished, Labelled, Started, Stepped, train

    events: Iterable[Event] = train(config, folder, resume=resume)

    def say(line: str) -> None:
        if not quiet:
            tell(line)

    with _Display(config, quiet=quiet) as display:
        for event in events:
            match event:
                case Started():
                    if event.rank:  # the first process tells for all
                        display.hide()
                        quiet = True
                    say(_described(config, event))
                    for line in _remarks(config, event):
                        say(line)
                    display.begin(event)
                case Labelled():
                    display.labelled(event.done, event.total)
                case Stepped():
                    display.step(event)
                case EpochEnded():
                    display.pause()
                    say(_scored(config, event))
                case Finished():
                    early = ", stopped early" if event.stopped_early else ""
                    best = "best " if config.select == "iou" else ""
                    say(f"{best}{_score(config)} on validation {event.val_iou:.4f}, epoch {event.epoch}{early}")
                    say(f"next: {_next(config, folder)}")
                    if not event.rank:
                        print_data(event.weights)


def _described(config: TrainConfig, event: Started) -> str:
    processes = f" in {event.ranks} processes" if event.ranks > 1 else ""
    return (
        f"{config.model}: {event.parameters / 1e6:.1f} M parameters, {event.device.reason}{processes}; "
        f"{event.train_images} images to learn from, {event.val_images} to validate on"
    )


def _remarks(config: TrainConfig, event: Started) -> Iterator[str]:
    if event.fresh:
        yield f"{len(event.fresh)} tensors are not in {config.init} and start anew: {_names(event.fresh)}"
    steps = config.epochs * ceil(event.batches_per_epoch / config.accumulate)
    if config.warmup_steps > steps:
        yield f"the learning rate does not reach {config.lr:g}: warmup_steps={config.warmup_steps}, the run has {steps}"


def _names(tensors: Sequence[str], most: int = 3) -> str:
    return ", ".join(tensors[:most]) + (", ..." if len(tensors) > most else "")


def _next(config: TrainConfig, folder: Path) -> str:
    from cracktool.manifest import read_manifest

    if config.degrade:  # only a set made with prepare --degrade can be scored
        return shlex.join(["crack", "infer", "photos/", "-o", "masks/", "--weights", str(folder)])
    split = () if read_manifest(config.data[0]).split("test").entries else ("--split", "val")
    return shlex.join(["crack", "eval", config.data[0], *split, "--weights", str(folder)])


def _score(config: TrainConfig) -> str:
    return "crack IoU" if config.supervision == "pixels" else "IoU of cracked images"


def _scored(config: TrainConfig, event: EpochEnded) -> str:
    return (
        f"epoch {event.epoch}/{config.epochs}: loss {event.train_loss:.4f}, {_score(config)} {event.val_iou:.4f}, "
        f"precision {event.val_precision:.3f}, recall {event.val_recall:.3f}, {event.seconds:.0f} s"
        f"{', best so far' if event.best and config.select == 'iou' else ''}"
    )


class _Display:
    """Two live bars on a terminal: the epoch, and the whole run with the time that it will still take."""

    def __init__(self, config: TrainConfig, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._epochs = config.epochs
        self._ranks = 1
        self._times: deque[tuple[float, int]] = deque(maxlen=50)
        console = Console(file=sys.stderr)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
            redirect_stdout=False,
        )
        self._epoch = self._progress.add_task("epoch", total=None, said="")
        self._run = self._progress.add_task("run", total=None, said="epochs")

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def hide(self) -> None:
        self._progress.stop()
        self._progress.disable = True

    def begin(self, event: Started) -> None:
        self._ranks = event.ranks
        self._batches = event.batches_per_epoch
        self._first = (event.first_epoch - 1) * self._batches
        left = self._epochs * self._batches - self._first
        self._progress.update(self._run, total=left, description="run", said=f"batches, {self._epochs} epochs")

    def labelled(self, done: int, total: int) -> None:
        self._progress.update(self._epoch, description="pseudo-masks", completed=done, total=total)

    def pause(self) -> None:
        self._times.clear()  # validation is no part of the speed

    def step(self, event: Stepped) -> None:
        self._times.append((perf_counter(), event.images))
        begin, _ = self._times[0]
        seconds, images = self._times[-1][0] - begin, sum(count for _, count in list(self._times)[1:])
        speed = f", {self._ranks * images / seconds:.1f} images/s" if seconds else ""
        within = (event.batch - 1) % self._batches + 1
        self._progress.update(
            self._epoch,
            description=f"epoch {event.epoch}/{self._epochs}",
            completed=within,
            total=self._batches,
            said=f"loss {event.loss:.3f}{speed}",
        )
        self._progress.update(self._run, completed=event.batch - self._first)
