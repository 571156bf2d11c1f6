"""Cut the images of any data set into tiles, and leave out those that show too little crack.

Works on items that are still to be read: says what each tile will be; decodes a photo only when its tiles are stored.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from cracktool.datasets.raw import Content, Notes, PrepareOptions, RawItem, read_item
from cracktool.errors import InputError
from cracktool.images import Image, Mask, read_size
from cracktool.manifest import Entry
from cracktool.tiles import plan_axis

Window = tuple[slice, slice]  # rows, columns


class Cutter:
    """Cuts photos into tiles; each thread keeps the photo it read last, so that one is decoded once for all its tiles.

    Args:
        notes: Told when something of a photo is not kept.
    """

    def __init__(self, notes: Notes) -> None:
        self._last = threading.local()
        self._notes = notes

    def cut(self, photo: RawItem, windows: Mapping[str, Window]) -> Iterator[RawItem]:
        """Yield a tile for each name and its rows and columns. A tile has the photo's group: splits never part them."""
        for name, window in windows.items():
            rows, columns = window
            yield replace(
                photo,
                name=name,
                read=partial(self._read, photo, window),
                label="unknown" if photo.label == "cracked" else photo.label,  # the crack may be in another tile
                file=None,
                shape_hw=(rows.stop - rows.start, columns.stop - columns.start),
            )

    def _read(self, photo: RawItem, window: Window) -> tuple[Image, Mask | None] | None:
        if getattr(self._last, "photo", None) is not photo:
            self._last.photo = self._last.picture = None  # frees it, and a failure is not taken for the photo before
            self._last.picture = read_item(photo)
            self._last.photo = photo
        if self._last.picture is None:
            return None
        image, mask, files = self._last.picture
        if files:
            self._notes.add("what comes beside whole images is not kept for their tiles", photo.name)
        return image[window].copy(), None if mask is None else mask[window].copy()


def tiled(items: Iterable[RawItem], options: PrepareOptions, notes: Notes) -> list[RawItem]:
    """Return the images as the user wants them: cut into tiles, those with too little crack left out.

    Tiles lie evenly, the last flush with the end, and overlap only as far as they must; their names end in ``_Y_X``,
    the first row and column. A side shorter than a tile stays whole, and so does an image no larger than a tile.

    Args:
        items: The images of a data set.
        options: Of these, `tile`, `min_crack_px`, `keep_empty` and `seed` apply.
        notes: Told what is not kept.

    Raises:
        UsageError: The tile is out of its range.
    """
    if options.tile:
        cutter = Cutter(notes)
        items = [tile for item in items for tile in _tiles(item, options.tile, cutter)]
    if options.min_crack_px:
        items = [item if _is_drawn(item, options) else require_crack(item, options.min_crack_px) for item in items]
    return list(items)


def require_crack(item: RawItem, min_crack_px: int) -> RawItem:
    """Return the item with the rule that it is left out where its mask has fewer crack pixels."""
    return replace(item, read=partial(_read_cracked, item, min_crack_px))


def note_sparse(left_out: Sequence[RawItem], entries: Sequence[Entry], notes: Notes) -> None:
    """Note of which splits for scoring images with little crack are missing.

    Args:
        left_out: The images that are not in the data set.
        entries: Those that are.
        notes: Told about them.
    """
    split_of = {entry.group: entry.split for entry in entries}
    for split in ("val", "test"):
        count = sum((item.split or split_of.get(item.group)) == split for item in left_out)
        if count:
            notes.add(
                f"{count} images with little crack are left out of {split}: scores on it overlook false alarms there"
            )


def _tiles(item: RawItem, side: int, cutter: Cutter) -> Iterable[RawItem]:
    shape_hw = _shape(item)
    if shape_hw is None:
        return [item]
    rows, columns = (plan_axis(length, tile=side, overlap=0, stride=1) for length in shape_hw)
    windows = {
        f"{item.name}_{y}_{x}": (slice(y, y + rows.tile), slice(x, x + columns.tile))
        for y in rows.starts
        for x in columns.starts
    }
    return cutter.cut(replace(item, shape_hw=shape_hw), windows) if len(windows) > 1 else [item]


def _shape(item: RawItem) -> tuple[int, int] | None:
    """Return height and width; None where reading fails: that is told when the item's turn comes."""
    if item.shape_hw or not item.file:
        return item.shape_hw or _shape_by_reading(item)
    try:
        return read_size(item.file)
    except InputError:
        return _shape_by_reading(item)


def _shape_by_reading(item: RawItem) -> tuple[int, int] | None:
    try:
        picture = read_item(item)
    except InputError:
        return None
    return None if picture is None else (picture[0].shape[0], picture[0].shape[1])


def _is_drawn(item: RawItem, options: PrepareOptions) -> bool:
    # Not the hash that decides the split or the blur, lest all kept ones be in one split.
    digest = hashlib.sha256(f"keep {options.seed} {item.name}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < options.keep_empty * 2**64


def _read_cracked(item: RawItem, min_crack_px: int) -> Content | None:
    picture = read_item(item)
    mask = picture[1] if picture else None
    return picture if mask is None or np.count_nonzero(mask) >= min_crack_px else None
