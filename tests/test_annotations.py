"""Annotation exports: COCO, LabelMe, CVAT, VOC and Supervisely, each as its tool writes it."""

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from raw_sets import masks, named, picture, put, rows

from cracktool.datasets.annotated import choose_labels, split_of_path
from cracktool.datasets.prepare import prepare
from cracktool.datasets.raw import PrepareOptions
from cracktool.errors import InputError, UsageError
from cracktool.images import encode_jpeg

HEIGHT, WIDTH = 32, 48
TRAIN = {"split": (1, 0, 0)}
BAR = [[4, 10], [40, 10], [40, 13], [4, 13]]  # columns 4 to 39 of rows 10 to 12
FLAT = [4, 10, 40, 10, 40, 13, 4, 13]


def bar(top=10, left=4, bottom=13, right=40):
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def run(layout, raw, out, **options):
    return prepare(layout, raw, out, options=PrepareOptions(**{**TRAIN, **options}))


def runs_of(mask, order):
    """Run lengths of background and crack in turn, written without the code under test."""
    runs, last = [0], False
    for pixel in mask.flatten(order=order):
        if pixel != last:
            runs.append(0)
            last = pixel
        runs[-1] += 1
    return runs


# Labels


def test_labels_called_crack_are_crack_unless_they_say_no(tmp_path):
    labels = ["Crack", "crack_longitudinal", "non-crack", "wall_no_crack", "Uncracked", "crack-free", "spalling"]
    assert choose_labels(labels, (), tmp_path) == {"Crack", "crack_longitudinal"}
    assert choose_labels(["fissure"], (), tmp_path) == {"fissure"}
    assert choose_labels([], (), tmp_path) == set()
    assert choose_labels(labels, ("spalling",), tmp_path) == {"spalling"}
    with pytest.raises(UsageError, match=r"none of them called crack: fissure, rust \(choose with --label\)"):
        choose_labels(["rust", "fissure"], (), tmp_path)
    with pytest.raises(UsageError, match=r"no label 'spaling' in .*did you mean spalling"):
        choose_labels(labels, ("spaling",), tmp_path)
    with pytest.raises(UsageError, match=r"no label 'x' in .*its labels are: fissure, rust"):
        choose_labels(["rust", "fissure"], ("x",), tmp_path)


def test_split_of_path():
    found = [
        split_of_path(Path(name)) for name in ("valid/_annotations.coco.json", "a/instances_test.json", "train.jpg")
    ]
    assert found == ["val", "test", "train"]
    assert split_of_path(Path("val2017")) == "val"
    assert split_of_path(Path("latest/trained.json")) is None


# COCO


def coco(annotations, names=("a.jpg",), categories=("crack",), size=(HEIGHT, WIDTH)):
    return json.dumps(
        {
            "images": [
                {"id": 10 + number, "file_name": name, "height": size[0], "width": size[1]}
                for number, name in enumerate(names)
            ],
            "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
            "annotations": [{"image_id": 10, "category_id": 0, "bbox": [4, 10, 36, 3], **each} for each in annotations],
        }
    )


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        ([FLAT], bar()),
        ([FLAT, [4, 20, 40, 20, 40, 22, 4, 22]], bar() | bar(20, bottom=22)),
        ([FLAT, [6, 11, 20, 11, 20, 12, 6, 12]], bar()),
        ({"size": [HEIGHT, WIDTH], "counts": runs_of(bar(), "F")}, bar()),
        ({"size": [HEIGHT, WIDTH], "counts": runs_of(bar(0, 0, 5, 7), "F")}, bar(0, 0, 5, 7)),
    ],
)
def test_coco_outlines(tmp_path, segmentation, expected):
    put(tmp_path / "raw" / "images" / "a.jpg", picture(1, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "annotations" / "instances_default.json", coco([{"segmentation": segmentation}]))
    result = run("coco", tmp_path / "raw", tmp_path / "out")
    assert np.array_equal(masks(result)["a.jpg"], expected)
    assert (tmp_path / "out/images/a.jpg").read_bytes() == (tmp_path / "raw/images/a.jpg").read_bytes()


@pytest.mark.parametrize("ring", [[], [4, 10, 40, 10], [4, 10.1, 40, 10.1, 40, 10.4, 4, 10.4]])
def test_an_outline_without_a_pixel_is_told(tmp_path, ring):
    put(tmp_path / "raw" / "a.jpg", picture(1, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "a.json", coco([{"segmentation": [ring]}]))
    result = run("coco", tmp_path / "raw", tmp_path / "out")
    assert named(result, "whose crack annotations cover no pixel are taken for free of crack: a.jpg")


def test_coco_categories_and_photos_without_annotation(tmp_path):
    put(tmp_path / "raw" / "a.jpg", picture(1, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "b.jpg", picture(2, HEIGHT, WIDTH))
    both = [{"segmentation": [FLAT]}, {"category_id": 1, "segmentation": [[4, 20, 40, 20, 40, 22, 4, 22]]}]
    text = coco(both, names=("a.jpg", "b.jpg", "gone.jpg"), categories=("rust", "wall crack"))
    put(tmp_path / "raw" / "result.json", text)
    put(tmp_path / "raw" / "package.json", '{"name": "no annotations"}')
    result = run("coco", tmp_path / "raw", tmp_path / "out")
    assert np.array_equal(masks(result)["a.jpg"], bar(20, bottom=22)), "rust is no crack"
    assert rows(result)["b.jpg"].label == "uncracked"
    assert named(result, "annotated photos that are not here are skipped: gone.jpg")
    result = run("coco", tmp_path / "raw", tmp_path / "b", label=("rust",))
    assert np.array_equal(masks(result)["a.jpg"], bar())
    result = run("coco", tmp_path / "raw", tmp_path / "c", label=("rust", "wall crack"))
    assert np.array_equal(masks(result)["a.jpg"], bar() | bar(20, bottom=22))


def test_coco_takes_splits_from_folders_and_keeps_versions_of_a_photo_together(tmp_path):
    names = {"train": ("p1_jpg.rf.0a1B.jpg", "p1_jpg.rf.ff00.jpg"), "valid": ("p2.jpg",)}
    for split, files in names.items():
        for number, name in enumerate(files):
            put(tmp_path / "raw" / split / name, picture(ord(split[0]) + 10 * number, HEIGHT, WIDTH))
        put(tmp_path / "raw" / split / "_annotations.coco.json", coco([{"segmentation": [FLAT]}], files))
    result = prepare("coco", tmp_path / "raw", tmp_path / "out")
    assert result.counts == {"train": 2, "val": 1, "test": 0}
    assert {entry.group for entry in rows(result).values()} == {"p1", "p2"}


def test_coco_finds_photos_by_the_folders_that_fit_best(tmp_path):
    for number, folder in enumerate(("images/train2017", "images/val2017", "images/old/val2017")):
        put(tmp_path / "raw" / folder / "a.jpg", picture(number, HEIGHT, WIDTH))
    for name in ("train", "val"):
        text = coco([{"segmentation": [FLAT]}], names=("a.jpg",))
        put(tmp_path / "raw" / "annotations" / f"instances_{name}2017.json", text)
    put(tmp_path / "raw" / "annotations" / "third_test.json", coco([], names=(r"C:\data\images\old\val2017\a.jpg",)))
    result = prepare("coco", tmp_path / "raw", tmp_path / "out", options=PrepareOptions(keep_leaks=True))
    found = {entry.split: entry.source for entry in rows(result).values()}
    assert found["train"] == "images/train2017/a.jpg"
    assert found["test"] == "images/old/val2017/a.jpg"
    assert found["val"].endswith("val2017/a.jpg")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"segmentation": {"size": [5, 5], "counts": [25]}}, r"run lengths for \[5, 5\] px .*expected \[32, 48\]"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1, 2]}}, "run lengths for 3 px, expected 32 x 48"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "b63U"}}, "cut short"),
        ({"segmentation": {"size": [HEIGHT, WIDTH]}}, "'counts'"),
        ({"segmentation": [[1, 2, 3]]}, "no pairs of x and y"),
        ({"segmentation": [["a", "b"]]}, "could not convert"),
    ],
)
def test_coco_bad_annotations_fail_with_their_photo(tmp_path, annotation, message):
    put(tmp_path / "raw" / "a.jpg", picture(1, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "b.jpg", picture(2, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "x.json", coco([annotation], names=("a.jpg", "b.jpg")))
    result = run("coco", tmp_path / "raw", tmp_path / "out")
    assert set(rows(result)) == {"b.jpg"}
    (failure,) = result.failures
    assert failure.path.name == "x.json"
    with pytest.raises(InputError, match=message):
        raise failure


def test_coco_boxes_are_no_masks(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        put(tmp_path / "raw" / name, picture(ord(name[0]), HEIGHT, WIDTH))
    put(tmp_path / "raw" / "x.json", coco([{"segmentation": []}], names=("a.jpg", "b.jpg")))
    result = run("coco", tmp_path / "raw", tmp_path / "out")
    assert set(rows(result)) == {"b.jpg"}
    assert named(result, "crack is only a box, a point or a tag are skipped: that is no outline: a.jpg")


def test_coco_files_that_are_none(tmp_path):
    put(tmp_path / "raw" / "a.jpg", picture(1, HEIGHT, WIDTH))
    with pytest.raises(InputError, match=r"no COCO file with photos in here \(expected: one or several COCO"):
        run("coco", tmp_path / "raw", tmp_path / "out")
    put(tmp_path / "raw" / "x.json", "{ broken")
    with pytest.raises(InputError, match=r"x.json: is no JSON"):
        run("coco", tmp_path / "raw", tmp_path / "out")
    put(tmp_path / "raw" / "x.json", '{"images": [{}], "annotations": [], "categories": []}')
    with pytest.raises(InputError, match=r"x.json: its COCO tables are damaged: KeyError\('file_name'\)"):
        run("coco", tmp_path / "raw", tmp_path / "out")


def test_annotations_of_another_size_say_so(tmp_path):
    file = io.BytesIO()
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(picture(1, HEIGHT, WIDTH)).save(file, "JPEG", exif=exif)
    put(tmp_path / "raw" / "a.jpg", file.getvalue())
    put(tmp_path / "raw" / "x.json", coco([{"segmentation": [FLAT]}]))
    message = (
        r"a.jpg: its annotations are for 48 x 32 px, the photo has 32 x 48 \(annotate the photo turned as its EXIF"
    )
    with pytest.raises(InputError, match=message):
        run("coco", tmp_path / "raw", tmp_path / "out")
    put(tmp_path / "raw" / "x.json", coco([{"segmentation": [FLAT]}], size=(10**6, 10**6)))
    with pytest.raises(InputError, match="annotations are for 1000000 x 1000000 px"):
        run("coco", tmp_path / "raw", tmp_path / "out")


# LabelMe


def labelme(shapes, image="a.jpg", size=(HEIGHT, WIDTH), **more):
    shapes = [{"label": "crack", "group_id": None, "flags": {}, **shape} for shape in shapes]
    return json.dumps({"version": "5.5.0", "shapes": shapes, "imagePath": image, "imageData": None}
                      | {"imageHeight": size[0], "imageWidth": size[1]} | more)  # fmt: skip


def mask_png(mask):
    file = io.BytesIO()
    PillowImage.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ({"shape_type": "polygon", "points": BAR}, {}, bar()),
        ({"points": BAR}, {}, bar()),
        ({"shape_type": "line", "points": [[4.5, 11.5], [40.5, 11.5]]}, {}, bar(11, bottom=12, right=41)),
        ({"shape_type": "line", "points": [[4.5, 11.5], [40.5, 11.5]]}, {"line_width": 1}, bar(11, 4, 12, 41)),
        (
            {"shape_type": "linestrip", "points": [[-5, 11.5], [20, 11.5], [60, 11.5]]},
            {"line_width": 3},
            bar(10, 0, 13, WIDTH),
        ),
        ({"shape_type": "mask", "points": [[4, 10], [40, 13]], "mask": mask_png(np.ones((3, 36), bool))}, {}, bar()),
    ],
)
def test_labelme_shapes(tmp_path, shape, options, expected):
    put(tmp_path / "raw" / "a.jpg", picture(1, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "a.json", labelme([shape]))
    result = run("labelme", tmp_path / "raw", tmp_path / "out", **options)
    assert np.array_equal(masks(result)["a.jpg"], expected)
    is_line = "line" in shape.get("shape_type", "")
    assert bool(named(result, "lines are drawn 1 px wide; --line-width")) == (is_line and not options)


def test_labelme_circles_labels_and_what_has_no_outline(tmp_path):
    for name in "abcd":
        put(tmp_path / "raw" / f"{name}.jpg", picture(ord(name), HEIGHT, WIDTH))
    circle = {"shape_type": "circle", "points": [[20, 16], [20, 26]]}
    put(tmp_path / "raw" / "test photo.jpg", picture(7, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "test photo.json", labelme([], "test photo.jpg"))
    put(tmp_path / "raw" / "a.json", labelme([circle, {"label": "joint", "points": BAR}]))
    put(tmp_path / "raw" / "b.json", labelme([{"shape_type": "rectangle", "points": [[1, 1], [9, 9]]}], "b.jpg"))
    put(tmp_path / "raw" / "c.json", labelme([], "c.jpg"))
    result = run("labelme", tmp_path / "raw", tmp_path / "out")
    assert masks(result)["a.jpg"].sum() == pytest.approx(np.pi * 100, rel=0.03)
    assert rows(result)["c.jpg"].label == "uncracked"
    assert {name: entry.split for name, entry in rows(result).items()} == dict.fromkeys(
        ("a.jpg", "c.jpg", "test photo.jpg"), "train"
    ), "the name of a photo is no split"
    assert named(result, "that is no outline: b.jpg")
    assert named(result, "photos without annotations are skipped: d.jpg")


def test_labelme_photos_of_another_machine_or_inside_the_file(tmp_path):
    put(tmp_path / "raw" / "photos" / "a.jpg", picture(1, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "json" / "a.json", labelme([{"points": BAR}], r"..\photos\a.jpg"))
    data = encode_jpeg(picture(2, HEIGHT, WIDTH))
    inside = labelme([{"points": BAR}], r"D:\x\b.jpg", imageData=base64.b64encode(data).decode())
    put(tmp_path / "raw" / "json" / "b.json", inside)
    put(tmp_path / "raw" / "json" / "c.json", labelme([{"points": BAR}], "c.jpg"))
    result = run("labelme", tmp_path / "raw", tmp_path / "out")
    assert all(np.array_equal(mask, bar()) for mask in masks(result).values())
    assert set(rows(result)) == {"a.jpg", "b.png"}
    assert named(result, "annotated photos that are not here are skipped: c.jpg")


def test_labelme_bad_files_fail_alone(tmp_path):
    for name in "abcd":
        put(tmp_path / "raw" / f"{name}.jpg", picture(ord(name), HEIGHT, WIDTH))
    put(tmp_path / "raw" / "a.json", labelme([{"points": BAR}]))
    put(tmp_path / "raw" / "b.json", "{")
    put(tmp_path / "raw" / "c.json", labelme([{"points": [[1, 2], [3]]}], "c.jpg"))
    put(tmp_path / "raw" / "d.json", '{"shapes": [{}], "imagePath": "d.jpg"}')
    result = run("labelme", tmp_path / "raw", tmp_path / "out")
    assert set(rows(result)) == {"a.jpg"}
    assert sorted(str(error).split(":")[0].rsplit("/")[-1] for error in result.failures) == [
        "b.json",
        "c.json",
        "d.json",
    ]
    put(tmp_path / "other" / "a.jpg", picture(1))
    with pytest.raises(InputError, match="no LabelMe files in here"):
        run("labelme", tmp_path / "other", tmp_path / "b")


# CVAT


def cvat(shapes, name="a.jpg", more=""):
    labels = "".join(f"<label><name>{label}</name></label>" for label in ("crack", "joint"))
    return (
        f"<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version>"
        f"<meta><task><labels>{labels}</labels></task></meta>"
        f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>{more}</annotations>'
    )


CVAT_BAR = ";".join(f"{x}.00,{y}.00" for x, y in BAR)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (f'<polygon label="crack" occluded="0" points="{CVAT_BAR}"></polygon>', bar()),
        ('<polyline label="crack" points="-9,11.5;99,11.5"/>', bar(10, 0, 13, WIDTH)),
        ('<mask label="crack" rle="1, 35, 0, 1, 36, 35" left="4" top="10" width="36" height="3"/>', None),
        ('<ellipse label="crack" cx="24" cy="16" rx="30" ry="100"/>', np.ones((HEIGHT, WIDTH), bool)),
        ('<ellipse label="crack" cx="24" cy="9" rx="900" ry="1" rotation="90.00"/>', bar(0, 23, HEIGHT, 25)),
        (f'<polygon label="joint" points="{CVAT_BAR}"/>', bar(0, 0, 0, 0)),
    ],
)
def test_cvat_shapes(tmp_path, shape, expected):
    put(tmp_path / "raw" / "images" / "a.jpg", picture(1, HEIGHT, WIDTH))
    other = f'<polygon label="crack" points="{CVAT_BAR}"/>'
    more = f'<image id="1" name="b.jpg" width="{WIDTH}" height="{HEIGHT}">{other}</image>'
    put(tmp_path / "raw" / "images" / "b.jpg", picture(2, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "annotations.xml", cvat(shape, more=more))
    result = run("cvat", tmp_path / "raw", tmp_path / "out", line_width=3)
    if expected is None:
        expected = bar(10, 5, 11) | bar(11, 4, 12, 5) | bar(12, 5, 13)
    assert np.array_equal(masks(result)["a.jpg"], expected)
    assert np.array_equal(masks(result)["b.jpg"], bar())


def test_cvat_rle_is_what_an_independent_writer_makes(tmp_path):
    patch = np.random.default_rng(3).random((9, 13)) < 0.4
    runs = ",".join(map(str, runs_of(patch, "C")))
    put(tmp_path / "raw" / "a.jpg", picture(1, HEIGHT, WIDTH))
    shape = f'<mask label="crack" rle="{runs}" left="30" top="20" width="13" height="9"/>'
    put(tmp_path / "raw" / "annotations.xml", cvat(shape))
    result = run("cvat", tmp_path / "raw", tmp_path / "out")
    assert np.array_equal(masks(result)["a.jpg"][20:29, 30:43], patch)
    assert masks(result)["a.jpg"].sum() == patch.sum()


def test_cvat_subsets_boxes_and_bad_files(tmp_path):
    for name in "abc":
        put(tmp_path / "raw" / "images" / f"{name}.jpg", picture(ord(name), HEIGHT, WIDTH))
    shape = f'<polygon label="crack" points="{CVAT_BAR}"/>'
    text = cvat(shape).replace('name="a.jpg"', 'name="a.jpg" subset="Train"')
    text = text.replace(
        "</annotations>",
        f'<image id="1" name="b.jpg" subset="Test" width="{WIDTH}" height="{HEIGHT}"/>'
        f'<image id="2" name="c.jpg" width="{WIDTH}" height="{HEIGHT}"><box label="crack" xtl="1" ytl="1"/></image>'
        f'<image id="3" name="gone.jpg" width="{WIDTH}" height="{HEIGHT}"/></annotations>',
    )
    put(tmp_path / "raw" / "annotations.xml", text)
    put(tmp_path / "raw" / "more.xml", "<annotations>")
    put(tmp_path / "raw" / "odd.xml", '<annotations><image id="0"/></annotations>')
    result = prepare("cvat", tmp_path / "raw", tmp_path / "out")
    assert {name: entry.split for name, entry in rows(result).items()} == {"a.jpg": "train", "b.jpg": "test"}
    assert named(result, "that is no outline: c.jpg")
    assert named(result, "not here are skipped: gone.jpg")
    messages = sorted(str(error) for error in result.failures)
    assert "more.xml: is no XML" in messages[0]
    assert "odd.xml: no CVAT annotations: KeyError('name')" in messages[1]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<mask label="crack" rle="1,1" left="4" top="10" width="36" height="3"/>', "run lengths for 2 px"),
        ('<mask label="crack" rle="1" left="4" top="10" width="99999" height="99999"/>', "is larger than the photo"),
        ('<polygon label="crack" points="1,2;3"/>', "cannot be drawn"),
        ('<polygon label="crack" points="1,x"/>', "could not convert"),
        ('<ellipse label="crack" cx="1"/>', "'cy'"),
    ],
)
def test_cvat_impossible_shapes(tmp_path, shape, message):
    put(tmp_path / "raw" / "a.jpg", picture(1, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "annotations.xml", cvat(shape))
    with pytest.raises(InputError, match=message):
        run("cvat", tmp_path / "raw", tmp_path / "out")


# VOC


def put_palette(path, indices):
    """A class mask as VOC has it: palette PNG, 0 black, 1 dark red, 2 dark green, 255 whitish."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = PillowImage.fromarray(indices.astype(np.uint8), "L").convert("P")
    palette = [0] * 768
    palette[3:9] = [128, 0, 0, 0, 128, 0]
    palette[765:] = [224, 224, 192]
    image.putdata(indices.ravel().tolist())
    image.putpalette(palette)
    image.save(path)


def put_voc(raw, *names, classes=None):
    indices = bar().astype(np.uint8) if classes is None else classes
    for number, name in enumerate(names):
        put(raw / "JPEGImages" / f"{name}.jpg", picture(number, HEIGHT, WIDTH))
        put_palette(raw / "SegmentationClass" / f"{name}.png", indices)


def test_voc_palette_with_its_void_border_and_lists(tmp_path):
    classes = bar().astype(np.uint8)
    classes[9], classes[13] = 255, 255
    put_voc(tmp_path / "raw" / "VOCdevkit" / "VOC2012", "a", "b", "c", classes=classes)
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        put(tmp_path / "raw" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / f"{split}.txt", f"{name}\n")
    result = prepare("voc", tmp_path / "raw", tmp_path / "out")
    assert {name: entry.split for name, entry in rows(result).items()} == {
        "a.jpg": "train",
        "b.jpg": "val",
        "c.jpg": "test",
    }
    assert all(np.array_equal(mask, bar()) for mask in masks(result).values())


@pytest.mark.parametrize("ending", ["", ".jpg", ".jpg masks/{}.png"])
def test_lists_name_photos_with_spaces_too(tmp_path, ending):
    names = {"wall 1": "train", "wall 2": "val", "wall v1.0 3": "test"}
    put_voc(tmp_path / "raw", *names)
    for name, split in names.items():
        put(tmp_path / "raw" / "ImageSets" / f"{split}.txt", f"\n{name}{ending.format(name)} \n")
    result = prepare("voc", tmp_path / "raw", tmp_path / "out")
    assert {name.removesuffix(".jpg"): entry.split for name, entry in rows(result).items()} == names


def test_voc_several_classes_need_a_choice(tmp_path):
    put_voc(tmp_path / "raw", "a", classes=bar() + 2 * bar(20, bottom=22))
    with pytest.raises(UsageError, match=r"several labels in .* none of them called crack: 1, 2 \(choose with --label"):
        run("voc", tmp_path / "raw", tmp_path / "out")
    result = run("voc", tmp_path / "raw", tmp_path / "out", label=("2",))
    assert np.array_equal(masks(result)["a.jpg"], bar(20, bottom=22))


@pytest.mark.parametrize("pixels", [1, 3, 255])
def test_voc_grey_and_coloured_masks(tmp_path, pixels):
    put(tmp_path / "raw" / "JPEGImages" / "a.jpg", picture(1, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "SegmentationClass" / "a.png", bar().astype(np.uint8) * np.uint8(pixels))
    assert np.array_equal(masks(run("voc", tmp_path / "raw", tmp_path / "out"))["a.jpg"], bar())
    colour = bar()[..., None] * np.uint8([10, 200, pixels])
    colour[20] = (9, 9, 9)
    put(tmp_path / "raw" / "SegmentationClass" / "a.png", colour)
    result = run("voc", tmp_path / "raw", tmp_path / "b", label=(f"#0ac8{pixels:02x}",))
    assert np.array_equal(masks(result)["a.jpg"], bar())


def test_cvat_segmentation_masks_with_a_labelmap(tmp_path):
    raw = tmp_path / "raw"
    put(raw / "JPEGImages" / "a.jpg", picture(1, HEIGHT, WIDTH))
    colours = bar()[..., None] * np.uint8([250, 50, 83]) + bar(20, bottom=22)[..., None] * np.uint8([128, 0, 0])
    put(raw / "SegmentationClass" / "a.png", colours)
    put(raw / "SegmentationObject" / "a.png", 255 - colours)
    labelmap = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncrack:250,50,83::\njoint:128,0,0::\n"
    put(raw / "labelmap.txt", labelmap)
    for layout in ("cvat", "voc"):
        assert np.array_equal(masks(run(layout, raw, tmp_path / layout))["a.jpg"], bar())
    assert np.array_equal(masks(run("voc", raw, tmp_path / "b", label=("joint",)))["a.jpg"], bar(20, bottom=22))
    put(raw / "labelmap.txt", "background:0,0,0::\ncrack:250,50,83::\n")
    with pytest.raises(InputError, match=r"a.png: labelmap.txt names no label for the colour #800000"):
        run("voc", raw, tmp_path / "c")
    put(raw / "labelmap.txt", "crack:red\n")
    with pytest.raises(InputError, match=r"no line of label:red,green,blue: 'crack:red'"):
        run("voc", raw, tmp_path / "c")
    with pytest.raises(UsageError, match="class masks have no lines"):
        run("cvat", raw, tmp_path / "d", line_width=2)


def test_voc_without_photos(tmp_path):
    put_palette(tmp_path / "raw" / "SegmentationClass" / "a.png", bar())
    with pytest.raises(InputError, match=r"no photos with class masks in here \(expected: JPEGImages"):
        run("voc", tmp_path / "raw", tmp_path / "out")


# Supervisely


def supervisely(objects):
    return json.dumps({"description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": objects})


def bitmap(mask, kind="palette"):
    """A bitmap as the Python SDK (palette) or the web page (colours with alpha) writes it."""
    file = io.BytesIO()
    if kind == "palette":
        image = PillowImage.fromarray(mask.astype(np.uint8), "L").convert("P")
        image.putdata(mask.ravel().astype(int).tolist())
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(file, "PNG", transparency=0)
    elif kind == "alpha":
        PillowImage.fromarray(np.dstack([np.zeros((*mask.shape, 3), np.uint8), mask * np.uint8(255)])).save(file, "PNG")
    else:
        PillowImage.fromarray(mask * np.uint8(255)).save(file, "PNG")
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def put_supervisely(raw, objects, name="a.jpg", dataset="ds"):
    put(raw / dataset / "img" / name, picture(hash((dataset, name)) % 1000, HEIGHT, WIDTH))
    put(raw / dataset / "ann" / f"{name}.json", supervisely(objects))
    put(raw / "meta.json", '{"classes": [{"title": "crack"}]}')


def crack_object(kind, title="crack", **more):
    return {"classTitle": title, "geometryType": kind, **more}


@pytest.mark.parametrize("layout", ["labelme", "cvat", "supervisely"])
@pytest.mark.parametrize(("tag", "kept"), [("crack", False), ("no crack", True), ("blurred", True)])
def test_a_photo_that_only_a_tag_calls_cracked_is_skipped(tmp_path, layout, tag, kept):
    raw = tmp_path / "raw"
    put_supervisely(raw, [])
    put_supervisely(raw, [], name="b.jpg")
    contents = {
        "labelme": ("ds/img/a.json", labelme([], flags={tag: True})),
        "cvat": ("a.xml", cvat(f'<tag label="{tag}"/>')),
        "supervisely": ("ds/ann/a.jpg.json", json.dumps(json.loads(supervisely([])) | {"tags": [{"name": tag}]})),
    }
    put(raw / "ds" / "img" / "b.json", labelme([], image="b.jpg"))
    put(raw / "b.xml", cvat("", name="b.jpg"))
    put(raw / contents[layout][0], contents[layout][1])
    result = run(layout, raw, tmp_path / "out")
    assert (set(rows(result)), bool(named(result, "a tag are skipped"))) == ({*(["a.jpg"] * kept), "b.jpg"}, not kept)


@pytest.mark.parametrize("kind", ["palette", "alpha", "grey"])
def test_supervisely_bitmaps(tmp_path, kind):
    patch = np.random.default_rng(1).random((5, 9)) < 0.5
    data = {"bitmap": {"data": bitmap(patch, kind), "origin": [40, 29]}}
    put_supervisely(tmp_path / "raw", [crack_object("bitmap", **data), crack_object("rectangle", "joint")])
    found = masks(run("supervisely", tmp_path / "raw", tmp_path / "out"))["a.jpg"]
    assert np.array_equal(found[29:, 40:], patch[:3, :8]), "what sticks out is cut off"
    assert found.sum() == patch[:3, :8].sum()


def test_supervisely_polygons_lines_and_data_sets_as_splits(tmp_path):
    hole = {"points": {"exterior": BAR, "interior": [[[10, 11], [20, 11], [20, 12], [10, 12]]]}}
    line = {"points": {"exterior": [[-9, 11.5], [99, 11.5]], "interior": []}}
    put_supervisely(tmp_path / "raw", [crack_object("polygon", **hole)], dataset="train")
    put_supervisely(tmp_path / "raw", [crack_object("line", **line)], dataset="test", name="b.png")
    put_supervisely(tmp_path / "raw", [], dataset="test", name="c.jpg")
    put(tmp_path / "raw" / "test" / "ann" / "gone.jpg.json", supervisely([]))
    options = PrepareOptions(line_width=3)
    result = prepare("supervisely", tmp_path / "raw", tmp_path / "out", options=options)
    assert {name: entry.split for name, entry in rows(result).items()} == {
        "a.jpg": "train",
        "b.png": "test",
        "c.jpg": "test",
    }
    assert np.array_equal(masks(result)["a.jpg"], bar() & ~bar(11, 10, 12, 20))
    assert np.array_equal(masks(result)["b.png"], bar(10, 0, 13, WIDTH))
    assert rows(result)["c.jpg"].label == "uncracked"
    assert named(result, "not here are skipped: gone.jpg")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("AAAA", "a damaged bitmap"),
        (base64.b64encode(zlib.compress(b"no picture")).decode(), "a damaged bitmap"),
        (bitmap(np.ones((HEIGHT, WIDTH + 1), bool)), "a bitmap of 49 x 32 px is larger than the photo"),
    ],
)
def test_supervisely_bad_bitmaps_fail_with_their_photo(tmp_path, data, message):
    put_supervisely(tmp_path / "raw", [crack_object("bitmap", bitmap={"data": data, "origin": [0, 0]})])
    put_supervisely(tmp_path / "raw", [], name="b.jpg")
    put(tmp_path / "raw" / "ds" / "img" / "c.jpg", picture(5))
    put(tmp_path / "raw" / "ds" / "ann" / "c.jpg.json", "{}")
    result = run("supervisely", tmp_path / "raw", tmp_path / "out")
    assert set(rows(result)) == {"b.jpg"}
    first, second = sorted(map(str, result.failures), key=lambda text: "c.jpg" in text)
    assert "an annotation of a.jpg cannot be drawn" in first
    assert message in first
    assert "c.jpg.json: no Supervisely annotations: KeyError('size')" in second


def test_supervisely_without_annotations(tmp_path):
    put(tmp_path / "raw" / "img" / "a.jpg", picture(1))
    with pytest.raises(InputError, match=r"no Supervisely annotations of photos in here \(expected: DATASET/img"):
        run("supervisely", tmp_path / "raw", tmp_path / "out")


def test_mostly_crack_asks_for_the_label(tmp_path):
    put(tmp_path / "raw" / "a.jpg", picture(1, HEIGHT, WIDTH))
    put(tmp_path / "raw" / "a.json", labelme([{"points": [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]]}]))
    result = run("labelme", tmp_path / "raw", tmp_path / "out")
    assert named(result, "masks more than half crack (choose with --label what is crack): a")
