"""Find pictures, pair images with their masks by name, and tell from a name which photo a crop belongs to.

Opens masks only to read them; decides nothing about splits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from cracktool.datasets.raw import Notes, RawItem
from cracktool.errors import InputError
from cracktool.images import EXTENSIONS, Image, Mask, read_grey, read_image
from cracktool.manifest import Split

_MASK_SUFFIX = re.compile(r"[_-](mask|gt|label|seg)$")
_SOFT_SHARE = 0.01  # pixels of other greys as a share of the crack: fewer are the noise of a few edges
_STAMP = re.compile(r".*?\d{8}_\d{6}(?=_|-|$)")
_TAIL = re.compile(r"^(.*?)((?:_\d+)+)$")
_AUGMENTED = re.compile(r"_(?:jpe?g|png)\.rf\.[0-9A-Za-z]+$")  # Roboflow exports several versions of one photo
_FIRST_PATH = re.compile(r"^(.*?\.\w{3,4})\s.*$")  # names may have spaces
_NO_CRACK = re.compile(
    r"(?<![a-z])(?:non?|not|un|without|free[\W_]*of|like|false)[\W_]*(?:an?[\W_]+)?crack|crack[\W_]*(?:free|less|like)",
    re.IGNORECASE,
)
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


def says_no_crack(name: str) -> bool:
    """Return whether a label's or folder's name with "crack" in it says that there is none, or only the like of one.

    Example:
        >>> [says_no_crack(name) for name in ("non-crack", "wall_without_cracks", "crack_free", "hairline crack")]
        [True, True, True, False]
    """
    return bool(_NO_CRACK.search(name))


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


def photos_in(folder: Path, *, remedy: str) -> list[Path]:
    """Return the photos below a folder, sorted, hidden ones left out; there is at least one.

    Args:
        folder: The folder.
        remedy: What to do where there is none.

    Raises:
        InputError: There is no such folder, or no photo in it, or it cannot be listed.
    """
    if not folder.is_dir():
        raise InputError("no such folder", path=folder, remedy=remedy)
    photos = list_pictures(folder)
    if not photos:
        raise InputError("no photos in this folder", path=folder, remedy=remedy)
    return photos


def strip_extensions(name: str) -> str:
    """Return a file name without its picture extensions, doubled ones (``wall.jpg.jpg``) included."""
    while (dot := name.rfind(".")) > 0 and name[dot:].lower() in EXTENSIONS:
        name = name[:dot]
    return name


def read_split_lists(source: Path) -> dict[str, Split]:
    """Return picture name -> split from lists named train.txt, val.txt and test.txt anywhere below a folder.

    A line is the path of a picture; what follows its extension, such as the path of its mask, is not read.
    """
    listed: dict[str, Split] = {}
    for path in sorted(source.rglob("*.txt")):
        if split := split_of_folder(path.stem):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            paths = filter(None, (_FIRST_PATH.sub(r"\1", line.strip()) for line in lines))
            listed |= {strip_extensions(Path(path).name): split for path in paths}
    return listed


@dataclass(frozen=True, order=True)
class Picture:
    """A picture file.

    Args:
        path: The file.
        root: The folder below which it was found; its name is relative to that.
    """

    path: Path
    root: Path

    @property
    def inside(self) -> str:
        """The path below the root."""
        return self.path.relative_to(self.root).as_posix()

    @property
    def stem(self) -> str:
        """The path below the root without its last extension."""
        return self.path.relative_to(self.root).with_suffix("").as_posix()


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Images with their masks, and the images and masks that have no partner."""

    pairs: list[tuple[Picture, Picture]]
    images: list[Picture]
    masks: list[Picture]

    def note_alone(self, notes: Notes) -> None:
        """Note what has no partner."""
        for text, pictures in (("images without a mask", self.images), ("masks without an image", self.masks)):
            for picture in pictures:
                notes.add(f"{text} are skipped", picture.inside)


def pair_files(images: Path, masks: Path, notes: Notes) -> list[tuple[Picture, Picture]]:
    """Pair the pictures below two folders as `match` does; note what stays alone.

    Both folders may be one if the names of the masks end in ``_mask``, ``_gt`` or the like.
    """
    image_files, mask_files = list_pictures(images), list_pictures(masks)
    if images == masks:
        mask_files = [path for path in mask_files if _MASK_SUFFIX.search(strip_extensions(path.name).lower())]
        image_files = sorted(set(image_files) - set(mask_files))
    found = match([Picture(path, images) for path in image_files], [Picture(path, masks) for path in mask_files])
    found.note_alone(notes)
    return found.pairs


def match(
    images: Sequence[Picture], masks: Sequence[Picture], mask_name: Callable[[str], str] | None = None
) -> Matched:
    """Find the mask of each image by their names below their roots.

    Tolerated: ``_mask``, ``_gt``, ``-mask`` and the like behind the mask's name, extensions doubled on either side,
    other upper and lower case. Such a looser name counts only if no other image or mask claims it.

    Args:
        images: The images.
        masks: The masks.
        mask_name: Turns an image's file name without extension into that of its mask; None where both are equal.
    """
    exact = {mask.stem: mask for mask in masks}
    wanted = [_renamed(image.stem, mask_name) for image in images]
    whole = [f"{stem}{image.path.suffix}" for stem, image in zip(wanted, images, strict=True)]  # a.jpg has a.jpg.png
    found = [exact.get(stem) or exact.get(name) for stem, name in zip(wanted, whole, strict=True)]
    used = set(found)
    loose = _unique((_loose(mask.stem), mask) for mask in masks if mask not in used)
    claims = Counter(_loose(stem) for stem, mask in zip(wanted, found, strict=True) if mask is None)
    for place, stem in enumerate(wanted):
        if found[place] is None and claims[_loose(stem)] == 1:
            found[place] = loose.get(_loose(stem))
    used = set(found)
    return Matched(
        pairs=[(image, mask) for image, mask in zip(images, found, strict=True) if mask],
        images=[image for image, mask in zip(images, found, strict=True) if mask is None],
        masks=[mask for mask in masks if mask not in used],
    )


def image_item(
    source: Path,
    image: Picture,
    read: Callable[[], tuple[Image, Mask | None]],
    *,
    split: Split | None = None,
    photo: Callable[[str], str] | None = None,
    collection: str = "",
    as_it_is: bool = True,
) -> RawItem:
    """Return the item of one image file; folders on its way are part of its name, one of a split is that.

    Args:
        source: The raw folder.
        image: The file.
        read: Returns the image and its mask.
        split: The published split; None takes it from the first folder below the image's root.
        photo: Turns the image's name into that of the photo it was cut from; None for `photo_id`.
        collection: What it is part of; empty for the first folder below its root that names no split.
        as_it_is: The file holds exactly the image that `read` returns.
    """
    folders = PurePosixPath(image.inside).parts[:-1]
    inner = split_of_folder(folders[0]) if folders and split is None else None  # images/train/NAME.jpg
    folders = folders[1:] if inner else folders
    stem = strip_extensions(image.path.name)
    place = image.path.relative_to(source)
    collection = collection or "".join(folders[:1])
    return RawItem(
        name="_".join((*folders, stem)),
        group="/".join((*folders, (photo or photo_id)(stem))),
        source=(place if collection in ("", place.parts[0]) else collection / place).as_posix(),
        read=read,
        split=split or inner,
        file=image.path if as_it_is else None,
    )


def photo_id(name: str) -> str:
    """Return the photo that a crop was cut from, as far as its name tells; the name itself where it tells nothing.

    Crops are named after their photo with numbers behind: ``_X_Y``, ``_X_Y_WIDTH_HEIGHT``, ``_N`` or ``-N``; versions
    of one photo with ``_jpg.rf.HASH``.

    Example:
        >>> [photo_id(name) for name in ("20160222_080850_1_361", "11116-2", "DSC01612_8_444_1816_1750", "CFD_001")]
        ['20160222_080850', '11116', 'DSC01612', 'CFD_001']
    """
    name = _AUGMENTED.sub("", name)
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


def read_image_only(path: Path) -> tuple[Image, None]:
    """Read a photo that has no mask.

    Raises:
        InputError: The file is not a usable picture.
    """
    return read_image(path), None


def read_binary(path: Path, notes: Notes, *, threshold: int = 128, inverted: bool = False) -> Mask:
    """Read a mask, bool (height, width); one of 0 and 1 only is taken as such, with a note, as is a soft one.

    Raises:
        InputError: The file is not a usable picture.
    """
    grey = read_grey(path)
    bright = grey >= threshold
    noisy = path.suffix.lower() in {".jpg", ".jpeg"}
    if grey.any() and not bright.any():
        if noisy or grey.max() > 1:
            notes.add(f"masks all below the threshold {threshold}: nothing in them is bright; lower it?", path.name)
        else:
            notes.add("masks of 0 and 1 are read as such, not as 0 and 255", path.name)
            bright = grey > 0
    elif threshold > 1 and not noisy and _is_soft(grey):  # from 1 on every value is crack; a JPEG's greys are noise
        notes.add(f"soft masks, with greys between background and crack, are cut at {threshold}", path.name)
    return ~bright if inverted else bright


def _is_soft(grey: npt.NDArray[np.uint8]) -> bool:
    counts = np.sort(np.bincount(grey.ravel(), minlength=256))
    return bool(counts[:-2].sum() > _SOFT_SHARE * counts[-2])  # the two most common are background and crack


def _renamed(stem: str, mask_name: Callable[[str], str] | None) -> str:
    path = PurePosixPath(stem)
    return path.with_name(mask_name(path.name)).as_posix() if mask_name else stem


def _unique(named: Iterable[tuple[str, Picture]]) -> dict[str, Picture]:
    found: dict[str, list[Picture]] = {}
    for name, picture in named:
        found.setdefault(name, []).append(picture)
    return {name: pictures[0] for name, pictures in found.items() if len(pictures) == 1}


def _loose(stem: str) -> str:
    return strip_extensions(_MASK_SUFFIX.sub("", strip_extensions(stem.lower())))
