"""Surfaces, topology, calibration and one-to-one matching, against slow references written apart from them."""

import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.measure import euler_number
from skimage.metrics import hausdorff_distance
from skimage.morphology import dilation, disk, thin

from cracktool.errors import InputError, UsageError
from cracktool.metrics import (
    Betti,
    BorderDistances,
    Counts,
    Histogram,
    Matches,
    Measured,
    betti_error,
    brier_score,
    expected_calibration_error,
    line_iou,
    line_matches,
    measure,
    near_crack,
    normalised_surface_dice,
    one_to_one_matches,
    reliability,
    scores_of,
)
from cracktool.metrics.distances import distance_to
from cracktool.metrics.surfaces import border
from cracktool.thinning import thin_pixels

QUICK = settings(deadline=None, max_examples=40)
SHAPE = (9, 11)
MASK = hnp.arrays(np.bool_, SHAPE)
EMPTY = np.zeros(SHAPE, bool)


def mask(*lines):
    return np.array([[character == "#" for character in line] for line in lines])


def naive_distances(of, to):
    """Every pixel against every pixel."""
    targets = np.argwhere(to)
    return sorted(min((math.dist(point, target) for target in targets), default=math.inf) for point in np.argwhere(of))


def naive_border(picture):
    padded = np.pad(picture, 1)
    around = [
        padded[1 + dy : 1 + dy + SHAPE[0], 1 + dx : 1 + dx + SHAPE[1]] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
    ]
    return picture & ~np.logical_and.reduce(around)


@QUICK
@given(MASK, MASK)
def test_border_distances_equal_every_pair_measured(predicted, truth):
    assert (border(truth) == naive_border(truth)).all()
    found = BorderDistances.of(predicted, truth)
    assert sorted(found.predicted) == pytest.approx(naive_distances(naive_border(predicted), naive_border(truth)))
    assert sorted(found.true) == pytest.approx(naive_distances(naive_border(truth), naive_border(predicted)))
    if predicted.any() and truth.any():
        expected = hausdorff_distance(naive_border(predicted), naive_border(truth))
        assert found.hausdorff(100) == pytest.approx(expected, abs=1e-9)


def test_surface_scores_of_two_bars():
    truth, predicted = np.zeros((2, 20, 30), bool)
    truth[5:8, 2:28] = True
    predicted[7:10, 2:28] = True
    distances = BorderDistances.of(predicted, truth)
    assert distances.hausdorff(100) == 2
    assert distances.hausdorff(95) == 2
    assert 0 < distances.mean() < 2
    near = distances.within(1)
    assert near.f1 == near.precision == near.recall < 1
    assert normalised_surface_dice(near) == pytest.approx(near.f1)
    assert normalised_surface_dice(distances.within(2)) == distances.within(2).f1 == 1


@pytest.mark.parametrize("score", ["hausdorff", "mean"])
def test_distances_without_a_crack(score):
    some = EMPTY.copy()
    some[4, 4] = True
    assert getattr(BorderDistances.of(EMPTY, EMPTY), score)() == 0
    for pair in ((some, EMPTY), (EMPTY, some)):
        assert getattr(BorderDistances.of(*pair), score)() == math.hypot(*SHAPE)
    assert normalised_surface_dice(BorderDistances.of(EMPTY, EMPTY).within(2)) == 1
    assert normalised_surface_dice(BorderDistances.of(some, EMPTY).within(2)) == 0


@QUICK
@given(MASK)
def test_betti_numbers_follow_from_labels_and_the_euler_number(picture):
    found = Betti.of(picture)
    assert found.pieces == ndimage.label(picture, np.ones((3, 3)))[1]
    assert found.pieces - found.holes == euler_number(picture, connectivity=2)


def test_betti_numbers_by_hand():
    ring = mask("####", "#..#", "####")
    assert Betti.of(ring) == Betti(pieces=1, holes=1)
    assert Betti.of(mask("#.#", ".#.", "#.#")) == Betti(pieces=1, holes=0)  # corners join crack, not background
    assert Betti.of(mask("...", "...")) == Betti(pieces=0, holes=0)
    assert Betti.of(mask("###", "###")) == Betti(pieces=1, holes=0)
    assert betti_error(ring, mask("#..#", "....", "#..#")) == Betti(pieces=3, holes=1)


@QUICK
@given(hnp.arrays(np.uint8, SHAPE), MASK)
def test_calibration_equals_a_loop_over_pixels(levels, truth):
    probabilities = (levels.astype(float) + 0.5) / 256
    histogram = Histogram.of(levels, truth)
    assert brier_score(histogram) == pytest.approx(((probabilities - truth) ** 2).mean(), abs=1e-12)
    bins = levels // 16
    gaps = [
        abs(probabilities[bins == number].mean() - truth[bins == number].mean()) * (bins == number).sum()
        for number in range(16)
        if (bins == number).any()
    ]
    assert expected_calibration_error(histogram) == pytest.approx(sum(gaps) / levels.size, abs=1e-12)
    confidence, frequency, pixels = reliability(histogram)
    assert pixels.sum() == levels.size
    assert (confidence * pixels).sum() == pytest.approx(probabilities.sum())
    assert (frequency * pixels).sum() == pytest.approx(truth.sum())


def test_calibration_of_nothing():
    nothing = Histogram.pool([])
    assert brier_score(nothing) == expected_calibration_error(nothing) == 0


@QUICK
@given(hnp.arrays(np.uint8, SHAPE), MASK, st.floats(0, 5))
def test_the_band_holds_the_pixels_near_a_crack(levels, truth, radius):
    band = near_crack(levels, truth, threshold=128, radius=radius)
    cracks = np.argwhere(truth | (levels >= 128))
    close = np.zeros(SHAPE, bool)
    for y, x in np.ndindex(*SHAPE):
        close[y, x] = any(math.dist((y, x), crack) <= radius for crack in cracks)
    expected = Histogram.of(levels[close][None], truth[close][None])
    assert (band.crack == expected.crack).all()
    assert (band.background == expected.background).all()


@QUICK
@given(MASK, MASK, st.sampled_from([0.05, 0.1, 0.2, 0.4]))
def test_one_to_one_matching_finds_as_many_pairs_as_an_assignment_problem(predicted, truth, share):
    mine, theirs = np.argwhere(predicted), np.argwhere(truth)
    distances = np.linalg.norm(mine[:, None] - theirs[None], axis=2)
    allowed = distances <= share * math.hypot(*SHAPE)
    rows, columns = linear_sum_assignment(np.where(allowed, distances, 1e6))
    pairs = int(allowed[rows, columns].sum())
    found = one_to_one_matches(predicted, truth, share=share)
    assert found == Matches(predicted=len(mine), confirmed=pairs, true=len(theirs), found=pairs)


def test_matching_does_not_take_for_ever():
    """Tangled lines on which a search that forgets its dead ends needs hours."""
    code = """
import numpy as np
from cracktool.metrics import one_to_one_matches

rng = np.random.default_rng(122)
columns = np.arange(int(rng.choice([60, 120, 240])))
count = int(rng.integers(1, 4))

def tangle():
    mask = np.zeros((64, len(columns)), bool)
    for _ in range(count):
        rows = 30 + rng.integers(-4, 5) + np.round(np.cumsum(rng.normal(0, rng.choice([0.1, 0.4]), len(columns))))
        mask[np.clip(rows.astype(int), 0, 63), columns] = rng.random(len(columns)) < rng.choice([0.6, 0.9, 1])
    return mask

predicted, truth = tangle(), tangle()
print(one_to_one_matches(predicted, truth, share=5 / np.hypot(*truth.shape)).found)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert 600 < int(result.stdout) <= 666  # the pixels of the smaller mask


def test_several_pixels_cannot_share_a_match():
    truth, predicted = mask("....", ".#..", "...."), mask("###.", "###.", "###.")
    assert one_to_one_matches(predicted, truth, share=0.5).confirmed == 1


@QUICK
@given(hnp.arrays(np.bool_, (16, 16)), hnp.arrays(np.bool_, (16, 16)))
def test_line_iou_as_its_authors_compute_it(predicted, truth):
    one, other = thin(predicted), thin(truth)
    tp = (other & dilation(one, disk(4))).sum()
    fp = (one & ~dilation(other, disk(4))).sum()
    fn = other.sum() - tp
    expected = tp / (tp + fp + fn) if tp + fp + fn else 1
    assert line_iou(line_matches(predicted, truth)) == pytest.approx(expected)


@pytest.mark.parametrize("function", [BorderDistances.of, betti_error, one_to_one_matches, line_matches])
def test_sizes_must_agree(function):
    with pytest.raises(InputError, match="has shape"):
        function(np.zeros((3, 4), bool), np.zeros((4, 3), bool))


def test_thinning_is_that_of_scikit_image():
    random = np.random.default_rng(0)
    for _ in range(60):
        height, width = random.integers(1, 60, 2)
        noise = cv2.GaussianBlur(random.random((height, width)), (0, 0), random.uniform(0.1, 4))
        mask = noise > np.quantile(noise, random.uniform(0.1, 0.95))
        np.testing.assert_array_equal(thin_pixels(mask), thin(mask))
    assert thin_pixels(np.zeros((0, 3), bool)).shape == (0, 3)


def test_what_is_measured_adds_up():
    one, other = np.zeros((2, 40, 30), bool)
    one[10:13], other[12:15, 5:] = True, True
    first = measure(one * np.uint8(255), other, level=128, tolerances=(1, 3))
    second = measure(other * np.uint8(255), one, level=128, tolerances=(1, 3))
    numbers = first.measured.numbers() + second.measured.numbers()
    pooled = Measured.pool([first.measured, second.measured])
    np.testing.assert_array_equal(pooled.numbers(), numbers)
    assert pooled == Measured.of_numbers(numbers)
    assert pooled.counts == first.measured.counts + second.measured.counts
    assert pooled.near[1] == first.measured.near[1] + second.measured.near[1]
    assert pooled.borders == first.measured.borders + second.measured.borders
    assert pooled.pairs == first.measured.pairs + second.measured.pairs


def test_each_score_is_of_its_own_integers():
    """Each group of integers is given a score of its own, so that none can stand for another."""
    matches = [Matches(predicted=100, confirmed=share, true=100, found=share) for share in (10, 20, 30, 40, 50, 60)]
    near, (centre, lines, pairs, borders) = tuple(matches[:2]), matches[2:]
    counts = Counts(tp=70, fp=30, fn=30, tn=870)
    measured = Measured(counts=counts, near=near, centre=centre, lines=lines, pairs=pairs, borders=borders)
    values = {score.name: score.of(measured) for score in scores_of((1, 2))}
    assert values == pytest.approx(
        {
            **{"iou": 70 / 130, "dice": 0.7, "precision": 0.7, "recall": 0.7, "accuracy": 0.94},
            "miou_2class": (70 / 130 + 870 / 930) / 2,
            **{"precision_1px": 0.1, "recall_1px": 0.1, "f1_1px": 0.1},
            **{"precision_2px": 0.2, "recall_2px": 0.2, "f1_2px": 0.2},
            **{"f1_bsds": 0.5, "boundary_f1_2px": 0.6, "nsd_2px": 0.6, "cldice": 0.3, "cliou_4px": 40 / 160},
        }
    )
    with pytest.raises(UsageError, match="different radii"):
        scores_of((2, 2))


def test_distances_are_exact_so_that_every_run_has_the_same():
    for seed in range(20):
        crack = np.random.default_rng(seed).random((61 + seed, 64)) < 0.002
        crack[seed, 3 * seed :] = True
        np.testing.assert_array_equal(distance_to(crack), ndimage.distance_transform_edt(~crack).astype(np.float32))
