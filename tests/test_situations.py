import json

import numpy as np
import pytest

from cracktool.datasets.prepare import prepare
from cracktool.datasets.situations import label_of
from cracktool.errors import InputError
from cracktool.evaluation import evaluate, masks_origin, predictions_from_masks
from cracktool.images import encode_png
from cracktool.manifest import read_manifest
from cracktool.report import group_tables

FOLDERS = {
    "pure crack": "cracked",
    "like crack": "uncracked",
    "moss": "cracked",
    "noise": "cracked",
    "no crack": "uncracked",
    "large context": "cracked",
}


def put(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)))


def table_of(result):
    return {entry.image: entry for entry in read_manifest(result.manifest).entries}


def test_folders_are_situations(tmp_path):
    for seed, folder in enumerate(FOLDERS):
        put(tmp_path / "raw" / folder / "1.png", seed)
        put(tmp_path / "raw" / folder / "deep" / "2.png", 50 + seed)
    result = prepare("situations", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 0, "val": 0, "test": 12}
    assert result.warnings == result.failures == ()
    for folder, label in FOLDERS.items():
        entry = table_of(result)[f"images/{folder}_1.png"]
        assert (entry.origin, entry.label, entry.mask) == (folder, label, "")
        assert table_of(result)[f"images/{folder}_2.png"].origin == folder


def test_names_are_situations_but_for_their_numbers(tmp_path):
    names = ["crack_with_moss_01", "crack_with_moss_100", "noncrack_01", "noncrack_02", "like crack (3)", "pure_crack7"]
    for seed, name in enumerate(names):
        put(tmp_path / "raw" / f"{name}.png", seed)
    table = table_of(prepare("situations", tmp_path / "raw", tmp_path / "out"))
    assert {image[7:-4]: (entry.origin, entry.label) for image, entry in table.items()} == {
        "crack_with_moss_01": ("crack_with_moss", "cracked"),
        "crack_with_moss_100": ("crack_with_moss", "cracked"),
        "noncrack_01": ("noncrack", "uncracked"),
        "noncrack_02": ("noncrack", "uncracked"),
        "like crack (3)": ("like crack", "uncracked"),
        "pure_crack7": ("pure_crack", "cracked"),
    }


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("uncracked", "uncracked"),
        ("Non-crack", "uncracked"),
        ("not_a_crack", "uncracked"),
        ("without_cracks", "uncracked"),
        ("concrete_no_crack", "uncracked"),
        ("crack_free", "uncracked"),
        ("crack-like", "uncracked"),
        ("Cracks in tunnels", "cracked"),
        ("walls", "unknown"),
    ],
)
def test_labels_of_names(name, label):
    assert label_of(name) == label


def test_a_situation_that_tells_nothing_is_said(tmp_path):
    put(tmp_path / "raw" / "walls" / "a.png")
    result = prepare("situations", tmp_path / "raw", tmp_path / "out")
    assert [line.endswith("so that they are not scored: walls") for line in result.warnings] == [True]


def test_folders_without_situations_are_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError, match=r"no pictures in here \(expected: folders pure_crack/"):
        prepare("situations", tmp_path / "raw", tmp_path / "out")
    for name in ("wall", "road"):
        put(tmp_path / "raw" / f"{name}.png")
    with pytest.raises(InputError, match="no two photos here share a situation"):
        prepare("situations", tmp_path / "raw", tmp_path / "out")


def test_false_alarms_are_told_by_situation(tmp_path):
    for seed, name in enumerate(["like_crack_1", "like_crack_2", "noncrack_1", "pure_crack_1"]):
        put(tmp_path / "raw" / f"{name}.png", seed)
        mask = np.zeros((40, 50), np.uint8)
        mask[:4] = 255 * (name == "like_crack_2")
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "masks" / f"{name}.png").write_bytes(encode_png(mask))
    manifest = read_manifest(prepare("situations", tmp_path / "raw", tmp_path / "out").manifest)
    predictions = predictions_from_masks(manifest, tmp_path / "masks")
    report = evaluate(manifest, predictions, origin=masks_origin(tmp_path / "masks"))
    assert (len(report.rows), report.skipped) == (3, 1)
    (table,) = group_tables(report)
    assert table[1:] == [
        ("like_crack", "2", "0", "-", "-", "-", "-", "5.00%"),
        ("noncrack", "1", "0", "-", "-", "-", "-", "0.00%"),
    ]
    assert report.scores["false_alarm"].pooled == pytest.approx(0.1 / 3)
    told = json.loads(json.dumps(report.to_dict()))["groups"]["origin"]
    assert told["like_crack"] == {
        "images": 2, "positives": 0, "iou": None, "precision": None, "recall": None, "cldice": None,
        "false_alarm": 0.05,
    }  # fmt: skip


def test_the_robustness_photos(shared, tmp_path):
    result = prepare("situations", shared / "data" / "photos" / "situations", tmp_path / "out", dry_run=True)
    assert result.counts["test"] == 83
    assert result.failures == ()
