"""Which photos an inspector means, and where their results go.

Looks at names, and at the headers of files that may hold several pictures or a place on Earth; decodes nothing.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cracktool.errors import InputError, UsageError
from cracktool.files import is_file, is_folder
from cracktool.images import EXTENSIONS, read_pages
from cracktool.inference.rasters import is_raster

VIDEO_EXTENSIONS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".ts"})
_PAGED = frozenset({".tif", ".tiff", ".gif", ".webp"})
_READ = EXTENSIONS | VIDEO_EXTENSIONS


@dataclass(frozen=True)
class Task:
    """One photo and the files that will be written for it; those that are not wanted are None.

    Args:
        photo: A picture, or a video.
        mask: Its mask; of a video a folder of masks.
        probs: Its probabilities; of a video a folder.
        overlay: The photo with the crack drawn in.
        page: Which picture of a file with several.
        by_rows: It is read by rows, since it has a place on Earth or is very large.
        kept: Those of the files that are there already and stay as they are.
    """

    photo: Path
    mask: Path
    probs: Path | None = None
    overlay: Path | None = None
    page: int = 0
    by_rows: bool = False
    kept: frozenset[Path] = frozenset()

    @property
    def is_video(self) -> bool:
        """Whether the photo is a video."""
        return self.photo.suffix.lower() in VIDEO_EXTENSIONS

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that will be written."""
        return tuple(path for path in (self.mask, self.probs, self.overlay) if path is not None)


@dataclass(frozen=True)
class Unusable:
    """An input that stands for no photo."""

    path: Path
    error: InputError


def plan_tasks(
    inputs: Sequence[str | Path],
    out: Path,
    *,
    probs: bool,
    overlay: bool,
    shard: tuple[int, int] | None = None,
) -> list[Task | Unusable]:
    """Find the photos and lay out their results, in the order of the inputs.

    Args:
        inputs: Files, folders (with their sub-folders, which are kept in the output) and glob patterns. A photo that
            several of them stand for is done once, at its place by the first.
        out: Folder of the results. Where it lies inside an input folder, it is passed over.
        probs: Whether probabilities are wanted.
        overlay: Whether photos with the crack drawn in are wanted. Photos that are read by rows have none.
        shard: (i, n) for the i-th of n parts of the work, which depends on the names of the results alone.

    Raises:
        InputError: The only input stands for no photo.
        UsageError: Two photos would write one file, or a result would overwrite a photo.
    """
    tasks: list[Task | Unusable] = []
    for given in inputs:
        for photo, place in _find(Path(given), out):
            tasks += [place] if isinstance(place, Unusable) else _tasks(photo, out / place, probs, overlay)
    if not tasks:
        raise InputError("no input is given")
    if len(tasks) == 1 and isinstance(tasks[0], Unusable):
        raise tasks[0].error
    return [task for task in _without_clashes(tasks) if shard is None or _is_in(shard, task, out)]


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, n) of a text "i/n", the i-th of n parts counted from 1.

    Raises:
        UsageError: It is not of that form.
    """
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UsageError(
            f"shard {text!r} is not of the form i/n", remedy="1/4 is the first of four parts, 4/4 the last"
        )
    return int(part), int(parts)


def _is_in(shard: tuple[int, int], task: Task | Unusable, out: Path) -> bool:
    name = task.mask.relative_to(out) if isinstance(task, Task) else task.path
    number = int.from_bytes(hashlib.sha256(os.fsencode(name.as_posix())).digest()[:8], "big")
    return number % shard[1] == shard[0] - 1


def _tasks(photo: Path, place: Path, probs: bool, overlay: bool) -> list[Task]:
    """Return a task for a photo or video, and one for each page of a file with several."""
    if photo.suffix.lower() in VIDEO_EXTENSIONS:
        return [_task(photo, place, (".frames", ".probs", ".overlay.mp4"), probs, overlay)]
    by_rows, georeferenced = is_raster(photo)
    if by_rows:
        ending = ".tif" if georeferenced else ".png"
        return [replace(_task(photo, place, (ending, f".probs{ending}", ""), probs, False), by_rows=True)]
    pages = _pages(photo)
    digits = len(str(max(pages)))
    return [
        replace(_task(photo, place, tuple(f"{number}{end}" for end in _ENDINGS), probs, overlay), page=page)
        for page in pages
        for number in [f".page{page:0{digits}d}" if len(pages) > 1 else ""]
    ]


_ENDINGS = (".png", ".probs.png", ".overlay.jpg")


def _task(photo: Path, place: Path, endings: Sequence[str], probs: bool, overlay: bool) -> Task:
    mask, levels, drawn = (place.with_name(place.name + ending) for ending in endings)
    return Task(photo, mask, levels if probs else None, drawn if overlay else None)


def _pages(photo: Path) -> tuple[int, ...]:
    if photo.suffix.lower() not in _PAGED or not is_file(photo):
        return (0,)
    try:
        return read_pages(photo)
    except InputError:
        return (0,)  # what is wrong with it is said when its turn comes


def _find(given: Path, out: Path) -> Iterator[tuple[Path, Path | Unusable]]:
    """Give each photo with its place in the output folder, without ending."""
    if is_folder(given):
        found = list(_walk(given, out))
    elif os.path.lexists(given):
        found = [(given, Path(given.stem))]
    elif glob.has_magic(str(given)):
        names = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207  # Path.glob wants a folder to start from
        found = [pair for name in names for pair in _matched(Path(name), out)]
    else:
        found = [(given, Unusable(given, InputError(_why_absent(given), path=given)))]
    if not found:
        reason = "no photo in this folder" if is_folder(given) else "no photo matches"
        kinds = " ".join(sorted(_READ))
        found = [(given, Unusable(given, InputError(reason, path=given, remedy=f"photos end in {kinds}")))]
    yield from found


def _why_absent(path: Path) -> str:
    try:
        path.lstat()
    except PermissionError:
        return "cannot be read: Permission denied"
    except OSError:
        pass
    return "no such file or folder"


def _matched(path: Path, out: Path) -> Iterator[tuple[Path, Path | Unusable]]:
    if is_folder(path):
        yield from _walk(path, out)
    elif path.suffix.lower() in _READ:
        yield path, Path(path.stem)


def _walk(folder: Path, out: Path) -> Iterator[tuple[Path, Path | Unusable]]:
    target = os.path.realpath(out)
    if os.path.realpath(folder) == target:
        raise UsageError("the output folder is the input folder", path=out, remedy="choose another with -o")
    problems: list[OSError] = []
    passed = {target, os.path.realpath(folder)}  # links are followed, but never in a circle
    for root, folders, names in os.walk(folder, onerror=problems.append, followlinks=True):
        here = Path(root)
        places = {name: os.path.realpath(here / name) for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, place in places.items() if place not in passed]
        passed.update(places.values())
        for name in sorted(names):
            path = here / name
            if path.suffix.lower() in _READ and not name.startswith("."):  # ._photo.jpg is macOS's, not a photo
                yield path, path.relative_to(folder).with_suffix("")
    for problem in problems:
        path = Path(problem.filename)
        yield path, Unusable(path, InputError(f"cannot be read: {problem.strerror}", path=path))


def _without_clashes(tasks: Iterable[Task | Unusable]) -> Iterator[Task | Unusable]:
    tasks = list(tasks)
    photos = {os.path.realpath(task.photo) for task in tasks if isinstance(task, Task)}
    writers: dict[Path, Path] = {}
    given: set[tuple[Path, int]] = set()
    for task in tasks:
        if isinstance(task, Unusable):
            yield task
            continue
        picture = (task.photo.absolute(), task.page)
        other = next((writers[path] for path in task.outputs if path in writers), None)
        linked = other is not None and os.path.realpath(other) == os.path.realpath(task.photo)
        if picture in given or linked:
            continue  # given twice, as by a folder and a file in it, or by photos/**
        given.add(picture)
        if other is not None:
            raise _clash(other, task.photo, task.mask)
        for path in task.outputs:
            if os.path.realpath(path) in photos:
                reason = f"the result of {task.photo} would overwrite this photo"
                raise UsageError(reason, path=path, remedy="choose another folder with -o")
            writers[path] = task.photo
        yield task
    for folder, photo in {path.parent: photo for path, photo in writers.items()}.items():
        for above in (folder, *folder.parents):
            if above in writers:  # such as the frames of a video
                raise _clash(writers[above], photo, above)


def _clash(photo: Path, other: Path, result: Path) -> UsageError:
    reason = f"{photo} and {other} would both write {result.name}"
    apart = "give the folder above both" if photo.parent != other.parent else "run them into separate folders"
    return UsageError(reason, remedy=f"rename one of them, or {apart}")
