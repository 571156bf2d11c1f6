"""What the readers of annotation exports share: which label is crack, where a photo lies, and masks from shapes.

Knows no file format; the readers turn theirs into `AnnotatedPhoto`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cracktool.datasets.pairing import list_pictures, photo_id, says_no_crack, split_of_folder, strip_extensions
from cracktool.datasets.raw import Notes, PrepareOptions, RawDataset, RawItem
from cracktool.errors import CrackError, InputError, UsageError, did_you_mean
from cracktool.images import Image, Mask, read_image
from cracktool.manifest import Split

ANNOTATION_OPTIONS = frozenset({"label", "line_width"})  # what a layout over shapes understands

BAD_RECORD = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
)  # what a malformed record raises


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One annotation.

    Args:
        label: Its label or category.
        draw: Sets its pixels in a mask; impossible figures raise one of `BAD_RECORD`. None for a box or a point, which
            does not tell which pixels are crack.
        is_line: It is drawn as wide as the user says.
    """

    label: str
    draw: Callable[[Mask], None] | None
    is_line: bool = False


@dataclass(frozen=True, kw_only=True)
class AnnotatedPhoto:
    """A photo and what is drawn in it.

    Args:
        photo: Its file, or its bytes where the export holds them.
        name: Its file name.
        source: What the annotations were read from.
        shapes: The annotations; none for a photo without crack.
        split: The published split.
        shape_hw: The height and width that the annotations are for, where the export says.
        tags: Labels of the whole photo.
    """

    photo: Path | bytes
    name: str
    source: Path
    shapes: Sequence[Shape]
    split: Split | None = None
    shape_hw: tuple[int, int] | None = None
    tags: Collection[str] = ()


class PhotoFinder:
    """Finds the photos of an export, which names them by a path that may be of another machine.

    Args:
        root: The raw folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._named: defaultdict[str, list[Path]] = defaultdict(list)
        for path in list_pictures(root):
            self._named[path.name.lower()].append(path)

    def find(self, name: str, beside: Path) -> Path | None:
        """Return the photo of that name; of several the one whose folders fit best, to the name, then to `beside`.

        Args:
            name: A file name with or without folders, of any system.
            beside: The annotation file that names it.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        split = split_of_path(beside.relative_to(self.root))

        def fit(path: Path) -> tuple[int, bool, int]:
            inside = path.relative_to(self.root)
            return (
                _common(reversed(inside.parts), reversed(parts)),
                split_of_path(inside.parent) == split,
                _common(path.parts, beside.parts),
            )

        return max(self._named[parts[-1].lower()], key=fit, default=None) if parts else None


def split_of_path(path: Path) -> Split | None:
    """Return the split that a word of a relative path stands for.

    Example:
        >>> [split_of_path(Path(name)) for name in ("annotations/instances_val2017.json", "train/a.json", "latest")]
        ['val', 'train', None]
    """
    words = re.split(r"[^A-Za-z]+", path.as_posix())
    return next((split for word in words if (split := split_of_folder(word))), None)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        InputError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no JSON: {error}", path=path) from error


def read_files(
    paths: Iterable[Path], read: Callable[[Path], Iterable[AnnotatedPhoto]], damaged: str
) -> tuple[list[AnnotatedPhoto], list[CrackError]]:
    """Return the photos of annotation files, and an error for each file that cannot be read; the others are.

    Args:
        paths: The files.
        read: Lists the photos of one; raises InputError, or one of `BAD_RECORD` where its records are malformed.
        damaged: What a malformed file is said to be.
    """
    photos: list[AnnotatedPhoto] = []
    failures: list[CrackError] = []
    for path in sorted(paths):
        try:
            photos += read(path)
        except InputError as error:
            failures.append(error)
        except BAD_RECORD as error:
            failures.append(InputError(f"{damaged}: {error!r}", path=path))
    return photos, failures


def choose_labels(present: Iterable[str], wanted: Sequence[str], source: Path) -> frozenset[str]:
    """Return the labels that are crack.

    Args:
        present: All labels of the export.
        wanted: What the user says; empty for all with "crack" in their name ("no crack" is none), or the only one.
        source: The export, for the message.

    Raises:
        UsageError: The export has no such label, or several of which none is called crack.

    Example:
        >>> sorted(choose_labels(["Crack", "non-crack", "hairline crack", "rust"], [], Path("export")))
        ['Crack', 'hairline crack']
    """
    labels = sorted(set(present))
    shown = ", ".join(labels) or "none"
    for label in wanted:
        if label not in labels:
            advice = did_you_mean(label, labels) or f"its labels are: {shown}"
            raise UsageError(f"no label {label!r} in {source}", remedy=advice)
    cracks = [label for label in labels if _says_crack(label)]
    chosen = list(wanted) or cracks or labels
    if not wanted and not cracks and len(labels) > 1:
        raise UsageError(
            f"several labels in {source}, none of them called crack: {shown}", remedy="choose with --label"
        )
    return frozenset(chosen)


def _says_crack(label: str) -> bool:
    return "crack" in label.lower() and not says_no_crack(label)


def annotated_dataset(
    source: Path,
    photos: Sequence[AnnotatedPhoto],
    options: PrepareOptions,
    notes: Notes,
    *,
    labels: Iterable[str] = (),
    failures: Sequence[CrackError] = (),
) -> RawDataset:
    """Return the items of an export.

    Args:
        source: The raw folder.
        photos: Its photos with their shapes.
        options: Of them `label`.
        notes: Told what is left out.
        labels: Labels that it declares, used or not.
        failures: Annotation files that could not be read.

    Raises:
        UsageError: Which label is crack cannot be told.
    """
    used = {shape.label for photo in photos for shape in photo.shapes}
    cracks = choose_labels({*used, *labels} if options.label else used or labels, options.label, source)
    items = []
    for photo in photos:
        shapes = [shape for shape in photo.shapes if shape.label in cracks]
        tagged = any(tag in cracks or _says_crack(tag) for tag in photo.tags)
        if any(shape.draw is None for shape in shapes) or (tagged and not shapes):
            notes.add(
                "photos in which crack is only a box, a point or a tag are skipped: that is no outline", photo.name
            )
            continue
        if options.line_width is None and any(shape.is_line for shape in shapes):
            notes.add("lines are drawn 1 px wide; --line-width sets how wide", photo.name)
        items.append(_item(source, photo, shapes, notes))
    return RawDataset(items=items, notes=notes, failures=tuple(failures))


def _item(source: Path, photo: AnnotatedPhoto, shapes: Sequence[Shape], notes: Notes) -> RawItem:
    name = strip_extensions(PurePosixPath(photo.name.replace("\\", "/")).name)
    file = photo.photo if isinstance(photo.photo, Path) else None
    return RawItem(
        name=name,
        group=photo_id(name),
        source=(file or photo.source).relative_to(source).as_posix(),
        read=partial(_read, photo, shapes, notes),
        split=photo.split or (split_of_path(file.relative_to(source).parent) if file else None),
        file=file,
    )


def _read(photo: AnnotatedPhoto, shapes: Sequence[Shape], notes: Notes) -> tuple[Image, Mask]:
    image = read_image(photo.photo)
    shape = image.shape[:2]
    if photo.shape_hw not in (None, shape):
        (height, width), turned = photo.shape_hw, photo.shape_hw == shape[::-1]
        raise InputError(
            f"its annotations are for {width} x {height} px, the photo has {shape[1]} x {shape[0]}",
            path=photo.photo if isinstance(photo.photo, Path) else photo.source,
            remedy="annotate the photo turned as its EXIF orientation says" if turned else "",
        )
    mask = np.zeros(shape, np.bool_)
    try:
        for each in shapes:
            if each.draw:
                each.draw(mask)
    except BAD_RECORD as error:
        raise InputError(f"an annotation of {photo.name} cannot be drawn: {error}", path=photo.source) from error
    if shapes and not mask.any():
        notes.add("photos whose crack annotations cover no pixel are taken for free of crack", photo.name)
    return image, mask


def _common(one: Iterable[str], other: Iterable[str]) -> int:
    count = 0
    for first, second in zip(one, other, strict=False):
        if first.lower() != second.lower():
            break
        count += 1
    return count
