"""In how many pieces a mask is, and how many holes it has."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cracktool.images import Mask
from cracktool.metrics.counts import check_shapes


@dataclass(frozen=True, kw_only=True)
class Betti:
    """The Betti numbers of a mask, or by how much those of two masks differ.

    Args:
        pieces: Betti-0: crack pixels that touch, at corners too, are one piece.
        holes: Betti-1: background that crack encloses, where background meets at sides only.
    """

    pieces: int
    holes: int

    @staticmethod
    def of(mask: Mask) -> Betti:
        """Count the pieces and holes of a mask, bool (H, W).

        Example:
            >>> ring = np.ones((3, 3), bool)
            >>> ring[1, 1] = False
            >>> Betti.of(ring)
            Betti(pieces=1, holes=1)
        """
        crack = mask.astype(np.uint8)
        pieces = cv2.connectedComponents(crack, connectivity=8)[0] - 1
        around = cv2.copyMakeBorder(1 - crack, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
        holes = cv2.connectedComponents(around, connectivity=4)[0] - 2  # without the crack and the outside
        return Betti(pieces=pieces, holes=holes)


def betti_error(predicted: Mask, truth: Mask) -> Betti:
    """Return how far the numbers of pieces and holes are off, wherever these lie (as in Hu et al. 2019, whole image).

    Raises:
        InputError: The shapes differ.
    """
    check_shapes(predicted, truth)
    one, other = Betti.of(predicted), Betti.of(truth)
    return Betti(pieces=abs(one.pieces - other.pieces), holes=abs(one.holes - other.holes))
