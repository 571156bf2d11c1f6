"""Reports side by side, probability maps as predictions, and photos that were spoilt."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from cracktool.corruption import CORRUPTIONS, SEVERITIES, corrupt
from cracktool.datasets.storing import degraded
from cracktool.errors import InputError, UsageError, choose_names
from cracktool.evaluation import (
    Cell,
    compare,
    evaluate,
    masks_origin,
    matrix,
    predictions_from_probs,
    probs_origin,
    restoration_scorer,
    robustness,
)
from cracktool.evaluation.restoration import restore
from cracktool.images import encode_png, write_mask
from cracktool.manifest import Entry, Manifest
from cracktool.metrics import quality
from cracktool.report import (
    difference_table,
    matrix_table,
    plot_robustness,
    report_page,
    robustness_table,
    write_report,
    write_table,
)

SHAPE = (20, 30)
CRACK = (slice(8, 11), slice(0, 30))


def entry(number, *, group=None, source=""):
    return Entry(
        image=f"images/n{number}.png",
        mask=f"masks/n{number}.png",
        split="test",
        group=group or f"n{number}",
        source=source,
        height=SHAPE[0],
        width=SHAPE[1],
        crack_fraction=0.1,
        label="cracked",
        sha1="",
    )


@pytest.fixture
def data(tmp_path):
    """Twelve photos with a crack of 3 rows on light ground."""
    entries = tuple(entry(number) for number in range(12))
    truth = np.zeros(SHAPE, bool)
    truth[CRACK] = True
    photo = np.full((*SHAPE, 3), 180, np.uint8)
    photo[CRACK] = 40
    for each in entries:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / each.image).write_bytes(encode_png(photo))
        write_mask(tmp_path / each.mask, truth)
    return Manifest(tmp_path, entries)


def marked(*numbers):
    """Return levels that find so many columns of the crack, one number for each photo."""
    for columns in numbers:
        levels = np.zeros(SHAPE, np.uint8)
        levels[8:11, :columns] = 255
        yield levels


def report_of(data, *columns, name="masks"):
    pairs = zip(data.entries, marked(*columns), strict=True)
    return evaluate(data, pairs, origin=masks_origin(name))


def test_a_steady_difference_is_shown_although_photos_differ_more(data):
    hard = [3, 30, 6, 27, 9, 24, 12, 21, 15, 18, 20, 10]
    first, second = report_of(data, *hard), report_of(data, *(max(columns - 1, 0) for columns in hard))
    differences = {each.score: each for each in compare(first, second)}
    iou = differences["iou"]
    assert iou.first == pytest.approx(sum(hard) / 360)
    assert iou.second - iou.first == pytest.approx(-12 / 360)
    assert iou.ci95 == pytest.approx((-12 / 360, -12 / 360))
    assert iou.images == 12
    assert iou.verdict == "first is higher"
    assert first.scores["iou"].pooled_ci95[1] - first.scores["iou"].pooled_ci95[0] > 0.1
    assert differences["precision"].verdict == "no difference shown"
    assert differences["precision"].p == 1
    assert next(each for each in compare(second, first) if each.score == "iou").verdict == "second is higher"


def test_chance_is_no_difference(data):
    first = report_of(data, *[10, 20] * 6)
    second = report_of(data, *[20, 10] * 6)
    iou = next(each for each in compare(first, second) if each.score == "iou")
    assert iou.p > 0.5
    assert iou.ci95[0] < 0 < iou.ci95[1]
    assert iou.verdict == "no difference shown"


def test_few_photos_show_no_difference_however_steady(data):
    part = Manifest(data.folder, data.entries[:5])
    iou = next(each for each in compare(report_of(part, *[20] * 5), report_of(part, *[19] * 5)) if each.score == "iou")
    assert iou.ci95 == pytest.approx((-1 / 30, -1 / 30))
    assert iou.p >= 2 ** (1 - 5)
    assert iou.verdict == "no difference shown"


def test_only_photos_that_both_have_are_compared(data):
    first = report_of(data, *[15] * 12)
    part = Manifest(data.folder, data.entries[:3])
    second = report_of(part, 30, 30, 30)
    iou = next(each for each in compare(first, second) if each.score == "iou")
    assert (iou.images, iou.first, iou.second) == (3, 0.5, 1)
    other = evaluate(part, zip(part.entries, marked(1, 1, 1), strict=True), origin=masks_origin("m"), tolerances=[2])
    with pytest.raises(InputError, match="same tolerances"):
        compare(first, other)


def test_scores_over_thresholds_are_compared_too(data):
    def of_probabilities(*columns):
        pairs = zip(data.entries, marked(*columns), strict=True)
        return evaluate(data, pairs, origin=probs_origin("maps"))

    hard = [3, 30, 6, 27, 9, 24, 12, 21, 15, 18, 20, 10]
    first, second = of_probabilities(*hard), of_probabilities(*(max(columns - 1, 0) for columns in hard))
    found = {each.score: each for each in compare(first, second)}
    assert {"ods_0px", "ap_0px", "ece", "ece_near", "brier", "brier_near"} < found.keys()
    dice, best = found["dice"], found["ods_0px"]  # of levels 0 and 255 the best Dice is the Dice
    assert (best.first, best.second, best.p, best.verdict) == (dice.first, dice.second, dice.p, "first is higher")
    assert best.ci95 == pytest.approx(dice.ci95)
    assert found["brier"].verdict == "second is higher"
    masks = report_of(data, *hard)
    assert "ods_0px" not in {each.score for each in compare(first, masks)}


def test_a_matrix_has_a_row_for_each_prediction(data, tmp_path):
    first, second = report_of(data, *[30] * 12), report_of(data, *[15] * 12)
    whole = matrix([[first, first], [second, None]], "iou", ["a|b", "c_d"], ["one test", "two test"])
    head, *rows = matrix_table(whole)
    assert head == ("iou", "one test", "two test", "mean")
    assert rows == [
        ("a|b", "1.000 [1.000, 1.000]", "1.000 [1.000, 1.000]", "1.000"),
        ("c_d", "0.500 [0.500, 0.500]", "-", "-"),
    ]
    csv_, markdown, latex = (path.read_text() for path in write_table(matrix_table(whole), tmp_path / "out" / "matrix"))
    assert list(csv.reader(csv_.splitlines()))[2][0] == "c_d"
    assert markdown.splitlines()[1:3] == [
        "| --- | --: | --: | --: |",
        "| a\\|b | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] | 1.000 |",
    ]
    assert "c\\_d & 0.500 [0.500, 0.500] & - & - \\\\" in latex
    small = matrix([[second]], "ece", ["a"], ["b"])
    assert matrix_table(replace(small, cells=((Cell(0.00046, (0.0002, 0.001)),),)))[1][1] == "0.0005 [0.0002, 0.0010]"
    with pytest.raises(UsageError, match="did you mean"):
        matrix([[first]], "iuo", ["a"], ["b"])
    with pytest.raises(UsageError, match=r"no pooled score .*use "):
        matrix([[first]], "hd95", ["a"], ["b"])


def test_differences_are_told_as_a_table(data):
    rows = difference_table(compare(report_of(data, *[15] * 12), report_of(data, *[30] * 12)))
    assert rows[1] == ("iou", "0.500", "1.000", "+0.500 [+0.500, +0.500]", "0.002", "second is higher")


def save(kind, path, probs):
    if kind == "npy":
        np.save(path.with_suffix(".npy"), probs.astype(np.float32))
    elif kind == "png":
        path.with_suffix(".png").write_bytes(encode_png((probs * 255).astype(np.uint8)))
    elif kind == "probs.png":
        path.with_name(f"{path.name}.probs.png").write_bytes(encode_png((probs * 255).astype(np.uint8)))
    elif kind == "png16":
        cv2.imwrite(str(path.with_suffix(".png")), (probs * 65535).astype(np.uint16))
    else:
        cv2.imwrite(str(path.with_suffix(".tif")), probs.astype(np.float32))


@pytest.mark.parametrize("kind", ["npy", "png", "probs.png", "png16", "tif"])
def test_probability_maps_of_any_kind_give_the_same_scores(data, tmp_path, kind):
    probs = np.full(SHAPE, 0.05)
    probs[CRACK] = 0.6
    probs[0] = 0.3
    (tmp_path / "maps").mkdir()
    for each in data.entries:
        save(kind, tmp_path / "maps" / each.image.removeprefix("images/").removesuffix(".png"), probs)
    predictions = predictions_from_probs(data, tmp_path / "maps")
    report = evaluate(data, predictions, origin=probs_origin(tmp_path / "maps"), threshold=0.25)
    assert report.scores["iou"].pooled == pytest.approx(90 / 120)
    assert report.threshold == 0.25
    assert report.scores["ods_0px"].pooled == 1
    assert report.curve.iou[50] == 1  # at 0.51 the row of 0.3 is gone


@pytest.fixture
def maps(tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    return folder


def test_maps_in_colours_are_refused_and_greys_in_three_channels_are_not(data, maps):
    grey = np.arange(600).reshape(SHAPE).clip(0, 255).astype(np.uint8)
    write = (PillowImage.fromarray(np.dstack([grey] * 3)), PillowImage.fromarray(grey).convert("P"))
    for number, picture in enumerate((*write, PillowImage.fromarray(cv2.applyColorMap(grey, cv2.COLORMAP_JET)))):
        picture.save(maps / f"n{number}.png")
    rgb, palette, jet, *_ = (levels for _, levels in predictions_from_probs(data, maps))
    np.testing.assert_array_equal(rgb, grey)
    np.testing.assert_array_equal(palette, grey)
    assert "a picture in colours" in str(jet)


def test_what_rounding_adds_to_a_probability_is_no_harm(data, maps):
    np.save(maps / "n0.npy", np.array([[-1e-7, 1 + 1e-7]], np.float32))
    assert next(predictions_from_probs(data, maps))[1].tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("probs", "words"),
    [
        (np.full(SHAPE, np.nan), "600 of 600 probabilities are not a number"),
        (np.full(SHAPE, 1.5), "values from 1.5 to 1.5"),
        (np.full(SHAPE, -3.0), "apply the sigmoid"),
        (np.full(SHAPE, 3, np.int64), "type int64"),
        (np.zeros((*SHAPE, 2)), "expected one probability for each pixel"),
    ],
)
def test_maps_that_are_no_probabilities_cost_only_themselves(data, tmp_path, probs, words):
    (tmp_path / "maps").mkdir()
    for each in data.entries:
        save("npy", tmp_path / "maps" / each.image.removeprefix("images/").removesuffix(".png"), np.zeros(SHAPE))
    np.save(tmp_path / "maps" / "n3.npy", probs)
    (tmp_path / "maps" / "n4.npy").write_bytes(b"damaged")
    report = evaluate(data, predictions_from_probs(data, tmp_path / "maps"), origin=probs_origin("maps"))
    assert [failure.image for failure in report.failures] == ["images/n3.png", "images/n4.png"]
    assert words in str(report.failures[0].error) + report.failures[0].error.remedy
    assert "n4.npy" in str(report.failures[1].error)
    with pytest.raises(InputError, match="--probs"):
        predictions_from_probs(data, tmp_path / "nowhere")


def test_inverted_and_soft_truths_are_told(data):
    write_mask(data.folder / "masks/n1.png", np.ones(SHAPE, bool))
    grey = np.zeros(SHAPE, np.uint8)
    grey[3] = 128
    (data.folder / "masks/n2.png").write_bytes(encode_png(grey))
    report = report_of(data, *[30] * 12)
    assert "n2.png: the true mask holds 30 pixels that are neither 0 nor 255" in str(report.failures[0].error)
    where = data.folder / "images/n1.png"
    assert report.warnings == (f"{where}: the true mask marks 100% of the photo as crack; is it inverted?",)


def test_groups_are_by_origin_and_width(data):
    entries = [entry(number, source=f"{'ab'[number % 2]}/x.png") for number in range(12)]
    truth = np.zeros(SHAPE, bool)
    truth[2:16] = True
    write_mask(data.folder / "masks/n1.png", truth)
    report = report_of(Manifest(data.folder, tuple(entries)), *[15] * 12)
    assert list(report.groups) == ["origin", "width"]
    assert report.groups["origin"]["a"].iou == 0.5
    assert {name: scores.images for name, scores in report.groups["width"].items()} == {
        "3 to 6 px": 11,
        "12 px and more": 1,
    }


class Dark:
    """A predictor that takes what is darker than half for crack."""

    threshold = 0.5

    class network:  # noqa: N801
        digest = "abcd"

    def settings(self):
        return {}

    def stream(self, items, read):
        for item in items:
            yield item, (255 - read(item).mean(axis=2)).astype(np.uint8)


def test_robustness_begins_with_the_photos_as_they_are(data, tmp_path):
    cases = list(robustness(data, Dark(), ["blur", "brightness"], name="dark"))
    assert [(case.kind, case.severity) for case in cases[:3]] == [("none", 0), ("blur", 1), ("blur", 2)]
    assert len(cases) == 11
    assert cases[0].cell.value == 1
    assert cases[5].cell.value < 1
    assert cases == list(robustness(data, Dark(), ["blur", "brightness"], name="dark"))
    write_mask(data.folder / "masks/n1.png", np.ones(SHAPE, bool))
    assert [len(case.warnings) for case in robustness(data, Dark(), ["blur"], name="dark")] == [1, 0, 0, 0, 0, 0]
    head, blur, _ = robustness_table(cases, "iou")
    assert head == ("iou by severity", "0", "1", "2", "3", "4", "5")
    assert blur[:2] == ("blur", "1.000")
    plot_robustness(cases, "iou", tmp_path / "robustness.png")
    assert (tmp_path / "robustness.png").stat().st_size > 5000
    with pytest.raises(UsageError, match="use all, blur"):
        next(robustness(data, Dark(), ["dusk"], name="dark"))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_spoils_more_than_the_one_before(kind):
    random = np.random.default_rng(7)
    photo = cv2.GaussianBlur(random.integers(0, 256, (60, 90, 3)).astype(np.uint8), (0, 0), 1)
    before = photo.copy()
    away = []
    for severity in (0, *SEVERITIES):
        spoilt = corrupt(photo, kind, severity, np.random.default_rng(3))
        assert (spoilt.shape, spoilt.dtype) == (photo.shape, np.uint8)
        np.testing.assert_array_equal(spoilt, corrupt(photo, kind, severity, np.random.default_rng(3)))
        away.append(float(np.abs(spoilt.astype(int) - photo).mean()))
    np.testing.assert_array_equal(photo, before)
    assert away[0] == 0
    assert away == sorted(away)
    assert away[1] > 0.5
    assert away[5] > 1.2 * away[1]


def test_corruptions_that_are_not_known():
    chosen = choose_names("corruption", ["fog", "all", "fog"], CORRUPTIONS)
    assert chosen == ("fog", *(kind for kind in CORRUPTIONS if kind != "fog"))
    with pytest.raises(UsageError, match="did you mean shadow"):
        corrupt(np.zeros((4, 4, 3), np.uint8), "shadows", 1, np.random.default_rng(0))
    with pytest.raises(UsageError, match="0 to 5"):
        corrupt(np.zeros((4, 4, 3), np.uint8), "blur", 6, np.random.default_rng(0))


def test_the_page_holds_its_pictures_and_no_program(data, tmp_path):
    data = Manifest(data.folder, (*data.entries[:2], entry("<script>alert(1)</script>".replace("/", "_"))))
    photo = (data.folder / "images/n0.png").read_bytes()
    (data.folder / data.entries[2].image).write_bytes(photo)
    (data.folder / data.entries[2].mask).write_bytes((data.folder / "masks/n0.png").read_bytes())
    report = report_of(data, 30, 15, 7, name="<b>")
    written = write_report(report, tmp_path / "out")
    page = written.files[-1].read_text()
    assert written.files[-1].name == "report.html"
    assert page.count("data:image/png;base64,") == 2 + 3
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    assert 'title="TP / (TP + FP + FN)"' in page
    assert report_page(report, [], []).count("<img") == 0


def test_a_restored_photo_is_scored_against_the_sharp_one():
    sharp = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 52, 3)).astype(np.uint8), (0, 0), 2)
    same = quality(sharp, sharp)
    assert (same["psnr"], same["ssim"]) == (pytest.approx(100), pytest.approx(1))
    off = quality(sharp.clip(20, 255), (sharp.clip(20, 255) - 10).astype(np.uint8))
    assert off["psnr"] == pytest.approx(20 * np.log10(255 / 10))
    assert quality(cv2.GaussianBlur(sharp, (0, 0), 3), sharp)["ssim"] < off["ssim"] < 1
    with pytest.raises(InputError, match="sharp photo has shape"):
        quality(sharp[:20], sharp)


def test_networks_that_restore_are_scored_in_squares(tmp_path):
    torch = pytest.importorskip("torch")
    from cracktool.card import Card
    from cracktool.models.csbsr import CSBSR, CSBSRPSPNet
    from cracktool.weights import Checkpoint

    model = CSBSR(CSBSRPSPNet(), features=4, stages=1).eval()
    checkpoint = Checkpoint(model, Card(model="csbsr_pspnet", mean=(0, 0, 0), std=(1, 1, 1), stride=1, scale=4), "")
    sharp = np.random.default_rng(0).integers(0, 256, (280, 40, 3)).astype(np.uint8)
    small, _, files = degraded("n0", sharp, None, 0)
    manifest = Manifest(tmp_path, (replace(entry(0), height=70, width=10),))
    assert restoration_scorer(manifest, lambda: checkpoint) is None
    for name, content in {**files, "images/n0.png": encode_png(small)}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    restored, kernel = restore(model, small)
    x = torch.from_numpy(small[:64]).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        sr, _ = model.restore(x)
    np.testing.assert_array_equal(restored[:256], (sr[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    assert kernel.shape == (21, 21)
    scores = restoration_scorer(manifest, lambda: checkpoint)(manifest.entries[0])
    assert scores.keys() == {"psnr", "ssim", "kernel_psnr"}
    assert scores["psnr"] == quality(restored, sharp)["psnr"]
    clean = replace(manifest.entries[0], mask="", label="uncracked")
    report = evaluate(
        Manifest(tmp_path, (clean,)),
        [(clean, np.zeros((280, 40), np.uint8))],
        origin=masks_origin("m"),
        scorer=restoration_scorer(manifest, lambda: checkpoint),
    )
    assert report.scores["psnr"].empty_is_one.mean == scores["psnr"]
    (tmp_path / "kernels" / "n0.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"n0\.npy"):
        restoration_scorer(manifest, lambda: checkpoint)(manifest.entries[0])


def test_a_report_of_masks_is_the_same_bytes_again(data, tmp_path):
    texts = [json.dumps(report_of(data, *range(12)).to_dict()) for _ in range(2)]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["curve"] is None
