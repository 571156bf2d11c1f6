"""Named protocols: cases worked out by hand, empty masks, and what each does unlike the plain scores."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cracktool.errors import InputError
from cracktool.metrics import Histogram
from cracktool.protocols import PROTOCOLS
from cracktool.protocols.fphbn import area, best_f
from cracktool.protocols.ridges import across, ridges
from cracktool.protocols.sweep import PERCENTS, PERCENTS_FROM_0, levels_above, levels_from
from cracktool.protocols.tut import saved_bytes

ABOUT_0 = pytest.approx(0, abs=1e-14)


def row(*levels):
    return np.array([levels], np.uint8)


def truth(line):
    return np.array([[character == "#" for character in line]])


def scores(name, *pairs, sources=None):
    protocol = PROTOCOLS[name]
    records = [protocol.measure(levels, true) for levels, true in pairs]
    return protocol.summarise(records, sources or ["one"] * len(records))


def picture(shape, places, value=255):
    levels = np.zeros(shape, np.uint8)
    levels[places] = value
    return levels


NOTHING = row(0, 0, 0, 0), truth("....")
FALSE_ALARM = row(255, 0, 0, 0), truth("....")
ONE_IN_TWO = row(255, 128, 127, 0, 0, 0, 0, 0, 0, 0), truth("#.##......")  # TP 1, FP 1, FN 2, TN 6 at one half


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_explains_itself(name):
    protocol = PROTOCOLS[name]
    assert protocol.name == name
    assert protocol.source
    assert "\n" not in protocol.text
    assert protocol.text.endswith(".")
    found = scores(name, (picture((20, 30), np.s_[3:17, 12]), picture((20, 30), np.s_[3:17, 13]) > 0))
    assert list(found) == list(protocol.scores)
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_sizes_must_agree(name):
    with pytest.raises(InputError, match="has shape"):
        PROTOCOLS[name].measure(np.zeros((6, 8), np.uint8), np.ones((8, 6), bool))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_record_is_small_and_the_input_stays_as_it_is(name):
    levels, true = picture((600, 700), np.s_[100:500, 300:304], 200), picture((600, 700), np.s_[90:490, 300:305]) > 0
    levels.flags.writeable = true.flags.writeable = False
    assert len(pickle.dumps(PROTOCOLS[name].measure(levels, true))) < 8000


@pytest.mark.parametrize("name", PROTOCOLS)
@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_the_order_of_the_images_does_not_matter(name, data):
    shape = (9, 8)
    images = st.tuples(hnp.arrays(np.uint8, shape), hnp.arrays(np.bool_, shape), st.sampled_from("ab"))
    drawn = data.draw(st.lists(images, min_size=2, max_size=4))
    order = data.draw(st.permutations(range(len(drawn))))
    protocol = PROTOCOLS[name]
    records, sources = [protocol.measure(levels, true) for levels, true, _ in drawn], [each[2] for each in drawn]
    found = protocol.summarise(records, sources)
    again = protocol.summarise([records[place] for place in order], [sources[place] for place in order])
    assert again == pytest.approx(found, abs=1e-12, nan_ok=True)


def test_thresholds_compare_as_floating_point_does():
    levels = np.arange(256, dtype=np.uint8)
    thresholds = np.arange(0.0, 1.0, 0.01)
    for percents in (PERCENTS, PERCENTS_FROM_0):
        for percent, above, reached in zip(percents, levels_above(percents), levels_from(percents), strict=True):
            assert ((levels / 255 > thresholds[percent]) == (levels >= above)).all()
            assert ((levels / 255 >= percent / 100) == (levels >= reached)).all()
            single = (levels / 255).astype(np.float32) - np.float32(percent * 0.01)  # as CSBSR subtracts
            assert ((single > 0) == (levels >= above)).all()


# khanhha


def test_khanhha():
    half = row(51, 52, 255, 0), truth("##..")  # TP 1, FP 1, FN 1: 51 is not above 255 x 0.2, 52 is
    found = scores("khanhha", half, NOTHING)
    assert found == pytest.approx({"Dice": 0.75, "Dice std": 0.25, "Jaccard": 2 / 3, "Jaccard std": 1 / 3})


def test_khanhha_without_crack():
    assert scores("khanhha", NOTHING) == {"Dice": 1, "Dice std": 0, "Jaccard": 1, "Jaccard std": 0}
    assert scores("khanhha", FALSE_ALARM)["Jaccard"] == ABOUT_0
    assert scores("khanhha", FALSE_ALARM)["Jaccard"] > 0  # the epsilon above the line


# cracksam


def test_cracksam():
    found = scores("cracksam", ONE_IN_TWO, NOTHING, FALSE_ALARM)
    assert found == pytest.approx({"pr": 1.5 / 3, "re": (1 / 3 + 1) / 3, "f1": 1.4 / 3, "iou": 1.25 / 3})


def test_cracksam_f1_is_not_that_of_mean_precision_and_recall():
    all_of_it, a_quarter = (row(255, 255, 255, 255), truth("#...")), (row(255, 0, 0, 0), truth("####"))
    found = scores("cracksam", all_of_it, a_quarter)
    assert found == pytest.approx({"pr": 0.625, "re": 0.625, "f1": 0.4, "iou": 0.25})


def test_cracksam_missed_crack_is_0():
    assert set(scores("cracksam", (row(0, 0), truth("#."))).values()) == {0}


# mmseg


def test_mmseg():
    found = scores("mmseg", ONE_IN_TWO)
    expected = {
        **{"aAcc": 0.7, "mIoU": (6 / 9 + 1 / 4) / 2, "mAcc": (6 / 7 + 1 / 3) / 2, "mDice": (12 / 15 + 2 / 5) / 2},
        **{"mFscore": 0.6, "mPrecision": (6 / 8 + 1 / 2) / 2, "mRecall": (6 / 7 + 1 / 3) / 2},
        **{"IoU crack": 0.25, "Fscore crack": 0.4, "Precision crack": 0.5, "Recall crack": 1 / 3},
    }
    assert found == pytest.approx(expected)


def test_mmseg_pools_pixels_where_others_average_images():
    whole, missed = (row(255, 255, 255, 0), truth("###.")), (row(0, 0, 0, 0), truth("#..."))
    assert scores("mmseg", whole, missed)["IoU crack"] == 0.75
    assert scores("cracksam", whole, missed)["iou"] == 0.5


def test_mmseg_leaves_out_a_class_without_a_value():
    found = scores("mmseg", NOTHING)
    assert found["mIoU"] == found["mFscore"] == 1
    assert math.isnan(found["IoU crack"])
    never_right = scores("mmseg", (row(255, 0, 0, 0), truth(".#..")))
    assert never_right["mFscore"] == pytest.approx(2 / 3)  # of background alone; that of crack is 0 / 0
    assert never_right["mDice"] == pytest.approx(1 / 3)  # though it is the same quantity


# deepsegmentor


def test_deepsegmentor():
    """At 0 to 0.10: TP 3, FP 1; at 0.11 to 0.50: TP 2, FP 1, FN 1; from 0.51: TP 1, FN 2."""
    first, second = (row(255, 128, 0, 0), truth("##..")), (row(128, 26, 0, 0), truth(".#.."))
    found = scores("deepsegmentor", first, second)
    expected = {
        **{"F": 6 / 7, "P": 3 / 4, "R": 1, "G": 7 / 8, "C": (4 / 5 + 1) / 2, "I/U": (4 / 5 + 3 / 4) / 2},
        **{"bT": 0, "OIS": (1 + 2 / 3) / 2},
    }
    assert found == pytest.approx(expected)


def test_deepsegmentor_finds_the_first_best_threshold():
    assert scores("deepsegmentor", (row(255, 128, 0), truth("#..")))["bT"] == 0.51


def test_deepsegmentor_without_crack():
    found = scores("deepsegmentor", (row(255, 0, 0, 0), truth("#...")), NOTHING)
    assert found["F"] == 1
    assert math.isnan(found["OIS"])
    assert all(math.isnan(value) for value in scores("deepsegmentor", NOTHING).values())


def test_deepsegmentor_without_a_hit_has_no_f():
    found = scores("deepsegmentor", (row(255, 0, 0), truth(".#.")))
    assert math.isnan(found["F"])
    assert math.isnan(found["bT"])
    assert found["OIS"] == 0


# tut


def rows_of(*bands):
    """A map of 512 x 512: levels and how many rows each has."""
    return np.repeat(np.array([[level] for level, _ in bands], np.uint8), [rows for _, rows in bands], axis=0).repeat(
        512, axis=1
    )


HALF_TRUE = rows_of((255, 256), (0, 256)) > 0


def test_tut_saves_the_logit_over_the_greatest():
    whole = saved_bytes(255)  # the logit of level 255, of p 254.5 / 255, is ln 509 = 6.232
    assert whole[[0, 127, 255]].tolist() == [0, 0, 255]
    assert whole[128] == 0  # 255 x ln(128 / 127) / 6.232 = 0.32: above one half, but lost in the rounding
    assert whole[129] == 1  # 255 x ln(129 / 126) / 6.232 = 0.96
    assert whole[192] == 46  # 255 x ln(192 / 63) / 6.232 = 45.6: p of 0.75 is called 0.18
    assert saved_bytes(192)[192] == 255


def test_tut():
    """Level 192 is saved as 46: found up to the threshold 0.18, gone from 0.19 on."""
    good, fat = rows_of((255, 128), (192, 128), (0, 256)), rows_of((255, 192), (192, 320))
    found = scores("tut", (good, HALF_TRUE), (fat, HALF_TRUE))
    expected = {
        "mIoU": ((1 / 2 + 2 / 3) / 2 + (3 / 4 + 4 / 5) / 2) / 2,  # from 0.19 on; below it is (1 + 1/4) / 2
        "ODS": (1 + 2 / 3) / 2,  # up to 0.18; above it is (2/3 + 6/7) / 2
        "OIS": (1 + 6 / 7) / 2,
        **{"F1": 0.8, "P": 2 / 3, "R": 1},
    }
    assert found == pytest.approx(expected)


def test_tut_gives_a_crack_free_image_nothing():
    perfect, empty = (rows_of((255, 256), (0, 256)), HALF_TRUE), (rows_of((0, 512)), np.zeros((512, 512), bool))
    found = scores("tut", perfect, empty)
    assert found == {"mIoU": 0.5, "ODS": 0.5, "OIS": 0.5, "F1": 1, "P": 1, "R": 1}


def test_tut_without_any_crack():
    found = scores("tut", (rows_of((0, 512)), np.zeros((512, 512), bool)))
    assert (found["mIoU"], found["ODS"], found["OIS"], found["P"]) == (0, 0, 0, 1)
    assert math.isnan(found["R"])
    assert math.isnan(found["F1"])


def test_tut_takes_a_doubtful_map_for_crack_all_over():
    assert (saved_bytes(100) == 255).all()
    assert (saved_bytes(0) == 0).all()
    found = scores("tut", (rows_of((100, 256), (3, 256)), HALF_TRUE))
    assert (found["P"], found["R"]) == (0.5, 1)


@pytest.mark.parametrize(("height", "line", "rows"), [(2048, 1024, 0), (2048, 1025, 1), (528, 16, 2)])
def test_tut_resizes_the_truth_and_loses_or_thickens_a_thin_line(height, line, rows):
    """Of 2048 rows 1 and 2 of each four count, by 0.59 each; of 528, row 16 lies 0.52 off two rows: 0.57 each."""
    true = picture((height, 700), np.s_[line]) > 0
    assert PROTOCOLS["tut"].measure(np.zeros((height, 700), np.uint8), true).crack.sum() == 512 * rows


# csbsr


def dots(*columns, shape=(9, 9), value=255):
    return picture(shape, (np.full(len(columns), 4), np.array(columns)), value)


def test_csbsr():
    """A true dot, and a false one 3 px away with p = 0.2: found at 0.01 to 0.19, not at 0.20."""
    found = scores("csbsr", (dots(2) + dots(5, value=51), dots(2) > 0))
    both = (1 + 1e-5) / (2 + 1e-5)
    expected = {
        **{"AIU": (19 * both + 80) / 99, "IoU_max": 1, "HD95_min": 0, "AHD95": 3 * 19 / 99},
        **{"HD50_min": 0, "AHD50": 0, "MSD_min": 0, "AMSD": 0.625 * 19 / 99, "outliers": 0},
    }  # the four corners of the false dot are 2, 2, 3 and 3 px away, those of the true one 0
    assert found == pytest.approx(expected)


def test_csbsr_percentiles_are_of_the_line():
    found = scores("csbsr", (dots(5), dots(2) > 0))
    assert (found["HD95_min"], found["HD50_min"], found["MSD_min"]) == pytest.approx((3, 2, 2.5))
    assert found["IoU_max"] == found["AIU"] == pytest.approx(1e-5 / (2 + 1e-5))


def test_csbsr_empties():
    empty = np.zeros((20, 9), np.uint8)
    both = scores("csbsr", (empty, empty > 0))
    assert (both["AIU"], both["HD95_min"], both["AMSD"], both["outliers"]) == (1, 0, 0, 0)
    missed = scores("csbsr", (empty, dots(2, shape=(20, 9)) > 0))
    assert (missed["HD95_min"], missed["AHD50"], missed["AMSD"], missed["outliers"]) == (9, 9, 9, 1)  # the width
    assert missed["AIU"] == pytest.approx(1e-5 / (1 + 1e-5))


# fphbn


def slow_ridges(values, towards):
    """`edgesNmsMex` pixel by pixel: r 2, s 5, m 1.01."""
    height, width = values.shape

    def at(x, y):
        x, y = min(max(x, 0), width - 1.001), min(max(y, 0), height - 1.001)
        left, top = int(x), int(y)
        right, down = x - left, y - top
        return sum(
            values[top + dy, left + dx] * (right if dx else 1 - right) * (down if dy else 1 - down)
            for dy in (0, 1)
            for dx in (0, 1)
        )

    kept = values.astype(float)
    for y, x in np.ndindex(height, width):
        neighbours = [at(x + d * math.cos(towards[y, x]), y + d * math.sin(towards[y, x])) for d in (-2, -1, 1, 2)]
        if values[y, x] * 1.01 < max(neighbours):
            kept[y, x] = 0
    margin = min(5, width // 2, height // 2)
    for y, x in np.ndindex(height, width):
        kept[y, x] *= min(1, x / margin, (width - 1 - x) / margin) * min(1, y / margin, (height - 1 - y) / margin)
    return kept


def slow_direction(values):
    """The direction across from second derivatives, with padding and sums written out."""
    weights = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    padded = np.pad(values.astype(float), 4, mode="symmetric")
    height, width = values.shape
    smooth = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        smooth[y, x] = weights @ padded[y : y + 9, x : x + 9] @ weights

    def along_x(m):
        return np.column_stack([m[:, 1] - m[:, 0], (m[:, 2:] - m[:, :-2]) / 2, m[:, -1] - m[:, -2]])

    def along_y(m):
        return along_x(m.T).T

    xx, yy, xy = along_x(along_x(smooth)), along_y(along_y(smooth)), along_x(along_y(smooth))
    return np.mod(np.arctan(yy * np.sign(-xy) / (xx + 1e-5)), np.pi)


@settings(deadline=None, max_examples=15, derandomize=True)  # 32 bits may decide a draw the other way
@given(st.integers(0, 10**6), st.integers(4, 14), st.integers(4, 14))
def test_ridges_equal_a_loop_over_pixels(seed, height, width):
    values = np.random.default_rng(seed).random((height, width), np.float32)
    towards = across(values)
    turn = np.abs(towards - slow_direction(values))
    assert np.median(np.minimum(turn, np.pi - turn)) < 1e-3  # where derivatives cancel, 32 bits are not enough
    assert ridges(values) == pytest.approx(slow_ridges(values, towards.astype(float)), abs=1e-5)


def test_ridges_of_a_vertical_crack():
    values = np.zeros((30, 30), np.float32)
    values[:, 13:18] = [0.2, 0.6, 1.0, 0.6, 0.2]
    found = ridges(values)
    assert (found[5:25, 15] == 1).all()
    assert (found[5:25, [13, 14, 16, 17]] == 0).all()
    assert found[:6, 15].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])  # fades out towards the edge
    flat = ridges(np.ascontiguousarray(values.T))
    assert (flat[13:18, 15] > 0).all()  # of a horizontal one the formula has no direction: nothing goes


def test_ridges_need_a_direction():
    with pytest.raises(InputError, match="1 x 5 px"):
        scores("fphbn", (np.zeros((1, 5), np.uint8), np.zeros((1, 5), bool)))


LINE = np.s_[60:140, 100]  # 80 px in 300 x 400, whose diagonal x 0.0075 is 3.75 px


def test_fphbn_of_a_perfect_mask():
    line = picture((300, 400), LINE)
    assert scores("fphbn", (line, line > 0)) == {"ODS": 1, "OIS": 1, "AP": 0, "AIU": 1}  # one recall is no area


@pytest.mark.parametrize(("shift", "ods"), [(3, 1), (4, 0)])
def test_fphbn_tolerates_a_shift_that_aiu_does_not(shift, ods):
    found = scores("fphbn", (picture((300, 400), np.s_[60:140, 100 + shift]), picture((300, 400), LINE) > 0))
    assert (found["ODS"], found["AIU"]) == (ods, 0)


def test_fphbn_sweeps_thresholds():
    """Half of the line has p = 0.1: found at the thresholds 0.0001 to 0.0919, 10 of 99, gone at 0.1021."""
    levels = picture((300, 400), np.s_[60:100, 100]) + picture((300, 400), np.s_[100:140, 100], 26)
    line = picture((300, 400), LINE) > 0
    found = scores("fphbn", (levels, line))
    assert found["ODS"] == found["OIS"] == 1
    assert found["AP"] == pytest.approx(0.51)  # precision 1 at the recalls 0.5, 0.51 ... 1
    assert found["AIU"] == pytest.approx((10 + 89 * 0.5) / 99)  # 26 / 255 reaches 0.01 to 0.10


def test_fphbn_charges_a_crack_free_image_to_ois_and_aiu():
    line, faint = picture((300, 400), LINE), picture((300, 400), LINE, 1)  # 1 / 255 reaches the threshold 0.0001
    found = scores("fphbn", (line, line > 0), (faint, np.zeros((300, 400), bool)))
    assert found["ODS"] == 1  # at the next one nothing is wrong
    assert found["OIS"] == pytest.approx(2 / 3)  # 80 matched, 160 predicted, 80 true
    assert found["AIU"] == 0.5
    empty = np.zeros((300, 400), np.uint8)
    assert scores("fphbn", (empty, empty > 0)) == {"ODS": 0, "OIS": 0, "AP": 0, "AIU": 0}


def test_fphbn_interpolates_between_thresholds():
    precision, recall = np.array([0.5, 1]), np.array([1, 0.5])
    assert best_f(precision, recall) == pytest.approx(0.7499915, abs=1e-7)  # 0.75 lies half a step off
    assert area(precision, recall) == pytest.approx(0.3825)  # 51 points from 1 down to 0.5, over 100
    assert area(np.array([0.4, 0.9, 1]), np.array([0.5, 0.5, 0.2])) == pytest.approx(0.217)  # the first 0.5 counts


# omnicrack


def line(place, shape=(32, 64), thickness=1):
    return picture(shape, np.s_[place : place + thickness, 10:50])


def test_omnicrack():
    near, far = (line(14), line(10) > 0), (line(15), line(10) > 0)
    found = scores("omnicrack", near, near, near, far, sources=["cfd", "cfd", "cfd", "ael"])
    assert found == pytest.approx({"clIoU": 0.5, "clIoU pooled": 0.6})  # (1 + 0) / 2, and 120 / (160 + 40)


def test_omnicrack_does_not_mind_widths():
    assert scores("omnicrack", (line(9, thickness=3), line(10) > 0))["clIoU"] > 0.9
    assert Histogram.of(line(9, thickness=3), line(10) > 0).counts(128).scores().iou == pytest.approx(1 / 3)


def test_omnicrack_without_crack():
    empty = np.zeros((32, 64), np.uint8)
    assert scores("omnicrack", (empty, empty > 0)) == {"clIoU": 0, "clIoU pooled": 0}
    assert scores("omnicrack", (line(10), empty > 0))["clIoU"] == 0


# opencrack


def test_opencrack():
    empty = np.zeros((32, 64), np.uint8)
    perfect, missed, clean = (line(10), line(10) > 0), (empty, line(10) > 0), (line(10), empty > 0)
    found = scores("opencrack", perfect, perfect, perfect, missed, clean, sources=["a", "a", "a", "b", "c"])
    of_images = dict.fromkeys(("IoU", "Dice", "Boundary F1", "NSD", "clIoU"), 0.75)
    assert found == of_images | {"IoU macro": 0.5, "clIoU macro": 0.5}  # the crack-free image counts nowhere


@pytest.mark.parametrize(("shift", "border", "lines"), [(2, 1, 1), (3, 0, 1), (5, 0, 0)])
def test_opencrack_tolerances(shift, border, lines):
    found = scores("opencrack", (line(10 + shift), line(10) > 0))
    assert (found["IoU"], found["Boundary F1"], found["NSD"], found["clIoU"]) == (0, border, border, lines)


def test_opencrack_means_are_of_images():
    half = picture((32, 64), np.s_[10, 10:30]), line(10) > 0
    assert scores("opencrack", half)["Dice"] == pytest.approx(2 / 3)
    assert scores("opencrack", half, (line(10), line(10) > 0))["IoU"] == 0.75


def test_opencrack_without_any_crack():
    assert all(math.isnan(value) for value in scores("opencrack", NOTHING).values())
