"""`crack prepare --check`: find copies, leaks and bad masks in prepared data sets.

Reads data sets and writes nothing; `contact_sheet` shows what is returned.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cracktool.datasets.alignment import Darkness, common_offset, darkness, fits_nothing, offset, step_px
from cracktool.datasets.duplicates import fingerprint
from cracktool.datasets.findings import KINDS, Checked, CheckedImage, Finding
from cracktool.datasets.overlaps import find_marks, mirror, shrunk
from cracktool.datasets.raw import thread_count
from cracktool.datasets.repeats import Seen, find_repeats
from cracktool.degradation import SCALE
from cracktool.errors import InputError, UsageError
from cracktool.images import Image, Mask, encode_jpeg, read_grey, read_image
from cracktool.manifest import read_manifest
from cracktool.overlay import COLOUR

Progress = Callable[[int, int], None]

_SOFT_SHARE = 0.01  # greys as a share of the crack: fewer are the noise of a few edges
_THUMB_HW = 180, 240


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What is kept of an image after a look at it; only findings where it cannot be read."""

    findings: tuple[Finding, ...]
    seen: Seen | None = None
    dark: Darkness | None = None
    step: float = 1.0
    thumbnail: bytes = b""


def check(
    folders: Sequence[str | Path],
    *,
    thumbnails: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Look for copies, leaks and bad masks in prepared data sets, each alone and across.

    Args:
        folders: The data sets, or their tables.
        thumbnails: Keep a small picture of each image for a contact sheet.
        jobs: Threads; None for one per processor, 8 at most.
        progress: Called in this thread with the numbers of images read and of all; comparing them comes after that.

    Raises:
        UsageError: A data set is named twice.
        InputError: A table is missing or damaged. A photo or mask that cannot be read is a finding.

    Example:
        >>> [finding.kind for finding in check(["data/crack500", "data/canal"]).findings][:1]
        ['leak']
    """
    manifests = [read_manifest(folder) for folder in folders]
    places = [manifest.folder.resolve() for manifest in manifests]
    if len(set(places)) < len(places):
        raise UsageError("a data set is named twice", remedy="name each once")
    images = [CheckedImage(folder=each.folder, entry=entry) for each in manifests for entry in each.entries]
    pool = ThreadPoolExecutor(thread_count(jobs), thread_name_prefix="check")
    try:
        looks = list(_counted(pool.map(partial(_look, thumbnails=thumbnails), images), progress, len(images)))
        findings = [finding for look in looks for finding in look.findings]
        findings += _moved_sets(images, looks)
        findings += find_repeats([look.seen for look in looks if look.seen], pool)
    finally:
        pool.shutdown(cancel_futures=True)
    kinds = list(KINDS)
    return Checked(
        folders=tuple(manifest.folder for manifest in manifests),
        images=tuple(replace(image, thumbnail=look.thumbnail) for image, look in zip(images, looks, strict=True)),
        findings=tuple(sorted(findings, key=lambda each: (kinds.index(each.kind), each.image, each.other))),
    )


def _counted(looks: Iterable[_Look], progress: Progress | None, total: int) -> Iterator[_Look]:
    for number, look in enumerate(looks, 1):
        if progress:
            progress(number, total)
        yield look


def _look(image: CheckedImage, *, thumbnails: bool) -> _Look:
    try:
        data = image.path.read_bytes()
        photo = read_image(data)
    except (OSError, InputError) as error:
        return _Look(findings=(_damaged(image, "photo", error),))
    findings, mask = _mask_findings(image, photo)
    step, grey = step_px(photo), shrunk(photo)
    dark = None if mask is None or any(finding.kind == "inverted" for finding in findings) else darkness(photo, mask)
    if dark is not None:
        findings += _placed(image, dark, step)
    return _Look(
        findings=tuple(findings),
        seen=Seen(
            image=image,
            digest=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            look=fingerprint(photo),
            marks=find_marks(grey),
            mirrored=find_marks(mirror(grey)),
        ),
        dark=dark,
        step=step,
        thumbnail=_thumbnail(photo, mask) if thumbnails else b"",
    )


def _mask_findings(image: CheckedImage, photo: Image) -> tuple[list[Finding], Mask | None]:
    """Return what is wrong with the mask alone, and the mask where it can be used."""
    if not image.entry.mask:
        return [], None
    try:
        grey = read_grey((image.folder / image.entry.mask).read_bytes())
    except (OSError, InputError) as error:
        return [_damaged(image, "mask", error)], None
    mask = grey >= 128
    height, width = photo.shape[:2]
    if mask.shape not in ((height, width), (SCALE * height, SCALE * width)):
        text = f"mask {mask.shape[1]} x {mask.shape[0]} px, photo {width} x {height} px"
        return [Finding(kind="size", image=image.name, detail=text)], None
    findings = []
    between = int(np.count_nonzero((grey > 0) & (grey < 255)))
    if between > _SOFT_SHARE * np.count_nonzero(mask):
        text = f"{between / grey.size:.1%} of its pixels are between, the brightest is {grey.max()}"
        findings.append(Finding(kind="soft", image=image.name, detail=text))
    if mask.mean() > 0.5:
        findings.append(Finding(kind="inverted", image=image.name, detail=f"{mask.mean():.0%} crack"))
    return findings, mask


def _damaged(image: CheckedImage, part: str, error: OSError | InputError) -> Finding:
    reason = error.reason if isinstance(error, InputError) else f"cannot be read: {error.strerror or error}"
    return Finding(kind="damaged", image=image.name, detail=f"{part}: {reason}")


def _placed(image: CheckedImage, dark: Darkness, step: float) -> list[Finding]:
    if fits_nothing(dark):
        return [Finding(kind="misfit", image=image.name, detail="no line below or near it")]
    move = offset(dark)
    return [Finding(kind="shifted", image=image.name, detail=_advice(move, step))] if move else []


def _advice(move: tuple[int, int], step: float) -> str:
    y, x = (round(each * step) for each in move)
    parts = [f"{abs(x)} px {'right' if x > 0 else 'left'}"] if x else []
    parts += [f"{abs(y)} px {'down' if y > 0 else 'up'}"] if y else []
    return f"darkest {' and '.join(parts)} of it"


def _moved_sets(images: Sequence[CheckedImage], looks: Sequence[_Look]) -> Iterator[Finding]:
    maps: defaultdict[Path, defaultdict[float, list[Darkness]]] = defaultdict(lambda: defaultdict(list))
    for image, look in zip(images, looks, strict=True):
        if look.dark is not None:
            maps[image.folder][look.step].append(look.dark)
    for folder, by_step in maps.items():
        for step, found in by_step.items():  # maps of photos of other sizes have steps of other lengths
            move = common_offset(found)
            if move:
                which = "all masks" if len(by_step) == 1 else f"{len(found)} of the masks"
                yield Finding(kind="shifted", image=folder.as_posix(), detail=f"{which}: {_advice(move, step)}")


def _thumbnail(photo: Image, mask: Mask | None) -> bytes:
    zoom = min(_THUMB_HW[0] / photo.shape[0], _THUMB_HW[1] / photo.shape[1])
    size = max(round(photo.shape[1] * zoom), 1), max(round(photo.shape[0] * zoom), 1)
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_NEAREST
    small: Image = np.array(cv2.resize(photo, size, interpolation=method), np.uint8)
    if mask is not None:
        crack = (cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
        small[cv2.dilate(crack, np.ones((3, 3), np.uint8)) > crack] = COLOUR
    return encode_jpeg(small, 75)
