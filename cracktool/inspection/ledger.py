"""Which files of an output folder an inspection wrote itself, so that it replaces those and no others.

Reads and writes ``crack-measure.jsonl``: a line before a file is written, one with its state after.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cracktool.errors import OutputError
from cracktool.inference.journal import file_state

FILE_NAME = "crack-measure.jsonl"


class Ledger:
    """The ledger of one output folder.

    Args:
        folder: The output folder.
        overwrite: Whether any file may be replaced.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        self._folder = folder
        self._path = folder / FILE_NAME
        self._overwrite = overwrite
        self._states = _read(self._path)
        self._claimed: list[Path] = []

    def claim(self, path: Path) -> Path:
        """Return the path of a file that is about to be written.

        Raises:
            OutputError: It holds something that is not this tool's work, or was changed since.
        """
        name = path.relative_to(self._folder).as_posix()
        if os.path.lexists(path) and not self._overwrite:
            known = self._states.get(name, ())
            # An empty state: a run was stopped before it could say what it had written.
            if name not in self._states or (known and known != file_state(path)):
                reason = "was changed since" if name in self._states else "is not this tool's work"
                raise OutputError(f"exists already, and {reason}", path=path, remedy="move it away, or say --overwrite")
        self._append([(name, ())])
        self._claimed.append(path)
        return path

    def settle(self) -> tuple[Path, ...]:
        """Note the states of the claimed files that are there now, and return them."""
        paths = tuple(path for path in self._claimed if path.exists())
        self._claimed.clear()
        self._append([(path.relative_to(self._folder).as_posix(), file_state(path)) for path in paths])
        return paths

    def _append(self, entries: list[tuple[str, tuple[int, ...]]]) -> None:
        self._states.update(entries)
        lines = b"".join(json.dumps({"file": name, "state": state}).encode() + b"\n" for name, state in entries)
        try:
            with self._path.open("ab") as file:
                file.write(lines)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror or error}", path=self._path) from error


def _read(path: Path) -> dict[str, tuple[int, ...]]:
    states: dict[str, tuple[int, ...]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return states
    for line in lines:
        try:
            entry = json.loads(line)
            states[str(entry["file"])] = tuple(entry["state"])
        except (ValueError, TypeError, KeyError):  # the last run was killed in the middle of its line
            continue
    return states
