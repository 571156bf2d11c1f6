"""COCO: one JSON file per split with polygons or run lengths, as most annotation tools export it.

Reads every COCO file below the raw folder; boxes without an outline are no masks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cracktool.datasets.annotated import (
    AnnotatedPhoto,
    PhotoFinder,
    Shape,
    annotated_dataset,
    read_files,
    read_json,
    split_of_path,
)
from cracktool.datasets.rasterising import decode_runs, fill_rings, to_points, unpack_coco_runs
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset
from cracktool.errors import InputError
from cracktool.images import Mask


def read_coco(source: Path, options: PrepareOptions) -> RawDataset:
    """List the photos of the COCO files of a folder; a photo without annotation has no crack.

    Args:
        source: The raw folder.
        options: Of them `label`.

    Raises:
        InputError: There is no COCO file.
        UsageError: Which category is crack cannot be told.
    """
    notes = Notes()
    finder = PhotoFinder(source)
    labels: set[str] = set()

    def read(path: Path) -> list[AnnotatedPhoto]:
        content = read_json(path)
        if not _is_coco(content):
            return []
        photos = _photos(path, content, finder, notes)
        labels.update(_categories(content).values())
        return photos

    photos, failures = read_files(source.rglob("*.json"), read, "its COCO tables are damaged")
    if not photos and not failures:
        raise InputError("no COCO file with photos in here", path=source)
    return annotated_dataset(source, photos, options, notes, labels=labels, failures=failures)


def _is_coco(content: object) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def _categories(content: Mapping[str, Any]) -> dict[Any, str]:
    return {category["id"]: str(category["name"]) for category in content.get("categories", [])}


def _photos(path: Path, content: Mapping[str, Any], finder: PhotoFinder, notes: Notes) -> list[AnnotatedPhoto]:
    names = _categories(content)
    shapes: defaultdict[Any, list[Shape]] = defaultdict(list)
    for annotation in content["annotations"]:
        label = names.get(annotation["category_id"], f"category {annotation['category_id']}")
        outline = annotation.get("segmentation")
        shapes[annotation["image_id"]].append(Shape(label=label, draw=partial(_draw, outline) if outline else None))
    photos = []
    for image in content["images"]:
        photo = finder.find(image["file_name"], path)
        if photo is None:
            notes.add("annotated photos that are not here are skipped", image["file_name"])
            continue
        photos.append(
            AnnotatedPhoto(
                photo=photo,
                name=photo.name,
                source=path,
                shapes=shapes[image["id"]],
                split=split_of_path(path.relative_to(finder.root)),
                shape_hw=(image["height"], image["width"]) if image.get("height") and image.get("width") else None,
            )
        )
    return photos


def _draw(outline: Any, mask: Mask) -> None:
    if isinstance(outline, list):
        for ring in outline:  # parts of one crack, not holes
            fill_rings(mask, [to_points(ring)])
        return
    if tuple(outline["size"]) != mask.shape:
        raise ValueError(f"run lengths for {outline['size']} px (height, width), expected {list(mask.shape)}")
    runs = outline["counts"]
    mask |= decode_runs(unpack_coco_runs(runs) if isinstance(runs, str) else runs, mask.shape, by_columns=True)


COCO = Layout(
    reader=read_coco,
    title="COCO annotations: polygons and run lengths",
    where_to_get="your annotation tool",
    tree="one or several COCO .json files and the photos that they name, anywhere",
    licence="that of the photos",
    fractions=(0.1, 0.1),
    options=frozenset({"label"}),
)
