"""`crack infer`: photos in, masks out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cracktool.cli.options import Debug, Device, Dtype, Model, Quiet, Threshold, Tile, Weights, build_predictor
from cracktool.cli.screen import finish, print_data, progress_bar, stdout, warn
from cracktool.errors import UsageError

if TYPE_CHECKING:
    from cracktool.inference import Predictor


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
    predictor = build_predictor(
        weights, device, quiet, model=model, dtype=dtype, tile=tile, overlap=overlap,
        batch_size=batch_size, threshold=threshold, tta=tta,
    )  # fmt: skip
    if "-" in (out, *names):
        _infer_one(predictor, names, out)
        return
    options = FolderOptions(probs=probs, overlay=overlay, overwrite=overwrite, resume=resume, dry_run=dry_run)
    failures = []
    with progress_bar(quiet, desc="infer", unit=" photos") as bar:
        for result in infer_folder(predictor, names, Path(out), options):
            bar.update()
            if isinstance(result, Failed):
                failures.append(result.error)
            elif json_:
                print_data(json.dumps({"status": type(result).__name__.lower(), **asdict(result)}, default=str))
            else:
                print_data(result.outputs[0])
    warn(predictor.warnings)
    finish(failures)


def _infer_one(predictor: Predictor, names: list[str], out: str) -> None:
    from cracktool.files import replace_file
    from cracktool.inference import infer_bytes

    if len(names) != 1:
        raise UsageError("- stands for one photo in and one mask out", remedy="give exactly one input")
    mask = infer_bytes(predictor, sys.stdin.buffer.read() if names[0] == "-" else Path(names[0]))
    if out == "-":
        with stdout():
            sys.stdout.buffer.write(mask)
    else:
        replace_file(Path(out), mask)
        print_data(out)


def _listed(files_from: Path | None) -> list[str]:
    if files_from is None:
        return []
    try:
        text = sys.stdin.read() if str(files_from) == "-" else files_from.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list of inputs cannot be read: {error}", path=files_from) from error
    return [line for line in text.replace("\0", "\n").splitlines() if line]
