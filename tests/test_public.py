"""Public data sets: each in a small tree built as it is published, with its polarity, threshold and traps."""

import io
import os

import numpy as np
import pytest
from PIL import Image as PillowImage
from raw_sets import masks, named, picture, put, rows

from cracktool.datasets import LAYOUTS
from cracktool.datasets.prepare import prepare
from cracktool.datasets.public import merged_photo_id
from cracktool.datasets.raw import PrepareOptions
from cracktool.errors import InputError, UsageError
from cracktool.images import read_image

STEPS = (0, 1, 2, 63, 64, 126, 130, 254, 255)  # grey values beside every threshold, one 16 px column each
SIZE = (16, 16 * len(STEPS))


def stairs():
    return np.repeat(np.tile(np.uint8(STEPS), (16, 1)), 16, axis=1)


def grey_jpeg(pixels):
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def steps_of(mask):
    """The grey values of `stairs` that were read as crack."""
    return {value for value, crack in zip(STEPS, mask[8, 8::16], strict=True) if crack}


ABOVE_0, ABOVE_63, ABOVE_127 = set(STEPS[1:]), set(STEPS[4:]), set(STEPS[6:])
BELOW_128 = set(STEPS) - ABOVE_127

ROWS = [
    ("crack500", "traincrop/20160222_080850_1_361.jpg", "traincrop/20160222_080850_1_361.png", ABOVE_0),
    ("cfd", "cfd_image/001.jpg", "cfd_gt/seg_gt/001.png", ABOVE_127),
    ("deepcrack", "train_img/11111.jpg", "train_lab/11111.png", ABOVE_127),
    ("gaps384", "croppedimg/train_0552_1_641.jpg", "croppedgt/train_0552_1_641.png", ABOVE_0),
    ("ael", "img/img/ESAR/Im_GT_ESAR_30aor.jpg", "gt/gt/ESAR/GT_ESAR_30a.png", BELOW_128),
    ("ael", "TITS/IMAGES/ESAR/Im_GT_ESAR_30aor.jpg", "TITS/GROUND_TRUTH/ESAR/GT_ESAR_30a.png", BELOW_128),
    ("cracktree200", "cracktree200rgb/6192.jpg", "cracktree200_gt/6192.png", ABOVE_127),
    ("cracktree200", "cracktree200gray/6192.jpg", "cracktree200_gt/6192.png", ABOVE_127),
    ("cracktree260", "CrackTree260/6192.jpg", "CrackTree260_GT/6192.bmp", ABOVE_127),
    ("crkwh100", "CRKWH100/1000.png", "CRKWH100_GT/1000.bmp", ABOVE_127),
    ("crackls315", "image/0001-2.jpg", "gt/0001-2.bmp", ABOVE_127),
    ("crackls315", "images/0001-2.jpg", "masks/0001-2.bmp", ABOVE_127),
    ("stone331", "Stone331/738.jpg", "Stone331_GT/738.bmp", ABOVE_127),
    ("alexdonchuk", "ds/img/001.jpg", "ds/masks_machine/001.png", ABOVE_0 - {1}),
    ("khanhha", "images/CFD_001.jpg", "masks/CFD_001.jpg", ABOVE_127),
    (
        "crackseg9k",
        "Final-Dataset-Vol2/Images-2/Volker_1.png",
        "Final-Dataset-Vol1/Final_Masks/Masks/Volker_1.png",
        ABOVE_63,
    ),
    ("omnicrack30k", "images/test/AEL_1.png", "annotations/test/AEL_1.png", BELOW_128),
    ("crackrefinenet", "images/test/a.jpg", "annotations/test/a.png", ABOVE_0),
    ("rcfd", "images/test/a.jpg", "annotations/test/a.png", ABOVE_0),
    ("sylvie", "images/test/a.jpg", "annotations/test/a.png", ABOVE_0),
]


@pytest.mark.parametrize(("layout", "image", "mask", "crack"), ROWS)
def test_polarity_and_threshold_of_each_set(tmp_path, layout, image, mask, crack):
    raw = tmp_path / "raw"
    if layout == "deepcrack":
        put(raw / "test_img" / "a.jpg", picture(2, *SIZE))
        put(raw / "test_lab" / "a.png", stairs())
    put(raw / image, picture(1, *SIZE))
    put(raw / mask, grey_jpeg(stairs()) if mask.endswith(".jpg") else stairs())
    result = prepare(layout, raw, tmp_path / "out")
    assert [steps_of(found) for found in masks(result).values()] == [crack] * len(rows(result))
    if "invert" in LAYOUTS[layout].options:
        result = prepare(layout, raw, tmp_path / "turned", options=PrepareOptions(invert=True))
        assert steps_of(next(iter(masks(result).values()))) == set(STEPS) - crack
        result = prepare(layout, raw, tmp_path / "high", options=PrepareOptions(mask_threshold=255))
        high = set(STEPS) - {255} if crack == BELOW_128 else {255}
        assert steps_of(next(iter(masks(result).values()))) == high


def test_every_public_set_is_in_the_table_above():
    assert {name for name, *_ in ROWS} >= {name for name, layout in LAYOUTS.items() if layout.published}


def put_pairs(raw, images, pairs_of, masks, *stems, mask=None):
    for number, stem in enumerate(stems):
        put(raw / images / f"{stem}.jpg", picture(hash_of(stem) + number))
        put(raw / masks / f"{pairs_of(stem)}.png", line() if mask is None else mask)


def hash_of(text):
    return int.from_bytes(text.encode()[-6:], "big")


def line(height=32, width=48, value=255):
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2, 4:-4] = value
    return mask


def test_gaps384_takes_splits_and_photos_from_the_names(tmp_path):
    stems = ("train_0552_1_641", "train_0552_541_1", "test_0028_541_1", "valid_0007_1_1")
    put_pairs(tmp_path / "raw", "croppedimg", str, "croppedgt", *stems, mask=line(value=1))
    result = prepare("gaps384", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 2, "val": 1, "test": 1}
    assert {entry.group for entry in rows(result).values()} == {"train_0552", "test_0028", "valid_0007"}
    assert named(result, "all 4 of 509")
    assert not named(result, "read as such"), "any value above 0 is crack here, so 0 and 1 are no surprise"


@pytest.mark.parametrize("layout", ["cracktree200", "crkwh100", "stone331"])
def test_thin_truth_is_told(tmp_path, layout):
    put_pairs(tmp_path / "raw", "cracktree200rgb", str, "cracktree200_gt", "6192")
    put_pairs(tmp_path / "raw", "images", str, "gt", "6192")
    assert named(prepare(layout, tmp_path / "raw", tmp_path / "out"), "lines about 1 px wide")


def put_stone(raw, mask_size=(32, 48)):
    put(raw / "Stone331" / "738.jpg", picture(1))
    put(raw / "Stone331_GT" / "738.bmp", line(*mask_size))
    area = np.zeros((64, 96), np.uint8)
    area[:, 48:] = 255
    put(raw / "Stone331_MASK" / "738.bmp", area)


def test_stone331_is_blank_outside_its_area(tmp_path):
    put_stone(tmp_path / "raw")
    put(tmp_path / "raw" / "Stone331" / "739.jpg", picture(2))
    put(tmp_path / "raw" / "Stone331_GT" / "739.bmp", line())
    result = prepare("stone331", tmp_path / "raw", tmp_path / "out", options=PrepareOptions(invert=True))
    inverted = masks(result)["738.png"]
    assert not inverted[:, :24].any(), "outside stays no crack when the truth is inverted"
    assert inverted[:, 24:].mean() > 0.9
    result = prepare("stone331", tmp_path / "raw", tmp_path / "b")
    assert np.array_equal(masks(result)["738.png"][:, 24:], line()[:, 24:] > 0)
    assert not masks(result)["738.png"][:, :24].any()
    raw, stored = read_image(tmp_path / "raw" / "Stone331" / "738.jpg"), read_image(tmp_path / "b" / "images/738.png")
    assert np.array_equal(stored[:, 24:], raw[:, 24:])
    assert np.array_equal(np.unique(stored[:, :24].reshape(-1, 3), axis=0), [raw[:, 24:].mean(axis=(0, 1)).round()])
    assert (tmp_path / "b" / "images" / "739.jpg").read_bytes() == (tmp_path / "raw/Stone331/739.jpg").read_bytes()
    assert named(result, "photos without an area mask are taken whole: 739.jpg")
    assert named(result, "masks of another size than their photo are resized: 738.bmp"), "the area is twice as large"


def test_only_stone331_resizes_masks(tmp_path):
    put_stone(tmp_path / "raw", mask_size=(64, 96))
    result = prepare("stone331", tmp_path / "raw", tmp_path / "out")
    found = masks(result)["738.png"]
    assert np.array_equal(found[:, 24:], line(64, 96)[::2, ::2][:, 24:] > 0)
    put(tmp_path / "other" / "images" / "1.png", picture(1))
    put(tmp_path / "other" / "gt" / "1.bmp", line(64, 96))
    with pytest.raises(InputError, match="the mask has 96 x 64 px, the image 48 x 32"):
        prepare("crkwh100", tmp_path / "other", tmp_path / "b")


def test_stone331_refuses_an_empty_area(tmp_path):
    put_stone(tmp_path / "raw")
    put(tmp_path / "raw" / "Stone331_MASK" / "738.bmp", np.zeros((32, 48), np.uint8))
    with pytest.raises(InputError, match=r"738.bmp: the area mask is empty"):
        prepare("stone331", tmp_path / "raw", tmp_path / "out")


def test_ael_skips_photos_without_truth(tmp_path):
    white = np.full((32, 48), 255, np.uint8) - line()
    for number, (folder, stem) in enumerate((("AIGLE_RN", "AIGLE_RN_C18a"), ("ESAR", "ESAR_30a"), ("LCMS", "LCMS_62"))):
        put(tmp_path / "raw" / "img" / "img" / folder / f"Im_GT_{stem}or.jpg", picture(number))
        put(tmp_path / "raw" / "gt" / "gt" / folder / f"GT_{stem}.png", white)
    put(tmp_path / "raw" / "img" / "img" / "ESAR" / "Im_ESAR_07.jpg", picture(9))
    result = prepare("ael", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 0, "val": 0, "test": 3}
    assert all(np.array_equal(mask, line() > 0) for mask in masks(result).values())
    assert named(result, "images without a mask are skipped: ESAR/Im_ESAR_07.jpg")
    assert {entry.origin for entry in rows(result).values()} == {"AIGLE_RN", "ESAR", "LCMS"}


def test_alexdonchuk_leaves_out_what_was_never_labelled(tmp_path):
    for number, (name, value) in enumerate({"001": 2, "201": 0, "Im_GT_ESAR_30a": 2}.items()):
        put(tmp_path / "raw" / "ds" / "img" / f"{name}.jpg", picture(number))
        put(tmp_path / "raw" / "ds" / "masks_machine" / f"{name}.png", np.dstack([line(value=value)] * 3))
    put(tmp_path / "raw" / "ds" / "masks_human" / "001.png", picture(7))
    result = prepare("alexdonchuk", tmp_path / "raw", tmp_path / "out")
    assert set(rows(result)) == {"001.jpg", "Im_GT_ESAR_30a.jpg"}
    assert result.left_out == 1


def put_merged(folder, *names, images="images", masks="masks"):
    for number, name in enumerate(names):
        put(folder / images / name, picture(hash_of(name[::-1]) + number))
        mask = np.dstack([line(value=0 if name.startswith("noncrack") else 255)] * 3)
        put(folder / masks / name, mask)


def test_khanhha_keeps_its_split_and_its_double_extensions(tmp_path):
    raw = tmp_path / "raw"
    put_merged(raw / "train", "noncrack_noncrack_concrete_wall_9_27.jpg.jpg", "forest_001.jpg", "DeepCrack_11231-3.jpg")
    put_merged(raw / "test", "CFD_001.jpg", "CRACK500_20160222_080850_1281_721.jpg")
    put_merged(raw, "forest_001.jpg", "CFD_001.jpg")  # everything once more, in images/ and masks/
    result = prepare("khanhha", raw, tmp_path / "out")
    assert result.counts == {"train": 2, "val": 0, "test": 2}
    table = rows(result)
    assert table["noncrack_noncrack_concrete_wall_9_27.jpg"].label == "uncracked"
    assert table["CRACK500_20160222_080850_1281_721.jpg"].group == "CRACK500_20160222_080850"
    assert {entry.origin for entry in table.values()} == {"noncrack", "CFD", "CRACK500", "DeepCrack"}
    assert named(result, "1 of train whose photos val or test shows too are left out"), "forest_001 is CFD_001"
    assert "forest_001.jpg" not in table
    leaky = prepare("khanhha", raw, tmp_path / "leaky", options=PrepareOptions(keep_leaks=True))
    assert leaky.counts == {"train": 3, "val": 0, "test": 2}
    (leak,) = named(leaky, "occur in several published splits")
    assert "CrackForest_001" in leak


def test_khanhha_names_of_one_photo():
    names = ("CFD_001", "forest_001", "Sylvie_Chambon_001", "Sylvie_Chambon_Im_GT_ESAR_30a", "forest_0011")
    found = [merged_photo_id(name) for name in names]
    assert found == ["CrackForest_001"] * 3 + ["Sylvie_Chambon_Im_GT_ESAR_30a", "forest_0011"]


def test_khanhha_crack_free_photos_need_no_mask_and_jpeg_noise_is_no_crack(tmp_path):
    raw = tmp_path / "raw"
    put_merged(raw, "CFD_001.jpg", "noncrack_b.jpg")
    put(raw / "images" / "noncrack_c.jpg", picture(3))
    put(raw / "images" / "Volker_1.jpg", picture(4))
    noise = np.kron(np.uint8([[0, 1, 0], [1, 0, 1]]), np.ones((16, 16), np.uint8))
    put(raw / "masks" / "noncrack_b.jpg", grey_jpeg(noise))
    assert set(np.unique(PillowImage.open(raw / "masks" / "noncrack_b.jpg"))) == {0, 1}
    result = prepare("khanhha", raw, tmp_path / "out")
    assert {name: entry.label for name, entry in rows(result).items()} == {
        "CFD_001.jpg": "cracked",
        "noncrack_b.jpg": "uncracked",
        "noncrack_c.jpg": "uncracked",
    }
    assert named(result, "images without a mask are skipped: Volker_1.jpg")
    put(raw / "masks" / "noncrack_b.jpg", np.dstack([line()] * 3))
    result = prepare("khanhha", raw, tmp_path / "b")
    assert named(result, "photos that are crack-free by name have crack in their mask: noncrack_b.jpg")


def test_crackseg9k_joins_its_volumes_and_reads_its_lists(tmp_path):
    raw = tmp_path / "raw"
    truth = "Final-Dataset-Vol1/Final_Masks/Masks"
    put_merged(raw, "CFD_001.png", "Rissbilder_1.png", images="Final-Dataset-Vol1/Images", masks=truth)
    put_merged(raw, "Ceramic_9.png", images="Final-Dataset-Vol2/Images-2", masks=truth)
    put(raw / "Final-Dataset-Vol1" / "Final_Masks" / "Heads" / "CFD_001.png", np.full((32, 48), 255, np.uint8))
    put(raw / "Final-Dataset-Vol1" / "train.txt", "CFD_001.png\nCeramic_9.png\n")
    put(raw / "Final-Dataset-Vol1" / "test.txt", "Rissbilder_1.png\n")
    result = prepare("crackseg9k", raw, tmp_path / "out")
    splits = {name: entry.split for name, entry in rows(result).items()}
    assert splits == {"CFD_001.png": "train", "Ceramic_9.png": "train", "Rissbilder_1.png": "test"}
    assert not named(result, "without"), "the masks of one volume are not alone for the other"


def test_omnicrack_and_crackrefinenet_keep_the_splits_below_images(tmp_path):
    for layout, names, value in (
        ("omnicrack30k", ("training", "validation", "test"), 255 - line()),
        ("sylvie", ("train", "val", "test"), line(value=1)),
    ):
        raw = tmp_path / layout
        for number, split in enumerate(names):
            put(raw / "images" / split / f"CFD_{number}.png", picture(number))
            put(raw / "annotations" / split / f"CFD_{number}.png", value)
            put(raw / "centerlines" / split / f"CFD_{number}.png", 255 - line())
        result = prepare(layout, raw, tmp_path / f"{layout}_out")
        assert result.counts == {"train": 1, "val": 1, "test": 1}
        assert all(np.array_equal(mask, line() > 0) for mask in masks(result).values())
        of_collection = layout == "omnicrack30k"
        assert {entry.origin for entry in rows(result).values()} == {"CFD" if of_collection else "images"}


def test_folders_may_lie_one_deeper_or_twice_in_each_other(tmp_path):
    put_pairs(tmp_path / "raw" / "CRKWH100 download", "crkwh100/CRKWH100", str, "CRKWH100_gt", "1000")
    assert set(rows(prepare("crkwh100", tmp_path / "raw", tmp_path / "out"))) == {"1000.jpg"}


def test_a_missing_folder_is_named_with_the_tree_expected(tmp_path):
    put_pairs(tmp_path / "raw", "cracktree200rgb", str, "elsewhere", "6192")
    with pytest.raises(InputError, match=r"no folder cracktree200_gt in here \(expected: cracktree200rgb/NAME.jpg and"):
        prepare("cracktree200", tmp_path / "raw", tmp_path / "out")
    put(tmp_path / "raw" / "cracktree200_gt" / "other.png", line())
    with pytest.raises(InputError, match=r"no images with masks in here .*images without a mask are skipped: 6192.jpg"):
        prepare("cracktree200", tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("name", ["data.zip", "data.tar.gz", "DATA.RAR"])
def test_archives_are_told_apart_from_folders(tmp_path, name):
    archive = put(tmp_path / "raw" / name, b"PK")
    with pytest.raises(InputError, match=r"an archive, not a folder \(unpack it and give the folder\)"):
        prepare("gaps384", archive, tmp_path / "out")
    for layout in ("gaps384", "crack500", "folder", "cfd", "coco", "voc"):
        with pytest.raises(InputError, match=rf"\(unpack {name} there first; expected: "):
            prepare(layout, tmp_path / "raw", tmp_path / "out")


# Bad input: one line each, and the rest is done


def test_bad_files_fail_alone(tmp_path):
    raw = tmp_path / "raw"
    for name in ("good", "short", "cmyk", "deep", "text"):
        put(raw / "images" / f"{name}.jpg", picture(hash_of(name)))
        put(raw / "gt" / f"{name}.bmp", line())
    data = (raw / "images" / "short.jpg").read_bytes()
    put(raw / "images" / "short.jpg", data[: len(data) // 2])
    put(raw / "gt" / "text.bmp", "no picture")
    PillowImage.fromarray(picture(3)).convert("CMYK").save(raw / "images" / "cmyk.jpg")
    (raw / "gt" / "deep.bmp").unlink()
    PillowImage.fromarray(line().astype(np.uint16) * 257).save(raw / "gt" / "deep.png")
    put(raw / "images" / "photo_alone.jpg", picture(5))
    put(raw / "gt" / "mask_alone.bmp", line())
    result = prepare("crkwh100", raw, tmp_path / "out")
    assert set(rows(result)) == {"good.jpg", "cmyk.jpg", "deep.jpg"}
    assert all(np.array_equal(mask, line() > 0) for mask in masks(result).values())
    assert sorted(str(error).removeprefix(f"{raw}{os.sep}").split(" (")[0] for error in result.failures) == [
        f"gt{os.sep}text.bmp: not a picture, or damaged",
        f"images{os.sep}short.jpg: the file is cut short",
    ]
    assert named(result, "images without a mask are skipped: photo_alone.jpg")
    assert named(result, "masks without an image are skipped: mask_alone.bmp")


@pytest.mark.parametrize("layout", ["crkwh100", "folder"])
def test_names_that_differ_only_in_case(tmp_path, layout):
    for number, name in enumerate(("A.png", "a.png")):
        put(tmp_path / "raw" / "images" / name, picture(number))
        mask = line()
        mask[number] = 255
        put(tmp_path / "raw" / "gt" / name, mask)
    if len(list((tmp_path / "raw" / "images").iterdir())) == 1:
        pytest.skip("this file system does not tell upper from lower case")
    options = PrepareOptions(split=(0, 0, 1))
    result = prepare(layout, tmp_path / "raw", tmp_path / "out", options=options)
    assert len({name.lower() for name in rows(result)}) == 2, "the stored names differ in more than case"
    first_rows = {entry.source[-5:]: masks(result)[name][:2, 0].tolist() for name, entry in rows(result).items()}
    assert first_rows == {"A.png": [True, False], "a.png": [False, True]}
    (tmp_path / "raw" / "gt" / "A.png").unlink()
    result = prepare(layout, tmp_path / "raw", tmp_path / "b", options=options)
    assert [entry.source for entry in rows(result).values()] == ["images/a.png"], "one mask is not taken twice"
    (tmp_path / "raw" / "gt" / "a.png").rename(tmp_path / "raw" / "gt" / "a_mask.png")
    with pytest.raises(InputError, match="no images with masks"):  # which of the two photos it is of cannot be told
        prepare(layout, tmp_path / "raw", tmp_path / "c", options=options)


def test_mostly_crack_names_the_remedy(tmp_path):
    put(tmp_path / "raw" / "images" / "a.jpg", picture(1))
    put(tmp_path / "raw" / "gt" / "a.bmp", 255 - line())
    result = prepare("crkwh100", tmp_path / "raw", tmp_path / "out")
    assert named(result, "masks more than half crack (are they inverted? --invert exchanges crack and background): a")
    result = prepare("crkwh100", tmp_path / "raw", tmp_path / "b", options=PrepareOptions(invert=True))
    assert not named(result, "half crack")
    put(tmp_path / "raw" / "gt" / "a.bmp", line())
    result = prepare("crkwh100", tmp_path / "raw", tmp_path / "c", options=PrepareOptions(invert=True))
    assert named(result, "masks more than half crack (leave out --invert): a")


def test_cfd_matlab_truth_of_version_73_and_grey_options_are_refused(tmp_path):
    put(tmp_path / "raw" / "image" / "001.jpg", picture(1))
    put(tmp_path / "raw" / "groundTruth" / "001.mat", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    with pytest.raises(InputError, match=r"001.mat: a MATLAB file of version 7.3 \(HDF5\).*-v7"):
        prepare("cfd", tmp_path / "raw", tmp_path / "out")
    for options in (PrepareOptions(invert=True), PrepareOptions(mask_threshold=64)):
        with pytest.raises(UsageError, match="the truth of the release is no grey picture"):
            prepare("cfd", tmp_path / "raw", tmp_path / "out", options=options)
