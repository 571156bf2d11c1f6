"""Counts at the thresholds of an evaluator, all read from one histogram.

Thresholds are whole percents. A level n is the probability n / 255, so n / 255 > k / 100 is decided in integers: equal
to what the evaluators' floating point says for all 256 levels and 100 thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cracktool.metrics import Curve, Histogram

Ints = npt.NDArray[np.int64]
Rates = npt.NDArray[np.float64]

PERCENTS = range(1, 100)
"""The thresholds 0.01 to 0.99."""

PERCENTS_FROM_0 = range(100)
"""The thresholds 0 to 0.99."""

HALF = 128
"""First level above one half."""


def levels_above(percents: Sequence[int]) -> Ints:
    """Return for each threshold the first level above it, (T,): for comparisons with >."""
    return np.array([255 * percent // 100 + 1 for percent in percents], np.int64)


def levels_from(percents: Sequence[int]) -> Ints:
    """Return for each threshold the first level that reaches it, (T,): for comparisons with >=."""
    return np.array([-(-255 * percent // 100) for percent in percents], np.int64)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Pixels right and wrong at each threshold, int64: (T,) of one image or a pooled set, (N, T) of N images."""

    tp: Ints
    fp: Ints
    fn: Ints
    tn: Ints

    @staticmethod
    def of(histogram: Histogram, levels: Ints) -> Sweep:
        """Count with each of `levels` as the first level that is crack."""
        tp, predicted = (counts[levels] for counts in histogram.cumulative())
        crack, background = histogram.crack.sum(), histogram.background.sum()
        return Sweep(tp, predicted - tp, crack - tp, background - (predicted - tp))

    @staticmethod
    def stack(sweeps: Sequence[Sweep]) -> Sweep:
        """Return the sweeps of N images as one, (N, T)."""
        return Sweep(*(np.stack([getattr(each, name) for each in sweeps]) for name in ("tp", "fp", "fn", "tn")))

    def precision(self) -> Rates:
        """Return precision, 1 where nothing is predicted: DeepSegmentor's rule, and that of all who copied it."""
        return fraction(self.tp, self.tp + self.fp, instead=1)

    def recall(self, *, instead: float) -> Rates:
        """Return recall; `instead` where the truth has no crack."""
        return fraction(self.tp, self.tp + self.fn, instead=instead)


def fraction(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic], *, instead: float) -> Rates:
    """Return part / whole of each element, `instead` where the whole is 0; a NaN in either stays one."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    result: Rates = np.divide(part, whole, out=np.full(whole.shape, instead, np.float64), where=whole != 0)
    return result


def harmonic_mean(precision: Curve, recall: Curve, *, instead: float) -> Rates:
    """Return F1 of each element; `instead` where both are 0."""
    return fraction(2 * precision * recall, precision + recall, instead=instead)
