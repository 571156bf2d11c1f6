"""Contours and the distances between them, against a slow reference and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cracktool.errors import InputError
from cracktool.metrics import Contour, ContourDistances

MASK = hnp.arrays(np.bool_, (7, 9))
EMPTY = np.zeros((7, 9), bool)


def mask(*lines):
    return np.array([[character == "#" for character in line] for line in lines])


def corners(picture):
    """Every corner with a length of line, from what each pixel adds on its own."""
    found = {}
    for y in range(picture.shape[0] + 1):
        for x in range(picture.shape[1] + 1):
            around = [
                (dy, dx)
                for dy in (-1, 0)
                for dx in (-1, 0)
                if 0 <= y + dy < picture.shape[0] and 0 <= x + dx < picture.shape[1] and picture[y + dy, x + dx]
            ]
            if len(around) == 2:
                (a, b), (c, d) = around
                found[y, x] = math.sqrt(2) if a != c and b != d else 1
            elif len(around) in (1, 3):
                found[y, x] = math.sqrt(2) / 2
    return found


def slow_percentile(of, to, percentile):
    rows = sorted((min(math.dist(corner, other) for other in to), length) for corner, length in of.items())
    total, line = sum(length for _, length in rows), 0
    for distance, length in rows:
        line += length
        if line / total >= percentile / 100 - 1e-12:
            return distance
    return rows[-1][0]


@settings(deadline=None, max_examples=40)
@given(MASK, MASK, st.sampled_from([37.3, 61.7, 95]))
def test_distances_equal_every_pair_of_corners_measured(predicted, truth, percentile):
    one, other = corners(predicted), corners(truth)
    found = ContourDistances.of(Contour.of(predicted), Contour.of(truth))
    if not (one and other):
        assert found.hausdorff(percentile) == found.mean() == (math.inf if one or other else 0)
        return
    expected = max(slow_percentile(one, other, percentile), slow_percentile(other, one, percentile))
    assert found.hausdorff(percentile) == pytest.approx(expected, abs=1e-9)
    means = [
        sum(length * min(math.dist(corner, far) for far in to) for corner, length in of.items()) / sum(of.values())
        for of, to in ((one, other), (other, one))
    ]
    assert found.mean() == pytest.approx(sum(means) / 2, abs=1e-9)


def drawn(picture):
    contour = Contour.of(picture)
    grid = np.zeros(contour.shape_hw)
    grid.ravel()[contour.places] = contour.lengths
    return grid


def test_a_contour_by_hand():
    bend, side, cross = math.sqrt(0.5), 1, math.sqrt(2)
    assert drawn(mask("##", "#.")) == pytest.approx(np.array([[bend, side, bend], [side, bend, bend], [bend, bend, 0]]))
    assert drawn(mask("#.", ".#"))[1, 1] == pytest.approx(cross)
    assert drawn(mask("###", "###", "###"))[1:3, 1:3].sum() == 0


def test_two_squares_apart():
    truth, predicted = np.zeros((2, 5, 12), bool)
    truth[1:4, 1:4] = True
    predicted[1:4, 6:9] = True
    found = ContourDistances.of(Contour.of(predicted), Contour.of(truth))
    assert found.hausdorff(100) == 5  # of the far side; the near sides are 2 apart
    assert found.hausdorff(1) == 2
    # each side: four corners of 1/2 root 2 and eight points of 1, two columns of corners and two of sides
    bend = math.sqrt(0.5)
    columns = [2 * bend + 2, 2, 2, 2 * bend + 2]  # at 2, 3, 4 and 5 px
    assert found.mean() == pytest.approx(np.average([2, 3, 4, 5], weights=columns))


def test_without_a_contour():
    some = EMPTY.copy()
    some[3, 3] = True
    nothing, something = Contour.of(EMPTY), Contour.of(some)
    assert np.isinf(nothing.away).all()
    assert ContourDistances.of(nothing, nothing).hausdorff() == 0
    for pair in ((nothing, something), (something, nothing)):
        assert ContourDistances.of(*pair).hausdorff() == ContourDistances.of(*pair).mean() == math.inf


def test_sizes_must_agree():
    with pytest.raises(InputError, match="4 x 5 and 5 x 4"):
        ContourDistances.of(Contour.of(np.zeros((3, 4), bool)), Contour.of(np.zeros((4, 3), bool)))
