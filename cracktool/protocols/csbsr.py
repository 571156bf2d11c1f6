"""The evaluator of CSBSR: crack IoU and contour distances of each image at 99 thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cracktool.images import Mask
from cracktool.metrics import Contour, ContourDistances, Histogram, Levels
from cracktool.protocols.evaluator import Evaluator
from cracktool.protocols.sweep import PERCENTS, Rates, Sweep, levels_above

_LEVELS = levels_above(PERCENTS)
_SMOOTH = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Scores of one image at each threshold, float64 (99,).

    Args:
        iou: Crack IoU.
        distances: Robust Hausdorff distance at percentile 95 and at 50 and mean surface distance, px, (3, 99);
            infinite where one mask is empty and the other is not.
        width: Of the image, px, which such distances count as.
    """

    iou: Rates
    distances: Rates
    width: int


def measure(levels: Levels, truth: Mask) -> Curves:
    """Score one image at each threshold; thresholds with the same mask are measured once."""
    sweep = Sweep.of(Histogram.of(levels, truth), _LEVELS)
    iou = (sweep.tp + _SMOOTH) / (sweep.tp + sweep.fp + sweep.fn + _SMOOTH)
    _, first, again = np.unique(sweep.tp + sweep.fp, return_index=True, return_inverse=True)  # masks are nested
    true = Contour.of(truth)
    measured = [ContourDistances.of(Contour.of(levels >= level), true) for level in _LEVELS[first]]
    table = np.array([(each.hausdorff(95), each.hausdorff(50), each.mean()) for each in measured])
    return Curves(iou=iou, distances=table[again].T, width=truth.shape[1])


def summarise(records: Sequence[Curves], sources: Sequence[str]) -> dict[str, float]:
    """Return the means over all images and thresholds, and the best threshold's mean over images."""
    iou = np.stack([each.iou for each in records])
    measured = np.stack([each.distances for each in records])  # (N, 3, 99)
    widths = np.array([each.width for each in records], np.float64)[:, None, None]
    outliers = np.isinf(measured)
    hd95, hd50, msd = np.where(outliers, widths, measured).mean(axis=0)
    return {
        "AIU": float(iou.mean()),
        "IoU_max": float(iou.mean(axis=0).max()),
        "HD95_min": float(hd95.min()),
        "AHD95": float(hd95.mean()),
        "HD50_min": float(hd50.min()),
        "AHD50": float(hd50.mean()),
        "MSD_min": float(msd.min()),
        "AMSD": float(msd.mean()),
        "outliers": float(outliers[:, 0].mean()),
    }


CSBSR = Evaluator(
    name="csbsr",
    source="Kondo and Ukita 2024 (CSBSR, IEEE TIM 73, 5013816); Yuki-11/CSBSR, model/engine/inference.py",
    text=(
        "Crack IoU and contour distances of each image at the thresholds 0.01 ... 0.99, crack where p > threshold, at "
        "the size of the truth. IoU has 1e-5 above and below the line, so it is 1 where both masks are empty. "
        "Distances are those of DeepMind's surface-distance in px: contours run between pixels, and a percentile is "
        "taken of the length of the contour, in both directions, and the larger one counts. A distance is 0 where "
        "both masks are empty; where one of them is it counts as the width of the image (the code says the longest "
        "side, but reads the width), so a missed image costs hundreds of px and the mean says more about misses than "
        "about precision: look at the share of outliers. The paper says percentile 95, the released code has 50: both "
        "are given, as HD95 and HD50. _max and _min are the best threshold's mean over images, chosen on the set that "
        "is reported. AIU and AHD are means over all thresholds: they reward maps that are nearly binary, whatever "
        "their quality at one threshold; for a folder of masks AIU is IoU_max. The paper's numbers are of photos made "
        "blurred and 4 x smaller, except its row of segmentation at full size."
    ),
    scores={
        "AIU": "mean over images and thresholds of crack IoU",
        "IoU_max": "best over thresholds of the mean crack IoU over images",
        "HD95_min": "best over thresholds of the mean Hausdorff distance at percentile 95, px, as in the paper",
        "AHD95": "mean of it over images and thresholds, px",
        "HD50_min": "the same at percentile 50, as in the released code, px",
        "AHD50": "mean of it over images and thresholds, px",
        "MSD_min": "best over thresholds of the mean surface distance over images, px",
        "AMSD": "mean of it over images and thresholds, px",
        "outliers": "share of images and thresholds at which one mask is empty and the other is not",
    },
    measure=measure,
    summarise=summarise,
)
