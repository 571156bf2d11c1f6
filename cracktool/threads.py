"""Work done by threads, its results in the order of the work; and how many processors there are for it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """Return how many processors this process may use, which in a container can be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # on Linux alone
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, waiting: int
) -> Iterator[Result]:
    """Apply a function in threads and give each result as soon as those before it are given.

    Args:
        function: What it raises is raised where its result was due.
        items: Drawn only as the work goes on.
        threads: How many items are worked on at the same time.
        waiting: How many items may be under way or done and not yet given, so memory stays bounded.

    Example:
        >>> list(in_order(len, ["a", "bcd"], threads=2, waiting=4))
        [1, 3]
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="work")
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            while begun and (begun[0].done() or len(begun) > waiting):
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # waits for what has begun, such as files being written
