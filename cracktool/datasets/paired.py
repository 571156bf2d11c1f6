"""One reader for every data set that is folders of photos and of masks with matching names.

Which folders, which names and which grey values are crack is data, a `PairedFolders` per set; knows no set by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cracktool.datasets.pairing import (
    Picture,
    image_item,
    list_pictures,
    match,
    photo_id,
    read_binary,
    read_split_lists,
    strip_extensions,
    subfolder,
)
from cracktool.datasets.raw import Notes, PrepareOptions, RawDataset, RawItem
from cracktool.datasets.tiling import require_crack
from cracktool.errors import InputError
from cracktool.images import Image, Mask, read_image, read_mask
from cracktool.manifest import Split

PAIR_OPTIONS = frozenset({"mask_threshold", "invert"})  # what a layout over this reader understands


@dataclass(frozen=True, kw_only=True)
class Part:
    """Folders that belong together, each a path below the raw folder; of several names all that are there are read.

    Args:
        images: Folders of photos.
        masks: Folders of their masks.
        split: The published split that these are.
        areas: Folders of masks, white where the truth is complete; what lies outside is blanked.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...]
    split: Split | None = None
    areas: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PairedFolders:
    """The reader of one data set.

    Args:
        forms: The forms in which copies are found, each made of parts; the first complete one is read.
        threshold: Grey values from here on, 1 to 255, are crack.
        inverted: The crack is dark: values below `threshold` are crack.
        mask_name: Turns the name of an image, without extension, into that of its mask; None where both are equal.
        photo: Turns the name of an image into that of the photo it was cut from.
        merged: The name of an image begins with that of the set it was taken from, as in ``CFD_001``.
        split_of: Tells the published split from the name of an image.
        lists: The published splits are lists of names: train.txt and so on.
        crack_free: Images whose name this pattern matches have no crack and need no mask; empty for none.
        resized: Some masks differ from their image in size and are resized, nearest neighbour.
        min_crack_px: With fewer crack pixels an image is no part of the set.
        remark: What everyone who uses this truth should know; empty for nothing.
    """

    forms: Sequence[Sequence[Part]]
    threshold: int = 128
    inverted: bool = False
    mask_name: Callable[[str], str] | None = None
    photo: Callable[[str], str] = photo_id
    merged: bool = False
    split_of: Callable[[str], Split | None] | None = None
    lists: bool = False
    crack_free: str = ""
    resized: bool = False
    min_crack_px: int = 0
    remark: str = ""

    def __call__(self, source: Path, options: PrepareOptions) -> RawDataset:
        """List the pairs of a raw folder.

        Args:
            source: The raw folder, or one that holds nothing but it.
            options: Of them `mask_threshold` and `invert`.

        Raises:
            InputError: No form of the data set is complete in here.
        """
        notes = Notes()
        if self.remark:
            notes.add(self.remark)
        listed = read_split_lists(source) if self.lists else {}
        place, form = _find_form(source, self.forms)
        items: list[RawItem] = []
        for part in form:
            for image, mask, area in self._list(place, part, notes):
                name = strip_extensions(image.path.name)
                item = image_item(
                    source,
                    image,
                    partial(self._read, image, mask, area, options, notes),
                    split=part.split or listed.get(name) or (self.split_of(name) if self.split_of else None),
                    photo=self.photo,
                    collection=name.split("_")[0] if self.merged and "_" in name else "",
                    as_it_is=area is None,
                )
                items.append(require_crack(item, self.min_crack_px) if self.min_crack_px else item)
        if not items:
            raise InputError(f"no images with masks in here ({'; '.join(notes.lines())})", path=source)
        return RawDataset(items=items, notes=notes)

    def _list(self, place: Path, part: Part, notes: Notes) -> Iterator[tuple[Picture, Picture | None, Picture | None]]:
        """Yield image, mask and area of the images of a part, sorted."""
        found = match(_pictures(place, part.images), _pictures(place, part.masks), self.mask_name)
        free = [image for image in found.images if self._is_crack_free(image.path)]
        alone = [image for image in found.images if not self._is_crack_free(image.path)]
        replace(found, images=alone).note_alone(notes)
        areas = {area.stem.lower(): area for area in _pictures(place, part.areas)}
        listed: list[tuple[Picture, Picture | None]] = [*found.pairs, *((image, None) for image in free)]
        for image, mask in sorted(listed, key=lambda pair: pair[0]):
            area = areas.get(image.stem.lower())
            if part.areas and area is None:
                notes.add("photos without an area mask are taken whole", image.inside)
            yield image, mask, area

    def _is_crack_free(self, image: Path) -> bool:
        return bool(self.crack_free and re.match(self.crack_free, image.name))

    def _read(
        self, image: Picture, mask: Picture | None, area: Picture | None, options: PrepareOptions, notes: Notes
    ) -> tuple[Image, Mask]:
        photo = read_image(image.path)
        if mask is None:
            return photo, np.zeros(photo.shape[:2], np.bool_)
        threshold = options.mask_threshold or self.threshold
        crack = read_binary(mask.path, notes, threshold=threshold, inverted=self.inverted != options.invert)
        crack = self._resize(crack, photo, mask, notes)
        if self._is_crack_free(image.path) and crack.any():
            notes.add("photos that are crack-free by name have crack in their mask", image.inside)
        if area is None:
            return photo, crack
        return _blank_outside(photo, crack, self._resize(read_mask(area.path), photo, area, notes), area.path)

    def _resize(self, mask: Mask, photo: Image, file: Picture, notes: Notes) -> Mask:
        if not self.resized or mask.shape == photo.shape[:2]:
            return mask
        notes.add("masks of another size than their photo are resized", file.inside)
        rows, columns = (
            (np.arange(wanted) * have) // wanted for have, wanted in zip(mask.shape, photo.shape[:2], strict=True)
        )
        return np.asarray(mask[rows[:, None], columns])


def _find_form(source: Path, forms: Sequence[Sequence[Part]]) -> tuple[Path, Sequence[Part]]:
    """Return the first complete form, and where it lies: the raw folder itself or a folder directly below."""
    lacking: list[list[tuple[str, ...]]] = []
    for place in (source, *sorted(path for path in source.iterdir() if path.is_dir())):
        for form in forms:
            folders = [names for part in form for names in (part.images, part.masks)]
            lacking.append([names for names in folders if not _folders(place, names)])
            if not lacking[-1]:
                return place, form
    nearest = min(lacking, key=len)
    raise InputError(f"no folder {' or '.join(nearest[0])} in here", path=source)


def _pictures(place: Path, names: Iterable[str]) -> list[Picture]:
    return [Picture(path, folder) for folder in _folders(place, names) for path in list_pictures(folder)]


def _folders(place: Path, names: Iterable[str]) -> list[Path]:
    """Return those of the folders that are there; one that holds nothing but a folder of its own name stands for it."""
    found = []
    for name in names:
        folder: Path | None = place
        for step in name.split("/"):
            folder = folder and subfolder(folder, [step.lower()])
        while folder and (inner := subfolder(folder, [folder.name.lower()])):
            folder = inner
        if folder:
            found.append(folder)
    return found


def _blank_outside(photo: Image, crack: Mask, area: Mask, path: Path) -> tuple[Image, Mask]:
    """Fill what lies outside the area with the mean colour of the inside: nothing is to be found or missed there."""
    if not area.any():
        raise InputError("the area mask is empty", path=path)
    filled = np.where(area[..., None], photo, photo[area].mean(axis=0).round().astype(np.uint8))
    return filled, crack & area
