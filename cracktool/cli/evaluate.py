"""`crack eval`: networks, masks or probability maps against the truth."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

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
    build_predictor,
    refuse,
    tile_side,
)
from cracktool.cli.screen import finish, leaving_at_once, print_data, print_table, progress_bar, tell, warn
from cracktool.errors import CrackError, InputError, UsageError, WeightsError, choose_names

if TYPE_CHECKING:
    from cracktool.evaluation import Difference, Origin, Prediction, Report, Spoilt
    from cracktool.evaluation.restoration import Scorer
    from cracktool.inference import Predictor
    from cracktool.manifest import Manifest
    from cracktool.report import Table

SHIPPED = "the weights that ship"


class Format(StrEnum):
    """How tables are printed."""

    table = "table"
    csv = "csv"
    md = "md"
    tex = "tex"
    json = "json"


@dataclass(frozen=True)
class _Source:
    """One set of predictions: its name, how to get those of a data set with their threshold, and what else to score."""

    name: str
    predict: Callable[[Manifest], tuple[Origin, Iterable[Prediction], float]]
    scorer: Callable[[Manifest], Scorer | None] = lambda _: None


def evaluate(
    context: typer.Context,
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="Prepared data sets, or their manifest.csv.")],
    weights: Annotated[
        list[Path] | None,
        typer.Option("--weights", "-w", help="Weights file, run folder, or name such as accurate; may be repeated."),
    ] = None,
    model: Model = None,
    masks: Annotated[
        list[Path] | None,
        typer.Option(help="Score this folder of masks, or that of the set's name in it; may be repeated."),
    ] = None,
    probs: Annotated[
        list[Path] | None, typer.Option(help="Score this folder of probability maps; may be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    threshold: Threshold = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="Follow this published evaluator too; all for each of them.")
    ] = None,
    corrupt: Annotated[
        list[str] | None, typer.Option(help="Score photos spoilt so, at five severities; all for each kind.")
    ] = None,
    score: Annotated[str, typer.Option(help="Score of the matrix of several sets.")] = "iou",
    tile: Tile = "auto",
    overlap: Overlap = 0.25,
    tta: Tta = False,
    figures: Annotated[int, typer.Option(min=0, help="Side-by-side pictures: the worst, median and best.")] = 12,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for page, tables and pictures.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How tables are printed.")] = Format.table,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON; the same as --format json.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score networks, masks or probability maps against the truth of data sets.

    Scores are of the crack class, at the size of the true masks: the photos' own, or 4 times their sides in a set made
    with prepare --degrade. Prints every score pooled over all pixels, those at one threshold with their 95 % interval,
    and as the mean over images under both rules for images without crack; then those by group and by published
    evaluator.

    Several data sets or several sets of predictions give a matrix of one score, and on one data set the differences
    from the first (of weights, then masks, then probabilities), in pairs, with what may be said of them.

    Example: crack eval data/crack500 --weights runs/unet_resnet34 --split test -o report
    """
    with leaving_at_once():
        from cracktool.evaluation import check_pooled
        from cracktool.inference import EXPORTED
    from cracktool.corruption import CORRUPTIONS
    from cracktool.files import make_folder
    from cracktool.manifest import read_manifest, short_names
    from cracktool.protocols import PROTOCOLS

    def build(chosen: Path | None) -> Predictor:
        settings: dict[str, Any] = {
            "tile": tile_side(tile), "overlap": overlap, "tta": tta, "threshold": threshold,
        }  # fmt: skip
        # Scores of a checkpoint are those of PyTorch, wherever and with whatever they are repeated.
        engine = "auto" if chosen is not None and chosen.suffix in EXPORTED else "torch"
        return build_predictor(chosen, device, quiet, model=model, dtype=dtype, engine=engine, **settings)

    if (masks or probs) and not weights:
        refuse(context, ("model", "tile", "overlap", "tta", "device", "dtype"), "no network runs without --weights")
    if masks and not (weights or probs):
        refuse(context, ["threshold"], "--masks are ready masks")
    if out is None and figures:
        refuse(context, ["figures"], "the pictures are part of the report: add -o FOLDER")
    manifests = [read_manifest(each).split(split) for each in data]
    if len({manifest.folder.resolve() for manifest in manifests}) < len(manifests):
        raise UsageError("a data set is named twice", remedy="name each once")
    names = dict(zip((each.folder for each in manifests), short_names(manifests), strict=True))
    sources = [
        *(_weights_source(each, model, build) for each in weights or ()),
        *(_folder_source("masks", each, names) for each in masks or ()),
        *(_folder_source("probs", each, names, 0.5 if threshold is None else threshold) for each in probs or ()),
    ] or [_weights_source(None, model, build)]
    check_pooled(score)
    run = partial(_report, protocols=choose_names("protocol", protocol or (), PROTOCOLS), quiet=quiet)
    kinds = choose_names("corruption", corrupt or (), CORRUPTIONS)
    shown = Format.json if json_ else format_
    single = len(manifests) == len(sources) == 1
    if kinds:
        if masks or probs:
            raise UsageError("--corrupt spoils photos before a network sees them", remedy="give --weights")
        refuse(context, ("protocol", "figures"), "of spoilt photos one score is told")
    elif single:
        refuse(context, ["score"], "--score is that of a matrix or of --corrupt; a single table has all scores")
    elif out is None and shown is not Format.json:
        refuse(context, ["protocol"], "of several it is told in their reports: add -o FOLDER, or --json")
    if out is not None:
        make_folder(out)
    if kinds:
        _show_all_spoilt(manifests, names, weights or (None,), build, kinds, score, out, shown, quiet)
    elif single:
        _show_one(run(manifests[0], sources[0]), out, figures, shown, quiet)
    else:
        _show_matrix(manifests, names, _told_apart(sources), run, score, out, figures, shown)


def _told_apart(sources: Sequence[_Source]) -> list[_Source]:
    """Return sources with names of their own: one folder may be scored as masks and as probabilities."""
    names = [source.name for source in sources]
    return [
        replace(source, name=f"{source.name} ({number})") if names.count(source.name) > 1 else source
        for number, source in enumerate(sources, 1)
    ]


def _weights_source(weights: Path | None, model: str | None, build: Callable[[Path | None], Predictor]) -> _Source:
    from cracktool.evaluation import model_origin, predictions_from_model, restoration_scorer
    from cracktool.inference import EXPORTED
    from cracktool.weights import load_weights

    name = str(weights or SHIPPED)
    predictor = cache(lambda: build(weights))

    def predict(manifest: Manifest) -> tuple[Origin, Iterable[Prediction], float]:
        used = predictor()
        return model_origin(used, name), predictions_from_model(manifest, used), used.threshold

    if weights is not None and weights.suffix in EXPORTED:  # what they restore is no output of theirs
        return _Source(name, predict)
    return _Source(name, predict, partial(restoration_scorer, load=partial(load_weights, weights, model=model)))


def _folder_source(
    kind: Literal["masks", "probs"], folder: Path, names: Mapping[Path, str], threshold: float = 0.5
) -> _Source:
    from cracktool.evaluation import masks_origin, predictions_from_masks, predictions_from_probs, probs_origin

    describe = masks_origin if kind == "masks" else probs_origin
    read = predictions_from_masks if kind == "masks" else predictions_from_probs

    def predict(manifest: Manifest) -> tuple[Origin, Iterable[Prediction], float]:
        own = folder / names[manifest.folder]  # of several data sets, each may have a folder of its own
        used = own if own.is_dir() else folder
        return describe(used), read(manifest, used), threshold

    return _Source(str(folder), predict)


def _report(manifest: Manifest, source: _Source, *, protocols: Sequence[str], quiet: bool) -> Report:
    from cracktool.evaluation import evaluate as run

    origin, predictions, threshold = source.predict(manifest)
    total = sum(entry.has_truth for entry in manifest.entries)
    with progress_bar(quiet, iterable=predictions, total=total, desc=manifest.name, unit=" images") as shown:
        scorer = source.scorer(manifest)
        report = run(manifest, shown, origin=origin, threshold=threshold, protocols=protocols, scorer=scorer)
    if not quiet:
        skipped = f", {report.skipped} without truth skipped" if report.skipped else ""
        split, images = report.split, f"{len(report.rows)} images, {report.positives} with crack"
        tell(f"{source.name} on {report.data}, split {split}: {images}{skipped}")
    return report


def _show_one(report: Report, out: Path | None, figures: int, shown: Format, quiet: bool) -> None:
    from cracktool.report import group_tables, protocol_tables, score_table, write_report

    warn(report.warnings)
    if out is not None:
        written = write_report(report, out, figures=figures)
        warn(written.warnings)
        if not quiet:
            tell(f"next: open {written.files[-1]}")
    if shown is Format.json:
        print_data(json.dumps(report.to_dict()))
    else:
        _print_tables([score_table(report), *group_tables(report), *protocol_tables(report)], shown)
    finish(failure.error for failure in report.failures)


def _show_matrix(
    manifests: Sequence[Manifest],
    names: Mapping[Path, str],
    sources: Sequence[_Source],
    run: Callable[[Manifest, _Source], Report],
    score: str,
    out: Path | None,
    figures: int,
    shown: Format,
) -> None:
    from cracktool.evaluation import matrix
    from cracktool.report import difference_table, matrix_table, write_report, write_table

    failures: list[CrackError] = []
    warnings: list[str] = []

    def tried(manifest: Manifest, source: _Source, number: int) -> Report | None:
        try:
            report = run(manifest, source)
        except UsageError:  # no other could be scored so either
            raise
        except CrackError as error:
            failures.append(error)
            return None
        failures.extend(failure.error for failure in report.failures)
        warnings.extend(report.warnings)
        if out is not None:
            described = f"{names[manifest.folder]}-{number + 1}"
            warnings.extend(write_report(report, out / described, figures=figures).warnings)
        return report

    reports = [[tried(manifest, source, number) for manifest in manifests] for number, source in enumerate(sources)]
    done = [report for row in reports for report in row if report is not None]
    if not done:
        _finish_once(failures, warnings)
    columns = [f"{names[manifest.folder]} {done[0].split}" for manifest in manifests]
    whole = matrix(reports, score, [source.name for source in sources], columns)
    tables = {"matrix": matrix_table(whole)}
    differences = _differences([row[0] for row in reports], sources, failures) if len(manifests) == 1 else {}
    for number, some in differences.items():
        tables[f"difference-{number}"] = difference_table(some, sources[0].name, sources[number - 1].name)
    if out is not None:
        for name, table in tables.items():
            write_table(table, out / name)
    if shown is Format.json:
        pairs = {sources[number - 1].name: [asdict(each) for each in some] for number, some in differences.items()}
        everything = {"matrix": asdict(whole), "differences": pairs, "reports": [each.to_dict() for each in done]}
        print_data(json.dumps(everything))
    else:
        _print_tables(list(tables.values()), shown)
    _finish_once(failures, warnings)


def _finish_once(failures: Iterable[CrackError], warnings: Iterable[str]) -> None:
    """Tell each once: what is wrong with a photo or truth is so for each network, however it is spoilt."""
    warn(dict.fromkeys(warnings))
    finish({str(each): each for each in failures}.values())


def _differences(
    reports: Sequence[Report | None], sources: Sequence[_Source], failures: list[CrackError]
) -> dict[int, list[Difference]]:
    """Compare each report with the first; return the differences by number, from 2 on."""
    from cracktool.evaluation import compare

    first, *others = reports
    found = {}
    for number, other in enumerate(others, 2):
        if first is None or other is None:
            continue
        try:
            found[number] = compare(first, other)
        except InputError as error:
            failures.append(error)
            continue
        both = found[number][0].images
        if both < max(len(first.rows), len(other.rows)):
            names = f"{sources[number - 1].name} from {sources[0].name}"
            warn([f"the differences of {names} are those of the {both} images that both have"])
    return found


def _show_all_spoilt(
    manifests: Sequence[Manifest],
    names: Mapping[Path, str],
    weights: Sequence[Path | None],
    build: Callable[[Path | None], Predictor],
    kinds: Sequence[str],
    score: str,
    out: Path | None,
    shown: Format,
    quiet: bool,
) -> None:
    failures: list[CrackError] = []
    warnings: list[str] = []
    single = len(manifests) == len(weights) == 1
    for number, each in enumerate(weights, 1):
        name = str(each or SHIPPED)
        predictor = cache(partial(build, each))
        for manifest in manifests:
            folder = out if out is None or single else out / f"{names[manifest.folder]}-{number}"
            try:
                cases = _spoilt(manifest, name, predictor(), kinds, score, quiet)
            except (InputError, WeightsError) as error:
                failures.append(error)
                continue
            failures.extend(one.error for case in cases for one in case.failures)
            warnings.extend(line for case in cases for line in case.warnings)
            _show_spoilt(manifest, name, cases, score, folder, shown)
    _finish_once(failures, warnings)


def _spoilt(
    manifest: Manifest, name: str, predictor: Predictor, kinds: Sequence[str], score: str, quiet: bool
) -> list[Spoilt]:
    from cracktool.evaluation import robustness

    cases = robustness(manifest, predictor, kinds, name=name, score=score)
    with progress_bar(quiet, iterable=cases, total=1 + 5 * len(kinds), desc=manifest.name, unit=" runs") as bar:
        done = list(bar)
    if not quiet:
        images = sum(entry.has_truth for entry in manifest.entries)
        tell(f"{name} on {manifest.folder}, {images} images: {score} by severity")
    return done


def _show_spoilt(
    manifest: Manifest, name: str, cases: Sequence[Spoilt], score: str, out: Path | None, shown: Format
) -> None:
    from cracktool.report import plot_robustness, robustness_table, write_table

    table = robustness_table(cases, score)
    if out is not None:
        write_table(table, out / "robustness")
        plot_robustness(cases, score, out / "robustness.png")
    if shown is Format.json:
        listed = [{**asdict(replace(each, failures=())), "failures": len(each.failures)} for each in cases]
        print_data(json.dumps({"data": str(manifest.folder), "weights": name, "cases": listed}))
    else:
        _print_tables([table], shown)


def _print_tables(tables: Sequence[Table], shown: Format) -> None:
    from cracktool.report import FORMATS

    for table in tables:
        if shown is Format.table:
            print_table(table, sys.stdout)
        else:
            print_data(FORMATS[shown.value](table).rstrip("\n") + ("\n" if table is not tables[-1] else ""))
