"""What an evaluation found: rows, failures, and every score of them with its interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from cracktool import __version__
from cracktool.evaluation.masks import Masks
from cracktool.evaluation.predictions import Origin
from cracktool.evaluation.rows import WIDTH_CLASSES, Failure, GroupScores, Row
from cracktool.evaluation.summaries import Summary, summarise, texts_of
from cracktool.evaluation.truth import read_truth
from cracktool.images import Mask
from cracktool.manifest import Manifest
from cracktool.metrics import (
    SWEEP,
    Histogram,
    Measured,
    Resampling,
    reliability,
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
    def levels(self) -> Histogram:
        """Pixels of all images by level."""
        return Histogram.pool(row.levels for row in self.rows)

    @cached_property
    def near(self) -> Histogram:
        """The same within 10 px of a crack, true or predicted."""
        return Histogram.pool(row.near for row in self.rows)

    @cached_property
    def resampling(self) -> Resampling:
        """The draws behind all intervals."""
        return Resampling([row.entry.group for row in self.rows])

    @cached_property
    def scores(self) -> dict[str, Summary]:
        """Each score by name; `texts` explains the names."""
        return summarise(self.rows, self.resampling, self.tolerances, binary=self.origin.binary)

    @property
    def texts(self) -> dict[str, str]:
        """What each score is, by name."""
        known = texts_of(self.tolerances)
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
        groups["width"] = {name: groups["width"][name] for name in WIDTH_CLASSES if name in groups["width"]}
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
