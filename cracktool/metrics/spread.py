"""How sure a score is: its spread over images, and intervals by drawing groups of images again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]

_CHUNK = 100


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and population standard deviation of one score over images.

    Args:
        mean: Mean.
        std: Standard deviation, over n.
        images: How many.
        ci95: 95 % interval of the mean; None where it was not asked for, or with fewer than two groups.
    """

    mean: float
    std: float
    images: int
    ci95: Interval | None = None

    @staticmethod
    def of(values: Sequence[float], ci95: Interval | None = None) -> Spread | None:
        """Summarise one value per image; None without any image."""
        if not values:
            return None
        return Spread(mean=float(np.mean(values)), std=float(np.std(values)), images=len(values), ci95=ci95)


class Resampling:
    """The bootstrap over groups of images (Efron 1979): whole groups, as crops of one photo are not independent.

    Each score that is computed from the same resampling is computed from the same draws, so that differences of scores
    are paired.

    Args:
        groups: Group of each image, such as its parent photo.
        resamples: Number of draws.
        seed: Draws are repeatable.
    """

    def __init__(self, groups: Sequence[str], *, resamples: int = 1000, seed: int = 0) -> None:
        names, self._member_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.groups = len(names)
        self.resamples = resamples
        self.seed = seed

    def sums(self, values: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
        """Return the sum over the images of each draw, (resamples, k), of values per image (images, k).

        Sums of integers are exact up to 2^53.
        """
        sums = self._of_groups(values)
        random, shares = np.random.default_rng(self.seed), np.full(self.groups, 1 / self.groups)
        sizes = [min(_CHUNK, self.resamples - start) for start in range(0, self.resamples, _CHUNK)]
        draws = (random.multinomial(self.groups, shares, size=size) for size in sizes)
        return np.concatenate([each @ sums for each in draws])

    def swaps(
        self, first: npt.NDArray[np.number], second: npt.NDArray[np.number]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the sums, (resamples, k) each, of values per image of two sides that exchange groups at random.

        What a difference would be by chance alone: the paired randomisation test (Noreen 1989).
        """
        one, other = self._of_groups(first), self._of_groups(second)
        kept = np.random.default_rng(self.seed).integers(0, 2, (self.resamples, self.groups))
        return kept @ one + (1 - kept) @ other, kept @ other + (1 - kept) @ one

    def _of_groups(self, values: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
        sums = np.zeros((self.groups, values.shape[1]))
        np.add.at(sums, self._member_of, values)
        return sums

    def interval(
        self, samples: Sequence[float] | npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_] | None = None
    ) -> Interval | None:
        """Return the 2.5 and 97.5 percentiles of a score's draws; None with fewer than two groups.

        Draws that are not a number, such as a mean over no image, are left out.

        Args:
            samples: A score of each draw.
            chosen: The images that it is of; None for all.
        """
        known = np.asarray(samples, np.float64)
        known = known[~np.isnan(known)]
        groups = self.groups if chosen is None else len(np.unique(self._member_of[chosen]))
        if groups < 2 or not len(known):
            return None
        low, high = np.percentile(known, [2.5, 97.5])
        return float(low), float(high)

    def means(self, values: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Return the mean over the chosen images of each draw, (resamples, k), of values per image (images, k).

        NaN in a draw without any of them.
        """
        *sums, counts = self.sums(np.column_stack([np.where(chosen[:, None], values, 0), chosen])).T
        return np.stack([np.divide(each, counts, out=np.full(len(each), np.nan), where=counts > 0) for each in sums]).T
