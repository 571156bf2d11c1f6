"""Folders of photos: what is found, written, skipped, refused, and what survives a kill."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from cracktool import files
from cracktool.card import Card
from cracktool.errors import InputError, OutputError, UsageError, WeightsError
from cracktool.images import encode_png, read_grey, read_image
from cracktool.inference import (
    Done,
    Failed,
    FolderOptions,
    Planned,
    Predictor,
    Skipped,
    infer_bytes,
    infer_folder,
    load_network,
)
from cracktool.inference.journal import FAILURES_NAME, FILE_NAME, Journal
from cracktool.inference.memory import MainMemory
from cracktool.inference.torch_network import TorchMemory


class Red:
    """A network that gives back the red channel, and counts its tiles."""

    def __init__(self, *, digest="red", seconds=0.0):
        self.card = Card(model="red", mean=(0, 0, 0), std=(1, 1, 1), tile=64, stride=4)
        self.digest, self.memory, self.dtype = digest, TorchMemory(torch.device("cpu")), "float32"
        self.place = "here"
        self.tiles, self.seconds = 0, seconds

    def __call__(self, tiles):
        self.tiles += len(tiles)
        time.sleep(self.seconds)
        return (tiles[..., 0].float() + 0.5) / 256


def picture(height=50, width=70, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, pixels=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(picture(seed=len(path.name)) if pixels is None else pixels).save(path, **options)
    return path


def run(inputs, out, *, network=None, threshold=None, **options):
    predictor = Predictor(network or Red(), threshold=threshold)
    return list(infer_folder(predictor, inputs, out, FolderOptions(**options)))


def kinds(results):
    return [type(result) for result in results]


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def mask_of(photo):
    return (read_image(photo)[..., 0] >= 128) * np.uint8(255)


def test_folders_keep_their_shape(tmp_path):
    photos = [save(tmp_path / "in" / name) for name in ("b.png", "a.jpg", "sub/deep/a.PNG", "ü and space.bmp")]
    save(tmp_path / "in" / ".hidden" / "x.png")
    save(tmp_path / "in" / "._a.png")
    (tmp_path / "in" / "notes.txt").write_text("no photo")
    results = run([tmp_path / "in"], tmp_path / "out")
    assert [result.path.name for result in results] == ["a.jpg", "b.png", "ü and space.bmp", "a.PNG"]
    assert set(kinds(results)) == {Done}
    assert tree(tmp_path / "out") == ["a.png", "b.png", FILE_NAME, "sub/deep/a.png", "ü and space.png"]
    for photo in photos:
        mask = PillowImage.open((tmp_path / "out" / photo.relative_to(tmp_path / "in")).with_suffix(".png"))
        assert mask.mode == "L"
        assert np.array_equal(np.array(mask), mask_of(photo))


def test_files_globs_and_what_is_missing(tmp_path, monkeypatch):
    for name in ("a1.png", "a2.png", "b.png", "sub/c.png", "a3.txt"):
        save(tmp_path / name) if name.endswith("png") else (tmp_path / name).write_text("text")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    inputs = ["b.png", "a*", "none.png", "z*", "empty", "a3.txt", "b.png", "**/c.png"]
    results = run(inputs, Path("out"))
    assert [(str(result.path), type(result)) for result in results] == [
        ("b.png", Done), ("a1.png", Done), ("a2.png", Done), ("none.png", Failed), ("z*", Failed), ("empty", Failed),
        ("a3.txt", Failed), ("sub/c.png", Done),
    ]  # fmt: skip
    errors = [str(result.error) for result in results if isinstance(result, Failed)]
    words = ["no such file or folder", "no photo matches", "no photo in this folder", "not a picture"]
    assert all(word in error for word, error in zip(words, errors, strict=True))


@pytest.mark.parametrize("inputs", [["photos/**"], ["photos", "photos/sub"], ["photos", "photos/sub/b.png"]])
def test_a_photo_that_several_inputs_stand_for_is_done_once(tmp_path, monkeypatch, inputs):
    save(tmp_path / "photos" / "a.png"), save(tmp_path / "photos" / "sub" / "b.png")
    monkeypatch.chdir(tmp_path)
    results = run(inputs, Path("out"))
    assert [result.outputs for result in results] == [(Path("out/a.png"),), (Path("out/sub/b.png"),)]


@pytest.mark.parametrize("inputs", [["none"], ["empty"], ["*.png"], []])
def test_no_photo_at_all(tmp_path, monkeypatch, inputs):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no "):
        infer_folder(Predictor(Red()), inputs, Path("out"))
    assert not Path("out").exists()


def test_each_input_without_photo_is_named(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    results = run(["none", "empty"], Path("out"))
    assert [str(result.error).split(" (")[0] for result in results] == [
        "none: no such file or folder",
        "empty: no photo in this folder",
    ]


def test_linked_folders_are_followed_but_not_in_a_circle(tmp_path):
    save(tmp_path / "far" / "b.png"), save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")
    assert set(kinds(run([tmp_path / "in"], tmp_path / "out"))) == {Done}
    assert tree(tmp_path / "out") == ["a.png", FILE_NAME, "link/b.png"]


def test_a_mask_that_was_mended_stays_when_more_is_asked_for(tmp_path):
    photo, mask = save(tmp_path / "a.png"), tmp_path / "out" / "a.png"
    run([photo], tmp_path / "out")
    mended = encode_png(np.zeros((50, 70), np.uint8))
    mask.write_bytes(mended)
    assert kinds(run([photo], tmp_path / "out", overlay=True, probs=True)) == [Done]
    assert tree(tmp_path / "out") == ["a.overlay.jpg", "a.png", "a.probs.png", FILE_NAME]
    assert mask.read_bytes() == mended
    assert kinds(run([photo], tmp_path / "out", overlay=True, probs=True)) == [Skipped]
    run([photo], tmp_path / "out", overlay=True, overwrite=True)
    assert np.array_equal(read_grey(mask), mask_of(photo))


def test_a_name_that_is_too_long_fails_alone(tmp_path):
    save(tmp_path / "in" / f"{'x' * 250}.png"), save(tmp_path / "in" / "y.png")
    assert kinds(run([tmp_path / "in"], tmp_path / "out", probs=True)) == [Failed, Done]


class Overflowing(Red):
    """A network that gives no numbers for bright photos."""

    def __call__(self, tiles):
        probs = super().__call__(tiles)
        return torch.where(tiles[..., 1] == 255, torch.nan, probs)


@pytest.mark.parametrize("lag", [0, 8])
def test_a_network_that_gives_no_numbers_fails_that_photo(tmp_path, lag):
    for name in "abc":
        pixels = picture(200, 90, seed=ord(name))
        pixels[..., 1] = 255 if name == "b" else 0
        save(tmp_path / "in" / f"{name}.png", pixels)
    network = Overflowing()
    network.memory.lag = lag  # as on a GPU
    results = run([tmp_path / "in"], tmp_path / "out", network=network)
    assert kinds(results) == [Done, Failed, Done]
    assert str(results[1].error).startswith(
        f"{tmp_path / 'in' / 'b.png'}: the network gives values that are no numbers"
    )
    assert [path for path in tree(tmp_path / "out") if path.endswith(".png")] == ["a.png", "c.png"]
    with pytest.raises(WeightsError, match="no numbers"):
        Predictor(Overflowing()).mask(np.maximum(picture(200, 90), np.array([0, 255, 0], np.uint8)))


def test_of_values_that_are_no_numbers_no_warning_is_left_on_stderr():
    network = Red()
    network.memory = MainMemory()
    network.__class__ = type("No", (Red,), {"__call__": lambda self, tiles: np.full(tiles.shape[:3], np.nan)})
    with pytest.raises(WeightsError, match="no numbers"):  # a warning would be an error here
        Predictor(network).mask(picture())


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_wait_that_is_none(seconds):
    with pytest.raises(UsageError, match="must be seconds above 0"):
        Predictor(Red(), timeout=seconds)


def test_clashes_are_refused_before_any_work(tmp_path):
    save(tmp_path / "in" / "a.jpg"), save(tmp_path / "in" / "a.png"), save(tmp_path / "other" / "a.png")
    predictor = Predictor(Red())
    with pytest.raises(UsageError, match=r"a\.jpg and .*a\.png would both write a\.png .*separate folders"):
        infer_folder(predictor, [tmp_path / "in"], tmp_path / "out")
    with pytest.raises(UsageError, match=r"would both write .*the folder above both"):
        infer_folder(predictor, [tmp_path / "in" / "a.jpg", tmp_path / "other"], tmp_path / "out")
    with pytest.raises(UsageError, match="would overwrite this photo"):
        infer_folder(predictor, [tmp_path / "other" / "a.png"], tmp_path / "other")
    with pytest.raises(UsageError, match="the output folder is the input folder"):
        infer_folder(predictor, [tmp_path / "other"], tmp_path / "other")
    assert predictor.network.tiles == 0
    assert not (tmp_path / "out").exists()


def test_no_photo_writes_into_the_masks_of_a_video(tmp_path):
    save(tmp_path / "in" / "a.frames" / "000001.png")
    (tmp_path / "in" / "a.mp4").write_bytes(b"frames")
    with pytest.raises(UsageError, match=r"a\.mp4 and .*000001\.png would both write a\.frames "):
        infer_folder(Predictor(Red()), [tmp_path / "in"], tmp_path / "out")


def test_what_may_not_be_looked_at_fails_alone(tmp_path, monkeypatch):
    closed = [save(tmp_path / "closed" / name) for name in ("a.png", "b.tif", "c.gif")]
    good = save(tmp_path / "good.png")

    def guarded(look):
        def refuse(path, **options):
            if "closed/" in os.fspath(path):
                raise PermissionError(13, "Permission denied", path)
            return look(path, **options)

        return refuse

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    *failed, done = run([*closed, good], tmp_path / "out")
    assert [str(each.error) for each in failed] == [f"{path}: cannot be read: Permission denied" for path in closed]
    assert type(done) is Done
    assert len(run([tmp_path / "closed"], tmp_path / "again")) == 3  # their folder can be listed
    with pytest.raises(WeightsError, match="no such weights file"):
        load_network(tmp_path / "closed" / "crack.onnx")


def test_a_probability_file_may_clash_too(tmp_path):
    save(tmp_path / "in" / "a.jpg"), save(tmp_path / "in" / "a.probs.jpg")
    assert kinds(run([tmp_path / "in"], tmp_path / "out")) == [Done, Done]
    with pytest.raises(UsageError, match="would both write"):
        run([tmp_path / "in"], tmp_path / "other", probs=True)


def test_an_output_folder_inside_the_input_is_passed_over(tmp_path):
    save(tmp_path / "a.png")
    assert kinds(run([tmp_path], tmp_path / "masks")) == [Done]
    assert kinds(run([tmp_path], tmp_path / "masks")) == [Skipped]


def test_an_output_folder_that_is_a_file(tmp_path):
    photo = save(tmp_path / "a.png")
    with pytest.raises(OutputError, match="cannot be made a folder"):
        run([photo], photo)


def test_all_outputs(tmp_path):
    pixels = np.full((90, 120, 3), 90, np.uint8)
    pixels[::2, ::2] += 1  # what is of one colour is passed over
    pixels[:, 50] = 255  # a hairline
    photo = save(tmp_path / "in" / "x.png", pixels)
    (done,) = run([photo], tmp_path / "out", probs=True, overlay=True)
    assert [path.name for path in done.outputs] == ["x.png", "x.probs.png", "x.overlay.jpg"]
    assert (done.height, done.width, done.crack_fraction) == (90, 120, pytest.approx(1 / 120, abs=1e-7))
    assert done.seconds > 0
    assert np.array_equal(np.array(PillowImage.open(tmp_path / "out" / "x.probs.png")), pixels[..., 0])
    overlay = read_image(tmp_path / "out" / "x.overlay.jpg").astype(int)
    assert overlay.shape == pixels.shape
    assert (overlay[:, 49:52, 0] - overlay[:, 49:52, 1] > 60).all()  # magenta on and beside the line
    assert np.abs(overlay[:, :40] - 90).max() < 6


def test_threshold(tmp_path):
    photo = save(tmp_path / "x.png")
    run([photo], tmp_path / "out", threshold=0.9)
    assert np.array_equal(read_image(tmp_path / "out" / "x.png")[..., 0] > 0, read_image(photo)[..., 0] >= 231)


def exif_rotated(path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    save(path, picture(40, 80), exif=exif, quality=95)


def store(path, pixels, mode=None):
    image = PillowImage.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


GOOD = {
    "16-bit.png": lambda path: store(path, picture()[..., 0].astype(np.uint16) * 257),
    "palette.png": lambda path: store(path, picture(), "P"),
    "grey.png": lambda path: store(path, picture()[..., 0]),
    "cmyk.jpg": lambda path: store(path, picture(), "CMYK"),
    "alpha.png": lambda path: store(path, np.dstack([picture(), picture()[..., :1]])),
    "exif.jpg": exif_rotated,
    "one.png": lambda path: store(path, picture(1, 1)),
    "wide.png": lambda path: store(path, picture(20, 30000)),
    "tall.png": lambda path: store(path, picture(30000, 20)),
    "größe 1 %20'\".png": lambda path: store(path, picture()),
    "dots.in.name.png": lambda path: store(path, picture()),
    "tagged.tiff": lambda path: store(path, picture()),
}


def cut(path, format_):
    whole = save(path.with_name("whole"), picture(200, 200), format=format_)
    data = whole.read_bytes()
    whole.unlink()
    path.write_bytes(data[: len(data) // 2])


BAD = {
    "empty.jpg": lambda path: path.write_bytes(b""),
    "cut1.jpg": lambda path: cut(path, "JPEG"),
    "cut2.png": lambda path: cut(path, "PNG"),
    "cut3.tif": lambda path: cut(path, "TIFF"),
    "cut4.bmp": lambda path: cut(path, "BMP"),
    "text.jpg": lambda path: path.write_text("this is no picture"),
    "zeros.png": lambda path: path.write_bytes(b"\0" * 5000),
    "header.png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
    "header1.jpg": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0"),
    "dangling.jpg": lambda path: path.symlink_to(path.with_name("nowhere.jpg")),
    "loop.png": lambda path: path.symlink_to(path),
    "pdf.webp": lambda path: path.write_bytes(b"%PDF-1.7 " + b"x" * 100),
}


def test_broken_photos_do_not_stop_the_good_ones(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, make in {**GOOD, **BAD}.items():
        make(folder / name)
    (folder / "folder.jpg").mkdir()
    results = run([folder], tmp_path / "out")
    failed = {result.path.name: str(result.error) for result in results if isinstance(result, Failed)}
    assert sorted(failed) == sorted(BAD)
    assert all(str(folder / name) in message and "\n" not in message for name, message in failed.items())
    done = [result for result in results if isinstance(result, Done)]
    assert len(done) == len(GOOD)
    for result in done:
        mask = np.array(PillowImage.open(result.outputs[0]))
        assert np.array_equal(mask, mask_of(result.path))
        assert mask.shape == (result.height, result.width)
        assert result.crack_fraction == pytest.approx((mask > 0).mean(), abs=1e-7)
    shapes = {result.path.name: (result.height, result.width) for result in done}
    assert shapes["exif.jpg"] == (80, 40)
    assert shapes["one.png"] == (1, 1)
    assert shapes["tall.png"] == (30000, 20)
    assert [result.path for result in results] == sorted(result.path for result in results)


def test_finished_work_is_skipped_and_foreign_work_refused(tmp_path):
    photos, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png", "c.png"):
        save(photos / name)
    save(out / "b.png")  # somebody's own
    foreign = (out / "b.png").read_bytes()
    network = Red()
    assert kinds(run([photos], out, network=network)) == [Done, Failed, Done]
    assert (out / "b.png").read_bytes() == foreign
    tiles = network.tiles
    again = run([photos], out, network=network)
    assert kinds(again) == [Skipped, Failed, Skipped]
    assert again[0].height == 50
    assert again[0].crack_fraction > 0
    assert network.tiles == tiles
    assert "--overwrite" in str(again[1].error)
    assert kinds(run([photos], out, network=network, overwrite=True)) == [Done, Done, Done]
    assert kinds(run([photos], out, network=network)) == [Skipped, Skipped, Skipped]


def test_a_change_of_photo_weights_or_options_is_no_finished_work(tmp_path):
    photos, out = tmp_path / "in", tmp_path / "out"
    save(photos / "a.png"), save(photos / "b.png")
    run([photos], out)
    assert kinds(run([photos], out, threshold=0.3)) == [Failed, Failed]
    assert kinds(run([photos], out, network=Red(digest="other"))) == [Failed, Failed]
    save(photos / "a.png", picture(20, 20))
    assert kinds(run([photos], out)) == [Failed, Skipped]
    (out / "b.png").unlink()
    assert kinds(run([photos], out)) == [Failed, Done]


def test_more_outputs_of_the_same_work_are_added(tmp_path):
    photo, out = save(tmp_path / "a.png"), tmp_path / "out"
    run([photo], out)
    assert kinds(run([photo], out, probs=True)) == [Done]
    assert kinds(run([photo], out, overlay=True)) == [Done]
    assert kinds(run([photo], out, probs=True, overlay=True)) == [Skipped]


def test_resume_refuses_other_work_up_front(tmp_path):
    photo, out = save(tmp_path / "a.png"), tmp_path / "out"
    assert kinds(run([photo], out, resume=True)) == [Done]
    assert kinds(run([photo], out, resume=True)) == [Skipped]
    with pytest.raises(UsageError, match="other options"):
        run([photo], out, resume=True, threshold=0.25)
    with pytest.raises(UsageError, match="other weights"):
        run([photo], out, resume=True, network=Red(digest="other"))


def test_what_was_done_again_with_other_weights_is_their_work_alone(tmp_path):
    photo, out = save(tmp_path / "a.png"), tmp_path / "out"
    old, new = Red(digest="old"), Red(digest="new")
    run([photo], out, network=old)
    run([photo], out, network=new, overwrite=True, shard=(1, 1))  # in a journal that is read before the other
    assert kinds(run([photo], out, network=old)) == [Failed]
    assert kinds(run([photo], out, network=new, resume=True)) == [Skipped]


def test_dry_run_only_says_what_would_be_done(tmp_path):
    save(tmp_path / "in" / "a.png"), save(tmp_path / "in" / "b.png")
    run([tmp_path / "in" / "a.png"], tmp_path / "out")
    before = tree(tmp_path)
    network = Red()
    results = run([tmp_path / "in", tmp_path / "none"], tmp_path / "out", network=network, dry_run=True)
    assert kinds(results) == [Skipped, Planned, Failed]
    assert results[1].outputs == (tmp_path / "out" / "b.png",)
    assert kinds(run([tmp_path / "in"], tmp_path / "new", dry_run=True)) == [Planned, Planned]
    assert tree(tmp_path) == before
    assert network.tiles == 0
    assert not (tmp_path / "new").exists()


def test_journal_lines(tmp_path):
    photo, out = save(tmp_path / "ü.png"), tmp_path / "out"
    (done,) = run([photo], out, probs=True)
    (line,) = (out / FILE_NAME).read_text().splitlines()
    record = json.loads(line)
    assert record.pop("seconds") == done.seconds
    assert len(record.pop("options")) == 16
    assert 0 <= time.time() - record.pop("finished") < 60
    assert record == {
        "path": str(photo), "size": photo.stat().st_size, "mtime_ns": photo.stat().st_mtime_ns, "weights": "red",
        "outputs": ["ü.png", "ü.probs.png"], "height": 50, "width": 70, "crack_fraction": done.crack_fraction,
    }  # fmt: skip


@given(st.binary(max_size=40), st.integers(0, 200))
@settings(max_examples=25, deadline=None)
def test_any_torn_journal_is_read(tmp_path_factory, noise, cut_at):
    folder = tmp_path_factory.mktemp("journal")
    photo = save(folder / "a.png")
    run([photo], folder / "out")
    journal = folder / "out" / FILE_NAME
    line = journal.read_bytes()
    journal.write_bytes(line + noise + b"\n" + line[:cut_at])
    assert Journal(folder / "out", "red", Predictor(Red()).settings()).own(photo, folder / "out" / "a.png")


def test_lines_after_a_torn_one_are_whole(tmp_path):
    save(tmp_path / "in" / "a.png"), save(tmp_path / "in" / "b.png")
    out = tmp_path / "out"
    run([tmp_path / "in" / "a.png"], out)
    with (out / FILE_NAME).open("ab") as file:
        file.write(b'{"path": "tor')
    assert kinds(run([tmp_path / "in"], out)) == [Skipped, Done]
    assert kinds(run([tmp_path / "in"], out)) == [Skipped, Skipped]


def test_a_full_disk_fails_that_photo_and_damages_nothing(tmp_path, monkeypatch):
    photos, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png", "c.png"):
        save(photos / name, picture(300, 300))
    run([photos / "b.png"], out)
    before = (out / "b.png").read_bytes()

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    @contextlib.contextmanager
    def open_on_full_disk(path):
        with files.open_atomic(path) as file:
            yield Full() if path.name == "b.png" else file

    monkeypatch.setattr("cracktool.inference.writing.open_atomic", open_on_full_disk)
    results = run([photos], out, overwrite=True)
    assert kinds(results) == [Done, Failed, Done]
    assert "b.png: cannot be written: No space left on device" in str(results[1].error)
    assert (out / "b.png").read_bytes() == before
    assert tree(out) == ["a.png", "b.png", "c.png", FAILURES_NAME, FILE_NAME]


def test_a_failing_writer_does_not_stall_a_long_photo(tmp_path):
    photo, out = save(tmp_path / "a.png", picture(3000, 20)), tmp_path / "out"
    (out / "a.png").mkdir(parents=True)
    (failed,) = run([photo], out, overwrite=True)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, OutputError)
    assert list((out / "a.png").iterdir()) == []


def test_stopping_in_the_middle_of_a_photo_leaves_no_part_of_it(tmp_path):
    save(tmp_path / "in" / "a.png"), save(tmp_path / "in" / "b.png", picture(4000, 20))

    class Stops(Red):
        def __call__(self, tiles):
            if self.tiles > 20:
                raise KeyboardInterrupt
            return super().__call__(tiles)

    results = infer_folder(Predictor(Stops(), batch_size=1), [tmp_path / "in"], tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        list(results)
    assert tree(tmp_path / "out") == ["a.png", FILE_NAME]


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from test_infer_folder import Red, run
run([sys.argv[2]], __import__("pathlib").Path(sys.argv[3]), network=Red(seconds=0.08), probs=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_killed_run_goes_on_and_ends_like_an_undisturbed_one(tmp_path):
    photos, out, calm = tmp_path / "in", tmp_path / "out", tmp_path / "calm"
    for index in range(12):
        save(photos / f"{index:02}.png", picture(60 + index, 200, seed=index))
    process = subprocess.Popen([sys.executable, "-c", KILLED, Path(__file__).parent, photos, out])
    journal, deadline = out / FILE_NAME, time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("[!.]*.png")}
    assert 6 <= len(finished) < 24
    results = run([photos], out, probs=True, resume=True)
    assert set(kinds(results)) == {Skipped, Done}
    assert kinds(results).count(Skipped) >= 3
    run([photos], calm, probs=True)
    for path in sorted(calm.glob("*.png")):
        assert (out / path.name).read_bytes() == path.read_bytes()
    skipped = [output for result in results if isinstance(result, Skipped) for output in result.outputs]
    assert all(output.stat().st_mtime_ns == finished[output] for output in skipped)


@pytest.mark.parametrize("existed", [False, True])
def test_a_kill_between_files_and_journal_is_mended(tmp_path, monkeypatch, existed):
    """The mask has its name but the probabilities have not: the next run does the photo again, or says why not."""
    photo, out = save(tmp_path / "a.png"), tmp_path / "out"
    if existed:
        run([photo], out, threshold=0.9, probs=True)
    real, calls = Path.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            run([photo], out, probs=True, overwrite=existed)
    (result,) = run([photo], out, probs=True)
    assert isinstance(result, Failed if existed else Done)  # never Skipped: one of the files may be the old one
    (result,) = run([photo], out, probs=True, overwrite=existed)
    assert isinstance(result, Done if existed else Skipped)


def test_bytes_in_bytes_out(tmp_path):
    photo = save(tmp_path / "a.png")
    mask = infer_bytes(Predictor(Red()), photo.read_bytes())
    assert np.array_equal(read_image(mask)[..., 0], mask_of(photo))
    with pytest.raises(InputError, match="empty"):
        infer_bytes(Predictor(Red()), b"")
