"""Decode photos ahead of their use; what goes wrong with one travels with it.

Knows nothing about networks or tiles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from cracktool.errors import CrackError, InputError
from cracktool.images import Image

T = TypeVar("T")


def decoded(items: Iterable[T], read: Callable[[T], Image], ahead: int) -> Iterator[tuple[T, Image | CrackError]]:
    """Decode photos by threads, `ahead` of the one in use, and give them in order.

    Args:
        items: What stands for a photo; drawn only as far as decoding goes.
        read: Makes RGB pixels uint8 (H, W, 3) of an item.
        ahead: Photos that wait decoded at most.

    Yields:
        Each item with its pixels, or with the `CrackError` that reading it raised.
    """
    waiting: deque[tuple[T, Future[Image | CrackError]]] = deque()
    pool = ThreadPoolExecutor(max(ahead, 1), thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append((item, pool.submit(_read, read, item)))
            if len(waiting) > ahead:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _first(waiting: deque[tuple[T, Future[Image | CrackError]]]) -> tuple[T, Image | CrackError]:
    item, future = waiting.popleft()
    return item, future.result()


def _read(read: Callable[[T], Image], item: T) -> Image | CrackError:
    try:
        image = read(item)
        shape = np.shape(image)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or image.dtype != np.uint8:
            raise InputError(f"not an RGB photo uint8 (height, width, 3), but {image.dtype} {shape}")
    except CrackError as error:
        return error
    return image
