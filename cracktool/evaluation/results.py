"""What an evaluation found: rows, failures, and every score of them with its interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cracktool import __version__
from cracktool.errors import CrackError
from cracktool.evaluation.masks import Masks
from cracktool.evaluation.predictions import Origin
from cracktool.evaluation.restoration import TEXTS as OF_RESTORING
from cracktool.evaluation.truth import read_truth
from cracktool.images import Mask
from cracktool.manifest import Entry, Manifest
from cracktool.metrics import (
    SWEEP,
    Histogram,
    Interval,
    Measured,
    Resampling,
    Spread,
    average_precision,
    best_dice,
    brier_score,
    expected_calibration_error,
    reliability,
    scores_of,
    threshold_level,
)
from cracktool.protocols import PROTOCOLS

NOTES = (
    "scored at native size: neither truth nor prediction is resized",
    "scores are of the crack class; pooled sums the pixels of all images, per_image is mean and population std",
    "0/0 is 1 where truth and prediction are both empty, else 0; a distance is then 0, else the photo's diagonal",
    "positives_only leaves out images without crack in the truth",
    "probabilities are cut to 256 levels: p is level floor(256 p)",
)

_OF_IMAGES = {
    "hd95": "Hausdorff distance of both borders, 95th percentile, px: lower is better",
    "surface_distance": "mean distance of both borders, px: lower is better",
    "betti_0_error": "difference of the numbers of pieces: lower is better",
    "betti_1_error": "difference of the numbers of holes: lower is better",
}
_OF_CLEAN = {"false_alarm": "share of the pixels of images without crack that is predicted: lower is better"}
_OF_LEVELS = {
    "ods_0px": "best pooled F1 over thresholds 0.01 to 0.99, no tolerance, no thinning",
    "ois_0px": "each image's best F1 over the same thresholds, averaged",
    "ap_0px": "area below the steps of the pooled precision-recall curve",
    "aiu": "crack IoU averaged over thresholds 0.01 to 0.99, then over images",
    "ece": "mean gap between probability and frequency of crack, 16 bins, all pixels: lower is better",
    "ece_near": "the same within 10 px of a crack, true or predicted: lower is better",
    "brier": "mean squared gap between probability and truth, all pixels: lower is better",
    "brier_near": "the same within 10 px of a crack, true or predicted: lower is better",
}
_WIDTHS = ((3.0, "under 3 px"), (6.0, "3 to 6 px"), (12.0, "6 to 12 px"), (math.inf, "12 px and more"))
_WIDTH_NAMES = (*(name for _, name in _WIDTHS), "")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scored image.

    Args:
        entry: Its line of the manifest.
        measured: What adds up over images.
        scores: All scores of this image by name.
        scale: Side of truth and prediction over side of the image: 1, or 4 where the image is a degraded one.
        records: What each published evaluator keeps of it, by the evaluator's name.
    """

    entry: Entry
    measured: Measured
    scores: Mapping[str, float]
    scale: int
    records: Mapping[str, Any] = field(repr=False)

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
        return self.measured.counts.tp + self.measured.counts.fn > 0

    @property
    def width_class(self) -> str:
        """How wide its cracks are on average: true pixels over those of their centre line; empty without crack."""
        counts = self.measured.counts
        if not self.positive:
            return ""
        width = (counts.tp + counts.fn) / max(self.measured.centre.true, 1)
        return next(name for most, name in _WIDTHS if width < most)


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
        pooled_ci95: Its 95 % interval by the bootstrap over groups; None with fewer than two groups.
        pooled_positives: From those of the images with crack in the truth.
        empty_is_one: Per image, over all images; empty truth and empty prediction count as 1.
        positives_only: Per image, over images with crack in the truth.
    """

    pooled: float | None = None
    pooled_ci95: Interval | None = None
    pooled_positives: float | None = None
    empty_is_one: Spread | None = None
    positives_only: Spread | None = None


@dataclass(frozen=True, kw_only=True)
class GroupScores:
    """Pooled scores of some of the images: one collection, one situation, one class of width, one photo.

    Args:
        images: Scored images.
        positives: Those with crack in the truth.
        iou: Crack IoU over the positives; None without any, as the next ones.
        precision: The same.
        recall: The same.
        cldice: The same.
        false_alarm: Share of the pixels of the other images that is predicted to be crack; None without any.
    """

    images: int
    positives: int
    iou: float | None = None
    precision: float | None = None
    recall: float | None = None
    cldice: float | None = None
    false_alarm: float | None = None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> GroupScores:
        """Pool the images of one group."""
        positives = [row.measured for row in rows if row.positive]
        clean = [row.measured for row in rows if not row.positive]
        scores: dict[str, float] = {}
        if positives:
            pooled = Measured.pool(positives)
            counts = pooled.counts.scores()
            scores = {"iou": counts.iou, "precision": counts.precision, "recall": counts.recall}
            scores["cldice"] = pooled.centre.f1
        if clean:
            scores["false_alarm"] = _false_alarm(Measured.pool(clean))
        return cls(images=len(rows), positives=len(positives), **scores)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Pooled scores at the thresholds 0.01 to 0.99, 99 values each."""

    thresholds: list[float]
    precision: list[float]
    recall: list[float]
    f1: list[float]
    iou: list[float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Scores of one set of predictions on one data set, with the protocol that they follow.

    Args:
        manifest: The part of the data set that was asked for.
        origin: Where the predictions come from.
        threshold: Crack from this probability on; None for binary masks.
        tolerances: Radii of the tolerant scores, px.
        rows: Scored images in the order of the manifest.
        failures: Images that could not be scored.
        skipped: Images without a mask and without the label uncracked.
        levels: Pixels of all images by level.
        near: The same within 10 px of a crack, true or predicted.
        masks: The predicted masks.
        protocols: Published evaluators that were asked for.
        warnings: What the user should know of what was scored, one sentence each.
    """

    manifest: Manifest
    origin: Origin
    threshold: float | None
    tolerances: tuple[float, ...]
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    skipped: int
    levels: Histogram = field(repr=False)
    near: Histogram = field(repr=False)
    masks: Masks = field(repr=False)
    protocols: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

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

    @cached_property
    def measured(self) -> Measured:
        """All images pooled."""
        return Measured.pool(row.measured for row in self.rows)

    @cached_property
    def resampling(self) -> Resampling:
        """The draws behind all intervals."""
        return Resampling([row.entry.group for row in self.rows])

    @cached_property
    def scores(self) -> dict[str, Summary]:
        """Each score by name; `texts` explains the names."""
        return _summaries(self)

    @property
    def texts(self) -> dict[str, str]:
        """What each score is, by name."""
        of_integers = {score.name: score.text for score in scores_of(self.tolerances)}
        known = of_integers | _OF_IMAGES | _OF_CLEAN | _OF_LEVELS | OF_RESTORING
        return {name: known[name] for name in self.scores}

    @property
    def notes(self) -> tuple[str, ...]:
        """The rules behind all scores, one sentence each."""
        return NOTES

    @property
    def protocol_texts(self) -> dict[str, str]:
        """What each published evaluator that was asked for does, and where it misleads."""
        return {name: PROTOCOLS[name].text for name in self.protocols}

    @property
    def groups(self) -> dict[str, dict[str, GroupScores]]:
        """Scores by origin and by width of the crack, each where the images are of several."""
        kinds: dict[str, Callable[[Row], str]] = {
            "origin": lambda row: row.entry.origin,
            "width": lambda row: row.width_class,
        }
        groups = {kind: self.by(key) for kind, key in kinds.items()}
        groups["width"] = {name: groups["width"][name] for name in _WIDTH_NAMES if name in groups["width"]}
        return {kind: parts for kind, parts in groups.items() if len(parts) > 1}

    def by(self, key: Callable[[Row], str]) -> dict[str, GroupScores]:
        """Return the scores of the images of each key, such as those of one photo."""
        parts: defaultdict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            parts[key(row)].append(row)
        return {name: GroupScores.of(parts[name]) for name in sorted(parts)}

    @cached_property
    def published(self) -> dict[str, dict[str, float]]:
        """Scores of each published evaluator, under its own names."""
        sources = [row.entry.origin for row in self.rows]
        return {
            name: PROTOCOLS[name].summarise([row.records[name] for row in self.rows], sources)
            for name in self.protocols
        }

    @cached_property
    def curve(self) -> Curve | None:
        """Pooled scores at the thresholds 0.01 to 0.99; a binary mask has none to vary."""
        if self.origin.binary:
            return None
        scores = [self.levels.counts(threshold_level(threshold)).scores() for threshold in SWEEP]
        return Curve(
            thresholds=list(SWEEP),
            precision=[round(each.precision, 6) for each in scores],
            recall=[round(each.recall, 6) for each in scores],
            f1=[round(each.dice, 6) for each in scores],
            iou=[round(each.iou, 6) for each in scores],
        )

    def mask(self, row: Row) -> Mask:
        """Return the predicted mask of one of the rows, bool of its `shape_hw`."""
        return self.masks.read(row.image, row.shape_hw)

    def truth(self, row: Row) -> Mask:
        """Read the true mask of one of the rows, bool of its `shape_hw`; InputError where it is gone since."""
        return read_truth(self.manifest, row.entry, scale=row.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single images, for JSON. The same predictions give the same bytes."""
        curve = self.curve
        return {
            "cracktool": __version__,
            "data": self.data,
            "split": self.split,
            "images": len(self.rows),
            "positives": self.positives,
            "skipped": self.skipped,
            "origin": asdict(self.origin),
            "threshold": self.threshold,
            "notes": list(self.notes),
            "texts": self.texts,
            "counts": asdict(self.measured.counts),
            "scores": {name: asdict(summary) for name, summary in self.scores.items()},
            "intervals": {
                "method": "95 % percentile bootstrap over groups",
                "groups": self.resampling.groups,
                "resamples": self.resampling.resamples,
                "seed": self.resampling.seed,
            },
            "protocols": {
                name: {"text": PROTOCOLS[name].text, "scores": {key: _known(value) for key, value in scores.items()}}
                for name, scores in self.published.items()
            },
            "curve": None if curve is None else asdict(curve),
            "reliability": None if curve is None else self._reliability(),
            "groups": {
                kind: {name: asdict(scores) for name, scores in parts.items()} for kind, parts in self.groups.items()
            },
            "warnings": list(self.warnings),
            "failures": [{"image": each.image, "error": str(each.error)} for each in self.failures],
        }

    def _reliability(self) -> dict[str, list[float]]:
        names = ("probability", "share_of_crack", "pixels")
        return {name: each.tolist() for name, each in zip(names, reliability(self.near), strict=True)}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _false_alarm(clean: Measured) -> float:
    counts = clean.counts
    return counts.fp / max(counts.fp + counts.tn, 1)


def _summaries(report: Report) -> dict[str, Summary]:
    """Every score of a report: what integers give, what images give, what levels give."""
    rows, binary = report.rows, report.origin.binary
    positive = np.array([row.positive for row in rows])
    restoring = tuple(name for name in OF_RESTORING if name in rows[0].scores)
    result = {**_of_integers(report, positive), **_of_images(report, positive, (*_OF_IMAGES, *restoring))}
    if not positive.all():
        result["false_alarm"] = _clean_summary(report, positive)
    if binary:
        return result
    of_images = _of_images(report, positive, ("ois_0px", "aiu"))
    pooled = {
        "ods_0px": best_dice(report.levels),
        "ap_0px": average_precision(report.levels),
        "ece": expected_calibration_error(report.levels),
        "ece_near": expected_calibration_error(report.near),
        "brier": brier_score(report.levels),
        "brier_near": brier_score(report.near),
    }
    return {**result, **{name: of_images.get(name) or Summary(pooled=pooled[name]) for name in _OF_LEVELS}}


def _of_integers(report: Report, positive: npt.NDArray[np.bool_]) -> dict[str, Summary]:
    numbers = np.stack([row.measured.numbers() for row in report.rows])
    draws = [Measured.of_numbers(each) for each in report.resampling.sums(numbers)]
    cracked = Measured.of_numbers(numbers[positive].sum(axis=0)) if positive.any() else None
    per_image = _of_images(report, positive, tuple(score.name for score in scores_of(report.tolerances)))
    return {
        score.name: Summary(
            pooled=score.of(report.measured),
            pooled_ci95=report.resampling.interval([score.of(each) for each in draws]),
            pooled_positives=score.of(cracked) if cracked else None,
            empty_is_one=per_image[score.name].empty_is_one,
            positives_only=per_image[score.name].positives_only,
        )
        for score in scores_of(report.tolerances)
    }


def _of_images(report: Report, positive: npt.NDArray[np.bool_], names: tuple[str, ...]) -> dict[str, Summary]:
    values = np.array([[row.scores[name] for name in names] for row in report.rows])
    spreads = []
    for chosen in (np.ones_like(positive), positive):
        means = report.resampling.means(values, chosen)
        intervals = [report.resampling.interval(each) for each in means.T]
        kept = values[chosen].T.tolist()
        spreads.append([Spread.of(each, ci95) for each, ci95 in zip(kept, intervals, strict=True)])
    return {
        name: Summary(empty_is_one=every, positives_only=cracked)
        for name, every, cracked in zip(names, *spreads, strict=True)
    }


def _clean_summary(report: Report, positive: npt.NDArray[np.bool_]) -> Summary:
    counts = [row.measured.counts for row in report.rows]
    alarms = np.array([[each.fp, each.fp + each.tn] for each in counts]) * ~positive[:, None]
    marked, whole = report.resampling.sums(alarms).T
    draws = np.divide(marked, whole, out=np.full(len(marked), np.nan), where=whole > 0)
    total = alarms.sum(axis=0)
    return Summary(pooled=float(total[0] / max(total[1], 1)), pooled_ci95=report.resampling.interval(draws))
