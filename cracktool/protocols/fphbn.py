"""The evaluator of FPHBN: ODS, OIS and AP as BSDS has them, on ridges matched one to one; AIU on the map itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cracktool.images import Mask
from cracktool.metrics import Histogram, Levels, one_to_one_matches
from cracktool.metrics.counts import check_shapes
from cracktool.protocols.evaluator import Evaluator
from cracktool.protocols.ridges import ridges
from cracktool.protocols.sweep import PERCENTS, Ints, Rates, Sweep, levels_from
from cracktool.thinning import thin_pixels

_THRESHOLDS = np.linspace(0.0001, 0.9999, 99)
_AIU_LEVELS = levels_from(PERCENTS)
_TINY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Counts of one image at each threshold, (99,), or summed over images.

    Args:
        matched: Pixels of thinned prediction and truth that are paired.
        predicted: Pixels of the thinned prediction.
        true: Pixels of the thinned truth.
        iou: Crack IoU of the whole map.
    """

    matched: Ints
    predicted: Ints
    true: Ints
    iou: Rates


def measure(levels: Levels, truth: Mask) -> Pairs:
    """Match one image at each threshold; thresholds with the same ridges are matched once."""
    check_shapes(levels, truth)
    crest = ridges(levels.astype(np.float32) / np.float32(255)).astype(np.float64)
    true = thin_pixels(truth)
    sizes = [int(np.count_nonzero(crest >= threshold)) for threshold in _THRESHOLDS]
    _, first, again = np.unique(sizes, return_index=True, return_inverse=True)  # the masks are nested
    lines = [
        one_to_one_matches(thin_pixels(crest >= threshold), true, share=0.0075) for threshold in _THRESHOLDS[first]
    ]
    sweep = Sweep.of(Histogram.of(levels, truth), _AIU_LEVELS)
    return Pairs(
        matched=np.array([each.found for each in lines])[again],
        predicted=np.array([each.predicted for each in lines])[again],
        true=np.array([each.true for each in lines])[again],
        iou=sweep.tp / np.maximum(sweep.tp + sweep.fp + sweep.fn, 1),
    )


def summarise(records: Sequence[Pairs], sources: Sequence[str]) -> dict[str, float]:
    """Return ODS and AP of the summed counts, OIS of each image's best counts summed, and AIU."""
    matched, predicted, true = (
        np.stack([getattr(each, name) for each in records]) for name in ("matched", "predicted", "true")
    )
    recall, precision, _ = _rates(matched.sum(axis=0), predicted.sum(axis=0), true.sum(axis=0))
    best = np.arange(len(records)), _rates(matched, predicted, true)[2].argmax(axis=1)
    _, _, of_best = _rates(*(counts[best].sum(keepdims=True) for counts in (matched, predicted, true)))
    return {
        "ODS": best_f(precision, recall),
        "OIS": float(of_best[0]),
        "AP": area(precision, recall),
        "AIU": float(np.mean([each.iou for each in records])),
    }


def _rates(matched: Ints, predicted: Ints, true: Ints) -> tuple[Rates, Rates, Rates]:
    """Return recall, precision and F, 0 for 0/0."""
    recall, precision = matched / np.maximum(true, _TINY), matched / np.maximum(predicted, _TINY)
    return recall, precision, _f(precision, recall)


def _f(precision: Rates, recall: Rates) -> Rates:
    return np.asarray(2 * precision * recall / np.maximum(precision + recall, _TINY))


def best_f(precision: Rates, recall: Rates) -> float:
    """Return the best F on the straight lines between neighbouring thresholds, in 100 steps each (`findBestRPF`)."""
    along = np.linspace(0, 1, 100)[:, None]
    between = (curve[1:] * along + curve[:-1] * (1 - along) for curve in (precision, recall))
    return float(_f(*between).max())


def area(precision: Rates, recall: Rates) -> float:
    """Return the sum of precision at the recalls 0, 0.01 ... 1 that are reached, over 100: the toolbox's AP.

    Between thresholds precision is interpolated; of thresholds with one recall the lowest counts, as MATLAB's `unique`
    has it since 2013; it took the highest before.
    """
    reached, first = np.unique(recall, return_index=True)
    if len(reached) < 2:
        return 0.0
    heights = np.interp(np.arange(101) / 100, reached, precision[first], left=0, right=0)
    return float(heights.sum() / 100)


FPHBN = Evaluator(
    name="fphbn",
    source="Yang et al. 2019 (FPHBN, IEEE TITS); fyangneil/pavement-crack-detection, eval_tool/",
    text=(
        "Maps are first thinned to their ridges by the non-maximum suppression of Dollar's edge toolbox (r 2, s 5, m "
        "1.01), whose direction comes from second derivatives and which fades out the outermost 5 px; then, at each "
        "of 99 thresholds from 0.0001 to 0.9999, p >= threshold is thinned to one pixel and paired one to one with "
        "the thinned truth within 0.0075 of the diagonal (5.5 px at 640 x 360). ODS is the best F of the counts "
        "summed over the set, OIS the F of the sum of each image's best counts, AP the area below the curve; ODS is "
        "the best on the straight lines between thresholds too, which lifts it by a hair. AIU is another matter: the "
        "mean over images and the thresholds 0.01 ... 0.99 of the crack IoU of the whole map, without ridges or "
        "matching. ODS here judges centre lines with tolerance and cannot be compared with the ODS of deepsegmentor "
        "or tut. A crack-free image adds the false alarms of the lowest threshold to OIS, since none of its F is "
        "best, and 0 to AIU even where nothing is found. Where the map is perfectly horizontal, the formula of the "
        "direction has no answer and says along the crack, so nothing is suppressed. Pairs are the most that can be "
        "made, where the authors' program approximates a cheapest matching and may leave a few out; all is rebuilt "
        "from the published sources and was never run in MATLAB. Of thresholds with equal recall AP takes the lowest, "
        "and where all have one recall, as for a perfect mask, AP is 0. Slow: thinning and pairing at up to 99 "
        "thresholds."
    ),
    scores={
        "ODS": "best F over thresholds of matches summed over the set",
        "OIS": "F of the matches at each image's own best threshold, summed",
        "AP": "area below precision over recall of the summed matches",
        "AIU": "mean over images and thresholds of crack IoU, without matching; 0 where both masks are empty",
    },
    measure=measure,
    summarise=summarise,
)
