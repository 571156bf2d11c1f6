from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cracktool.errors import InputError, UsageError
from cracktool.metrics import (
    SWEEP,
    Counts,
    Histogram,
    Matches,
    Resampling,
    Spread,
    average_iou,
    average_precision,
    best_dice,
    centreline_matches,
    threshold_level,
    tolerance_matches,
)

QUICK = settings(deadline=None, max_examples=40)  # the clock says nothing on a busy machine
SHAPE = st.tuples(st.integers(1, 12), st.integers(1, 12))


@st.composite
def pairs(draw):
    shape = draw(SHAPE)
    return draw(hnp.arrays(np.uint8, shape)), draw(hnp.arrays(np.bool_, shape))


@pytest.mark.parametrize(
    ("threshold", "level"), [(0.5, 128), (0.001, 1), (0.3, 77), (0.25, 64), (255 / 256, 255), (0.999, 255)]
)
def test_threshold_level(threshold, level):
    assert threshold_level(threshold) == level


@QUICK
@given(st.floats(0, 1), st.floats(1e-6, 255 / 256))
def test_a_level_says_whether_the_probability_reaches_the_threshold_on_the_grid(probability, threshold):
    level = min(math.floor(probability * 256), 255)
    assert (level >= threshold_level(threshold)) == (level / 256 >= threshold)


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 1.5, math.nan])
def test_threshold_out_of_range(threshold):
    with pytest.raises(UsageError, match="between 0 and 1"):
        threshold_level(threshold)


@pytest.mark.parametrize(
    ("predicted", "truth", "counts", "iou", "dice", "precision", "recall", "accuracy", "miou"),
    [
        ("..##.", ".##..", (1, 1, 1, 2), 1 / 3, 1 / 2, 1 / 2, 1 / 2, 3 / 5, (1 / 3 + 1 / 2) / 2),
        (".....", ".....", (0, 0, 0, 5), 1, 1, 1, 1, 1, 1),  # empty and empty
        ("#....", ".....", (0, 1, 0, 4), 0, 0, 0, 0, 4 / 5, (0 + 4 / 5) / 2),  # false alarm on a clean image
        (".....", "##...", (0, 0, 2, 3), 0, 0, 0, 0, 3 / 5, (0 + 3 / 5) / 2),  # all missed
        ("#####", "#####", (5, 0, 0, 0), 1, 1, 1, 1, 1, 1),  # all crack: no background anywhere
        ("#####", "#....", (1, 4, 0, 0), 1 / 5, 1 / 3, 1 / 5, 1, 1 / 5, 1 / 10),
    ],
)
def test_scores_by_hand(predicted, truth, counts, iou, dice, precision, recall, accuracy, miou):
    levels = np.array([[255 if pixel == "#" else 0 for pixel in predicted]], np.uint8)
    found = Histogram.of(levels, np.array([[pixel == "#" for pixel in truth]])).counts(128)
    assert found == Counts(**dict(zip(("tp", "fp", "fn", "tn"), counts, strict=True)))
    scores = found.scores()
    assert scores.iou == pytest.approx(iou)
    assert scores.dice == pytest.approx(dice)
    assert scores.precision == pytest.approx(precision)
    assert scores.recall == pytest.approx(recall)
    assert scores.accuracy == pytest.approx(accuracy)
    assert scores.miou_2class == pytest.approx(miou)


@QUICK
@given(pairs(), st.integers(1, 255))
def test_histogram_gives_the_counts_of_direct_comparison(pair, level):
    levels, truth = pair
    mask = levels >= level
    counts = Histogram.of(levels, truth).counts(level)
    assert counts == Counts(
        tp=int((mask & truth).sum()),
        fp=int((mask & ~truth).sum()),
        fn=int((~mask & truth).sum()),
        tn=int((~mask & ~truth).sum()),
    )
    assert all(type(value) is int for value in (counts.tp, counts.fp, counts.fn, counts.tn))


def test_histogram_of_an_image_larger_than_a_band():
    levels = np.random.default_rng(0).integers(0, 256, (1500, 1900), dtype=np.uint8)
    truth = levels > 200
    histogram = Histogram.of(levels, truth)
    np.testing.assert_array_equal(histogram.crack, np.bincount(levels[truth], minlength=256))
    np.testing.assert_array_equal(histogram.background, np.bincount(levels[~truth], minlength=256))


@QUICK
@given(pairs())
def test_dice_and_iou_are_one_score_in_two_scales(pair):
    histogram = Histogram.of(*pair)
    iou = histogram.iou_curve()
    np.testing.assert_allclose(histogram.dice_curve(), 2 * iou / (1 + iou))
    for level in (1, 128, 255):
        scores = histogram.counts(level).scores()
        assert scores.iou == iou[level]
        assert scores.dice == pytest.approx(2 * scores.iou / (1 + scores.iou))


@QUICK
@given(st.lists(pairs(), min_size=1, max_size=4), st.integers(1, 255))
def test_pooling_histograms_pools_counts(several, level):
    histograms = [Histogram.of(*pair) for pair in several]
    total = sum((each.counts(level) for each in histograms), Counts(tp=0, fp=0, fn=0, tn=0))
    assert Histogram.pool(histograms).counts(level) == total


@QUICK
@given(pairs())
def test_best_dice_is_the_maximum_over_thresholds(pair):
    histogram = Histogram.of(*pair)
    levels = [threshold_level(threshold) for threshold in SWEEP]
    assert best_dice(histogram) == pytest.approx(max(histogram.counts(level).scores().dice for level in levels))


@QUICK
@given(pairs())
def test_average_precision_is_that_of_scikit_learn(pair):
    from sklearn.metrics import average_precision_score

    levels, truth = pair
    if truth.any():
        expected = average_precision_score(truth.ravel(), levels.ravel())
        assert average_precision(Histogram.of(levels, truth)) == pytest.approx(expected, abs=1e-9)


def test_average_precision_by_hand():
    levels = np.array([[250, 200, 200, 100, 0]], np.uint8)
    truth = np.array([[True, True, False, False, True]])
    # recall 1/3 at precision 1, then 2/3 at 2/3, then 1 at 3/5
    expected = (1 + 2 / 3 + 3 / 5) / 3
    assert average_precision(Histogram.of(levels, truth)) == pytest.approx(expected)
    assert average_precision(Histogram.of(levels, np.zeros_like(truth))) == 0


def test_average_iou_counts_each_hundredth():
    levels = np.full((1, 2), 128, np.uint8)  # found at thresholds 0.01 to 0.50: 50 of 99
    assert average_iou(Histogram.of(levels, np.ones((1, 2), bool))) == pytest.approx(50 / 99)
    assert average_iou(Histogram.of(levels, np.zeros((1, 2), bool))) == pytest.approx(49 / 99)


def dots(*places, shape=(9, 9)):
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


@pytest.mark.parametrize(
    ("place", "radius", "confirmed"),
    [
        ((4, 6), 2, 1),
        ((4, 7), 2, 0),
        ((5, 5), 1, 0),  # 1.41 px away
        ((5, 5), 1.5, 1),
        ((6, 6), 2, 0),  # 2.83 px: a square of side 5 would reach it, the disk does not
        ((7, 8), 5, 1),  # exactly 5 px
        ((4, 4), 0, 1),
    ],
)
def test_tolerance_is_a_disk(place, radius, confirmed):
    matches = tolerance_matches(dots(place), dots((4, 4)), radius)
    assert matches == Matches(predicted=1, confirmed=confirmed, true=1, found=confirmed)
    assert matches.f1 == confirmed


def test_tolerant_precision_and_recall_by_hand():
    matches = tolerance_matches(dots((0, 0), (4, 5), (8, 8)), dots((4, 4), (4, 8)), 2)
    assert (matches.precision, matches.recall) == (1 / 3, 1 / 2)
    assert matches.f1 == pytest.approx(2 / 5)


@QUICK
@given(pairs(), st.integers(1, 255))
def test_tolerance_zero_is_plain_precision_and_recall(pair, level):
    levels, truth = pair
    plain = Histogram.of(levels, truth).counts(level).scores()
    matches = tolerance_matches(levels >= level, truth, 0)
    assert matches.precision == plain.precision
    assert matches.recall == plain.recall
    assert matches.f1 == pytest.approx(plain.dice)


@QUICK
@given(pairs(), st.sampled_from([0, 1, 2, 3.5]))
def test_scores_do_not_change_under_flips_and_swaps(pair, radius):
    levels, truth = pair
    mask = levels >= 128
    matches = tolerance_matches(mask, truth, radius)
    counts = Histogram.of(levels, truth).counts(128)
    for flip in (np.flipud, np.fliplr, np.transpose):
        assert tolerance_matches(flip(mask), flip(truth), radius) == matches
        assert Histogram.of(flip(levels), flip(truth)).counts(128) == counts
    swapped = tolerance_matches(truth, mask, radius)
    assert (swapped.precision, swapped.recall) == (matches.recall, matches.precision)


@pytest.mark.parametrize("match", [tolerance_matches, centreline_matches])
def test_empty_masks_in_matches(match):
    empty, some = dots(), dots((4, 4))
    assert [match(empty, empty).f1, match(some, empty).f1, match(empty, some).f1] == [1, 0, 0]
    alarm = match(some, empty)
    assert (alarm.precision, alarm.recall) == (0, 0)


def test_centreline_forgives_width_and_punishes_gaps():
    truth = np.zeros((21, 60), bool)
    truth[8:13] = True
    thin = np.zeros_like(truth)
    thin[10] = True
    assert centreline_matches(thin, truth).f1 > 0.95
    assert Histogram.of(thin.astype(np.uint8) * 255, truth).counts(128).scores().iou == pytest.approx(1 / 5)
    broken = truth.copy()
    broken[:, 20:40] = False
    matches = centreline_matches(broken, truth)
    assert matches.precision == 1
    assert 0.55 < matches.recall < 0.75  # a third of the line is missing


def test_centreline_of_a_crack_at_the_border_is_that_of_the_whole_picture():
    truth = np.zeros((30, 40), bool)
    truth[5:9, 0:37] = True
    predicted = np.zeros((30, 40), bool)
    predicted[4:8, 3:40] = True
    wide = np.pad(predicted, 50), np.pad(truth, 50)
    assert centreline_matches(predicted, truth) == centreline_matches(*wide)


def test_mean_and_population_deviation():
    assert Spread.of([0.2, 0.4]) == Spread(mean=pytest.approx(0.3), std=pytest.approx(0.1), images=2)
    assert Spread.of([]) is None


def ious(counts, groups, **settings):
    resampling = Resampling(groups, **settings)
    sums = resampling.sums(np.array([(each.tp, each.tp + each.fp + each.fn) for each in counts]))
    return resampling.interval(sums[:, 0] / sums[:, 1])


def test_bootstrap_is_repeatable_and_holds_the_score():
    rng = np.random.default_rng(1)
    counts = [Counts(tp=int(t), fp=int(f), fn=int(f), tn=0) for t, f in rng.integers(50, 200, (40, 2))]
    groups = [str(number) for number in range(40)]
    low, high = ious(counts, groups)
    pooled = sum(counts, Counts(tp=0, fp=0, fn=0, tn=0)).scores().iou
    assert ious(counts, groups) == (low, high)
    assert ious(counts, groups, seed=1) != (low, high)
    assert low < pooled < high


def test_swaps_exchange_whole_groups():
    first, second = np.array([[1], [2], [4]]), np.array([[10], [20], [40]])
    one, other = Resampling(["a", "b", "b"], resamples=400).swaps(first, second)
    assert set(one[:, 0]) == {7, 61, 16, 70}
    assert (one + other == 77).all()


def test_an_interval_counts_the_groups_of_what_it_is_of():
    resampling = Resampling(["a", "b", "b"])
    assert resampling.interval([1.0, 2.0], np.array([False, True, True])) is None
    assert resampling.interval([1.0, 2.0], np.array([True, True, False])) is not None


def test_bootstrap_draws_groups_and_not_images():
    good, bad = Counts(tp=10, fp=0, fn=0, tn=0), Counts(tp=0, fp=5, fn=5, tn=0)
    by_image = ious([good] * 20 + [bad] * 20, [str(number) for number in range(40)])
    by_photo = ious([good] * 20 + [bad] * 20, ["a"] * 20 + ["b"] * 20)
    assert by_photo == (0, 1)
    assert by_image[0] > 0.3
    assert by_image[1] < 0.7
    assert ious([good, bad], ["a", "a"]) is None


def test_draws_are_of_as_many_groups_as_there_are():
    resampling = Resampling(["a", "b", "b", "c"], resamples=250)
    assert resampling.groups == 3
    sums = resampling.sums(np.array([[1, 0], [10, 0], [10, 0], [100, 7]]))
    assert sums.shape == (250, 2)
    drawn = np.stack([sums[:, 0] % 10, sums[:, 0] % 100 // 20, sums[:, 0] // 100])
    assert (drawn.sum(axis=0) == 3).all()
    np.testing.assert_array_equal(sums[:, 1], 7 * drawn[2])


def test_means_of_draws_without_the_chosen_images_are_left_out():
    resampling = Resampling(["a", "b"], resamples=400)
    means = resampling.means(np.array([[0.25], [1.0]]), np.array([True, False]))
    known = means[~np.isnan(means)]
    assert set(known) == {0.25}
    assert 0.6 < len(known) / 400 < 0.9  # "a" is missing in a quarter of the draws
    assert resampling.interval(means[:, 0]) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("levels", "truth"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), bool)),
        (np.zeros((2, 3), np.float32), np.zeros((2, 3), bool)),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8)),
        (np.zeros((2, 3, 1), np.uint8), np.zeros((2, 3, 1), bool)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(levels, truth):
    with pytest.raises(InputError):
        Histogram.of(levels, truth)


@pytest.mark.parametrize("radius", [-1, math.nan, math.inf])
def test_tolerance_out_of_range(radius):
    with pytest.raises(UsageError, match="0 or more"):
        tolerance_matches(dots(), dots(), radius)
