"""What is known of one scored image, and of some of them pooled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cracktool.errors import CrackError
from cracktool.manifest import Entry
from cracktool.metrics import Histogram, Measured

_WIDTHS = ((3.0, "under 3 px"), (6.0, "3 to 6 px"), (12.0, "6 to 12 px"), (math.inf, "12 px and more"))
WIDTH_CLASSES = (*(name for _, name in _WIDTHS), "")
"""Classes of `Row.width_class`, from narrow to wide; the last is that of images without crack."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scored image.

    Args:
        entry: Its line of the manifest.
        measured: What adds up over images.
        scores: All scores of this image by name.
        levels: Its pixels by level.
        near: The same within 10 px of a crack, true or predicted.
        scale: Side of truth and prediction over side of the image: 1, or 4 where the image is a degraded one.
        records: What each published evaluator keeps of it, by the evaluator's name.
    """

    entry: Entry
    measured: Measured
    scores: Mapping[str, float]
    levels: Histogram = field(repr=False)
    near: Histogram = field(repr=False)
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


def _false_alarm(clean: Measured) -> float:
    counts = clean.counts
    return counts.fp / max(counts.fp + counts.tn, 1)
