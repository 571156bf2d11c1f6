"""Write files whole or not at all.

A reader of any output of this package sees the old file or the new one, never a part of it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cracktool.errors import OutputError


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
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", path=path) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _umask() -> int:
    # mkstemp makes files private; the result should have the rights of any other new file.
    current = os.umask(0o022)
    os.umask(current)
    return current
