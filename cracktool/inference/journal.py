"""What was finished in an output folder, and what failed: one JSON line per photo, so that a killed run can go on.

Reads and writes ``crack-infer.jsonl`` and ``crack-failures.jsonl``; never looks into a picture.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cracktool.errors import CrackError, InputError, OutputError, UsageError
from cracktool.files import is_folder
from cracktool.inference.inputs import Task

FILE_NAME = "crack-infer.jsonl"
FAILURES_NAME = "crack-failures.jsonl"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished photo.

    Args:
        path: The photo as it was given.
        size: Its size in bytes.
        mtime_ns: When it was last changed, in ns.
        weights: SHA-256 of the weights.
        options: Hash of every setting that decides the pixels of a result.
        outputs: The files written, relative to the output folder.
        height: Height of the upright photo in px.
        width: Width in px.
        crack_fraction: Share of crack pixels, 0 to 1.
        seconds: Time the photo took after the one before it.
        finished: When it was done, in seconds since 1970; 0 in journals of before.
    """

    path: str
    size: int
    mtime_ns: int
    weights: str
    options: str
    outputs: tuple[str, ...]
    height: int
    width: int
    crack_fraction: float
    seconds: float
    finished: float = 0.0

    @staticmethod
    def of(
        task: Task,
        state: tuple[int, int],
        journal: Journal,
        shape_hw: tuple[int, int],
        crack_fraction: float,
        seconds: float,
    ) -> Record:
        """Make the record of a task; `state` is what `file_state` said of the photo before it was read."""
        return Record(
            path=str(task.photo),
            size=state[0],
            mtime_ns=state[1],
            weights=journal.weights,
            options=journal.options,
            outputs=tuple(map(journal.name, task.outputs)),
            height=shape_hw[0],
            width=shape_hw[1],
            crack_fraction=round(crack_fraction, 8),
            seconds=round(seconds, 3),
            finished=round(time.time(), 3),
        )


class Journal:
    """The journal of one output folder, seen from one run.

    Args:
        folder: The output folder.
        weights: SHA-256 of this run's weights.
        settings: Everything else that decides the pixels of a result.
        part: Name of this run's part of the work, such as "2-of-8": each part writes a file of its own, since they may
            run on several machines, and reads all of them.
    """

    def __init__(self, folder: Path, weights: str, settings: Mapping[str, object], part: str | None = None) -> None:
        self.path = folder / part_name(FILE_NAME, part)
        self.weights = weights
        self.options = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self._folder = folder
        self._lock = threading.Lock()
        files = sorted({*(folder.glob("crack-infer.*jsonl") if is_folder(folder) else ()), self.path})
        records = sorted((record for file in files for record in _read(file)), key=lambda record: record.finished)
        self._by_output = {name: record for record in records for name in record.outputs}  # the last one counts

    def name(self, output: Path) -> str:
        """Return how the journal calls an output."""
        return output.relative_to(self._folder).as_posix()

    def own(self, photo: Path, output: Path) -> Record | None:
        """Return the record of an output that this very run would make from this very photo, or None."""
        record = self._by_output.get(self.name(output))
        if record is None or (record.weights, record.options) != (self.weights, self.options):
            return None
        return record if (record.size, record.mtime_ns) == file_state(photo) else None

    def refuse_others(self) -> None:
        """Raise UsageError when the folder has work of other weights or options."""
        for record in self._by_output.values():
            differs = "weights" if record.weights != self.weights else "options"
            if (record.weights, record.options) != (self.weights, self.options):
                reason = f"--resume, but the work in here was done with other {differs}"
                raise UsageError(reason, path=self.path, remedy="repeat the first command, or choose another folder")

    def append(self, record: Record) -> None:
        """Add a finished photo.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        line = json.dumps(asdict(record)).encode() + b"\n"
        try:
            with self._lock, self.path.open("ab+") as file:
                if file.tell() and not _ends_line(self.path):
                    line = b"\n" + line  # the last run was killed in the middle of its line
                file.write(line)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror or error}", path=self.path) from error


class FailureList:
    """The photos that failed in one run, one JSON line each, as they fail.

    Args:
        folder: The output folder. The list of the run before is emptied.
        part: Name of this run's part of the work.
    """

    def __init__(self, folder: Path, part: str | None = None) -> None:
        self._path = folder / part_name(FAILURES_NAME, part)
        with contextlib.suppress(OSError):  # as below
            if self._path.exists():
                self._path.write_bytes(b"")

    def note(self, path: Path, error: CrackError) -> None:
        """Add a photo; where even that cannot be written, as on a full disk, the caller still has the error itself."""
        values = {"path": str(path), "error": type(error).__name__, "reason": error.reason, "remedy": error.remedy}
        with contextlib.suppress(OSError), self._path.open("ab") as file:
            file.write(json.dumps(values).encode() + b"\n")


def part_name(name: str, part: str | None) -> str:
    """Return a file's name, for one part of the work with the part's name in it."""
    stem, _, ending = name.partition(".")
    return name if part is None else f"{stem}.{part}.{ending}"


def file_state(path: Path) -> tuple[int, int]:
    """Return size in bytes and time of the last change in ns; (-1, -1) for a file that cannot be reached."""
    try:
        state = path.stat()
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(path: Path) -> list[Record]:
    try:
        lines = path.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error
    return [record for record in map(_parse, lines) if record is not None]


def _parse(line: bytes) -> Record | None:
    # A torn line is a photo that was not finished: it is simply done again.
    try:
        values = json.loads(line)
        return Record(**{**values, "outputs": tuple(values["outputs"])})
    except (ValueError, TypeError, KeyError):
        return None
