"""CVAT: an XML file of polygons, polylines and masks ("CVAT for images"); its "Segmentation mask" export is like VOC.

A photo that the file names without a shape has no crack.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from cracktool.datasets.annotated import (
    ANNOTATION_OPTIONS,
    AnnotatedPhoto,
    PhotoFinder,
    Shape,
    annotated_dataset,
    read_files,
)
from cracktool.datasets.pairing import split_of_folder
from cracktool.datasets.rasterising import decode_runs, draw_line, fill_ellipse, fill_rings, paste, to_points
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset
from cracktool.datasets.voc import has_class_masks, read_voc
from cracktool.errors import InputError, UsageError
from cracktool.images import Mask


def read_cvat(source: Path, options: PrepareOptions) -> RawDataset:
    """List the photos of a CVAT export, of its XML or of its class masks.

    Args:
        source: The raw folder.
        options: Of them `label`, and for the XML `line_width`.

    Raises:
        InputError: There is neither.
        UsageError: Which label is crack cannot be told.
    """
    files = sorted(source.rglob("*.xml"))
    if not files and has_class_masks(source):
        if options.line_width is not None:
            raise UsageError("class masks have no lines", remedy="leave out line_width")
        return read_voc(source, options)
    notes = Notes()
    finder = PhotoFinder(source)
    labels: set[str] = set()

    def read(path: Path) -> Iterator[AnnotatedPhoto]:
        try:
            root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError) as error:
            raise InputError(f"is no XML: {error}", path=path) from error
        yield from _photos(path, root, finder, options.line_width or 1.0, notes)
        labels.update(name.text or "" for name in root.iterfind("meta//labels/label/name"))

    photos, failures = read_files(files, read, "no CVAT annotations")
    if not photos and not failures:
        raise InputError("no CVAT annotations of photos in here", path=source)
    return annotated_dataset(source, photos, options, notes, labels=labels, failures=failures)


def _photos(
    path: Path, root: ElementTree.Element, finder: PhotoFinder, line_width: float, notes: Notes
) -> Iterator[AnnotatedPhoto]:
    for image in root.iterfind("image"):
        photo = finder.find(image.attrib["name"], path)
        if photo is None:
            notes.add("annotated photos that are not here are skipped", image.attrib["name"])
            continue
        yield AnnotatedPhoto(
            photo=photo,
            name=photo.name,
            source=path,
            shapes=[_shape(shape, line_width) for shape in image if shape.tag != "tag"],
            split=split_of_folder(image.attrib.get("subset", "")),
            shape_hw=(int(image.attrib["height"]), int(image.attrib["width"])),
            tags=[tag.attrib["label"] for tag in image.iterfind("tag")],
        )


def _shape(shape: ElementTree.Element, line_width: float) -> Shape:
    draw = {"polygon": _polygon, "mask": _runs, "ellipse": _ellipse}.get(shape.tag)
    if shape.tag == "polyline":
        draw = partial(_line, width=line_width)
    return Shape(
        label=shape.attrib["label"], draw=draw and partial(draw, shape.attrib), is_line=shape.tag == "polyline"
    )


def _points(attributes: dict[str, str]) -> list[list[float]]:
    return [[float(number) for number in point.split(",")] for point in attributes["points"].split(";")]


def _polygon(attributes: dict[str, str], mask: Mask) -> None:
    fill_rings(mask, [to_points(_points(attributes))])


def _line(attributes: dict[str, str], mask: Mask, width: float) -> None:
    draw_line(mask, to_points(_points(attributes)), width)


def _ellipse(attributes: dict[str, str], mask: Mask) -> None:
    x, y, radius_x, radius_y = (float(attributes[name]) for name in ("cx", "cy", "rx", "ry"))
    fill_ellipse(mask, x, y, radius_x, radius_y, turned=float(attributes.get("rotation", 0)))


def _runs(attributes: dict[str, str], mask: Mask) -> None:
    left, top, width, height = (round(float(attributes[name])) for name in ("left", "top", "width", "height"))
    if height > mask.shape[0] or width > mask.shape[1]:
        raise ValueError(f"a mask of {width} x {height} px is larger than the photo")
    runs = [int(number) for number in attributes["rle"].split(",")]
    paste(mask, decode_runs(runs, (height, width), by_columns=False), left, top)


CVAT = Layout(
    reader=read_cvat,
    title="CVAT annotations: XML of polygons, polylines and masks, or segmentation masks",
    where_to_get="https://docs.cvat.ai",
    tree="annotations.xml and images/; or labelmap.txt, SegmentationClass/ and JPEGImages/",
    licence="that of the photos",
    fractions=(0.1, 0.1),
    options=ANNOTATION_OPTIONS,
)
