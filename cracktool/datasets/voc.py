"""Class masks in colours: Pascal VOC palettes, CVAT's "Segmentation mask" export and its labelmap.txt.

Works on colours, so that palette and RGB files are read alike; which colour is which label comes from labelmap.txt,
else from the VOC palette, in which class 1 is dark red and the white-ish border is void.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cracktool.datasets.annotated import choose_labels
from cracktool.datasets.pairing import Picture, image_item, pair_files, read_split_lists, strip_extensions, subfolder
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset
from cracktool.errors import InputError
from cracktool.images import Image, Mask, read_image

_MASK_FOLDERS = ("segmentationclasspng", "segmentationclass")
_IMAGE_FOLDERS = ("jpegimages", "images", "image", "img")
_NOTHING = frozenset({"background", "_background_", "void", "__ignore__", "ignore", "unlabeled"})
_VOID = 0xE0E0C0  # colour 255 of the VOC palette: the border that counts for nothing


def read_voc(source: Path, options: PrepareOptions) -> RawDataset:
    """List the photos of a folder in the form of Pascal VOC.

    Args:
        source: The raw folder.
        options: Of them `label`: a name of labelmap.txt, a class number of the VOC palette, a grey value, or a colour
            such as ``#ff0000``.

    Raises:
        InputError: The folders are not there.
        UsageError: Which class is crack cannot be told.
    """
    notes = Notes()
    listed = read_split_lists(source)
    pairs: list[tuple[Picture, Picture]] = []
    for masks in _class_folders(source):
        if images := subfolder(masks.parent, _IMAGE_FOLDERS):
            pairs += pair_files(images, masks, notes)
    if not pairs:
        seen = f" ({'; '.join(notes.lines())})" if notes.lines() else ""
        raise InputError(f"no photos with class masks in here{seen}", path=source)
    labels = _read_labelmap(source)
    present = set(labels.values()) or {name for _, mask in pairs for name in _labels_in(mask.path)}
    cracks = choose_labels(present - _NOTHING, options.label, source)
    items = [
        image_item(
            source,
            image,
            partial(_read, image.path, mask.path, labels, cracks),
            split=listed.get(strip_extensions(image.path.name)),
        )
        for image, mask in pairs
    ]
    return RawDataset(items=items, notes=notes)


def has_class_masks(source: Path) -> bool:
    """Tell whether there is a folder of class masks anywhere in here."""
    return bool(_class_folders(source))


def _class_folders(source: Path) -> list[Path]:
    """Return the folders of class masks, of two forms in one place the one with PNGs."""
    homes = sorted({path.parent for path in source.rglob("*") if path.is_dir() and path.name.lower() in _MASK_FOLDERS})
    return [folder for home in homes if (folder := subfolder(home, _MASK_FOLDERS))]


def _read_labelmap(source: Path) -> dict[int, str]:
    """Return colour -> label from labelmap.txt, whose lines are ``label:red,green,blue:parts:actions``."""
    labels: dict[int, str] = {}
    for path in sorted(source.rglob("labelmap.txt")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            label, _, rest = line.partition(":")
            if line.strip() and not line.startswith("#"):
                try:
                    red, green, blue = (int(number) for number in rest.split(":")[0].split(","))
                except ValueError as error:
                    raise InputError(f"no line of label:red,green,blue: {line!r}", path=path) from error
                labels[red << 16 | green << 8 | blue] = label
    return labels


@cache
def _voc_palette() -> dict[int, str]:
    """Return colour -> class number: bits 0, 3, 6 of a number are the highest of red, 1, 4, 7 green, 2, 5 blue."""
    numbers = {}
    for number in range(255):
        channels = [sum((number >> 3 * step + shift & 1) << 7 - step for step in range(3)) for shift in range(3)]
        numbers[channels[0] << 16 | channels[1] << 8 | channels[2]] = str(number)
    return {**numbers, 0: "background", _VOID: "void"}


def _name(colour: int) -> str:
    palette = _voc_palette()
    if colour in palette:
        return palette[colour]
    red, green, blue = colour >> 16, colour >> 8 & 255, colour & 255
    return str(red) if red == green == blue else f"#{colour:06x}"


def _labels_in(path: Path) -> set[str]:
    try:
        return {_name(colour) for colour in _used(_colours(path))}
    except InputError:  # told when it is read as one of the set
        return set()


def _colours(path: Path) -> npt.NDArray[np.int32]:
    red, green, blue = np.moveaxis(read_image(path).astype(np.int32), 2, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def _used(colours: npt.NDArray[np.int32]) -> list[int]:
    # Without black, which is most of it, this is ten times as fast.
    return [int(colour) for colour in np.unique(colours[colours > 0])]


def _read(image: Path, mask: Path, labels: Mapping[int, str], cracks: frozenset[str]) -> tuple[Image, Mask]:
    colours = _colours(mask)
    used = _used(colours)
    unknown = [f"#{colour:06x}" for colour in used if labels and colour not in labels]
    if unknown:
        raise InputError(f"labelmap.txt names no label for the colour {unknown[0]}", path=mask)
    crack = [colour for colour in used if (labels[colour] if labels else _name(colour)) in cracks]
    return read_image(image), np.isin(colours, crack)


VOC = Layout(
    reader=read_voc,
    title="Class masks in colours: Pascal VOC palettes, or a labelmap.txt of CVAT",
    where_to_get="your annotation tool",
    tree="JPEGImages/NAME.jpg and SegmentationClass/NAME.png; labelmap.txt and ImageSets/ if there are any",
    licence="that of the photos",
    fractions=(0.1, 0.1),
    options=frozenset({"label"}),
)
