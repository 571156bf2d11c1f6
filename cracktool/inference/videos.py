"""Videos: every n-th frame to a folder of masks and a video with the crack drawn in.

A video is done whole or not at all: its results take their names when the last frame is done.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.errors import CrackError, InputError, OutputError
from cracktool.files import MAKE_ROOM, atomic_path
from cracktool.images import Image, encode_png
from cracktool.inference.decode import answer, prefetched
from cracktool.inference.engine import Predictor
from cracktool.inference.inputs import Task
from cracktool.inference.journal import Journal, Record, file_state
from cracktool.inference.writing import Done, Failed
from cracktool.overlay import draw_overlay

Levels = npt.NDArray[np.uint8]
_FRAMES_AHEAD = 4
_USUAL_FPS = 25.0  # of files that do not say theirs
_MOST_EXACT_FPS = 65  # OpenCV gives the rate in thousandths, and the codec takes 65,535 of them
_CODEC = "mp4v"  # the one that every build of OpenCV writes
_WHOLE = 0.9  # of the frames promised; a few are lacking in many a video that is whole


@dataclass(frozen=True)
class Frame:
    """One frame of a video: its number from 0 on, and its pixels uint8 (H, W, 3)."""

    number: int
    image: Image


class VideoReader:
    """Every n-th frame of a file that OpenCV opens, upright.

    Args:
        path: The video.
        every: 1 for all frames, 2 for every other one, ...

    Attributes:
        fps: Frames of the source per second.
        count: Frames of the source that went by so far.

    Raises:
        InputError: The file is missing or no video.

    Example:
        >>> [frame.number for frame in VideoReader(Path("walk.mp4"), every=10)]
        [0, 10, 20]
    """

    def __init__(self, path: Path, every: int = 1) -> None:
        self._path, self._every = path, every
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong with a file is said by an exception
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            try:
                path.open("rb").close()
            except OSError as error:
                raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error
            remedy = "make an .mp4 of it: ffmpeg -i VIDEO video.mp4"
            raise InputError("not a video that OpenCV can open", path=path, remedy=remedy)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and fps > 0 else _USUAL_FPS
        self.count = 0

    def frames_claimed(self) -> int:
        """Return how many frames the file's header promises, all of them; 0 where it does not say."""
        return max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def shape_claimed(self) -> tuple[int, int]:
        """Return height and width of the frames by the file's header."""
        sides = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        return int(self._capture.get(sides[0])), int(self._capture.get(sides[1]))

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames from where reading stands; `InputError` where there is none at all."""
        while self._capture.grab():
            number, self.count = self.count, self.count + 1
            if number % self._every == 0:
                done, pixels = self._capture.retrieve()
                if not done:
                    raise InputError(f"frame {number} cannot be decoded", path=self._path)
                yield Frame(number, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
        self._capture.release()
        if not self.count:
            raise InputError("no frame of it can be decoded", path=self._path, remedy="copy it again from its origin")


class VideoWriter:
    """Writes frames as an .mp4, whose sides are even: of odd ones the last row or column is there twice.

    Args:
        path: The file; its name ends in .mp4.
        fps: Frames per second.
        shape_hw: Height and width of the frames.

    Raises:
        OutputError: OpenCV cannot write it.
    """

    def __init__(self, path: Path, fps: float, shape_hw: tuple[int, int]) -> None:
        self._path, self._count = path, 0
        code = cv2.VideoWriter_fourcc(*_CODEC)  # type: ignore[attr-defined]
        rate = fps if fps <= _MOST_EXACT_FPS else round(fps)
        self._odd_hw = shape_hw[0] % 2, shape_hw[1] % 2
        sides = shape_hw[1] + self._odd_hw[1], shape_hw[0] + self._odd_hw[0]
        self._writer = cv2.VideoWriter(str(path), code, rate, sides)
        if not self._writer.isOpened():
            reason = f"OpenCV cannot write a video of {shape_hw[1]} x {shape_hw[0]} px there"
            raise OutputError(reason, remedy="leave --overlay out")

    def write(self, image: Image, times: int) -> None:
        """Append a frame, RGB uint8 (H, W, 3), to be seen for as long as `times` frames."""
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        pixels = cv2.copyMakeBorder(pixels, 0, self._odd_hw[0], 0, self._odd_hw[1], cv2.BORDER_REPLICATE)
        for _ in range(times):
            self._writer.write(pixels)
        self._count += times

    def close(self) -> None:
        """Write the end of the file; `OutputError` where not all of it is there, of which OpenCV says nothing."""
        self._writer.release()
        if cv2.VideoCapture(str(self._path)).get(cv2.CAP_PROP_FRAME_COUNT) != self._count:
            reason = "the video with the crack drawn in cannot be written whole"
            raise OutputError(reason, remedy=f"if the disk is full, {MAKE_ROOM}")


class Smoother:
    """Averages probabilities over time: a running mean in which older frames fade.

    Args:
        share: What the past counts at each frame, from 0 (nothing) to below 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._mean: npt.NDArray[np.float32] | None = None

    def __call__(self, levels: Levels) -> Levels:
        """Return the mean after one more frame, uint8 (H, W) as it came."""
        if not self._share:
            return levels
        now = levels.astype(np.float32)
        self._mean = now if self._mean is None else self._share * self._mean + (1 - self._share) * now
        smooth: Levels = np.rint(self._mean).astype(np.uint8)
        return smooth


def write_video(predictor: Predictor, task: Task, journal: Journal, *, every: int, smooth: float) -> Done | Failed:
    """Run a video and write what its task asks for: masks as STEM.frames/000123.png, by the number of the frame.

    Args:
        predictor: Runs the frames.
        task: The video and its results; the mask and the probabilities are folders.
        journal: Where finished work is noted.
        every: Frames from one that is run to the next. The overlay shows each for so long, at the source's rate.
        smooth: What the past counts at each frame, 0 to below 1.
    """
    began, state = time.perf_counter(), file_state(task.photo)
    is_new = not any(os.path.lexists(path) for path in task.outputs)
    try:
        with ExitStack() as files:
            reader = answer(partial(VideoReader, task.photo, every), predictor.timeout)
            run = _Run(predictor, task, files, reader, smooth)
            height, width, fraction = run.finish()
            record = Record.of(task, state, journal, (height, width), fraction, time.perf_counter() - began)
            if is_new:  # as for photos: see `writing`
                journal.append(record)
        if not is_new:
            journal.append(record)
    except CrackError as error:
        return Failed.of(task, error)
    return Done(task.photo, task.outputs, height, width, record.crack_fraction, record.seconds)


class _Run:
    """One video on its way into files that have no names yet."""

    def __init__(self, predictor: Predictor, task: Task, files: ExitStack, reader: VideoReader, smooth: float) -> None:
        self._photo = task.photo
        self._predictor, self._reader, self._smoother = predictor, reader, Smoother(smooth)
        mask, probs, overlay = (None if path in task.kept else path for path in (task.mask, task.probs, task.overlay))
        self._masks = None if mask is None else _new_folder(mask, files)
        self._probs = None if probs is None else _new_folder(probs, files)
        self._overlay = None if overlay is None else files.enter_context(atomic_path(overlay, overlay.suffix))
        self._writer: VideoWriter | None = None
        self._shown: tuple[int, Image] | None = None
        self._files = files

    def finish(self) -> tuple[int, int, float]:
        """Run all frames; return height, width and share of crack pixels over all of them."""
        cracked = pixels = height = width = 0
        promised = self._reader.frames_claimed()
        frames = prefetched(self._reader, _FRAMES_AHEAD, self._predictor.timeout)
        for frame, levels in self._predictor.stream(frames, lambda frame: frame.image):
            if isinstance(levels, CrackError):
                raise levels
            levels = self._smoother(levels)
            mask = levels >= self._predictor.level
            name = f"{frame.number:06d}.png"
            if self._masks is not None:
                _write(self._masks / name, mask.view(np.uint8) * np.uint8(255))
            if self._probs is not None:
                _write(self._probs / name, levels)
            if self._overlay is not None:
                self._show(frame.number, draw_overlay(frame.image, mask), self._overlay)
            height, width = levels.shape
            cracked, pixels = cracked + int(np.count_nonzero(mask)), pixels + mask.size
        if self._writer is not None and self._shown is not None:
            self._writer.write(self._shown[1], self._reader.count - self._shown[0])
            self._writer.close()
        if self._reader.count < _WHOLE * promised:
            there = f"{self._reader.count} of the {promised} frames that it promises"
            self._predictor.warnings.append(f"{self._photo}: only {there} can be decoded: is it cut short?")
        return height, width, cracked / pixels

    def _show(self, number: int, drawn: Image, path: Path) -> None:
        if self._writer is None:
            self._writer = VideoWriter(path, self._reader.fps, drawn.shape[:2])
        if self._shown is not None:
            self._writer.write(self._shown[1], number - self._shown[0])
        self._shown = number, drawn


def _new_folder(path: Path, files: ExitStack) -> Path:
    if path.is_dir() and any(not re.fullmatch(r"\d{6,}\.png", entry.name) for entry in path.iterdir()):
        raise OutputError("is a folder with other files in it", path=path, remedy="choose another folder with -o")
    folder = files.enter_context(atomic_path(path))
    folder.mkdir()
    return folder


def _write(path: Path, picture: Levels) -> None:
    path.write_bytes(encode_png(picture))
