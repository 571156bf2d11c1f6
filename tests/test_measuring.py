"""Measuring: lengths and widths of drawn cracks, intervals that hold, verdicts, cracks as wholes, odd masks."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import Look, arc, draw, sinusoid, straight, turned

from cracktool.errors import InputError, UsageError
from cracktool.measuring import CrackLine, Kind, Verdict, Widths, given_scale, measure, read_severity
from cracktool.measuring.learning import learn_prior
from cracktool.measuring.priors import Prior
from cracktool.measuring.profiles import fit_profiles as fit_under
from cracktool.measuring.sizes import size_px

SHAPE, CENTRE = (130, 130), 64.8
ANGLES = range(0, 180, 15)


def one(photo, mask, **options):
    (crack,) = measure(photo, mask, **options).cracks
    return crack


def of_points(crack, name):
    return np.concatenate([getattr(line.widths, name) for line in crack.lines])


def drawn_widths(width, look, angles, line=None):
    """Return errors of width from the photo and from the mask, and whether the intervals hold the truth."""
    errors, of_mask, held = [], [], []
    for angle in angles:
        varied = look.depth * np.exp(np.random.default_rng(angle).normal(0, 0.1))
        seen = Look(blur=look.blur, noise=look.noise, texture=look.texture, depth=min(varied, 1))
        shape = turned(straight(90) if line is None else line, angle, CENTRE)
        photo, mask, _ = draw(shape, width, SHAPE, seen, seed=angle)
        crack = one(photo, mask)
        measured = of_points(crack, "verdict") == Verdict.MEASURED
        assert measured.mean() > 0.85
        errors.append((of_points(crack, "width") - width)[measured])
        of_mask.append((of_points(crack, "mask_width") - width)[measured])
        held.append(((of_points(crack, "low") <= width) & (width <= of_points(crack, "high")))[measured])
    return np.concatenate(errors), np.concatenate(of_mask), np.concatenate(held)


@pytest.mark.parametrize("width", [1.0, 2.0, 4.0, 6.0])
def test_widths_of_drawn_cracks(width):
    errors, _, held = drawn_widths(width, Look(texture=2.0), ANGLES[::3])
    assert np.abs(errors).mean() <= 0.25
    assert abs(errors.mean()) <= 0.15  # one of 4 depths moves it; the benchmark's 12 stay below 0.1
    assert held.mean() >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("blur", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("width", [0.5, 1.0, 2.0, 4.0, 8.0, 12.0])
def test_intervals_hold_the_truth(width, blur):
    errors, _, held = drawn_widths(width, Look(blur=blur, texture=2.0), ANGLES)
    assert held.mean() >= 0.88
    assert abs(errors.mean()) <= 0.1 + 0.06 * blur * width


def test_wide_cracks():
    for width in (12.0, 30.0):
        errors, of_mask, _ = drawn_widths(width, Look(texture=2.0), [0, 30])
        assert np.abs(errors).mean() <= 0.25
        assert abs(np.median(of_mask)) <= 0.5


@pytest.mark.parametrize("width", [34.0, 42.0, 60.0, 86.0])
def test_cracks_wider_than_their_samples_are_close(width):
    photo, mask, _ = draw(turned(straight(170), 20, (95, 110)), width, (190, 220), Look(texture=2.0))
    crack = one(photo, mask)
    errors = of_points(crack, "width")[of_points(crack, "verdict") == Verdict.MEASURED] - width
    assert crack.measured_share > 0.8
    assert np.abs(errors).mean() <= 0.4
    assert crack.px.mask_width.median == pytest.approx(width, abs=0.5)


@pytest.mark.parametrize("width", [120.0, 220.0])
def test_cracks_as_wide_as_a_hand_are_measured_to_the_pixel(width):
    side = round(3 * width)
    photo, mask, _ = draw(turned(straight(4 * width), 35, ((side - 1) / 2,) * 2), width, (side,) * 2, Look(texture=4.0))
    (line,) = one(photo, mask).lines
    inside = np.hypot(*(line.points - (side - 1) / 2).T) < 0.75 * width  # the chords of the others leave the picture
    widths = line.widths[np.flatnonzero(inside)]
    assert (widths.verdict == Verdict.MEASURED).all()
    assert np.abs(widths.width - width).mean() <= 0.5
    assert ((widths.low <= width) & (width <= widths.high)).mean() >= 0.85


def test_a_crack_that_opens_is_measured_on_both_sides():
    """Pixels of a slanting line lie 1.4 px apart: counted as 1, the narrow part's width would reach into the wide."""
    narrow, narrow_mask, _ = draw(np.array([[60.0, 150], [60, 330]]), 3.0, (240, 350))
    wide, wide_mask, _ = draw(np.array([[190.0, 40], [60, 150]]), 40.0, (240, 350))
    crack = one(np.minimum(narrow, wide), narrow_mask | wide_mask)
    x = np.concatenate([line.points[:, 1] for line in crack.lines])
    for part, width in (((x > 180) & (x < 325), 3.0), ((x > 75) & (x < 120), 40.0)):
        assert np.median(of_points(crack, "mask_width")[part]) == pytest.approx(width, abs=0.15)
        assert np.abs(of_points(crack, "mask_width")[part] - width).max() <= 1.0
        assert (of_points(crack, "verdict")[part] == Verdict.MEASURED).all()


def test_a_mask_that_is_too_wide_does_not_widen_the_crack():
    photo, mask, _ = draw(turned(straight(90), 30, CENTRE), 2.0, SHAPE, Look(texture=2.0))
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    crack = one(photo, grown)
    assert crack.px.mask_width.mean > 5.5
    assert crack.px.width.mean == pytest.approx(2.0, abs=0.35)


def test_shallow_cracks_are_measured_by_their_own_depth():
    """The photo's wide crack shows how dark cracks are here, which its hairline cannot show."""
    photo, mask, _ = draw(turned(straight(90), 0, (25, 64)), 10.0, SHAPE, Look(depth=0.45, noise=2.0))
    fine, fine_mask, _ = draw(turned(straight(90), 0, (95, 64)), 1.0, SHAPE, Look(depth=0.45, noise=2.0))
    hairline = one(fine, fine_mask).px.width
    both = measure(np.minimum(photo, fine), mask | fine_mask).cracks
    assert [crack.px.mask_width.mean > 5 for crack in both] == [True, False]
    assert both[0].px.width.mean == pytest.approx(10, abs=0.3)
    assert abs(both[1].px.width.mean - 1) < 0.2 < abs(hairline.mean - 1)
    assert both[1].px.width.mean_low < 1 < both[1].px.width.mean_high


@pytest.mark.parametrize("width", [1.0, 3.0, 9.0])
@pytest.mark.parametrize("line", [straight(88), sinusoid(8, 80, 85), arc(34, 180)], ids=["straight", "sinusoid", "arc"])
def test_lengths_of_masks(width, line):
    wrong = []
    for angle in ANGLES[::4]:
        _, mask, truth = draw(turned(line, angle + 4, CENTRE), width, SHAPE)
        wrong.append(one(None, mask).px.length / truth - 1)
    assert abs(np.mean(wrong)) <= 0.01
    assert np.abs(wrong).max() <= 0.015 + 1 / truth  # a tip is known to half a pixel


def test_branches_of_a_fork():
    mask = np.zeros((160, 160), bool)
    arms = [turned(straight(60), 0, (80, 50)), turned(straight(60), 60, (54, 95)), turned(straight(60), -60, (106, 95))]
    for arm in arms:
        mask |= draw(arm, 5.0, mask.shape)[1]
    crack = one(None, mask, reference=0)
    assert crack.kind is Kind.BRANCHED
    assert len(crack.lines) == 3
    assert crack.junctions == 1
    assert crack.px.length == pytest.approx(180, rel=0.03)
    assert crack.px.main_length == pytest.approx(120, rel=0.03)
    assert 1 < crack.tortuosity < 1.3
    roots = [node for line in crack.lines for node in line.nodes]
    assert sorted(roots.count(node) for node in set(roots)) == [1, 1, 1, 3]
    assert (of_points(crack, "verdict") == Verdict.AT_JUNCTION).sum() >= 3


def test_gaps_are_bridged_where_ends_face_each_other():
    mask = np.zeros((40, 200), bool)
    mask[18:22, 10:90] = mask[18:22, 98:190] = True
    crack = one(None, mask)
    assert crack.px.gaps == pytest.approx(8, abs=0.6)
    assert crack.px.length == pytest.approx(172, abs=1)
    assert crack.px.main_length == pytest.approx(180, abs=1)
    assert crack.tortuosity == pytest.approx(1, abs=0.01)
    assert crack.box == (18, 10, 22, 190)
    assert [round(crack.px.length) for crack in measure(None, mask, bridge=0).cracks] == [80, 92]


@pytest.mark.parametrize(
    ("angle", "kind"), [(0, "transverse"), (45, "diagonal"), (90, "longitudinal"), (135, "diagonal")]
)
def test_directions(angle, kind):
    crack = one(None, draw(turned(straight(80), angle, CENTRE), 3.0, SHAPE)[1])
    assert crack.kind == kind
    assert abs((crack.angle - angle + 90) % 180 - 90) < 1
    assert crack.agreement > 0.99


def test_a_net_is_a_network():
    mask = np.zeros((120, 120), bool)
    mask[20:104:40] = mask[:, 20:104:40] = True
    mask |= np.roll(mask, 1, axis=0) | np.roll(mask, 1, axis=1)
    crack = one(None, mask)
    assert crack.kind is Kind.NETWORK
    assert crack.loops == 4
    assert crack.junctions == 9


def test_a_ring_is_measured_all_around():
    photo, mask, truth = draw(arc(40, 360) + 64, 4.0, SHAPE)
    crack = one(photo, mask)
    assert crack.px.length == pytest.approx(truth, rel=0.015)
    assert crack.px.main_length == crack.px.length
    assert np.isnan(crack.tortuosity)
    assert crack.measured_share == 1
    assert crack.px.width.mean == pytest.approx(4, abs=0.15)
    assert crack.kind is Kind.RING


def test_a_loop_at_a_junction_is_part_of_the_main_way():
    ring, stem = arc(40, 360) + 64, np.stack([np.linspace(104, 124, 21), np.full(21, 64.0)], axis=1)
    crack = one(None, draw(ring, 4.0, SHAPE)[1] | draw(stem, 4.0, SHAPE)[1])
    assert (crack.loops, crack.junctions) == (1, 1)
    assert crack.px.main_length == pytest.approx(20 + np.pi * 40, rel=0.05)
    assert crack.tortuosity == pytest.approx((20 + np.pi * 40) / 100, rel=0.05)
    assert crack.px.mask_width.max < 7, "near the junction a perpendicular meets the other branch"


def test_the_main_way_may_end_on_a_way_around():
    """The bar leads from one junction to the other in 80 px; the ends farthest apart are the tops of the arcs."""
    bar = draw(turned(straight(80), 0, (64, 64)), 4.0, SHAPE)[1]
    crack = one(None, bar | draw(arc(40, 360) + 64, 4.0, SHAPE)[1])
    assert (crack.loops, crack.junctions) == (2, 2)
    assert crack.px.main_length == pytest.approx(np.pi * 40, rel=0.03)


def test_a_crack_whose_pieces_have_no_direction_in_common_goes_from_end_to_end():
    crack = one(None, draw(turned(arc(40, 180), 90, CENTRE), 3.0, SHAPE)[1])
    assert crack.agreement < 0.1
    assert crack.kind is Kind.LONGITUDINAL


def test_the_widest_place_is_found():
    photo, mask, _ = draw(turned(straight(90), 0, CENTRE), 3.0, SHAPE, Look(noise=1.0))
    wide, wide_mask, _ = draw(turned(straight(16), 0, (CENTRE, 90)), 7.0, SHAPE, Look(noise=1.0))
    width = one(np.minimum(photo, wide), mask | wide_mask).px.width
    assert width.max == pytest.approx(7, abs=0.5)
    assert width.max_at == pytest.approx((CENTRE, 90), abs=8)
    assert width.median == pytest.approx(3, abs=0.2)
    assert width.median < width.mean < width.p95 <= width.max
    assert width.max_low < width.max < width.max_high


@pytest.mark.parametrize(
    ("read", "largest", "at", "borne_out"),
    [
        ([3, 3, 9, 3, 3.5, 3, 3.2], 3.5, 3, True),  # no single reading decides
        ([3, 8, 9, 8.5, 3], 8.5, 2, True),
        ([3, 9, np.nan, 3, 3], 9, 1, False),  # nowhere three in a row
        ([3, 3.5, 4, np.nan, 3, np.nan, 9], 3.5, 1, True),
        ([3, 4, 3, np.nan, 9], 9, 4, False),  # three in a row only where it is narrow
    ],
)
def test_the_largest_width_is_borne_out_by_three_in_a_row(read, largest, at, borne_out):
    width = np.array(read, np.float32)
    verdict = np.where(np.isfinite(width), Verdict.MEASURED, Verdict.POOR_FIT).astype(np.uint8)
    widths = Widths(mask_width=width, width=width, log_std=0.1 * width, verdict=verdict, offset=0 * width)
    points = np.column_stack([np.zeros(len(read)), 3.0 * np.arange(len(read))])
    found = size_px([CrackLine(points=points, widths=widths, nodes=(0, 1))], [9.0], [], 9.0, 30.0).width
    assert found.max == pytest.approx(largest)
    assert found.max_at == (0, 3 * at)
    assert found.borne_out is borne_out
    assert found.max_low < found.max < found.max_high


def test_a_mask_without_a_crack_is_not_measurable():
    _, mask, _ = draw(turned(straight(90), 20, CENTRE), 3.0, SHAPE)
    grey = np.random.default_rng(0).normal(150, 4, SHAPE).round().astype(np.uint8)
    crack = one(grey, mask, scale=given_scale(1), severity=read_severity("en1992-1-1"))
    assert crack.measured_share < 0.1
    codes = set(of_points(crack, "verdict").tolist())
    assert Verdict.NO_CONTRAST in codes
    assert np.isnan(of_points(crack, "width")[of_points(crack, "verdict") != Verdict.MEASURED]).all()
    blank = one(np.full(SHAPE, 150, np.uint8), mask, scale=given_scale(1), severity=read_severity("en1992-1-1"))
    assert blank.px.width is None
    assert blank.severity is None


def test_a_bright_line_is_not_measurable():
    photo, mask, _ = draw(turned(straight(90), 20, CENTRE), 3.0, SHAPE)
    assert one(255 - photo, mask).measured_share < 0.1


def test_a_crack_along_the_border():
    photo, mask, _ = draw(turned(straight(120), 0, (1, 64)), 4.0, SHAPE)
    crack = one(photo, mask)
    assert (of_points(crack, "verdict") == Verdict.AT_BORDER).mean() > 0.9
    assert crack.px.length == pytest.approx(120, abs=2)


def test_without_a_photo_there_are_widths_of_the_mask():
    mask = np.zeros((40, 200), bool)
    mask[18:23, 20:180] = True
    crack = one(None, mask)
    assert crack.px.width is None
    assert crack.px.mask_width.mean == pytest.approx(5, abs=0.05)
    assert set(of_points(crack, "verdict").tolist()) == {Verdict.NO_PHOTO, Verdict.AT_TIP}
    assert Verdict.NO_PHOTO.text == "not measurable: no photo"
    assert Verdict.MEASURED.text == "measured"


def test_millimetres_and_their_uncertainty():
    photo, mask, _ = draw(turned(straight(80), 10, CENTRE), 4.0, SHAPE)
    profile = read_severity("en1992-1-1")
    found = measure(photo, mask, scale=given_scale(0.1, 0.2), severity=profile)
    (crack,) = found.cracks
    assert crack.mm.length == pytest.approx(0.1 * crack.px.length)
    assert crack.mm.main_length == pytest.approx(0.1 * crack.px.main_length)
    assert crack.mm.area == pytest.approx(0.01 * crack.px.area)
    assert crack.mm.width.mean == pytest.approx(0.1 * crack.px.width.mean)
    assert crack.mm.width.max_at == crack.px.width.max_at
    assert crack.mm.relative_std == pytest.approx(0.2)
    assert crack.mm.width.mean_high / crack.mm.width.mean > np.exp(1.95 * 0.2)
    assert crack.px.width.mean_high / crack.px.width.mean < np.exp(1.95 * 0.2)
    assert len(crack.severity.possible) > 1
    assert found.area_mm2 == pytest.approx(169)
    assert found.density == pytest.approx(1000 * crack.mm.length / 169)  # m per m2 is mm per 1000 mm2
    assert found.percent == pytest.approx(100 * mask.mean())


def test_without_a_scale_there_are_no_millimetres():
    found = measure(None, draw(turned(straight(80), 10, CENTRE), 4.0, SHAPE)[1])
    assert found.cracks[0].mm is None
    assert found.density is None


def test_ids_follow_the_first_pixel():
    mask = np.zeros((100, 100), bool)
    mask[50:53, 10:60] = mask[5:8, 60:95] = mask[70:73, 5:80] = True
    cracks = measure(None, mask).cracks
    assert [(crack.id, crack.anchor) for crack in cracks] == [(1, (5, 60)), (2, (50, 10)), (3, (70, 5))]
    mask[5:8] = False
    assert [(crack.id, crack.anchor) for crack in measure(None, mask).cracks] == [(1, (50, 10)), (2, (70, 5))]


def test_lines_are_the_same_in_every_run_and_in_a_memory_map(tmp_path):
    photo, mask, _ = draw(turned(sinusoid(8, 45, 85), 33, CENTRE), 3.0, SHAPE)
    for name, array in (("photo", np.repeat(photo[..., None], 3, axis=2)), ("mask", mask)):
        np.save(tmp_path / name, array)
    lazy = measure(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("photo", "mask"))).cracks[0]
    crack = one(photo, mask)
    assert np.array_equal(lazy.lines[0].points, crack.lines[0].points)
    assert np.allclose(of_points(lazy, "width"), of_points(crack, "width"), equal_nan=True, atol=0.02)


def grey(shape):
    return np.random.default_rng(1).integers(100, 160, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1), (64, 64)])
def test_empty_and_full_masks(shape):
    assert measure(grey(shape), np.zeros(shape, bool)).cracks == ()
    full = measure(grey(shape), np.ones(shape, bool), min_length=0)
    (crack,) = full.cracks
    assert full.percent == 100
    assert crack.px.area == shape[0] * shape[1]
    assert crack.px.length <= np.hypot(*shape) + 2
    if shape == (64, 64):
        assert crack.kind is Kind.PATCH


def test_a_large_blob_is_one_patch():
    mask = np.zeros((1200, 1500), bool)
    cv2.ellipse(mask.view(np.uint8), (700, 600), (500, 400), 20, 0, 360, 1, -1)
    crack = one(None, mask)
    assert crack.kind is Kind.PATCH
    assert crack.px.area == mask.sum()


def test_specks_are_counted_not_listed():
    mask = np.zeros((600, 600), bool)
    mask[::4, ::4] = True
    mask[301, 100:200] = True
    found = measure(grey((600, 600)), mask, bridge=0)
    assert len(found.cracks) == 1
    assert found.specks > 22_000
    assert found.specks_area + found.cracks[0].px.area == found.mask_area == mask.sum()
    assert len(measure(None, mask[:40, :40], min_length=0, bridge=0).cracks) == 100


def test_inputs_that_do_not_fit():
    mask = np.zeros((20, 30), bool)
    with pytest.raises(InputError, match="the mask is uint8"):
        measure(None, mask.astype(np.uint8))
    with pytest.raises(InputError, match="the photo is 20x20 px and its mask 30x20"):
        measure(np.zeros((20, 20, 3), np.uint8), mask)
    with pytest.raises(InputError, match="the photo is float64"):
        measure(np.zeros((20, 30)), mask)
    for option in ({"bridge": -1}, {"spacing": 0}, {"min_length": float("nan")}):
        with pytest.raises(UsageError, match=f"{next(iter(option))} is .* px, expected"):
            measure(None, mask, **option)


def profile(width, reach=12, blur=0.9, depth=0.85):
    s = np.arange(-reach * 20, reach * 20 + 1) / 20
    fine = (np.abs(s) <= width / 2).astype(float)
    from scipy.ndimage import gaussian_filter1d

    return (150 * (1 - depth * gaussian_filter1d(fine, 20 * blur, mode="nearest")))[::20].astype(np.float32)


def fit_profiles(profiles, valid, expected, prior=None):
    return fit_under(profiles, valid, expected, prior=(prior or Prior()).repeated(len(profiles)))


@pytest.mark.parametrize("width", [0.5, 1, 2, 3, 5, 8])
def test_profiles_without_noise(width):
    y = profile(width)[None]
    fit = fit_profiles(y, y >= 0, np.float32([width + 2]))
    assert float(fit.width[0]) == pytest.approx(width, abs=0.08)
    assert float(fit.blur[0]) == pytest.approx(0.9, abs=0.15)


def test_neighbours_and_missing_samples_are_left_out():
    y = profile(3)[None]
    spoilt, valid = y.copy(), np.ones(y.shape, bool)
    spoilt[0, :4], spoilt[0, -3:] = 20, 0
    valid[0, :4] = valid[0, -3:] = False
    clean = fit_profiles(y, valid, np.float32([4])).width
    assert fit_profiles(spoilt, valid, np.float32([4])).width == pytest.approx(clean, abs=1e-3)


def test_a_hairline_owes_its_uncertainty_to_the_depth():
    y = profile(0.7)[None]
    unsure = fit_profiles(y, y >= 0, np.float32([3])).log_std[0]
    known = fit_profiles(y, y >= 0, np.float32([3]), prior=Prior(depth=(0.85, 0.05))).log_std[0]
    assert 0.15 < unsure < 0.35
    assert known < 0.75 * unsure
    wide = profile(6)[None]
    assert fit_profiles(wide, wide >= 0, np.float32([7])).log_std[0] < 0.05


def test_the_prior_is_learnt_from_telling_profiles_only():
    rng = np.random.default_rng(0)
    wide = np.repeat(profile(7, depth=0.5, blur=1.2)[None], 60, axis=0) + rng.normal(0, 2, (60, 25)).astype(np.float32)
    fits = fit_profiles(wide, wide > 0, np.full(60, 8, np.float32))
    learnt = learn_prior(fits, Prior())
    assert learnt.depth[0] == pytest.approx(0.5, abs=0.03)
    assert learnt.blur[0] == pytest.approx(1.2, abs=0.1)
    assert learnt.depth[1] < Prior().depth[1]
    thin = np.repeat(profile(0.5)[None], 60, axis=0) + rng.normal(0, 2, (60, 25)).astype(np.float32)
    assert learn_prior(fit_profiles(thin, thin > 0, np.full(60, 2, np.float32)), Prior()).depth == Prior().depth


def test_measured_profiles_of_real_cracks(shared):
    """979 profiles with true widths; published for a rectangle fit: 0.36 px (Benz and Rodehorst 2021)."""
    folder = shared / "data" / "widths" / "profiles"
    if not folder.is_dir():
        pytest.skip("the measured profiles are not there")
    path = Path(__file__).parents[1] / "benchmarks" / "measuring.py"
    spec = importlib.util.spec_from_file_location("benchmark_measuring", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    rows = {row["group"]: row for row in benchmark.profile_rows(folder)}
    assert rows["all"]["profiles"] == 978
    assert rows["all"]["mae"] < 0.26
    assert abs(rows["all"]["bias"]) < 0.1
    assert 0.9 <= rows["all"]["covered"] <= 0.97
    assert 0.9 <= rows["below 1 px"]["covered"] <= 0.98
    assert 0.9 <= rows["1 to 3 px"]["covered"] <= 0.98
