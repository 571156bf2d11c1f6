"""Write the results of one photo as its rows come: mask, probabilities, overlay, then its line in the journal.

Runs in a thread of its own; knows nothing about networks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import numpy.typing as npt

from cracktool.errors import CrackError
from cracktool.files import open_atomic
from cracktool.images import Mask, PngWriter, encode_jpeg
from cracktool.inference.events import Opened
from cracktool.inference.inputs import Task
from cracktool.inference.journal import Journal, Record
from cracktool.overlay import draw_overlay

Levels = npt.NDArray[np.uint8]
_WAITING_BANDS = 4


@dataclass(frozen=True)
class Done:
    """A photo whose results are written."""

    path: Path
    outputs: tuple[Path, ...]
    height: int
    width: int
    crack_fraction: float
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A photo, or an input, without results."""

    path: Path
    error: CrackError


class Rows:
    """The rows of one photo on their way from the engine to a writer, a few bands at most at a time.

    Args:
        task: The photo and its files.
        state: Size of the photo's file in bytes and time of its last change in ns, before it was read.
        opened: The photo's pixels, kept only where an overlay is wanted, and the size of its results.
        began: When the work on it began, by `time.perf_counter`.
    """

    def __init__(self, task: Task, state: tuple[int, int], opened: Opened[Any], began: float) -> None:
        self.task = task
        self.size, self.mtime_ns = state
        self.height, self.width = opened.shape
        self.image = opened.image if task.overlay is not None else None
        self.began = began
        self._queue: Queue[Levels | bool] = Queue(_WAITING_BANDS)

    def put(self, levels: Levels) -> None:
        """Append rows, uint8 (rows, width)."""
        self._queue.put(levels)

    def close(self, *, complete: bool) -> None:
        """Say that no rows follow; without `complete` the writer leaves no file."""
        self._queue.put(complete)

    def __iter__(self) -> Iterator[Levels]:
        while not isinstance(levels := self._queue.get(), bool):
            yield levels
        if not levels:
            raise Abandoned


class Abandoned(Exception):  # noqa: N818  # no caller sees it: the run was stopped in the middle of a photo
    """The rows of a photo ended early."""


def write_photo(rows: Rows, level: int, journal: Journal) -> Done | Failed:
    """Write what a task asks for; whatever happens, all its rows are taken.

    Args:
        rows: The photo and its rows from top to bottom.
        level: Crack from this level on.
        journal: Where finished photos are noted.
    """
    bands = iter(rows)
    try:
        return _write(rows, bands, level, journal)
    except CrackError as error:
        return Failed(rows.task.photo, error)
    finally:
        for _ in bands:  # else the engine would wait for ever to hand over the rest
            pass


def _write(rows: Rows, bands: Iterator[Levels], level: int, journal: Journal) -> Done:
    # A record of files that do not exist yet may come before their final names: a run killed in between does the photo
    # again. Where a file is replaced, the record comes after, lest the old file pass for the new one.
    task = rows.task
    is_new = not any(path.exists() for path in task.outputs)
    with ExitStack() as files:
        cracked = _write_bands(rows, bands, level, files)
        record = _record(rows, cracked, journal)
        if is_new:
            journal.append(record)
    if not is_new:
        journal.append(record)
    return Done(task.photo, task.outputs, rows.height, rows.width, record.crack_fraction, record.seconds)


def _write_bands(rows: Rows, bands: Iterator[Levels], level: int, files: ExitStack) -> int:
    def writer(path: Path) -> PngWriter:
        return PngWriter(files.enter_context(open_atomic(path)), rows.height, rows.width)

    task = rows.task
    masks = writer(task.mask)
    probs = writer(task.probs) if task.probs is not None else None
    kept: list[Mask] = []
    cracked = 0
    for levels in bands:
        mask = levels >= level
        cracked += int(np.count_nonzero(mask))
        masks.write(mask.view(np.uint8) * np.uint8(255))
        if probs is not None:
            probs.write(levels)
        if rows.image is not None:
            kept.append(mask)
    masks.close()
    if probs is not None:
        probs.close()
    if task.overlay is not None and rows.image is not None:
        drawn = draw_overlay(rows.image, np.concatenate(kept))
        files.enter_context(open_atomic(task.overlay)).write(encode_jpeg(drawn))
    return cracked


def _record(rows: Rows, cracked: int, journal: Journal) -> Record:
    task = rows.task
    return Record(
        path=str(task.photo),
        size=rows.size,
        mtime_ns=rows.mtime_ns,
        weights=journal.weights,
        options=journal.options,
        outputs=tuple(map(journal.name, task.outputs)),
        height=rows.height,
        width=rows.width,
        crack_fraction=round(cracked / (rows.height * rows.width), 8),
        seconds=round(time.perf_counter() - rows.began, 3),
    )
