"""The `IoUMetric` of MMSegmentation as CrackRefineNet runs it: pixels summed over the set, classes averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cracktool.images import Mask
from cracktool.metrics import NO_COUNTS, Counts, Histogram, Levels
from cracktool.protocols.evaluator import Evaluator
from cracktool.protocols.sweep import HALF, Rates, fraction, harmonic_mean


def measure(levels: Levels, truth: Mask) -> Counts:
    """Count one image at its own size."""
    return Histogram.of(levels, truth).counts(HALF)


def summarise(records: Sequence[Counts], sources: Sequence[str]) -> dict[str, float]:
    """Return the scores of the summed counts of both classes, background first."""
    total = sum(records, NO_COUNTS)
    right = np.array([total.tn, total.tp])
    predicted = np.array([total.tn + total.fn, total.tp + total.fp])
    true = np.array([total.tn + total.fp, total.tp + total.fn])
    recall = fraction(right, true, instead=np.nan)
    precision = fraction(right, predicted, instead=np.nan)
    iou = fraction(right, predicted + true - right, instead=np.nan)
    dice = fraction(2 * right, predicted + true, instead=np.nan)
    fscore = harmonic_mean(precision, recall, instead=np.nan)
    return {
        "aAcc": float(fraction(right.sum(), true.sum(), instead=np.nan)),
        "mIoU": _mean(iou),
        "mAcc": _mean(recall),
        "mDice": _mean(dice),
        "mFscore": _mean(fscore),
        "mPrecision": _mean(precision),
        "mRecall": _mean(recall),
        "IoU crack": float(iou[1]),
        "Fscore crack": float(fscore[1]),
        "Precision crack": float(precision[1]),
        "Recall crack": float(recall[1]),
    }


def _mean(of_classes: Rates) -> float:
    """Return the mean of the classes that have a value."""
    known = of_classes[~np.isnan(of_classes)]
    return float(known.mean()) if known.size else float("nan")


MMSEG = Evaluator(
    name="mmseg",
    source=(
        "Okran et al. 2026 (CrackRefineNet, Automation in Construction 181, 106635); AmmarOkran/CrackRefineNet, "
        "mmseg/evaluation/metrics/iou_metric.py with iou_metrics mIoU, mDice, mFscore"
    ),
    text=(
        "Pixels of background and of crack, summed over the whole set; IoU, accuracy (which is recall), Dice, "
        "F-score, precision and recall of each class, and as m... the mean of both classes. A pixel is crack where "
        "its probability is > 0.5, at the size of the truth: the network sees 512 x 512 px and its output is resized "
        "back. A class that no pixel has, true or predicted, has no value and is left out of the mean; so has the "
        "F-score of a class that is never right. Background is most of a photo and its IoU is close to 1, so an mIoU "
        "of 0.80 is a crack IoU of about 0.6: compare it with no crack-only IoU; CrackSeg9k, HrSegNet and PaddleSeg "
        "print the same mean. Photos with much crack weigh more than others. The authors print percent with two "
        "decimals, and sum in 32-bit floating point, which can move the last of many digits; here they are fractions "
        "of exact counts."
    ),
    scores={
        "aAcc": "share of all pixels that are right",
        "mIoU": "mean of background and crack IoU",
        "mAcc": "mean of background and crack recall, under another name",
        "mDice": "mean of background and crack Dice",
        "mFscore": "mean of background and crack F1",
        "mPrecision": "mean of background and crack precision",
        "mRecall": "mean of background and crack recall",
        "IoU crack": "crack IoU of the summed pixels",
        "Fscore crack": "crack F1 of the summed pixels",
        "Precision crack": "crack precision of the summed pixels",
        "Recall crack": "crack recall of the summed pixels",
    },
    measure=measure,
    summarise=summarise,
)
