"""Masks matched with a tolerance, and their centre lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.errors import UsageError
from cracktool.images import Mask
from cracktool.metrics.counts import check_shapes, ratio
from cracktool.thinning import thin_pixels

Places = npt.NDArray[np.integer]


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


def line_matches(predicted: Mask, truth: Mask, *, radius: int = 4) -> Matches:
    """Match the centre lines of both masks with a tolerance; `line_iou` of the result is clIoU of OmniCrack30k.

    Lines are those of `thinned`. A predicted pixel is confirmed within a disk of `radius` px around the true line, a
    true one found within one around the predicted line.

    Raises:
        InputError: The shapes differ.

    Source: Benz & Rodehorst 2024 (OmniCrack30k, CVPR workshops), ``evaluation.py``, with a radius of 4 px.
    """
    check_shapes(predicted, truth)
    return tolerance_matches(thin_pixels(predicted), thin_pixels(truth), radius)


def line_iou(lines: Matches) -> float:
    """Return found / (true + unconfirmed), the clIoU of `line_matches`; 1 where both lines are empty."""
    whole = lines.true + lines.predicted - lines.confirmed
    return ratio(lines.found, whole, lines.predicted + lines.true == 0)


def one_to_one_matches(predicted: Mask, truth: Mask, *, share: float = 0.0075) -> Matches:
    """Match pixels of two thinned masks one to one, as many as possible, within a share of the picture's diagonal.

    The matching of the BSDS benchmark and FPHBN. Their solver also keeps the sum of distances small; as leaving a
    pixel alone costs it more than any distance, it finds as many pairs.

    Args:
        predicted: bool (H, W), 1 px wide.
        truth: bool (H, W), 1 px wide.
        share: Largest distance of a pair over the diagonal; 0.0075 is about 5.5 px of 640 x 360.

    Raises:
        InputError: The shapes differ.

    Source: Martin et al. 2004 (IEEE TPAMI 26(5)), ``correspondPixels``; Dinitz 1970 finds the pairs.
    """
    from scipy.spatial import cKDTree

    check_shapes(predicted, truth)
    mine, theirs = np.argwhere(predicted), np.argwhere(truth)
    pairs = 0
    if len(mine) and len(theirs):
        reach = share * math.hypot(*truth.shape)
        near = cKDTree(mine).sparse_distance_matrix(cKDTree(theirs), reach, output_type="coo_matrix")
        pairs = _most_pairs(near.row, near.col, len(mine), len(theirs))
    return Matches(predicted=len(mine), confirmed=pairs, true=len(theirs), found=pairs)


def _most_pairs(left: Places, right: Places, lefts: int, rights: int) -> int:
    """Return how many pairs can be made at most, where `left[i]` may pair with `right[i]` and each only once.

    It is the greatest flow from a source through all the left to all the right and into a sink, one unit per pipe.
    `maximum_bipartite_matching` of SciPy finds the same, but takes for ever on some masks: its search does not
    remember dead ends.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    source, sink = lefts + rights, lefts + rights + 1
    start = np.concatenate([np.full(lefts, source), left, lefts + np.arange(rights)])
    end = np.concatenate([np.arange(lefts), lefts + right, np.full(rights, sink)])
    pipes = coo_array((np.ones(len(start), np.int32), (start, end)), shape=(sink + 1, sink + 1)).tocsr()
    pipes.indices, pipes.indptr = pipes.indices.astype(np.int32), pipes.indptr.astype(np.int32)  # all that it takes
    return int(maximum_flow(pipes, source, sink).flow_value)


def centre_line(mask: Mask) -> Mask:
    """Return the centre line of a mask, 1 px wide, by `skimage.morphology.skeletonize` (Zhang and Suen 1984)."""
    from skimage.morphology import skeletonize  # 0.3 s, and inference needs this package for its thresholds alone

    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    window = np.s_[top : top + height, left : left + width]  # that holds all crack: the thinning is slow
    line = np.zeros_like(mask)
    if width:
        line[window] = skeletonize(mask[window])  # type: ignore[no-untyped-call]
    return line


def _grown(mask: Mask, radius: float) -> Mask:
    reach = math.floor(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = (y * y + x * x <= radius * radius).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disk).astype(bool)
