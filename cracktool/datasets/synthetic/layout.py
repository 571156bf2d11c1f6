"""The layout `synthetic` of `prepare`: items made instead of read, with their centre lines and widths beside the masks.

Writes nothing itself: the truth travels with the image as one more file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from cracktool.datasets.pairing import photos_in
from cracktool.datasets.raw import Layout, PrepareOptions, RawDataset, RawItem
from cracktool.datasets.synthetic.backgrounds import read_background
from cracktool.datasets.synthetic.scene import MATERIAL_CHANCES, PATTERN_CHANCES, Wishes, make_sample
from cracktool.datasets.synthetic.truth import lines_csv
from cracktool.errors import UsageError, check_name
from cracktool.images import Image, Mask

_COUNT = 200
_SIZE = (512, 512)
_SMALLEST = 16  # px
_Name = TypeVar("_Name", bound=str)


def read_synthetic(source: Path, options: PrepareOptions) -> RawDataset:
    """List the pictures that `options` asks for, none of which is made before it is read.

    Picture i of a seed is always the same, however many there are, given the same backgrounds. The pictures on one
    background are a group, so no background is in two splits.

    Args:
        source: Not looked at.
        options: Number (200 if not given), size (512 x 512 px if not given), seed, backgrounds, material and pattern of
            the pictures, and whether things stand around the surface.

    Raises:
        InputError: The folder of backgrounds is missing or has no picture.
        UsageError: The number, size or seed is out of its range, or there is no such material or pattern.

    Example:
        >>> [item.name for item in read_synthetic(Path(), PrepareOptions(count=2)).items]
        ['synthetic_00000', 'synthetic_00001']
    """
    count = _COUNT if options.count is None else options.count
    shape_hw = options.size or _SIZE
    if count < 1:
        raise UsageError(f"{count} pictures", remedy="make 1 or more")
    if options.seed < 0:
        raise UsageError(f"seed {options.seed}", remedy="use a number from 0 on")
    if min(shape_hw) < _SMALLEST:
        raise UsageError(f"{shape_hw[1]} x {shape_hw[0]} px is too small", remedy=f"use {_SMALLEST} px or more")
    wishes = _wishes(options)
    photos = _backgrounds(options.background)
    return RawDataset(
        items=[_item(index, options.seed, shape_hw, wishes, *photos[index % len(photos)]) for index in range(count)]
    )


def _wishes(options: PrepareOptions) -> Wishes:
    if options.material and options.background:
        raise UsageError("material means nothing on backgrounds of your own", remedy="leave one of them out")
    return Wishes(
        material=_one_of(MATERIAL_CHANCES, options.material, "material"),
        pattern=_one_of(PATTERN_CHANCES, options.pattern, "pattern"),
        scene=options.scene,
    )


def _one_of(names: Iterable[_Name], wish: str | None, what: str) -> _Name | None:
    if wish is None:
        return None
    check_name(what, wish, names)
    return next(name for name in names if name == wish)


def _backgrounds(folder: Path | None) -> Sequence[tuple[Path | None, str]]:
    """Return the photos of a folder with their names in it; None, without a name, where there is no folder."""
    if folder is None:
        return [(None, "")]
    read_background.cache_clear()  # a photo may have been replaced since the last run in this process
    photos = photos_in(folder, remedy="name a folder of photos without cracks")
    return [(photo, photo.relative_to(folder).as_posix()) for photo in photos]


def _item(index: int, seed: int, shape_hw: tuple[int, int], wishes: Wishes, photo: Path | None, on: str) -> RawItem:
    name = f"synthetic_{index:05d}"
    wished = (f"{what} {wish}" for what in ("material", "pattern") if (wish := getattr(wishes, what)))
    scene = "scene" if wishes.scene else ""
    parts = (on, f"seed {seed}", f"picture {index}", f"{shape_hw[1]} x {shape_hw[0]} px", *wished, scene)
    # One source each: pictures of one source would be made one after the other by one thread.
    source = ", ".join(filter(None, parts))
    read = partial(_read, name, index, seed, shape_hw, wishes, photo)
    return RawItem(name=name, group=on or name, source=source, read=read, shape_hw=shape_hw)


def _read(
    name: str, index: int, seed: int, shape_hw: tuple[int, int], wishes: Wishes, photo: Path | None
) -> tuple[Image, Mask, dict[str, bytes]]:
    background = None if photo is None else read_background(photo)
    sample = make_sample(index, seed, shape_hw, wishes, background)
    return sample.image, sample.mask, {f"lines/{name}.csv": lines_csv(sample.cracks)}


SYNTHETIC = Layout(
    reader=read_synthetic,
    title="Photos made here, or cracks on your own, with centre lines and widths known exactly; needs no source",
    where_to_get="nowhere: the images are made here",
    tree="nothing",
    licence="that of this package",
    fractions=(0.1, 0.1),
    options=frozenset({"count", "size", "background", "material", "pattern", "scene"}),
    needs_source=False,
)
