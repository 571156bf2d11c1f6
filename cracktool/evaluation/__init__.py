"""Score predictions against a data set, and set scores beside each other.

A folder of masks is scored without PyTorch; nothing is written.
"""

from __future__ import annotations

from cracktool.evaluation.comparing import Cell, Difference, Matrix, compare, matrix
from cracktool.evaluation.predictions import (
    Origin,
    Prediction,
    masks_origin,
    model_origin,
    predictions_from_masks,
    predictions_from_model,
    predictions_from_probs,
    probs_origin,
)
from cracktool.evaluation.restoration import restoration_scorer
from cracktool.evaluation.results import Curve, Report
from cracktool.evaluation.robustness import Spoilt, robustness
from cracktool.evaluation.rows import Failure, GroupScores, Row
from cracktool.evaluation.scoring import evaluate
from cracktool.evaluation.summaries import Summary, check_pooled
from cracktool.evaluation.truth import read_truth

__all__ = [
    "Cell",
    "Curve",
    "Difference",
    "Failure",
    "GroupScores",
    "Matrix",
    "Origin",
    "Prediction",
    "Report",
    "Row",
    "Spoilt",
    "Summary",
    "check_pooled",
    "compare",
    "evaluate",
    "masks_origin",
    "matrix",
    "model_origin",
    "predictions_from_masks",
    "predictions_from_model",
    "predictions_from_probs",
    "probs_origin",
    "read_truth",
    "restoration_scorer",
    "robustness",
]
