"""Photos in files and folders -> masks in an output folder, one result after another.

Finds, runs, writes and remembers; prints nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from cracktool.errors import CrackError, OutputError, UsageError
from cracktool.files import make_folder
from cracktool.images import MAX_PIXELS, encode_png, read_image, read_size
from cracktool.inference.decode import answer
from cracktool.inference.engine import Predictor
from cracktool.inference.events import Band, Broken, Opened
from cracktool.inference.inputs import Task, Unusable, plan_tasks
from cracktool.inference.journal import FailureList, Journal, Record, file_state
from cracktool.inference.rasters import GeoRaster
from cracktool.inference.strips import Photo
from cracktool.inference.videos import VideoReader, write_video
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
        shard: (i, n) for the i-th of n parts of the work, which depends on the names of the results alone.
        every: Of a video, frames from one that is run to the next.
        smooth: Of a video, what the past counts at each frame, 0 to below 1.
        max_pixels: Larger photos are refused, unless they are read by rows.

    Raises:
        UsageError: A value is out of range.
    """

    probs: bool = False
    overlay: bool = False
    overwrite: bool = False
    resume: bool = False
    dry_run: bool = False
    shard: tuple[int, int] | None = None
    every: int = 1
    smooth: float = 0.0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"every is {self.every}, but must be 1 or more", remedy="10 is every tenth frame")
        if not 0 <= self.smooth < 1:
            raise UsageError(f"smooth is {self.smooth:g}, but must be from 0 to below 1", remedy="try 0.5")

    @property
    def part(self) -> str | None:
        """The name of this part of the work, None for the whole."""
        return None if self.shard is None else f"{self.shard[0]}-of-{self.shard[1]}"

    def of_results(self) -> dict[str, object]:
        """Return what decides the pixels of results besides the predictor; empty where nothing is out of the usual."""
        usual = FolderOptions()
        names = ("every", "smooth")
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(usual, name)}


@dataclass(frozen=True)
class Skipped:
    """A photo that this run's own earlier part finished."""

    path: Path
    outputs: tuple[Path, ...]
    height: int
    width: int
    crack_fraction: float
    page: int = 0


@dataclass(frozen=True)
class Planned:
    """A photo that would be done but for `dry_run`; of a video, `frames` is how many its header promises to be run."""

    path: Path
    outputs: tuple[Path, ...]
    height: int
    width: int
    frames: int = 1


Result = Done | Skipped | Failed | Planned


def infer_folder(
    predictor: Predictor,
    inputs: Sequence[str | Path],
    out: Path,
    options: FolderOptions | None = None,
    *,
    stop: threading.Event | None = None,
) -> Iterator[Result]:
    """Run photos and write a mask for each: OUT/sub/STEM.png, 0 and 255.

    A photo with a place on Earth (GeoTIFF, JP2; with the extra ``geo``) gets a GeoTIFF of the same place, STEM.tif;
    each page of a multi-page file its own mask, STEM.page2.png; a video a folder of masks, STEM.frames/000123.png.

    A photo whose results are there already is skipped when the journal in `out` says that these weights and options
    made them from this very photo, and fails otherwise; where some of them are missing, only those are written. A
    killed run started again does only what is missing.

    Args:
        predictor: Runs the photos.
        inputs: Files, folders (with their sub-folders, which are kept in the output) and glob patterns.
        out: Folder of the results, made where it is missing.
        options: What is written, and what happens with files that are there.
        stop: Once it is set, no further photo is begun; those under way are finished.

    Returns:
        The results in the order of the inputs, as the work goes on; a photo that fails does not stop the others, and is
        noted in OUT/crack-failures.jsonl.

    Raises:
        InputError: There is no photo at all.
        UsageError: Two photos would write one file, a result would overwrite a photo, or `resume` does not fit.
        OutputError: The output folder cannot be made.

    Example:
        >>> for result in infer_folder(predictor, ["photos"], Path("masks")):
        ...     print(result.path, result.error if isinstance(result, Failed) else result.outputs)
    """
    options = options or FolderOptions()
    verdicts, journal = plan_work(predictor, inputs, out, options)
    if options.dry_run:
        timeout = predictor.timeout
        return (_planned(task, options, timeout) if verdict is None else verdict for task, verdict in verdicts)
    make_folder(out)
    results = _results(predictor, verdicts, journal, options, stop or threading.Event())
    return noted(results, FailureList(out, options.part))


def plan_work(
    predictor: Predictor, inputs: Sequence[str | Path], out: Path, options: FolderOptions
) -> tuple[list[tuple[Task | Unusable, Result | None]], Journal]:
    """Find what is to be done: each task with its result where it needs no work, and the journal of the folder.

    Raises:
        InputError: There is no photo at all.
        UsageError: Two photos would write one file, a result would overwrite a photo, or `resume` does not fit.
    """
    tasks = plan_tasks(inputs, out, probs=options.probs, overlay=options.overlay, shard=options.shard)
    journal = open_journal(predictor, out, options, options.part)
    if options.resume:
        journal.refuse_others()
    verdicts = [(task, _verdict(task, journal, options)) for task in tasks]
    if not options.overwrite:
        verdicts = [(task if verdict else _sparing(task), verdict) for task, verdict in verdicts]
    return verdicts, journal


def open_journal(predictor: Predictor, out: Path, options: FolderOptions, part: str | None) -> Journal:
    """Return the journal of an output folder, as one part of the work sees it."""
    return Journal(out, predictor.network.digest, predictor.settings() | options.of_results(), part)


def infer_bytes(predictor: Predictor, photo: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return the mask, as a PNG file's bytes, of a photo file or of the bytes of one.

    Raises:
        InputError: It is no picture, cut short, or of more than `max_pixels`.
    """
    image = read_image(photo, max_pixels=max_pixels)
    return encode_png(predictor.mask(image).view(np.uint8) * np.uint8(255))


def _verdict(task: Task | Unusable, journal: Journal, options: FolderOptions) -> Result | None:
    """Return the result of a task that needs no work, else None."""
    if isinstance(task, Unusable):
        return Failed(task.path, task.error)
    there = [path for path in task.outputs if os.path.lexists(path)]
    if options.overwrite or not there:
        return None
    records: list[Record] = []
    for path in there:
        record = journal.own(task.photo, path)
        if record is None:
            reason = "exists already, and is not finished work of these weights and options on this photo"
            error = OutputError(reason, path=path, remedy="use --overwrite, or another folder with -o")
            return Failed(task.photo, error)
        records.append(record)
    if len(there) < len(task.outputs):
        return None
    record = records[0]
    return Skipped(task.photo, task.outputs, record.height, record.width, record.crack_fraction, task.page)


def _sparing(task: Task | Unusable) -> Task | Unusable:
    """Leave alone what is there already, such as a mask that somebody has mended since."""
    if isinstance(task, Unusable):
        return task
    return replace(task, kept=frozenset(path for path in task.outputs if os.path.lexists(path)))


def _planned(task: Task | Unusable, options: FolderOptions, timeout: float) -> Planned | Failed:
    assert isinstance(task, Task)  # the other kind has its verdict
    try:
        height, width, frames = answer(partial(_size, task, options), timeout)
    except CrackError as error:
        return Failed.of(task, error)
    return Planned(task.photo, task.outputs, height, width, frames)


def _size(task: Task, options: FolderOptions) -> tuple[int, int, int]:
    if task.is_video:
        reader = VideoReader(task.photo)
        return *reader.shape_claimed(), -(-reader.frames_claimed() // options.every)
    if task.by_rows:
        raster = GeoRaster(task.photo)
        return raster.height, raster.width, 1
    return *read_size(task.photo, page=task.page, max_pixels=options.max_pixels), 1


def noted(results: Iterator[Result], failures: FailureList) -> Iterator[Result]:
    """Give results on, and note those that are failures."""
    for result in results:
        if isinstance(result, Failed):
            failures.note(result.path, result.error)
        yield result


def _results(
    predictor: Predictor,
    verdicts: Sequence[tuple[Task | Unusable, Result | None]],
    journal: Journal,
    options: FolderOptions,
    stop: threading.Event,
) -> Iterator[Result]:
    tasks = (task for task, verdict in verdicts if verdict is None and isinstance(task, Task) and not stop.is_set())
    done = run_tasks(predictor, tasks, journal, options)
    for _, verdict in verdicts:
        result = verdict if verdict is not None else next(done, None)
        if result is None:  # stopped
            return
        yield result


def run_tasks(
    predictor: Predictor, tasks: Iterable[Task], journal: Journal, options: FolderOptions
) -> Iterator[Done | Failed]:
    """Run photos and videos and write what their tasks ask for, whatever is there; the results come in order."""
    for are_videos, group in groupby(tasks, key=lambda task: task.is_video):
        if are_videos:
            for task in group:
                yield write_video(predictor, task, journal, every=options.every, smooth=options.smooth)
        else:
            yield from _written(predictor, group, journal, options)


def _written(
    predictor: Predictor, tasks: Iterable[Task], journal: Journal, options: FolderOptions
) -> Iterator[Done | Failed]:
    results: deque[Future[Done | Failed]] = deque()
    rows: Rows | None = None
    began = time.perf_counter()
    pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="write")
    try:
        for event in predictor.bands(map(_with_state, tasks), lambda item: _read(item[0], options)):
            if isinstance(event, Opened):
                rows = Rows(*event.item, event, began)
                results.append(pool.submit(write_photo, rows, predictor.level, journal))
            elif isinstance(event, Band) and rows is not None:
                rows.put(event)
            elif isinstance(event, Broken) and rows is None:
                results.append(_settled(Failed.of(event.item[0], event.error)))
            elif rows is not None:
                rows.close(event.error if isinstance(event, Broken) else None)
                rows, began = None, time.perf_counter()
            while results and (results[0].done() or len(results) > _WAITING_RESULTS):
                yield results.popleft().result()
        while results:
            yield results.popleft().result()
    finally:
        if rows is not None:
            rows.close(CrackError("the run was stopped"))
        pool.shutdown()


def _with_state(task: Task) -> tuple[Task, tuple[int, int]]:
    # Taken before the photo is read: one that changes meanwhile is done again by the next run.
    return task, file_state(task.photo)


def _read(task: Task, options: FolderOptions) -> Photo:
    if task.by_rows:
        return GeoRaster(task.photo)
    return read_image(task.photo, page=task.page, max_pixels=options.max_pixels)


def _settled(result: Failed) -> Future[Done | Failed]:
    future: Future[Done | Failed] = Future()
    future.set_result(result)
    return future
