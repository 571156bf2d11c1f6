"""Crack500 (Yang et al. 2019): 500 phone photos of pavement, published as the cracked ones of their 16 tiles.

Reads three forms, also mixed and also nested in further folders: whole photos, ready tiles, and images/masks folders.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cracktool.datasets.pairing import list_pictures, read_split_lists, split_of_folder
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset, RawItem
from cracktool.datasets.tiling import Cutter, require_crack
from cracktool.errors import CrackError, InputError
from cracktool.images import Image, Mask, read_image, read_mask, read_size
from cracktool.manifest import SPLITS, Split

GRID = 4  # tiles per side of a photo
MIN_CRACK_PX = 1001  # the published rule: more than 1000
_TILE = re.compile(r"^(.+)_(\d{1,4})_(\d{1,4})$")
_MASK_FOLDERS = frozenset({"mask", "masks", "annotation", "annotations", "gt", "label", "labels"})
_PHOTOS: Mapping[Split, int] = {"train": 250, "val": 50, "test": 200}
_TREE = (
    "traincrop/ valcrop/ testcrop/ of NAME.jpg + NAME.png with train.txt, val.txt, test.txt; "
    "or traindata/ valdata/ testdata/ of STEM.jpg + STEM_mask.png; or {train,val,test}/{images,masks}/"
)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The pictures of one split: stem -> file."""

    tiles: dict[str, Path]
    photos: dict[str, Path]
    masks: dict[str, Path]


def read_crack500(source: Path, options: PrepareOptions) -> RawDataset:
    """List the tiles of a copy of Crack500, ready ones where a split has them, else cut from its whole photos.

    Args:
        source: The raw folder, in any of the three forms.
        options: Nothing in them applies.

    Raises:
        InputError: The folder holds no Crack500.
    """
    notes = Notes()
    found = _scan(source)
    listed = {name: split for name, split in read_split_lists(source).items() if _TILE.match(name)}
    items: list[RawItem] = []
    failures: list[CrackError] = []
    photos: dict[str, int] = {}
    for split, files in found.items():
        if files.tiles:
            items += _ready_tiles(source, split, files, listed, notes)
        else:
            photos[split or "all"] = len(files.photos)
            items += _cut_tiles(source, split, files, listed, notes, failures)
    if not items and not failures:
        raise InputError("no Crack500 photos or tiles with masks in here", path=source, remedy=f"expected: {_TREE}")
    absent = sorted(listed.keys() - {item.name for item in items})
    if absent:
        notes.add(f"{len(absent)} tiles of the lists train.txt, val.txt, test.txt have no file", *absent)
    return RawDataset(items=items, notes=notes, failures=tuple(failures), difference=_difference(photos))


def _scan(source: Path) -> dict[Split | None, _Found]:
    """Sort the pictures by the split that a folder on their way names."""
    found: dict[Split | None, _Found] = defaultdict(lambda: _Found(tiles={}, photos={}, masks={}))
    for path in list_pictures(source):
        inside = path.relative_to(source)
        folders = [folder.lower() for folder in inside.parts[:-1]]
        splits = (split_of_folder(re.sub(r"(crop|data)$", "", folder)) for folder in folders)
        files = found[next((split for split in splits if split), None)]
        if _is_mask(path, folders):
            files.masks[path.stem.removesuffix("_mask")] = path
        else:
            (files.tiles if _TILE.match(path.stem) else files.photos)[path.stem] = path
    return dict(sorted(found.items(), key=lambda pair: (*SPLITS, None).index(pair[0])))


def _is_mask(path: Path, folders: list[str]) -> bool:
    if path.stem.endswith("_mask") or _MASK_FOLDERS.intersection(folders):
        return True
    return path.suffix.lower() == ".png" and not {"image", "images"}.intersection(folders)


def _ready_tiles(
    source: Path, split: Split | None, files: _Found, listed: Mapping[str, Split], notes: Notes
) -> Iterator[RawItem]:
    complete = split is None or split in listed.values()  # the list of this split is there
    for name, path in files.tiles.items():
        mask = files.masks.get(name)
        home = listed.get(name) if listed and complete else split
        if mask is None:
            notes.add("images without a mask are skipped", name)
        elif home is None or (split and home != split):
            notes.add("tiles that the lists do not name for their folder are skipped", name)
        else:
            yield RawItem(
                name=name,
                group=_TILE.sub(r"\1", name),
                source=path.relative_to(source).as_posix(),
                read=partial(_read_pair, path, mask),
                split=home,
                file=path,
            )


def _cut_tiles(
    source: Path,
    split: Split | None,
    files: _Found,
    listed: Mapping[str, Split],
    notes: Notes,
    failures: list[CrackError],
) -> Iterator[RawItem]:
    cutter = Cutter(notes)
    for stem, path in files.photos.items():
        mask = files.masks.get(stem)
        if mask is None:
            notes.add("images without a mask are skipped", stem)
            continue
        try:
            shape_hw = read_size(path)
            windows = tile_windows(stem, shape_hw, path)
        except InputError as error:
            failures.append(error)
            continue
        photo = RawItem(
            name=stem,
            group=stem,
            source=path.relative_to(source).as_posix(),
            read=partial(_read_pair, path, mask),
            split=split,
            file=path,
            shape_hw=shape_hw,
        )
        for tile in cutter.cut(photo, windows):
            if split:
                yield require_crack(tile, MIN_CRACK_PX)
            elif tile.name in listed:  # a list is the published choice itself
                yield replace(tile, split=listed[tile.name])


def tile_windows(stem: str, shape_hw: tuple[int, int], path: Path | None = None) -> dict[str, tuple[slice, slice]]:
    """Return tile name -> (rows, columns) of the 4 x 4 tiles of a photo, named ``STEM_X_Y`` with offsets from 1.

    Raises:
        InputError: A side of the photo is not a multiple of 4.

    Example:
        >>> list(tile_windows("20160222_081011", (1440, 2560)))[:2]
        ['20160222_081011_1_1', '20160222_081011_641_1']
    """
    height, width = shape_hw
    if height % GRID or width % GRID:
        raise InputError(f"{width} x {height} px cannot be cut into {GRID} x {GRID} equal tiles", path=path)
    height, width = height // GRID, width // GRID
    return {
        f"{stem}_{1 + x}_{1 + y}": (slice(y, y + height), slice(x, x + width))
        for y in range(0, GRID * height, height)
        for x in range(0, GRID * width, width)
    }


def _read_pair(path: Path, mask: Path) -> tuple[Image, Mask]:
    # Any value above 0 is crack: copies with 0/1 and 0/255 are about. A JPEG has noise around 0.
    threshold = 1 if mask.suffix.lower() == ".png" else 128
    return read_image(path), read_mask(mask, threshold=threshold)


def _difference(photos: Mapping[str, int]) -> str:
    if not photos:
        return "this copy holds other tiles; known copies lack 5 test tiles, others are reduced"
    parts = [f"{photos[split]} of {number} {split}" for split, number in _PHOTOS.items() if split in photos]
    return f"cut from {' and '.join(parts) or str(photos['all'])} whole photos"


CRACK500 = Layout(
    reader=read_crack500,
    title="Crack500: pavement, phone photos, 3,368 tiles of 640x360",
    where_to_get="https://github.com/fyangneil/pavement-crack-detection",
    tree=_TREE,
    licence="none stated; the authors ask to be cited",
    published={"train": 1896, "val": 348, "test": 1124},
)
