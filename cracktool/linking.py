"""What hangs together: things that pairs of links join, directly or over others.

Numbers in and out; knows nothing about what they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def lowest_linked(count: int, pairs: Sequence[tuple[int, int]] | Ints) -> Ints:
    """Return for each of the things 0 to `count` - 1 the lowest that links join it with, itself where none does.

    Every round hands the lower name over each link, and then over whole chains of names, so a few rounds do. What SciPy
    has for it takes 0.5 s to import.

    Args:
        count: How many things there are.
        pairs: Numbers of the two things that each link joins, (L, 2).

    Example:
        >>> lowest_linked(5, [(4, 2), (1, 4)]).tolist()
        [0, 1, 1, 3, 1]
    """
    lowest = np.arange(count, dtype=np.int64)
    one, two = np.asarray(pairs, np.int64).reshape(-1, 2).T
    while True:
        here, there = lowest[one], lowest[two]
        apart = here != there
        if not apart.any():
            return lowest
        one, two, here, there = one[apart], two[apart], here[apart], there[apart]
        np.minimum.at(lowest, np.maximum(here, there), np.minimum(here, there))
        while not np.array_equal(further := lowest[lowest], lowest):
            lowest = further


def spans(first: Ints, count: Ints) -> tuple[Ints, Ints]:
    """Return all numbers of N spans, (M,) each: which span a number is of, and the number.

    Args:
        first: First number of each span, (N,).
        count: How many follow each other from there on, (N,).

    Example:
        >>> [each.tolist() for each in spans(np.array([7, 0, 3]), np.array([2, 0, 3]))]
        [[0, 0, 2, 2, 2], [7, 8, 3, 4, 5]]
    """
    span = np.repeat(np.arange(len(count)), count)
    return span, first[span] + np.arange(len(span)) - (np.cumsum(count) - count)[span]
