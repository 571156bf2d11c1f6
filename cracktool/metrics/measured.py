"""All that one prediction shows against its truth, measured once, and every score that follows from it.

What adds up over images is kept as integers, so that a set is scored as exactly as an image, in whatever order it came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from cracktool.errors import UsageError
from cracktool.images import Mask
from cracktool.metrics.calibration import near_crack
from cracktool.metrics.counts import NO_COUNTS, Counts, Levels
from cracktool.metrics.histogram import Histogram, average_iou, best_dice
from cracktool.metrics.matching import (
    Matches,
    centreline_matches,
    line_iou,
    one_to_one_matches,
    tolerance_matches,
)
from cracktool.metrics.surfaces import BorderDistances, normalised_surface_dice
from cracktool.metrics.topology import betti_error
from cracktool.thinning import thin_pixels

TOLERANCES = (1.0, 2.0, 5.0)
"""Radii of the tolerant scores, px."""

_BORDER_PX, _LINE_PX = 2, 4  # as OpenCrack and OmniCrack30k have them
_NO_MATCHES = Matches(predicted=0, confirmed=0, true=0, found=0)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Integers of one image, or of many: they add up.

    Args:
        counts: Pixels right and wrong.
        near: Matches of the masks, one for each of the tolerances asked for.
        centre: Matches of each centre line with the other mask.
        lines: Matches of both centre lines within 4 px.
        pairs: Matches of both centre lines one to one, within 0.0075 of the diagonal.
        borders: Matches of both borders within 2 px.
    """

    counts: Counts = NO_COUNTS
    near: tuple[Matches, ...]
    centre: Matches = _NO_MATCHES
    lines: Matches = _NO_MATCHES
    pairs: Matches = _NO_MATCHES
    borders: Matches = _NO_MATCHES

    def numbers(self) -> npt.NDArray[np.int64]:
        """Return the integers as a vector (32 for three tolerances), of which sums make sense."""
        matches = (*self.near, self.centre, self.lines, self.pairs, self.borders)
        return np.array([*astuple(self.counts), *(value for each in matches for value in astuple(each))], np.int64)

    @staticmethod
    def of_numbers(numbers: Sequence[int] | npt.NDArray[np.int64]) -> Measured:
        """Return what `numbers` came from, or a sum of it."""
        tp, fp, fn, tn, *rest = (int(value) for value in numbers)
        matches = [
            Matches(predicted=predicted, confirmed=confirmed, true=true, found=found)
            for predicted, confirmed, true, found in zip(*(rest[part::4] for part in range(4)), strict=True)
        ]
        *near, centre, lines, pairs, borders = matches
        return Measured(
            counts=Counts(tp=tp, fp=fp, fn=fn, tn=tn),
            near=tuple(near),
            centre=centre,
            lines=lines,
            pairs=pairs,
            borders=borders,
        )

    @staticmethod
    def pool(parts: Iterable[Measured]) -> Measured:
        """Return the sum of one part at least."""
        return Measured.of_numbers(np.sum([part.numbers() for part in parts], axis=0))


@dataclass(frozen=True, eq=False)
class MeasuredImage:
    """One image: what adds up, what does not, and its histograms of levels.

    Args:
        measured: Integers that add up over images.
        scores: Scores that a sum of integers does not give, by name.
        levels: Pixels by level.
        near: The same within 10 px of crack, true or predicted.
    """

    measured: Measured
    scores: Mapping[str, float]
    levels: Histogram
    near: Histogram


def measure(levels: Levels, truth: Mask, *, level: int, tolerances: Sequence[float] = TOLERANCES) -> MeasuredImage:
    """Measure one prediction.

    Args:
        levels: uint8 (H, W).
        truth: bool (H, W).
        level: Pixels are crack from here on.
        tolerances: Radii of the tolerant scores, px.

    Raises:
        InputError: The shapes differ.
        UsageError: A radius is negative.
    """
    histogram = Histogram.of(levels, truth)
    mask = levels >= level
    lines, true_lines = thin_pixels(mask), thin_pixels(truth)
    borders = BorderDistances.of(mask, truth)
    betti = betti_error(mask, truth)
    measured = Measured(
        counts=histogram.counts(level),
        near=tuple(tolerance_matches(mask, truth, radius) for radius in tolerances),
        centre=centreline_matches(mask, truth),
        lines=tolerance_matches(lines, true_lines, _LINE_PX),
        pairs=one_to_one_matches(lines, true_lines),
        borders=borders.within(_BORDER_PX),
    )
    scores = {
        "hd95": borders.hausdorff(95),
        "surface_distance": borders.mean(),
        "betti_0_error": float(betti.pieces),
        "betti_1_error": float(betti.holes),
        "ois_0px": best_dice(histogram),
        "aiu": average_iou(histogram),
    }
    return MeasuredImage(measured, scores, histogram, near_crack(levels, truth, threshold=level))


@dataclass(frozen=True)
class Score:
    """A score that `Measured` gives, of an image as of a set.

    Args:
        name: Its name in reports.
        text: What it is.
        of: The integers to a number between 0 and 1.
    """

    name: str
    text: str
    of: Callable[[Measured], float]


def scores_of(tolerances: Sequence[float] = TOLERANCES) -> tuple[Score, ...]:
    """Return all scores that follow from `Measured`, in the order in which they are reported.

    Raises:
        UsageError: There is no tolerance, one is named twice, or one is negative or no number.
    """
    for radius in tolerances:
        if not 0 <= radius < math.inf:
            raise UsageError(f"tolerance is {radius} px, but must be 0 or more", remedy="try 2")
    if not tolerances or len(set(tolerances)) < len(tolerances):
        raise UsageError(f"tolerances are {list(tolerances)}, but must be different radii", remedy="try 2")
    return (
        *_PIXELS,
        *(score for number, radius in enumerate(tolerances) for score in _tolerant(number, radius)),
        *_SHAPES,
    )


def _tolerant(number: int, radius: float) -> tuple[Score, ...]:
    name = f"{radius:g}px"
    return (
        Score(
            f"precision_{name}",
            f"share of predicted pixels within {radius:g} px (Euclidean) of a true one",
            lambda measured: measured.near[number].precision,
        ),
        Score(
            f"recall_{name}",
            f"share of true pixels within {radius:g} px (Euclidean) of a predicted one",
            lambda measured: measured.near[number].recall,
        ),
        Score(f"f1_{name}", "harmonic mean of these two", lambda measured: measured.near[number].f1),
    )


_PIXELS = (
    Score("iou", "TP / (TP + FP + FN)", lambda measured: measured.counts.scores().iou),
    Score("dice", "2 TP / (2 TP + FP + FN), the same as F1", lambda measured: measured.counts.scores().dice),
    Score("precision", "TP / (TP + FP)", lambda measured: measured.counts.scores().precision),
    Score("recall", "TP / (TP + FN)", lambda measured: measured.counts.scores().recall),
    Score("accuracy", "(TP + TN) / all pixels", lambda measured: measured.counts.scores().accuracy),
    Score("miou_2class", "mean of crack IoU and background IoU", lambda measured: measured.counts.scores().miou_2class),
)

_SHAPES = (
    Score(
        "f1_bsds",
        "F1 of both masks thinned, pixels matched one to one within 0.0075 of the diagonal (Martin 2004)",
        lambda measured: measured.pairs.f1,
    ),
    Score(
        "boundary_f1_2px",
        "harmonic mean of the shares of each border within 2 px of the other (Csurka 2013)",
        lambda measured: measured.borders.f1,
    ),
    Score(
        "nsd_2px",
        "share of both borders' pixels within 2 px of the other one (Nikolov 2018)",
        lambda measured: normalised_surface_dice(measured.borders),
    ),
    Score(
        "cldice",
        "harmonic mean of the shares of each centre line inside the other mask (Shit 2021)",
        lambda measured: measured.centre.f1,
    ),
    Score(
        "cliou_4px", "IoU of both centre lines within 4 px (OmniCrack30k)", lambda measured: line_iou(measured.lines)
    ),
)
