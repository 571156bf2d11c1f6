"""Scores of crack masks: integer counts first, every score from them.

Arrays in, numbers out; opens no file and knows no data set. Counts are Python ints, scores float64.

A prediction is *levels*, uint8 (H, W): probability p is level min(floor(256 p), 255), a binary mask has 0 and 255.
A truth is bool (H, W). Both keep their native size: resizing a truth thickens or erases hairlines.

One rule decides every 0/0: it is 1 where truth and prediction are both empty, else 0. So an image without crack
scores 1 when nothing is found in it and 0 at the first false alarm. Means over images come under two rules:
``empty_is_one`` takes all images in this way, ``positives_only`` leaves out images without crack in the truth.
"""

from __future__ import annotations

from cracktool.metrics.calibration import brier_score, expected_calibration_error, near_crack, reliability
from cracktool.metrics.contours import Contour, ContourDistances
from cracktool.metrics.counts import BINS, NO_COUNTS, Counts, Curve, Levels, Scores, quantise, threshold_level
from cracktool.metrics.histogram import SWEEP, Histogram, average_iou, average_precision, best_dice
from cracktool.metrics.likeness import psnr, quality
from cracktool.metrics.matching import (
    Matches,
    centre_line,
    centreline_matches,
    line_iou,
    line_matches,
    one_to_one_matches,
    tolerance_matches,
)
from cracktool.metrics.measured import TOLERANCES, Measured, MeasuredImage, Score, measure, scores_of
from cracktool.metrics.spread import Interval, Resampling, Spread
from cracktool.metrics.surfaces import BorderDistances, normalised_surface_dice
from cracktool.metrics.topology import Betti, betti_error

__all__ = [
    "BINS",
    "NO_COUNTS",
    "SWEEP",
    "TOLERANCES",
    "Betti",
    "BorderDistances",
    "Contour",
    "ContourDistances",
    "Counts",
    "Curve",
    "Histogram",
    "Interval",
    "Levels",
    "Matches",
    "Measured",
    "MeasuredImage",
    "Resampling",
    "Score",
    "Scores",
    "Spread",
    "average_iou",
    "average_precision",
    "best_dice",
    "betti_error",
    "brier_score",
    "centre_line",
    "centreline_matches",
    "expected_calibration_error",
    "line_iou",
    "line_matches",
    "measure",
    "near_crack",
    "normalised_surface_dice",
    "one_to_one_matches",
    "psnr",
    "quality",
    "quantise",
    "reliability",
    "scores_of",
    "threshold_level",
    "tolerance_matches",
]
