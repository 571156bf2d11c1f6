"""Photos in files and folders -> masks in an output folder, one result after another.

Finds, runs, writes and remembers; prints nothing.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cracktool.errors import OutputError
from cracktool.images import Image, encode_png, read_image
from cracktool.inference.engine import Predictor
from cracktool.inference.events import Band, Broken, Opened
from cracktool.inference.inputs import Task, Unusable, make_folder, plan_tasks
from cracktool.inference.journal import Journal, Record, file_state
from cracktool.inference.writing import Done, Failed, Rows, write_photo

_WRITERS = 4
_WAITING_RESULTS = 16


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """What is written, and what happens with files that are there.

    Args:
        probs: Write probabilities too, as 8-bit STEM.probs.png.
        overlay: Write the photo with the crack drawn in too, as STEM.overlay.jpg. Holds the whole mask.
        overwrite: Do every photo, replacing files that are there.
        resume: Refuse an output folder that holds work of other weights or options.
        dry_run: Only say what would be done.
    """

    probs: bool = False
    overlay: bool = False
    overwrite: bool = False
    resume: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Skipped:
    """A photo that this run's own earlier part finished."""

    path: Path
    outputs: tuple[Path, ...]
    height: int
    width: int
    crack_fraction: float


@dataclass(frozen=True)
class Planned:
    """A photo that would be done but for `dry_run`."""

    path: Path
    outputs: tuple[Path, ...]


Result = Done | Skipped | Failed | Planned


def infer_folder(
    predictor: Predictor, inputs: Sequence[str | Path], out: Path, options: FolderOptions | None = None
) -> Iterator[Result]:
    """Run photos and write a mask for each: OUT/sub/STEM.png, 0 and 255.

    A photo whose results are there already is skipped when the journal in `out` says that these weights and options
    made them from this very photo, and fails otherwise. A killed run started again does only what is missing.

    Args:
        predictor: Runs the photos.
        inputs: Files, folders (with their sub-folders, which are kept in the output) and glob patterns.
        out: Folder of the results, made where it is missing.
        options: What is written, and what happens with files that are there.

    Returns:
        The results in the order of the inputs, as the work goes on; a photo that fails does not stop the others.

    Raises:
        InputError: There is no photo at all.
        UsageError: Two photos would write one file, a result would overwrite a photo, or `resume` does not fit.
        OutputError: The output folder cannot be made.

    Example:
        >>> for result in infer_folder(predictor, ["photos"], Path("masks")):
        ...     print(result.path, result.error if isinstance(result, Failed) else result.outputs)
    """
    options = options or FolderOptions()
    tasks = plan_tasks(inputs, out, probs=options.probs, overlay=options.overlay)
    journal = Journal(out, predictor.network.digest, predictor.settings())
    if options.resume:
        journal.refuse_others()
    verdicts = [(task, _verdict(task, journal, options)) for task in tasks]
    if not options.dry_run:
        make_folder(out)
    return _results(predictor, verdicts, journal)


def infer_bytes(predictor: Predictor, photo: Path | bytes) -> bytes:
    """Return the mask, as a PNG file's bytes, of a photo file or of the bytes of one.

    Raises:
        InputError: It is no picture, or cut short.
    """
    return encode_png(predictor.mask(read_image(photo)).view(np.uint8) * np.uint8(255))


def _verdict(task: Task | Unusable, journal: Journal, options: FolderOptions) -> Result | None:
    """Return the result of a task that needs no work, else None."""
    if isinstance(task, Unusable):
        return Failed(task.path, task.error)
    work = Planned(task.photo, task.outputs) if options.dry_run else None
    there = [path for path in task.outputs if os.path.lexists(path)]
    if options.overwrite or not there:
        return work
    records: list[Record] = []
    for path in there:
        record = journal.own(task.photo, path)
        if record is None:
            reason = "exists already, and is not finished work of these weights and options on this photo"
            error = OutputError(reason, path=path, remedy="use --overwrite, or another folder with -o")
            return Failed(task.photo, error)
        records.append(record)
    if len(there) < len(task.outputs):
        return work
    record = records[0]
    return Skipped(task.photo, task.outputs, record.height, record.width, record.crack_fraction)


def _results(
    predictor: Predictor, verdicts: Sequence[tuple[Task | Unusable, Result | None]], journal: Journal
) -> Iterator[Result]:
    tasks = (task for task, verdict in verdicts if verdict is None and isinstance(task, Task))
    done = _written(predictor, tasks, journal)
    for _, verdict in verdicts:
        yield verdict if verdict is not None else next(done)


def _written(predictor: Predictor, tasks: Iterable[Task], journal: Journal) -> Iterator[Result]:
    results: deque[Future[Done | Failed]] = deque()
    rows: Rows | None = None
    began = time.perf_counter()
    pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="write")
    try:
        for event in predictor.bands(map(_with_state, tasks), _read):
            if isinstance(event, Opened):
                rows = Rows(*event.item, event, began)
                results.append(pool.submit(write_photo, rows, predictor.level, journal))
            elif isinstance(event, Band) and rows is not None:
                rows.put(event.levels)
            elif isinstance(event, Broken):
                results.append(_settled(Failed(event.item[0].photo, event.error)))
            elif rows is not None:
                rows.close(complete=True)
                rows, began = None, time.perf_counter()
            while results and (results[0].done() or len(results) > _WAITING_RESULTS):
                yield results.popleft().result()
        while results:
            yield results.popleft().result()
    finally:
        if rows is not None:
            rows.close(complete=False)
        pool.shutdown()


def _with_state(task: Task) -> tuple[Task, tuple[int, int]]:
    # Taken before the photo is read: one that changes meanwhile is done again by the next run.
    return task, file_state(task.photo)


def _read(item: tuple[Task, tuple[int, int]]) -> Image:
    return read_image(item[0].photo)


def _settled(result: Failed) -> Future[Done | Failed]:
    future: Future[Done | Failed] = Future()
    future.set_result(result)
    return future
