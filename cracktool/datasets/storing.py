"""Store one image and its mask in a prepared data set, as they are or blurred and small.

Writes whole files or none and never overwrites; knows nothing about splits and tables.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cracktool.datasets.duplicates import Fingerprint, fingerprint
from cracktool.datasets.raw import RawItem, read_item
from cracktool.degradation import SCALE, degrade_randomly
from cracktool.errors import InputError, OutputError, UsageError
from cracktool.files import replace_file
from cracktool.images import Image, Mask, encode_png, read_image, read_mask
from cracktool.manifest import Label

_COPIED = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG\r\n\x1a\n", ".png"))  # what every reader opens; the rest becomes PNG
_ELSEWHERE = "choose another output folder; this file was not changed"


@dataclass(frozen=True, kw_only=True)
class Task:
    """An image to store.

    Args:
        item: The image in its raw form.
        name: File name without extension, unique in the data set.
        blur_seed: Store the photo blurred and small, by a kernel that this seed and the name draw; None as it is.
    """

    item: RawItem
    name: str
    blur_seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An image that was stored, or left out by the data set's own rule.

    Args:
        task: What it was made from.
        kept: False where it is no part of the data set; the rest then means nothing.
        image: Path below the output folder.
        mask: The same for its mask; empty where there is none.
        shape_hw: Height and width of the image in px; the mask has 4 times these where the photo was blurred.
        crack_fraction: Share of crack pixels, 0 to 1; -1 without a mask.
        label: cracked, uncracked or unknown.
        sha1: SHA-1 of the image file.
        look: Of the sharp image, for finding near-duplicates.
    """

    task: Task
    kept: bool
    image: str = ""
    mask: str = ""
    shape_hw: tuple[int, int] = (0, 0)
    crack_fraction: float = -1.0
    label: Label = "unknown"
    sha1: str = ""
    look: Fingerprint | None = None


def store(task: Task, out: Path | None) -> Stored:
    """Read one image, write it, its mask and what belongs to it below `out`, and return what the table needs.

    What is there already with the same content is left as it is, so that a run can be repeated or resumed.

    Args:
        task: What to read, and under which name to write it.
        out: The output folder; None writes nothing.

    Raises:
        InputError: The raw files cannot be used, or do not fit each other, or the table cannot hold their names.
        OutputError: A file of that name holds something else, or the folder cannot be written.
    """
    _check_name(task)
    picture = read_item(task.item)
    if picture is None:
        _refuse_stored(task, out)
        return Stored(task=task, kept=False)
    image, mask, files = picture
    look = fingerprint(image)
    if task.blur_seed is not None:
        try:
            image, mask, more = degraded(task.name, image, mask, task.blur_seed)
        except UsageError as error:  # this photo is too small; the others are done
            raise InputError(error.reason, path=task.item.file or task.item.source) from error
        files = {**files, **more}
    name, sha1 = _put_image(task, image, out)
    stored = Stored(
        task=task,
        kept=True,
        image=f"images/{name}",
        mask="" if mask is None else _put_mask(task, mask, out),
        shape_hw=(image.shape[0], image.shape[1]),
        crack_fraction=-1.0 if mask is None else np.count_nonzero(mask) / mask.size,
        label=task.item.label if mask is None else ("cracked" if mask.any() else "uncracked"),
        sha1=sha1,
        look=look,
    )
    for path, content in files.items():
        _put_bytes(out and out / path, content)
    return stored


def degraded(name: str, image: Image, mask: Mask | None, seed: int) -> tuple[Image, Mask | None, dict[str, bytes]]:
    """Blur a photo by a random kernel and shrink it to a quarter; its mask stays sharp.

    Args:
        name: The photo's file name without extension.
        image: Sharp photo, uint8 RGB (H, W, 3), both sides 4 px at least.
        mask: Its mask, bool (H, W), or None.
        seed: The same seed and name draw the same kernel.

    Returns:
        The small photo (H // 4, W // 4, 3); the mask cropped to exactly 4 times its sides; and as more files
        ``kernels/NAME.npy``, the kernel, float32 (21, 21), that blurred it, and ``sharp/NAME.png``, the sharp photo
        cropped likewise.

    Raises:
        UsageError: The photo has fewer than 4 rows or columns.

    Example:
        >>> image, mask, files = degraded("a", np.zeros((10, 8, 3), np.uint8), np.ones((10, 8), bool), 0)
        >>> image.shape, mask.shape, list(files)
        ((2, 2, 3), (8, 8), ['kernels/a.npy', 'sharp/a.png'])
    """
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    small, kernel = degrade_randomly(image, np.random.default_rng(int.from_bytes(digest)))
    kept = slice(SCALE * small.shape[0]), slice(SCALE * small.shape[1])
    cropped = None if mask is None else mask[kept]
    file = io.BytesIO()
    np.save(file, kernel)
    files = {f"kernels/{name}.npy": file.getvalue(), f"sharp/{name}.png": encode_png(np.ascontiguousarray(image[kept]))}
    return small, cropped, files


def _check_name(task: Task) -> None:
    """Raise InputError where a name is not Unicode, as those of old archives may be."""
    try:
        f"{task.name}{task.item.source}".encode()
    except UnicodeEncodeError as error:
        path = task.item.file or task.item.source
        raise InputError("its name is not Unicode", path=path, remedy="rename it") from error


def _refuse_stored(task: Task, out: Path | None) -> None:
    """Raise OutputError where an image is stored that this run leaves out."""
    names = (f"images/{task.name}.jpg", f"images/{task.name}.png", f"masks/{task.name}.png")
    for path in (out / name for name in names if out is not None):
        if path.exists():
            raise OutputError("is there already, but this run leaves it out", path=path, remedy=_ELSEWHERE)


def _put_image(task: Task, image: Image, out: Path | None) -> tuple[str, str]:
    """Write the image unless it is there; return its file name and SHA-1."""
    copied = task.item.file if task.blur_seed is None else None
    data = copied.read_bytes() if copied else b""
    extension = next((extension for magic, extension in _COPIED if data.startswith(magic)), "")
    name = task.name + (extension or ".png")

    def same(old: bytes) -> bool:
        return old == data if extension else np.array_equal(read_image(old), image)

    stored = _put(out and out / "images" / name, same, lambda: data if extension else encode_png(image))
    return name, hashlib.sha1(stored, usedforsecurity=False).hexdigest()


def _put_mask(task: Task, mask: Mask, out: Path | None) -> str:
    def same(old: bytes) -> bool:
        return np.array_equal(read_mask(old), mask)

    _put(out and out / "masks" / f"{task.name}.png", same, lambda: encode_png(mask.view(np.uint8) * np.uint8(255)))
    return f"masks/{task.name}.png"


def _put_bytes(path: Path | None, content: bytes) -> None:
    _put(path, lambda old: old == content, lambda: content)


def _put(path: Path | None, same: Callable[[bytes], bool], make: Callable[[], bytes]) -> bytes:
    """Return the bytes of the file at `path`, written unless the same content is there; None writes nothing."""
    if path is None or not path.exists():
        data = make()
        if path is not None:
            replace_file(path, data)
        return data
    try:
        old = path.read_bytes()
        if same(old):
            return old
    except (OSError, InputError) as error:
        raise OutputError(f"is there already and cannot be read: {error}", path=path) from error
    raise OutputError("is there already with other content", path=path, remedy=_ELSEWHERE)
