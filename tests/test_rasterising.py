import numpy as np
import pytest
from skimage.draw import ellipse, polygon2mask

from cracktool.datasets.rasterising import (
    decode_runs,
    draw_line,
    fill_ellipse,
    fill_rings,
    paste,
    to_points,
    unpack_coco_runs,
)

SHAPE = (40, 60)


def blank():
    return np.zeros(SHAPE, np.bool_)


def filled(*rings):
    mask = blank()
    fill_rings(mask, [to_points(ring) for ring in rings])
    return mask


def test_a_bar_is_as_wide_as_it_is_drawn():
    for left, right, columns in ((2, 5, [2, 3, 4]), (2.4, 5.4, [2, 3, 4]), (2.6, 5.6, [3, 4, 5]), (2, 2.4, [])):
        mask = filled([[left, 10], [right, 10], [right, 12], [left, 12]])
        assert np.flatnonzero(mask.any(axis=0)).tolist() == columns
        assert np.flatnonzero(mask.any(axis=1)).tolist() == ([10, 11] if columns else [])


def test_polygons_are_those_of_scikit_image():
    rng = np.random.default_rng(0)
    for corners in range(3, 33):
        points = rng.uniform((-20, -15), (80, 55), (corners, 2))  # some beyond every border, most cross themselves
        assert np.array_equal(filled(points), polygon2mask(SHAPE, points[:, ::-1] - 0.5))


def test_a_ring_in_a_ring_is_a_hole_and_far_corners_are_cut_off():
    mask = filled([[10, 10], [30, 10], [30, 30], [10, 30]], [[15, 15], [25, 15], [25, 25], [15, 25]])
    assert mask.sum() == 400 - 100
    assert not mask[20, 20]
    assert filled([[-1e9, -1e9], [1e9, -1e9], [1e9, 1e9], [-1e9, 1e9]]).all()
    assert not filled([[-9, -9], [-1, -9], [-1, -1], [-9, -1]]).any()
    assert not filled([[5, 5], [5, 5], [5, 5]]).any()


def test_filling_adds_to_what_is_there():
    mask = filled([[0, 0], [10, 0], [10, 10], [0, 10]])
    fill_rings(mask, [to_points([[5, 5], [15, 5], [15, 15], [5, 15]])])
    assert mask.sum() == 100 + 100 - 25


@pytest.mark.parametrize("end", [(55, 20), (55, 3), (30, 38), (20, 38), (20.5, 1.5)])
@pytest.mark.parametrize("width", [1, 2, 3.5, 6])
def test_lines_are_as_wide_as_asked_and_have_no_gaps(end, width):
    mask = blank()
    start = np.array([20.5, 20.25])
    draw_line(mask, to_points([start, end]), width)
    rows, columns = np.nonzero(np.ones(SHAPE))
    along = np.subtract(end, start)
    centres = np.stack([columns + 0.5, rows + 0.5], 1) - start
    place = np.clip(centres @ along / (along @ along), 0, 1)
    distance = np.hypot(*(centres - place[:, None] * along).T).reshape(SHAPE)
    assert mask[distance < width / 2 - 1e-9].all()
    assert not mask[distance > width / 2 + 1e-9].any()
    ys, xs = np.nonzero(mask)
    steps = max(np.ptp(ys), np.ptp(xs)) + 1
    assert len(np.unique(xs if np.ptp(xs) >= np.ptp(ys) else ys)) == steps, "no row or column of it is missing"


def test_a_dot_and_an_ellipse():
    mask = blank()
    draw_line(mask, to_points([[10.5, 10.5]]), 3)
    assert mask.sum() == 5 + 4 * (np.hypot(1, 1) < 1.5)
    mask = blank()
    fill_ellipse(mask, 30, 20, 12, 6)
    assert mask.sum() == pytest.approx(np.pi * 12 * 6, rel=0.03)
    assert (np.ptp(np.nonzero(mask)[1]), np.ptp(np.nonzero(mask)[0])) == (23, 11)
    fill_ellipse(mask, -500, 1e12, 12, 6)


@pytest.mark.parametrize("degrees", [0, 30, 90, 145, -20.5])
def test_a_turned_ellipse(degrees):
    mask, expected = blank(), blank()
    fill_ellipse(mask, 30.7, 20.2, 15, 4, turned=degrees)
    expected[ellipse(20.2 - 0.5, 30.7 - 0.5, 4, 15, SHAPE, rotation=-np.radians(degrees))] = True  # anticlockwise
    assert np.array_equal(mask, expected)


def test_pasting_cuts_off_what_sticks_out():
    patch = np.ones((4, 6), np.bool_)
    for x, y, count in ((0, 0, 24), (-2, -1, 12), (57, 38, 6), (60, 0, 0), (-6, 0, 0), (0, 100, 0), (-100, -100, 0)):
        mask = blank()
        paste(mask, patch, x, y)
        assert mask.sum() == count, (x, y)
    mask = blank()
    paste(mask, np.eye(3, dtype=np.bool_), 5, 7)
    assert np.argwhere(mask).tolist() == [[7, 5], [8, 6], [9, 7]]


def test_runs_go_down_the_columns_or_along_the_rows():
    assert decode_runs([1, 2, 3], (2, 3), by_columns=True).astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert decode_runs([1, 2, 3], (2, 3), by_columns=False).astype(int).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert decode_runs([0, 6], (2, 3), by_columns=True).all()
    for runs in ([1, 2], [1, 2, 4], [7, -1], []):
        with pytest.raises(ValueError, match="expected 2 x 3"):
            decode_runs(runs, (2, 3), by_columns=True)


def test_compressed_runs_are_those_of_the_reference_implementation():
    # What pycocotools 2.0.11 makes of a bar in rows 10 to 12, columns 5 to 49, and the whole of column 33.
    text = "b63U100000000000000000000000000000000000000000000000000000FU1_OkNk000000000000000000000000000000V<"
    expected = blank()
    expected[10:13, 5:50] = True
    expected[:, 33] = True
    assert np.array_equal(decode_runs(unpack_coco_runs(text), SHAPE, by_columns=True), expected)
    for wrong in ("b63U", "b6 3", "é"):
        with pytest.raises(ValueError, match="compressed run lengths"):
            decode_runs(unpack_coco_runs(wrong), SHAPE, by_columns=True)


def test_points_are_pairs_of_finite_numbers():
    assert to_points([[1, 2], [3, 4]]).tolist() == to_points([1, 2, 3, 4]).tolist() == [[1, 2], [3, 4]]
    for wrong in ([1, 2, 3], [[1, 2, 3], [4, 5, 6]], [[1, float("nan")]], ["a", "b"], [[1, 2], [3]]):
        with pytest.raises(ValueError, match=r"."):
            to_points(wrong)
