"""Decode photos ahead of their use; what goes wrong with one travels with it.

Knows nothing about networks or tiles. Its threads are daemons: one that waits for a dead network drive for ever holds
up neither the other photos nor the end of the program.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswerError
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np

from cracktool.errors import CrackError, InputError
from cracktool.images import Image
from cracktool.inference.rasters import Raster

T = TypeVar("T")
V = TypeVar("V")

TIMEOUT = 300.0  # seconds; a photo of 268 megapixels is decoded in 10 on a slow machine


def decoded(
    items: Iterable[T], read: Callable[[T], Image | Raster], ahead: int, timeout: float = TIMEOUT
) -> Iterator[tuple[T, Image | Raster | CrackError]]:
    """Decode photos by threads, `ahead` of the one in use, and give them in order.

    Args:
        items: What stands for a photo; drawn only as far as decoding goes.
        read: Makes RGB pixels uint8 (H, W, 3) of an item, or what gives them by rows.
        ahead: Photos that wait decoded at most.
        timeout: Seconds that a photo is waited for once it is its turn; then it is given up, and its thread left alone.

    Yields:
        Each item with its pixels, or with the `CrackError` that reading it raised.
    """
    waiting: deque[tuple[T, Future[Image | Raster | CrackError]]] = deque()
    for item in items:
        waiting.append((item, _begin(read, item)))
        if len(waiting) > ahead:
            yield _first(waiting, timeout)
    while waiting:
        yield _first(waiting, timeout)


def prefetched(items: Iterable[V], ahead: int, timeout: float = TIMEOUT) -> Iterator[V]:
    """Draw items in a thread of their own, `ahead` of the one in use, the one being drawn counted in.

    Raises:
        InputError: The next item was waited for longer than `timeout` seconds.
    """
    drawn: SimpleQueue[tuple[V | None, BaseException | None]] = SimpleQueue()
    places = threading.Semaphore(max(ahead, 1))  # taken before an item is drawn, lest one more lies in memory
    stopped = threading.Event()
    threading.Thread(target=_draw, args=(iter(items), drawn, places, stopped), name="read", daemon=True).start()
    try:
        while True:
            try:
                item, error = drawn.get(timeout=timeout)
            except Empty as empty:
                raise _no_answer(timeout) from empty
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            places.release()
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        places.release()


def answer(call: Callable[[], V], timeout: float) -> V:
    """Return what a call gives, made in a thread of its own.

    Raises:
        InputError: It took longer than `timeout` seconds.
    """
    return next(prefetched((call() for _ in range(1)), 1, timeout))


def _begin(read: Callable[[T], Image | Raster], item: T) -> Future[Image | Raster | CrackError]:
    future: Future[Image | Raster | CrackError] = Future()

    def work() -> None:
        try:
            future.set_result(_read(read, item))
        except BaseException as error:  # noqa: BLE001  # it is raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=work, name="decode", daemon=True).start()
    return future


def _first(
    waiting: deque[tuple[T, Future[Image | Raster | CrackError]]], timeout: float
) -> tuple[T, Image | Raster | CrackError]:
    item, future = waiting.popleft()
    try:
        return item, future.result(timeout)
    except NoAnswerError:
        if future.done():  # an error of the reader's own, of the same kind
            raise
        return item, _no_answer(timeout)


def _no_answer(timeout: float) -> InputError:
    return InputError(f"gave no answer for {timeout:g} s", remedy="is its drive or its network still there?")


def _read(read: Callable[[T], Image | Raster], item: T) -> Image | Raster | CrackError:
    try:
        image = read(item)
        if isinstance(image, np.ndarray):
            _refuse_others(image)
    except CrackError as error:
        return error
    return image


def _refuse_others(image: Image) -> None:
    shape = image.shape
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or image.dtype != np.uint8:
        raise InputError(f"not an RGB photo uint8 (height, width, 3), but {image.dtype} {shape}")


def _draw(
    items: Iterator[V],
    drawn: SimpleQueue[tuple[V | None, BaseException | None]],
    places: threading.Semaphore,
    stopped: threading.Event,
) -> None:
    error: BaseException | None = None
    while error is None:
        places.acquire()
        if stopped.is_set():
            return
        try:
            drawn.put((next(items), None))
        except BaseException as end:  # noqa: BLE001  # it is raised again where the items are used
            error = end
            drawn.put((None, error))
