"""`crack eval`: a network or masks against the truth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cracktool.cli.options import Debug, Device, Dtype, Model, Quiet, Threshold, Tile, Weights, build_predictor
from cracktool.cli.screen import finish, print_data, print_table, progress_bar, tell, warn
from cracktool.errors import UsageError


def evaluate(
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
    without crack. Photos sorted by situation (prepare situations) get a second table, one line for each situation.

    Example: crack eval data/crack500 --weights runs/unet_resnet34 --split test -o report
    """
    from cracktool.evaluation import evaluate as run
    from cracktool.evaluation import masks_origin, model_origin, predictions_from_masks, predictions_from_model
    from cracktool.manifest import read_manifest
    from cracktool.report import ORIGIN_COLUMNS, TABLE_COLUMNS, format_origins, format_table, write_report

    manifest = read_manifest(data).split(split)
    if masks is None:
        predictor = build_predictor(
            weights, device, quiet, model=model, dtype=dtype, tile=tile, overlap=overlap, threshold=threshold
        )
        origin = model_origin(predictor, str(weights or "the weights that ship"))
        predictions, used = predictions_from_model(manifest, predictor), predictor.threshold
    elif weights is None and model is None and threshold is None:
        origin, used = masks_origin(masks), 0.5
        predictions = predictions_from_masks(manifest, masks)
    else:
        raise UsageError("--masks are ready masks", remedy="leave --weights, --model and --threshold out")
    with progress_bar(quiet, iterable=predictions, total=len(manifest.entries), desc=split, unit=" images") as shown:
        report = run(manifest, shown, origin=origin, threshold=used)
    if out is not None:
        warn(write_report(report, out, figures=figures).warnings)
    if not quiet:
        skipped = f", {report.skipped} without truth skipped" if report.skipped else ""
        tell(f"{report.data}, split {split}: {len(report.rows)} images, {report.positives} with crack{skipped}")
    if json_:
        print_data(json.dumps(report.to_dict()))
    else:
        print_table([TABLE_COLUMNS, *format_table(report)], sys.stdout)
        if report.origins:
            print_table([ORIGIN_COLUMNS, *format_origins(report)], sys.stdout)
    finish(failure.error for failure in report.failures)
