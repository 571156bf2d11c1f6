"""Write the results of one photo as its rows come: mask, probabilities, overlay, then its line in the journal.

Runs in a thread of its own; knows nothing about networks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import numpy.typing as npt

from cracktool.errors import CrackError
from cracktool.files import atomic_path, open_atomic
from cracktool.images import Mask, PngWriter, encode_jpeg
from cracktool.inference.events import Band, Opened
from cracktool.inference.inputs import Task
from cracktool.inference.journal import Journal, Record
from cracktool.inference.rasters import GeoRaster, GeoWriter
from cracktool.overlay import draw_overlay

Levels = npt.NDArray[np.uint8]
Bands = tuple[Levels, Mask | None]
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
    page: int = 0


@dataclass(frozen=True)
class Failed:
    """A photo, or an input, without results."""

    path: Path
    error: CrackError

    @staticmethod
    def of(task: Task, error: CrackError) -> Failed:
        """Return the failure of a photo, which names it, also where the error came about without knowing the name."""
        return Failed(task.photo, error.about(task.photo))


class Rows:
    """The rows of one photo on their way from the engine to a writer, a few bands at most at a time.

    Args:
        task: The photo and its files.
        state: What `file_state` said of the photo before it was read.
        opened: The photo's pixels, kept only where an overlay is to be drawn, and the size of its results.
        began: When the work on it began, by `time.perf_counter`.
    """

    def __init__(self, task: Task, state: tuple[int, int], opened: Opened[Any], began: float) -> None:
        self.task, self.state, self.began = task, state, began
        self.height, self.width = opened.shape
        self.raster = opened.image if isinstance(opened.image, GeoRaster) else None
        self.overlay = None if task.overlay in task.kept else task.overlay
        self.image = opened.image if self.overlay is not None and isinstance(opened.image, np.ndarray) else None
        self._queue: Queue[Bands | CrackError | None] = Queue(_WAITING_BANDS)

    def put(self, band: Band[Any]) -> None:
        """Append rows."""
        self._queue.put((band.levels, band.valid))

    def close(self, error: CrackError | None = None) -> None:
        """Say that no rows follow; with an error the writer leaves no file."""
        self._queue.put(error)

    def __iter__(self) -> Iterator[Bands]:
        while isinstance(band := self._queue.get(), tuple):
            yield band
        if band is not None:
            raise band


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
        return Failed.of(rows.task, error)
    finally:
        with suppress(CrackError):
            for _ in bands:  # else the engine would wait for ever to hand over the rest
                pass


def _write(rows: Rows, bands: Iterator[Bands], level: int, journal: Journal) -> Done:
    # A record of files that do not exist yet may come before their final names: a run killed in between does the photo
    # again. Where a file is replaced, the record comes after, lest the old file pass for the new one.
    task = rows.task
    is_new = not any(os.path.lexists(path) for path in task.outputs)
    with ExitStack() as files:
        cracked = _write_bands(rows, bands, level, files)
        shape_hw = rows.height, rows.width
        share = cracked / (rows.height * rows.width)
        record = Record.of(task, rows.state, journal, shape_hw, share, time.perf_counter() - rows.began)
        if is_new:
            journal.append(record)
    if not is_new:
        journal.append(record)
    return Done(task.photo, task.outputs, rows.height, rows.width, record.crack_fraction, record.seconds, task.page)


def _write_bands(rows: Rows, bands: Iterator[Bands], level: int, files: ExitStack) -> int:
    task = rows.task
    masks = _writer(task.mask, rows, files)
    probs = _writer(task.probs, rows, files) if task.probs is not None else None
    kept: list[Mask] = []
    cracked = 0
    for levels, valid in bands:
        mask = levels >= level
        cracked += int(np.count_nonzero(mask))
        masks.write(mask.view(np.uint8) * np.uint8(255), valid)
        if probs is not None:
            probs.write(levels, valid)
        if rows.image is not None:
            kept.append(mask)
    masks.close()
    if probs is not None:
        probs.close()
    if rows.overlay is not None and rows.image is not None:
        drawn = draw_overlay(rows.image, np.concatenate(kept))
        files.enter_context(open_atomic(rows.overlay)).write(encode_jpeg(drawn))
    return cracked


def _writer(path: Path, rows: Rows, files: ExitStack) -> _Png | GeoWriter:
    if path in rows.task.kept:
        return _Png(files.enter_context(Path(os.devnull).open("wb")), rows.height, rows.width)
    if path.suffix != ".tif" or rows.raster is None:
        return _Png(files.enter_context(open_atomic(path)), rows.height, rows.width)
    writer = GeoWriter(files.enter_context(atomic_path(path)), rows.raster, rows.height, rows.width)
    files.callback(writer.abandon)  # before the file takes its name, or is removed
    return writer


class _Png(PngWriter):
    """A PNG has no place for where the photo shows nothing."""

    def write(self, rows: Levels, valid: Mask | None = None) -> None:
        super().write(rows)
