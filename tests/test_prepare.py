import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import raw_sets
from raw_sets import put

from cracktool.datasets import duplicates, storing
from cracktool.datasets.checking import check
from cracktool.datasets.duplicates import fingerprint, near_duplicates
from cracktool.datasets.prepare import prepare
from cracktool.datasets.raw import Notes, PrepareOptions, RawItem
from cracktool.datasets.splitting import assign_splits, leaks, photo_numbers, tell_photos_apart, unique_names
from cracktool.degradation import degrade
from cracktool.errors import InputError, OutputError, UsageError
from cracktool.images import encode_jpeg, encode_png, read_image, read_mask
from cracktool.manifest import read_manifest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def picture(seed, height=24, width=32):
    return raw_sets.picture(seed, height, width)


def put_set(raw, count=12, start=0):
    """Images of which every third is a PNG and every fourth a BMP, with their masks."""
    for number in range(start, start + count):
        image = picture(number)
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[number % 20, 3:20] = 255
        put(raw / "masks" / f"p{number}.png", encode_png(mask))
        if number % 4 == 3:
            put(raw / "images" / f"p{number}.bmp", cv2.imencode(".bmp", image)[1].tobytes())
        else:
            png = number % 3 == 2
            put(
                raw / "images" / f"p{number}{'.png' if png else '.jpg'}",
                encode_png(image) if png else encode_jpeg(image),
            )


@pytest.fixture
def raw(tmp_path):
    put_set(tmp_path / "raw")
    return tmp_path / "raw"


def snapshot(folder):
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def contents(folder):
    return {name: data for name, (data, _) in snapshot(folder).items()}


def splits(result):
    return {entry.image: entry.split for entry in read_manifest(result.manifest).entries}


def test_layout_of_the_result(raw, tmp_path):
    result = prepare("folder", raw, tmp_path / "out")
    entries = read_manifest(result.manifest).entries
    assert {entry.image for entry in entries} == {
        f"images/p{n}{'.png' if n % 4 == 3 or n % 3 == 2 else '.jpg'}" for n in range(12)
    }
    for entry in entries:
        original = raw / entry.source
        stored = tmp_path / "out" / entry.image
        if original.suffix == ".bmp":
            assert np.array_equal(read_image(stored), read_image(original))
        else:
            assert stored.read_bytes() == original.read_bytes()
        assert (entry.height, entry.width) == (24, 32)
        assert entry.crack_fraction == pytest.approx(17 / (24 * 32), abs=1e-6)
    assert sum(result.counts.values()) == 12
    assert result.counts["val"] == result.counts["test"] == 1
    assert result.seconds > 0


def test_second_run_changes_nothing(raw, tmp_path):
    prepare("folder", raw, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    prepare("folder", raw, tmp_path / "out", jobs=1)
    assert snapshot(tmp_path / "out") == before, "contents and times"


@pytest.mark.parametrize("at", [1, 6, 12])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_run_resumes(raw, tmp_path, at, error):
    def stop(done, total):
        if done >= at:
            raise error

    with pytest.raises(error):
        prepare("folder", raw, tmp_path / "out", jobs=2, progress=stop)
    before = snapshot(tmp_path / "out")
    assert "manifest.csv" not in before
    assert not [name for name in before if name.endswith(".part")]
    workers = [thread.name for thread in threading.enumerate() if thread.name.startswith("prepare")]
    assert not workers, "no worker outlives the call"
    prepare("folder", raw, tmp_path / "out")
    prepare("folder", raw, tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
    after = snapshot(tmp_path / "out")
    assert all(after[name] == before[name] for name in before), "what was done is not done again"


def test_more_raw_images_extend_the_set(raw, tmp_path):
    prepare("folder", raw, tmp_path / "out")
    put_set(raw, count=3, start=12)
    assert sum(prepare("folder", raw, tmp_path / "out").counts.values()) == 15


def test_progress_counts_to_the_end(raw, tmp_path):
    seen = []
    prepare("folder", raw, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 12) for number in range(1, 13)]


def test_dry_run_writes_nothing_and_counts_the_same(raw, tmp_path):
    dry = prepare("folder", raw, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    real = prepare("folder", raw, tmp_path / "out")
    assert (dry.counts, dry.warnings, dry.manifest) == (real.counts, real.warnings, real.manifest)


def test_bad_raw_files_fail_alone(raw, tmp_path):
    (raw / "images" / "p0.jpg").write_bytes(b"")
    (raw / "images" / "p1.jpg").write_bytes((raw / "images" / "p1.jpg").read_bytes()[:200])
    (raw / "masks" / "p2.png").write_bytes(b"text")
    put(raw / "masks" / "p4.png", encode_png(np.zeros((32, 24), np.uint8)))
    put(raw / "masks" / "p5.png", encode_png(np.zeros((10, 10), np.uint8)))
    result = prepare("folder", raw, tmp_path / "out")
    messages = sorted(str(error).removeprefix(str(raw) + os.sep) for error in result.failures)
    expected = [
        "images/p0.jpg: the file is empty",
        "images/p1.jpg: the file is cut short",
        "images/p4.jpg: the mask has 24 x 32 px, the image 32 x 24 (turn the mask as the photo's EXIF orientation",
        "images/p5.png: the mask has 10 x 10 px, the image 32 x 24",
        "masks/p2.png: not a picture, or damaged",
    ]
    assert len(messages) == len(expected)
    assert all(message.startswith(start) for message, start in zip(messages, expected, strict=True)), messages
    assert sum(result.counts.values()) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode here")
def test_photos_with_names_that_no_table_holds_fail_alone(raw, tmp_path):
    for folder in ("images", "masks"):
        (raw / folder / os.fsdecode(b"caf\xe9.png")).write_bytes((raw / "masks" / "p2.png").read_bytes())
    result = prepare("folder", raw, tmp_path / "out")
    (failure,) = result.failures
    assert str(failure).endswith(": its name is not Unicode (rename it)")
    assert sum(result.counts.values()) == 12


def test_notes_name_each_thing_once():
    notes = Notes()
    for name in ("b", "a", "b"):
        notes.add("read twice", name)
    assert notes.lines() == ("read twice: a, b",)


def test_nothing_left_of_a_set(tmp_path):
    put(tmp_path / "raw" / "train" / "20160222_080850.jpg", encode_jpeg(picture(1)))
    put(tmp_path / "raw" / "train" / "20160222_080850_mask.png", encode_png(np.zeros((24, 32), np.uint8)))
    with pytest.raises(InputError, match=r"no image could be used \(all 16 hold too little crack"):
        prepare("crack500", tmp_path / "raw", tmp_path / "out")


def test_another_split_of_the_same_images_is_written(raw, tmp_path):
    first = splits(prepare("folder", raw, tmp_path / "out"))
    second = splits(prepare("folder", raw, tmp_path / "out", options=PrepareOptions(split=(0.5, 0.5, 0))))
    assert list(first) == list(second)
    assert list(second.values()).count("val") == 6


def test_nothing_usable(tmp_path):
    put(tmp_path / "raw" / "images" / "a.jpg", b"")
    put(tmp_path / "raw" / "masks" / "a.png", b"")
    with pytest.raises(InputError, match=r"no image could be used.*the first problem.*the file is empty"):
        prepare("folder", tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_synthetic_set_needs_no_source_and_brings_its_truth(tmp_path):
    options = PrepareOptions(count=10, size=(48, 64), split=(0.7, 0.2, 0.1))
    result = prepare("synthetic", None, tmp_path / "out", options=options)
    assert result.counts == {"train": 7, "val": 2, "test": 1}
    before = snapshot(tmp_path / "out")
    assert before[str(Path("lines") / "synthetic_00003.csv")][0].startswith(b"crack,parent,point,y_px,x_px,width_px\n")
    prepare("synthetic", None, tmp_path / "out", options=options)
    assert snapshot(tmp_path / "out") == before
    put(tmp_path / "out" / "lines" / "synthetic_00003.csv", b"other")
    with pytest.raises(OutputError, match="is there already with other content"):
        prepare("synthetic", None, tmp_path / "out", options=options)
    with pytest.raises(UsageError, match="makes its images itself"):
        prepare("synthetic", tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="count means nothing to the layout folder"):
        prepare("folder", tmp_path, tmp_path / "b", options=PrepareOptions(count=3))


# Degraded photos

DEGRADE = PrepareOptions(degrade=True)


def put_odd(raw):
    """One photo of 35 x 26 px, of which 2 rows and 3 columns are beyond a multiple of 4; all crack is in them."""
    mask = np.zeros((26, 35), np.uint8)
    mask[24:], mask[:, 32:] = 255, 255
    put(raw / "images" / "odd.jpg", encode_jpeg(picture(50, 26, 35)))
    put(raw / "masks" / "odd.png", encode_png(mask))


def test_degraded_photos_lie_beside_sharp_masks_and_what_blurred_them(raw, tmp_path):
    put_odd(raw)
    result = prepare("folder", raw, tmp_path / "out", options=DEGRADE)
    entries = read_manifest(result.manifest).entries
    assert {entry.image for entry in entries} == {
        f"images/{stem}.png" for stem in (*(f"p{n}" for n in range(12)), "odd")
    }
    for entry in entries:
        stem = Path(entry.image).stem
        sharp, truth = read_image(raw / entry.source), read_mask(raw / "masks" / f"{stem}.png")
        kernel = np.load(tmp_path / "out" / "kernels" / f"{stem}.npy")
        assert (kernel.shape, kernel.dtype) == ((21, 21), np.float32)
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        small, mask = read_image(tmp_path / "out" / entry.image), read_mask(tmp_path / "out" / entry.mask)
        assert np.array_equal(small, degrade(sharp, kernel))
        kept = read_image(tmp_path / "out" / "sharp" / f"{stem}.png")
        assert np.array_equal(kept, sharp[: 4 * small.shape[0], : 4 * small.shape[1]])
        assert (entry.height, entry.width) == small.shape[:2] == (6, 8)
        assert np.array_equal(mask, truth[:24, :32])
        assert entry.crack_fraction == pytest.approx(mask.mean(), abs=1e-6)
        assert entry.label == ("cracked" if mask.any() else "uncracked")
    assert next(entry.label for entry in entries if "odd" in entry.image) == "uncracked"


def test_a_blur_is_of_the_seed_and_the_name_alone(raw, tmp_path):
    prepare("folder", raw, tmp_path / "a", options=DEGRADE, jobs=1)
    before = snapshot(tmp_path / "a")
    prepare("folder", raw, tmp_path / "a", options=DEGRADE, jobs=2)
    assert snapshot(tmp_path / "a") == before, "a second run changes nothing"
    put_odd(raw)
    (raw / "images" / "p0.jpg").unlink()
    prepare("folder", raw, tmp_path / "b", options=DEGRADE, jobs=3)
    kept = [name for name in before if "p0." not in name and name != "manifest.csv"]
    after = contents(tmp_path / "b")
    assert {name: after[name] for name in kept} == {name: before[name][0] for name in kept}
    prepare("folder", raw, tmp_path / "c", options=PrepareOptions(degrade=True, seed=1))
    kernels = [data for name, data in (after | contents(tmp_path / "c")).items() if "kernels" in name]
    assert not {data for name, data in after.items() if "kernels" in name} & set(kernels)
    assert len(set(kernels)) == 12, "each photo has its own"


def test_a_degraded_set_is_split_as_the_sharp_one(raw, tmp_path):
    for copy, original in (("copy1", "p1"), ("copy2", "p4")):
        put(raw / "images" / f"{copy}.jpg", (raw / "images" / f"{original}.jpg").read_bytes())
        put(raw / "masks" / f"{copy}.png", (raw / "masks" / f"{original}.png").read_bytes())
    for seed in range(3):
        found = [
            prepare(
                "folder",
                raw,
                tmp_path / f"{seed}{degrade}",
                options=PrepareOptions(split=(0.4, 0.3, 0.3), seed=seed, degrade=degrade),
            )
            for degrade in (False, True)
        ]
        sharp, small = ({Path(image).stem: split for image, split in splits(each).items()} for each in found)
        assert sharp == small
        assert small["copy1"] == small["p1"]


def test_photos_too_small_to_be_degraded_fail_alone(raw, tmp_path):
    put(raw / "images" / "tiny.png", encode_png(np.zeros((3, 40, 3), np.uint8)))
    put(raw / "masks" / "tiny.png", encode_png(np.zeros((3, 40), np.uint8)))
    result = prepare("folder", raw, tmp_path / "out", options=DEGRADE)
    (failure,) = result.failures
    assert str(failure) == f"{raw / 'images' / 'tiny.png'}: a photo of 40 x 3 px cannot be shrunk to a quarter"
    assert sum(result.counts.values()) == 12
    assert prepare("folder", raw, tmp_path / "sharp").failures == ()


def test_photos_known_by_their_label_are_degraded_too(tmp_path):
    for name, label in (("a", "cracked"), ("b", "uncracked")):
        put(tmp_path / "raw" / label / f"{name}.jpg", encode_jpeg(picture(1)))
    result = prepare("folder", tmp_path / "raw", tmp_path / "out", options=DEGRADE)
    assert {(entry.image, entry.mask, entry.height) for entry in read_manifest(result.manifest).entries} == {
        ("images/cracked_a.png", "", 6),
        ("images/uncracked_b.png", "", 6),
    }


def test_the_rule_of_least_crack_is_that_of_the_sharp_photo(tmp_path):
    mask = np.zeros((4 * 98, 4 * 90), np.uint8)  # tiles of 90 x 98 px, of which 88 x 96 stay
    mask[: 2 * 98, :10] = 255  # two tiles with 980 px of crack
    mask[96:98, :90] = 255  # 160 more for the first, all beyond what stays
    put(tmp_path / "raw" / "train" / "20160222_080850.jpg", encode_jpeg(picture(1, *mask.shape)))
    put(tmp_path / "raw" / "train" / "20160222_080850_mask.png", encode_png(mask))
    found = [
        {Path(image).stem for image in splits(prepare("crack500", tmp_path / "raw", tmp_path / name, options=options))}
        for name, options in (("sharp", PrepareOptions()), ("small", DEGRADE))
    ]
    assert found == [{"20160222_080850_1_1"}] * 2


def test_synthetic_photos_are_degraded_and_keep_their_truth(tmp_path):
    options = PrepareOptions(count=3, size=(48, 64), degrade=True)
    entries = read_manifest(prepare("synthetic", None, tmp_path / "out", options=options).manifest).entries
    assert {(entry.height, entry.width) for entry in entries} == {(12, 16)}
    assert {len(list((tmp_path / "out" / part).iterdir())) for part in ("images", "masks", "kernels", "lines")} == {3}
    assert read_mask(tmp_path / "out" / entries[0].mask).shape == (48, 64)


@pytest.mark.parametrize("first", [False, True])
def test_sharp_and_degraded_photos_do_not_share_a_folder(raw, tmp_path, first):
    prepare("folder", raw, tmp_path / "out", options=PrepareOptions(degrade=first))
    before = snapshot(tmp_path / "out")
    with pytest.raises(OutputError, match="holds another data set"):
        prepare("folder", raw, tmp_path / "out", options=PrepareOptions(degrade=not first))
    assert snapshot(tmp_path / "out") == before


def test_another_blur_does_not_replace_the_first(raw, tmp_path):
    prepare("folder", raw, tmp_path / "out", options=DEGRADE)
    before = snapshot(tmp_path / "out")
    with pytest.raises(OutputError, match="is there already with other content"):
        prepare("folder", raw, tmp_path / "out", options=PrepareOptions(degrade=True, seed=1))
    assert snapshot(tmp_path / "out") == before


# Interruptions


def command(raw, out, *more):
    return [sys.executable, "-m", "cracktool", "prepare", "folder", str(raw), "-o", str(out), "-q", *more]


def kill_at(arguments, out, files):
    """Start a run, kill it as soon as `files` images are there, and tell whether it was still running."""
    process = subprocess.Popen(arguments, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(out.glob("images/[!.]*"))) < files:
        time.sleep(0.001)
    process.kill()
    return process.wait() == -signal.SIGKILL


def killed_and_resumed(raw, tmp_path, moments):
    """Kill a run at each moment and start it again; every file seen on the way must be whole; return the kills."""
    options = ("--tile", "200", "--min-crack-px", "50", "--keep-empty", "0.5", "--degrade", "--jobs", "2")
    subprocess.run(command(raw, tmp_path / "undisturbed", *options), check=True, stdout=subprocess.DEVNULL)
    expected = contents(tmp_path / "undisturbed")
    kills = 0
    for moment in moments:
        kills += kill_at(command(raw, tmp_path / "out", *options), tmp_path / "out", moment)
        there = {name: data for name, data in contents(tmp_path / "out").items() if not name.endswith(".part")}
        assert there.items() <= expected.items()
    before = {name: kept for name, kept in snapshot(tmp_path / "out").items() if not name.endswith(".part")}
    put(tmp_path / "out" / "images" / ".0123456789abcdef.part", b"half")  # as a kill while writing leaves it
    subprocess.run(command(raw, tmp_path / "out", *options), check=True, stdout=subprocess.DEVNULL)
    assert contents(tmp_path / "out") == expected
    assert before.items() <= snapshot(tmp_path / "out").items(), "what was done is not done again"
    return kills


def put_large(raw, count):
    mask = np.zeros((400, 600), np.uint8)
    mask[:50] = 255
    for number in range(count):
        put(raw / "images" / f"p{number}.jpg", encode_jpeg(picture(number, *mask.shape)))
        put(raw / "masks" / f"p{number}.png", encode_png(mask))


def test_a_killed_run_goes_on_and_leaves_the_same_bytes(tmp_path):
    put_large(tmp_path / "raw", 6)
    assert killed_and_resumed(tmp_path / "raw", tmp_path, [1, 12])


@pytest.mark.slow
def test_many_kills_at_random_moments_leave_the_same_bytes(tmp_path):
    put_large(tmp_path / "raw", 60)
    moments = sorted(np.random.default_rng(0).integers(0, 250, 25).tolist())
    assert killed_and_resumed(tmp_path / "raw", tmp_path, moments) > 20


FULL_DISK = """
import pathlib, subprocess, sys
disk, *prepare = sys.argv[1:]
def mount(options):
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True).returncode
if mount("size=60k"):
    sys.exit(77)
full = subprocess.run(prepare, capture_output=True, text=True)
def files():
    out = pathlib.Path(disk, "out")
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
half = files()
mount("remount,size=50m")
again = subprocess.run(prepare, capture_output=True, text=True)
print((full.returncode, full.stderr, half, again.returncode, files()))
"""


def test_a_full_disk_is_told_in_one_line_and_nothing_is_damaged(raw, tmp_path):
    if not shutil.which("unshare"):
        pytest.skip("no unshare on this system, which makes a small disk for one process")
    (tmp_path / "disk").mkdir()
    arguments = [sys.executable, "-c", FULL_DISK, str(tmp_path / "disk"), *command(raw, tmp_path / "disk" / "out")]
    found = subprocess.run(
        ["unshare", "-rm", *arguments], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    if found.returncode == 77 or found.stderr.startswith("unshare"):
        pytest.skip("this user may not mount a small disk")
    code, said, half, code_again, whole = ast.literal_eval(found.stdout)
    assert code == 1
    (line,) = said.splitlines()
    assert re.search(r"disk/out/\w+/p\d+\.\w+: cannot be written: No space left on device \(make room", line)
    prepare("folder", raw, tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    assert 0 < len(half) < len(expected)
    assert half.items() <= expected.items(), "whole files only"
    assert (code_again, whole) == (0, expected)


# What must not be damaged


def test_another_data_set_in_the_output_folder_is_left_alone(raw, tmp_path):
    prepare("folder", raw, tmp_path / "out")
    put_set(tmp_path / "other", count=5, start=50)
    before = snapshot(tmp_path / "out")
    with pytest.raises(OutputError, match="holds another data set: 36 files that this run does not make"):
        prepare("folder", tmp_path / "other", tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["images/p1.jpg", "masks/p1.png", "images/p3.png"])
@pytest.mark.parametrize("data", [encode_png(np.full((24, 32), 9, np.uint8)), b"not a picture"])
def test_other_content_under_a_name_of_ours_is_left_alone(raw, tmp_path, name, data):
    put(tmp_path / "out" / name, data)
    with pytest.raises(OutputError, match="is there already"):
        prepare("folder", raw, tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == data
    assert not (tmp_path / "out" / "manifest.csv").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("manifest.csv", b"a,b\n1,2\n", "is no table of this program"),
        ("images/foreign.jpg", b"x", "holds another data set: 1 files that this run does not make, first foreign.jpg"),
    ],
)
def test_foreign_files_are_refused(raw, tmp_path, name, data, message):
    put(tmp_path / "out" / name, data)
    with pytest.raises(OutputError, match=message):
        prepare("folder", raw, tmp_path / "out")
    assert contents(tmp_path / "out") == {name: data}


def test_a_table_over_other_folders_is_refused(raw, tmp_path):
    prepare("folder", raw, tmp_path / "out")
    table = tmp_path / "out" / "manifest.csv"
    table.write_text(table.read_text().replace("images/p1.", "photos/p1."))
    with pytest.raises(OutputError, match="holds another data set"):
        prepare("folder", raw, tmp_path / "out")


def test_what_lies_in_the_output_folder_is_not_taken_for_raw(raw, tmp_path):
    for _ in range(2):
        assert sum(prepare("folder", raw, raw / "out").counts.values()) == 12
    put(tmp_path / "sorted" / "noncrack_1.jpg", encode_jpeg(picture(0)))
    assert prepare("situations", tmp_path / "sorted", tmp_path / "sorted" / "out").counts["test"] == 1
    with pytest.raises(UsageError, match="out: lies in the raw folder, and its photos are taken for raw ones"):
        prepare("situations", tmp_path / "sorted", tmp_path / "sorted" / "out")


def test_output_that_cannot_be_written(raw, tmp_path, monkeypatch):
    put(tmp_path / "file", b"")
    with pytest.raises(OutputError, match="is a file, expected a folder"):
        prepare("folder", raw, tmp_path / "file")
    with pytest.raises(UsageError, match="the raw and the output folder are the same"):
        prepare("folder", raw, raw)

    def full(path, data):
        raise OutputError("cannot be written: No space left on device", path=path)

    monkeypatch.setattr(storing, "replace_file", full)
    with pytest.raises(OutputError, match="No space left on device"):
        prepare("folder", raw, tmp_path / "out")


# What is asked wrongly


def test_missing_source_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        prepare("crack500", None, tmp_path / "out")
    line = str(caught.value)
    assert line.startswith(str(Path("raw") / "crack500") + ": no such folder (get it from https://")
    assert "expected in it: traincrop/" in line
    put(tmp_path / "crack500.zip", b"PK")
    with pytest.raises(InputError, match=r"crack500.zip: an archive, not a folder \(unpack it and give the folder\)"):
        prepare("crack500", tmp_path / "crack500.zip", tmp_path / "out")


def test_usage_errors(raw, tmp_path):
    with pytest.raises(UsageError, match=r"no data set layout 'crack50'.*did you mean crack500"):
        prepare("crack50", raw, tmp_path / "out")
    with pytest.raises(UsageError, match=r"no data set layout 'zzz'.*use crack500, cfd, deepcrack"):
        prepare("zzz", raw, tmp_path / "out")
    with pytest.raises(UsageError, match="invert means nothing to the layout crack500"):
        prepare("crack500", raw, tmp_path / "out", options=PrepareOptions(invert=True))
    with pytest.raises(UsageError, match="0 jobs"):
        prepare("folder", raw, tmp_path / "out", jobs=0)
    with pytest.raises(UsageError, match=r"keep_leaks keeps a published split, split cuts a new one"):
        PrepareOptions(split=(1, 0, 0), keep_leaks=True)
    for wrong in ({"split": (0.6, 0.6, 0.1)}, {"split": (0.7, 0.1, 0.1)}, {"split": (1.2, -0.1, -0.1)}):
        with pytest.raises(UsageError, match=r"does not make 1 .try 0.7/0.15/0.15"):
            PrepareOptions(**wrong)
    for wrong in ({"mask_threshold": 0}, {"mask_threshold": 256}):
        with pytest.raises(UsageError, match="expected"):
            PrepareOptions(**wrong)


# Splits


def items(groups, splits=None):
    splits = splits or [None] * len(groups)
    return [
        RawItem(name=str(n), group=group, source=str(n), read=lambda: None, split=split)
        for n, (group, split) in enumerate(zip(groups, splits, strict=True))
    ]


def cut(rows, shares, *, crack=None, copies=(), seed=0, notes=None):
    photos = photo_numbers(rows, copies)
    return assign_splits(rows, crack or [-1.0] * len(rows), photos, shares, seed, notes or Notes())


@pytest.mark.parametrize("seed", range(8))
def test_splits_keep_groups_and_copies_together(seed):
    groups = [f"g{n // 3}" for n in range(90)]
    copies = [(0, 50), (50, 89), (10, 40)]
    crack = [0.001 * 1.1 ** (n % 40) for n in range(90)]
    found = cut(items(groups), (0.1, 0.2), crack=crack, copies=copies, seed=seed)
    assert all(len({found[n] for n in range(90) if groups[n] == group}) == 1 for group in groups)
    assert all(found[first] == found[second] for first, second in copies)
    assert found.count("val") == 9
    assert found.count("test") == 18


def test_all_train_and_a_tenth_val():
    found = cut(items([str(n) for n in range(130)]), (0.1, 0.0))
    assert (found.count("train"), found.count("val"), found.count("test")) == (117, 13, 0)


@pytest.mark.parametrize("seed", range(4))
def test_each_origin_and_each_amount_of_crack_gets_its_share(seed):
    rows = [replace(row, source=f"{'wall' if n < 60 else 'road'}/{n}.jpg") for n, row in enumerate(items(range(100)))]
    crack = [(0.0, 0.01, 0.1, 0.2)[n % 4] for n in range(100)]
    found = cut(rows, (0.2, 0.2), crack=crack, seed=seed)
    for split in ("val", "test"):
        chosen = [n for n in range(100) if found[n] == split]
        assert (len(chosen), sum(n < 60 for n in chosen)) == (20, 12)
        for value in set(crack):
            assert sum(crack[n] == value for n in chosen if n < 60) == 3
            assert sum(crack[n] == value for n in chosen if n >= 60) == 2


def test_adding_images_moves_few_of_the_others():
    crack = [0.5 ** (n % 6) for n in range(210)]
    few = cut(items([str(n) for n in range(200)]), (0.2, 0.0), crack=crack[:200])
    more = cut(items([str(n) for n in range(210)]), (0.2, 0.0), crack=crack)
    assert sum(one != other for one, other in zip(few, more, strict=False)) < 10


def test_published_test_and_val_stay():
    published = ["train"] * 20 + ["test"] * 5
    found = cut(items([str(n) for n in range(25)], published), (0.5, 0.0), copies=[(0, 20)])
    assert found[20:] == ["test"] * 5
    assert found.count("val") == 10


def test_one_photo_cannot_be_parted():
    notes = Notes()
    assert set(cut(items(["a"] * 30), (0.1, 0.0), notes=notes)) == {"train"}
    assert notes.lines() == ("no val split was cut: there are too few photos to part them",)


def test_what_a_better_split_shows_too_leaks():
    groups, published = ["a", "a", "b", "b", "c", "d", "e", "f"], ["train", "test", "val", "train"] + ["train"] * 4
    # 4 copies 5, which copies an image of test; 6 copies a crop of val; 7 stands alone
    rows = items(groups, published)
    assert leaks(rows, photo_numbers(rows, [(4, 5), (5, 1), (6, 2)])) == [
        *(True, False, False, True),
        *(True, True, True, False),
    ]
    assert leaks(items(["a", "a"], ["val", "test"]), [0, 0]) == [True, False]


def test_equal_names_in_two_splits_are_no_leak():
    rows = [replace(row, name="001") for row in items(["001", "001", "001"], ["train", "val", "test"])]
    assert [row.group for row in tell_photos_apart(rows)] == ["train/001", "val/001", "test/001"]
    crops = [replace(rows[0], name="001-2"), rows[1], replace(rows[2], name="001-1")]
    assert [row.group for row in tell_photos_apart(crops)] == ["001", "val/001", "001"]
    assert leaks(crops, photo_numbers(tell_photos_apart(crops), [])) == [True, False, False]


@pytest.mark.parametrize("tile", [None, 48])
def test_photos_of_one_name_in_two_splits_stay_two(tmp_path, tile):
    for seed, split in enumerate(("train", "val", "test")):
        put(tmp_path / "raw" / split / "images" / "001.jpg", encode_jpeg(picture(seed, 96, 96)))
        put(tmp_path / "raw" / split / "masks" / "001.png", encode_png(np.eye(96, dtype=np.uint8) * 255))
    result = prepare("folder", tmp_path / "raw", tmp_path / "out", options=PrepareOptions(tile=tile))
    assert set(result.counts.values()) == {4 if tile else 1}
    assert {entry.group for entry in read_manifest(result.manifest).entries} == {"train/001", "val/001", "test/001"}
    assert not [finding for finding in check([tmp_path / "out"]).findings if finding.kind == "leak"]


def test_unique_names_ignore_case_and_stay_unique():
    names = [("a", "train"), ("A", "test"), ("b", None), ("a", "train"), ("train_a", None), ("c", None), ("c", None)]
    rows = [RawItem(name=name, group="g", source="s", read=lambda: None, split=split) for name, split in names]
    found = unique_names(rows)
    assert found == ["train_a_2", "test_A", "b", "train_a_3", "train_a", "unknown_c", "unknown_c_2"]


def test_near_duplicates_stay_on_one_side_and_are_told(tmp_path):
    raw = tmp_path / "raw"
    for number in range(10):
        image = picture(number, 96, 128)
        put(raw / "images" / f"p{number}.jpg", encode_jpeg(image, 92))
        put(raw / "images" / f"copy{9 - number}.jpg", encode_jpeg(image, 60))
        for name in (f"p{number}", f"copy{9 - number}"):
            put(raw / "masks" / f"{name}.png", encode_png(np.zeros((96, 128), np.uint8)))
    put(raw / "images" / "alone.jpg", encode_jpeg(picture(99, 96, 128)))
    put(raw / "masks" / "alone.png", encode_png(np.zeros((96, 128), np.uint8)))
    put(raw / "images" / "same.jpg", (raw / "images" / "alone.jpg").read_bytes())
    put(raw / "masks" / "same.png", encode_png(np.zeros((96, 128), np.uint8)))
    for seed in range(6):
        options = PrepareOptions(split=(0.4, 0.3, 0.3), seed=seed)
        result = prepare("folder", raw, tmp_path / str(seed), options=options)
        found = splits(result)
        assert len(set(found.values())) == 3
        assert all(found[f"images/p{n}.jpg"] == found[f"images/copy{9 - n}.jpg"] for n in range(10))
        assert found["images/same.jpg"] == found["images/alone.jpg"]
        assert "same file twice, kept in one split: alone = same" in result.warnings
        assert [line for line in result.warnings if line.startswith("near-duplicates, kept in one split: copy0 = p9")]


def test_near_duplicates_across_published_splits_are_left_out_of_train(tmp_path):
    for split, quality in (("train", 92), ("test", 60)):
        put(tmp_path / "raw" / split / "images" / f"{split}.jpg", encode_jpeg(picture(1, 96, 128), quality))
        put(tmp_path / "raw" / split / "masks" / f"{split}.png", encode_png(np.zeros((96, 128), np.uint8)))
    result = prepare("folder", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 0, "val": 0, "test": 1}
    assert "near-duplicates in different published splits: test/test = train/train" in result.warnings
    kept = prepare("folder", tmp_path / "raw", tmp_path / "out", options=PrepareOptions(keep_leaks=True))
    assert kept.counts == {"train": 1, "val": 0, "test": 1}


def test_fingerprints_tell_copies_from_other_photos():
    image = picture(3, 300, 400)
    copies = [image, read_image(encode_jpeg(image, 50)), cv2.resize(image, (200, 150), interpolation=cv2.INTER_AREA)]
    others = [picture(4, 300, 400), np.zeros_like(image), np.full_like(image, 200)]
    found = near_duplicates([fingerprint(one) for one in [*copies, *others]])
    assert found == {(0, 1): False, (0, 2): False, (1, 2): False}
    assert near_duplicates([]) == {}


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_fingerprints_know_turned_and_mirrored_copies(quarter, mirrored):
    image = picture(3, 300, 400)
    turned = np.rot90(image[:, ::-1] if mirrored else image, quarter)
    pictures = [picture(4, 300, 400), image, read_image(encode_jpeg(np.ascontiguousarray(turned), 50))]
    assert near_duplicates([fingerprint(one) for one in pictures]) == {(1, 2): mirrored or quarter > 0}


def test_near_duplicates_in_blocks(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 3)
    prints = [fingerprint(picture(seed)) for seed in (0, 1, 2, 3, 0, 5, 6, 1)]
    assert near_duplicates(prints) == {(0, 4): False, (1, 7): False}


def test_a_mirrored_copy_in_a_published_test_split_is_left_out_of_train(tmp_path):
    for split, step in (("train", 1), ("test", -1)):
        image = np.ascontiguousarray(picture(1, 96, 128)[:, ::step])
        put(tmp_path / "raw" / split / "images" / f"{split}.jpg", encode_jpeg(image, 80))
        put(tmp_path / "raw" / split / "masks" / f"{split}.png", encode_png(np.zeros((96, 128), np.uint8)))
    assert prepare("folder", tmp_path / "raw", tmp_path / "out").counts == {"train": 0, "val": 0, "test": 1}


def test_notes_are_sorted_and_shortened():
    notes = Notes()
    notes.add("z")
    for name in "gfedcba":
        notes.add("x", name)
    assert notes.lines() == ("x: a, b, c, d, e and 2 more", "z")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not on this machine")
@pytest.mark.parametrize(
    ("layout", "name", "counts"),
    [
        ("crack500", "crack500", (778, 171, 373)),  # 3 tiles of train and 3 of val are of photos of test
        ("deepcrack", "deepcrack", (259, 29, 237)),  # 12 of train are of photos of test
        ("cfd", "cfd", (0, 0, 118)),
        ("folder", "canal", (189, 63, 63)),
    ],
)
def test_real_data_sets(tmp_path, layout, name, counts):
    result = prepare(layout, SHARED / name, tmp_path / "out", dry_run=True)
    assert tuple(result.counts.values()) == counts
    assert result.failures == ()
    if name == "deepcrack":
        assert any("train/11158 = test/11216" in line for line in result.warnings)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not on this machine")
def test_the_leaky_published_split_of_deepcrack_on_purpose(tmp_path):
    options = PrepareOptions(keep_leaks=True)
    result = prepare("deepcrack", SHARED / "deepcrack", tmp_path / "out", dry_run=True, options=options)
    assert tuple(result.counts.values()) == (270, 30, 237)
