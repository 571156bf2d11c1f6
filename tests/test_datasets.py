import cv2
import numpy as np
import pytest
import raw_sets
from PIL import Image as PillowImage
from raw_sets import named, put, rows
from scipy.io import savemat

from cracktool.datasets import LAYOUTS
from cracktool.datasets.crack500 import tile_windows
from cracktool.datasets.pairing import pair_files, photo_id, strip_extensions
from cracktool.datasets.prepare import prepare
from cracktool.datasets.raw import Notes, PrepareOptions
from cracktool.errors import InputError
from cracktool.images import read_image, read_mask

SIZES = [(1440, 2560), (2560, 1440), (1936, 2592)]  # height, width of the three kinds of Crack500 photos
OFFSETS = {
    (1440, 2560): ([1, 641, 1281, 1921], [1, 361, 721, 1081]),
    (2560, 1440): ([1, 361, 721, 1081], [1, 641, 1281, 1921]),
    (1936, 2592): ([1, 649, 1297, 1945], [1, 485, 969, 1453]),
}


def picture(seed, height=24, width=32):
    return raw_sets.picture(seed, height, width)


def crack(height=24, width=32, value=255):
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2, 2:-2] = value
    return mask


def put_pair(image, mask, seed, **how):
    put(image, picture(seed))
    put(mask, crack(**how))


# Crack500


def put_photo(folder, stem, shape_hw, seed=0):
    """A photo of 16 flat colours; tile number n has 999 + n crack pixels, except number 2: 1000, number 3: 1001."""
    height, width = shape_hw
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    photo = np.kron(colours, np.ones((height // 4, width // 4, 1), np.uint8))
    mask = np.zeros(shape_hw, np.uint8)
    for number, (window_rows, window_columns) in enumerate(tile_windows(stem, shape_hw).values()):
        tile = np.zeros((height // 4) * (width // 4), np.uint8)
        tile[: {2: 1000, 3: 1001, 4: 0}.get(number, 1200)] = 1 + number  # any value above 0 is crack
        mask[window_rows, window_columns] = tile.reshape(height // 4, width // 4)
    put(folder / f"{stem}.jpg", photo)
    put(folder / f"{stem}_mask.png", mask)
    return colours


def test_crack500_photos_of_all_sizes_become_their_tiles(tmp_path):
    stems = ["20160222_081011", "20160222_081012", "IMG_2941"]
    colours = {
        stem: put_photo(tmp_path / "raw" / "traindata" / "traindata", stem, size, seed)
        for seed, (stem, size) in enumerate(zip(stems, SIZES, strict=True))
    }
    result = prepare("crack500", tmp_path / "raw", tmp_path / "out")
    table = rows(result)
    expected = set()
    for stem, size in zip(stems, SIZES, strict=True):
        xs, ys = OFFSETS[size]
        for r, y in enumerate(ys):
            for c, x in enumerate(xs):
                number = 4 * r + c
                if number in (2, 4):  # 1000 and 0 crack pixels
                    continue
                name = f"{stem}_{x}_{y}"
                expected.add(f"{name}.png")
                entry = table[f"{name}.png"]
                assert (entry.height, entry.width) == (size[0] // 4, size[1] // 4)
                assert (entry.group, entry.split) == (stem, "train")
                tile = read_image(tmp_path / "out" / entry.image)
                inner = tile[8:-8, 8:-8].reshape(-1, 3).astype(int)
                assert np.abs(inner - colours[stem][r, c].astype(int)).max() < 12
                mask = read_mask(tmp_path / "out" / entry.mask)
                assert mask.shape == tile.shape[:2]
                assert np.count_nonzero(mask) == (1001 if number == 3 else 1200)
    assert set(table) == expected
    assert len(expected) == 42
    assert result.left_out == 6
    assert result.counts == {"train": 42, "val": 0, "test": 0}
    assert named(result, "train 42 of 1896")
    assert named(result, "3 of 250 train whole photos")


def test_crack500_decodes_a_photo_once_for_its_tiles(tmp_path, monkeypatch):
    from cracktool.datasets import crack500

    put_photo(tmp_path / "raw" / "train", "20160222_081011", (96 * 4, 64 * 4))
    read = []
    monkeypatch.setattr(crack500, "read_image", lambda path: read.append(path) or read_image(path))
    prepare("crack500", tmp_path / "raw", tmp_path / "out", dry_run=True)
    assert len(read) == 1


def test_crack500_bad_photos_fail_alone_and_once(tmp_path):
    folder = tmp_path / "raw" / "testdata"
    put_photo(folder, "20160222_000001", (384, 256))
    put(folder / "20160222_000002.jpg", np.zeros((90, 100, 3), np.uint8))
    put(folder / "20160222_000002_mask.png", np.zeros((90, 100), np.uint8))
    put(folder / "20160222_000003.jpg", np.zeros((64, 128, 3), np.uint8))
    put(folder / "20160222_000003_mask.png", np.zeros((128, 64), np.uint8))
    (folder / "20160222_000004.jpg").write_bytes(b"no photo")
    put(folder / "20160222_000004_mask.png", np.zeros((64, 64), np.uint8))
    put(folder / "20160222_000005.jpg", np.zeros((64, 64, 3), np.uint8))
    result = prepare("crack500", tmp_path / "raw", tmp_path / "out")
    messages = sorted(str(error) for error in result.failures)
    assert len(messages) == 3
    assert "20160222_000002.jpg: 100 x 90 px cannot be cut into 4 x 4 equal tiles" in messages[0]
    assert "20160222_000003.jpg: the mask has 64 x 128 px, the image 128 x 64 (turn the mask" in messages[1]
    assert "20160222_000004.jpg: not a picture, or damaged" in messages[2]
    assert result.counts["test"] == 14
    assert named(result, "images without a mask are skipped: 20160222_000005")
    assert named(result, "some raw files failed")


def put_tiles(folder, *names):
    for number, name in enumerate(names):
        put_pair(folder / f"{name}.jpg", folder / f"{name}.png", hash_of(name) + number, value=1)


def hash_of(name):
    return int.from_bytes(name.encode()[-7:], "big")


def test_crack500_ready_tiles_follow_the_lists_and_are_copied(tmp_path):
    raw = tmp_path / "raw"
    put_tiles(raw / "traincrop" / "traincrop", "20160222_080850_1_361", "20160222_080850_641_1", "20160222_080999_1_1")
    put_tiles(raw / "valcrop", "20160328_154452_1_1")
    put_tiles(raw / "testcrop", "20160328_154452_641_1", "20160328_154454_361_1")
    (raw / "train.txt").write_text(
        "traincrop/20160222_080850_1_361.jpg traincrop/20160222_080850_1_361.png\n"
        "traincrop/20160222_080850_641_1.jpg traincrop/20160222_080850_641_1.png\n"
        "traincrop/20160222_080777_1_1.jpg traincrop/20160222_080777_1_1.png\n\n"
    )
    result = prepare("crack500", raw, tmp_path / "out")
    assert result.counts == {"train": 2, "val": 0, "test": 2}
    entry = rows(result)["20160222_080850_1_361.jpg"]
    assert entry.group == "20160222_080850"
    assert entry.source == "traincrop/traincrop/20160222_080850_1_361.jpg"
    assert (tmp_path / "out" / entry.image).read_bytes() == (raw / entry.source).read_bytes()
    assert read_mask(tmp_path / "out" / entry.mask).any(), "the raw mask holds 0 and 1"
    assert named(result, "1 tiles of the lists train.txt, val.txt, test.txt have no file: 20160222_080777_1_1")
    assert named(result, "are skipped: 20160222_080999_1_1")
    (leak,) = named(result, "1 of val whose photos val or test shows too are left out")
    assert "val/20160328_154452_1_1" in leak
    assert result.leaks == 1
    assert named(result, "train 2 of 1896, val 1 of 348, test 2 of 1124")


def test_crack500_tile_in_the_folder_of_another_split_is_taken_once(tmp_path):
    for folder in ("traincrop", "valcrop"):
        put_tiles(tmp_path / "raw" / folder, "20160328_154452_1_1")
    for split, name in (("train", "20160222_080850_1_1"), ("val", "20160328_154452_1_1")):
        (tmp_path / "raw" / f"{split}.txt").write_text(f"{split}crop/{name}.jpg {split}crop/{name}.png\n")
    result = prepare("crack500", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 0, "val": 1, "test": 0}


def test_crack500_rearranged_folders(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        name = f"2016022{number}_080850_1_{361 if split == 'val' else 1}"
        put_pair(
            tmp_path / "raw" / "CRACK500" / split / "images" / f"{name}.jpg",
            tmp_path / "raw" / "CRACK500" / split / "masks" / f"{name}.png",
            number,
        )
    result = prepare("crack500", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 1, "val": 1, "test": 1}


def test_crack500_prefers_ready_tiles_and_cuts_what_has_none(tmp_path):
    put_tiles(tmp_path / "raw" / "traincrop", "20160222_080850_1_361")
    put_photo(tmp_path / "raw" / "traindata", "20160222_080850", (384, 256))
    put_photo(tmp_path / "raw" / "valdata", "20160222_090000", (384, 256), seed=1)
    result = prepare("crack500", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 1, "val": 14, "test": 0}


def test_crack500_flat_photos_take_their_splits_from_the_lists(tmp_path):
    put_photo(tmp_path / "raw", "20160222_080850", (384, 256))
    put_photo(tmp_path / "raw", "20160223_080850", (384, 256), seed=1)
    (tmp_path / "raw" / "train.txt").write_text("traincrop/20160222_080850_1_1.jpg traincrop/20160222_080850_1_1.png\n")
    (tmp_path / "raw" / "test.txt").write_text("testcrop/20160223_080850_1_97.jpg x.png\n")
    result = prepare("crack500", tmp_path / "raw", tmp_path / "out")
    found = {name: entry.split for name, entry in rows(result).items()}
    # The tile at 1_97 has no crack, but the list is the published choice.
    assert found == {"20160222_080850_1_1.png": "train", "20160223_080850_1_97.png": "test"}


def test_crack500_refuses_other_folders(tmp_path):
    put(tmp_path / "raw" / "a.jpg", picture(1))
    with pytest.raises(InputError, match=r"no Crack500 photos or tiles with masks in here .*traincrop"):
        prepare("crack500", tmp_path / "raw", tmp_path / "out")


# DeepCrack and CFD


def put_deepcrack(raw, train=20, test=3):
    for number in range(train):
        stem = f"{11100 + number // 2}-{number % 2}"
        put_pair(raw / "train_img" / f"{stem}.jpg", raw / "train_lab" / f"{stem}.png", number)
    for number in range(test):
        put_pair(raw / "test_img" / f"IMG{number}-1.jpg", raw / "test_lab" / f"IMG{number}-1.png", 100 + number)


def test_deepcrack_cuts_val_from_train_by_photo_and_leaves_test_alone(tmp_path):
    put_deepcrack(tmp_path / "raw", train=40)
    result = prepare("deepcrack", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 36, "val": 4, "test": 3}
    splits = {}
    for entry in rows(result).values():
        splits.setdefault(entry.group, set()).add(entry.split)
    assert all(len(found) == 1 for found in splits.values())
    assert {group for group, found in splits.items() if found == {"test"}} == {"IMG0", "IMG1", "IMG2"}
    again = prepare("deepcrack", tmp_path / "raw", tmp_path / "b")
    assert rows(again) == rows(result)
    other = prepare("deepcrack", tmp_path / "raw", tmp_path / "c", options=PrepareOptions(seed=1))
    assert {n: e.split for n, e in rows(other).items()} != {n: e.split for n, e in rows(result).items()}


def test_deepcrack_is_cut_anew_when_asked(tmp_path):
    put_deepcrack(tmp_path / "raw", train=20, test=10)
    options = PrepareOptions(split=(0.6, 0.2, 0.2))
    result = prepare("deepcrack", tmp_path / "raw", tmp_path / "out", options=options)
    assert result.counts == {"train": 18, "val": 6, "test": 6}
    assert named(result, "the published split is cut anew, as asked")
    splits = {}
    for entry in rows(result).values():
        splits.setdefault(entry.group, set()).add(entry.split)
    assert all(len(found) == 1 for found in splits.values())


def test_deepcrack_leaves_out_of_train_what_test_shows(tmp_path):
    raw = tmp_path / "raw"
    put_deepcrack(raw)
    put_pair(raw / "test_img" / "11100-0.jpg", raw / "test_lab" / "11100-0.png", 500)
    (raw / "test_img" / "11216.jpg").write_bytes((raw / "train_img" / "11105-1.jpg").read_bytes())
    put(raw / "test_lab" / "11216.png", crack())
    result = prepare("deepcrack", raw, tmp_path / "out")
    assert result.counts["test"] == 5
    found = set(rows(result))
    assert "test_11100-0.jpg" in found
    assert not {"train_11100-0.jpg", "11100-1.jpg", "11105-0.jpg", "11105-1.jpg"} & found
    assert (result.leaks, result.counts["train"] + result.counts["val"]) == (4, 16)
    (line,) = named(result, "4 of train whose photos val or test shows too are left out, so that scores stay honest")
    assert "train/11105-1" in line
    assert named(result, "same file twice in different published splits: train/11105-1 = test/11216")
    kept = prepare("deepcrack", raw, tmp_path / "kept", options=PrepareOptions(keep_leaks=True))
    assert {"train_11100-0.jpg", "test_11100-0.jpg"} <= set(rows(kept))
    assert (kept.leaks, kept.counts) == (0, {"train": 18, "val": 2, "test": 5})
    assert named(kept, "1 photo names occur in several published splits")
    again = prepare("deepcrack", raw, tmp_path / "out", options=PrepareOptions(keep_leaks=True))
    assert rows(again) == rows(kept), "what leaks was stored, so that it can be asked for later"


def test_deepcrack_names_the_missing_folder(tmp_path):
    put_deepcrack(tmp_path / "raw")
    (tmp_path / "raw" / "test_lab").rename(tmp_path / "raw" / "elsewhere")
    with pytest.raises(InputError, match=r"no folder test_lab in here \(expected: train_img/ train_lab/"):
        prepare("deepcrack", tmp_path / "raw", tmp_path / "out")


def test_cfd_takes_only_value_two_and_skips_photos_without_truth(tmp_path):
    raw = tmp_path / "raw"
    for number in (1, 2, 3, 201):
        put(raw / "image" / f"{number:03}.jpg", picture(number, 32, 48))
    (raw / "groundTruth").mkdir()
    segmentation = np.ones((32, 48), np.uint8)
    segmentation[3, 5:20], segmentation[10:20, 3:9], segmentation[25:, 30:] = 2, 3, 4
    savemat(
        raw / "groundTruth" / "001.mat", {"groundTruth": {"Segmentation": segmentation, "Boundaries": segmentation}}
    )
    (raw / "groundTruth" / "002.mat").write_bytes(b"no MATLAB file")
    savemat(raw / "groundTruth" / "003.mat", {"other": segmentation})
    result = prepare("cfd", raw, tmp_path / "out")
    assert set(rows(result)) == {"001.jpg"}
    mask = read_mask(tmp_path / "out" / "masks" / "001.png")
    assert np.array_equal(mask, segmentation == 2)
    assert result.counts == {"train": 0, "val": 0, "test": 1}
    assert result.published == {"all": 118}
    assert named(result, "photos without a truth file are skipped: 201.jpg")
    assert named(result, "all 1 of 118")
    assert sorted(error.path.name for error in result.failures) == ["002.mat", "003.mat"]
    assert all("groundTruth.Segmentation cannot be read" in str(error) for error in result.failures)


def test_cfd_can_be_split_when_asked(tmp_path):
    for number in range(10):
        put(tmp_path / "raw" / "image" / f"{number:03}.jpg", picture(number))
        (tmp_path / "raw" / "groundTruth").mkdir(exist_ok=True)
        truth = {"groundTruth": {"Segmentation": crack(value=1) + 1}}
        savemat(tmp_path / "raw" / "groundTruth" / f"{number:03}.mat", truth)
    options = PrepareOptions(split=(0.5, 0.2, 0.3))
    assert prepare("cfd", tmp_path / "raw", tmp_path / "out", options=options).counts == {
        "train": 5,
        "val": 2,
        "test": 3,
    }


def test_cfd_names_the_missing_folders(tmp_path):
    with pytest.raises(InputError, match="no folders image and groundTruth"):
        prepare("cfd", tmp_path, tmp_path / "out")


# Folders


ALL_TRAIN = PrepareOptions(split=(1, 0, 0))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.jpg", "masks/a.png"),
        ("images/a.jpg", "masks/a_mask.png"),
        ("images/a.jpg", "masks/a_gt.png"),
        ("images/a.jpg", "masks/a-mask.png"),
        ("images/a.jpg.jpg", "masks/a.jpg.png"),
        ("images/a.jpg.jpg", "masks/a.png"),
        ("images/a.jpg", "masks/a.jpg.png"),
        ("images/A.jpg", "masks/a.png"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("image/a.jpg", "mask/a.png"),
        ("imgs/a.jpg", "labels/a.png"),
        ("images/a.jpg", "annotations/a.png"),
        ("a.jpg", "a_mask.png"),
    ],
)
def test_folder_pairs(tmp_path, image, mask):
    put_pair(tmp_path / "raw" / image, tmp_path / "raw" / mask, 1)
    result = prepare("folder", tmp_path / "raw", tmp_path / "out", options=ALL_TRAIN)
    (entry,) = rows(result).values()
    assert (entry.image.lower(), entry.mask.lower()) == ("images/a.jpg", "masks/a.png")
    assert (entry.split, entry.label) == ("train", "cracked")
    assert entry.crack_fraction == pytest.approx(28 / (24 * 32), abs=1e-6)


def paths(pairs):
    return [(image.path, mask.path) for image, mask in pairs]


def test_folder_prefers_the_exact_name_over_a_looser_one(tmp_path):
    put(tmp_path / "masks" / "a_mask.png", crack())
    right = put(tmp_path / "masks" / "a.png", crack())
    image = put(tmp_path / "images" / "a.jpg", picture(1))
    assert paths(pair_files(tmp_path / "images", tmp_path / "masks", Notes())) == [(image, right)]


def test_folder_pairs_by_the_whole_name_where_stems_repeat(tmp_path):
    pairs = [
        (put(tmp_path / "images" / name, picture(1)), put(tmp_path / "masks" / f"{name}.png", crack()))
        for name in ("a.jpg", "a.png")
    ]
    assert paths(pair_files(tmp_path / "images", tmp_path / "masks", Notes())) == pairs


def test_folder_keeps_a_published_split(tmp_path):
    for number, split in enumerate(("train", "valid", "test")):
        folder = tmp_path / "raw" / split
        put_pair(folder / "images" / f"{number}.jpg", folder / "masks" / f"{number}.png", number)
    put_pair(tmp_path / "raw" / "images" / "9.jpg", tmp_path / "raw" / "masks" / "9.png", 9)  # the merged set repeats
    result = prepare("folder", tmp_path / "raw", tmp_path / "out")
    assert {name: entry.split for name, entry in rows(result).items()} == {
        "0.jpg": "train",
        "1.jpg": "val",
        "2.jpg": "test",
    }


def test_folder_reads_splits_below_images(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        raw = tmp_path / "raw"
        put_pair(raw / "images" / split / "x.jpg", raw / "annotations" / split / "x.png", number, value=1)
    result = prepare("folder", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 1, "val": 1, "test": 1}
    assert set(rows(result)) == {"train_x.jpg", "val_x.jpg", "test_x.jpg"}


def test_folder_with_masks_elsewhere_and_other_folders_in_names(tmp_path):
    put_pair(tmp_path / "photos" / "day 1" / "ä b.jpg", tmp_path / "truth" / "day 1" / "ä b.png", 1)
    put_pair(tmp_path / "photos" / "day 2" / "ä b.jpg", tmp_path / "truth" / "day 2" / "ä b.png", 2)
    options = PrepareOptions(masks=tmp_path / "truth")
    result = prepare("folder", tmp_path / "photos", tmp_path / "out", options=options)
    assert set(rows(result)) == {"day 1_ä b.jpg", "day 2_ä b.jpg"}
    with pytest.raises(InputError, match="no such folder of masks"):
        prepare("folder", tmp_path / "photos", tmp_path / "out", options=PrepareOptions(masks=tmp_path / "no"))


def test_folder_of_labels_only(tmp_path):
    for number in range(5):
        put(tmp_path / "raw" / "cracked" / f"{number}.jpg", picture(number))
        put(tmp_path / "raw" / "uncracked" / f"{number}.jpg", picture(50 + number))
    result = prepare("folder", tmp_path / "raw", tmp_path / "out", options=PrepareOptions(split=(0.6, 0.2, 0.2)))
    table = rows(result)
    assert result.counts == {"train": 6, "val": 2, "test": 2}
    for split in ("val", "test"):
        assert {entry.label for entry in table.values() if entry.split == split} == {"cracked", "uncracked"}
    assert not (tmp_path / "out" / "masks").exists()
    for name, entry in table.items():
        assert (entry.mask, entry.crack_fraction) == ("", -1.0)
        assert entry.label == name.split("_")[0]


def test_folder_tells_what_stays_alone(tmp_path):
    put_pair(tmp_path / "raw" / "images" / "a.jpg", tmp_path / "raw" / "masks" / "a.png", 1)
    for number in range(7):
        put(tmp_path / "raw" / "images" / f"lone{number}.jpg", picture(number))
    put(tmp_path / "raw" / "masks" / "widow.png", crack())
    result = prepare("folder", tmp_path / "raw", tmp_path / "out", options=ALL_TRAIN)
    assert result.warnings == (
        "images without a mask are skipped: lone0.jpg, lone1.jpg, lone2.jpg, lone3.jpg, lone4.jpg and 2 more",
        "masks without an image are skipped: widow.png",
    )


def test_folder_without_pairs(tmp_path):
    put(tmp_path / "raw" / "images" / "a.jpg", picture(1))
    put(tmp_path / "raw" / "masks" / "b.png", crack())
    with pytest.raises(InputError, match=r"no images with masks in here \(images without a mask.*expected: images/"):
        prepare("folder", tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize(
    ("values", "options", "crack_px", "warning"),
    [
        ((0, 255), {}, 28, None),
        ((0, 1), {}, 28, "masks of 0 and 1 are read as such"),
        ((1, 0), {"invert": True}, 28, "masks of 0 and 1 are read as such"),
        ((255, 0), {"invert": True}, 28, None),
        (
            (255, 0),
            {},
            24 * 32 - 28,
            "masks more than half crack (are they inverted? --invert exchanges crack and background): a",
        ),
        ((0, 100), {}, 0, "masks all below the threshold 128"),
        ((0, 100), {"mask_threshold": 64}, 28, None),
        ((20, 200), {}, 28, None),
    ],
)
def test_folder_reads_masks_of_every_polarity(tmp_path, values, options, crack_px, warning):
    put(tmp_path / "raw" / "images" / "a.jpg", picture(1))
    put(tmp_path / "raw" / "masks" / "a.png", np.where(crack() > 0, values[1], values[0]).astype(np.uint8))
    options = PrepareOptions(split=(1, 0, 0), **options)
    result = prepare("folder", tmp_path / "raw", tmp_path / "out", options=options)
    assert np.count_nonzero(read_mask(tmp_path / "out" / "masks" / "a.png")) == crack_px
    assert [line.startswith(warning or "-") for line in result.warnings] == ([True] if warning else [])


def test_folder_tells_of_soft_masks(tmp_path):
    soft = cv2.GaussianBlur(crack(), (0, 0), 1.0)
    for name, mask in (("soft", soft), ("hard", crack()), ("grey", np.where(crack() > 0, 200, 20).astype(np.uint8))):
        put(tmp_path / "raw" / "images" / f"{name}.jpg", picture(len(name) + ord(name[0])))
        put(tmp_path / "raw" / "masks" / f"{name}.png", mask)
    options = PrepareOptions(split=(1, 0, 0), mask_threshold=64)
    result = prepare("folder", tmp_path / "raw", tmp_path / "out", options=options)
    assert result.warnings == ("soft masks, with greys between background and crack, are cut at 64: soft.png",)
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "soft.png"), soft >= 64)


def test_folder_reads_jpeg_masks_without_their_noise(tmp_path):
    put(tmp_path / "raw" / "images" / "a.jpg", picture(1, 64, 64))
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[30:34, 8:56] = 255
    (tmp_path / "raw" / "masks").mkdir()
    PillowImage.fromarray(mask).save(tmp_path / "raw" / "masks" / "a.jpg", quality=60)
    assert np.count_nonzero(read_mask(tmp_path / "raw" / "masks" / "a.jpg", threshold=1)) > 250
    put(tmp_path / "raw" / "images" / "dim.jpg", picture(2, 64, 64))
    PillowImage.fromarray(mask // 255).save(tmp_path / "raw" / "masks" / "dim.jpg", quality=95)
    result = prepare("folder", tmp_path / "raw", tmp_path / "out", options=ALL_TRAIN)
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "a.png"), mask[..., 0] > 0)
    assert result.warnings == ("masks all below the threshold 128: nothing in them is bright; lower it?: dim.jpg",)


@pytest.mark.parametrize(
    ("name", "photo"),
    [
        ("20160222_080850_1_361", "20160222_080850"),
        ("20160222_080850", "20160222_080850"),
        ("CRACK500_20160222_080850_1281_721", "CRACK500_20160222_080850"),
        ("IMG_2941_1_969", "IMG_2941"),
        ("IMG_2941", "IMG_2941"),
        ("11116-2", "11116"),
        ("11116", "11116"),
        ("7Q3A9060-14", "7Q3A9060"),
        ("IMG_6536-7", "IMG_6536"),
        ("wall-2", "wall-2"),
        ("a_31_92", "a_31"),
        ("Rissbilder_for_Florian_9S6A2869_37_1430_3692_3865", "Rissbilder_for_Florian_9S6A2869"),
        ("Volker_DSC01646_226_19_1273_1645", "Volker_DSC01646"),
        ("Eugen_Muller_9360_99_556_518_594", "Eugen_Muller_9360"),
        ("GAPS384_train_0552_1_641", "GAPS384_train_0552"),
        ("noncrack_noncrack_concrete_wall_9_27", "noncrack_noncrack_concrete_wall_9"),
        ("cracktree200_6266", "cracktree200_6266"),
        ("CFD_001", "CFD_001"),
        ("slide1041", "slide1041"),
        ("001", "001"),
    ],
)
def test_photo_id(name, photo):
    assert photo_id(name) == photo


def test_strip_extensions():
    assert [strip_extensions(name) for name in ("a.jpg.jpg", "a.b.PNG", ".png", "v1.2")] == ["a", "a.b", ".png", "v1.2"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_says_where_it_comes_from(name):
    layout = LAYOUTS[name]
    assert layout.title
    assert layout.licence
    assert not layout.needs_source or (layout.where_to_get and layout.tree)
    assert set(layout.published) <= {"train", "val", "test", "all"}
