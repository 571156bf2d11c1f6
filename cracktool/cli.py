"""The command line: options -> one library call -> lines on screen; errors -> exit codes.

The only module that prints, and the only home of typer and rich. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cracktool import __version__
from cracktool.errors import CrackError

if TYPE_CHECKING:
    from rich.progress import Progress

    from cracktool.config import TrainConfig

app = typer.Typer(
    name="crack",
    help="Find cracks in photos of pavement, concrete and masonry, pixel by pixel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only data and errors, no talk.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Weights = Annotated[
    Path | None, typer.Option("--weights", "-w", help="Weights file or run folder; none for the ones that ship.")
]
Tile = Annotated[int | None, typer.Option(min=32, help="Side of the tiles in px; none for what suits the weights.")]
Threshold = Annotated[float | None, typer.Option(help="Crack from this probability on; none for what the weights say.")]


def main() -> None:
    """Run the command line; every expected error is one line on stderr and an exit code."""
    try:
        app()
    except CrackError as error:
        _fail(str(error), error.exit_code, error)
    except BrokenPipeError:
        _close_pipe()
    except Exception as error:  # noqa: BLE001  # the boundary: no traceback reaches a user
        _fail(f"unexpected {type(error).__name__}: {error} (run again with --debug to see where)", 1, error)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _fail(line: str, code: int, error: Exception) -> NoReturn:
    if "--debug" in sys.argv:
        raise error
    _tell(f"crack: {line}")
    sys.exit(code)


def _close_pipe() -> NoReturn:
    # The reader has gone (`crack ... | head`): not an error, and Python must not complain at exit either.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        _tell(f"crack: warning: {line}")


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """Yield a progress display on stderr; it shows nothing when stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True, redirect_stdout=False) as progress:
        yield progress


def _table(rows: list[list[str]]) -> str:
    """Return rows as aligned columns, the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


@app.command()
def prepare(
    layout: Annotated[str, typer.Argument(help="Name of the raw layout: crack500, deepcrack, cfd, folder, synthetic.")],
    source: Annotated[Path | None, typer.Argument(help="Raw folder [raw/LAYOUT].")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the prepared set goes [data/LAYOUT].")] = None,
    val: Annotated[float | None, typer.Option(help="Share of the images for validation, where none is published.")] = None,
    test: Annotated[float | None, typer.Option(help="Share of the images for testing, where none is published.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks, where it is not beside the images.")] = None,
    mask_threshold: Annotated[int, typer.Option(help="Grey values from here on, 1 to 255, are crack.")] = 128,
    inverted: Annotated[bool, typer.Option("--inverted", help="The crack is dark in the masks.")] = False,
    seed: Annotated[int, typer.Option(help="Decides splits and synthetic pictures.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads; none for one per processor.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, write nothing.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn a raw data set into images/, masks/ and manifest.csv.

    Crack500 photos are cut into 16 tiles, of which those with more than 1000 crack pixels are kept. Prints the path
    of the table.

    Example: crack prepare crack500 raw/crack500 -o data/crack500
    """
    from cracktool.datasets.prepare import prepare as run
    from cracktool.datasets.raw import PrepareOptions

    options = PrepareOptions(
        val_fraction=val,
        test_fraction=test,
        masks=masks,
        mask_threshold=mask_threshold,
        inverted=inverted,
        seed=seed,
    )
    with _progress(quiet) as progress:
        bar = progress.add_task(layout, total=None)

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        folder = out or Path("data") / layout
        result = run(layout, source, folder, options=options, jobs=jobs, dry_run=dry_run, progress=show)
    _warn(result.warnings)
    if not quiet:
        counts = {"all": sum(result.counts.values()), **result.counts}
        published = result.published
        _tell(_table([["split", "images", "published"], *([name, str(n), str(published.get(name, "-"))] for name, n in counts.items())]))
        _tell(f"{sum(result.counts.values()) / max(result.seconds, 1e-9):.1f} images/s")
    print(result.manifest)
    _finish(result.failures)


def _finish(failures: Iterable[CrackError]) -> None:
    lines = [str(error) for error in failures]
    for line in lines:
        _tell(f"crack: {line}")
    if lines:
        raise typer.Exit(1)


@app.command()
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
        return _list_models()
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
    return None


def _list_models() -> None:
    from cracktool.models import FAMILIES, LISTED, describe

    print(_table([["model", "parameters", "stride"], *map(describe, LISTED)]))
    print(f"\nAny {' or '.join(f'{family}_ENCODER' for family in FAMILIES)} with an encoder of timm works likewise.")


def _show_training(config: TrainConfig, folder: Path, *, resume: bool, quiet: bool) -> None:
    from cracktool.training import EpochEnded, Finished, Started, Stepped, train

    say = (lambda _: None) if quiet else _tell
    with _progress(quiet) as progress:
        bar = progress.add_task("", total=None)
        for event in train(config, folder, resume=resume):
            match event:
                case Started():
                    say(
                        f"{config.model}: {event.parameters / 1e6:.1f} M parameters, {event.device.reason}; "
                        f"{event.train_images} images to learn from, {event.val_images} to validate on"
                    )
                    steps = event.steps_per_epoch
                case Stepped():
                    done = event.step - (event.epoch - 1) * steps
                    title = f"epoch {event.epoch}/{config.epochs} loss {event.loss:.3f}"
                    progress.update(bar, total=steps, completed=done, description=title)
                case EpochEnded():
                    say(
                        f"epoch {event.epoch}/{config.epochs}: loss {event.train_loss:.4f}, crack IoU {event.val_iou:.4f}, "
                        f"precision {event.val_precision:.3f}, recall {event.val_recall:.3f}, "
                        f"{event.seconds:.0f} s{', best so far' if event.best else ''}"
                    )
                case Finished():
                    say(f"best crack IoU on validation {event.val_iou:.4f}, epoch {event.epoch}")
                    print(event.weights)
