"""Pixels right and wrong, and the scores without tolerance that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError, UsageError
from cracktool.images import Mask

Levels = npt.NDArray[np.uint8]
Curve = npt.NDArray[np.float64]

BINS = 256


def quantise(probs: npt.NDArray[np.floating]) -> Levels:
    """Return probabilities from 0 to 1, of any shape, as uint8 levels ``min(floor(256 p), 255)``.

    Example:
        >>> quantise(np.array([0, 0.5, 1]))
        array([  0, 128, 255], dtype=uint8)
    """
    levels: Levels = np.minimum(probs * BINS, BINS - 1).astype(np.uint8)
    return levels


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
    return min(math.ceil(threshold * BINS), BINS - 1)


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
        iou = ratio(self.tp, self.tp + self.fp + self.fn, empty)
        full = self.tn + self.fp + self.fn == 0
        background = ratio(self.tn, self.tn + self.fp + self.fn, full)
        return Scores(
            iou=iou,
            dice=ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn, empty),
            precision=ratio(self.tp, self.tp + self.fp, empty),
            recall=ratio(self.tp, self.tp + self.fn, empty),
            accuracy=ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn, empty),
            miou_2class=(iou + background) / 2,
        )


NO_COUNTS = Counts(tp=0, fp=0, fn=0, tn=0)
"""Where counting begins."""


def ratio(part: float, whole: float, empty: bool) -> float:
    """Return part / whole; of 0/0 it is 1 where truth and prediction are both empty, else 0."""
    return part / whole if whole else float(empty)


def ratios(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Curve:
    """Return part / whole of each element, 1 for 0/0."""
    return np.divide(part, whole, out=np.ones(len(part)), where=whole > 0)


def check_shapes(predicted: npt.NDArray[Any], truth: Mask) -> None:
    """Raise InputError unless both are pictures (H, W) of one size."""
    if predicted.ndim != 2 or predicted.shape != truth.shape:
        raise InputError(f"the prediction has shape {predicted.shape}, the truth {truth.shape}")
