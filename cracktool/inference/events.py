"""What happens to a photo on its way through the engine, as data.

Knows nothing about networks or tiles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from cracktool.errors import CrackError, WeightsError
from cracktool.images import Mask
from cracktool.inference.strips import Photo

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True)
class Opened(Generic[T]):
    """The rows of a photo begin: `image` is its pixels or what gives them, `shape` is (height, width) of the result."""

    item: T
    image: Photo
    shape: tuple[int, int]


@dataclass(frozen=True)
class Band(Generic[T]):
    """Finished rows of a photo from row `top` on, uint8 levels (rows, width); where it shows something (None: all)."""

    item: T
    top: int
    levels: npt.NDArray[Any]
    valid: Mask | None = None


@dataclass(frozen=True)
class Finished(Generic[T]):
    """All rows of a photo were given."""

    item: T


@dataclass(frozen=True)
class Broken(Generic[T]):
    """A photo could not be read; it has no further event."""

    item: T
    error: CrackError


Event = Opened[T] | Band[T] | Finished[T] | Broken[T]
"""What `Predictor.bands` gives: for each photo Opened, its Bands, Finished; or Broken alone."""


@dataclass(frozen=True)
class Leaving(Generic[T]):
    """Rows on their way from the device to main memory, and the sum of their probabilities; both wait to be asked."""

    item: T
    top: int
    wait: Callable[[], npt.NDArray[Any]]
    total: Callable[[], npt.NDArray[Any]]
    valid: Mask | None = None

    def band(self) -> Band[T] | Broken[T]:
        """Return the rows once they have arrived, 0 where the photo shows nothing; or that they are no numbers."""
        if np.isnan(self.total()):
            reason = "the network gives values that are no numbers (NaN)"
            return Broken(self.item, WeightsError(reason, remedy="try --dtype float32, or other weights"))
        levels = self.wait()
        return Band(self.item, self.top, levels if self.valid is None else levels * self.valid, self.valid)


def arrived(events: Iterable[Event[T] | Leaving[T]], lag: int) -> Iterator[Event[T]]:
    """Wait for rows that leave the device, each only when `lag` later events are under way.

    What comes of a photo after it was found to be broken is left out.
    """
    broken = False
    for event in _delayed(events, lag):
        if isinstance(event, Opened | Broken):  # the next photo
            broken = False
        if not broken:
            there = event.band() if isinstance(event, Leaving) else event
            broken = isinstance(there, Broken)
            yield there


def _delayed(events: Iterable[V], lag: int) -> Iterator[V]:
    waiting: deque[V] = deque()
    for event in events:
        waiting.append(event)
        if len(waiting) > lag:
            yield waiting.popleft()
    yield from waiting
