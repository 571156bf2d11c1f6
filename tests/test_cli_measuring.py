"""`crack infer --measure` from end to end: tables beside the masks, scales, mask folders, wrong options."""

import csv
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from drawn import Look, draw, sinusoid, turned
from measured import SHAPE, make_pair, photo_and_mask, save_photo

from cracktool.images import write_mask


def crack(*words, cwd):
    command = [sys.executable, "-m", "cracktool", "infer", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_photos_become_tables_and_a_page(tmp_path):
    wave = turned(sinusoid(4, 60, 120), 20, (79.5, 99.5))  # a straight bar could as well be a joint
    photo, _, length = draw(wave, 8.0, SHAPE, Look(texture=2.0))
    save_photo(tmp_path / "photos" / "a.png", photo)
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    words = ("photos", "-o", "out", "--mm-per-px", "0.5", "--severity", "aci224r", "--report", "--json", "-q")
    result = crack(*words, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [line for line in result.stderr.splitlines() if "b.png" in line]
    first, last = map(json.loads, result.stdout.splitlines())
    assert first["measured"]["cracks"] == 1
    assert last["outputs"] == [
        f"out/{name}" for name in ("cracks.csv", "photos.csv", "cracks.jsonl", "photos.jsonl", "report.html")
    ]
    with (tmp_path / "out" / "cracks.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["length_mm"]) == pytest.approx(length / 2, rel=0.1)
    assert float(row["width_median_mm"]) == pytest.approx(4, abs=0.4)
    assert row["severity"] == "above 0.41 mm"
    assert "photos/b.png: not a picture" in (tmp_path / "out" / "report.html").read_text()


def test_masks_that_are_there_are_measured(tmp_path):
    make_pair(tmp_path, "a")
    (tmp_path / "masks" / "lonely.png").write_bytes((tmp_path / "masks" / "a.png").read_bytes())
    result = crack("photos", "--masks", "masks", "-o", "out", "--measure", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "crack: masks/lonely.png: there is no photo for this mask (or measure the masks without photos)\n"
    )
    alone = crack("--masks", "masks", "-o", "alone", "-f", "points", cwd=tmp_path)
    assert alone.returncode == 0
    assert "masks/a.png, masks/lonely.png: no photo: widths are those of the mask" in alone.stderr
    assert (tmp_path / "alone" / "points.csv").is_file()


def test_by_products_are_no_masks(tmp_path):
    make_pair(tmp_path, "a")
    mask = (tmp_path / "masks" / "a.png").read_bytes()
    for name in ("a.probs.tif", "a.overlay.jpg", "film.probs/000001.png"):
        (tmp_path / "masks" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "masks" / name).write_bytes(mask)
    result = crack("photos", "--masks", "masks", "-o", "out", "--measure", "-q", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_shards_leave_the_tables_to_a_run_of_the_whole(tmp_path):
    for name in ("a", "b", "c"):
        save_photo(tmp_path / "photos" / f"{name}.png", photo_and_mask()[0])
    for part in ("1/2", "2/2"):
        result = crack("photos", "-o", "out", "--measure", "--shard", part, cwd=tmp_path)
        assert result.returncode == 0
        assert "next: the same command without --shard" in result.stderr
        assert not list((tmp_path / "out").glob("*.csv"))
    assert crack("photos", "-o", "out", "--measure", "-q", cwd=tmp_path).returncode == 0
    with (tmp_path / "out" / "photos.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_a_video_among_photos_is_no_failure(tmp_path):
    save_photo(tmp_path / "photos" / "a.png", photo_and_mask()[0])
    writer = cv2.VideoWriter(str(tmp_path / "photos" / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    writer.write(np.full((48, 64, 3), 128, np.uint8))
    writer.release()
    result = crack("photos", "-o", "out", "--measure", "-q", cwd=tmp_path)
    assert result.returncode == 0
    assert "photos/v.mp4: a video is not measured with the photos" in result.stderr


def test_scales_that_contradict_each_other_are_a_line_each_and_stop_no_other_photo(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    marked, geo = make_pair(tmp_path, "marked"), make_pair(tmp_path, "geo", suffix=".tif")
    make_pair(tmp_path, "plain")
    grey, _ = photo_and_mask()
    frame = np.full((200, 320), 200, np.uint8)
    marker = cv2.aruco.generateImageMarker(cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50), 0, 80)
    frame[40:120, 220:300] = marker  # 0.25 mm per px where its side is 20 mm
    frame[: grey.shape[0], : grey.shape[1]] = grey
    save_photo(marked.photo, frame)
    write_mask(marked.mask, np.pad(photo_and_mask()[1], [(0, 40), (0, 120)]))
    layout = {"driver": "GTiff", "height": grey.shape[0], "width": grey.shape[1], "count": 1, "dtype": "uint8"}
    corner = rasterio.Affine(0.001, 0, 4e5, 0, -0.001, 5e6)
    with rasterio.open(geo.photo, "w", transform=corner, crs="EPSG:32632", **layout) as file:
        file.write(grey, 1)
    scales = ("--mm-per-px", "0.5", "--scale-from", "aruco:20")
    result = crack("photos", "--masks", "masks", "-o", "out", *scales, "-q", cwd=tmp_path)
    assert result.returncode == 1
    note, *errors = result.stderr.splitlines()
    assert note.startswith("crack: warning: photos/plain.png: no ArUco marker was found")
    assert errors[0] == (
        "crack: photos/geo.tif: the scales contradict each other: given says 0.5 mm per px, geotiff says 1 "
        "(keep the right one)"
    )
    assert errors[1].startswith(
        "crack: photos/marked.png: the scales contradict each other: given says 0.5 mm per px, "
    )
    assert len(errors) == 2
    with (tmp_path / "out" / "cracks.csv").open(newline="") as file:
        assert [row["photo"] for row in csv.DictReader(file)] == ["photos/plain.png"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--mm-per-px", "0"), "a scale of 0 mm per px is not possible"),
        (("--scale-from", "aruco:20", "--scale-from", "aruco:30"), "a marker's side is 20 mm or 30 mm, not both"),
        (("--scale-from", "exif"), "the scale of exif needs the distance to the surface"),
        (("--distance", "x"), "the length 'x' cannot be read (write such as 1.5m)"),
        (("--severity", "en1992"), "did you mean en1992-1-1?"),
        (("--format", "shp"), "no format 'shp'"),
        (("--measure", "-o", "-"), "measuring writes tables into a folder"),
        (("--masks", "photos", "--tta"), "--masks measures masks that are there"),
        (("--masks", "photos", "--tile", "512"), "--masks measures masks that are there"),
        (("--masks", "photos", "--engine", "torch"), "(leave --engine out)"),
        (("--measure", "--dry-run"), "a dry run makes none (leave --dry-run out)"),
        (("--measure", "--max-megapixels", "nan"), "--max-megapixels is nan, but must be above 0"),
    ],
)
def test_wrong_options_are_told_before_any_work(tmp_path, words, reason):
    save_photo(tmp_path / "photos" / "a.png", np.full((40, 40), 150, np.uint8))
    result = crack("photos", *words, cwd=tmp_path)
    assert result.returncode == 2
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "masks").exists()
