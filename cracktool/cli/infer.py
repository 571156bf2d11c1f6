"""`crack infer`: photos in, masks out."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cracktool.cli.measuring import (
    Distance,
    Format,
    Masks,
    Measure,
    Measuring,
    MmPerPx,
    Report,
    ScaleFrom,
    Set,
    Severity,
    measuring,
)
from cracktool.cli.options import (
    Debug,
    Device,
    Dtype,
    Model,
    Overlap,
    Quiet,
    Threshold,
    Tile,
    Tta,
    Weights,
    build_predictor,
    convert,
    refuse,
    tile_side,
)
from cracktool.cli.screen import finish, leaving_at_once, print_data, progress_bar, tell, warn, writing
from cracktool.errors import CrackError, OutputError, UsageError

if TYPE_CHECKING:
    from cracktool.inference import FolderOptions, Predictor, Result
    from cracktool.inspection.schema import Row

_MEGAPIXELS = 268.0
_OF_FOLDERS = ("probs", "overlay", "json_", "resume", "dry_run", "shard", "ray", "every", "smooth", "timeout")
_OF_NETWORKS = (
    *("weights", "model", "tile", "overlap", "batch_size", "threshold", "tta", "probs", "overlay", "resume", "dry_run"),
    *("shard", "ray", "every", "smooth", "max_megapixels", "timeout", "device", "dtype", "engine"),
)


def infer(
    context: typer.Context,
    inputs: Annotated[list[str] | None, typer.Argument(metavar="INPUT", help="Photos, folders, globs, or -.")] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the masks; - for one mask on stdout.")] = "masks",
    weights: Weights = None,
    model: Model = None,
    tile: Tile = "auto",
    overlap: Overlap = 0.25,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Tiles of a batch; none for what suits.")] = None,
    threshold: Threshold = None,
    tta: Tta = False,
    probs: Annotated[bool, typer.Option("--probs", help="Write probabilities too, as STEM.probs.png.")] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Draw the crack into the photo, STEM.overlay.jpg.")
    ] = False,
    measure: Measure = False,
    masks: Masks = None,
    mm_per_px: MmPerPx = None,
    scale_from: ScaleFrom = None,
    distance: Distance = None,
    severity: Severity = None,
    format_: Format = None,
    report: Report = False,
    set_: Set = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print a JSON line per photo, not only the mask's path.")
    ] = False,
    files_from: Annotated[
        Path | None, typer.Option(help="Read inputs from this file, one a line; - for stdin.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped run; refuse other settings.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do every photo again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written, and what it costs.")] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do the I-th of N parts, on one of N machines.")
    ] = None,
    ray: Annotated[int, typer.Option(min=0, help="Work by this many processes of a Ray cluster; 0 for without.")] = 0,
    every: Annotated[int, typer.Option(min=1, help="Of a video, run every n-th frame.")] = 1,
    smooth: Annotated[
        float, typer.Option(help="Of a video, what the past counts at each frame, from 0 to below 1.")
    ] = 0.0,
    max_megapixels: Annotated[
        float, typer.Option(help="Refuse larger photos, lest a small file fill the memory.")
    ] = _MEGAPIXELS,
    timeout: Annotated[float, typer.Option(help="Seconds that a file which gives no answer is waited for.")] = 300,
    device: Device = "auto",
    dtype: Dtype = "auto",
    engine: Annotated[
        str, typer.Option(help="auto, torch, onnx or openvino; the last two convert the weights once.")
    ] = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find the cracks in photos and videos and write a mask for each.

    A mask is a PNG of the photo's size, 255 on crack, at the same sub-folder and stem. What is finished already is
    not done again. Prints the path of each mask. With --measure, or any option of it, tables say how long and how wide
    the cracks are: cracks.csv, photos.csv, the same as .jsonl, and STEM.cracks.json with the lines of each photo.

    Example: crack infer examples/photos -o masks --overlay
    """
    with leaving_at_once():
        from cracktool.inference import FolderOptions, infer_folder, infer_ray, parse_shard

    names = [*(inputs or []), *_listed(files_from)]
    measured = measuring(
        measure=measure, masks=masks, mm_per_px=mm_per_px, scale_from=scale_from, distance=distance, severity=severity,
        formats=format_, report=report, settings=set_, out=out, overwrite=overwrite,
        whole=shard is None,
    )  # fmt: skip
    if measured and "-" in (out, *names):
        raise UsageError("measuring writes tables into a folder", remedy="name photos, and a folder with -o")
    if measured and masks:
        reason = "--masks measures masks that are there: no network runs, and no mask is written"
        refuse(context, _OF_NETWORKS, reason)
        _measure_masks(measured, names, masks, json_, quiet)
        return
    if measured:
        refuse(context, ["dry_run"], "measuring needs the masks, and a dry run makes none")
    if not names:
        raise UsageError("no input is given", remedy="name photos or folders: crack infer photos/ -o masks/")
    load: dict[str, Any] = {
        "model": model, "dtype": dtype, "tile": tile_side(tile), "overlap": overlap,
        "batch_size": batch_size, "threshold": threshold, "tta": tta, "timeout": timeout, "engine": engine,
    }  # fmt: skip
    max_pixels = _pixels(max_megapixels)
    if "-" in (out, *names):
        refuse(context, _OF_FOLDERS, "- stands for one photo in and one mask out, and no more is written")
        _check_one(names, out, overwrite)
        _infer_one(build_predictor(weights, device, quiet, **load), names[0], out, max_pixels)
        return
    _refuse_picture(out)
    options = FolderOptions(
        probs=probs, overlay=overlay, overwrite=overwrite, resume=resume, dry_run=dry_run,
        shard=None if shard is None else parse_shard(shard),
        every=every, smooth=smooth, max_pixels=max_pixels,
    )  # fmt: skip
    predictor = build_predictor(weights, device, quiet, **load)
    if ray:
        file = weights.absolute() if weights is not None and os.path.lexists(weights) else weights
        load |= {"weights": file, "device": device, "convert": convert}
        run = partial(infer_ray, predictor, load, names, Path(out), workers=ray)
    else:
        run = partial(infer_folder, predictor, names, Path(out))
    _infer_folder(run, options, predictor, measured, json_, quiet)


def _measure_masks(measured: Measuring, names: list[str], masks: Path, json_: bool, quiet: bool) -> None:
    with progress_bar(quiet, desc="measure", unit=" photos") as bar:
        for row in map(measured.keep, measured.of_masks(names, masks)):
            bar.update()
            if row and json_:
                print_data(json.dumps(row))
    finish(measured.finish(as_json=json_, quiet=quiet))


def _infer_folder(
    run: Callable[..., Iterable[Result]],
    options: FolderOptions,
    predictor: Predictor,
    measured: Measuring | None,
    json_: bool,
    quiet: bool,
) -> None:
    from cracktool.inference import Failed, Planned, estimate, interruptible

    failures: list[CrackError] = measured.failures if measured else []
    planned: list[Planned] = []
    bare: list[Path] = []
    with progress_bar(quiet, desc="infer", unit=" photos") as bar, interruptible(_say_stopping) as stop:
        for result, row in _results(run(options, stop=stop), measured):
            bar.update()
            if isinstance(result, Failed):
                failures.append(result.error)
                continue
            if isinstance(result, Planned):
                planned.append(result)
            elif options.dry_run and not json_:
                continue  # it is there already
            if options.overlay and not any(path.stem.endswith(".overlay") for path in result.outputs):
                bare.append(result.path)
            print_data(_line(result, row) if json_ else result.outputs[0])
    if options.dry_run and not quiet:
        tell(str(estimate(predictor, planned)))
    warn([*predictor.warnings, *(f"{path}: is read by rows, so it has no overlay" for path in bare)])
    if stop.is_set():
        tell("crack: interrupted; the same command goes on with what is missing")
    if measured:
        failures = measured.finish(as_json=json_, quiet=quiet)
    finish(failures, 130 if stop.is_set() else 0)


def _line(result: Result, row: Row | None) -> str:
    line = {"status": type(result).__name__.lower(), **asdict(result)}
    return json.dumps(line | ({"measured": row} if row else {}), default=str)


def _say_stopping() -> None:
    tell("crack: finishing the photos under way; Ctrl-C again stops at once")


def _results(results: Iterable[Result], measured: Measuring | None) -> Iterable[tuple[Result, Row | None]]:
    if measured is None:
        return ((result, None) for result in results)
    return ((result, measured.keep(done)) for result, done in measured.of_results(results))


def _pixels(megapixels: float) -> int:
    if not 0 < megapixels < float("inf"):
        raise UsageError(f"--max-megapixels is {megapixels:g}, but must be above 0", remedy=f"{_MEGAPIXELS:g} is usual")
    return round(1e6 * megapixels)


def _check_one(names: Sequence[str], out: str, overwrite: bool) -> None:
    if len(names) != 1:
        raise UsageError("- stands for one photo in and one mask out", remedy="give exactly one input")
    if out == "-":
        return
    if not out.lower().endswith(".png"):
        raise UsageError("the mask of - is a PNG file", path=out, remedy="say -o mask.png, or -o - for stdout")
    if os.path.lexists(out) and not overwrite:
        raise OutputError("exists already", path=out, remedy="use --overwrite, or another name with -o")


def _refuse_picture(out: str) -> None:
    from cracktool.files import is_folder
    from cracktool.images import EXTENSIONS

    if Path(out).suffix.lower() in EXTENSIONS and not is_folder(out):
        raise UsageError("is a picture's name, but masks go into a folder", path=out, remedy="say -o masks/")


def _infer_one(predictor: Predictor, name: str, out: str, max_pixels: int) -> None:
    from cracktool.files import replace_file
    from cracktool.inference import infer_bytes

    mask = infer_bytes(predictor, sys.stdin.buffer.read() if name == "-" else Path(name), max_pixels=max_pixels)
    if out == "-":
        with writing(sys.stdout):
            sys.stdout.buffer.write(mask)
    else:
        replace_file(Path(out), mask)
        print_data(out)
    warn(predictor.warnings)


def _listed(files_from: Path | None) -> list[str]:
    """Return the names in a list: separated by NUL, as `find -print0` has them, or else by line."""
    if files_from is None:
        return []
    try:
        names = sys.stdin.buffer.read() if str(files_from) == "-" else files_from.read_bytes()
    except OSError as error:
        raise UsageError(f"the list of inputs cannot be read: {error.strerror or error}", path=files_from) from error
    names = names.removeprefix(codecs.BOM_UTF8)
    lines = names.split(b"\0") if b"\0" in names else names.replace(b"\r\n", b"\n").split(b"\n")
    return [os.fsdecode(line) for line in lines if line]
