"""Find pictures, pair images with their masks by name, and tell from a name which photo a crop belongs to.

Opens masks only to read them; decides nothing about splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cracktool.datasets.raw import Notes
from cracktool.errors import InputError
from cracktool.images import EXTENSIONS, Mask, read_mask
from cracktool.manifest import Split

_MASK_SUFFIX = re.compile(r"[_-](mask|gt|label|seg)$")
_STAMP = re.compile(r".*?\d{8}_\d{6}(?=_|-|$)")
_TAIL = re.compile(r"^(.*?)((?:_\d+)+)$")
_SPLITS: Mapping[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def split_of_folder(name: str) -> Split | None:
    """Return the split that a folder's name stands for, or None.

    Example:
        >>> split_of_folder("Validation")
        'val'
    """
    return _SPLITS.get(name.lower())


def subfolder(root: Path, names: Iterable[str]) -> Path | None:
    """Return the first folder directly below `root` with one of `names`, upper or lower case, or None."""
    present = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    return next((present[name] for name in names if name in present), None)


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures below a folder, sorted, hidden ones left out.

    Raises:
        InputError: The folder cannot be listed.
    """
    try:
        return sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror or error}", path=folder) from error


def strip_extensions(name: str) -> str:
    """Return a file name without its picture extensions, doubled ones (``wall.jpg.jpg``) included."""
    while (dot := name.rfind(".")) > 0 and name[dot:].lower() in EXTENSIONS:
        name = name[:dot]
    return name


def pair_files(images: Path, masks: Path, notes: Notes) -> list[tuple[Path, Path]]:
    """Pair the pictures below two folders by their path without extension; note what stays alone.

    Tolerated: ``_mask``, ``_gt``, ``-mask`` and the like behind the mask's name, extensions doubled on either side,
    other upper and lower case. Both folders may be one if the masks' names end so.
    """
    image_files, mask_files = list_pictures(images), list_pictures(masks)
    if images == masks:
        mask_files = [path for path in mask_files if _MASK_SUFFIX.search(strip_extensions(path.name).lower())]
        image_files = sorted(set(image_files) - set(mask_files))
    exact = {_stem(path, masks): path for path in mask_files}
    loose = _unique_by_loose_stem(mask_files, masks)
    pairs, used = [], set()
    for image in image_files:
        stem = _stem(image, images)
        mask = exact.get(stem) or exact.get(_inside(image, images)) or loose.get(_loose(stem))
        if mask is None:
            notes.add("images without a mask are skipped", _inside(image, images))
        else:
            pairs.append((image, mask))
            used.add(mask)
    for mask in mask_files:
        if mask not in used:
            notes.add("masks without an image are skipped", _inside(mask, masks))
    return pairs


def photo_id(name: str) -> str:
    """Return the photo that a crop was cut from, as far as its name tells; the name itself where it tells nothing.

    Crops are named after their photo with numbers behind: ``_X_Y``, ``_X_Y_WIDTH_HEIGHT``, ``_N`` or ``-N``.

    Example:
        >>> [photo_id(name) for name in ("20160222_080850_1_361", "11116-2", "DSC01612_8_444_1816_1750", "CFD_001")]
        ['20160222_080850', '11116', 'DSC01612', 'CFD_001']
    """
    if stamp := _STAMP.match(name):
        return stamp.group()
    dashed = re.sub(r"-\d{1,2}$", "", name)
    if dashed != name and re.search(r"\d", dashed):
        return dashed
    if not (tail := _TAIL.match(name)):
        return name
    head, numbers = tail.groups()
    if re.search(r"[A-Za-z]\w*\d{4}$", head) and numbers.count("_") > 1:  # a camera's number, not that of a collection
        return head
    return f"{head}_{numbers.split('_')[1]}"


def read_binary(path: Path, notes: Notes, *, threshold: int = 128, inverted: bool = False) -> Mask:
    """Read a mask, bool (height, width); one of 0 and 1 only is taken as such, with a note.

    Raises:
        InputError: The file is not a usable picture.
    """
    bright = read_mask(path, threshold=threshold)
    if threshold > 1 and not bright.any() and (faint := read_mask(path, threshold=1)).any():
        if read_mask(path, threshold=2).any():
            notes.add(f"masks all below the threshold {threshold}: nothing in them is bright; lower it?", path.name)
        else:
            notes.add("masks of 0 and 1 are read as such, not as 0 and 255", path.name)
            bright = faint
    return ~bright if inverted else bright


def _unique_by_loose_stem(files: Iterable[Path], root: Path) -> dict[str, Path]:
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(_loose(_stem(path, root)), []).append(path)
    return {stem: paths[0] for stem, paths in found.items() if len(paths) == 1}


def _inside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _stem(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _loose(stem: str) -> str:
    return strip_extensions(_MASK_SUFFIX.sub("", strip_extensions(stem.lower())))
