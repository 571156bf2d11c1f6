"""Any folder of images and masks that pair by name, split or not; also images sorted into cracked and uncracked.

The layout for a user's own photos and for the many sets that are published in this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cracktool.datasets.pairing import (
    image_item,
    list_pictures,
    pair_files,
    photo_id,
    read_binary,
    read_image_only,
    split_of_folder,
    strip_extensions,
    subfolder,
)
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset, RawItem
from cracktool.errors import InputError
from cracktool.images import Image, Mask, read_image
from cracktool.manifest import Label, Split

_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "photos")
_MASKS = (
    *("masks", "mask", "labels", "label", "gt", "groundtruth", "ground_truth"),
    *("annotations", "annotation", "segmentationclass"),
)
_LABELS: tuple[tuple[Label, tuple[str, ...]], ...] = (
    ("cracked", ("cracked", "crack", "positive")),
    ("uncracked", ("uncracked", "noncracked", "noncrack", "non_crack", "negative")),
)
_TREE = "images/ and masks/ with equal names; or {train,val,test}/{images,masks}/; or cracked/ and uncracked/"


def read_folder(source: Path, options: PrepareOptions) -> RawDataset:
    """List the images of a folder in one of the forms above.

    Args:
        source: The raw folder; the folder of the images where the masks are given apart.
        options: Where the masks are and how to read them.

    Raises:
        InputError: Nothing in here pairs.
    """
    notes = Notes()
    if options.masks:
        items = list(_pairs(source, source, options.masks, None, options, notes))
    else:
        items = [*_split_pairs(source, options, notes)] or [*_plain_pairs(source, options, notes)]
        items = items or [*_labelled(source)]
    if not items:
        seen = f" ({'; '.join(notes.lines())})" if notes.lines() else ""
        raise InputError(f"no images with masks in here{seen}", path=source, remedy=f"expected: {_TREE}")
    return RawDataset(items=items, notes=notes)


def _split_pairs(source: Path, options: PrepareOptions, notes: Notes) -> Iterator[RawItem]:
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        split = split_of_folder(folder.name)
        if split:
            images, masks = subfolder(folder, _IMAGES), subfolder(folder, _MASKS)
            if images and masks:
                yield from _pairs(source, images, masks, split, options, notes)


def _plain_pairs(source: Path, options: PrepareOptions, notes: Notes) -> Iterator[RawItem]:
    images, masks = subfolder(source, _IMAGES), subfolder(source, _MASKS)
    if images and masks:
        yield from _pairs(source, images, masks, None, options, notes)
    elif any(path.is_file() for path in source.iterdir()):  # NAME.jpg and NAME_mask.png side by side
        yield from _pairs(source, source, source, None, options, Notes())


def _pairs(
    source: Path, images: Path, masks: Path, split: Split | None, options: PrepareOptions, notes: Notes
) -> Iterator[RawItem]:
    if not masks.is_dir():
        raise InputError("no such folder of masks", path=masks)
    for image, mask in pair_files(images, masks, notes):
        yield image_item(source, image, partial(_read, image.path, mask.path, options, notes), split=split)


def _labelled(source: Path) -> Iterator[RawItem]:
    """Yield images of which only is known whether a crack is in them; both folders must be there."""
    folders = [(label, subfolder(source, names)) for label, names in _LABELS]
    if not all(folder for _, folder in folders):
        return
    for label, folder in folders:
        for image in list_pictures(folder) if folder else ():
            name = f"{label}_{strip_extensions(image.name)}"
            yield RawItem(
                name=name,
                group=photo_id(name),
                source=image.relative_to(source).as_posix(),
                read=partial(read_image_only, image),
                label=label,
                file=image,
            )


def _read(image: Path, mask: Path, options: PrepareOptions, notes: Notes) -> tuple[Image, Mask]:
    crack = read_binary(mask, notes, threshold=options.mask_threshold or 128, inverted=options.invert)
    return read_image(image), crack


FOLDER = Layout(
    reader=read_folder,
    title="Any images and masks with equal names, or photos sorted into cracked and uncracked",
    where_to_get="your own photos",
    tree=_TREE,
    licence="that of the photos",
    fractions=(0.1, 0.1),
    options=frozenset({"masks", "mask_threshold", "invert"}),
)
