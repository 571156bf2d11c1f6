"""The evaluator of OpenCrack: five scores of each image with crack, means over images and over collections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cracktool.images import Mask
from cracktool.metrics import BorderDistances, Histogram, Levels, line_iou, line_matches, normalised_surface_dice
from cracktool.protocols.evaluator import Evaluator
from cracktool.protocols.sweep import HALF

_BORDER_RADIUS = 2  # px; not published
_NAMES = ("IoU", "Dice", "Boundary F1", "NSD", "clIoU")

Row = tuple[float, float, float, float, float]


def measure(levels: Levels, truth: Mask) -> Row | None:
    """Return the five scores of one image; None where its truth has no crack."""
    if not truth.any():
        return None
    predicted = levels >= HALF
    plain = Histogram.of(levels, truth).counts(HALF).scores()
    border = BorderDistances.of(predicted, truth).within(_BORDER_RADIUS)
    lines = line_iou(line_matches(predicted, truth, radius=4))
    return plain.iou, plain.dice, border.f1, normalised_surface_dice(border), lines


def summarise(records: Sequence[Row | None], sources: Sequence[str]) -> dict[str, float]:
    """Return the means over the images with crack, and over the means of their collections."""
    of_source: dict[str, list[Row]] = {}
    for row, source in zip(records, sources, strict=True):
        if row is not None:
            of_source.setdefault(source, []).append(row)
    if not of_source:
        return dict.fromkeys(OPENCRACK.scores, float("nan"))
    micro = np.mean([row for rows in of_source.values() for row in rows], axis=0)
    macro = np.mean([np.mean(rows, axis=0) for rows in of_source.values()], axis=0)
    scores = dict(zip(_NAMES, micro.tolist(), strict=True))
    return scores | {"IoU macro": float(macro[0]), "clIoU macro": float(macro[4])}


OPENCRACK = Evaluator(
    name="opencrack",
    source="Fadeev 2026 (OpenCrack); fadeevla/OpenCrack, README.md: the evaluation code is not published",
    text=(
        "IoU, Dice, boundary F1, normalised surface Dice (NSD) and centre-line IoU at 4 px of the crack class of each "
        "image, mean over the images whose truth has crack (micro) and mean over collections of their means (macro). "
        "Images without crack are left out, so false alarms on clean surfaces cost nothing here: the authors keep "
        "them for a count of false positives of its own. The authors publish what is averaged and how, but not their "
        "code: the threshold of 0.5, the tolerance of 2 px of boundary F1 and NSD, and that centre lines are those of "
        "OmniCrack30k's evaluator, image by image, are this package's choice, so boundary F1 and NSD may differ from "
        "theirs by much. Macro means depend on what is called a collection, and one of 7 images weighs as much as one "
        "of 7,000. Scores are at the size of the truth."
    ),
    scores={
        "IoU": "mean crack IoU over images with crack",
        "Dice": "mean crack Dice over images with crack",
        "Boundary F1": "mean boundary F1 at 2 px over images with crack",
        "NSD": "mean normalised surface Dice at 2 px over images with crack",
        "clIoU": "mean centre-line IoU at 4 px over images with crack",
        "IoU macro": "mean over collections of their mean IoU",
        "clIoU macro": "mean over collections of their mean clIoU",
    },
    measure=measure,
    summarise=summarise,
)
