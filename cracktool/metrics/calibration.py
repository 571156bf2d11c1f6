"""Whether probabilities mean what they say: of the pixels called 70 %, are 70 % crack?

Works on the histograms of levels; level n stands for the probability (n + 0.5) / 256, the middle of what it holds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cracktool.images import Mask
from cracktool.metrics.counts import BINS, Curve, Levels, check_shapes
from cracktool.metrics.distances import distance_to
from cracktool.metrics.histogram import Histogram

_BINS = 16  # of probabilities: a divisor of the number of levels
_PROBABILITIES = (np.arange(BINS) + 0.5) / BINS


def expected_calibration_error(histogram: Histogram) -> float:
    """Return the mean gap between confidence and frequency, each bin weighed by its pixels (Guo et al. 2017).

    Pixels are binned by their probability of crack, 16 bins of equal width. 0 without any pixel. Over whole photos the
    background decides it alone: see `near_crack`.
    """
    confidence, frequency, pixels = reliability(histogram)
    total = pixels.sum()
    return float((np.abs(confidence - frequency) * pixels).sum() / total) if total else 0.0


def reliability(histogram: Histogram) -> tuple[Curve, Curve, npt.NDArray[np.int64]]:
    """Return of each bin of probabilities its mean probability, its share of crack and its pixels, all (16,).

    Both are 0 in a bin without pixels.
    """
    crack, every = (values.reshape(_BINS, -1) for values in (histogram.crack, histogram.crack + histogram.background))
    pixels = every.sum(axis=1)
    weighed = (every * _PROBABILITIES.reshape(_BINS, -1)).sum(axis=1)
    safe = np.maximum(pixels, 1)
    return weighed / safe, crack.sum(axis=1) / safe, pixels


def brier_score(histogram: Histogram) -> float:
    """Return the mean squared gap between probability and truth (Brier 1950); 0 without any pixel."""
    total = histogram.crack.sum() + histogram.background.sum()
    squares = histogram.crack * (1 - _PROBABILITIES) ** 2 + histogram.background * _PROBABILITIES**2
    return float(squares.sum() / total) if total else 0.0


def near_crack(levels: Levels, truth: Mask, *, threshold: int, radius: float = 10.0) -> Histogram:
    """Return the histogram of the pixels within `radius` px of a crack, true or predicted.

    Args:
        levels: uint8 (H, W).
        truth: bool (H, W).
        threshold: Level from which a pixel is predicted.
        radius: In px.

    Raises:
        InputError: The shapes differ.
    """
    check_shapes(levels, truth)
    band = distance_to(truth | (levels >= threshold)) <= radius
    return Histogram.of(levels[band][None], truth[band][None])
