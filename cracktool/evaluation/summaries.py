"""Every score over a data set: what integers give, what images give, what levels give, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cracktool.errors import check_name
from cracktool.evaluation.restoration import TEXTS as OF_RESTORING
from cracktool.evaluation.rows import Row
from cracktool.metrics import (
    TOLERANCES,
    Histogram,
    Interval,
    Measured,
    Resampling,
    Spread,
    average_precision,
    best_dice,
    brier_score,
    expected_calibration_error,
    scores_of,
)

_Sum = TypeVar("_Sum")

OF_IMAGES = {
    "hd95": "Hausdorff distance of both borders, 95th percentile, px: lower is better",
    "surface_distance": "mean distance of both borders, px: lower is better",
    "betti_0_error": "difference of the numbers of pieces: lower is better",
    "betti_1_error": "difference of the numbers of holes: lower is better",
}
OF_CLEAN = {"false_alarm": "share of the pixels of images without crack that is predicted: lower is better"}
OF_LEVELS = {
    "ods_0px": "best pooled F1 over thresholds 0.01 to 0.99, no tolerance, no thinning",
    "ois_0px": "each image's best F1 over the same thresholds, averaged",
    "ap_0px": "area below the steps of the pooled precision-recall curve",
    "aiu": "crack IoU averaged over thresholds 0.01 to 0.99, then over images",
    "ece": "mean gap between probability and frequency of crack, 16 bins, all pixels: lower is better",
    "ece_near": "the same within 10 px of a crack, true or predicted: lower is better",
    "brier": "mean squared gap between probability and truth, all pixels: lower is better",
    "brier_near": "the same within 10 px of a crack, true or predicted: lower is better",
}


_OF_IMAGES_ALONE = ("ois_0px", "aiu")
OF_ALL_PIXELS: Mapping[str, Callable[[Histogram], float]] = {
    "ods_0px": best_dice,
    "ap_0px": average_precision,
    "ece": expected_calibration_error,
    "brier": brier_score,
}
"""Pooled scores of the levels of all pixels."""
OF_NEAR_PIXELS: Mapping[str, Callable[[Histogram], float]] = {
    "ece_near": expected_calibration_error,
    "brier_near": brier_score,
}
"""Pooled scores of the levels of the pixels within 10 px of a crack."""


def check_pooled(name: str) -> None:
    """Refuse what no pooled score is called.

    Raises:
        UsageError: There is no such score.
    """
    known = [*(score.name for score in scores_of(TOLERANCES)), *OF_CLEAN, *(set(OF_LEVELS) - {*_OF_IMAGES_ALONE})]
    check_name("pooled score", name, sorted(known))


def texts_of(tolerances: Sequence[float]) -> dict[str, str]:
    """Return what each score is, by name."""
    of_integers = {score.name: score.text for score in scores_of(tolerances)}
    return of_integers | OF_IMAGES | OF_RESTORING | OF_CLEAN | OF_LEVELS


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


def summarise(
    rows: Sequence[Row], resampling: Resampling, tolerances: Sequence[float], *, binary: bool
) -> dict[str, Summary]:
    """Return every score of a set of images by name, in the order in which they are reported.

    Args:
        rows: The images, at least one.
        resampling: Draws of them.
        tolerances: Radii of the tolerant scores, px.
        binary: Whether these are binary masks, without a threshold to vary.
    """
    images = _Images(rows, resampling)
    restoring = tuple(name for name in OF_RESTORING if name in rows[0].scores)
    result = {**_of_integers(images, tolerances), **images.summaries((*OF_IMAGES, *restoring))}
    if not images.positive.all():
        result["false_alarm"] = _of_clean(images)
    if binary:
        return result
    of_levels = {
        **images.summaries(_OF_IMAGES_ALONE),
        **_of_levels(images, [row.levels for row in rows], OF_ALL_PIXELS),
        **_of_levels(images, [row.near for row in rows], OF_NEAR_PIXELS),
    }
    return {**result, **{name: of_levels[name] for name in OF_LEVELS}}


class _Images:
    """Images, which of them have crack, and draws of them."""

    def __init__(self, rows: Sequence[Row], resampling: Resampling) -> None:
        self.rows = rows
        self.resampling = resampling
        self.positive = np.array([row.positive for row in rows])

    def summaries(self, names: Sequence[str]) -> dict[str, Summary]:
        """Return the means of scores over images, under both rules for images without crack."""
        values = np.array([[row.scores[name] for name in names] for row in self.rows])
        spreads = [self._spreads(values, chosen) for chosen in (np.ones_like(self.positive), self.positive)]
        return {
            name: Summary(empty_is_one=every, positives_only=cracked)
            for name, every, cracked in zip(names, *spreads, strict=True)
        }

    def _spreads(self, values: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]) -> list[Spread | None]:
        intervals = [self.resampling.interval(each, chosen) for each in self.resampling.means(values, chosen).T]
        columns = values[chosen].T.tolist()
        return [Spread.of(each, ci95) for each, ci95 in zip(columns, intervals, strict=True)]


def _of_integers(images: _Images, tolerances: Sequence[float]) -> dict[str, Summary]:
    scores = {score.name: score.of for score in scores_of(tolerances)}
    pooled = _pooled(images, [row.measured.numbers() for row in images.rows], Measured.of_numbers, scores)
    return {
        name: replace(pooled[name], empty_is_one=each.empty_is_one, positives_only=each.positives_only)
        for name, each in images.summaries(list(scores)).items()
    }


def _of_levels(
    images: _Images, levels: Sequence[Histogram], scores: Mapping[str, Callable[[Histogram], float]]
) -> dict[str, Summary]:
    return _pooled(images, [each.numbers() for each in levels], Histogram.of_numbers, scores)


def _pooled(
    images: _Images,
    numbers: Sequence[npt.NDArray[np.int64]],
    read: Callable[[npt.NDArray[Any]], _Sum],
    scores: Mapping[str, Callable[[_Sum], float]],
) -> dict[str, Summary]:
    """Return pooled scores of what adds up over images: of the `numbers` of each, whose sums `read` reads."""
    values, positive = np.stack(numbers), images.positive
    draws = [read(each) for each in images.resampling.sums(values)]
    whole = read(values.sum(axis=0))
    cracked = read(values[positive].sum(axis=0)) if positive.any() else None
    return {
        name: Summary(
            pooled=score(whole),
            pooled_ci95=images.resampling.interval([score(each) for each in draws]),
            pooled_positives=score(cracked) if cracked is not None else None,
        )
        for name, score in scores.items()
    }


def _of_clean(images: _Images) -> Summary:
    counts = [row.measured.counts for row in images.rows]
    alarms = np.array([[each.fp, each.fp + each.tn] for each in counts]) * ~images.positive[:, None]
    marked, whole = images.resampling.sums(alarms).T
    draws = np.divide(marked, whole, out=np.full(len(marked), np.nan), where=whole > 0)
    total = alarms.sum(axis=0)
    return Summary(
        pooled=float(total[0] / max(total[1], 1)), pooled_ci95=images.resampling.interval(draws, ~images.positive)
    )
