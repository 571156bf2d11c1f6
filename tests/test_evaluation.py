from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from cracktool.errors import InputError, UsageError
from cracktool.evaluation import (
    Origin,
    evaluate,
    masks_origin,
    model_origin,
    predictions_from_masks,
    predictions_from_model,
    predictions_from_probs,
)
from cracktool.images import encode_png, write_mask
from cracktool.manifest import Entry, Manifest, read_manifest, write_manifest
from cracktool.metrics import Counts, Spread

WEIGHTS = Origin(kind="weights", name="fake", digest="1234")
SHAPE = (8, 10)


def entry(image, *, mask=True, label="cracked", group=None):
    path = Path(image)
    return Entry(
        image=image,
        mask=str(Path("masks", *path.parts[1:]).with_suffix(".png")) if mask else "",
        split="test",
        group=group or path.stem,
        source="",
        height=SHAPE[0],
        width=SHAPE[1],
        crack_fraction=-1,
        label=label,
        sha1="",
    )


def rows_mask(*rows, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[list(rows)] = True
    return mask


TRUTHS = {"line": rows_mask(3), "full": np.ones(SHAPE, bool), "clean": rows_mask()}


@pytest.fixture
def data(tmp_path):
    """Two cracked images, one clean by its mask, one clean by its label, one of which nothing is known."""
    entries = (
        entry("images/line.jpg"),
        entry("images/sub/full.png"),
        entry("images/clean.png", label="uncracked"),
        entry("images/label.png", mask=False, label="uncracked"),
        entry("images/unknown.png", mask=False, label="unknown"),
    )
    folder = tmp_path / "data"
    for each in entries:
        (folder / each.image).parent.mkdir(parents=True, exist_ok=True)
        (folder / each.image).write_bytes(encode_png(np.full((*SHAPE, 3), 90, np.uint8)))
        if each.mask:
            write_mask(folder / each.mask, TRUTHS[Path(each.image).stem])
    return Manifest(folder, entries)


def perfect(manifest):
    for each in manifest.entries:
        truth = TRUTHS.get(Path(each.image).stem, rows_mask())
        yield each, truth.astype(np.uint8) * 255


def test_perfect_predictions(data):
    report = evaluate(data, perfect(data), origin=WEIGHTS)
    pooled = {name: summary.pooled for name, summary in report.scores.items() if summary.pooled is not None}
    assert {name for name, value in pooled.items() if value == 1} >= {"iou", "f1_5px", "f1_bsds", "cliou_4px", "ap_0px"}
    assert {name for name, value in pooled.items() if value < 1} == {
        *("false_alarm", "ece", "ece_near", "brier", "brier_near")
    }
    assert pooled["false_alarm"] == 0
    assert pooled["ece"] == pytest.approx(0.5 / 256)  # a level stands for its middle
    of_images = {name: summary.empty_is_one.mean for name, summary in report.scores.items() if name not in pooled}
    assert of_images == {
        **{"hd95": 0, "surface_distance": 0, "betti_0_error": 0, "betti_1_error": 0, "ois_0px": 1, "aiu": 1}
    }
    assert (len(report.rows), report.positives, report.skipped, report.failures) == (4, 2, 1, ())
    assert (report.split, report.data) == ("test", str(data.folder))
    assert report.scores["iou"].empty_is_one == Spread(mean=1, std=0, images=4, ci95=(1, 1))
    assert report.scores["iou"].positives_only == Spread(mean=1, std=0, images=2, ci95=(1, 1))


def test_scores_by_hand_under_both_rules(data):
    shifted = {
        "line": rows_mask(3, 4),  # IoU 1/2
        "full": rows_mask(0, 1),  # IoU 1/4
        "clean": rows_mask(5),  # a false alarm: IoU 0
        "label": rows_mask(),  # empty and empty: IoU 1
    }
    predictions = [(each, shifted[Path(each.image).stem] * np.uint8(255)) for each in data.entries[:4]]
    report = evaluate(data, reversed(predictions), origin=WEIGHTS)
    assert [row.image for row in report.rows] == [each.image for each in data.entries[:4]]
    assert [row.scores["iou"] for row in report.rows] == [0.5, 0.25, 0, 1]
    assert report.measured.counts == Counts(tp=10 + 20, fp=10 + 10, fn=60, tn=60 + 70 + 80)
    iou = report.scores["iou"]
    assert iou.pooled == pytest.approx(30 / 110)
    assert iou.pooled_positives == pytest.approx(30 / 100)
    assert (iou.empty_is_one.mean, iou.empty_is_one.std) == pytest.approx((0.4375, 0.369755))
    assert (iou.positives_only.mean, iou.positives_only.std) == pytest.approx((0.375, 0.125))
    low, high = iou.positives_only.ci95
    assert (low, high) == (0.25, 0.5)
    assert report.scores["false_alarm"].pooled == pytest.approx(10 / 160)
    assert report.scores["false_alarm"].pooled_ci95 == pytest.approx((0, 10 / 80))
    assert report.scores["precision_2px"].pooled == pytest.approx((20 + 20 + 0) / 50)
    assert report.scores["recall_2px"].pooled == pytest.approx((10 + 40) / 90)
    assert report.scores["ois_0px"].positives_only.mean == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert "iou" in report.to_dict()["texts"]
    # Of levels 0 and 255 all thresholds say the same: the best Dice is the Dice, and so are its interval and the rest.
    dice, best = report.scores["dice"], report.scores["ods_0px"]
    assert (best.pooled, best.pooled_positives) == pytest.approx((dice.pooled, dice.pooled_positives))
    assert best.pooled_ci95 == pytest.approx(dice.pooled_ci95)
    wrong = [1 - row.scores["accuracy"] for row in report.rows]
    low, high = report.scores["brier"].pooled_ci95
    assert min(wrong) < low < sum(wrong) / 4 < high <= max(wrong) + 1 / 256


def test_the_threshold_decides(data):
    only = Manifest(data.folder, data.entries[:1])
    levels = np.full(SHAPE, 100, np.uint8)
    levels[3] = 200
    low = evaluate(only, [(data.entries[0], levels)], origin=WEIGHTS, threshold=0.3)
    high = evaluate(only, [(data.entries[0], levels)], origin=WEIGHTS, threshold=0.5)
    assert (low.scores["iou"].pooled, high.scores["iou"].pooled) == (1 / 8, 1)
    assert low.scores["ods_0px"].pooled == low.scores["ap_0px"].pooled == 1
    assert low.to_dict()["threshold"] == 0.3
    curve = low.to_dict()["curve"]
    assert (curve["thresholds"][0], curve["thresholds"][-1], len(curve["thresholds"])) == (0.01, 0.99, 99)
    assert [curve["precision"][n] for n in (0, 38, 39)] == [1 / 8, 1 / 8, 1]  # level 100 is 0.390625
    assert [curve["recall"][n] for n in (0, 77, 78)] == [1, 1, 0]  # level 200 is 0.78125
    with pytest.raises(UsageError, match="threshold"):
        evaluate(only, [], origin=WEIGHTS, threshold=1.5)
    with pytest.raises(UsageError, match="tolerance"):
        evaluate(only, [], origin=WEIGHTS, tolerances=[-1])


def test_the_tolerance_names_its_scores(data):
    off = [(data.entries[0], rows_mask(7).astype(np.uint8) * 255)]  # 4 px below the truth
    only = Manifest(data.folder, data.entries[:1])
    near = evaluate(only, off, origin=WEIGHTS, tolerances=[4]).scores
    assert (near["f1_4px"].pooled, near["iou"].pooled) == (1, 0)
    assert evaluate(only, off, origin=WEIGHTS, tolerances=[3.5]).scores["f1_3.5px"].pooled == 0


def test_failures_do_not_stop_the_others(data):
    line, full, clean, label, unknown = data.entries
    predictions = [
        (line, InputError("broken", path=line.image)),
        (full, np.zeros((10, 8), np.uint8)),
        (clean, rows_mask().astype(np.uint8)),
        (clean, rows_mask(1).astype(np.uint8) * 255),  # a second answer is not counted
        (unknown, rows_mask(1).astype(np.uint8)),
    ]
    report = evaluate(data, predictions, origin=WEIGHTS)
    assert [row.image for row in report.rows] == [clean.image]
    assert report.measured.counts.fp == 0
    errors = {failure.image: str(failure.error) for failure in report.failures}
    assert errors.keys() == {line.image, full.image, label.image}
    assert "broken" in errors[line.image]
    assert "8 x 10 px" in errors[full.image]
    assert "10 x 8 px" in errors[full.image]
    assert "no prediction" in errors[label.image]
    assert [each["image"] for each in report.to_dict()["failures"]] == [line.image, full.image, label.image]


def test_what_an_evaluator_refuses_names_the_photo(data):
    """One that knows no files raised an error without any."""
    thin = Manifest(data.folder, (replace(data.entries[3], height=1), data.entries[0]))
    predictions = [
        (thin.entries[0], rows_mask(shape=(1, 10)).astype(np.uint8)),
        (thin.entries[1], rows_mask().astype(np.uint8)),
    ]
    report = evaluate(thin, predictions, origin=WEIGHTS, protocols=["fphbn"])
    assert str(report.failures[0].error).startswith(f"{data.folder / 'images/label.png'}: the picture is 1 x 10 px")


def test_a_truth_of_another_size_than_the_table_says_is_a_failure(data):
    write_mask(data.folder / "masks/line.png", rows_mask(1, shape=(4, 4)))
    report = evaluate(data, perfect(data), origin=WEIGHTS)
    assert [failure.image for failure in report.failures] == ["images/line.jpg"]
    assert "4 x 4 px" in str(report.failures[0].error)


def test_nothing_to_score(data):
    with pytest.raises(InputError, match="label uncracked"):
        evaluate(Manifest(data.folder, data.entries[4:]), [], origin=WEIGHTS)
    with pytest.raises(InputError, match="none of 4 images"):
        evaluate(data, [], origin=WEIGHTS)


@pytest.mark.parametrize("below", ["", "images"])
def test_masks_are_found_by_name(data, tmp_path, below):
    for each, levels in perfect(data):
        name = Path(below, *Path(each.image).parts[1:]).with_suffix(".png")
        write_mask(tmp_path / "out" / name, levels > 0)
    report = evaluate(data, predictions_from_masks(data, tmp_path / "out"), origin=masks_origin(tmp_path / "out"))
    assert report.failures == ()
    assert report.scores["iou"].pooled == 1
    assert "ods_0px" not in report.scores  # no thresholds in a binary mask
    assert report.to_dict()["curve"] is None
    assert report.to_dict()["threshold"] is None
    assert report.to_dict()["origin"]["name"] == str(tmp_path / "out")


def test_masks_that_cannot_be_used(data, tmp_path):
    out = tmp_path / "out"
    write_mask(out / "line.png", rows_mask(0, shape=(5, 5)))
    (out / "sub").mkdir()
    (out / "sub/full.png").write_bytes(encode_png(np.ones(SHAPE, np.uint8)))
    (out / "clean.png").write_bytes(b"not a picture")
    predictions = list(predictions_from_masks(data, out))
    errors = {each.image: levels for each, levels in predictions}
    assert isinstance(errors["images/line.jpg"], np.ndarray)  # its size is judged beside the truth
    assert "without a value above 1" in str(errors["images/sub/full.png"])
    assert "not a picture" in str(errors["images/clean.png"])
    assert "no mask for this image" in str(errors["images/label.png"])
    assert "label.png" in errors["images/label.png"].remedy
    with pytest.raises(InputError, match="5 x 5 px"):
        evaluate(data, predictions, origin=masks_origin(out))


@pytest.mark.parametrize(("palette", "value"), [([0, 0, 0, 128, 0, 0], 38), ([0, 0, 0, 100, 100, 100], 100)])
def test_dark_masks_are_not_taken_for_empty_ones(data, tmp_path, palette, value):
    dark = PillowImage.fromarray(rows_mask(3).astype(np.uint8), "P")
    dark.putpalette(palette)
    dark.save(tmp_path / "line.png")
    _, error = next(predictions_from_masks(data, tmp_path))
    assert f"line.png: a mask without a value above {value}, expected 0 and 255" in str(error)


def test_labels_and_photos_are_not_taken_for_masks(data, tmp_path):
    labels = rows_mask(3).astype(np.uint8) + 2 * rows_mask(5).astype(np.uint8)
    (tmp_path / "line.png").write_bytes(encode_png(labels))
    (tmp_path / "sub").mkdir()
    photo = np.random.default_rng(0).integers(60, 200, (*SHAPE, 3)).astype(np.uint8)
    (tmp_path / "sub/full.png").write_bytes(encode_png(photo))
    (_, label_error), (_, photo_error), *_ = predictions_from_masks(data, tmp_path)
    assert "a mask without a value above 2, expected 0 and 255" in str(label_error)
    assert "neither black nor white" in str(photo_error)


def test_probabilities_are_not_taken_for_masks(data, tmp_path):
    name = Path(data.entries[0].image).stem
    write_mask(tmp_path / f"{name}.png", np.zeros(SHAPE, bool))
    write_mask(tmp_path / f"{name}.probs.png", np.ones(SHAPE, bool))
    assert not next(predictions_from_masks(data, tmp_path))[1].any()
    assert next(predictions_from_probs(data, tmp_path))[1].all()


def test_maps_that_cannot_be_opened_fail_alone(data, tmp_path):
    one, two, *_ = ((tmp_path / entry.image).with_suffix("") for entry in data.entries)
    for path in (one, two):
        path.parent.mkdir(parents=True, exist_ok=True)
    one.with_suffix(".npy").write_bytes(b"")
    two.with_suffix(".png").symlink_to(tmp_path / "nowhere")
    found = [levels for _, levels in predictions_from_probs(data, tmp_path)]
    assert all(isinstance(levels, InputError) for levels in found)
    assert [str(levels).count("cannot be read") for levels in found[:2]] == [1, 1]


def test_png_is_preferred_and_jpeg_noise_is_cut(data, tmp_path):
    only = Manifest(data.folder, data.entries[:1])
    grey = rows_mask(3).astype(np.uint8) * 200 + 20
    PillowImage.fromarray(grey).save(tmp_path / "line.jpg", quality=95)
    (_, levels) = next(predictions_from_masks(only, tmp_path))
    np.testing.assert_array_equal(levels, rows_mask(3) * np.uint8(255))
    write_mask(tmp_path / "line.png", rows_mask(6))
    (_, levels) = next(predictions_from_masks(only, tmp_path))
    np.testing.assert_array_equal(levels, rows_mask(6) * np.uint8(255))


def test_a_missing_folder_is_said_at_once(data, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no such folder"):
        predictions_from_masks(data, tmp_path / "nowhere")
    with pytest.raises(InputError, match="no mask"):
        predictions_from_masks(data, empty)


class FakePredictor:
    class network:  # noqa: N801
        digest = "abcd"

    def settings(self):
        return {"tile": 64, "overlap": 0.25, "threshold": 0.4}

    def stream(self, items, read):
        for item in items:
            try:
                yield item, read(item)[..., 0]  # grey 90 everywhere
            except InputError as error:
                yield item, error


def test_a_predictor_sees_only_what_can_be_scored(data):
    (data.folder / "images/clean.png").write_bytes(b"")
    predictor = FakePredictor()
    origin = model_origin(predictor, "mine.safetensors")
    report = evaluate(data, predictions_from_model(data, predictor), origin=origin, threshold=0.3)
    assert [row.image for row in report.rows] == ["images/line.jpg", "images/sub/full.png", "images/label.png"]
    assert report.measured.counts == Counts(tp=10 + 80, fp=70 + 80, fn=0, tn=0)
    assert "empty" in str(report.failures[0].error)
    assert report.to_dict()["origin"] == {
        "kind": "weights",
        "name": "mine.safetensors",
        "digest": "abcd",
        "settings": {"tile": 64, "overlap": 0.25},
    }


def enlarged(mask):
    return mask.repeat(4, axis=0).repeat(4, axis=1)


@pytest.fixture
def degraded(data):
    """The same images as if they were degraded: true masks of 4 times their sides."""
    for each in data.entries:
        if each.mask:
            write_mask(data.folder / each.mask, enlarged(TRUTHS[Path(each.image).stem]))
    return data


def test_a_degraded_image_is_scored_at_the_size_of_its_truth(degraded):
    line = np.zeros((32, 40), bool)
    line[12:14] = True  # the upper half of the 4 rows of the truth
    predictions = [(each, enlarged(levels)) for each, levels in perfect(degraded)]
    predictions[0] = predictions[0][0], line.astype(np.uint8) * 255
    report = evaluate(degraded, predictions, origin=WEIGHTS)
    assert report.failures == ()
    assert report.measured.counts == Counts(tp=80 + 1280, fp=0, fn=80, tn=1120 + 2 * 1280)
    assert [row.scores["iou"] for row in report.rows] == [0.5, 1, 1, 1]
    np.testing.assert_array_equal(report.mask(report.rows[0]), line)
    np.testing.assert_array_equal(report.truth(report.rows[0]), enlarged(TRUTHS["line"]))
    assert (
        report.truth(report.rows[3]).shape == report.mask(report.rows[3]).shape == (32, 40)
    )  # known by its label alone


def test_masks_of_four_times_the_side_are_read_for_degraded_images(degraded, tmp_path):
    for each, levels in perfect(degraded):
        write_mask(tmp_path / "out" / f"{Path(each.image).stem}.png", enlarged(levels) > 0)
    (tmp_path / "out" / "sub").mkdir()
    (tmp_path / "out" / "full.png").rename(tmp_path / "out" / "sub" / "full.png")
    report = evaluate(degraded, predictions_from_masks(degraded, tmp_path / "out"), origin=masks_origin("out"))
    assert (report.failures, report.scores["iou"].pooled) == ((), 1)


def test_predictions_of_another_size_than_the_truth_are_told_what_to_do(degraded):
    line, full = degraded.entries[:2]
    write_mask(degraded.folder / full.mask, TRUTHS["full"])
    small, large = np.zeros(SHAPE, np.uint8), np.zeros((32, 40), np.uint8)
    degraded = Manifest(degraded.folder, (line, full, degraded.entries[3]))
    clean = (degraded.entries[2], small)
    report = evaluate(degraded, [(line, small), (full, large), clean], origin=WEIGHTS)
    path = degraded.folder / "masks"
    assert [str(failure.error) for failure in report.failures] == [
        f"{path / 'line.png'}: the true mask is 40 x 32 px, expected 10 x 8 "
        "(the photo is degraded: use a network that enlarges it by 4, such as csbsr_pspnet)",
        f"{path / 'sub' / 'full.png'}: the true mask is 10 x 8 px, expected 40 x 32 "
        "(the prediction has 4 times the photo's sides: prepare the data set with --degrade)",
    ]
    twice = evaluate(degraded, [(full, np.zeros((16, 20), np.uint8)), clean], origin=WEIGHTS)
    assert "the prediction of fake is 20 x 16 px, the truth 10 x 8 px" in str(twice.failures[1].error)


def test_rows_keep_the_predicted_mask(data):
    report = evaluate(data, perfect(data), origin=WEIGHTS)
    for row in report.rows:
        np.testing.assert_array_equal(report.mask(row), TRUTHS.get(Path(row.image).stem, rows_mask()))
        np.testing.assert_array_equal(report.truth(row), report.mask(row))


def test_the_interval_is_by_group(tmp_path):
    entries = tuple(entry(f"images/{n}.png", mask=False, label="uncracked", group=str(n // 2)) for n in range(6))
    predictions = [(each, rows_mask().astype(np.uint8)) for each in entries]
    report = evaluate(Manifest(tmp_path, entries), predictions, origin=WEIGHTS)
    assert report.scores["iou"].pooled_ci95 == (1, 1)
    assert report.to_dict()["intervals"]["groups"] == 3
    one = Manifest(tmp_path, entries[:2])
    scores = evaluate(one, predictions, origin=WEIGHTS).scores
    assert scores["iou"].pooled_ci95 is scores["iou"].empty_is_one.ci95 is scores["false_alarm"].pooled_ci95 is None


def test_the_report_is_repeatable_whatever_the_order(data):
    predictions = list(perfect(data))
    texts = [
        json.dumps(evaluate(data, order, origin=WEIGHTS).to_dict(), allow_nan=False)
        for order in (predictions, predictions[::-1], predictions)
    ]
    assert texts[0] == texts[1] == texts[2]


def test_masks_are_scored_where_torch_is_blocked(data, tmp_path):
    write_manifest(data.folder / "manifest.csv", data.entries)
    assert read_manifest(data.folder).entries[0].image == "images/line.jpg"
    for each, levels in perfect(data):
        write_mask(tmp_path / "out" / Path(*Path(each.image).parts[1:]).with_suffix(".png"), levels > 0)
    code = """
import sys
for name in ("torch", "torchvision", "timm", "matplotlib"):
    sys.modules[name] = None
from cracktool.evaluation import evaluate, masks_origin, predictions_from_masks
from cracktool.manifest import read_manifest
from cracktool.report import score_table
part = read_manifest(sys.argv[1]).split("test")
report = evaluate(part, predictions_from_masks(part, sys.argv[2]), origin=masks_origin(sys.argv[2]))
print(score_table(report)[1])
"""
    arguments = [sys.executable, "-c", code, str(data.folder), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True)
    assert done.stdout.strip() == "('iou', '1.000 [1.000, 1.000]', '1.000', '1.000 ± 0.000', '1.000 ± 0.000')"
