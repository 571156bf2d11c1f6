"""Scores of crack masks: integer counts first, every score from them.

Arrays in, numbers out; opens no file and knows no data set. Counts are Python ints, scores float64.

A prediction is *levels*, uint8 (H, W): probability p is level min(floor(256 p), 255), a binary mask has 0 and 255.
A truth is bool (H, W). Both keep their native size: resizing a truth thickens or erases hairlines.

One rule decides every 0/0: it is 1 where truth and prediction are both empty, else 0. So an image without crack
scores 1 when nothing is found in it and 0 at the first false alarm. Means over images come under two rules:
``empty_is_one`` takes all images in this way, ``positives_only`` leaves out images without crack in the truth.
"""

from __future__ import annotations

from cracktool.metrics.counts import Counts, Curve, Levels, Scores, threshold_level
from cracktool.metrics.histogram import Histogram, average_iou, average_precision, best_dice, best_threshold
from cracktool.metrics.matching import Matches, centreline_matches, tolerance_matches
from cracktool.metrics.spread import Spread, bootstrap_iou

__all__ = [
    "Counts",
    "Curve",
    "Histogram",
    "Levels",
    "Matches",
    "Scores",
    "Spread",
    "average_iou",
    "average_precision",
    "best_dice",
    "best_threshold",
    "bootstrap_iou",
    "centreline_matches",
    "threshold_level",
    "tolerance_matches",
]
