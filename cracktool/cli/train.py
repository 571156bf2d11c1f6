"""`crack train`: prepared sets in, weights out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cracktool.cli.options import Debug, Quiet
from cracktool.cli.screen import print_data, print_table, progress_bar, tell

if TYPE_CHECKING:
    from cracktool.config import TrainConfig


def train(
    model: Annotated[str | None, typer.Option("--model", "-m", help="Name of the network.")] = None,
    data: Annotated[list[Path] | None, typer.Option("--data", "-d", help="Prepared data set; may be repeated.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of a recipe, or a TOML file.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder [runs/MODEL].")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples of one step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the square samples in px.")] = None,
    loss: Annotated[str | None, typer.Option(help="Sum of losses, such as bce+dice.")] = None,
    pretrained: Annotated[bool | None, typer.Option(help="Start from ImageNet weights of the encoder.")] = None,
    init: Annotated[Path | None, typer.Option(help="Start from this weights file.")] = None,
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
    weights by crack IoU on the validation split. Prints the path of those weights.

    Example: crack train --model unet_resnet34 --data data/crack500 --epochs 50
    """
    if list_models:
        _list_models()
        return
    from cracktool.config import read_recipe, recipe_names, resolve

    named = recipe or (model if model in recipe_names() else None)
    layer = read_recipe(named) if named else {}
    options = {
        "model": model,
        "data": [str(path) for path in data] if data else None,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "size": size,
        "loss": loss,
        "pretrained": pretrained,
        "init": str(init) if init else None,
        "device": device,
        "seed": seed,
    }
    config = resolve([layer, {key: value for key, value in options.items() if value is not None}], set_ or [])
    folder = out or Path("runs") / config.model
    _show_training(config, folder, resume=resume, quiet=quiet)
    return


def _list_models() -> None:
    from cracktool.models import FAMILIES, LISTED, describe

    header = ("model", "parameters", "GMACs at 512", "CPU time (unet_resnet18 = 1)", "stride", "source")
    print_table([header, *map(describe, LISTED)], sys.stdout)
    tell(f"Any {' or '.join(f'{family}_ENCODER' for family in FAMILIES)} with an encoder of timm works likewise.")


def _show_training(config: TrainConfig, folder: Path, *, resume: bool, quiet: bool) -> None:
    from cracktool.training import EpochEnded, Finished, Labelled, Started, Stepped, train

    say = (lambda _: None) if quiet else tell
    with progress_bar(quiet, unit=" steps") as bar:
        for event in train(config, folder, resume=resume):
            match event:
                case Started():
                    steps = bar.total = event.batches_per_epoch
                    say(
                        f"{config.model}: {event.parameters / 1e6:.1f} M parameters, {event.device.reason}; "
                        f"{event.train_images} images to learn from, {event.val_images} to validate on"
                    )
                case Labelled():
                    bar.total = event.total
                    bar.set_description("pseudo-masks", refresh=False)
                    bar.update()
                    if event.done == event.total:
                        bar.reset(steps)
                case Stepped():
                    bar.set_description(f"epoch {event.epoch}/{config.epochs} loss {event.loss:.3f}", refresh=False)
                    bar.update()
                case EpochEnded():
                    bar.reset()
                    say(
                        f"epoch {event.epoch}/{config.epochs}: loss {event.train_loss:.4f}, "
                        f"crack IoU {event.val_iou:.4f}, precision {event.val_precision:.3f}, "
                        f"recall {event.val_recall:.3f}, {event.seconds:.0f} s{', best so far' if event.best else ''}"
                    )
                case Finished():
                    say(f"best crack IoU on validation {event.val_iou:.4f}, epoch {event.epoch}")
                    print_data(event.weights)
