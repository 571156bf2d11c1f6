"""Counts at every threshold at once, and the scores that a sweep of thresholds gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError
from cracktool.images import Mask
from cracktool.metrics.counts import BINS, Counts, Curve, Levels, check_shapes, ratios, threshold_level

SWEEP = tuple(percent / 100 for percent in range(1, 100))
"""The thresholds of every sweep: 0.01 to 0.99."""

_BAND_PIXELS = 1 << 20  # np.bincount casts to 8 bytes per pixel: a band bounds it to 8 MB


@dataclass(frozen=True, eq=False)
class Histogram:
    """Pixels per level, apart for crack and background: the counts at every threshold at once. They add up.

    Args:
        crack: Pixels of each level where the truth is crack, int64 (256,).
        background: The same where it is not.
    """

    crack: npt.NDArray[np.int64]
    background: npt.NDArray[np.int64]

    @staticmethod
    def of(levels: Levels, truth: Mask) -> Histogram:
        """Count one image.

        Raises:
            InputError: `levels` is not uint8, `truth` not bool, or their shapes differ.

        Example:
            >>> Histogram.of(predictor.levels(photo), truth).counts(threshold_level(0.5))
            Counts(tp=910, fp=204, fn=153, tn=261133)
        """
        if levels.dtype != np.uint8 or truth.dtype != np.bool_:
            raise InputError(f"expected uint8 levels and a bool truth, got {levels.dtype} and {truth.dtype}")
        check_shapes(levels, truth)
        crack = np.bincount(levels[truth], minlength=BINS)  # few pixels are crack: these are counted apart
        rows = max(_BAND_PIXELS // max(levels.shape[1], 1), 1)
        bands = (levels[top : top + rows].ravel() for top in range(0, levels.shape[0], rows))
        total = sum((_counted(band) for band in bands), np.zeros(BINS, np.int64))
        return Histogram(crack=crack, background=total - crack)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.crack + other.crack, self.background + other.background)

    def numbers(self) -> npt.NDArray[np.int64]:
        """Return the integers as a vector (512,), of which sums make sense."""
        return np.concatenate([self.crack, self.background])

    @staticmethod
    def of_numbers(numbers: npt.NDArray[np.number]) -> Histogram:
        """Return what `numbers` came from, or a sum of it."""
        crack, background = np.asarray(numbers, np.int64).reshape(2, BINS)
        return Histogram(crack, background)

    @staticmethod
    def pool(histograms: Iterable[Histogram]) -> Histogram:
        """Return the sum of histograms; all zero without any."""
        crack, background = np.zeros((2, BINS), np.int64)
        return sum(histograms, Histogram(crack, background))

    def counts(self, level: int) -> Counts:
        """Return the counts where pixels are crack from `level` on, 0 to 255."""
        return Counts(
            tp=int(self.crack[level:].sum()),
            fp=int(self.background[level:].sum()),
            fn=int(self.crack[:level].sum()),
            tn=int(self.background[:level].sum()),
        )

    def iou_curve(self) -> Curve:
        """Return crack IoU with each level as threshold, float64 (256,)."""
        tp, predicted = self.cumulative()
        return ratios(tp, self.crack.sum() + predicted - tp)

    def dice_curve(self) -> Curve:
        """Return crack Dice (F1) with each level as threshold, float64 (256,)."""
        tp, predicted = self.cumulative()
        return ratios(2 * tp, self.crack.sum() + predicted)

    def cumulative(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return crack found and pixels predicted with each level as threshold, int64 (256,) both."""
        tp = self.crack[::-1].cumsum()[::-1]
        return tp, tp + self.background[::-1].cumsum()[::-1]


def _counted(levels: Levels) -> npt.NDArray[np.int64]:
    """Return how often each level occurs in a row of them, by counting pairs: half as many numbers, half the time."""
    even = len(levels) // 2 * 2
    pairs = np.bincount(levels[:even].view(np.uint16), minlength=BINS * BINS).reshape(BINS, BINS)
    odd = np.bincount(levels[even:], minlength=BINS)
    return np.asarray(pairs.sum(axis=0) + pairs.sum(axis=1) + odd)


def best_dice(histogram: Histogram) -> float:
    """Return the best Dice (F1) over the thresholds of `SWEEP`, at 0 px and without thinning.

    Of a whole set's pooled histogram this is ODS; the mean of it over the images is OIS (Liu et al. 2019, DeepCrack, as
    in the authors' ``prf_metrics.py``). The ODS of BSDS (Arbelaez 2011) and FPHBN differ: thinned and with tolerance.
    """
    return float(histogram.dice_curve()[_SWEPT].max())


def average_precision(histogram: Histogram) -> float:
    """Return the area below the steps of the precision-recall curve, sum of (R[n] - R[n+1]) P[n], at 0 px.

    The sum runs over the 256 levels n, as `sklearn.metrics.average_precision_score` does over pixels.
    Without any crack in the truth there is no recall, and the value is 0.
    """
    tp, predicted = histogram.cumulative()
    if not tp[0]:
        return 0.0
    return float((ratios(tp, predicted) * histogram.crack).sum() / tp[0])


def average_iou(histogram: Histogram) -> float:
    """Return the mean crack IoU over the thresholds of `SWEEP`; its mean over images is AIU (Yang 2019, FPHBN)."""
    return float(histogram.iou_curve()[_SWEPT].mean())


_SWEPT = [threshold_level(threshold) for threshold in SWEEP]
