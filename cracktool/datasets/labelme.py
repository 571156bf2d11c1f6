"""LabelMe: one JSON file per photo with polygons, lines and line strips.

A photo without such a file was not annotated and is skipped; one whose file holds no shape has no crack.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cracktool.datasets.annotated import (
    ANNOTATION_OPTIONS,
    AnnotatedPhoto,
    PhotoFinder,
    Shape,
    annotated_dataset,
    read_files,
    read_json,
)
from cracktool.datasets.pairing import list_pictures
from cracktool.datasets.rasterising import draw_line, fill_ellipse, fill_rings, paste, to_points
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset
from cracktool.errors import InputError
from cracktool.images import Mask, read_mask


def read_labelme(source: Path, options: PrepareOptions) -> RawDataset:
    """List the photos that have a LabelMe file.

    Args:
        source: The raw folder.
        options: Of them `label` and `line_width`.

    Raises:
        InputError: There is no LabelMe file.
        UsageError: Which label is crack cannot be told.
    """
    notes = Notes()
    finder = PhotoFinder(source)

    def read(path: Path) -> list[AnnotatedPhoto]:
        content = read_json(path)
        if not (isinstance(content, dict) and "shapes" in content):
            return []
        return _photo(path, content, finder, options.line_width or 1.0, notes)

    photos, failures = read_files(source.rglob("*.json"), read, "no LabelMe annotations")
    if not photos and not failures:
        raise InputError("no LabelMe files in here", path=source)
    annotated = {photo.photo for photo in photos}
    for picture in list_pictures(source):
        if picture not in annotated:
            notes.add("photos without annotations are skipped", picture.relative_to(source).as_posix())
    return annotated_dataset(source, photos, options, notes, failures=failures)


def _photo(
    path: Path, content: Mapping[str, Any], finder: PhotoFinder, line_width: float, notes: Notes
) -> list[AnnotatedPhoto]:
    name = content.get("imagePath") or path.stem
    photo: Path | bytes | None = finder.find(name, path)
    if photo is None and content.get("imageData"):
        photo = base64.b64decode(content["imageData"])
    if photo is None:
        notes.add("annotated photos that are not here are skipped", name)
        return []
    height, width = content.get("imageHeight"), content.get("imageWidth")
    return [
        AnnotatedPhoto(
            photo=photo,
            name=name,
            source=path,
            shapes=[_shape(shape, line_width) for shape in content["shapes"]],
            shape_hw=(height, width) if height and width else None,
            tags=[name for name, is_set in (content.get("flags") or {}).items() if is_set],
        )
    ]


def _shape(shape: Mapping[str, Any], line_width: float) -> Shape:
    label, kind = str(shape["label"]), shape.get("shape_type") or "polygon"
    if kind in ("line", "linestrip"):
        return Shape(label=label, draw=partial(_line, shape["points"], line_width), is_line=True)
    draw = {"polygon": _polygon, "circle": _circle, "mask": _patch}.get(kind)
    return Shape(label=label, draw=partial(draw, shape) if draw else None)


def _line(points: Any, width: float, mask: Mask) -> None:
    draw_line(mask, to_points(points), width)


def _polygon(shape: Mapping[str, Any], mask: Mask) -> None:
    fill_rings(mask, [to_points(shape["points"])])


def _circle(shape: Mapping[str, Any], mask: Mask) -> None:
    centre, rim = to_points(shape["points"])
    radius = float(np.hypot(*(rim - centre)))
    fill_ellipse(mask, centre[0], centre[1], radius, radius)


def _patch(shape: Mapping[str, Any], mask: Mask) -> None:
    left, top = to_points(shape["points"])[0]
    paste(mask, read_mask(base64.b64decode(shape["mask"]), threshold=1), round(left), round(top))


LABELME = Layout(
    reader=read_labelme,
    title="LabelMe annotations: polygons, lines, line strips, circles and masks",
    where_to_get="https://github.com/wkentaro/labelme",
    tree="NAME.json beside NAME.jpg, or naming it, anywhere",
    licence="that of the photos",
    fractions=(0.1, 0.1),
    options=ANNOTATION_OPTIONS,
)
