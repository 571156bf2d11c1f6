"""How sure a score is: its spread over images, and intervals by drawing groups of images again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from cracktool.metrics.counts import Counts, ratios


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and population standard deviation of one score over images."""

    mean: float
    std: float
    images: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread | None:
        """Summarise one value per image; None without any image."""
        if not values:
            return None
        return Spread(mean=float(np.mean(values)), std=float(np.std(values)), images=len(values))


def bootstrap_iou(
    counts: Sequence[Counts], groups: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % interval of pooled crack IoU by the percentile bootstrap over groups (Efron 1979).

    Whole groups are drawn, because crops of one photo are not independent.

    Args:
        counts: Counts of each image.
        groups: Group of each image, such as its parent photo.
        resamples: Number of draws.
        seed: Draws are repeatable.

    Returns:
        The 2.5 and 97.5 percentiles, or None with fewer than two groups.

    Example:
        >>> bootstrap_iou([row.counts for row in report.rows], [row.entry.group for row in report.rows])
        (0.61, 0.68)
    """
    names, member_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.zeros((len(names), 4), np.int64)
    np.add.at(sums, member_of, [astuple(each) for each in counts])
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    tp, fp, fn, _ = (draws @ sums).T
    low, high = np.percentile(ratios(tp, tp + fp + fn), [2.5, 97.5])
    return float(low), float(high)
