from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from cracktool.errors import InputError, OutputError
from cracktool.evaluation import Origin, evaluate, masks_origin
from cracktool.evaluation.masks import packed
from cracktool.images import encode_png, read_image, write_mask
from cracktool.manifest import Entry, Manifest
from cracktool.report import (
    FORMATS,
    choose_rows,
    draw_comparison,
    plot_batch,
    plot_curves,
    report_page,
    score_table,
    write_report,
    write_table,
)
from cracktool.report.pictures import ALARM, FOUND, MISSED
from cracktool.report.plots import plot_confusion

SIDE = 64


def make_report(folder, *, count=7, shape=(SIDE, SIDE), origin=None):
    """Image n of `count` has a crack of n columns, all found, and 8 columns of false alarm; the first is empty."""
    entries, predictions = [], []
    for number in range(count):
        name = f"n{number}"
        entry = Entry(
            image=f"images/{name}.png",
            mask=f"masks/{name}.png",
            split="val",
            group=name,
            source="",
            height=shape[0],
            width=shape[1],
            crack_fraction=0,
            label="unknown",
            sha1="",
        )
        truth = np.zeros(shape, bool)
        truth[:, :number] = True
        predicted = truth.copy()
        if number:
            predicted[:, -8:] = True
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / entry.image).write_bytes(encode_png(np.full((*shape, 3), 120, np.uint8)))
        write_mask(folder / entry.mask, truth)
        entries.append(entry)
        predictions.append((entry, predicted.astype(np.uint8) * 255))
    origin = origin or Origin(kind="weights", name="fake")
    return evaluate(Manifest(folder, tuple(entries)), predictions, origin=origin)


@pytest.fixture
def report(tmp_path):
    return make_report(tmp_path / "data")


def test_images_of_one_stem_and_images_elsewhere_have_figures_of_their_own(report, tmp_path):
    """Nothing is written outside of the report: a photo there was once replaced by its figure."""
    places = ["images/x.png", "images/x.jpg", "images/sub/x.png", "x.png", "../x.png", str(tmp_path / "photos/x.png")]
    photo, rows = (report.manifest.folder / "images/n1.png").read_bytes(), []
    for row, place in zip(report.rows[1:], places, strict=True):
        path = report.manifest.folder / place
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photo)
        rows.append(replace(row, entry=replace(row.entry, image=place)))
        report.masks.keep(place, packed(report.mask(row)))
    written = write_report(replace(report, rows=tuple(rows)), tmp_path / "out").files
    figures = [path.relative_to(tmp_path / "out").as_posix() for path in written if "figures" in path.parts]
    elsewhere = f"figures{tmp_path}/photos/x.png"
    assert sorted(figures) == sorted(
        [*(f"figures/x{n}.png" for n in ("", "-2", "-3", "-4")), "figures/sub/x.png", elsewhere]
    )
    assert all(path.read_bytes() != photo for path in written)
    assert all((report.manifest.folder / place).read_bytes() == photo for place in places)


def test_report_files(report, tmp_path):
    out = tmp_path / "out"
    written = write_report(report, out)
    assert written.warnings == ()
    names = {path.relative_to(out).as_posix() for path in written.files}
    figures = {f"figures/n{number}.png" for number in range(1, 7)}  # n0 has nothing to show
    plots = {f"{name}.png" for name in ("confusion", "spread", "sweep", "reliability")}
    assert names == {"report.json", "per_image.csv", "report.html"} | plots | figures
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == names
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report.to_dict()))
    with (out / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    assert rows[2]["image"] == "images/n2.png"
    assert (rows[2]["tp"], rows[2]["fp"], rows[2]["positive"], rows[0]["positive"]) == ("128", "512", "1", "0")
    assert float(rows[2]["iou"]) == pytest.approx(2 / 10)
    assert float(rows[2]["f1_2px"]) == pytest.approx(1 / 3, abs=1e-6)


def test_a_data_set_is_called_by_its_folder_wherever_one_stands(report, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "data")
    here = replace(report, manifest=replace(report.manifest, folder=Path()))
    assert "<title>data, val: fake</title>" in report_page(here, [], [])


def test_names_that_are_not_unicode_are_written(tmp_path):
    try:
        odd = (tmp_path / "d\udcff").resolve()
        odd.mkdir()
    except OSError:
        pytest.skip("file names of this system are Unicode")
    report = make_report(odd, count=2)
    *_, page = write_report(report, tmp_path / "out").files
    assert "d?" in page.read_text()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["data"] == str(tmp_path / "d?")
    table, *_ = write_table([("iou",), (str(odd),)], tmp_path / "matrix")
    assert os.fsencode(odd) in table.read_bytes()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a_b&c", r"a\_b\&c"),
        ("5 % ± $1", r"5 \% $\pm$ \$1"),
        (r"C:\~x^{2}", r"C:\textbackslash{}\textasciitilde{}x\textasciicircum{}\{2\}"),
    ],
)
def test_no_sign_of_latex_is_left_in_a_table(name, text):
    assert f"\n{text} \\\\\n" in FORMATS["tex"]([("score",), (name,)])


def test_writing_twice_gives_the_same_bytes(report, tmp_path):
    first = write_report(report, tmp_path / "a", figures=1).files
    second = write_report(report, tmp_path / "b", figures=1).files
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_missing_photo_costs_only_its_figure(report, tmp_path):
    (tmp_path / "data/images/n3.png").unlink()
    (tmp_path / "data/images/n4.png").write_bytes(encode_png(np.zeros((3, 3, 3), np.uint8)))
    written = write_report(report, tmp_path / "out", figures=100)
    assert len(written.files) == 7 + 4
    assert len(written.warnings) == 2
    assert all("no figure" in warning for warning in written.warnings)
    assert "n3" in written.warnings[0]
    assert "n4" in written.warnings[1]


def test_a_folder_that_cannot_be_written(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_report(report, tmp_path / "file")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (3, [1, 3, 6]),
        (5, [1, 2, 3, 4, 6]),
        (6, [1, 2, 3, 4, 5, 6]),
        (100, [1, 2, 3, 4, 5, 6]),
        (0, []),
        (1, [1]),
    ],
)
def test_worst_median_and_best_are_chosen(report, count, expected):
    assert [row.image for row in choose_rows(report.rows, count)] == [f"images/n{number}.png" for number in expected]


def test_comparison_shows_each_outcome_in_its_colour(tmp_path):
    report = make_report(tmp_path, count=6, shape=(320, 320))
    row = report.rows[5]
    picture = draw_comparison(report, row)
    assert picture.shape == (640 + 90, 3 * 648 + 8, 3)
    top, panel = 54 + 320, 648  # halfway down; each pixel of the photo is 2 x 2 here
    assert tuple(picture[top, 8 + 100]) == (120, 120, 120)
    assert tuple(picture[top, 8 + panel + 4]) == (255, 255, 255)
    assert tuple(picture[top, 8 + panel + 638]) == (0, 0, 0)
    assert tuple(picture[top, 8 + 2 * panel + 4]) == FOUND
    assert tuple(picture[top, 8 + 2 * panel + 638]) == ALARM
    assert tuple(picture[top, 8 + 2 * panel + 100]) == (42, 42, 42)
    assert (picture == MISSED).all(axis=-1).sum() < 400  # only in the legend
    missed = make_report(tmp_path / "missed", count=6, shape=(320, 320), origin=masks_origin("m"))
    truth = np.ones((320, 320), bool)
    write_mask(tmp_path / "missed/masks/n5.png", truth)
    assert tuple(draw_comparison(missed, missed.rows[5])[top, 8 + 2 * panel + 100]) == MISSED


def test_a_degraded_photo_is_drawn_at_the_size_of_its_masks(tmp_path):
    report = make_report(tmp_path, count=2, shape=(80, 80))
    entry = report.manifest.entries[1]
    photo = np.full((80, 80, 3), 120, np.uint8)
    photo[:, 40] = 60
    (tmp_path / entry.image).write_bytes(encode_png(photo))
    truth = np.zeros((320, 320), bool)
    truth[:, 0] = True
    write_mask(tmp_path / entry.mask, truth)
    predicted = truth.copy()
    predicted[:, 319] = True
    report = evaluate(report.manifest, [(entry, predicted.astype(np.uint8) * 255)], origin=report.origin)
    picture = draw_comparison(report, report.rows[0])
    assert picture.shape == (640 + 90, 3 * 648 + 8, 3)
    panels = [picture[54 + 320, 8 + 648 * number : 8 + 648 * number + 640] for number in range(3)]
    dark = (panels[0] == 60).all(axis=-1)
    assert dark.nonzero()[0].tolist() == list(range(320, 328))  # one pixel of the photo, enlarged by 4 and by 2
    assert (panels[1] == 255).all(axis=-1).nonzero()[0].tolist() == [0, 1]
    assert (panels[2] == ALARM).all(axis=-1).nonzero()[0].tolist() == [638, 639]
    write_report(report, tmp_path / "out")
    with (tmp_path / "out" / "per_image.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["height"], row["width"], row["tn"]) == ("320", "320", str(318 * 320))


def test_a_hairline_of_a_large_photo_stays_visible(tmp_path):
    report = make_report(tmp_path, count=2, shape=(1900, 2500))
    picture = draw_comparison(report, report.rows[1])  # the crack is one column of 2500
    assert picture.shape == (486 + 90, 3 * 648 + 8, 3)
    assert (picture[54 : 54 + 486, 8 + 648] == 255).all()
    assert (picture[54 : 54 + 486, 8 + 2 * 648] == 255).all()


def test_figure_of_a_narrow_photo_has_room_for_its_text(tmp_path):
    report = make_report(tmp_path, count=2, shape=(640, 20))
    row = report.rows[1]
    renamed = f"images/{'long ' * 20}\n.png"
    report.masks.keep(renamed, packed(report.mask(row)))
    pictures = [draw_comparison(report, row)]
    (tmp_path / row.image).rename(tmp_path / renamed)
    pictures.append(draw_comparison(report, replace(row, entry=replace(row.entry, image=renamed))))
    for picture in pictures:
        assert picture.shape[1] >= 3 * 338 + 8
        assert (picture[:26, :-8] < 128).any()
        assert (picture[:26, -8:] == 255).all()  # the scores behind the name are not cut off


def test_confusion_picture(report, tmp_path):
    plot_confusion(report, tmp_path / "confusion.png")
    picture = read_image(tmp_path / "confusion.png")
    assert picture.shape == (840, 900, 3)
    assert picture.std() > 20


def test_table(report):
    head, *table = score_table(report)
    assert all(len(row) == len(head) for row in table)
    lines = {row[0]: row[1:] for row in table}
    pooled = report.scores["iou"].pooled
    low, high = report.scores["iou"].pooled_ci95
    assert lines["iou"][0] == f"{pooled:.3f} [{low:.3f}, {high:.3f}]"
    assert lines["iou"][2] != lines["iou"][3]  # the empty image counts under the first rule only
    best, (low, high) = report.scores["ods_0px"].pooled, report.scores["ods_0px"].pooled_ci95
    assert lines["ods_0px"][0] == f"{best:.3f} [{low:.3f}, {high:.3f}]"
    assert lines["ods_0px"][2:] == ("", "")
    assert lines["ois_0px"][0] == ""
    assert list(lines) == list(report.scores)


EPOCHS = [{"epoch": n, "train_loss": 1 / n, "val_iou": 0.1 * n, "best": True, "lr": 0.1} for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "rows",
    [
        EPOCHS,
        EPOCHS[:1],
        [{"step": n, "loss": 1 / n} for n in range(1, 60)],
        [{"epoch": 1, "train_loss": 1.0, "val_iou": ""}, {"epoch": 2, "train_loss": None, "val_iou": 0.2}],
    ],
)
def test_curves(tmp_path, rows):
    plot_curves(rows, tmp_path / "curves.png")
    assert read_image(tmp_path / "curves.png").shape == (504, 1320, 3)


def test_curves_of_other_rows_differ(tmp_path):
    texts = [{name: str(value) for name, value in row.items()} for row in EPOCHS]  # as a CSV reader gives them
    for rows, name in ((texts, "a.png"), (EPOCHS, "b.png"), (EPOCHS[:2], "c.png")):
        plot_curves(rows, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


@pytest.mark.parametrize("rows", [[], [{"loss": "1"}], [{"epoch": "1", "loss": "much"}]])
def test_rows_without_a_curve_are_refused(tmp_path, rows):
    with pytest.raises(InputError, match="no training curve"):
        plot_curves(rows, tmp_path / "curves.png")


@pytest.mark.parametrize(("count", "size"), [(1, (300, 464)), (8, (964, 920)), (40, (1892, 1832))])
def test_batch(tmp_path, count, size):
    images = np.full((count, 100, 100, 3), 100, np.uint8)
    masks = np.zeros((count, 100, 100), bool)
    masks[:, 50] = True
    plot_batch(images, masks, tmp_path / "batch.png")
    with PillowImage.open(tmp_path / "batch.png") as picture:
        pixels = np.array(picture)
        assert picture.mode == "RGB"
    magenta = (pixels == (255, 0, 200)).all(axis=-1)
    shown = min(count, 32)
    assert magenta.sum() == shown * 2 * 200  # a line above and below each mask, 200 px long at double size
    assert not magenta[:, : 8 + 200].any()  # the left of each pair stays as the network sees it
