"""What `crack prepare --check` must find, planted in generated pictures and in copies of real ones."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from cracktool.datasets import alignment
from cracktool.datasets.alignment import common_offset, darkness, fits_nothing, offset, step_px
from cracktool.datasets.checking import check
from cracktool.datasets.findings import KINDS
from cracktool.datasets.overlaps import candidates, find_marks, overlap, shrunk
from cracktool.datasets.prepare import prepare
from cracktool.datasets.raw import PrepareOptions
from cracktool.errors import InputError, UsageError
from cracktool.images import encode_jpeg, encode_png, read_image, read_mask, write_mask
from cracktool.manifest import read_manifest, write_manifest


def ground(seed, height=240, width=320, *, grains=(2, 5, 12), depth=70):
    """A photo of rough ground with a dark crack across it, and its mask."""
    rng = np.random.default_rng(seed)
    levels = np.full((height, width), 150, np.float32)
    for grain in grains:
        small = rng.normal(0, 14, (height // grain + 1, width // grain + 1)).astype(np.float32)
        levels += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    x = np.arange(0, width, 8)
    y = height / 2 + np.cumsum(rng.normal(0, 4, len(x)))
    mask = np.zeros((height, width), np.uint8)
    cv2.polylines(mask, [np.stack([x, y], 1).astype(np.int32)], False, 1, 4)
    levels[mask > 0] -= depth
    return np.repeat(np.clip(levels, 0, 255).astype(np.uint8)[..., None], 3, axis=2), mask > 0


def put_set(folder, seeds, splits):
    """A prepared set: photo number n has the split splits[n % len(splits)]."""
    for seed in seeds:
        photo, mask = ground(seed)
        for kind, data in (("images", encode_jpeg(photo)), ("masks", encode_png(mask.view(np.uint8) * 255))):
            path = (
                folder / "raw" / splits[seed % len(splits)] / kind / f"p{seed}{'.jpg' if kind == 'images' else '.png'}"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return prepare("folder", folder / "raw", folder / "data").manifest.parent


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return put_set(tmp_path_factory.mktemp("clean"), range(12), ("train", "val", "test"))


@pytest.fixture
def data(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "data")


def entries(data, split):
    return [entry for entry in read_manifest(data).entries if entry.split == split]


def add(data, entry, photo, **changes):
    """Add an image with an empty mask to a prepared set."""
    (data / entry.image).write_bytes(photo)
    shape = read_image(photo).shape[:2]
    write_mask(data / entry.mask, np.zeros(shape, bool))
    entry = replace(entry, height=shape[0], width=shape[1], crack_fraction=0.0, label="uncracked", **changes)
    write_manifest(data / "manifest.csv", [*read_manifest(data).entries, entry])


def found(*folders, kind=None):
    return [finding for finding in check(folders).findings if kind in (None, finding.kind)]


def crop_of(photo, *, zoom=1.2):
    height, width = photo.shape[:2]
    part = photo[height // 5 : height * 4 // 5, width // 4 :]
    return encode_jpeg(cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), 80)


def planted_faults(data, other):
    """Plant a duplicate across sets, a crop across splits and a shifted mask; return what must be found."""
    train, test = entries(data, "train"), entries(data, "test")
    twice, cropped, moved = train[0], train[1], train[2]
    copy = replace(entries(other, "test")[0], image="images/twice.jpg", mask="masks/twice.png", group="twice")
    add(other, copy, (data / twice.image).read_bytes())
    crop = replace(test[0], image="images/crop.jpg", mask="masks/crop.png", group="crop")
    add(data, crop, crop_of(read_image(data / cropped.image)))
    mask = read_mask(data / moved.mask)
    write_mask(data / moved.mask, np.roll(mask, (6, 8), axis=(0, 1)))
    return {
        ("leak", (data / twice.image).as_posix(), (other / copy.image).as_posix()): "same file, train and test",
        ("leak", (data / cropped.image).as_posix(), (data / crop.image).as_posix()): "of the scene, train and test",
        ("shifted", (data / moved.image).as_posix(), ""): "px left and",
    }


def assert_found(findings, expected):
    seen = {(finding.kind, finding.image, finding.other): finding.detail for finding in findings}
    for key, detail in expected.items():
        assert detail in seen.get(key, "not found"), (key, seen)


def test_a_clean_set_has_no_findings(clean):
    checked = check([clean])
    assert checked.findings == ()
    assert (len(checked.images), checked.folders) == (12, (clean,))
    assert not any(image.thumbnail for image in checked.images)


def test_a_duplicate_a_crop_and_a_shifted_mask_are_found(data, tmp_path):
    other = put_set(tmp_path / "other", range(100, 106), ("test",))
    expected = planted_faults(data, other)
    findings = found(data, other)
    assert_found(findings, expected)
    assert len(findings) == 3, findings


def test_they_are_found_in_copies_of_real_sets(shared, tmp_path):
    raw = tmp_path / "raw"
    names = [f"{number:03}" for number in range(1, 25)]
    for folder, extension in (("image", "jpg"), ("groundTruth", "mat")):
        (raw / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(shared / "data" / "cfd" / folder / f"{name}.{extension}", raw / folder)
    for kind in ("images", "masks"):
        (tmp_path / "canal" / "test").mkdir(parents=True, exist_ok=True)
        source = sorted((shared / "data" / "canal" / "test" / kind).iterdir())[:10]
        (tmp_path / "canal" / "test" / kind).mkdir()
        for path in source:
            shutil.copy(path, tmp_path / "canal" / "test" / kind)
    data = prepare("cfd", raw, tmp_path / "a", options=PrepareOptions(split=(0.5, 0, 0.5))).manifest.parent
    other = prepare("folder", tmp_path / "canal", tmp_path / "b").manifest.parent
    before = {(finding.kind, finding.image) for finding in found(data, other)}
    expected = planted_faults(data, other)
    assert not {(kind, image) for kind, image, _ in expected} & before
    assert_found(found(data, other), expected)


def test_bad_masks_are_found(data):
    train = [data / entry.mask for entry in entries(data, "train")]
    test = [data / entry.mask for entry in entries(data, "test")]
    train[0].write_bytes(b"")
    train[1].unlink()
    train[2].write_bytes(encode_png(np.zeros((10, 20), np.uint8)))
    inverted = ~read_mask(train[3])
    write_mask(train[3], inverted)
    soft = cv2.GaussianBlur(read_mask(test[0]).astype(np.uint8) * 255, (0, 0), 1.5)
    test[0].write_bytes(encode_png(soft))
    test[1].write_bytes(encode_png(read_mask(test[1]).view(np.uint8)))
    (data / entries(data, "test")[2].image).write_bytes(encode_jpeg(ground(77, grains=(), depth=0)[0]))
    seen = {finding.image.rsplit("/", 1)[1]: (finding.kind, finding.detail) for finding in found(data)}
    stems = [path.stem for path in (*train, *test[:3])]
    kinds, details = zip(*(seen[f"{stem}.jpg"] for stem in stems), strict=True)
    assert kinds == ("damaged", "damaged", "size", "inverted", "soft", "soft", "misfit")
    assert details[0] == "mask: the file is empty"
    assert details[1].startswith("mask: cannot be read: No such file")
    assert details[2] == "mask 20 x 10 px, photo 320 x 240 px"
    assert details[5].endswith("the brightest is 1")


def test_bad_photos_are_found_and_stop_nothing(data):
    first, second = (data / entry.image for entry in entries(data, "val")[:2])
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:300])
    findings = found(data)
    assert [(finding.kind, finding.image) for finding in findings] == [
        ("damaged", path.as_posix()) for path in sorted((first, second))
    ]
    assert {finding.detail for finding in findings} == {"photo: the file is empty", "photo: the file is cut short"}


def test_crops_of_one_photo_are_a_finding_only_across_splits(data):
    table = read_manifest(data)
    first = entries(data, "train")[0]
    crop = replace(first, image="images/crop.jpg", mask="masks/crop.png")
    add(data, crop, crop_of(read_image(data / first.image)))
    assert found(data) == [], "one split, one group: that is what the table says"
    for changes, kind in (({"group": "g"}, "copy"), ({"split": "val"}, "leak")):
        write_manifest(data / "manifest.csv", [*table.entries, replace(crop, **changes)])
        (finding,) = found(data)
        assert (finding.kind, "of the scene, " in finding.detail) == (kind, True)


def test_a_photo_in_several_splits_by_its_name_is_a_leak(data):
    table = list(read_manifest(data).entries)
    first, last = entries(data, "train")[0], entries(data, "test")[0]
    table[table.index(last)] = replace(last, group=first.group)
    write_manifest(data / "manifest.csv", table)
    (finding,) = found(data)
    assert (finding.kind, finding.detail) == ("leak", "of one photo by name, train and test")
    assert (finding.image, finding.other) == ((data / first.image).as_posix(), (data / last.image).as_posix())


def test_an_offset_of_all_masks_is_told_of_the_set(tmp_path):
    data = put_set(tmp_path, range(12), ("train",))
    for entry in read_manifest(data).entries:
        write_mask(data / entry.mask, np.roll(read_mask(data / entry.mask), 3, axis=0))
    whole = [finding for finding in found(data, kind="shifted") if finding.image == data.as_posix()]
    assert [finding.detail for finding in whole] == ["all masks: darkest 3 px up of it"]


def test_the_offset_of_all_masks_is_in_px_of_the_photos_where_these_are_large(tmp_path, monkeypatch):
    data = put_set(tmp_path, range(12), ("train",))
    longest = max(max(entry.height, entry.width) for entry in read_manifest(data).entries)
    monkeypatch.setattr(alignment, "_SIDE", longest // 2)
    for entry in read_manifest(data).entries:
        write_mask(data / entry.mask, np.roll(read_mask(data / entry.mask), 8, axis=0))
    whole = [finding for finding in found(data, kind="shifted") if finding.image == data.as_posix()]
    assert [finding.detail for finding in whole] == ["all masks: darkest 8 px up of it"]


def test_degraded_sets_and_sets_without_masks_can_be_checked(tmp_path):
    raw = tmp_path / "raw"
    for seed in range(6):
        folder = raw / ("cracked" if seed % 2 else "uncracked")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{seed}.png").write_bytes(encode_png(ground(seed)[0]))
    assert found(prepare("folder", raw, tmp_path / "a").manifest) == []
    put_set(tmp_path, range(3), ("test",))
    degraded = prepare("folder", tmp_path / "raw", tmp_path / "b", options=PrepareOptions(degrade=True))
    assert found(degraded.manifest.parent) == []


def test_what_is_asked_wrongly(clean, tmp_path):
    with pytest.raises(InputError, match="no dataset table here"):
        check([tmp_path])
    with pytest.raises(UsageError, match="a data set is named twice"):
        check([clean, clean / "manifest.csv"])
    with pytest.raises(UsageError, match="0 jobs"):
        check([clean], jobs=0)


def test_progress_and_order(data):
    (data / entries(data, "val")[0].image).write_bytes(b"")
    write_mask(data / entries(data, "train")[0].mask, np.ones((240, 320), bool))
    seen = []
    kinds = [finding.kind for finding in check([data], jobs=2, progress=lambda *step: seen.append(step)).findings]
    assert seen == [(number, 12) for number in range(1, 13)]
    assert kinds == ["damaged", "inverted"]
    assert list(KINDS).index("damaged") < list(KINDS).index("inverted")


# Overlaps


@pytest.mark.parametrize(
    "change",
    [
        lambda photo: photo[40:200, 60:260],
        lambda photo: cv2.resize(photo[20:, :240], None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
        lambda photo: cv2.resize(photo[:160, :200], None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC),
        lambda photo: cv2.rotate(photo[20:220, 40:300], cv2.ROTATE_90_CLOCKWISE),
        lambda photo: np.clip(photo * 0.7 + 20, 0, 255).astype(np.uint8)[:, 100:],
    ],
)
def test_crops_are_found_cut_resized_turned_and_darkened(change):
    photo = ground(5)[0]
    images = [photo, read_image(encode_jpeg(np.ascontiguousarray(change(photo)), 75)), ground(6)[0]]
    greys = [shrunk(image) for image in images]
    marks = [find_marks(grey) for grey in greys]
    assert candidates(marks) == [(0, 1)]
    assert overlap(marks[0], marks[1], lambda: (greys[0], greys[1])) > 0.8
    assert overlap(marks[1], marks[0], lambda: (greys[1], greys[0])) > 0.8
    assert overlap(marks[0], marks[2], lambda: (greys[0], greys[2])) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda photo: photo[:, ::-1], "near-duplicate, turned or mirrored"),
        (lambda photo: photo.transpose(1, 0, 2), "near-duplicate, turned or mirrored"),
        (lambda photo: photo[::-1, 60:], "of the scene, mirrored"),
    ],
)
def test_mirrored_copies_are_found_and_named_so(data, change, said):
    train, test = entries(data, "train")[0], entries(data, "test")[0]
    copy = replace(test, image="images/mirrored.jpg", mask="masks/mirrored.png", group="mirrored")
    photo = np.ascontiguousarray(change(read_image(data / train.image)))
    add(data, copy, encode_jpeg(photo, 80))
    leaks = found(data, kind="leak")
    assert [(leak.image, leak.other) for leak in leaks] == [(f"{data}/{train.image}", f"{data}/{copy.image}")]
    assert leaks[0].detail.endswith(f"{said}, train and test")


def test_neighbours_share_what_they_share():
    photo = ground(5, 240, 400)[0]
    greys = [shrunk(photo[:, :250]), shrunk(photo[:, 150:])]
    marks = [find_marks(grey) for grey in greys]
    assert overlap(*marks, lambda: tuple(greys)) == pytest.approx(0.4, abs=0.06)


def test_flat_and_tiny_pictures_have_nothing_in_common():
    marks = [find_marks(shrunk(np.full((*size, 3), 90, np.uint8))) for size in ((300, 300), (300, 300), (5, 7))]
    assert candidates(marks) == candidates([]) == []
    assert overlap(marks[0], marks[1], lambda: pytest.fail("nothing to compare")) == 0


# Masks beside their cracks


def moved(mask, y, x):
    return np.roll(mask, (y, x), axis=(0, 1))


@pytest.mark.parametrize("move", [(10, 0), (-7, 7), (6, -3), (-12, 4)])
def test_a_shift_is_measured(move):
    photo, mask = ground(9)
    y, _ = offset(darkness(photo, moved(mask, *move)))
    assert abs(y + move[0]) <= 3, "the crack runs from left to right, so that only its y can be told"
    assert offset(darkness(photo, mask)) is None
    assert offset(darkness(photo, moved(mask, 1, 1))) is None


def test_a_shift_on_a_large_photo_is_in_its_own_pixels():
    photo, mask = ground(9, 1200, 2048)
    y, _ = offset(darkness(photo, moved(mask, 20, 0)))
    assert step_px(photo) == 2
    assert abs(y * step_px(photo) + 20) <= 4


def test_masks_of_nothing_and_pictures_too_small_tell_nothing():
    photo, mask = ground(9)
    assert darkness(photo, np.zeros_like(mask)) is None
    assert darkness(photo[:30, :30], mask[:30, :30]) is None
    assert not fits_nothing(darkness(photo, mask))
    assert not fits_nothing(darkness(255 - photo, mask)), "a pale crack is a crack"
    assert fits_nothing(darkness(*ground(9, grains=(), depth=0)))


def test_a_common_offset_needs_many_masks():
    maps = [darkness(photo, moved(mask, 4, 0)) for photo, mask in map(ground, range(12))]
    assert common_offset(maps[:9]) is None
    y, _ = common_offset(maps)
    assert abs(y + 4) <= 1
    assert common_offset([darkness(*ground(seed)) for seed in range(12)]) is None
