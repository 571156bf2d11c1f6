"""How far the border of one mask lies from that of the other, in px.

A border is the crack pixels with a background pixel, or the picture's edge, above, below or beside them. Distances are
Euclidean between pixel centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.images import Mask
from cracktool.metrics.counts import check_shapes
from cracktool.metrics.matching import Matches

Distances = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BorderDistances:
    """Distances between the borders of two masks, from which every surface score follows.

    Args:
        predicted: Of each border pixel of the prediction to the nearest of the truth, float64 px; infinite where the
            truth has none.
        true: The same the other way round.
        diagonal: Of the picture, px: what a distance counts as where one of the masks is empty.
    """

    predicted: Distances
    true: Distances
    diagonal: float

    @staticmethod
    def of(predicted: Mask, truth: Mask) -> BorderDistances:
        """Measure two masks, bool (H, W).

        Raises:
            InputError: The shapes differ.

        Example:
            >>> BorderDistances.of(predictor.mask(photo), truth).hausdorff(95)
            3.0
        """
        check_shapes(predicted, truth)
        borders = border(predicted), border(truth)
        to_truth, to_predicted = _distances(borders[0], borders[1]), _distances(borders[1], borders[0])
        return BorderDistances(to_truth, to_predicted, math.hypot(*truth.shape))

    def hausdorff(self, percentile: float = 95) -> float:
        """Return the larger of both directions' percentiles, px (Huttenlocher et al. 1993; 95 as in medical imaging).

        0 where both masks are empty; the picture's diagonal where one of them is, since nothing can be farther off.
        """
        if self._empty:
            return 0.0
        if not (len(self.predicted) and len(self.true)):
            return self.diagonal
        return float(max(np.percentile(self.predicted, percentile), np.percentile(self.true, percentile)))

    def mean(self) -> float:
        """Return the mean over the border pixels of both masks, px: the average symmetric surface distance.

        0 where both masks are empty, the picture's diagonal where one of them is.
        """
        if self._empty:
            return 0.0
        if not (len(self.predicted) and len(self.true)):
            return self.diagonal
        return float(np.concatenate([self.predicted, self.true]).mean())

    def within(self, radius: float) -> Matches:
        """Return which border pixels have one of the other mask within `radius` px.

        The `f1` of the result is boundary F1 (Csurka et al. 2013); `normalised_surface_dice` of it is NSD.
        """
        return Matches(
            predicted=len(self.predicted),
            confirmed=int(np.count_nonzero(self.predicted <= radius)),
            true=len(self.true),
            found=int(np.count_nonzero(self.true <= radius)),
        )

    @property
    def _empty(self) -> bool:
        return len(self.predicted) + len(self.true) == 0


def normalised_surface_dice(borders: Matches) -> float:
    """Return the share of both borders' pixels that lie near the other one (Nikolov et al. 2018, arXiv 1809.04430).

    Unlike boundary F1, which is the harmonic mean of both shares, it weighs each pixel alike. 1 where there is none.
    """
    total = borders.predicted + borders.true
    return (borders.confirmed + borders.found) / total if total else 1.0


def border(mask: Mask) -> Mask:
    """Return the crack pixels with a background pixel, or the picture's edge, above, below or beside them."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(mask & (inner == 0))


def _distances(of: Mask, to: Mask) -> Distances:
    """Return the distance of each pixel of one set to the nearest of the other, exact."""
    from scipy.spatial import cKDTree  # 0.2 s, and inference needs this package for its thresholds alone

    points, targets = np.argwhere(of), np.argwhere(to)
    if not len(targets):
        return np.full(len(points), np.inf)
    distances, _ = cKDTree(targets).query(points) if len(points) else (np.empty(0), None)
    return np.asarray(distances, np.float64)
