"""Images of any data set become tiles; those with too little crack are left out, but for a drawn share."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import raw_sets
from PIL import Image as PillowImage
from raw_sets import put

from cracktool.datasets.prepare import prepare
from cracktool.datasets.raw import Notes, PrepareOptions, RawItem
from cracktool.datasets.tiling import tiled
from cracktool.errors import InputError, OutputError, UsageError
from cracktool.images import encode_jpeg, encode_png, read_image, read_mask
from cracktool.manifest import read_manifest


def picture(seed, height=100, width=150):
    return raw_sets.picture(seed, height, width)


def put_photos(raw, count=4):
    """Photos of 150 x 100 px with a crack along their upper edge, and one of 60 x 40 px."""
    mask = np.zeros((100, 150), np.uint8)
    mask[3:6] = 255
    for number in range(count):
        put(raw / "images" / f"wall{number}.jpg", encode_jpeg(picture(number)))
        put(raw / "masks" / f"wall{number}.png", encode_png(mask))
    put(raw / "images" / "small.jpg", encode_jpeg(picture(90, 40, 60)))
    put(raw / "masks" / "small.png", encode_png(np.zeros((40, 60), np.uint8)))


@pytest.fixture
def raw(tmp_path):
    put_photos(tmp_path / "raw")
    return tmp_path / "raw"


def entries(result):
    return {Path(entry.image).stem: entry for entry in read_manifest(result.manifest).entries}


def item(name="a", seed=0, mask=True, **more):
    def read():
        image = picture(seed)
        crack = np.zeros(image.shape[:2], bool)
        crack[:2] = True
        return image, crack if mask else None

    return RawItem(**{"name": name, "group": name, "source": f"{name}.jpg", "read": read} | more)


def test_tiles_are_parts_of_the_photo_and_of_its_mask(raw, tmp_path):
    result = prepare("folder", raw, tmp_path / "out", options=PrepareOptions(tile=64))
    found = entries(result)
    starts = [(y, x) for y in (0, 36) for x in (0, 43, 86)]  # as even as they go, the last flush with the end
    assert set(found) == {f"wall{n}_{y}_{x}" for n in range(4) for y, x in starts} | {"small"}
    for number in range(4):
        photo, mask = read_image(raw / "images" / f"wall{number}.jpg"), read_mask(raw / "masks" / f"wall{number}.png")
        for y, x in starts:
            entry = found[f"wall{number}_{y}_{x}"]
            stored = read_image(tmp_path / "out" / entry.image)
            assert np.array_equal(stored, photo[y : y + 64, x : x + 64])
            assert np.array_equal(read_mask(tmp_path / "out" / entry.mask), mask[y : y + 64, x : x + 64])
            assert (entry.height, entry.width, entry.source) == (64, 64, f"images/wall{number}.jpg")
            assert entry.crack_fraction == pytest.approx(0 if y else 3 / 64, abs=1e-6)
    assert (tmp_path / "out" / "images" / "small.jpg").read_bytes() == (raw / "images" / "small.jpg").read_bytes()


def test_tiles_of_a_photo_are_never_parted_and_copies_follow(raw, tmp_path):
    put(raw / "images" / "copy.jpg", (raw / "images" / "wall1.jpg").read_bytes())
    put(raw / "masks" / "copy.png", (raw / "masks" / "wall1.png").read_bytes())
    parted = set()
    for seed in range(4):
        options = PrepareOptions(tile=64, split=(0.4, 0.3, 0.3), seed=seed)
        splits = {}
        for stem, entry in entries(prepare("folder", raw, tmp_path / str(seed), options=options)).items():
            splits.setdefault(stem.split("_")[0], set()).add(entry.split)
        assert all(len(found) == 1 for found in splits.values())
        assert splits["copy"] == splits["wall1"]
        parted |= set.union(*splits.values())
    assert parted == {"train", "val", "test"}


@pytest.mark.parametrize(("side", "shapes"), [(100, [(100, 100)] * 2), (120, [(100, 120)] * 2), (150, [(100, 150)])])
def test_a_side_shorter_than_a_tile_stays_whole(side, shapes):
    found = tiled([item(shape_hw=(100, 150))], PrepareOptions(tile=side), Notes())
    assert [one.read()[0].shape[:2] for one in found] == shapes
    assert [one.name for one in found] == (["a"] if len(shapes) == 1 else ["a_0_0", f"a_0_{150 - side}"])


def test_a_photo_is_read_once_for_all_its_tiles_by_each_thread():
    reads = []

    def counted(original):
        def read():
            reads.append(original.name)
            return original.read()

        return replace(original, read=read, shape_hw=(100, 150))

    found = tiled([counted(item(name, seed)) for seed, name in enumerate("ab")], PrepareOptions(tile=32), Notes())
    assert reads == [], "not before their turn"
    assert len(found) == 2 * 4 * 5
    for one in found:
        one.read()
    assert reads == ["a", "b"]
    with ThreadPoolExecutor(1) as pool:
        image, _ = pool.submit(found[0].read).result()
    assert np.array_equal(image, picture(0)[:32, :32])


def test_the_size_of_items_without_a_file_is_found_by_reading():
    assert len(tiled([item(mask=False)], PrepareOptions(tile=64), Notes())) == 6


def test_photos_turned_by_their_header_are_cut_upright(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    (tmp_path / "raw" / "images").mkdir(parents=True)
    PillowImage.fromarray(picture(0)).save(tmp_path / "raw" / "images" / "a.jpg", exif=exif)
    put(tmp_path / "raw" / "masks" / "a.png", encode_png(np.zeros((150, 100), np.uint8)))
    result = prepare("folder", tmp_path / "raw", tmp_path / "out", options=PrepareOptions(tile=100))
    assert set(entries(result)) == {"a_0_0", "a_50_0"}


def test_bad_photos_fail_alone_and_once(raw, tmp_path):
    (raw / "images" / "wall0.jpg").write_bytes(b"no photo")
    put(raw / "masks" / "wall1.png", encode_png(np.zeros((150, 100), np.uint8)))
    put(raw / "images" / "wall2.jpg", (raw / "images" / "wall2.jpg").read_bytes()[:-40])  # its header is whole
    options = PrepareOptions(tile=64, min_crack_px=1)
    result = prepare("folder", raw, tmp_path / "out", options=options)
    messages = sorted(str(error).partition("images/")[2] for error in result.failures)
    assert [message.partition(" (")[0] for message in messages] == [
        "wall0.jpg: not a picture, or damaged",
        "wall1.jpg: the mask has 100 x 150 px, the image 150 x 100",
        "wall2.jpg: the file is cut short",
    ]
    assert set(entries(result)) == {f"wall3_0_{x}" for x in (0, 43, 86)}


def test_a_header_that_lies():
    (first, *_) = tiled([item(shape_hw=(100, 160))], PrepareOptions(tile=64), Notes())
    with pytest.raises(InputError, match=r"a\.jpg: the picture has 150 x 100 px, its header says otherwise"):
        first.read()


def test_labels_of_whole_images_hold_for_their_tiles_only_where_there_is_no_crack(tmp_path):
    for label in ("cracked", "uncracked"):
        put(tmp_path / "raw" / label / "a.jpg", encode_jpeg(picture(len(label))))
    options = PrepareOptions(tile=100, min_crack_px=50)  # about masks: these images have none
    found = entries(prepare("folder", tmp_path / "raw", tmp_path / "out", options=options))
    assert {stem: entry.label for stem, entry in found.items()} == {
        **dict.fromkeys(["cracked_a_0_0", "cracked_a_0_50"], "unknown"),
        **dict.fromkeys(["uncracked_a_0_0", "uncracked_a_0_50"], "uncracked"),
    }


def test_what_comes_beside_whole_images_is_not_kept_and_told(tmp_path):
    options = PrepareOptions(count=2, size=(48, 64), tile=40)
    result = prepare("synthetic", None, tmp_path / "out", options=options)
    assert sum(result.counts.values()) == 2 * 2 * 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"images", "masks", "manifest.csv"}
    assert any(line.startswith("what comes beside whole images is not kept") for line in result.warnings)


def test_tiles_are_degraded_each_by_its_own_kernel(raw, tmp_path):
    found = entries(prepare("folder", raw, tmp_path / "out", options=PrepareOptions(tile=64, degrade=True)))
    assert {(entry.height, entry.width) for entry in found.values()} == {(16, 16), (10, 15)}
    kernels = [(tmp_path / "out" / "kernels" / f"{stem}.npy").read_bytes() for stem in found]
    assert len(set(kernels)) == len(found) == 25


def test_images_with_little_crack_are_left_out(raw, tmp_path):
    whole = prepare("folder", raw, tmp_path / "whole", options=PrepareOptions(min_crack_px=450))
    assert (set(entries(whole)), whole.left_out) == ({f"wall{n}" for n in range(4)}, 1)
    options = PrepareOptions(tile=64, min_crack_px=3 * 64, split=(0.5, 0.5, 0.0))
    result = prepare("folder", raw, tmp_path / "out", options=options)
    assert set(entries(result)) == {f"wall{n}_0_{x}" for n in range(4) for x in (0, 43, 86)}
    assert result.left_out == 13
    assert "6 images with little crack are left out of val: scores on it overlook false alarms there" in result.warnings


def test_a_share_of_those_with_little_crack_is_kept():
    tiny = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool)
    items = [item(f"p{number}", read=lambda: tiny) for number in range(400)]

    def kept(share, seed=0, among=items):
        options = PrepareOptions(min_crack_px=1, keep_empty=share, seed=seed)
        return {one.name for one in tiled(among, options, Notes()) if one.read() is not None}

    half = kept(0.5)
    assert (len(kept(0.0)), len(kept(1.0))) == (0, 400)
    assert 160 < len(half) < 240
    assert half == kept(0.5)
    assert half == kept(0.5, among=items[::-1]), "of the name, not of the order"
    assert kept(0.2) < half
    assert kept(0.5, seed=1) != half


def test_kept_ones_fall_into_every_split(tmp_path):
    for number in range(60):
        put(tmp_path / "raw" / "images" / f"p{number}.jpg", encode_jpeg(picture(number, 24, 32)))
        put(tmp_path / "raw" / "masks" / f"p{number}.png", encode_png(np.zeros((24, 32), np.uint8)))
    options = PrepareOptions(min_crack_px=1, keep_empty=0.5, split=(0.4, 0.4, 0.2))
    counts = prepare("folder", tmp_path / "raw", tmp_path / "out", options=options).counts
    assert counts["train"] > 0.3 * sum(counts.values())


def test_published_tiles_are_cut_further(tmp_path):
    mask = np.zeros((4 * 96, 4 * 128), np.uint8)
    mask[:96, :128] = 255  # one of 16 tiles
    mask[200, 200:300] = 255  # too little for another
    photo = picture(3, *mask.shape)
    stem = "20160222_080850"
    put(tmp_path / "photos" / "train" / f"{stem}.jpg", encode_jpeg(photo))
    put(tmp_path / "photos" / "train" / f"{stem}_mask.png", encode_png(mask))
    result = prepare("crack500", tmp_path / "photos", tmp_path / "out", options=PrepareOptions(tile=64))
    assert set(entries(result)) == {f"{stem}_1_1_{y}_{x}" for y in (0, 32) for x in (0, 64)}
    assert {entry.group for entry in entries(result).values()} == {stem}
    assert result.published == {}
    assert not [line for line in result.warnings if "published" in line]


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({}, {"tile": 64}, "holds another data set"),
        ({"tile": 64}, {}, "holds another data set"),
        ({"tile": 64}, {"tile": 60}, "holds another data set"),
        ({"tile": 64}, {"tile": 64, "min_crack_px": 9}, "is there already, but this run leaves it out"),
        ({"tile": 64, "min_crack_px": 9, "keep_empty": 1.0}, {"tile": 64, "min_crack_px": 9}, "leaves it out"),
    ],
)
def test_other_tiles_do_not_mix_with_what_is_there(raw, tmp_path, first, then, message):
    prepare("folder", raw, tmp_path / "out", options=PrepareOptions(**first))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(OutputError, match=message):
        prepare("folder", raw, tmp_path / "out", options=PrepareOptions(**then))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before


def test_a_run_that_does_not_fit_what_is_there_writes_nothing(raw, tmp_path):
    options = {"tile": 32, "min_crack_px": 9, "keep_empty": 0.5}
    prepare("folder", raw, tmp_path / "out", options=PrepareOptions(**options))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(OutputError, match="leaves it out"):
        prepare("folder", raw, tmp_path / "out", options=PrepareOptions(**options, seed=1), jobs=1)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 15}, "tile is 15, expected 16 px or more"),
        ({"min_crack_px": -1}, "min_crack_px is -1, expected 0 or more"),
        ({"min_crack_px": 1, "keep_empty": 1.1}, r"keep_empty is 1\.1, expected 0 to 1"),
        ({"keep_empty": 0.1}, r"keep_empty means nothing where no image is left out \(give min_crack_px as well\)"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(UsageError, match=message):
        PrepareOptions(**options)
