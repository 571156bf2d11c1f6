"""Photos sorted by situation, without masks, to see where a network raises false alarms.

A situation is a folder, or the name of a photo without its number. Reads no mask.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from pathlib import Path

from cracktool.datasets.pairing import list_pictures, read_image_only, says_no_crack, strip_extensions
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset, RawItem
from cracktool.errors import InputError
from cracktool.manifest import Label

_NUMBER = re.compile(r"[\s_.-]*\(?\d+\)?$")
_CRACKED = re.compile(r"crack|moss|nois|large[\s_-]*context")  # moss, noise, ...: what is around or over the crack
_TREE = "folders pure_crack/ like_crack/ noncrack/ ... of photos; or photos named like_crack_01.jpg, ..."


def read_situations(source: Path, options: PrepareOptions) -> RawDataset:
    """List the photos with their situations, which stand in front of the file names in ``source``.

    Args:
        source: The raw folder.
        options: Nothing in them applies.

    Raises:
        InputError: There is no photo, or no two of them share a situation.
    """
    notes = Notes()
    photos = [(_situation(path, source), path) for path in list_pictures(source)]
    if not photos:
        raise InputError("no pictures in here", path=source, remedy=f"expected: {_TREE}")
    counts = Counter(situation for situation, _ in photos)
    sorted_by_name = all(path.parent == source for _, path in photos)
    if sorted_by_name and max(counts.values()) == 1 < len(photos):
        raise InputError("no two photos here share a situation", path=source, remedy=f"expected: {_TREE}")
    for situation in sorted(counts):
        if label_of(situation) == "unknown":
            notes.add("situations that do not say whether there is a crack, so that they are not scored", situation)
    return RawDataset(items=[_item(situation, path) for situation, path in photos], notes=notes)


def label_of(situation: str) -> Label:
    """Return whether a situation's name says that its photos show a crack.

    Example:
        >>> [label_of(name) for name in ("crack_with_moss", "Like crack", "noncrack", "walls")]
        ['cracked', 'uncracked', 'uncracked', 'unknown']
    """
    if says_no_crack(situation):
        return "uncracked"
    return "cracked" if _CRACKED.search(situation.lower()) else "unknown"


def _situation(path: Path, source: Path) -> str:
    folder = path.relative_to(source).parts[0]
    stem = strip_extensions(path.name)
    return folder if path.parent != source else _NUMBER.sub("", stem) or stem


def _item(situation: str, path: Path) -> RawItem:
    stem = strip_extensions(path.name)
    name = stem if stem.startswith(situation) else f"{situation}_{stem}"
    return RawItem(
        name=name,
        group=name,
        source=f"{situation}/{path.name}",
        read=partial(read_image_only, path),
        label=label_of(situation),
        file=path,
    )


SITUATIONS = Layout(
    reader=read_situations,
    title="Photos sorted by situation: pure crack, like crack, moss, noise, no crack, large context; all for testing",
    where_to_get="your own photos",
    tree=_TREE,
    licence="that of the photos",
    fractions=(0.0, 1.0),
)
