"""Supervisely: a folder per data set with ``img/`` and ``ann/``, one JSON file per photo with bitmaps and polygons.

Reads the annotations, not the rendered ``masks_machine/``; a photo without objects has no crack.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from cracktool.datasets.annotated import (
    ANNOTATION_OPTIONS,
    AnnotatedPhoto,
    PhotoFinder,
    Shape,
    annotated_dataset,
    read_files,
    read_json,
)
from cracktool.datasets.rasterising import draw_line, fill_rings, paste, to_points
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset
from cracktool.errors import InputError
from cracktool.images import Mask

_MAX_BYTES = 2**28  # of a bitmap's PNG: a few kB may unpack to more


def read_supervisely(source: Path, options: PrepareOptions) -> RawDataset:
    """List the photos of a Supervisely project.

    Args:
        source: The raw folder.
        options: Of them `label` and `line_width`.

    Raises:
        InputError: There are no annotations.
        UsageError: Which class is crack cannot be told.
    """
    notes = Notes()
    finder = PhotoFinder(source)

    def read(path: Path) -> list[AnnotatedPhoto]:
        photo = finder.find(f"img/{path.stem}", path)
        if photo is None:
            notes.add("annotated photos that are not here are skipped", path.stem)
            return []
        return [_photo(path, photo, read_json(path), options.line_width or 1.0)]

    photos, failures = read_files(source.rglob("ann/*.json"), read, "no Supervisely annotations")
    if not photos and not failures:
        raise InputError("no Supervisely annotations of photos in here", path=source)
    return annotated_dataset(source, photos, options, notes, failures=failures)


def _photo(path: Path, photo: Path, content: Mapping[str, Any], line_width: float) -> AnnotatedPhoto:
    size = content["size"]
    return AnnotatedPhoto(
        photo=photo,
        name=photo.name,
        source=path,
        shapes=[_shape(each, line_width) for each in content["objects"]],
        shape_hw=(size["height"], size["width"]),
        tags=[tag if isinstance(tag, str) else tag["name"] for tag in content.get("tags") or []],
    )


def _shape(each: Mapping[str, Any], line_width: float) -> Shape:
    label, kind = str(each["classTitle"]), each["geometryType"]
    if kind in ("line", "polyline"):
        return Shape(label=label, draw=partial(_line, each, line_width), is_line=True)
    draw = {"bitmap": _bitmap, "polygon": _polygon}.get(kind)
    return Shape(label=label, draw=partial(draw, each) if draw else None)


def _line(each: Mapping[str, Any], width: float, mask: Mask) -> None:
    draw_line(mask, to_points(each["points"]["exterior"]), width)


def _polygon(each: Mapping[str, Any], mask: Mask) -> None:
    holes = [to_points(ring) for ring in each["points"].get("interior", [])]
    fill_rings(mask, [to_points(each["points"]["exterior"]), *holes])


def _bitmap(each: Mapping[str, Any], mask: Mask) -> None:
    left, top = each["bitmap"]["origin"]
    paste(mask, _unpack(each["bitmap"]["data"], mask.shape), left, top)


def _unpack(text: str, most_hw: tuple[int, ...]) -> Mask:
    """Return what a bitmap's base64 of a deflated PNG shows: its opaque pixels, or the bright ones of a grey one."""
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text), _MAX_BYTES)
        with PillowImage.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.height > most_hw[0] or picture.width > most_hw[1]:
                raise ValueError(f"a bitmap of {picture.width} x {picture.height} px is larger than the photo")
            grey = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else picture.convert("L")
            return np.asarray(grey) > 0
    except (zlib.error, OSError, SyntaxError, PillowImage.DecompressionBombError) as error:
        raise ValueError(f"a damaged bitmap: {error}") from error


SUPERVISELY = Layout(
    reader=read_supervisely,
    title="Supervisely annotations: bitmaps, polygons and lines",
    where_to_get="https://supervisely.com",
    tree="DATASET/img/NAME.jpg and DATASET/ann/NAME.jpg.json",
    licence="that of the photos",
    fractions=(0.1, 0.1),
    options=ANNOTATION_OPTIONS,
)
