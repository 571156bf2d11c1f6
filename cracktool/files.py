"""Write files whole or not at all.

A reader of any output of this package sees the old file or the new one, never a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cracktool.errors import OutputError

MAKE_ROOM = "make room and run the same again"
"""Remedy for a full disk."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Write a file in one step: under a temporary name beside it, then renamed.

    Raises:
        OutputError: The folder cannot be written, or the disk is full; nothing is left behind.
    """
    with open_atomic(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when the block ends well, and leaves nothing otherwise.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    # Not tempfile: its files are private, and the rights that a new file should have (the umask) can only be asked for
    # by changing them, for all threads at once.
    with atomic_path(path) as temporary, temporary.open("xb") as file:
        yield file


@contextlib.contextmanager
def atomic_path(path: Path, ending: str = "") -> Iterator[Path]:
    """Give a name beside `path` for a library to write; what is there becomes `path` when the block ends well.

    What was written may be a folder too; then a folder that is there is put aside and removed after the exchange.

    Args:
        path: The name in the end.
        ending: Of the name until then, for libraries that go by it.

    Raises:
        OutputError: The folder cannot be written, or the disk is full; nothing is left behind.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part{ending}")
    try:
        try:
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _exchange(temporary, path)
        except BaseException:
            _remove(temporary)
            raise
    except OSError as error:
        remedy = MAKE_ROOM if error.errno in _FULL else ""
        raise OutputError(f"cannot be written: {error.strerror or error}", path=path, remedy=remedy) from error


def _exchange(temporary: Path, path: Path) -> None:
    if not (temporary.is_dir() and path.is_dir()):
        temporary.replace(path)
        return
    old = path.with_name(f".{secrets.token_hex(8)}.part")  # a folder can only take the name of an empty one
    path.replace(old)
    temporary.replace(path)
    shutil.rmtree(old)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def is_file(path: str | Path) -> bool:
    """Return whether a file is there; unlike ``Path.is_file``, False too where one may not even look for it."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | Path) -> bool:
    """Return whether a folder is there; unlike ``Path.is_dir``, False too where one may not even look for it."""
    return os.path.isdir(path)  # noqa: PTH112


def make_folder(out: Path) -> None:
    """Make the output folder, so that a wrong one is noticed before the work.

    Raises:
        OutputError: It cannot be made or written, or is a file.
    """
    remedy = "choose another folder with -o"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be made a folder: {error.strerror or error}", path=out, remedy=remedy) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise OutputError("cannot be written: Permission denied", path=out, remedy=remedy)


def relative(path: str | Path, folder: Path) -> str:
    """Return the way from a folder to a file, with forward slashes; empty where it is on another drive of Windows.

    Example:
        >>> relative("data/images/a.png", Path("data/sheets"))
        '../images/a.png'
    """
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return ""


def printable(name: str) -> str:
    r"""Return a file's name with ? for each character that XML cannot hold.

    Example:
        >>> printable("a\x01b.jpg")
        'a?b.jpg'
    """
    return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", name)


def is_by_product(path: Path) -> bool:
    """Return whether `crack infer` writes such a file beside masks: probabilities, or a photo with the crack drawn in.

    Example:
        >>> [is_by_product(Path(name)) for name in ("a/x.probs.png", "film.probs/000001.png", "x.png")]
        [True, True, False]
    """
    return path.stem.endswith((".probs", ".overlay")) or any(part.endswith(".probs") for part in path.parts[:-1])


def leftovers(folder: Path) -> list[Path]:
    """Return what processes that were killed while writing have left below a folder: parts of files without a name.

    Example:
        >>> leftovers(Path("empty"))
        []
    """
    return [path for path in folder.rglob(".*.part*") if re.fullmatch(r"\.[0-9a-f]{16}\.part(\.\w+)?", path.name)]
