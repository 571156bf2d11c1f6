import csv
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import pytest

from cracktool.datasets.prepare import prepare
from cracktool.datasets.raw import PrepareOptions
from cracktool.datasets.synthetic import (
    Crack,
    Wishes,
    lines_csv,
    make_sample,
    trace,
)
from cracktool.datasets.synthetic.backgrounds import read_background
from cracktool.datasets.synthetic.fracture import grow_cells, grow_paths, grow_plates
from cracktool.datasets.synthetic.layout import read_synthetic
from cracktool.datasets.synthetic.look import paint_cracks
from cracktool.datasets.synthetic.noise import spectral
from cracktool.datasets.synthetic.strokes import Style, draw_style, widen
from cracktool.datasets.synthetic.surroundings import add_surroundings
from cracktool.datasets.synthetic.walks import add_crack
from cracktool.errors import InputError, UsageError
from cracktool.images import encode_png, read_image, read_mask
from cracktool.manifest import read_manifest

SMALL = (96, 128)


def read_lines(path):
    """The cracks of a table of lines/, whose numbers rise row by row."""
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    cracks = []
    for _, group in groupby(rows, key=lambda row: row["crack"]):
        points = list(group)
        assert [int(row["point"]) for row in points] == list(range(len(points)))
        assert int(points[0]["crack"]) == len(cracks)
        places = np.array([[float(row["y_px"]), float(row["x_px"])] for row in points])
        widths = np.array([float(row["width_px"]) for row in points])
        parent = points[0]["parent"]
        cracks.append(Crack(points=places, widths=widths, parent=int(parent) if parent else None))
    return cracks


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


def test_mask_is_half_covered_pixels_of_cracks_of_a_pixel_and_wider():
    """Each pixel cut into 16 x 16: the share of its parts that lie within the crack."""
    for number, width in enumerate((1.0, 1.7, 3.2, 9.0)):
        crack = straight((3.3 + number, -8.0), (35.1, 60.2 - 9 * number), width)
        fine = Crack(points=crack.points * 16 + 7.5, widths=crack.widths * 16)
        share = trace([fine], (640, 768)).mask.reshape(40, 16, 48, 16).mean(axis=(1, 3))
        mask = trace([crack], (40, 48)).mask
        assert mask.any()
        assert not (mask != (share >= 0.5))[np.abs(share - 0.5) > 0.03].any()


def test_mask_can_be_made_again_from_the_written_table(tmp_path):
    for wishes in (Wishes(pattern="several"), Wishes(pattern="network"), Wishes(pattern="none")):
        sample = make_sample(2, 5, SMALL, wishes)
        (tmp_path / "lines.csv").write_bytes(lines_csv(sample.cracks))
        cracks = read_lines(tmp_path / "lines.csv")
        assert [crack.parent for crack in cracks] == [crack.parent for crack in sample.cracks]
        assert all(np.array_equal(a.widths, b.widths) for a, b in zip(cracks, sample.cracks, strict=True))
        assert np.array_equal(trace(cracks, SMALL).mask, sample.mask)
        assert sample.mask.any() == (wishes.pattern != "none")


@pytest.mark.parametrize("pattern", ["single", "several"])
def test_mask_area_is_the_width_summed_along_the_cracks(pattern):
    """Cracks that cross or fork count the crossing twice, so the sum is a little more than the area."""
    area = total = 0.0
    for number in range(12):
        cracks = make_sample(number, 3, (320, 320), Wishes(pattern=pattern, width=(2.0, 6.0))).cracks
        shifted = [Crack(points=crack.points + 60, widths=np.maximum(crack.widths, 1)) for crack in cracks]
        area += trace(shifted, (440, 440)).mask.sum()
        for crack in shifted:
            steps = np.hypot(*np.diff(crack.points, axis=0).T)
            total += (steps * (crack.widths[1:] + crack.widths[:-1]) / 2).sum()
    assert 0.9 < area / total < 1.03


def test_same_number_gives_the_same_bytes_in_any_thread_and_order():
    numbers = [0, 1, 2, 3, 4, 5]
    alone = [make_sample(number, 7, SMALL) for number in numbers]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda number: make_sample(number, 7, SMALL), numbers[::-1]))[::-1]
    for one, other in zip(alone, together, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert lines_csv(one.cracks) == lines_csv(other.cracks)


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
    assert {sample.material for sample in samples} == {"asphalt", "concrete", "plaster", "brick", "paving"}


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
@pytest.mark.parametrize("material", ["asphalt", "concrete", "plaster", "brick", "paving"])
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
            assert ((crack.widths >= 0.5) & (crack.widths <= 60)).all()
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


@pytest.mark.parametrize("bad", [{"count": 0}, {"seed": -1}, {"size": (512, 8)}])
def test_bad_options_are_refused(bad):
    with pytest.raises(UsageError):
        read_synthetic(Path(), PrepareOptions(**{"count": 3, **bad}))


def test_a_longer_set_begins_with_the_shorter_one():
    short, long = (read_synthetic(Path(), PrepareOptions(count=count, size=(32, 48), seed=3)).items for count in (2, 5))
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
        cracks = read_lines((tmp_path / "lines" / entry.image[7:]).with_suffix(".csv"))
        assert np.array_equal(trace(cracks, (48, 64)).mask, read_mask(tmp_path / entry.mask))


def test_prepare_refuses_the_number_of_pictures_for_a_raw_set(tmp_path):
    with pytest.raises(UsageError, match="count"):
        prepare("cfd", tmp_path, tmp_path / "out", options=PrepareOptions(count=3))


# Geometry


PLAIN = Style(width=4.0, roughness=0.08, hurst=0.7, step=2.0)


def test_typical_widths_are_spread_as_on_real_masks():
    widths = np.array([draw_style(np.random.default_rng(seed)).width for seed in range(600)])
    wide = np.log(widths[widths > 2])
    assert 4.5 < np.exp(np.median(wide)) < 7.5
    assert 0.5 < wide.std() < 0.9
    assert 0.1 < (widths < 2).mean() < 0.3  # hairlines, which no hand draws


def test_width_along_a_crack_varies_slowly_as_on_real_masks():
    line = np.column_stack([np.zeros(4000), np.arange(4000.0)])
    log = np.log(widen(np.random.default_rng(3), line, 4.0, (100, 4000), (False, False)).widths)
    near, far = (np.corrcoef(log[:-lag], log[lag:])[0, 1] for lag in (4, 60))
    assert 0.25 < log.std() < 0.55
    assert near > 0.8
    assert far < 0.4


def test_paths_avoid_tough_places_and_fork_on_each_other():
    forks = 0
    for seed in range(12):
        cracks = grow_paths(np.random.default_rng(seed), (256, 256), 3, PLAIN)
        for crack in cracks:
            if crack.parent is not None:
                stem = cracks[crack.parent].points
                forks += np.hypot(*(stem - crack.points[0]).T).min() == 0
    assert forks > 12


def test_cheapest_path_goes_through_a_gap_in_a_tough_wall():
    from cracktool.datasets.synthetic.fracture import _back, _cheapest

    tough = np.ones((40, 40), np.float32)
    tough[20, :] = 100
    tough[20, 9] = 1
    cost, came_from = _cheapest(tough, 15)
    path = _back(came_from, 39, 20, np.zeros((40, 40), bool))
    assert path[0].tolist() == [0, 15]
    assert path[20].tolist() == [20, 9]
    assert np.abs(np.diff(path[:, 1])).max() == 1
    assert cost[39, 20] < 60


def test_plates_are_closed_by_cracks_that_end_on_older_ones():
    """With every crack drawn, pieces are left that no way leads out of."""
    for seed in range(4):
        cracks = grow_plates(np.random.default_rng(seed), (256, 256), PLAIN)
        mask = trace(cracks, (256, 256)).mask
        pieces = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)[0] - 1
        assert pieces >= 3
        for place, crack in enumerate(cracks):
            if crack.parent is not None:
                assert crack.parent < place
                assert np.hypot(*(cracks[crack.parent].points - crack.points[0]).T).min() == 0
        assert any(crack.parent is not None for crack in cracks)


def test_cells_have_corners_where_three_cracks_meet():
    cracks = grow_cells(np.random.default_rng(0), (256, 256), PLAIN)
    ends = np.concatenate([crack.points[[0, -1]] for crack in cracks])
    meeting = [np.sum(np.hypot(*(ends - end).T) < 1e-6) for end in ends]
    assert max(meeting) == 3


def test_a_crack_runs_out_on_both_sides_of_a_gap():
    whole = Crack(points=np.column_stack([np.zeros(200), np.arange(200.0)]), widths=np.full(200, 6.0))
    parts = []
    for seed in range(20):
        cracks = []
        add_crack(np.random.default_rng(seed), cracks, whole, None)
        parts += [cracks] if len(cracks) == 2 else []
    assert len(parts) > 2
    for before, after in parts:
        assert before.widths[-1] < 3 > after.widths[0]
        assert before.widths[0] == after.widths[-1] == 6 or len(before.widths) < 20
        assert after.parent == 0


# Look


@pytest.mark.parametrize("seed", range(12))
def test_painting_changes_the_crack_and_nothing_far_from_it(seed):
    traced = trace([straight((100.0, -5.0), (100.0, 205.0), 12.0)], (200, 200))
    plain = np.full((200, 200, 3), 0.5, np.float32)
    painted = paint_cracks(np.random.default_rng(seed), plain.copy(), traced, 0.1)
    change = np.abs(painted - plain).max(axis=2)
    assert change[:50].max() < 0.02
    assert change[98:103].mean() > 0.05
    assert painted[99:102].mean() < painted[95:105].mean() + 0.01 or painted[99:102].mean() > 0.5  # dark in the middle


def test_inset_is_the_distance_from_the_edge():
    inset = trace([straight((20.0, -5.0), (20.0, 60.0), 9.0)], (40, 50)).inset
    assert inset[:, 25] == pytest.approx(np.clip(4.5 - np.abs(np.arange(40) - 20.0), 0, None), abs=1e-5)


def test_noise_has_the_spectrum_that_was_asked_for():
    field = spectral(np.random.default_rng(1), (256, 256), 3.0, 1000.0)
    power = np.abs(np.fft.fft2(field)) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
    band = (frequency > 0.02) & (frequency < 0.4)
    assert np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0] == pytest.approx(-3.0, abs=0.1)
    assert field.std() == pytest.approx(1.0, abs=0.01)


# Backgrounds of the user's


def striped(height, width):
    """A photo of which every piece is told from every other by its red and green."""
    y, x = np.mgrid[:height, :width]
    return np.stack([60 + y * 150 // height, 60 + x * 150 // width, np.full_like(y, 128)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("photo_hw", [(600, 900), (96, 128), (40, 30), (2000, 200)])
def test_cracks_are_drawn_on_a_piece_of_any_photo(photo_hw):
    photo = striped(*photo_hw)
    free = make_sample(0, 0, SMALL, Wishes(pattern="none"), background=photo)
    cracked = make_sample(0, 0, SMALL, Wishes(pattern="single", width=(6, 8)), background=photo)
    assert free.image.shape == (*SMALL, 3)
    assert free.material is None
    assert not free.mask.any()
    assert cracked.mask.any()
    assert np.array_equal(photo, striped(*photo_hw))


def test_a_crack_is_darker_than_the_photo_it_is_drawn_on():
    photo = np.full((300, 300, 3), 140, np.uint8)
    darker = 0
    for number in range(10):
        sample = make_sample(number, 0, (128, 128), Wishes(pattern="single", width=(5, 9)), background=photo)
        grey = sample.image.mean(axis=2)
        near = cv2.dilate(sample.mask.astype(np.uint8), np.ones((21, 21))).astype(bool) & ~sample.mask
        darker += bool(grey[sample.mask].mean() < grey[near].mean() - 5)
    assert darker >= 8


def test_a_large_background_is_kept_small(tmp_path):
    (tmp_path / "long.png").write_bytes(encode_png(striped(100, 4096)))
    assert read_background(tmp_path / "long.png").shape == (50, 2048, 3)


def test_a_background_that_was_replaced_is_read_again(tmp_path):
    options = PrepareOptions(count=1, size=(32, 32), background=tmp_path)
    looks = []
    for tone in (40, 200):
        (tmp_path / "wall.png").write_bytes(encode_png(np.full((64, 64, 3), (tone, 120, 240 - tone), np.uint8)))
        looks.append(read_synthetic(Path(), options).items[0].read()[0].mean(axis=(0, 1)))
    assert looks[0][2] > looks[0][0] + 50
    assert looks[1][0] > looks[1][2] + 50


def test_prepare_draws_on_each_background_and_keeps_it_in_one_split(tmp_path):
    photos = tmp_path / "photos" / "yard"
    photos.mkdir(parents=True)
    for number in range(5):
        (photos / f"{number}.png").write_bytes(encode_png(np.roll(striped(90, 120), 40 * number, axis=2)))
    (photos / "note.txt").write_text("no picture")
    options = PrepareOptions(count=20, size=(48, 64), background=tmp_path / "photos", split=(0.6, 0.2, 0.2))
    result = prepare("synthetic", None, tmp_path / "out", options=options, jobs=2)
    assert sum(result.counts.values()) == 20
    entries = read_manifest(tmp_path / "out").entries
    splits = {entry.group: {other.split for other in entries if other.group == entry.group} for entry in entries}
    assert sorted(splits) == [f"yard/{number}.png" for number in range(5)]
    assert all(len(names) == 1 for names in splits.values())
    assert {entry.origin for entry in entries} == {"yard"}
    again = prepare("synthetic", None, tmp_path / "again", options=options, jobs=1)
    for entry in read_manifest(again.manifest).entries:
        assert np.array_equal(read_image(tmp_path / "out" / entry.image), read_image(tmp_path / "again" / entry.image))


def test_a_background_that_is_no_picture_fails_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(encode_png(striped(60, 60)))
    (tmp_path / "photos" / "b.jpg").write_bytes(b"text")
    options = PrepareOptions(count=6, size=(32, 32), background=tmp_path / "photos")
    result = prepare("synthetic", None, tmp_path / "out", options=options)
    assert sum(result.counts.values()) == 3
    assert len(result.failures) == 1
    assert "b.jpg" in str(result.failures[0])


def test_a_folder_without_backgrounds_is_refused(tmp_path):
    for folder, reason in ((tmp_path, "no photos"), (tmp_path / "missing", "no such folder")):
        with pytest.raises(InputError, match=reason):
            prepare("synthetic", None, tmp_path / "out", options=PrepareOptions(count=1, background=folder))
    with pytest.raises(UsageError, match="background means nothing"):
        prepare("folder", tmp_path, tmp_path / "out", options=PrepareOptions(background=tmp_path))


def test_prepare_makes_the_material_and_the_pattern_that_are_wished(tmp_path):
    options = PrepareOptions(count=6, size=(64, 64), material="paving", pattern="none")
    prepared = prepare("synthetic", None, tmp_path / "out", options=options)
    assert [entry.crack_fraction for entry in read_manifest(prepared.manifest).entries] == [0] * 6
    expected = make_sample(2, 0, (64, 64), Wishes(material="paving", pattern="none"))
    np.testing.assert_array_equal(read_image(tmp_path / "out/images/synthetic_00002.png"), expected.image)


def test_what_stands_around_a_surface_covers_no_crack():
    line = np.zeros((96, 128), bool)
    line[20:60, 70] = True
    changed = []
    for seed in range(40):
        for mask in (line, np.zeros_like(line)):
            colour = np.full((*line.shape, 3), 0.5, np.float32)
            add_surroundings(np.random.default_rng(seed), colour, mask)
            assert np.isfinite(colour).all()
            assert (colour[mask] == 0.5).all()
        changed.append((colour != 0.5).any(axis=-1).mean())  # of the one without a crack
    assert min(changed) > 0
    assert 0.1 < np.mean(changed) < 0.9


def test_a_scene_is_drawn_where_it_is_wished_and_changes_no_truth(tmp_path):
    for number in range(4):
        plain, scene = (make_sample(number, 3, SMALL, Wishes(pattern="single", scene=wish)) for wish in (False, True))
        np.testing.assert_array_equal(plain.mask, scene.mask)
    options = PrepareOptions(count=3, size=(64, 64), pattern="none", scene=True)
    prepare("synthetic", None, tmp_path / "out", options=options)
    expected = make_sample(2, 0, (64, 64), Wishes(pattern="none", scene=True)).image
    np.testing.assert_array_equal(read_image(tmp_path / "out/images/synthetic_00002.png"), expected)
    assert (expected != make_sample(2, 0, (64, 64), Wishes(pattern="none")).image).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"material": "wood"}, "no material 'wood' .* asphalt, concrete, plaster, brick, paving"),
        ({"material": "brik"}, "no material 'brik' .did you mean brick"),
        ({"pattern": "many"}, "no pattern 'many' .* none, single, several, network"),
        ({"material": "brick", "background": Path()}, "material means nothing on backgrounds"),
    ],
)
def test_wishes_that_cannot_be_had_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        prepare("synthetic", None, tmp_path / "out", options=PrepareOptions(**options))
