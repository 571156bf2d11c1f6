"""DeepCrack-537 (Liu et al. 2019): concrete and asphalt, 300 photos to train and 237 to test.

The published split stays; a val split is cut from train.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cracktool.datasets.pairing import list_pictures, pair_files, photo_id, read_binary, strip_extensions, subfolder
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset, RawItem
from cracktool.errors import InputError
from cracktool.images import Image, Mask, read_image
from cracktool.manifest import Split

_FOLDERS: tuple[tuple[Split, str, str], ...] = (
    ("train", "train_img", "train_lab"),
    ("test", "test_img", "test_lab"),
)
_TREE = "train_img/ train_lab/ test_img/ test_lab/ with NAME.jpg and NAME.png"


def read_deepcrack(source: Path, options: PrepareOptions) -> RawDataset:
    """List the pairs of DeepCrack.

    Args:
        source: The raw folder, or one that holds nothing but it.
        options: Only the val share applies, and that later.

    Raises:
        InputError: One of the four folders is missing.
    """
    notes = Notes()
    items: list[RawItem] = []
    for split, image_folder, mask_folder in _FOLDERS:
        images, masks = _folder(source, image_folder), _folder(source, mask_folder)
        for image, mask in pair_files(images, masks, notes):
            name = strip_extensions(image.name)
            items.append(
                RawItem(
                    name=name,
                    group=photo_id(name),
                    source=image.relative_to(source).as_posix(),
                    read=partial(_read, image, mask, notes),
                    split=split,
                    file=image,
                )
            )
    return RawDataset(items=items, notes=notes)


def _read(image: Path, mask: Path, notes: Notes) -> tuple[Image, Mask]:
    return read_image(image), read_binary(mask, notes)


def _folder(source: Path, name: str) -> Path:
    places = [source, *sorted(path for path in source.iterdir() if path.is_dir())]
    found = next((folder for place in places if (folder := subfolder(place, [name]))), None)
    if found is None or not list_pictures(found):
        raise InputError(f"no pictures in a folder {name}", path=source, remedy=f"expected: {_TREE}")
    return found


DEEPCRACK = Layout(
    reader=read_deepcrack,
    title="DeepCrack: concrete and asphalt, 537 photos of 544x384",
    where_to_get="https://github.com/yhlleo/DeepCrack",
    tree=_TREE,
    licence="non-commercial research and educational purposes",
    published={"train": 300, "test": 237},
    fractions=(0.1, 0.0),
    options=frozenset({"val"}),
)
