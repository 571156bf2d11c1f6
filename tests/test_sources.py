"""What photos come as: pages, HEIC, videos, georeferenced rasters read by rows, files that hang or are traps."""

import contextlib
import os
import re
import signal
import struct
import sys
import threading
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from cracktool.card import Card
from cracktool.errors import InputError, OutputError
from cracktool.images import read_image, read_pages, read_size
from cracktool.inference import Broken, Done, Failed, FolderOptions, Planned, Predictor, Skipped, estimate, infer_folder
from cracktool.inference.decode import decoded, prefetched
from cracktool.inference.memory import MainMemory
from cracktool.inference.rasters import GeoRaster, GeoWriter
from cracktool.inference.videos import Smoother, VideoReader

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio's own code


class Red:
    """A network that gives back the red channel, and counts its tiles."""

    def __init__(self, scale=1):
        self.card = Card(model="red", mean=(0, 0, 0), std=(1, 1, 1), tile=64, stride=4, scale=scale)
        self.digest, self.memory, self.dtype = "red", MainMemory(), "float32"
        self.place = "here"
        self.tiles = 0

    def __call__(self, tiles):
        self.tiles += len(tiles)
        probs = (tiles[..., 0].astype(np.float32) + 0.5) / 256
        return probs.repeat(self.card.scale, 1).repeat(self.card.scale, 2)


def picture(height=50, width=70, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(inputs, out, *, network=None, **options):
    return list(infer_folder(Predictor(network or Red()), inputs, out, FolderOptions(**options)))


def read(path):
    with PillowImage.open(path) as mask:
        return np.array(mask)


def expected(pixels):
    return (pixels[..., 0] >= 128) * np.uint8(255)


def test_each_page_of_a_file_gets_a_mask(tmp_path):
    pages = [picture(40 + index, 60, seed=index) for index in range(12)]
    first, *others = map(PillowImage.fromarray, pages)
    first.save(tmp_path / "scan.tif", save_all=True, append_images=others)
    results = run([tmp_path / "scan.tif"], tmp_path / "out")
    assert [result.outputs[0].name for result in results] == [f"scan.page{page:02}.png" for page in range(12)]
    for page, result in zip(pages, results, strict=True):
        assert np.array_equal(read(result.outputs[0]), expected(page))
    again = run([tmp_path / "scan.tif"], tmp_path / "out")
    assert {type(result) for result in again} == {Skipped}


def test_pages_that_are_no_pictures_of_their_own(tmp_path):
    whole = PillowImage.fromarray(picture(80, 80))
    small = PillowImage.fromarray(picture(40, 40))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    whole.save(tmp_path / "cog.tif", save_all=True, append_images=[small])
    with PillowImage.open(tmp_path / "cog.tif") as picture_of_two:
        assert picture_of_two.n_frames == 2
    assert read_pages(tmp_path / "cog.tif") == (0,)
    (done,) = run([tmp_path / "cog.tif"], tmp_path / "out")
    assert done.outputs[0].name == "cog.png"
    with pytest.raises(InputError, match="no page 7"):
        read_image(tmp_path / "cog.tif", page=7)


def test_frames_of_an_animation_are_not_decoded_to_be_counted(tmp_path, monkeypatch):
    frames = [PillowImage.new("RGB", (30, 20), (20 * index, 0, 0)) for index in range(9)]
    frames[0].save(tmp_path / "loop.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(PillowImage.Image, "load", lambda picture: pytest.fail("a frame was decoded"))
    assert read_pages(tmp_path / "loop.gif") == tuple(range(9))


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_animated_pictures(tmp_path, kind):
    frames = [PillowImage.new("RGB", (30, 20), (200 * (index % 2), 0, 0)) for index in range(3)]
    path = tmp_path / f"loop.{kind.lower()}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    results = run([path], tmp_path / "out")
    assert [result.crack_fraction for result in results] == [0, 1, 0]


@pytest.mark.parametrize("turn", [1, 6])
def test_heic(tmp_path, turn):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48] = 220
    exif = PillowImage.Exif()
    exif[0x0112] = turn
    PillowImage.fromarray(pixels).save(tmp_path / "phone.heic", quality=95, exif=exif)
    got = read_image(tmp_path / "phone.heic")
    assert got.shape == pixels.shape  # the format has a turn of its own; that in EXIF is a note
    assert np.abs(got.astype(int) - pixels).mean() < 4
    (done,) = run([tmp_path], tmp_path / "out")
    assert (done.height, done.width) == (64, 96)


def test_heic_without_exif_data(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "phone.heic"
    heif.from_bytes(mode="RGB", size=(96, 64), data=bytes(96 * 64 * 3)).save(path)
    assert read_image(path).shape == (64, 96, 3)
    assert read_size(path) == (64, 96)


def test_heic_without_its_plug_in(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 100)
    with pytest.raises(InputError, match=r"HEIC photos need .*pip install 'cracktool\[heic\]'"):
        read_image(tmp_path / "phone.heic")


def bomb(path, side):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_a_file_that_claims_to_be_huge_is_refused_and_the_limit_can_be_moved(tmp_path):
    bomb(tmp_path / "bomb.png", 20_000)
    with pytest.raises(InputError, match=r"400 megapixels are more than the limit of 268\.435 .*--max-megapixels"):
        read_image(tmp_path / "bomb.png")
    PillowImage.fromarray(picture(50, 70)).save(tmp_path / "a.jpg")
    for dry_run in (True, False):
        (failed,) = run([tmp_path / "a.jpg"], tmp_path / "out", max_pixels=3000, dry_run=dry_run)
        assert "limit" in str(failed.error)
    (done,) = run([tmp_path / "a.jpg"], tmp_path / "out", max_pixels=4000)
    assert isinstance(done, Done)


# -- videos


def film(path, frames, *, fps=12.5, codec="FFV1"):
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


def flashes(count=7, height=64, width=96):
    frames = [np.full((height, width, 3), 60, np.uint8) for _ in range(count)]
    for index, frame in enumerate(frames):
        frame[:, 10 * index : 10 * index + 6] = 250
    return frames


def test_every_second_frame_of_a_video(tmp_path):
    frames = flashes()
    (tmp_path / "in").mkdir()
    film(tmp_path / "in" / "walk.mkv", frames)
    (done,) = run([tmp_path / "in"], tmp_path / "out", every=2, overlay=True, probs=True)
    assert [path.name for path in done.outputs] == ["walk.frames", "walk.probs", "walk.overlay.mp4"]
    masks = sorted((tmp_path / "out" / "walk.frames").iterdir())
    assert [path.name for path in masks] == ["000000.png", "000002.png", "000004.png", "000006.png"]
    for path, frame in zip(masks, frames[::2], strict=True):
        assert np.array_equal(read(path), expected(frame))
    assert done.crack_fraction == pytest.approx(6 / 96, abs=1e-6)
    overlay = VideoReader(tmp_path / "out" / "walk.overlay.mp4")
    shown = list(overlay)
    assert (overlay.fps, len(shown), shown[0].image.shape) == (12.5, 7, frames[0].shape)
    pink = [frame.image[..., 0].astype(int) - frame.image[..., 1] for frame in shown]
    assert all(each.max() > 80 for each in pink)  # the crack is drawn
    places = [int(np.argmax(each.mean(axis=0))) for each in pink]
    assert abs(places[2] - places[3]) < 3 < abs(places[2] - places[4])  # each frame that was run is shown twice
    assert type(run([tmp_path / "in"], tmp_path / "out", every=2, overlay=True, probs=True)[0]) is Skipped
    assert type(run([tmp_path / "in"], tmp_path / "out", every=3)[0]) is Failed  # other options


@pytest.mark.parametrize("shape", [(1, 1), (63, 95)])
def test_of_odd_frames_nothing_is_lost(tmp_path, shape):
    frames = [PillowImage.fromarray(picture(*shape, seed=index)) for index in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "a.gif").rename(tmp_path / "a.mkv")  # OpenCV writes even sides alone, but reads all
    (done,) = run([tmp_path / "a.mkv"], tmp_path / "out", overlay=True)
    assert (done.height, done.width) == shape
    assert VideoReader(done.outputs[1]).shape_claimed() == tuple(side + 1 for side in shape)


def test_smoothing_fades_what_is_seen_once(tmp_path):
    frames = [np.full((64, 64, 3), value, np.uint8) for value in (0, 200, 0, 200, 200, 200)]
    for frame in frames:
        frame[::2] += 1
    film(tmp_path / "a.avi", frames)
    run([tmp_path / "a.avi"], tmp_path / "plain")
    run([tmp_path / "a.avi"], tmp_path / "smooth", smooth=0.6)
    plain, smooth = (
        [read(path).mean() > 128 for path in sorted((tmp_path / name / "a.frames").iterdir())]
        for name in ("plain", "smooth")
    )
    assert plain == [False, True, False, True, True, True]
    assert smooth == [False, False, False, False, True, True]
    assert Smoother(0.5)(np.uint8([[200]])) == 200


def test_a_video_is_written_whole_or_not_at_all(tmp_path):
    film(tmp_path / "a.avi", [picture(64, 96, seed=number) for number in range(50)])

    class Stops(Red):
        def __call__(self, tiles):
            if self.tiles:
                raise KeyboardInterrupt
            return super().__call__(tiles)

    with pytest.raises(KeyboardInterrupt):
        run([tmp_path / "a.avi"], tmp_path / "out", network=Stops(), overlay=True)
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out" / "a.frames").mkdir()
    (tmp_path / "out" / "a.frames" / "mine.txt").write_text("mine")
    (failed,) = run([tmp_path / "a.avi"], tmp_path / "out", overwrite=True)
    assert "other files" in str(failed.error)
    (tmp_path / "out" / "a.frames" / "mine.txt").unlink()
    assert isinstance(run([tmp_path / "a.avi"], tmp_path / "out", overwrite=True)[0], Done)
    assert isinstance(run([tmp_path / "a.avi"], tmp_path / "out", overwrite=True)[0], Done)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.frames",
        "crack-failures.jsonl",
        "crack-infer.jsonl",
    ]


@contextlib.contextmanager
def disk_with_room_for(size):
    """Let no file grow beyond a size in bytes, as on a disk that is nearly full."""
    resource = pytest.importorskip("resource", reason="limits as POSIX has them")
    limits, taken = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, taken)


def test_a_full_disk_leaves_no_part_of_a_video(tmp_path):
    film(tmp_path / "a.avi", [picture(64, 96, seed=number) for number in range(50)])
    with disk_with_room_for(50_000):
        (failed,) = run([tmp_path / "a.avi"], tmp_path / "out", overlay=True)
    assert re.search(r"a\.avi: the video with the crack drawn in cannot be written whole", str(failed.error))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["crack-failures.jsonl"]


def test_a_video_that_is_cut_short_is_told(tmp_path):
    whole = film(tmp_path / "a.avi", [picture(64, 96, seed=number) for number in range(50)], codec="MJPG")
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    predictor = Predictor(Red())
    assert {type(each) for each in infer_folder(predictor, [whole, tmp_path / "cut.avi"], tmp_path / "out")} == {Done}
    (warning,) = predictor.warnings
    assert re.search(r"cut\.avi: only 2\d of the 50 frames that it promises can be decoded", warning)


@pytest.mark.parametrize(("fps", "written"), [(29.97, 29.97), (239.8731, 240)])
def test_any_rate_of_frames_can_be_written(tmp_path, fps, written):
    film(tmp_path / "a.avi", flashes(3), fps=fps)
    (done,) = run([tmp_path / "a.avi"], tmp_path / "out", overlay=True)
    assert VideoReader(done.outputs[1]).fps == pytest.approx(written, abs=1e-3)


def test_videos_and_photos_keep_their_order_and_what_is_no_video_fails(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    PillowImage.fromarray(picture()).save(folder / "a.png")
    film(folder / "b.avi", flashes(3))
    (folder / "c.mp4").write_text("no video")
    PillowImage.fromarray(picture()).save(folder / "d.png")
    (folder / "e.mov").symlink_to("gone.mov")
    results = run([folder], tmp_path / "out")
    assert [type(result) for result in results] == [Done, Done, Failed, Done, Failed]
    assert "e.mov: cannot be read: No such file" in str(results[4].error)
    assert re.search(r"c\.mp4: not a video that OpenCV can open", str(results[2].error))
    plans = run([folder / "b.avi"], tmp_path / "other", dry_run=True, every=2)
    assert plans == [Planned(folder / "b.avi", (tmp_path / "other" / "b.frames",), 64, 96, 2)]


# -- georeferenced rasters


@pytest.fixture
def rasterio():
    return pytest.importorskip("rasterio")


def ortho(rasterio, path, pixels, *, nodata=None, alpha=None, driver="GTiff", **options):
    bands = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels[None]
    if alpha is not None:
        bands = np.concatenate([bands, alpha[None]])
    profile = {"crs": "EPSG:25832", "transform": rasterio.transform.from_origin(500_000, 5_000_000, 0.01, 0.01)}
    with rasterio.open(
        path, "w", driver=driver, count=len(bands), height=bands.shape[1], width=bands.shape[2],
        dtype=bands.dtype, nodata=nodata, **profile, **options,
    ) as dataset:  # fmt: skip
        dataset.write(bands)
        if alpha is not None:
            dataset.colorinterp = [*dataset.colorinterp[:-1], rasterio.enums.ColorInterp.alpha]
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.tif", {}),
        ("tiled.tif", {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}),
        ("big.tiff", {"BIGTIFF": "YES"}),
        ("j.jp2", {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}),
        ("cog.tif", {"driver": "COG"}),
    ],
)
def test_a_raster_keeps_its_place_on_earth(rasterio, tmp_path, name, options):
    pixels = picture(300, 410)
    path = ortho(rasterio, tmp_path / name, pixels, **options)
    (done,) = run([path], tmp_path / "out", probs=True)
    assert [out.name for out in done.outputs] == [f"{path.stem}.tif", f"{path.stem}.probs.tif"]
    with rasterio.open(path) as source, rasterio.open(done.outputs[0]) as mask, rasterio.open(done.outputs[1]) as probs:
        assert (mask.crs, mask.transform, mask.shape) == (source.crs, source.transform, source.shape)
        assert mask.profile["tiled"]
        assert np.array_equal(mask.read(1), expected(pixels))
        assert np.array_equal(probs.read(1), pixels[..., 0])
    assert isinstance(run([path], tmp_path / "out", probs=True)[0], Skipped)


@pytest.mark.parametrize("kind", ["nodata", "alpha"])
def test_what_a_raster_does_not_show_stays_unseen_and_is_not_run(rasterio, tmp_path, kind):
    pixels = np.maximum(picture(640, 256), 1)
    shown = np.zeros((640, 256), bool)
    shown[100:300, :150] = True
    pixels[~shown] = 0 if kind == "nodata" else 255
    alpha = shown * np.uint8(255) if kind == "alpha" else None
    path = ortho(rasterio, tmp_path / "a.tif", pixels, nodata=0 if kind == "nodata" else None, alpha=alpha)
    network = Red()
    (done,) = run([path], tmp_path / "out", network=network)
    with rasterio.open(done.outputs[0]) as mask:
        assert np.array_equal(mask.read(1), expected(pixels) * shown)
        assert np.array_equal(mask.dataset_mask() > 0, shown)
    whole = Red()
    Predictor(whole).mask(picture(640, 256))
    assert network.tiles < 0.5 * whole.tiles
    assert read(done.outputs[0]).shape == (640, 256)  # any other reader takes it for a mask as usual


def test_rasters_of_other_kinds(rasterio, tmp_path):
    grey = picture(90, 100)[..., 0]
    made = {
        "grey.tif": (grey, expected(grey[..., None])),
        "deep.tif": (grey.astype(np.uint16) * 256 + 77, expected(grey[..., None])),
        "infrared.tif": (np.dstack([picture(90, 100), grey]), expected(picture(90, 100))),
        "negative.tif": (255 - grey, expected(grey[..., None])),
    }
    for name, (pixels, mask) in made.items():
        options = {"photometric": "miniswhite"} if name == "negative.tif" else {}
        (done,) = run([ortho(rasterio, tmp_path / name, pixels, **options)], tmp_path / "out")
        assert np.array_equal(read(done.outputs[0]), mask), name
    (failed,) = run([ortho(rasterio, tmp_path / "float.tif", grey.astype(np.float32))], tmp_path / "out")
    assert "float32, not 8 or 16 bits (make 8 bits of it: gdal_translate" in str(failed.error)


def test_a_raster_with_a_palette(rasterio, tmp_path):
    values = picture(70, 70)[..., 0] % 4
    path = tmp_path / "palette.tif"
    transform = rasterio.transform.from_origin(5, 5, 0.5, 0.5)
    options = {"height": 70, "width": 70, "count": 1, "dtype": "uint8", "photometric": "palette"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:3857", transform=transform, **options) as dataset:
        dataset.write(values, 1)
        dataset.write_colormap(1, {index: (60 * index, 0, 0, 255) for index in range(4)})
    (done,) = run([path], tmp_path / "out", probs=True)
    assert np.array_equal(read(done.outputs[1]), values * 60)


def test_large_pictures_without_a_place_are_read_by_rows_but_not_those_with_pages_or_turned(
    rasterio, tmp_path, monkeypatch
):
    monkeypatch.setattr("cracktool.inference.rasters._WIDE_PIXELS", 1000)
    pages = [PillowImage.fromarray(picture(40, 60)), PillowImage.fromarray(picture(50, 30))]
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    pages[0].save(tmp_path / "plain.tif")
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "turned.tif", exif=exif)
    plans = run([tmp_path], tmp_path / "out", dry_run=True)
    assert [(plan.height, plan.width) for plan in plans] == [(40, 60), (40, 60), (50, 30), (60, 40)]
    results = run([tmp_path], tmp_path / "out", overlay=True)
    assert [(result.outputs[0].name, result.height, result.width, len(result.outputs)) for result in results] == [
        ("plain.png", 40, 60, 1), ("scan.page0.png", 40, 60, 2), ("scan.page1.png", 50, 30, 2),
        ("turned.png", 60, 40, 2),
    ]  # fmt: skip
    assert np.array_equal(read(tmp_path / "out" / "turned.png"), np.rot90(expected(picture(40, 60)), -1))


def test_the_memory_of_a_picture_that_is_read_by_rows_is_that_of_a_few(rasterio, tmp_path, monkeypatch):
    PillowImage.fromarray(picture(20_000, 600)).save(tmp_path / "tall.tif")
    plan = run([tmp_path / "tall.tif"], tmp_path / "out", dry_run=True)
    whole = estimate(Predictor(Red()), plan).bytes
    monkeypatch.setattr("cracktool.inference.rasters._WIDE_PIXELS", 1000)
    assert whole - estimate(Predictor(Red()), plan).bytes > 20_000 * 600 * 3


def test_a_network_that_enlarges_makes_finer_pixels_of_the_same_place(rasterio, tmp_path):
    path = ortho(rasterio, tmp_path / "a.tif", np.maximum(picture(100, 130), 1), nodata=0)
    (done,) = run([path], tmp_path / "out", network=Red(scale=2))
    with rasterio.open(path) as source, rasterio.open(done.outputs[0]) as mask:
        assert mask.shape == (200, 260)
        assert mask.bounds == pytest.approx(source.bounds)


def test_reading_by_rows_gives_what_the_whole_photo_gives(rasterio, tmp_path):
    pixels = picture(517, 203)
    raster = GeoRaster(ortho(rasterio, tmp_path / "a.tif", pixels))
    predictor = Predictor(Red(), overlap=0.4)
    ((_, levels),) = predictor.stream(["a"], lambda _: raster)
    assert np.array_equal(levels, predictor.levels(pixels))


def test_gdals_cache_keeps_its_limit_in_every_thread(rasterio, tmp_path):
    from rasterio.env import get_gdal_config

    raster = GeoRaster(ortho(rasterio, tmp_path / "a.tif", picture(40, 50)))
    with rasterio.Env():  # as another thread enters and leaves one
        raster.read(0, 40)
    assert get_gdal_config("GDAL_CACHEMAX") == 64 * 2**20


class Torn:
    """A raster whose rows can be read only so far."""

    height, width = 400, 100

    def read(self, top, bottom):
        if bottom > 200:
            raise InputError("torn", path="a.tif")
        return picture(bottom - top, 100, seed=top), None


def test_a_raster_that_breaks_off_fails_alone(tmp_path):
    events = list(
        Predictor(Red(), batch_size=2).bands(["torn", "whole"], lambda item: Torn() if item == "torn" else picture())
    )
    kinds = [type(event).__name__ for event in events]
    assert kinds[0] == "Opened"
    assert isinstance(events[kinds.index("Broken")], Broken)
    assert kinds[kinds.index("Broken") + 1 :] == ["Opened", "Band", "Finished"]


def test_a_torn_raster_leaves_no_file(rasterio, tmp_path, capfd):
    path = ortho(rasterio, tmp_path / "a.tif", picture(600, 300), compress="deflate", blockysize=16, tiled=False)
    PillowImage.fromarray(picture()).save(tmp_path / "b.png")
    data = path.read_bytes()
    path.write_bytes(
        data[: len(data) // 2] + b"\0" * (len(data) // 3) + data[-(len(data) - len(data) // 2 - len(data) // 3) :]
    )
    failed, done = run([path, tmp_path / "b.png"], tmp_path / "out")
    assert isinstance(failed, Failed)
    assert isinstance(done, Done)
    assert capfd.readouterr().err == ""  # GDAL says nothing beside the failure
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "b.png",
        "crack-failures.jsonl",
        "crack-infer.jsonl",
    ]


def test_a_geotiff_that_cannot_be_written(rasterio, tmp_path):
    raster = GeoRaster(ortho(rasterio, tmp_path / "a.tif", picture()))
    with pytest.raises(OutputError, match="cannot be written"):
        GeoWriter(tmp_path / "none" / "b.tif", raster, 50, 70)
    writer = GeoWriter(tmp_path / "b.tif", raster, 50, 70)
    writer.write(picture(20, 70)[..., 0])
    with pytest.raises(ValueError, match="50 rows were never written"):
        writer.close()


@pytest.mark.parametrize("missing", [40_000, 20])  # bytes: some blocks, the end of the directory
def test_a_full_disk_leaves_no_part_of_a_geotiff(rasterio, tmp_path, missing):
    path = ortho(rasterio, tmp_path / "a.tif", picture(900, 700))
    (done,) = run([path], tmp_path / "roomy")
    with disk_with_room_for(done.outputs[0].stat().st_size - missing):
        (failed,) = run([path], tmp_path / "out")
    assert str(failed.error).startswith(f"{path}: its result cannot be written: ")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["crack-failures.jsonl"]


def test_without_rasterio_a_geotiff_is_a_photo_like_others(rasterio, tmp_path, monkeypatch):
    pixels = picture(90, 100)
    path = ortho(rasterio, tmp_path / "a.tif", pixels)
    monkeypatch.setattr("cracktool.inference.rasters.has_rasterio", lambda: False)
    (done,) = run([path], tmp_path / "out")
    assert done.outputs[0].name == "a.png"
    assert np.array_equal(read(done.outputs[0]), expected(pixels))


# -- files that hang


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes")
def test_a_file_that_hangs_is_given_up(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        PillowImage.fromarray(picture()).save(folder / name)
    os.mkfifo(folder / "b.png")
    began = time.monotonic()
    results = list(infer_folder(Predictor(Red(), timeout=0.5), [folder], tmp_path / "out"))
    assert [type(result) for result in results] == [Done, Failed, Done]
    assert "b.png: gave no answer for 0.5 s" in str(results[1].error)
    assert time.monotonic() - began < 5
    with (folder / "b.png").open("wb"):  # its thread can end
        pass


@pytest.mark.parametrize(("name", "dry_run"), [("b.mp4", False), ("b.mp4", True), ("b.png", True)])
def test_opening_may_hang_too(tmp_path, name, dry_run):
    PillowImage.fromarray(picture()).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / name)
    predictor = Predictor(Red(), timeout=0.5)
    first, second = infer_folder(predictor, [tmp_path], tmp_path / "out", FolderOptions(dry_run=dry_run))
    assert type(first) is (Planned if dry_run else Done)
    assert f"{name}: gave no answer for 0.5 s" in str(second.error)
    with (tmp_path / name).open("wb"):  # its thread can end
        pass


def test_a_file_that_vanishes_fails_alone(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(12):
        PillowImage.fromarray(picture()).save(folder / f"{index:02}.png")
    kinds = []
    for result in infer_folder(Predictor(Red(), batch_size=1), [folder], tmp_path / "out"):
        kinds.append(type(result))
        (folder / "11.png").unlink(missing_ok=True)
    assert kinds == [Done] * 11 + [Failed]


def test_reading_by_rows_may_hang_too():
    def slow():
        yield 1
        time.sleep(3)

    items = prefetched(slow(), ahead=1, timeout=0.2)
    assert next(items) == 1
    with pytest.raises(InputError, match=r"no answer for 0\.2 s"):
        next(items)


def test_threads_that_are_no_longer_wanted_end():
    before = threading.active_count()
    items = prefetched(iter(range(10**9)), ahead=2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() == before


def test_no_more_items_are_drawn_than_have_a_place():
    drawn = []
    items = prefetched((drawn.append(number) or number for number in range(9)), ahead=2)
    for number in range(5):
        assert next(items) == number
        deadline = time.monotonic() + 5
        while len(drawn) < number + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)  # in which no further one may come
        assert drawn == list(range(number + 3))  # the one in use, and two ahead


def test_errors_of_the_reader_reach_the_caller():
    def fails():
        yield 1
        raise ZeroDivisionError

    items = prefetched(fails(), ahead=1)
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)
    with pytest.raises(ZeroDivisionError):
        list(decoded([1], lambda number: number / 0, 1))
