"""The evaluator of khanhha/crack_segmentation: mean Dice and Jaccard over images, threshold 0.2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cracktool.images import Mask
from cracktool.metrics import Counts, Histogram, Levels
from cracktool.protocols.evaluator import Evaluator

_FIRST_LEVEL = 52  # the first byte > 255 * 0.2
_EPSILON = 1e-15


def measure(levels: Levels, truth: Mask) -> Counts:
    """Count one image at its own size."""
    return Histogram.of(levels, truth).counts(_FIRST_LEVEL)


def summarise(records: Sequence[Counts], sources: Sequence[str]) -> dict[str, float]:
    """Return mean and population standard deviation over the images."""
    dice = [(2 * each.tp + _EPSILON) / (2 * each.tp + each.fp + each.fn + _EPSILON) for each in records]
    jaccard = [(each.tp + _EPSILON) / (each.tp + each.fp + each.fn + _EPSILON) for each in records]
    return {
        "Dice": float(np.mean(dice)),
        "Dice std": float(np.std(dice)),
        "Jaccard": float(np.mean(jaccard)),
        "Jaccard std": float(np.std(jaccard)),
    }


KHANHHA = Evaluator(
    name="khanhha",
    source="khanhha/crack_segmentation, evaluate_unet.py (no paper)",
    text=(
        "Dice and Jaccard (IoU) of the crack class of each image, mean and population standard deviation over images. "
        "A pixel is crack where its byte is > 255 x 0.2, so from level 52 on; one published version of the file has "
        "0.5 there instead. Nothing is resized here: the authors resize all images to 448 x 448 beforehand. An "
        "epsilon of 1e-15 above and below the line makes an image without crack score 1 when nothing is found in it "
        "and about 0 at the first false alarm, and each image weighs the same, so crack-free images lift the mean: "
        "khanhha's test set has about one in eight. The authors read truths from JPEG files and take every value > 0 "
        "as crack, so their compression noise counts as crack; here the truth is the mask as the data set was "
        "prepared."
    ),
    scores={
        "Dice": "mean over images of (2 TP + 1e-15) / (2 TP + FP + FN + 1e-15)",
        "Dice std": "its population standard deviation over images",
        "Jaccard": "mean over images of (TP + 1e-15) / (TP + FP + FN + 1e-15)",
        "Jaccard std": "its population standard deviation over images",
    },
    measure=measure,
    summarise=summarise,
)
