"""How far the contour of one mask lies from that of the other, in px, where each piece of line weighs as it is long.

A contour runs between pixels, from corner to corner, unlike the borders of `cracktool.metrics.surfaces`, which are
pixels of the mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError
from cracktool.images import Mask
from cracktool.metrics.distances import distance_to

Distances = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contour:
    """The line around a mask, from pixel corner to pixel corner, as DeepMind's ``surface-distance`` draws it.

    Args:
        shape_hw: Of the grid of corners: a picture's height and width, plus 1 each.
        places: Corners on the line, as indices into the flattened grid, rising.
        lengths: Length of line at each of them, px: 1 along a side, the root of 1/2 around a corner of the mask, the
            root of 2 where the mask touches itself.
    """

    shape_hw: tuple[int, int]
    places: npt.NDArray[np.intp]
    lengths: Distances

    @staticmethod
    def of(mask: Mask) -> Contour:
        """Draw the contour of a mask, bool (H, W); beyond the picture is background."""
        inside = np.pad(mask.astype(np.uint8), 1)
        around = 8 * inside[:-1, :-1] + 4 * inside[:-1, 1:] + 2 * inside[1:, :-1] + inside[1:, 1:]
        places = np.flatnonzero((around > 0) & (around < 15))
        return Contour((around.shape[0], around.shape[1]), places, _LENGTHS[around.ravel()[places]])

    @cached_property
    def away(self) -> npt.NDArray[np.float32]:
        """The distance of each corner to the contour, px, float32 of `shape_hw`; infinite without one."""
        on = np.zeros(self.shape_hw, np.bool_)
        on.ravel()[self.places] = True
        return distance_to(on)


_BEND, _SIDE, _CROSS = math.sqrt(0.5), 1.0, math.sqrt(2)
_LENGTHS = np.array(  # by which of the four pixels around a corner are mask: bits 8 4 / 2 1
    [
        *(0.0, _BEND, _BEND, _SIDE, _BEND, _SIDE, _CROSS, _BEND),
        *(_BEND, _CROSS, _SIDE, _BEND, _SIDE, _BEND, _BEND, 0.0),
    ]
)


@dataclass(frozen=True, eq=False)
class ContourDistances:
    """Distances between the contours of two masks, each with its length of line.

    Args:
        predicted: Of each point of the predicted contour to the nearest of the true one, px, rising.
        predicted_lengths: Length of line at each of them, px.
        true: The same the other way round.
        true_lengths: Length of line at each of them, px.
    """

    predicted: Distances
    predicted_lengths: Distances
    true: Distances
    true_lengths: Distances

    @staticmethod
    def of(predicted: Contour, truth: Contour) -> ContourDistances:
        """Measure the contours of two masks.

        Raises:
            InputError: The shapes differ.

        Example:
            >>> ContourDistances.of(Contour.of(predicted), Contour.of(truth)).hausdorff(95)
            3.0
        """
        if predicted.shape_hw != truth.shape_hw:
            sizes = " and ".join("{} x {}".format(*each.shape_hw) for each in (predicted, truth))
            raise InputError(f"the contours run on grids of different size, {sizes}")
        return ContourDistances(*_along(predicted, truth.away), *_along(truth, predicted.away))

    def hausdorff(self, percentile: float = 95) -> float:
        """Return the larger of both directions' percentiles by length of line, px: the robust Hausdorff distance.

        0 where both masks are empty, infinite where one of them is.

        Source: Nikolov et al. 2018 (arXiv 1809.04430) and its ``surface-distance``, `compute_robust_hausdorff`.
        """
        if not (len(self.predicted) and len(self.true)):
            return self._of_empty()
        predicted = _percentile(self.predicted, self.predicted_lengths, percentile)
        return max(predicted, _percentile(self.true, self.true_lengths, percentile))

    def mean(self) -> float:
        """Return the mean of both directions' mean distance by length of line, px.

        0 where both masks are empty, infinite where one of them is.
        """
        if not (len(self.predicted) and len(self.true)):
            return self._of_empty()
        predicted = np.average(self.predicted, weights=self.predicted_lengths)
        return float(predicted + np.average(self.true, weights=self.true_lengths)) / 2

    def _of_empty(self) -> float:
        return math.inf if len(self.predicted) or len(self.true) else 0.0


def _along(contour: Contour, away: npt.NDArray[np.float32]) -> tuple[Distances, Distances]:
    """Return the distance and the length of line of each point of a contour, by rising distance."""
    squares = np.rint(away.ravel()[contour.places].astype(np.float64) ** 2)  # whole steps: float32's rounding goes
    order = np.lexsort((contour.lengths, squares))
    return np.sqrt(squares[order]), contour.lengths[order]


def _percentile(distances: Distances, lengths: Distances, percentile: float) -> float:
    """Return the first distance within which lies that percentage of the line."""
    reached = np.cumsum(lengths) / lengths.sum()
    place = int(np.searchsorted(reached, percentile / 100))
    return float(distances[min(place, len(distances) - 1)])
