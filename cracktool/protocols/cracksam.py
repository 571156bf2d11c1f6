"""The evaluator of CrackSAM: precision, recall, F1 and IoU of each image, then their means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cracktool.images import Mask
from cracktool.metrics import Counts, Histogram, Levels
from cracktool.protocols.evaluator import Evaluator
from cracktool.protocols.sweep import HALF


def measure(levels: Levels, truth: Mask) -> Counts:
    """Count one image at its own size."""
    return Histogram.of(levels, truth).counts(HALF)


def summarise(records: Sequence[Counts], sources: Sequence[str]) -> dict[str, float]:
    """Return the mean of each score over the images."""
    means = np.mean([_scores(each) for each in records], axis=0)
    return dict(zip(CRACKSAM.scores, means.tolist(), strict=True))


def _scores(counts: Counts) -> tuple[float, float, float, float]:
    predicted, true = counts.tp + counts.fp, counts.tp + counts.fn
    if not (predicted and true):
        alike = float(predicted == true)
        return alike, alike, alike, alike
    tp = counts.tp
    return tp / predicted, tp / true, 2 * tp / (predicted + true), tp / (predicted + true - tp)


CRACKSAM = Evaluator(
    name="cracksam",
    source="Ge et al. 2024 (CrackSAM, arXiv 2312.04233); KG-TSI-Civil/CrackSAM, test.py and utils.py",
    text=(
        "Precision, recall, F1 and IoU of the crack class of each image, then the plain mean over images. A pixel is "
        "crack where its probability is > 0.5 (argmax of two classes, a draw is background). All four are 1 where "
        "truth and prediction are both empty and 0 where only one of them is, so crack-free images count as much as "
        "any other. The network of the paper sees 448 x 448 px and its mask is brought back to the size of the truth "
        "by nearest neighbour: scores are at the size of the truth, and nothing is resized here. The mean F1 is not "
        "the F1 of mean precision and mean recall."
    ),
    scores={
        "pr": "mean precision over images",
        "re": "mean recall over images",
        "f1": "mean F1 over images",
        "iou": "mean crack IoU over images",
    },
    measure=measure,
    summarise=summarise,
)
