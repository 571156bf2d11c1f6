"""Score predictions against a data set: levels or masks x manifest -> `Report`.

Reads truths, writes nothing but a temporary file; a folder of masks is scored without PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cracktool.degradation import SCALE
from cracktool.errors import CrackError, InputError, choose_names
from cracktool.evaluation.masks import Masks, packed
from cracktool.evaluation.predictions import Origin, Prediction
from cracktool.evaluation.restoration import Scorer
from cracktool.evaluation.results import Report
from cracktool.evaluation.rows import Failure, Row
from cracktool.evaluation.truth import doubts, read_truth, size_of
from cracktool.manifest import Manifest
from cracktool.metrics import TOLERANCES, measure, scores_of, threshold_level
from cracktool.protocols import PROTOCOLS, Evaluator
from cracktool.threads import in_order, processors


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """What a thread finds of one image."""

    row: Row
    mask: bytes
    warnings: Sequence[str]

    @property
    def image(self) -> str:
        return self.row.image


def evaluate(
    manifest: Manifest,
    predictions: Iterable[Prediction],
    *,
    origin: Origin,
    threshold: float = 0.5,
    tolerances: Sequence[float] = TOLERANCES,
    protocols: Sequence[str] = (),
    scorer: Scorer | None = None,
) -> Report:
    """Score predictions.

    An entry without a mask counts as free of crack where its label is uncracked, and is skipped otherwise. Memory does
    not grow with the size of the images that are done.

    Args:
        manifest: The images to score, such as one split.
        predictions: Entries with their levels uint8 (H, W), or (4 H, 4 W) where the images are degraded ones, or the
            error met instead, in any order.
        origin: Where they come from. Scores over all thresholds are given where these are no binary masks.
        threshold: Crack from this probability on, between 0 and 1.
        tolerances: Radii of the tolerant scores, px.
        protocols: Published evaluators to follow too, names of `cracktool.protocols.PROTOCOLS`, or all.
        scorer: Gives more scores of an image, such as `restoration_scorer`; called in threads.

    Returns:
        The report. An entry that could not be scored, or that has no prediction, is among its failures.

    Raises:
        UsageError: The threshold or a tolerance is out of range, or there is no such protocol.
        InputError: Nothing could be scored.

    Example:
        >>> part = read_manifest("data/crack500").split("test")
        >>> report = evaluate(part, predictions_from_masks(part, "masks"), origin=masks_origin("masks"))
        >>> report.scores["iou"].pooled
        0.612
    """
    chosen = {name: PROTOCOLS[name] for name in choose_names("protocol", protocols, PROTOCOLS)}
    scores_of(tolerances)
    score = partial(
        _score,
        manifest,
        origin,
        level=threshold_level(threshold),
        tolerances=tuple(tolerances),
        protocols=chosen,
        scorer=scorer,
    )
    wanted = tuple(entry.image for entry in manifest.entries if entry.has_truth)
    found: dict[str, Row | Failure] = {}
    warnings: dict[str, Sequence[str]] = {}
    masks = Masks()
    threads = min(processors(), 4)
    for result in in_order(score, _only(predictions, wanted), threads=threads, waiting=2 * threads):
        if isinstance(result, Failure):
            found[result.image] = result
            continue
        found[result.image] = result.row
        warnings[result.image] = result.warnings
        masks.keep(result.image, result.mask)
    ordered = [found.get(image) or _unpredicted(image) for image in wanted]
    rows = tuple(result for result in ordered if isinstance(result, Row))
    failures = tuple(result for result in ordered if isinstance(result, Failure))
    if not rows:
        raise _nothing_scored(manifest, failures)
    return Report(
        manifest=manifest,
        origin=origin,
        threshold=None if origin.binary else threshold,
        tolerances=tuple(tolerances),
        rows=rows,
        failures=failures,
        skipped=len(manifest.entries) - len(wanted),
        masks=masks,
        protocols=tuple(chosen),
        warnings=tuple(line for row in rows for line in warnings[row.image]),
    )


def _score(
    manifest: Manifest,
    origin: Origin,
    prediction: Prediction,
    *,
    level: int,
    tolerances: tuple[float, ...],
    protocols: Mapping[str, Evaluator[Any]],
    scorer: Scorer | None,
) -> _Scored | Failure:
    entry, levels = prediction
    try:
        if isinstance(levels, CrackError):
            raise levels
        scale = SCALE if levels.shape == (SCALE * entry.height, SCALE * entry.width) else 1
        truth = read_truth(manifest, entry, scale=scale)
        if levels.shape != truth.shape:
            reason = f"the prediction of {origin.name} is {size_of(levels)}, the truth {size_of(truth)}"
            raise InputError(reason, path=manifest.image_path(entry))
        more = {} if scorer is None else scorer(entry)
        records = {name: protocol.measure(levels, truth) for name, protocol in protocols.items()}
    except CrackError as error:
        return Failure(image=entry.image, error=error.about(manifest.image_path(entry)))
    mask = levels >= level
    image = measure(levels, truth, level=level, tolerances=tolerances)
    row = Row(
        entry=entry,
        measured=image.measured,
        scores={**{score.name: score.of(image.measured) for score in scores_of(tolerances)}, **image.scores, **more},
        levels=image.levels,
        near=image.near,
        scale=scale,
        records=records,
    )
    found = doubts(str(manifest.image_path(entry)), truth, mask, by=origin.name)
    return _Scored(row=row, mask=packed(mask), warnings=found)


def _unpredicted(image: str) -> Failure:
    return Failure(image=image, error=InputError("no prediction was given", path=image))


def _only(predictions: Iterable[Prediction], wanted: Iterable[str]) -> Iterator[Prediction]:
    missing = set(wanted)
    for entry, levels in predictions:
        if entry.image in missing:
            missing.remove(entry.image)
            yield entry, levels


def _nothing_scored(manifest: Manifest, failures: Sequence[Failure]) -> InputError:
    if failures:
        reason = f"none of {len(failures)} images could be scored; the first: {failures[0].error}"
        return InputError(reason, path=manifest.folder)
    remedy = "choose another split, or prepare the data set with its masks"
    return InputError("no image with a mask or the label uncracked", path=manifest.folder, remedy=remedy)
