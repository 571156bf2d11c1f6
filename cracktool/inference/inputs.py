"""Which photos an inspector means, and where their results go. Looks at names only; opens no picture."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cracktool.errors import InputError, OutputError, UsageError
from cracktool.images import EXTENSIONS


@dataclass(frozen=True)
class Task:
    """One photo and the files that will be written for it; those that are not wanted are None."""

    photo: Path
    mask: Path
    probs: Path | None = None
    overlay: Path | None = None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that will be written."""
        return tuple(path for path in (self.mask, self.probs, self.overlay) if path is not None)


@dataclass(frozen=True)
class Unusable:
    """An input that stands for no photo."""

    path: Path
    error: InputError


def plan_tasks(inputs: Sequence[str | Path], out: Path, *, probs: bool, overlay: bool) -> list[Task | Unusable]:
    """Find the photos and lay out their results, in the order of the inputs.

    Args:
        inputs: Files, folders (with their sub-folders, which are kept in the output) and glob patterns.
        out: Folder of the results. Where it lies inside an input folder, it is passed over.
        probs: Whether probabilities are wanted.
        overlay: Whether photos with the crack drawn in are wanted.

    Raises:
        InputError: There is no photo at all.
        UsageError: Two photos would write one file, or a result would overwrite a photo.
    """
    tasks: list[Task | Unusable] = []
    for given in inputs:
        for photo, place in _find(Path(given), out):
            tasks.append(place if isinstance(place, Unusable) else _task(photo, out / place, probs, overlay))
    if not any(isinstance(task, Task) for task in tasks):
        problems = [task.error for task in tasks if isinstance(task, Unusable)]
        raise problems[0] if len(problems) == 1 else InputError(f"no photo in any of {len(problems)} inputs")
    return list(_without_clashes(tasks))


def _task(photo: Path, place: Path, probs: bool, overlay: bool) -> Task:
    def beside(ending: str) -> Path:
        return place.with_name(place.name + ending)

    return Task(
        photo,
        beside(".png"),
        beside(".probs.png") if probs else None,
        beside(".overlay.jpg") if overlay else None,
    )


def _find(given: Path, out: Path) -> Iterator[tuple[Path, Path | Unusable]]:
    """Give each photo with its place in the output folder, without ending."""
    if given.is_dir():
        found = list(_walk(given, out))
    elif os.path.lexists(given):
        found = [(given, Path(given.stem))]
    elif glob.has_magic(str(given)):
        names = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207  # Path.glob wants a folder to start from
        found = [pair for name in names for pair in _matched(Path(name), out)]
    else:
        found = [(given, Unusable(given, InputError("no such file or folder", path=given)))]
    if not found:
        reason = "no photo in this folder" if given.is_dir() else "no photo matches"
        kinds = " ".join(sorted(EXTENSIONS))
        found = [(given, Unusable(given, InputError(reason, path=given, remedy=f"photos end in {kinds}")))]
    yield from found


def _matched(path: Path, out: Path) -> Iterator[tuple[Path, Path | Unusable]]:
    if path.is_dir():
        yield from _walk(path, out)
    elif path.suffix.lower() in EXTENSIONS:
        yield path, Path(path.stem)


def _walk(folder: Path, out: Path) -> Iterator[tuple[Path, Path | Unusable]]:
    target = os.path.realpath(out)
    if os.path.realpath(folder) == target:
        raise UsageError("the output folder is the input folder", path=out, remedy="choose another with -o")
    problems: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=problems.append):
        here = Path(root)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and os.path.realpath(here / name) != target
        )
        for name in sorted(names):
            path = here / name
            if path.suffix.lower() in EXTENSIONS and not name.startswith("."):  # ._photo.jpg is macOS's, not a photo
                yield path, path.relative_to(folder).with_suffix("")
    for problem in problems:
        path = Path(problem.filename)
        yield path, Unusable(path, InputError(f"cannot be read: {problem.strerror}", path=path))


def _without_clashes(tasks: Iterable[Task | Unusable]) -> Iterator[Task | Unusable]:
    tasks = list(tasks)
    photos = {os.path.realpath(task.photo): task.photo for task in tasks if isinstance(task, Task)}
    writers: dict[Path, Path] = {}
    for task in tasks:
        if isinstance(task, Unusable):
            yield task
            continue
        other = next((writers[path] for path in task.outputs if path in writers), None)
        if other is not None and os.path.realpath(other) == os.path.realpath(task.photo):
            continue  # given twice, as by a folder and a file in it
        if other is not None:
            reason = f"{other} and {task.photo} would both write {task.mask.name}"
            raise UsageError(reason, remedy="rename one of them, or run them into separate folders")
        for path in task.outputs:
            if os.path.realpath(path) in photos:
                reason = f"the result of {task.photo} would overwrite this photo"
                raise UsageError(reason, path=path, remedy="choose another folder with -o")
            writers[path] = task.photo
        yield task


def make_folder(out: Path) -> None:
    """Make the output folder, so that a wrong one is noticed before the work.

    Raises:
        OutputError: It cannot be made, or is a file.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be made a folder: {error.strerror or error}", path=out) from error
