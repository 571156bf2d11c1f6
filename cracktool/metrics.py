"""Scores of crack masks: integer counts first, every score from them.

Arrays in, numbers out; opens no file and knows no data set. Counts are Python ints, scores float64.

A prediction is *levels*, uint8 (H, W): probability p is level min(floor(256 p), 255), a binary mask has 0 and 255.
A truth is bool (H, W). Both keep their native size: resizing a truth thickens or erases hairlines.

One rule decides every 0/0: it is 1 where truth and prediction are both empty, else 0. So an image without crack
scores 1 when nothing is found in it and 0 at the first false alarm. Means over images come under two rules:
``empty_is_one`` takes all images in this way, ``positives_only`` leaves out images without crack in the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError, UsageError
from cracktool.images import Mask

Levels = npt.NDArray[np.uint8]
Curve = npt.NDArray[np.float64]

_BINS = 256
_BAND_PIXELS = 1 << 20  # np.bincount casts to 8 bytes per pixel: a band bounds it to 8 MB


def threshold_level(threshold: float) -> int:
    """Return the level from which on a pixel is crack: ceil(256 threshold), 1 to 255.

    Level 255 holds all probabilities from 255/256 on, so any higher threshold acts as 255/256.

    Raises:
        UsageError: The threshold is not between 0 and 1.

    Example:
        >>> threshold_level(0.5)
        128
    """
    if not 0 < threshold < 1:
        raise UsageError(f"threshold is {threshold}, but must lie between 0 and 1", remedy="try 0.5")
    return min(math.ceil(threshold * _BINS), _BINS - 1)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one image, or of many pooled, without tolerance. All lie in [0, 1].

    Args:
        iou: Crack IoU (Jaccard 1901), TP / (TP + FP + FN).
        dice: Crack Dice (1945), the same as F1: 2 TP / (2 TP + FP + FN).
        precision: TP / (TP + FP).
        recall: TP / (TP + FN).
        accuracy: (TP + TN) / all. Says little: a blank mask reaches 0.97 on most crack photos.
        miou_2class: Mean of crack IoU and background IoU, the "mIoU" of CrackSeg9k and mmsegmentation.
    """

    iou: float
    dice: float
    precision: float
    recall: float
    accuracy: float
    miou_2class: float


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Pixels by truth and prediction: crack found, false alarm, crack missed, background kept. They add up."""

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(tp=self.tp + other.tp, fp=self.fp + other.fp, fn=self.fn + other.fn, tn=self.tn + other.tn)

    def scores(self) -> Scores:
        """Return the scores of these counts.

        Example:
            >>> Counts(tp=2, fp=1, fn=1, tn=6).scores().iou
            0.5
        """
        empty = self.tp + self.fp + self.fn == 0
        iou = _ratio(self.tp, self.tp + self.fp + self.fn, empty)
        full = self.tn + self.fp + self.fn == 0
        background = _ratio(self.tn, self.tn + self.fp + self.fn, full)
        return Scores(
            iou=iou,
            dice=_ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn, empty),
            precision=_ratio(self.tp, self.tp + self.fp, empty),
            recall=_ratio(self.tp, self.tp + self.fn, empty),
            accuracy=_ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn, empty),
            miou_2class=(iou + background) / 2,
        )


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
        _check_shapes(levels, truth)
        table = np.zeros((2, _BINS), np.int64)
        rows = max(_BAND_PIXELS // max(levels.shape[1], 1), 1)
        for top in range(0, levels.shape[0], rows):
            bins = levels[top : top + rows].astype(np.uint16)
            bins += truth[top : top + rows].astype(np.uint16) << 8
            table += np.bincount(bins.ravel(), minlength=2 * _BINS).reshape(2, _BINS)
        return Histogram(crack=table[1], background=table[0])

    @staticmethod
    def pool(histograms: Iterable[Histogram]) -> Histogram:
        """Return the sum of histograms; all zero without any."""
        crack, background = np.zeros((2, _BINS), np.int64)
        for each in histograms:
            crack += each.crack
            background += each.background
        return Histogram(crack, background)

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
        return _ratios(tp, self.crack.sum() + predicted - tp)

    def dice_curve(self) -> Curve:
        """Return crack Dice (F1) with each level as threshold, float64 (256,)."""
        tp, predicted = self.cumulative()
        return _ratios(2 * tp, self.crack.sum() + predicted)

    def cumulative(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return crack found and pixels predicted with each level as threshold, int64 (256,) both."""
        tp = self.crack[::-1].cumsum()[::-1]
        return tp, tp + self.background[::-1].cumsum()[::-1]


def best_threshold(histograms: Iterable[Histogram]) -> float:
    """Return the threshold with the best pooled crack IoU; among equals the one nearest to 0.5.

    For a validation set only: a threshold chosen on the set that is then reported flatters the score.

    Example:
        >>> best_threshold(Histogram.of(predictor.levels(photo), truth) for photo, truth in validation)
        0.4375
    """
    curve = Histogram.pool(histograms).iou_curve()
    levels = np.flatnonzero(curve[1:] == curve[1:].max()) + 1  # level 0 is no threshold: all would be crack
    nearest = levels[np.abs(levels - _BINS // 2).argmin()]
    return float(nearest) / _BINS


def best_dice(histogram: Histogram) -> float:
    """Return the best Dice (F1) over the 255 thresholds 1/256 to 255/256, at 0 px and without thinning.

    Of a whole set's pooled histogram this is ODS; the mean of it over the images is OIS (Liu et al. 2019, DeepCrack, as
    in the authors' ``prf_metrics.py``). The ODS of BSDS (Arbelaez 2011) and FPHBN differ: thinned and with tolerance.
    """
    return float(histogram.dice_curve()[1:].max())


def average_precision(histogram: Histogram) -> float:
    """Return the area below the steps of the precision-recall curve, sum of (R[n] - R[n+1]) P[n], at 0 px.

    The sum runs over the 256 levels n, as `sklearn.metrics.average_precision_score` does over pixels.
    Without any crack in the truth there is no recall, and the value is 0.
    """
    tp, predicted = histogram.cumulative()
    if not tp[0]:
        return 0.0
    return float((_ratios(tp, predicted) * histogram.crack).sum() / tp[0])


def average_iou(histogram: Histogram) -> float:
    """Return the mean crack IoU over the thresholds 0.01 to 0.99; its mean over images is AIU (Yang 2019, FPHBN)."""
    levels = [threshold_level(percent / 100) for percent in range(1, 100)]
    return float(histogram.iou_curve()[levels].mean())


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Pixels of the prediction that the truth confirms, and of the truth that the prediction finds. They add up.

    Args:
        predicted: Predicted pixels.
        confirmed: Those of them that the truth confirms.
        true: Pixels of the truth.
        found: Those of them that the prediction finds.
    """

    predicted: int
    confirmed: int
    true: int
    found: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            predicted=self.predicted + other.predicted,
            confirmed=self.confirmed + other.confirmed,
            true=self.true + other.true,
            found=self.found + other.found,
        )

    @property
    def precision(self) -> float:
        """Return confirmed / predicted."""
        return _ratio(self.confirmed, self.predicted, self._empty)

    @property
    def recall(self) -> float:
        """Return found / true."""
        return _ratio(self.found, self.true, self._empty)

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall."""
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall, self._empty)

    @property
    def _empty(self) -> bool:
        return self.predicted + self.true == 0


def tolerance_matches(predicted: Mask, truth: Mask, radius: float = 2.0) -> Matches:
    """Match masks with a tolerance: a pixel counts as right within `radius` px (Euclidean) of one of the other mask.

    Tolerant precision is the share of predicted pixels near the truth, tolerant recall the share of true pixels near
    the prediction (DeepCrack, Zou 2018, with 2 px). Several predicted pixels may share a true one, unlike in the
    one-to-one matching of BSDS.

    Args:
        predicted: bool (H, W).
        truth: bool (H, W).
        radius: Tolerance in px, 0 or more; 0 gives plain precision and recall.

    Raises:
        InputError: The shapes differ.
        UsageError: The radius is negative.

    Example:
        >>> tolerance_matches(predictor.mask(photo), truth).f1
        0.91
    """
    _check_shapes(predicted, truth)
    if not 0 <= radius < math.inf:
        raise UsageError(f"tolerance is {radius} px, but must be 0 or more", remedy="try 2")
    return Matches(
        predicted=int(np.count_nonzero(predicted)),
        confirmed=int(np.count_nonzero(predicted & _grown(truth, radius))),
        true=int(np.count_nonzero(truth)),
        found=int(np.count_nonzero(truth & _grown(predicted, radius))),
    )


def centreline_matches(predicted: Mask, truth: Mask) -> Matches:
    """Match the centre line of each mask with the other mask; the `f1` of the result is clDice (Shit et al. 2021).

    Precision is the share of the predicted centre line inside the true mask, recall the share of the true one inside
    the predicted mask. Centre lines are those of `skimage.morphology.skeletonize` (Zhang and Suen 1984), which a flip
    may move by a pixel.

    Raises:
        InputError: The shapes differ.
    """
    _check_shapes(predicted, truth)
    predicted_line, true_line = _skeleton(predicted), _skeleton(truth)
    return Matches(
        predicted=int(np.count_nonzero(predicted_line)),
        confirmed=int(np.count_nonzero(predicted_line & truth)),
        true=int(np.count_nonzero(true_line)),
        found=int(np.count_nonzero(true_line & predicted)),
    )


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and population standard deviation of one score over images."""

    mean: float
    std: float
    images: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread | None:
        """Summarise one value per image; None without any image."""
        if not values:
            return None
        return Spread(mean=float(np.mean(values)), std=float(np.std(values)), images=len(values))


def bootstrap_iou(
    counts: Sequence[Counts], groups: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % interval of pooled crack IoU by the percentile bootstrap over groups (Efron 1979).

    Whole groups are drawn, because crops of one photo are not independent.

    Args:
        counts: Counts of each image.
        groups: Group of each image, such as its parent photo.
        resamples: Number of draws.
        seed: Draws are repeatable.

    Returns:
        The 2.5 and 97.5 percentiles, or None with fewer than two groups.

    Example:
        >>> bootstrap_iou([row.counts for row in report.rows], [row.entry.group for row in report.rows])
        (0.61, 0.68)
    """
    names, member_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.zeros((len(names), 4), np.int64)
    np.add.at(sums, member_of, [astuple(each) for each in counts])
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    tp, fp, fn, _ = (draws @ sums).T
    low, high = np.percentile(_ratios(tp, tp + fp + fn), [2.5, 97.5])
    return float(low), float(high)


def _ratio(part: float, whole: float, empty: bool) -> float:
    return part / whole if whole else float(empty)


def _ratios(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Curve:
    return np.divide(part, whole, out=np.ones(len(part)), where=whole > 0)


def _check_shapes(predicted: npt.NDArray[Any], truth: Mask) -> None:
    if predicted.ndim != 2 or predicted.shape != truth.shape:
        raise InputError(f"the prediction has shape {predicted.shape}, the truth {truth.shape}")


def _grown(mask: Mask, radius: float) -> Mask:
    reach = math.floor(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = (y * y + x * x <= radius * radius).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disk).astype(bool)


def _skeleton(mask: Mask) -> Mask:
    from skimage.morphology import skeletonize  # 0.3 s, and inference needs this module for its threshold alone

    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    window = np.s_[top : top + height, left : left + width]
    line = np.zeros_like(mask)
    if width:
        line[window] = skeletonize(mask[window])  # type: ignore[no-untyped-call]
    return line
