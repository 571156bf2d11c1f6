"""Masks as annotations that people correct by hand: COCO, LabelMe and CVAT files; `crack prepare` reads them back.

A part of the mask is a polygon; one with holes, which a polygon cannot show, is a mask of run lengths or pixels. All is
in px of the photo, also where the network's mask is finer. A photo is known by its file, so a later page of one has no
place here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

import numpy as np

from cracktool.files import open_atomic, printable, relative, replace_file
from cracktool.images import encode_png, read_mask
from cracktool.inspection.outlines import Outline, find_outlines, run_lengths, shrunk
from cracktool.inspection.records import PhotoRecord

LABEL = "crack"


def write_labelme(path: Path, record: PhotoRecord) -> None:
    """Write the LabelMe file of a photo; `group_id` is the number of the crack.

    Raises:
        InputError: The mask cannot be read any more.
        OutputError: It cannot be written.
    """
    (height, width), outlines = _outlines(record)
    content: dict[str, object] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [_labelme_shape(outline) for outline in outlines],
        "imagePath": _name_from(path.parent, record),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    replace_file(path, json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "replace"))


def write_coco(path: Path, records: Iterable[PhotoRecord]) -> None:
    """Write one COCO file of all photos; file names are relative to it, `attributes.crack` is the number of the crack.

    Raises:
        InputError: A mask cannot be read any more.
        OutputError: It cannot be written.
    """
    images: list[dict[str, object]] = []
    annotations = 0
    with open_atomic(path) as file:
        head = {"info": {"description": "cracktool"}, "categories": [{"id": 1, "name": LABEL}]}
        file.write(json.dumps(head)[:-1].encode() + b', "annotations": [')
        for number, record in enumerate(records, 1):
            shape_hw, outlines = _outlines(record)
            for outline in outlines:
                annotations += 1
                numbers = {"id": annotations, "image_id": number, "category_id": 1}
                annotation = _coco_annotation(outline, shape_hw) | numbers
                file.write((b",\n" if annotations > 1 else b"\n") + json.dumps(annotation).encode())
            name = _name_from(path.parent, record)
            size = {"height": shape_hw[0], "width": shape_hw[1]}
            images.append({"id": number, "file_name": name, **size})
        text = json.dumps(images, ensure_ascii=False)
        file.write(b'\n], "images": ' + text.encode("utf-8", "replace") + b"}\n")


def write_cvat(path: Path, records: Iterable[PhotoRecord]) -> None:
    """Write one file of all photos in the format "CVAT for images 1.1".

    Raises:
        InputError: A mask cannot be read any more.
        OutputError: It cannot be written.
    """
    with open_atomic(path) as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(f"<meta><job><labels><label><name>{LABEL}</name></label></labels></job></meta>\n".encode())
        for number, record in enumerate(records):
            _cvat_image(file, number, record, path.parent)
        file.write(b"</annotations>\n")


def _outlines(record: PhotoRecord) -> tuple[tuple[int, int], Iterator[Outline]]:
    """Return the size of a photo and the outlines of its cracks, both in its own pixels."""
    mask = read_mask(str(record.row["mask"]))
    factor = record.enlarged
    found = find_outlines(mask, {int(crack.row["crack"] or 0): crack for crack in record.cracks})
    return (mask.shape[0] // factor, mask.shape[1] // factor), (shrunk(outline, factor) for outline in found)


def _name_from(folder: Path, record: PhotoRecord) -> str:
    photo = str(record.row["photo"])
    return relative(photo, folder) or Path(photo).as_posix()


def _labelme_shape(outline: Outline) -> dict[str, object]:
    shape: dict[str, object] = {"label": LABEL, "group_id": outline.crack or None, "description": "", "flags": {}}
    if outline.whole:
        return shape | {"shape_type": "polygon", "points": outline.ring.round(3).tolist(), "mask": None}
    height, width = outline.crop.shape
    corners = [[outline.left, outline.top], [outline.left + width - 1, outline.top + height - 1]]
    pixels = base64.b64encode(encode_png(outline.crop.view(np.uint8) * np.uint8(255))).decode()
    return shape | {"shape_type": "mask", "points": corners, "mask": pixels}


def _coco_annotation(outline: Outline, shape_hw: tuple[int, int]) -> dict[str, object]:
    height, width = outline.crop.shape
    annotation: dict[str, object] = {
        "bbox": [outline.left, outline.top, width, height],
        "area": int(outline.crop.sum()),
        "iscrowd": 0,
        "attributes": {"crack": outline.crack},
    }
    if outline.whole:
        return annotation | {"segmentation": [outline.ring.round(3).ravel().tolist()]}
    alone = np.zeros(shape_hw, np.bool_)
    alone[outline.top : outline.top + height, outline.left : outline.left + width] = outline.crop
    runs = {"size": list(shape_hw), "counts": run_lengths(alone, by_columns=True)}
    return annotation | {"segmentation": runs}


def _cvat_image(file: BinaryIO, number: int, record: PhotoRecord, folder: Path) -> None:
    name = quoteattr(printable(_name_from(folder, record)))
    (height, width), outlines = _outlines(record)
    size = f'width="{width}" height="{height}"'
    file.write(f'<image id="{number}" name={name} {size}>\n'.encode("utf-8", "replace"))
    for outline in outlines:
        shared = f'label="{LABEL}" source="auto" occluded="0" z_order="0" group_id="{outline.crack}"'
        if outline.whole:
            points = ";".join(f"{x:.3f},{y:.3f}" for x, y in outline.ring.tolist())
            file.write(f'<polygon {shared} points="{points}"/>\n'.encode())
        else:
            height, width = outline.crop.shape
            runs = ", ".join(map(str, run_lengths(outline.crop, by_columns=False)))
            box = f'left="{outline.left}" top="{outline.top}" width="{width}" height="{height}"'
            file.write(f'<mask {shared} {box} rle="{runs}"/>\n'.encode())
    file.write(b"</image>\n")
