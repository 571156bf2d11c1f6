"""The evaluator of DeepCrack (Liu 2019) and CrackFormer-II: pooled F at the best of 100 thresholds, no tolerance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cracktool.images import Mask
from cracktool.metrics import Histogram, Levels
from cracktool.protocols.evaluator import Evaluator
from cracktool.protocols.sweep import PERCENTS_FROM_0, Rates, Sweep, fraction, harmonic_mean, levels_above

_LEVELS = levels_above(PERCENTS_FROM_0)


def measure(levels: Levels, truth: Mask) -> Histogram:
    """Count one image at its own size."""
    return Histogram.of(levels, truth)


def summarise(records: Sequence[Histogram], sources: Sequence[str]) -> dict[str, float]:
    """Return the scores at the threshold with the best pooled F, and OIS."""
    pooled = Sweep.of(Histogram.pool(records), _LEVELS)
    precision, recall = pooled.precision(), pooled.recall(instead=np.nan)
    f_score = harmonic_mean(precision, recall, instead=np.nan)
    best = int(np.nanargmax(f_score)) if np.isfinite(f_score).any() else None
    curves = {"F": f_score, "P": precision, "R": recall, **_segmentation(pooled)}
    scores = {name: float("nan") if best is None else float(curve[best]) for name, curve in curves.items()}
    images = Sweep.stack([Sweep.of(each, _LEVELS) for each in records])
    of_images = harmonic_mean(images.precision(), images.recall(instead=np.nan), instead=0)
    return {
        **scores,
        "bT": float("nan") if best is None else PERCENTS_FROM_0[best] / 100,
        "OIS": float(of_images.max(axis=1).mean()),
    }


def _segmentation(pooled: Sweep) -> dict[str, Rates]:
    """Return global accuracy, class average accuracy and mean IoU at each threshold."""
    wrong = pooled.fp + pooled.fn
    iou = [fraction(right, right + wrong, instead=np.nan) for right in (pooled.tn, pooled.tp)]
    specificity = fraction(pooled.tn, pooled.tn + pooled.fp, instead=np.nan)
    return {
        "G": fraction(pooled.tp + pooled.tn, pooled.tp + pooled.tn + wrong, instead=np.nan),
        "C": (specificity + pooled.recall(instead=np.nan)) / 2,
        "I/U": (iou[0] + iou[1]) / 2,
    }


DEEPSEGMENTOR = Evaluator(
    name="deepsegmentor",
    source=(
        "Liu et al. 2019 (DeepCrack, Neurocomputing 338); yhlleo/DeepSegmentor, eval/prf_metrics.py and "
        "segment_metrics.py; OIS from LouisNUST/CrackFormer-II, utils/Validator.py, which copies them"
    ),
    text=(
        "Pixels summed over the set at the thresholds 0, 0.01 ... 0.99, crack where p > threshold, without tolerance, "
        "thinning or resizing. F at the best of them is what CrackFormer-II and many others print as ODS; P, R, G, C "
        "and I/U are those at the same threshold, as in the authors' table. OIS is the mean over images of each "
        "image's best F. So the threshold is chosen on the very set that is reported. This ODS is not that of BSDS or "
        "FPHBN, which thin and tolerate 0.0075 of the diagonal. Precision is 1 where nothing is predicted; a "
        "threshold at which no crack pixel is right has no F. I/U is the mean of background and crack IoU. A truth "
        "without crack has no recall: with one crack-free image in the set OIS is undefined in the authors' code, and "
        "it is NaN here. Their numbers are at the size that the network put out, 256 x 256 px or as configured; here "
        "it is the size of the truth. CrackFormer-II makes its truths by a threshold of 80, DeepSegmentor by 127."
    ),
    scores={
        "F": "best pooled crack F1 over the thresholds; CrackFormer-II calls it ODS",
        "P": "pooled precision at that threshold",
        "R": "pooled recall at that threshold",
        "G": "share of all pixels that are right at that threshold",
        "C": "mean of background and crack recall at that threshold",
        "I/U": "mean of background and crack IoU at that threshold",
        "bT": "that threshold",
        "OIS": "mean over images of the best F1 of each; NaN with a crack-free image in the set",
    },
    measure=measure,
    summarise=summarise,
)
