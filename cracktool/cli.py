"""The command line: options -> one library call -> lines on screen; errors -> exit codes.

The only module that prints, and the only home of typer and rich. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from cracktool import __version__
from cracktool.errors import CrackError, UsageError

if TYPE_CHECKING:
    from tqdm import tqdm

    from cracktool.config import TrainConfig
    from cracktool.inference import Predictor

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
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]  # read by `_fail`
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", "-w", help="Weights file, run folder or published name; none for the ones that ship."),
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Network of an authors' .pth file; refuses weights of another.")
]
Tile = Annotated[int | None, typer.Option(min=32, help="Side of the tiles in px; none for what suits the weights.")]
Threshold = Annotated[float | None, typer.Option(help="Crack from this probability on; none for what the weights say.")]


def main() -> None:
    """Run the command line; every expected error is one line on stderr and an exit code."""
    try:
        app()
    except CrackError as error:
        _fail(str(error), error.exit_code, error)
    except Exception as error:  # noqa: BLE001  # the boundary: no traceback reaches a user
        _fail(f"unexpected {type(error).__name__}: {error} (run again with --debug to see where)", 1, error)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        _data(__version__)
        raise typer.Exit


def _fail(line: str, code: int, error: Exception) -> NoReturn:
    if "--debug" in sys.argv:
        raise error
    _tell(f"crack: {line}")
    sys.exit(code)


@contextlib.contextmanager
def _stdout() -> Iterator[None]:
    """Leave quietly when the reader of stdout has gone, as in `crack ... | head`: that is no error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at exit
        sys.exit(0)


def _bar(quiet: bool, **options: Any) -> tqdm[Any]:
    """Return a progress bar on stderr; it shows nothing when stderr is no terminal."""
    from tqdm import tqdm

    return tqdm(disable=True if quiet else None, leave=False, dynamic_ncols=True, **options)


def _data(line: object) -> None:
    """Print data to stdout, around a progress bar that may be on the same terminal."""
    from tqdm import tqdm

    with _stdout(), tqdm.external_write_mode(sys.stdout):
        print(line)


def _tell(line: str) -> None:
    """Talk to the user on stderr, around a progress bar that may be there."""
    from tqdm import tqdm

    with tqdm.external_write_mode(sys.stderr):
        print(line, file=sys.stderr, flush=True)


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        _tell(f"crack: warning: {line}")


def _finish(failures: Iterable[CrackError]) -> None:
    """Print one line for each failure, and leave with exit code 1 if there is any."""
    lines = [f"crack: {error}" for error in failures]
    for line in lines:
        _tell(line)
    if lines:
        raise typer.Exit(1)


def _table(rows: Sequence[Sequence[str]], file: TextIO) -> None:
    """Print a table whose first row is its head: drawn on a terminal, tab-separated for other programs."""
    if not file.isatty():
        lines = "\n".join("\t".join(row) for row in rows)
        _data(lines) if file is sys.stdout else _tell(lines)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for number, title in enumerate(rows[0]):
        table.add_column(title, justify="right" if number else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console(file=file).print(table)


@app.command()
def prepare(
    layout: Annotated[str, typer.Argument(help="crack500, deepcrack, cfd, folder or synthetic.")],
    source: Annotated[Path | None, typer.Argument(help="Raw folder [raw/LAYOUT].")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the prepared set goes [data/LAYOUT].")] = None,
    val: Annotated[
        float | None, typer.Option(help="Share of the images for validation, where none is published.")
    ] = None,
    test: Annotated[
        float | None, typer.Option(help="Share of the images for testing, where none is published.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks, where it is not beside the images.")] = None,
    mask_threshold: Annotated[int, typer.Option(help="Grey values from here on, 1 to 255, are crack.")] = 128,
    inverted: Annotated[bool, typer.Option("--inverted", help="The crack is dark in the masks.")] = False,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="How many synthetic pictures.")] = None,
    size: Annotated[str | None, typer.Option(help="Height and width of synthetic pictures, such as 512x768.")] = None,
    degrade: Annotated[
        bool, typer.Option("--degrade", help="Blur photos and shrink them to a quarter; masks stay sharp.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides splits, synthetic pictures and blur.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads; none for one per processor.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, write nothing.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn a raw data set into images/, masks/ and manifest.csv.

    Crack500 photos are cut into 16 tiles, of which those with more than 1000 crack pixels are kept. With --degrade the
    set is one to score networks that enlarge by 4, such as csbsr_pspnet: kernels/NAME.npy is what blurred a photo.
    Prints the path of the table.

    Example: crack prepare crack500 raw/crack500 -o data/crack500
    """
    from cracktool.datasets.prepare import prepare as run
    from cracktool.datasets.raw import PrepareOptions

    options = PrepareOptions(
        val=val,
        test=test,
        masks=masks,
        mask_threshold=mask_threshold,
        inverted=inverted,
        seed=seed,
        count=count,
        size=_parse_size(size),
        degrade=degrade,
    )
    folder = out or Path("data") / layout
    with _bar(quiet, desc=layout, unit=" images") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = run(layout, source, folder, options=options, jobs=jobs, dry_run=dry_run, progress=show)
    _warn(result.warnings)
    if not quiet:
        counts = {**result.counts, "all": sum(result.counts.values())}
        rows = [(name, str(count), str(result.published.get(name, "-"))) for name, count in counts.items()]
        _table([("split", "images", "published"), *rows], sys.stderr)
        _tell(f"{counts['all'] / max(result.seconds, 1e-9):.1f} images/s")
    _data(result.manifest)
    _finish(result.failures)


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"the size {text!r} cannot be read", remedy="write HEIGHTxWIDTH in px, such as 512x768")
    return int(height), int(width)


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
    _table([header, *map(describe, LISTED)], sys.stdout)
    _tell(f"Any {' or '.join(f'{family}_ENCODER' for family in FAMILIES)} with an encoder of timm works likewise.")


def _show_training(config: TrainConfig, folder: Path, *, resume: bool, quiet: bool) -> None:
    from cracktool.training import EpochEnded, Finished, Labelled, Started, Stepped, train

    say = (lambda _: None) if quiet else _tell
    with _bar(quiet, unit=" steps") as bar:
        for event in train(config, folder, resume=resume):
            match event:
                case Started():
                    steps = bar.total = event.steps_per_epoch
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
                    _data(event.weights)


@app.command("eval")
def eval_(
    data: Annotated[Path, typer.Argument(help="Prepared data set, or its manifest.csv.")],
    weights: Weights = None,
    model: Model = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    masks: Annotated[Path | None, typer.Option(help="Score this folder of masks instead of a network.")] = None,
    threshold: Threshold = None,
    tile: Tile = None,
    overlap: Annotated[float, typer.Option(help="Share of a tile that it shares with the next.")] = 0.25,
    figures: Annotated[int, typer.Option(min=0, help="Side-by-side pictures: the worst, median and best.")] = 12,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for report, tables and pictures.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a network, or a folder of masks, against the truth of a data set.

    Scores are of the crack class, at the size of the true masks: the photos' own, or 4 times their sides in a set made
    with prepare --degrade. Prints a table: pooled over all pixels, and the mean over images under both rules for images
    without crack.

    Example: crack eval data/crack500 --weights runs/unet_resnet34 --split test -o report
    """
    from cracktool.evaluation import (
        evaluate,
        masks_origin,
        model_origin,
        predictions_from_masks,
        predictions_from_model,
    )
    from cracktool.manifest import read_manifest
    from cracktool.report import TABLE_COLUMNS, format_table, write_report

    manifest = read_manifest(data).split(split)
    if masks is None:
        predictor = _predictor(
            weights, device, quiet, model=model, dtype=dtype, tile=tile, overlap=overlap, threshold=threshold
        )
        origin = model_origin(predictor, str(weights or "the weights that ship"))
        predictions, used = predictions_from_model(manifest, predictor), predictor.threshold
    elif weights is None and model is None and threshold is None:
        origin, used = masks_origin(masks), 0.5
        predictions = predictions_from_masks(manifest, masks)
    else:
        raise UsageError("--masks are ready masks", remedy="leave --weights, --model and --threshold out")
    with _bar(quiet, iterable=predictions, total=len(manifest.entries), desc=split, unit=" images") as shown:
        report = evaluate(manifest, shown, origin=origin, threshold=used)
    if out is not None:
        _warn(write_report(report, out, figures=figures).warnings)
    if not quiet:
        skipped = f", {report.skipped} without truth skipped" if report.skipped else ""
        _tell(f"{report.data}, split {split}: {len(report.rows)} images, {report.positives} with crack{skipped}")
    if json_:
        _data(json.dumps(report.to_dict()))
    else:
        _table([TABLE_COLUMNS, *format_table(report)], sys.stdout)
    _finish(failure.error for failure in report.failures)


@app.command()
def infer(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT...", help="Photos, folders, globs, or -.")
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the masks; - for one mask on stdout.")] = "masks",
    weights: Weights = None,
    model: Model = None,
    tile: Tile = None,
    overlap: Annotated[float, typer.Option(help="Share of a tile that it shares with the next.")] = 0.25,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Tiles of a batch; none for what suits.")] = None,
    threshold: Threshold = None,
    tta: Annotated[bool, typer.Option("--tta", help="Average over four flips: four times the work.")] = False,
    probs: Annotated[bool, typer.Option("--probs", help="Write probabilities too, as STEM.probs.png.")] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Draw the crack into the photo, STEM.overlay.jpg.")
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print a JSON line per photo, not only the mask's path.")
    ] = False,
    files_from: Annotated[
        Path | None, typer.Option(help="Read inputs from this file, one a line; - for stdin.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped run; refuse other settings.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do every photo again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find the cracks in photos and write a mask for each.

    A mask is a PNG of the photo's size, 255 on crack, at the same sub-folder and stem. What is finished already is
    not done again. Prints the path of each mask.

    Example: crack infer examples/photos -o masks --overlay
    """
    from cracktool.inference import Failed, FolderOptions, infer_folder

    names = [*(inputs or []), *_listed(files_from)]
    if not names:
        raise UsageError("no input is given", remedy="name photos or folders: crack infer photos/ -o masks/")
    predictor = _predictor(
        weights, device, quiet, model=model, dtype=dtype, tile=tile, overlap=overlap,
        batch_size=batch_size, threshold=threshold, tta=tta,
    )  # fmt: skip
    if "-" in (out, *names):
        _infer_one(predictor, names, out)
        return
    options = FolderOptions(probs=probs, overlay=overlay, overwrite=overwrite, resume=resume, dry_run=dry_run)
    failures = []
    with _bar(quiet, desc="infer", unit=" photos") as bar:
        for result in infer_folder(predictor, names, Path(out), options):
            bar.update()
            if isinstance(result, Failed):
                failures.append(result.error)
            elif json_:
                _data(json.dumps({"status": type(result).__name__.lower(), **asdict(result)}, default=str))
            else:
                _data(result.outputs[0])
    _warn(predictor.warnings)
    _finish(failures)


def _infer_one(predictor: Predictor, names: list[str], out: str) -> None:
    from cracktool.files import replace_file
    from cracktool.inference import infer_bytes

    if len(names) != 1:
        raise UsageError("- stands for one photo in and one mask out", remedy="give exactly one input")
    mask = infer_bytes(predictor, sys.stdin.buffer.read() if names[0] == "-" else Path(names[0]))
    if out == "-":
        with _stdout():
            sys.stdout.buffer.write(mask)
    else:
        replace_file(Path(out), mask)
        _data(out)


def _listed(files_from: Path | None) -> list[str]:
    if files_from is None:
        return []
    try:
        text = sys.stdin.read() if str(files_from) == "-" else files_from.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list of inputs cannot be read: {error}", path=files_from) from error
    return [line for line in text.replace("\0", "\n").splitlines() if line]


def _predictor(
    weights: Path | None, device: str, quiet: bool, *, model: str | None = None, dtype: str = "auto", **settings: Any
) -> Predictor:
    from cracktool.device import choose_device
    from cracktool.inference import load_predictor

    predictor = load_predictor(weights, model=model, device=device, dtype=dtype, **settings)
    if not quiet:
        _tell(f"{predictor.network.card.model} on {choose_device(device, dtype).reason}")
    return predictor


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, ending in .onnx or .safetensors.")],
    weights: Weights = None,
    model: Model = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write weights as one file: ONNX for other runtimes and QGIS, or safetensors for this program.

    In ONNX batch, height and width stay free, and the file is kept only when it gives the same probabilities as
    PyTorch. An authors' .pth file becomes safetensors with all that inference needs to know. Prints the file's path.

    Example: crack export -o crack.onnx
    """
    from cracktool.export import export_onnx, export_safetensors
    from cracktool.weights import load_weights

    checkpoint = load_weights(weights, model=model)
    if out.suffix == ".safetensors":
        card = export_safetensors(checkpoint, out, overwrite=overwrite)
        said = f"{card.model}, threshold {card.threshold}, tiles of {card.tile} px, mean {card.mean}, std {card.std}"
    else:
        exported = export_onnx(checkpoint, out, overwrite=overwrite)
        sizes = ", ".join("x".join(map(str, size)) for size in exported.checked)
        said = (
            f"{exported.size / 1e6:.1f} MB, opset {exported.opset}; largest difference in probability "
            f"{exported.difference:.1e} at {sizes}"
        )
    if not quiet:
        _tell(said)
    _data(out)
