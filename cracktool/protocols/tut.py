"""The evaluator of SCSegamba and the networks measured like it on TUT: 512 x 512, logits over their maximum."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cracktool.images import Mask
from cracktool.metrics import Histogram, Levels
from cracktool.metrics.counts import check_shapes
from cracktool.protocols.evaluator import Evaluator
from cracktool.protocols.sweep import PERCENTS_FROM_0, Rates, Sweep, fraction, harmonic_mean, levels_above

_SIDE = 512
_LEVELS = levels_above(PERCENTS_FROM_0)
_PROBABILITIES = np.clip(np.arange(256), 0.5, 254.5) / 255  # half a step off 0 and 1, where a logit is infinite
_LOGITS = np.log(_PROBABILITIES / (1 - _PROBABILITIES))


def measure(levels: Levels, truth: Mask) -> Histogram:
    """Count one image, resized, in the bytes that the authors save: 255 x logit / greatest logit."""
    check_shapes(levels, truth)
    small = cv2.resize(levels, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    crack = cv2.resize(truth.astype(np.uint8) * 255, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC) > 127
    counts = Histogram.of(np.asarray(small, np.uint8), crack)
    return _moved(counts, saved_bytes(int(small.max())))


def saved_bytes(highest: int) -> Levels:
    """Return for each level the byte that the authors save in a map whose highest level is `highest`, (256,)."""
    if highest == 0:
        return np.zeros(256, np.uint8)
    top = _LOGITS[highest]
    if top < 0:
        return np.full(256, 255, np.uint8)  # a quotient of two negatives is 1 or more
    return np.asarray(np.clip(np.rint(255 * _LOGITS / top), 0, 255), np.uint8)


def summarise(records: Sequence[Histogram], sources: Sequence[str]) -> dict[str, float]:
    """Return the best of image means (mIoU, ODS), the mean of image bests (OIS), and pooled F1, P and R."""
    pooled = Sweep.of(Histogram.pool(records), _LEVELS[:1])
    precision, recall = pooled.precision(), pooled.recall(instead=np.nan)
    images = Sweep.stack([Sweep.of(each, _LEVELS) for each in records])
    f1 = harmonic_mean(images.precision(), images.recall(instead=0), instead=0)
    return {
        "mIoU": float(_two_class_iou(images).mean(axis=0).max()),
        "ODS": float(f1.mean(axis=0).max()),
        "OIS": float(f1.max(axis=1).mean()),
        "F1": float(harmonic_mean(precision, recall, instead=np.nan)[0]),
        "P": float(precision[0]),
        "R": float(recall[0]),
    }


def _two_class_iou(images: Sweep) -> Rates:
    wrong = images.fp + images.fn
    crack = fraction(images.tp, images.tp + wrong, instead=0)
    background = fraction(images.tn, images.tn + wrong, instead=np.nan)
    return np.where(images.tp + wrong > 0, (crack + background) / 2, 0)


def _moved(counts: Histogram, to: Levels) -> Histogram:
    """Return the counts with the pixels of each level at another one."""
    moved = np.zeros((2, 256), np.int64)
    np.add.at(moved[0], to, counts.crack)
    np.add.at(moved[1], to, counts.background)
    return Histogram(crack=moved[0], background=moved[1])


TUT = Evaluator(
    name="tut",
    source=(
        "Liu et al. 2025 (SCSegamba, CVPR, arXiv 2503.01113); Karl1109/SCSegamba, main.py, datasets/crack_dataset.py "
        "and eval/evaluate.py; the same file scores MixerCSeg, CrackSCF, CACrackNet and DFECrack"
    ),
    text=(
        "Everything at 512 x 512 px: image and truth are resized by cubic interpolation whatever their shape, the "
        "truth is cut at 127 again, which thickens or erases lines of 1 to 2 px. A prediction is saved as the byte "
        "255 x logit / greatest logit of that image, rounded, negatives 0. So threshold 0 is p > 0.5 (by a hair more, "
        "for the rounding), all others of 0 ... 0.99 lie above it, and the scale differs from image to image: AIU or "
        "AP of such maps mean nothing. ODS is the best over thresholds of the mean F1 over images, mIoU the same of "
        "the mean of crack and background IoU, OIS the mean of each image's best F1: thresholds chosen on the set "
        "that is reported, as the authors choose the epoch. F1, P and R are pooled at threshold 0. Precision is 1 "
        "where nothing is predicted, recall 0 where there is no crack, and mIoU 0 where both are empty: a crack-free "
        "image scores 0 in ODS and OIS whatever is done, and 0 in mIoU where nothing is found. Where no pixel has p > "
        "0.5 the greatest logit is negative, the quotient is 1 or more everywhere, and the whole image is saved, and "
        "scored, as crack; this is repeated, except for a map that is 0 everywhere, which is read as an empty mask. "
        "Logits are rebuilt from bytes with p kept half a step from 0 and 1, which moves the thresholds above 0 a "
        "little; maps of other sizes are resized as bytes, where the authors' networks put out 512 x 512 px. The "
        "authors' own *_pre.png are such saved bytes already, not probabilities: do not score them here."
    ),
    scores={
        "mIoU": "best over thresholds of the mean over images of (crack IoU + background IoU) / 2",
        "ODS": "best over thresholds of the mean F1 over images",
        "OIS": "mean over images of the best F1 of each",
        "F1": "pooled crack F1 at threshold 0",
        "P": "pooled precision at threshold 0",
        "R": "pooled recall at threshold 0",
    },
    measure=measure,
    summarise=summarise,
)
