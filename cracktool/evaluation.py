"""Score predictions against a data set: photos' levels or a folder of masks x manifest -> `Report`.

Reads truths and masks, writes nothing; a folder of masks is scored without PyTorch.
"""

from __future__ import annotations

import math
import os
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from cracktool import __version__
from cracktool.degradation import SCALE
from cracktool.errors import CrackError, InputError, UsageError
from cracktool.images import EXTENSIONS, Mask, read_image, read_mask
from cracktool.manifest import Entry, Manifest
from cracktool.metrics import (
    NO_COUNTS,
    Counts,
    Histogram,
    Levels,
    Matches,
    Spread,
    average_iou,
    average_precision,
    best_dice,
    bootstrap_iou,
    centreline_matches,
    threshold_level,
    tolerance_matches,
)

if TYPE_CHECKING:
    from cracktool.inference import Predictor

Prediction = tuple[Entry, Levels | CrackError]
Item = TypeVar("Item")
Result = TypeVar("Result")

NOTES = (
    "scored at native size: neither truth nor prediction is resized",
    "scores are of the crack class; pooled sums the pixels of all images, per_image is mean and population std",
    "0/0 is 1 where truth and prediction are both empty, else 0",
    "positives_only leaves out images without crack in the truth",
)

_RESAMPLES, _SEED = 1000, 0
_THREADS = min(os.cpu_count() or 1, 4)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where predictions come from.

    Args:
        kind: A network's weights, or a folder of masks.
        name: The weights or the folder, as the user knows them.
        digest: SHA-256 of the weights; empty for a folder.
        settings: What else decides the predicted pixels: tile, overlap, flips, number format.
    """

    kind: Literal["weights", "masks"]
    name: str
    digest: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scored image.

    Args:
        entry: Its line of the manifest.
        counts: Pixel counts at the report's threshold.
        near: Matches with the report's tolerance.
        lines: Matches of centre lines (clDice).
        histogram: Counts at every threshold.
        scores: All scores of this image by name.
        scale: Side of truth and prediction over side of the image: 1, or 4 where the image is a degraded one.
        packed: The predicted mask, one bit per pixel, compressed.
    """

    entry: Entry
    counts: Counts
    near: Matches
    lines: Matches
    histogram: Histogram = field(repr=False)
    scores: Mapping[str, float]
    scale: int
    packed: bytes = field(repr=False)

    @property
    def image(self) -> str:
        """Path of the image in the data set."""
        return self.entry.image

    @property
    def shape_hw(self) -> tuple[int, int]:
        """Height and width of truth and prediction, px."""
        return self.scale * self.entry.height, self.scale * self.entry.width

    @property
    def positive(self) -> bool:
        """Whether the truth has any crack."""
        return self.counts.tp + self.counts.fn > 0

    def mask(self) -> Mask:
        """Return the predicted mask, bool of `shape_hw`."""
        bits = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        height, width = self.shape_hw
        return np.unpackbits(bits, count=height * width).astype(bool).reshape(height, width)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that could not be scored, and why."""

    image: str
    error: CrackError


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One score over the data set; None where the score has no such form.

    Args:
        pooled: From the summed pixels of all images.
        empty_is_one: Per image, over all images; empty truth and empty prediction count as 1.
        positives_only: Per image, over images with crack in the truth.
    """

    pooled: float | None = None
    empty_is_one: Spread | None = None
    positives_only: Spread | None = None


@dataclass(frozen=True, kw_only=True)
class OriginScores:
    """Pooled scores of the images of one origin: one collection, one situation.

    Args:
        images: Scored images.
        positives: Those with crack in the truth.
        iou: Crack IoU over the positives; None without any, as `precision` and `recall`.
        precision: The same.
        recall: The same.
        false_alarm: Share of the pixels of the other images that is predicted to be crack; None without any.
    """

    images: int
    positives: int
    iou: float | None
    precision: float | None
    recall: float | None
    false_alarm: float | None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> OriginScores:
        """Pool the images of one origin."""
        positives = [row for row in rows if row.positive]
        scores = _pooled(positives).scores() if positives else None
        clean = _pooled([row for row in rows if not row.positive])
        return cls(
            images=len(rows),
            positives=len(positives),
            iou=scores.iou if scores else None,
            precision=scores.precision if scores else None,
            recall=scores.recall if scores else None,
            false_alarm=clean.fp / (clean.fp + clean.tn) if len(positives) < len(rows) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """Scores of one set of predictions on one data set, with the protocol that they follow.

    Args:
        manifest: The part of the data set that was asked for.
        origin: Where the predictions come from.
        threshold: Crack from this probability on; None for binary masks.
        tolerance_px: Radius of the tolerant scores.
        rows: Scored images in the order of the manifest.
        failures: Images that could not be scored.
        skipped: Images without a mask and without the label uncracked.
        counts: Pixel counts of all images.
        scores: Each score by name; `protocols` explains the names.
        iou_ci95: Bootstrap interval of pooled IoU over groups; None with fewer than two groups.
    """

    manifest: Manifest
    origin: Origin
    threshold: float | None
    tolerance_px: float
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    skipped: int
    counts: Counts
    scores: Mapping[str, Summary]
    iou_ci95: tuple[float, float] | None

    @property
    def data(self) -> str:
        """The folder of the data set."""
        return str(self.manifest.folder)

    @property
    def split(self) -> str:
        """The split or splits that the images are of."""
        return "+".join(sorted({entry.split for entry in self.manifest.entries}))

    @property
    def positives(self) -> int:
        """Scored images with crack in the truth."""
        return sum(row.positive for row in self.rows)

    @property
    def origins(self) -> dict[str, OriginScores]:
        """Scores by origin, such as the situations of a set sorted so; empty where all images are of one origin."""
        groups: defaultdict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[row.entry.origin].append(row)
        return {name: OriginScores.of(groups[name]) for name in sorted(groups)} if len(groups) > 1 else {}

    def truth(self, row: Row) -> Mask:
        """Read the true mask of one of the rows, bool of its `shape_hw`; InputError where it is gone since."""
        return read_truth(self.manifest, row.entry, scale=row.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single images, for JSON. The same predictions give the same bytes."""
        return {
            "cracktool": __version__,
            "data": self.data,
            "split": self.split,
            "images": len(self.rows),
            "positives": self.positives,
            "skipped": self.skipped,
            "origin": asdict(self.origin),
            "threshold": self.threshold,
            "notes": list(NOTES),
            "protocols": {name: text for name, text in protocols(self.tolerance_px).items() if name in self.scores},
            "counts": asdict(self.counts),
            "scores": {name: asdict(summary) for name, summary in self.scores.items()},
            "curve": self._curve(),
            "iou_ci95": {
                "interval": self.iou_ci95,
                "method": "percentile bootstrap over groups, pooled",
                "groups": len({row.entry.group for row in self.rows}),
                "resamples": _RESAMPLES,
                "seed": _SEED,
            },
            "origins": {name: asdict(scores) for name, scores in self.origins.items()},
            "failures": [{"image": each.image, "error": str(each.error)} for each in self.failures],
        }

    def _curve(self) -> dict[str, list[float]] | None:
        """Return pooled precision and recall at the thresholds 0.01 to 0.99; a binary mask has none to vary."""
        if self.origin.kind == "masks":
            return None
        total = Histogram.pool(row.histogram for row in self.rows)
        thresholds = [percent / 100 for percent in range(1, 100)]
        scores = [total.counts(threshold_level(threshold)).scores() for threshold in thresholds]
        return {
            "thresholds": thresholds,
            "precision": [round(each.precision, 6) for each in scores],
            "recall": [round(each.recall, 6) for each in scores],
        }


def evaluate(
    manifest: Manifest,
    predictions: Iterable[Prediction],
    *,
    origin: Origin,
    threshold: float = 0.5,
    tolerance_px: float = 2.0,
) -> Report:
    """Score predictions.

    An entry without a mask counts as free of crack where its label is uncracked, and is skipped otherwise.

    Args:
        manifest: The images to score, such as one split.
        predictions: Entries with their levels uint8 (H, W), or (4 H, 4 W) where the images are degraded ones, or the
            error met instead, in any order.
        origin: Where they come from. Scores over all thresholds are given for weights only.
        threshold: Crack from this probability on, between 0 and 1.
        tolerance_px: Radius of the tolerant scores.

    Returns:
        The report. An entry that could not be scored, or that has no prediction, is among its failures.

    Raises:
        UsageError: The threshold or the tolerance is out of range.
        InputError: Nothing could be scored.

    Example:
        >>> part = read_manifest("data/crack500").split("test")
        >>> report = evaluate(part, predictions_from_masks(part, "masks"), origin=masks_origin("masks"))
        >>> report.scores["iou"].pooled
        0.612
    """
    if not 0 <= tolerance_px < math.inf:
        raise UsageError(f"tolerance is {tolerance_px} px, but must be 0 or more", remedy="try 2")
    score = partial(_score, manifest, level=threshold_level(threshold), radius=tolerance_px)
    wanted = tuple(entry.image for entry in manifest.entries if entry.has_truth)
    results = {result.image: result for result in _in_threads(score, _only(predictions, wanted))}
    ordered = [results.get(image) or _unpredicted(image) for image in wanted]
    rows = tuple(result for result in ordered if isinstance(result, Row))
    failures = tuple(result for result in ordered if isinstance(result, Failure))
    if not rows:
        raise _nothing_scored(manifest, failures)
    return Report(
        manifest=manifest,
        origin=origin,
        threshold=threshold if origin.kind == "weights" else None,
        tolerance_px=tolerance_px,
        rows=rows,
        failures=failures,
        skipped=len(manifest.entries) - len(wanted),
        counts=_pooled(rows),
        scores=_summaries(rows, origin, tolerance_px),
        iou_ci95=bootstrap_iou(
            [row.counts for row in rows], [row.entry.group for row in rows], resamples=_RESAMPLES, seed=_SEED
        ),
    )


def masks_origin(folder: str | Path) -> Origin:
    """Describe a folder of masks."""
    return Origin(kind="masks", name=str(folder))


def model_origin(predictor: Predictor, name: str) -> Origin:
    """Describe a predictor whose weights the user calls `name`."""
    settings = {key: value for key, value in predictor.settings().items() if key != "threshold"}
    return Origin(kind="weights", name=name, digest=predictor.network.digest, settings=settings)


def predictions_from_masks(manifest: Manifest, folder: str | Path) -> Iterator[Prediction]:
    """Read predicted masks, 0 and 255, from a folder.

    The image ``images/a/x.jpg`` has its mask in ``FOLDER/a/x.png`` or ``FOLDER/images/a/x.png``; any picture format is
    taken, PNG first. A mask that is missing or damaged, or of another size, gives an error for its image.

    Raises:
        InputError: There is no such folder, or no picture in it.

    Example:
        >>> entry, levels = next(predictions_from_masks(read_manifest("data/crack500"), "masks"))
    """
    folder = Path(folder)
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not found:
        reason = "no picture in this folder" if folder.is_dir() else "no such folder"
        raise InputError(reason, path=folder, remedy="make masks with: crack infer PHOTOS -o FOLDER")
    found.sort(key=lambda path: path.suffix.lower() == ".png")  # PNG last: it replaces a lossy picture of the same name
    by_stem = {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}
    return ((entry, _read_levels(entry, by_stem, folder)) for entry in manifest.entries if entry.has_truth)


def predictions_from_model(manifest: Manifest, predictor: Predictor) -> Iterator[Prediction]:
    """Run a predictor over the images that have a truth.

    Example:
        >>> predictions = predictions_from_model(part, predictor)
        >>> report = evaluate(part, predictions, origin=model_origin(predictor, "default"))
    """
    entries = [entry for entry in manifest.entries if entry.has_truth]
    return predictor.stream(entries, lambda entry: read_image(manifest.image_path(entry)))


def protocols(tolerance_px: float) -> dict[str, str]:
    """Return what each score is, by name."""
    near = f"{tolerance_px:g}px"
    return {
        "iou": "TP / (TP + FP + FN)",
        "dice": "2 TP / (2 TP + FP + FN), the same as F1",
        "precision": "TP / (TP + FP)",
        "recall": "TP / (TP + FN)",
        "accuracy": "(TP + TN) / all pixels",
        "miou_2class": "mean of crack IoU and background IoU",
        f"precision_{near}": f"share of predicted pixels within {tolerance_px:g} px (Euclidean) of a true one",
        f"recall_{near}": f"share of true pixels within {tolerance_px:g} px (Euclidean) of a predicted one",
        f"f1_{near}": "harmonic mean of these two",
        "cldice": "harmonic mean of the shares of each centre line inside the other mask (Shit 2021)",
        "ods_0px": "best pooled F1 over thresholds 1/256 to 255/256, no tolerance, no thinning",
        "ois_0px": "each image's best F1 over the same thresholds, averaged",
        "ap_0px": "area below the steps of the pooled precision-recall curve",
        "aiu": "crack IoU averaged over thresholds 0.01 to 0.99, then over images",
    }


def read_truth(manifest: Manifest, entry: Entry, *, scale: int = 1) -> Mask:
    """Read the true mask of an entry that has one or is labelled uncracked, bool (scale H, scale W).

    Args:
        manifest: The data set.
        entry: One of its images, H x W px.
        scale: Side of the mask over side of the image: 4 in a set made by ``crack prepare --degrade``.

    Raises:
        InputError: The mask cannot be read, or is not of that size.
    """
    path = manifest.mask_path(entry)
    shape = scale * entry.height, scale * entry.width
    truth = read_mask(path) if path else np.zeros(shape, bool)
    if truth.shape != shape:
        reason = f"the true mask is {_size(truth)}, expected {shape[1]} x {shape[0]}"
        raise InputError(reason, path=path, remedy=_size_advice(truth.shape, entry, scale))
    return truth


def _size_advice(found: tuple[int, ...], entry: Entry, scale: int) -> str:
    if scale == 1 and found == (SCALE * entry.height, SCALE * entry.width):
        return f"the photo is degraded: use a network that enlarges it by {SCALE}, such as csbsr_pspnet"
    if scale != 1 and found == (entry.height, entry.width):
        return f"the prediction has {scale} times the photo's sides: prepare the data set with --degrade"
    return "prepare the data set again"


def _unpredicted(image: str) -> Failure:
    return Failure(image=image, error=InputError("no prediction was given", path=image))


def _only(predictions: Iterable[Prediction], wanted: Iterable[str]) -> Iterator[Prediction]:
    missing = set(wanted)
    for entry, levels in predictions:
        if entry.image in missing:
            missing.remove(entry.image)
            yield entry, levels


def _score(manifest: Manifest, prediction: Prediction, *, level: int, radius: float) -> Row | Failure:
    entry, levels = prediction
    try:
        if isinstance(levels, CrackError):
            raise levels
        scale = SCALE if levels.shape == (SCALE * entry.height, SCALE * entry.width) else 1
        truth = read_truth(manifest, entry, scale=scale)
        if levels.shape != truth.shape:
            raise InputError(f"the prediction is {_size(levels)}, the truth {_size(truth)}", path=entry.image)
    except CrackError as error:
        return Failure(image=entry.image, error=error)
    mask = levels >= level
    histogram = Histogram.of(levels, truth)
    counts, near, lines = (
        histogram.counts(level),
        tolerance_matches(mask, truth, radius),
        centreline_matches(mask, truth),
    )
    return Row(
        entry=entry,
        counts=counts,
        near=near,
        lines=lines,
        histogram=histogram,
        scores=_all_scores(counts, near, lines, radius),
        scale=scale,
        packed=zlib.compress(np.packbits(mask).tobytes(), 1),
    )


def _pooled(rows: Iterable[Row]) -> Counts:
    return sum((row.counts for row in rows), NO_COUNTS)


def _all_scores(counts: Counts, near: Matches, lines: Matches, radius: float) -> dict[str, float]:
    tolerant = {"precision": near.precision, "recall": near.recall, "f1": near.f1}
    return {
        **asdict(counts.scores()),
        **{f"{name}_{radius:g}px": value for name, value in tolerant.items()},
        "cldice": lines.f1,
    }


def _summaries(rows: Sequence[Row], origin: Origin, radius: float) -> dict[str, Summary]:
    counts, near, lines = rows[0].counts, rows[0].near, rows[0].lines
    for row in rows[1:]:
        counts, near, lines = counts + row.counts, near + row.near, lines + row.lines
    pooled = _all_scores(counts, near, lines, radius)
    result = {name: _summary(rows, [row.scores[name] for row in rows], pooled[name]) for name in pooled}
    if origin.kind == "masks":
        return result  # a binary mask has no thresholds to sweep
    total = Histogram.pool(row.histogram for row in rows)
    return {
        **result,
        "ods_0px": Summary(pooled=best_dice(total)),
        "ois_0px": _summary(rows, [best_dice(row.histogram) for row in rows]),
        "ap_0px": Summary(pooled=average_precision(total)),
        "aiu": _summary(rows, [average_iou(row.histogram) for row in rows]),
    }


def _summary(rows: Sequence[Row], values: Sequence[float], pooled: float | None = None) -> Summary:
    positives = [value for value, row in zip(values, rows, strict=True) if row.positive]
    return Summary(pooled=pooled, empty_is_one=Spread.of(values), positives_only=Spread.of(positives))


def _in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * _THREADS:  # no more photos than this are in memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read_levels(entry: Entry, by_stem: Mapping[str, Path], folder: Path) -> Levels | CrackError:
    stem = PurePosixPath(entry.image).with_suffix("")
    names = [stem.as_posix(), PurePosixPath(*stem.parts[1:]).as_posix()]
    path = next((by_stem[name] for name in names if name in by_stem), None)
    if path is None:
        return InputError("no mask for this image", path=entry.image, remedy=f"expected {folder / names[-1]}.png")
    try:
        mask = read_mask(path)
        if not mask.any():
            _refuse_zero_one(path)
    except InputError as error:
        return error
    return mask.astype(np.uint8) * 255


def _refuse_zero_one(path: Path) -> None:
    # A label map of 0 and 1 would be taken for an empty mask, and score 0 or, on a clean image, 1.
    if read_mask(path, threshold=1).any() and not read_mask(path, threshold=2).any():
        raise InputError("a mask of 0 and 1, expected 0 and 255", path=path, remedy="multiply it by 255")


def _size(array: Levels | Mask) -> str:
    return f"{array.shape[1]} x {array.shape[0]} px"


def _nothing_scored(manifest: Manifest, failures: Sequence[Failure]) -> InputError:
    if failures:
        reason = f"none of {len(failures)} images could be scored; the first: {failures[0].error}"
        return InputError(reason, path=manifest.folder)
    remedy = "choose another split, or prepare the data set with its masks"
    return InputError("no image with a mask or the label uncracked", path=manifest.folder, remedy=remedy)
