"""Where the tiles and results of a network lie, and what the engine does to them there.

Main memory here, in NumPy; `cracktool.inference.torch_network` has the memory of a PyTorch device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cracktool.metrics import quantise

Array = Any
"""An array of the memory's own kind: it has a shape, and ``+``, ``*``, ``+=``, ``sum()`` and slices as in NumPy."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

CPU_BATCH_PIXELS = 512 * 512  # two cores: 37 ms per tile of 256 in batches of 4, 45 ms alone; nothing gained at 512


class Memory(Protocol):
    """What the engine does with arrays.

    Attributes:
        name: The device, as a GPU calls itself; cpu for main memory.
        lag: Results that may be on their way to main memory while the network computes the next.
        exhausted: What is raised when it is full.
    """

    name: str
    lag: int
    exhausted: tuple[type[Exception], ...]

    def batch_pixels(self) -> int:
        """Return the pixels of a batch that suits the device."""
        ...

    def upload(self, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Array:
        """Return uint8 pixels of a shape, written by `fill` into main memory."""
        ...

    def upload_rows(self, pixels: Pixels, new: int, before: Array | None) -> Array | None:
        """Send the pixels of a row of tiles, uint8 (rows, width, 3), to the device; None where there is no way to go.

        Args:
            pixels: All rows.
            new: How many of them, the lowest ones, have not been sent yet.
            before: What this gave for the row of tiles above.
        """
        ...

    def stack(self, tiles: Sequence[Array]) -> Array:
        """Return tiles of the device as one array."""
        ...

    def constant(self, values: Floats) -> Array:
        """Return a float32 array that is only read."""
        ...

    def zeros(self, shape: tuple[int, int]) -> Array:
        """Return a float32 array of zeros."""
        ...

    def copy(self, array: Array) -> Array:
        """Return an array of its own."""
        ...

    def flip(self, array: Array, axes: Sequence[int]) -> Array:
        """Return an array with some axes turned round."""
        ...

    def quantise(self, probs: Array) -> Array:
        """Return uint8 levels of probabilities, as `cracktool.metrics.quantise` does."""
        ...

    def download(self, array: Array) -> Callable[[], npt.NDArray[Any]]:
        """Send an array to main memory; what is returned waits until it is there."""
        ...

    def release(self) -> None:
        """Give back what is kept for reuse."""
        ...


class MainMemory:
    """Arrays of NumPy."""

    name = "cpu"
    lag = 0
    exhausted: tuple[type[Exception], ...] = ()

    def batch_pixels(self) -> int:
        """Return the pixels of a batch that suits a CPU."""
        return CPU_BATCH_PIXELS

    def upload(self, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
        """Return uint8 pixels of a shape, written by `fill`."""
        pixels = np.empty(shape, np.uint8)
        fill(pixels)
        return pixels

    def upload_rows(self, pixels: Pixels, new: int, before: Array | None) -> None:
        """Leave the pixels where they are."""

    def stack(self, tiles: Sequence[Pixels]) -> Pixels:
        """Return tiles as one array."""
        return np.stack(tiles)

    def constant(self, values: Floats) -> Floats:
        """Return the values themselves."""
        return values

    def zeros(self, shape: tuple[int, int]) -> Floats:
        """Return float32 zeros."""
        return np.zeros(shape, np.float32)

    def copy(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return an array of its own."""
        return array.copy()

    def flip(self, array: npt.NDArray[Any], axes: Sequence[int]) -> npt.NDArray[Any]:
        """Return a view with some axes turned round."""
        return np.flip(array, tuple(axes))

    def quantise(self, probs: Floats) -> Pixels:
        """Return uint8 levels of probabilities."""
        with np.errstate(invalid="ignore"):  # what is no number is told by its sum, not by a warning on stderr
            return quantise(probs)

    def download(self, array: npt.NDArray[Any]) -> Callable[[], npt.NDArray[Any]]:
        """Return the array when it is asked for."""
        return lambda: array

    def release(self) -> None:
        """Keep nothing, so give nothing back."""
