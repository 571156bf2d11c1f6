"""The evaluator of OmniCrack30k: centre-line IoU with a tolerance of 4 px, pooled within each collection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cracktool.images import Mask
from cracktool.metrics import Levels, Matches, line_matches
from cracktool.protocols.evaluator import Evaluator
from cracktool.protocols.sweep import HALF

_NOTHING = Matches(predicted=0, confirmed=0, true=0, found=0)


def measure(levels: Levels, truth: Mask) -> Matches:
    """Match the centre lines of one image."""
    return line_matches(levels >= HALF, truth, radius=4)


def summarise(records: Sequence[Matches], sources: Sequence[str]) -> dict[str, float]:
    """Return the mean of the collections' clIoU, and that of all images pooled."""
    of_source = dict.fromkeys(sources, _NOTHING)
    for record, source in zip(records, sources, strict=True):
        of_source[source] += record
    return {
        "clIoU": float(np.mean([cl_iou(lines) for lines in of_source.values()])),
        "clIoU pooled": cl_iou(sum(records, _NOTHING)),
    }


def cl_iou(lines: Matches) -> float:
    """Return TP / (TP + FP + FN) of centre lines; 0 where there is none, as scikit-learn's `jaccard_score`."""
    whole = lines.true + lines.predicted - lines.confirmed
    return lines.found / whole if whole else 0.0


OMNICRACK = Evaluator(
    name="omnicrack",
    source="Benz and Rodehorst 2024 (OmniCrack30k, CVPR workshops); ben-z-original/omnicrack30k, evaluation.py",
    text=(
        "Only centre lines count, not widths. A pixel is crack where p > 0.5; the mask is thinned (scikit-image "
        "`thin`), TP are pixels of the true line within 4 px (a disk) of the predicted one, FN the others, FP pixels "
        "of the predicted line further than 4 px from the true one; clIoU = TP / (TP + FP + FN). Pixels are summed "
        "over the images of each collection and the mean over collections is reported, so a collection of 20 images "
        "weighs as much as one of 5,000. The authors load centre lines drawn beforehand for each truth; here the "
        "truth is thinned in the same way as the prediction. A set with no line at all scores 0. As matching is not "
        "one to one, spurs and double lines within 4 px cost nothing, and 4 px are a wide tolerance on a small "
        "picture. The authors' numbers are of an ensemble of five networks, mirrored."
    ),
    scores={
        "clIoU": "mean over collections of the centre-line IoU at 4 px pooled within each",
        "clIoU pooled": "centre-line IoU at 4 px, pooled over all images",
    },
    measure=measure,
    summarise=summarise,
)
