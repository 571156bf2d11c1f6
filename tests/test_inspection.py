"""Inspections: records beside the masks, tables with a fixed schema, resuming, pairing, and input that is bad."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from measured import SHAPE, make_pair, photo_and_mask, record_of, save_photo
from PIL import Image as PillowImage

from cracktool.errors import CrackError, InputError, OutputError, UsageError
from cracktool.images import read_image, write_mask
from cracktool.inspection import (
    CRACKS,
    PHOTOS,
    POINTS,
    Inspected,
    InspectionOptions,
    Pair,
    check_formats,
    find_pairs,
    inspect_photo,
    inspect_photos,
    parse_length,
    parse_settings,
    pixels,
    preview,
    read_record,
    write_collected,
)
from cracktool.inspection.ledger import FILE_NAME, Ledger
from cracktool.inspection.positions import read_position
from cracktool.inspection.preview import photo_preview
from cracktool.inspection.schema import columns
from cracktool.measuring import read_severity


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def collected(pairs, options=None, formats=(), **more):
    records = [inspect_photo(pair, options or InspectionOptions()).path for pair in pairs]
    written, failures = write_collected(pairs[0].place.parent, records, formats, **more)
    assert failures == []
    return {path.name: path for path in written}


def test_a_record_says_what_was_measured(tmp_path):
    record = record_of(make_pair(tmp_path), mm_per_px=0.5, scale_std=0.02, severity=read_severity("en1992-1-1"))
    (crack,) = record.cracks
    assert record.row["cracks"] == 1
    assert (record.row["height_px"], record.row["width_px"]) == SHAPE
    assert crack.row["length_px"] == pytest.approx(120, rel=0.02)
    assert crack.row["length_mm"] == pytest.approx(crack.row["length_px"] / 2, rel=1e-3)
    assert crack.row["width_mean_mm"] == pytest.approx(2, abs=0.1)
    assert crack.row["width_mean_low_mm"] < 2 < crack.row["width_mean_high_mm"]
    assert (crack.row["scale_source"], crack.row["mm_per_px"], crack.row["scale_relative_std"]) == ("given", 0.5, 0.02)
    assert crack.row["severity"] == "above 0.4 mm"
    assert crack.row["severity_profile"].endswith("version 1")
    (line,) = crack.lines
    assert len({len(each) for each in vars(line).values()}) == 1
    assert line.mm_per_px == pytest.approx([0.5] * len(line.x))
    assert np.hypot(line.x[-1] - line.x[0], line.y[-1] - line.y[0]) == pytest.approx(120, rel=0.02)


def test_tables_have_the_columns_of_the_schema_in_order(tmp_path):
    pairs = [make_pair(tmp_path, "a"), make_pair(tmp_path, "b", angle=70)]
    for scaled in (False, True):
        options = InspectionOptions(mm_per_px=0.1 if scaled else None)
        found = collected(pairs, options, ["points"])
        for name, table in (("cracks.csv", CRACKS), ("photos.csv", PHOTOS), ("points.csv", POINTS)):
            head = found[name].read_text().splitlines()[0].split(",")
            assert head == columns(table, scaled=scaled)
            assert any("mm" in column for column in head) == scaled
    assert [row["photo"][-5:] for row in rows(found["cracks.csv"])] == ["a.png", "b.png"]


def test_names_of_files_are_no_formulas_to_spreadsheets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_pair(tmp_path, "=1+1")
    Path("photos/=1+1.png").rename("=1+1.png")
    Path("masks/=1+1.png").rename("+.png")
    found = collected([Pair(Path("+.png"), Path("=1+1.png"), tmp_path / "found" / "=1+1", "=1+1")])
    (photo,), (crack,) = rows(found["photos.csv"]), rows(found["cracks.csv"])
    assert (photo["photo"], photo["mask"], crack["photo"]) == ("./=1+1.png", "./+.png", "./=1+1.png")
    assert crack["id"].startswith("./=1+1/x")
    assert json.loads(found["cracks.jsonl"].read_text())["photo"] == "=1+1.png"


def test_units_in_the_tables_fit_together(tmp_path):
    found = collected([make_pair(tmp_path)], InspectionOptions(mm_per_px=0.5, scale_std=0.1), ["points"])
    (crack,) = rows(found["cracks.csv"])
    points = rows(found["points.csv"])
    measured = [row for row in points if row["verdict"] == "measured"]
    assert len(measured) == int(crack["width_points"])
    assert all(row["width_px"] == "" for row in points if row not in measured)
    mean = np.mean([float(row["width_mm"]) for row in measured])
    assert mean == pytest.approx(float(crack["width_mean_mm"]), rel=1e-3)
    for row in measured:
        px, mm = (float(row[f"width_high_{unit}"]) / float(row[f"width_{unit}"]) for unit in ("px", "mm"))
        assert np.log(mm) == pytest.approx(np.hypot(np.log(px), 0.196), abs=0.01)
    assert float(points[-1]["along_px"]) == pytest.approx(float(crack["length_px"]), rel=0.01)


def test_json_lines_hold_the_same_and_the_lines(tmp_path):
    found = collected([make_pair(tmp_path), make_pair(tmp_path, "b")])
    objects = [json.loads(line) for line in found["cracks.jsonl"].read_text().splitlines()]
    for each, row in zip(objects, rows(found["cracks.csv"]), strict=True):
        assert each["schema"] == "cracktool-cracks/3"
        assert {key: "" if each[key] is None else str(each[key]) for key in row} == row
        assert len(each["lines"][0]["x"]) == len(each["lines"][0]["width"]) > 20
    assert len(found["photos.jsonl"].read_text().splitlines()) == 2


def test_ids_stay_when_something_else_is_found(tmp_path):
    pair = make_pair(tmp_path, "wall/a")
    (before,) = record_of(pair).cracks
    mask = photo_and_mask()[1]
    mask[5:8, 5:60] = True
    write_mask(pair.mask, mask)
    after = record_of(pair).cracks
    assert len(after) == 2
    assert [crack.row["crack"] for crack in after] == [1, 2]
    assert before.row["id"] == after[1].row["id"]
    assert before.row["id"].startswith("wall/a/x")
    assert before.lines[0].x == after[1].lines[0].x
    assert before.lines[0].y == after[1].lines[0].y


def test_finished_work_is_kept_and_changed_work_is_not(tmp_path):
    pair = make_pair(tmp_path)
    first = inspect_photo(pair, InspectionOptions())
    state = first.path.stat().st_mtime_ns
    again = inspect_photo(pair, InspectionOptions())
    assert (first.reused, again.reused) == (False, True)
    assert again.row == first.row
    assert first.path.stat().st_mtime_ns == state
    assert not inspect_photo(pair, InspectionOptions(), overwrite=True).reused
    assert not inspect_photo(pair, InspectionOptions(bridge=0)).reused
    write_mask(pair.mask, photo_and_mask(angle=60)[1])
    assert not inspect_photo(pair, InspectionOptions(bridge=0)).reused


def test_a_stopped_run_ends_like_an_undisturbed_one(tmp_path):
    pairs = [make_pair(tmp_path, name, angle=20 * at) for at, name in enumerate("abc")]
    whole = {name: path.read_bytes() for name, path in collected(pairs, formats=["points", "svg"]).items()}
    record = pairs[1].record
    content = record.read_bytes()
    record.unlink()
    (tmp_path / "found" / "cracks.csv").write_bytes(b"torn")
    ledger = (tmp_path / "found" / FILE_NAME).read_text().splitlines()
    (tmp_path / "found" / FILE_NAME).write_text("\n".join(ledger[:1]) + '\n{"file": "photos.csv"')
    for name in set(whole) - {"cracks.csv"}:
        (tmp_path / "found" / name).unlink()
    after = {name: path.read_bytes() for name, path in collected(pairs, formats=["points", "svg"]).items()}
    assert after == whole
    assert record.read_bytes() == content


def test_files_of_others_are_not_replaced(tmp_path):
    pair = make_pair(tmp_path)
    out = tmp_path / "found"
    (out / "cracks.csv").write_text("mine")
    record = inspect_photo(pair, InspectionOptions()).path
    written, (error,) = write_collected(out, [record], ["points"])
    assert "cracks.csv: exists already, and is not this tool's work" in str(error)
    assert [path.name for path in written] == ["photos.csv", "cracks.jsonl", "photos.jsonl", "points.csv"]
    assert (out / "cracks.csv").read_text() == "mine"
    assert write_collected(out, [record], overwrite=True)[1] == []
    (out / "photos.csv").write_text("edited")
    assert "photos.csv: exists already, and was changed since" in str(write_collected(out, [record])[1][0])
    record.write_text("mine")
    with pytest.raises(OutputError, match=r"a\.cracks\.json: cannot be replaced: it holds no measurements"):
        inspect_photo(pair, InspectionOptions())
    assert record.read_text() == "mine"


def test_a_changed_file_keeps_no_other_from_being_written(tmp_path):
    pairs = [make_pair(tmp_path, name) for name in ("a", "b")]
    records = [inspect_photo(pair, InspectionOptions()).path for pair in pairs]
    out = pairs[0].place.parent
    (out / "a.labelme.json").write_text("mended by hand")
    written, (error,) = write_collected(out, records, ["labelme"])
    assert "a.labelme.json: exists already" in str(error)
    assert "b.labelme.json" in {path.name for path in written}


def test_each_page_is_measured_with_its_own_mask(tmp_path):
    picture, mask = photo_and_mask()
    blank = np.full_like(picture, 128)
    pages = [PillowImage.fromarray(each) for each in (blank, picture)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    write_mask(tmp_path / "two.page1.png", mask)
    photo = tmp_path / "two.tif"
    pairs = [Pair(tmp_path / "two.page1.png", photo, tmp_path / f"found{page}", "two", page) for page in (0, 1)]
    found = [inspect_photo(pair, InspectionOptions()) for pair in pairs]
    blind, seen = (read_record(each.path) for each in found)
    assert (blind.page, seen.page) == (0, 1)
    assert blind.row["width_max_px"] is None
    assert seen.row["width_max_px"] is not None


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_photo_that_was_let_in_is_measured_and_shown_whatever_its_size(tmp_path, monkeypatch, suffix):
    pair = make_pair(tmp_path, suffix=suffix)
    monkeypatch.setitem(read_image.__kwdefaults__, "max_pixels", 1000)
    for module in (pixels, preview):
        monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    assert record_of(pair).row["cracks"] == 1
    assert photo_preview(pair.photo, 640)
    write_mask(pair.mask, np.zeros((20, 20), bool))
    with pytest.raises(InputError, match=r"0\.032 megapixels are more than the limit of 0\.001"):
        inspect_photo(pair, InspectionOptions(), overwrite=True)


def test_a_claimed_file_may_be_replaced_after_a_crash(tmp_path):
    Ledger(tmp_path).claim(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("half")
    assert Ledger(tmp_path).claim(tmp_path / "x.csv") == tmp_path / "x.csv"


def test_what_fails_does_not_stop_the_others(tmp_path):
    good, torn, other = (make_pair(tmp_path, name) for name in ("good", "torn", "other"))
    torn.photo.write_bytes(torn.photo.read_bytes()[:200])
    save_photo(other.photo, np.full((30, 30), 9, np.uint8))
    missing = Pair(good.mask, tmp_path / "nowhere.jpg", tmp_path / "found" / "missing", "missing")
    passed_on = InputError("no mask", path="x")
    items = [torn, passed_on, other, None, missing, good]
    results = [done for _, done in inspect_photos(items, lambda item: item, InspectionOptions())]
    assert [type(each) for each in results] == [InputError, InputError, InputError, type(None), InputError, Inspected]
    lines = [str(each) for each in results if isinstance(each, CrackError)]
    assert "torn.png: " in lines[0]
    assert lines[1] == "x: no mask"
    assert "other.png: the photo is 30x30 px and its mask 200x160" in lines[2]
    assert "nowhere.jpg: cannot be read" in lines[3]


@pytest.mark.parametrize("kind", ["empty", "blob", "specks", "border"])
def test_odd_masks_give_a_record_and_tables(tmp_path, kind):
    pair = make_pair(tmp_path)
    mask = np.zeros(SHAPE, bool)
    if kind == "blob":
        mask[:] = True
    if kind == "specks":
        mask[::3, ::3] = True
    if kind == "border":
        mask[:3] = True
    write_mask(pair.mask, mask)
    found = collected(
        [pair], InspectionOptions(mm_per_px=1), check_formats(["points,svg,dxf,coco,labelme,cvat,report"])
    )
    (photo,) = rows(found["photos.csv"])
    assert int(photo["area_px2"]) == mask.sum()
    assert int(photo["cracks"]) == len(rows(found["cracks.csv"])) == (kind in ("blob", "border"))
    assert ("one blob" in photo["notes"]) == (kind == "blob")
    assert ("specks are not listed" in photo["notes"]) == (kind == "specks")


@pytest.mark.slow
def test_a_hundred_thousand_specks(tmp_path):
    pair = make_pair(tmp_path)
    mask = np.zeros((1300, 1300), bool)
    mask[::4, ::4] = True
    save_photo(pair.photo, np.full(mask.shape, 140, np.uint8))
    write_mask(pair.mask, mask)
    record = record_of(pair)
    assert record.row["specks"] == 325**2 > 100_000
    assert record.cracks == ()


def test_masks_without_photos(tmp_path):
    make_pair(tmp_path, "b/a")
    (pair,) = find_pairs([], tmp_path / "masks", tmp_path / "found")
    assert (pair.photo, pair.name) == (None, "b/a")
    record = record_of(pair)
    assert record.row["notes"] == "no photo: widths are those of the mask"
    assert record.cracks[0].row["width_max_px"] is None
    assert record.cracks[0].row["mask_width_mean_px"] == pytest.approx(4, abs=0.3)


def test_photos_are_paired_with_masks_by_place(tmp_path):
    both, lonely = make_pair(tmp_path, "in/both"), make_pair(tmp_path, "in/no_mask")
    lonely.mask.rename(tmp_path / "masks" / "in" / "no_photo.png")
    (tmp_path / "masks" / "in" / "both.probs.png").write_bytes(both.mask.read_bytes())
    pair, no_mask, no_photo = find_pairs([tmp_path / "photos"], tmp_path / "masks", tmp_path / "found")
    assert (pair.photo, pair.mask) == (both.photo, both.mask)
    assert "no_mask.png: there is no mask for it in" in str(no_mask)
    assert "no_photo.png: there is no photo for this mask" in str(no_photo)
    with pytest.raises(InputError, match="no such folder of masks"):
        find_pairs([], tmp_path / "nowhere", tmp_path / "found")


def test_a_mask_larger_than_its_photo_is_measured_on_the_enlarged_photo(tmp_path):
    pair = make_pair(tmp_path, width=8.0)
    photo, mask = photo_and_mask(width=8.0)
    small = photo.reshape(80, 2, 100, 2).mean(axis=(1, 3)).round().astype(np.uint8)
    save_photo(pair.photo, small)
    write_mask(pair.mask, mask)
    crack = record_of(pair, mm_per_px=1.0).cracks[0].row
    assert crack["mm_per_px"] == 0.5
    assert crack["length_mm"] == pytest.approx(60, rel=0.03)
    assert crack["width_mean_mm"] == pytest.approx(4, abs=0.2)


def test_scales_that_fail_are_remarks_and_those_that_contradict_are_errors(tmp_path):
    pair = make_pair(tmp_path)
    record = record_of(pair, scale_from=("aruco:20",), severity=read_severity("aci224r"))
    assert "no ArUco marker was found" in record.row["notes"]
    assert "no scale: no severity" in record.row["notes"]
    assert not record.scaled
    assert "severity" not in record.cracks[0].row
    exif = make_pair(tmp_path, "e", suffix=".jpg", exif=exif_of({0xA405: 28}))
    assert record_of(exif, distance=1000.0).cracks[0].row["scale_source"] == "exif"
    with pytest.raises(UsageError, match="given says 9 mm per px, exif says"):
        inspect_photo(exif, InspectionOptions(distance=1000.0, mm_per_px=9.0))
    (_, error), *_ = inspect_photos([exif], lambda each: each, InspectionOptions(distance=1000.0, mm_per_px=9.0))
    assert error.path == exif.photo


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mm_per_px": 0.0}, "a scale of 0 mm per px is not possible"),
        ({"mm_per_px": 0.1, "scale_std": 1.5}, "an uncertainty of 1.5"),
        ({"scale_std": 0.1, "scale_from": ("aruco:20",)}, "scale_std is set without a scale it is of"),
        ({"scale_from": ("aruco:abc",)}, "the length 'abc' cannot be read"),
        ({"scale_from": ("aruco",)}, "needs the marker's side"),
        ({"scale_from": ("aruco:-3",)}, "needs the marker's side"),
        ({"scale_from": ("aruco:20", "aruco:3cm")}, "a marker's side is 20 mm or 30 mm, not both"),
        ({"scale_from": ("ruler",)}, "no scale source 'ruler'"),
        ({"scale_from": ("exif",)}, "needs the distance"),
        ({"distance": float("nan")}, "a distance of nan"),
        ({"bridge": -1.0}, "bridge is -1 px"),
        ({"reference": float("inf")}, "reference is inf"),
    ],
)
def test_impossible_options(options, reason):
    with pytest.raises(UsageError, match=reason):
        InspectionOptions(**options)


def test_words_of_the_command_line():
    assert [parse_length(text) for text in ("1.5m", "20", "3 cm", "7mm")] == [1500, 20, 30, 7]
    for text in ("", "m", "1.5 km", "1e", "nan"):
        with pytest.raises(UsageError, match=rf"the length '{text}' cannot be read \(write such as 1.5m\)"):
            parse_length(text)
    assert parse_settings(("bridge=0", "scale_std=0.1")) == {"bridge": 0.0, "scale_std": 0.1}
    with pytest.raises(UsageError, match=r"no setting 'brdge' \(did you mean bridge\?\)"):
        parse_settings(("brdge=0",))
    with pytest.raises(UsageError, match="spacing is 'x', expected a number"):
        parse_settings(("spacing=x",))
    assert check_formats(["svg,dxf", "svg"]) == ("svg", "dxf")
    with pytest.raises(UsageError, match=r"no format 'geojsn' \(did you mean geojson\?\)"):
        check_formats(["geojsn"])


def exif_of(details=None, gps=None):
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2026:05:01 12:30:00", **(details or {})})
    if gps:
        exif.get_ifd(0x8825).update(gps)
    return exif.tobytes()


GPS = {1: "N", 2: (48.0, 8.0, 30.0), 3: "W", 4: (11.0, 34.0, 12.0), 5: b"\x00", 6: 520.5, 17: 271.0}


def test_the_position_of_a_photo_is_carried_along(tmp_path):
    pair = make_pair(tmp_path, suffix=".jpg", exif=exif_of(gps=GPS))
    row = record_of(pair).row
    assert row["latitude_deg"] == pytest.approx(48 + 8 / 60 + 30 / 3600)
    assert row["longitude_deg"] == pytest.approx(-(11 + 34 / 60 + 12 / 3600))
    assert (row["altitude_m"], row["heading_deg"], row["taken"]) == (520.5, 271.0, "2026-05-01 12:30:00")


@pytest.mark.parametrize("gps", [{}, {1: "N", 2: (48.0, 8.0, 30.0)}, {**GPS, 2: (948.0, 0.0, 0.0)}, {**GPS, 4: 7.0}])
def test_half_a_position_is_none(tmp_path, gps):
    pair = make_pair(tmp_path, suffix=".jpg", exif=exif_of(gps=gps))
    assert read_position(pair.photo).latitude is None
    assert read_position(pair.photo).longitude is None
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    assert read_position(tmp_path / "no.jpg").taken is None
