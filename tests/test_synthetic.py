import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from cracktool.datasets.prepare import prepare
from cracktool.datasets.raw import PrepareOptions
from cracktool.datasets.synthetic import (
    Crack,
    SyntheticOptions,
    Wishes,
    make_sample,
    synthetic_items,
    trace,
    truth_json,
)
from cracktool.errors import UsageError
from cracktool.images import read_mask
from cracktool.manifest import read_manifest

SMALL = (96, 128)


def straight(start, end, width):
    return Crack(points=np.array([start, end], float), widths=np.array([width, width], float))


def masks_by_definition(cracks, shape_hw):
    """For every pixel and every piece: is the pixel within half of the width there?"""
    y, x = np.mgrid[: shape_hw[0], : shape_hw[1]].astype(float)
    mask = np.zeros(shape_hw, bool)
    for crack in cracks:
        for a, b, u, v in zip(crack.points, crack.points[1:], crack.widths, crack.widths[1:], strict=False):
            squared = max(((b - a) ** 2).sum(), 1e-12)
            t = (((y - a[0]) * (b - a)[0] + (x - a[1]) * (b - a)[1]) / squared).clip(0, 1)
            distance = np.hypot(y - a[0] - t * (b - a)[0], x - a[1] - t * (b - a)[1])
            mask |= distance <= np.maximum(u + t * (v - u), 1) / 2
    return mask


@pytest.mark.parametrize("wishes", [Wishes(pattern="several"), Wishes(pattern="network"), Wishes(material="brick")])
def test_mask_is_the_geometric_definition(wishes):
    sample = make_sample(4, 11, SMALL, wishes)
    assert np.array_equal(sample.mask, masks_by_definition(sample.cracks, SMALL))


def test_mask_can_be_made_again_from_the_written_truth():
    sample = make_sample(2, 5, SMALL, Wishes(pattern="several"))
    truth = json.loads(truth_json(sample))
    cracks = [Crack(points=np.array(c["points"]), widths=np.array(c["widths"])) for c in truth["cracks"]]
    assert (truth["height"], truth["width"], truth["surface"]) == (*SMALL, sample.material)
    assert np.array_equal(trace(cracks, SMALL).mask, sample.mask)
    assert sample.mask.any()


def test_same_number_gives_the_same_bytes_in_any_thread_and_order():
    numbers = [0, 1, 2, 3, 4, 5]
    alone = [make_sample(number, 7, SMALL) for number in numbers]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda number: make_sample(number, 7, SMALL), numbers[::-1]))[::-1]
    for one, other in zip(alone, together, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert truth_json(one) == truth_json(other)


def test_number_seed_and_shape_change_the_picture():
    images = [make_sample(*args).image for args in [(0, 0, SMALL), (1, 0, SMALL), (0, 1, SMALL), (0, 0, (128, 96))]]
    assert len({image.tobytes() for image in images}) == 4


@pytest.mark.parametrize("width", [3.0, 7.4, 12.0, 20.0])
@pytest.mark.parametrize("end", [(40.3, 400.0), (230.0, 400.0), (390.0, 390.0), (400.0, 150.5)])
def test_width_of_a_straight_crack_is_its_mask_area_over_its_length(width, end):
    traced = trace([straight((40.3, 60.2), end, width)], (440, 440))
    length = np.hypot(end[0] - 40.3, end[1] - 60.2)
    caps = np.pi * width**2 / 4
    assert (traced.mask.sum() - caps) / length == pytest.approx(width, abs=0.5)  # whole rows where it lies level
    assert (traced.coverage.sum() - caps) / length == pytest.approx(width, abs=0.1)


@pytest.mark.parametrize("angle", np.linspace(0, np.pi, 13))
def test_distance_transform_finds_the_width_of_a_straight_crack(angle):
    away = 300 * np.array([np.sin(angle), np.cos(angle)])
    mask = trace([straight(100.3 - away, 100.3 + away, 11.0)], (200, 200)).mask
    inner = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert (
        10.0 <= 2 * inner[50:150, 50:150].max() <= 13.0
    )  # to the first pixel outside, which is up to 1 px beyond the edge


@pytest.mark.parametrize("width", [0.3, 0.7, 1.0])
def test_coverage_of_a_hairline_sums_to_its_width_while_its_mask_stays_connected(width):
    for angle in np.linspace(0.0, 3.1, 40):
        away = 60 * np.array([np.sin(angle), np.cos(angle)])
        traced = trace([straight(30.4 - away, 30.1 + away, width)], (61, 61))
        assert cv2.connectedComponents(traced.mask.astype(np.uint8), connectivity=8)[0] == 2
    level = trace([straight((30.4, -50), (30.4, 200), width)], (61, 61))
    assert level.coverage.sum(axis=0) == pytest.approx(width, abs=1e-5)


def test_every_crack_of_a_picture_is_one_connected_piece():
    for crack in make_sample(9, 3, (160, 160), Wishes(pattern="several", width=(0.7, 1.0))).cracks:
        mask = trace([Crack(points=crack.points + 100, widths=crack.widths)], (500, 500)).mask
        inside = (crack.points > -99).all() and (crack.points < 399).all()
        assert not inside or cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] == 2


def test_sub_pixel_shift_moves_the_coverage_and_not_only_the_mask():
    def centre(y):
        coverage = trace([straight((y, -9), (y, 60), 4.0)], (40, 50)).coverage
        return (coverage * np.arange(40)[:, None]).sum() / coverage.sum()

    assert [centre(20 + shift) - 20 for shift in (0.0, 0.25, 0.6)] == pytest.approx([0.0, 0.25, 0.6], abs=0.01)


def test_a_picture_that_should_have_cracks_shows_some_at_any_size():
    for number in range(40):
        pattern = ("single", "several")[number % 2]
        assert make_sample(number, 8, ((40, 56), (192, 192))[number % 4 // 2], Wishes(pattern=pattern)).mask.any()


def test_crack_free_pictures_have_no_cracks_and_occur():
    samples = [make_sample(number, 0, (48, 64)) for number in range(120)]
    free = [sample for sample in samples if not sample.cracks]
    assert 8 <= len(free) <= 32
    assert not any(sample.mask.any() for sample in free)
    assert {sample.material for sample in samples} == {"asphalt", "concrete", "plaster", "brick"}


def test_cracks_are_darker_than_their_surroundings_in_most_pictures():
    samples = [make_sample(number, 2, (192, 192), Wishes(pattern="single", width=(2, 8))) for number in range(24)]
    darker = 0
    for sample in samples:
        grey = sample.image.mean(axis=2)
        near = cv2.dilate(sample.mask.astype(np.uint8), np.ones((25, 25))).astype(bool) & ~sample.mask
        darker += bool(grey[sample.mask].mean() < grey[near].mean() - 5)
    assert darker >= 19


def test_photo_stays_where_the_truth_is():
    """The darkest line of the photo lies on the centre line: blur and JPEG moved nothing."""
    shifts = []
    for number in range(12):
        sample = make_sample(number, 4, (192, 192), Wishes(material="plaster", pattern="single", width=(3, 6)))
        dark = cv2.GaussianBlur(255 - sample.image.mean(axis=2), (0, 0), 1)
        soft = cv2.GaussianBlur(sample.mask.astype(float), (0, 0), 1)
        scores = {
            (dy, dx): np.corrcoef(np.roll(soft, (dy, dx), (0, 1)).ravel(), dark.ravel())[0, 1]
            for dy in range(-2, 3)
            for dx in range(-2, 3)
        }
        shifts.append(max(scores, key=scores.get))
    # A straight crack may shift along itself, so single pictures may miss; together they must not lean.
    assert np.abs(np.median(shifts, axis=0)).max() == 0


@pytest.mark.parametrize("shape_hw", [(33, 64), (64, 33), (16, 16), (300, 120), (17, 400)])
@pytest.mark.parametrize("material", ["asphalt", "concrete", "plaster", "brick"])
def test_any_size_and_material(shape_hw, material):
    for number, pattern in enumerate(("none", "single", "several", "network")):
        sample = make_sample(number, 1, shape_hw, Wishes(material=material, pattern=pattern))
        assert sample.image.shape == (*shape_hw, 3)
        assert sample.image.dtype == np.uint8
        assert sample.mask.shape == shape_hw
        assert sample.mask.dtype == bool
        assert sample.image.std() > 1
        for crack in sample.cracks:
            assert crack.points.shape == (len(crack.widths), 2)
            assert len(crack.widths) >= 2
            assert ((crack.widths >= 0.5) & (crack.widths <= 20)).all()
            assert crack.points.dtype == crack.widths.dtype == np.float64


def test_parents_come_before_their_branches_and_branches_start_on_them():
    branches = 0
    for number in range(10):
        cracks = make_sample(number, 6, (256, 256), Wishes(pattern="several")).cracks
        for place, crack in enumerate(cracks):
            if crack.parent is not None:
                assert 0 <= crack.parent < place
                distance = np.hypot(*(cracks[crack.parent].points - crack.points[0]).T).min()
                assert distance < 40  # 0 for a branch, the gap for what goes on behind one
                branches += distance == 0
    assert branches > 5


@pytest.mark.parametrize("width", [(0.7, 1.2), (10.0, 14.0)])
def test_wished_width_is_kept(width):
    crack = make_sample(0, 0, SMALL, Wishes(pattern="single", width=width)).cracks[0]
    assert width[0] * 0.4 < np.median(crack.widths) < width[1] * 2


@pytest.mark.parametrize(("index", "seed", "shape_hw"), [(-1, 0, SMALL), (0, -1, SMALL), (0, 0, (15, 64))])
def test_bad_arguments_are_refused(index, seed, shape_hw):
    with pytest.raises(UsageError):
        make_sample(index, seed, shape_hw)


@pytest.mark.parametrize("bad", [{"n": 0}, {"seed": -1}, {"size": (512, 8)}])
def test_bad_options_are_refused(bad):
    with pytest.raises(UsageError):
        SyntheticOptions(**{"n": 3, **bad})


def test_a_longer_set_begins_with_the_shorter_one():
    short, long = (synthetic_items(SyntheticOptions(n=n, size=(32, 48), seed=3)) for n in (2, 5))
    assert [item.name for item in long][:2] == [item.name for item in short]
    assert np.array_equal(short[1].read()[0], long[1].read()[0])


def test_prepare_writes_images_masks_truth_and_table(tmp_path):
    options = PrepareOptions(count=20, size=(48, 64), seed=1)
    first = prepare("synthetic", None, tmp_path, options=options, jobs=2)
    again = prepare("synthetic", None, tmp_path, options=options, jobs=1)
    assert first.counts == again.counts == {"train": 16, "val": 2, "test": 2}
    assert not first.failures
    entries = read_manifest(tmp_path).entries
    assert entries[0].image == "images/synthetic_00000.png"
    assert {entry.label for entry in entries} == {"cracked", "uncracked"}
    for entry in entries:
        truth = json.loads((tmp_path / "truth" / entry.image[7:]).with_suffix(".json").read_text())
        cracks = [Crack(points=np.array(c["points"]), widths=np.array(c["widths"])) for c in truth["cracks"]]
        assert np.array_equal(trace(cracks, (48, 64)).mask, read_mask(tmp_path / entry.mask))


def test_prepare_refuses_the_number_of_pictures_for_a_raw_set(tmp_path):
    with pytest.raises(UsageError, match="count"):
        prepare("cfd", tmp_path, tmp_path / "out", options=PrepareOptions(count=3))
