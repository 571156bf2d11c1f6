"""Write files whole or not at all.

A reader of any output of this package sees the old file or the new one, never a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cracktool.errors import OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def replace_file(path: Path, data: bytes) -> None:
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
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        try:
            with _create(temporary) as file:
                yield file
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        remedy = "make room and run the same again" if error.errno in _FULL else ""
        raise OutputError(f"cannot be written: {error.strerror or error}", path=path, remedy=remedy) from error


def _create(path: Path) -> BinaryIO:
    try:
        return path.open("xb")
    except FileNotFoundError:  # seldom: asking for the folder first would cost as much as opening the file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


def leftovers(folder: Path) -> list[Path]:
    """Return what processes that were killed while writing have left below a folder: parts of files without a name.

    Example:
        >>> leftovers(Path("empty"))
        []
    """
    return [path for path in folder.rglob(".*.part") if re.fullmatch(r"\.[0-9a-f]{16}\.part", path.name)]
