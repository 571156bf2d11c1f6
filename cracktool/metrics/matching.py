"""Masks matched with a tolerance, and their centre lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from cracktool.errors import UsageError
from cracktool.images import Mask
from cracktool.metrics.counts import check_shapes, ratio


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Pixels of the prediction that the truth confirms, and of the truth that the prediction finds. They add up.

    Args:
        predicted: Predicted pixels.
        confirmed: Those of them that the truth confirms.
        true: Pixels of the truth.
        found: Those of them that the prediction finds.
    """

    predicted: int
    confirmed: int
    true: int
    found: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            predicted=self.predicted + other.predicted,
            confirmed=self.confirmed + other.confirmed,
            true=self.true + other.true,
            found=self.found + other.found,
        )

    @property
    def precision(self) -> float:
        """Return confirmed / predicted."""
        return ratio(self.confirmed, self.predicted, self._empty)

    @property
    def recall(self) -> float:
        """Return found / true."""
        return ratio(self.found, self.true, self._empty)

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall."""
        return ratio(2 * self.precision * self.recall, self.precision + self.recall, self._empty)

    @property
    def _empty(self) -> bool:
        return self.predicted + self.true == 0


def tolerance_matches(predicted: Mask, truth: Mask, radius: float = 2.0) -> Matches:
    """Match masks with a tolerance: a pixel counts as right within `radius` px (Euclidean) of one of the other mask.

    Tolerant precision is the share of predicted pixels near the truth, tolerant recall the share of true pixels near
    the prediction (DeepCrack, Zou 2018, with 2 px). Several predicted pixels may share a true one, unlike in the
    one-to-one matching of BSDS.

    Args:
        predicted: bool (H, W).
        truth: bool (H, W).
        radius: Tolerance in px, 0 or more; 0 gives plain precision and recall.

    Raises:
        InputError: The shapes differ.
        UsageError: The radius is negative.

    Example:
        >>> tolerance_matches(predictor.mask(photo), truth).f1
        0.91
    """
    check_shapes(predicted, truth)
    if not 0 <= radius < math.inf:
        raise UsageError(f"tolerance is {radius} px, but must be 0 or more", remedy="try 2")
    return Matches(
        predicted=int(np.count_nonzero(predicted)),
        confirmed=int(np.count_nonzero(predicted & _grown(truth, radius))),
        true=int(np.count_nonzero(truth)),
        found=int(np.count_nonzero(truth & _grown(predicted, radius))),
    )


def centreline_matches(predicted: Mask, truth: Mask) -> Matches:
    """Match the centre line of each mask with the other mask; the `f1` of the result is clDice (Shit et al. 2021).

    Precision is the share of the predicted centre line inside the true mask, recall the share of the true one inside
    the predicted mask. Centre lines are those of `skimage.morphology.skeletonize` (Zhang and Suen 1984), which a flip
    may move by a pixel.

    Raises:
        InputError: The shapes differ.
    """
    check_shapes(predicted, truth)
    predicted_line, true_line = centre_line(predicted), centre_line(truth)
    return Matches(
        predicted=int(np.count_nonzero(predicted_line)),
        confirmed=int(np.count_nonzero(predicted_line & truth)),
        true=int(np.count_nonzero(true_line)),
        found=int(np.count_nonzero(true_line & predicted)),
    )


def centre_line(mask: Mask) -> Mask:
    """Return the centre line of a mask, 1 px wide, by `skimage.morphology.skeletonize`."""
    from skimage.morphology import skeletonize  # 0.3 s, and inference needs this module for its threshold alone

    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    window = np.s_[top : top + height, left : left + width]
    line = np.zeros_like(mask)
    if width:
        line[window] = skeletonize(mask[window])  # type: ignore[no-untyped-call]
    return line


def _grown(mask: Mask, radius: float) -> Mask:
    reach = math.floor(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = (y * y + x * x <= radius * radius).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disk).astype(bool)
