"""Blend the tiles of one photo into finished rows, holding one tile's height of them.

Sees probabilities in any order of columns, rows of tiles from top to bottom; knows no network and no file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cracktool.inference.memory import Array, Memory
from cracktool.tiles import Axis

T = TypeVar("T")


class RowBand:
    """The rows of a photo that are not final yet, float32 (tile, padded width) on the device.

    Args:
        rows: Tiles down.
        columns: Tiles across.
        memory: Where the probabilities lie.
    """

    def __init__(self, rows: Axis, columns: Axis, memory: Memory) -> None:
        self._rows, self._columns, self._memory = rows, columns, memory
        self._row_weights, self._column_weights = (memory.constant(axis.weights()) for axis in (rows, columns))
        self._sum = memory.zeros((rows.tile, columns.padded))

    def add(self, row: int, column: int, probs: Array) -> None:
        """Add one tile, float32 (tile height, tile width), with its weights."""
        start = self._columns.starts[column]
        weights = self._row_weights[row][:, None] * self._column_weights[column]
        self._sum[:, start : start + self._columns.tile] += probs * weights

    def finish(self, row: int, make: Callable[[Array], T]) -> T:
        """Return what is made of the rows above the next row of tiles, float32 (rows, width), and forget them.

        Args:
            row: The row of tiles whose last tile was added.
            make: Makes of them what shares no memory with them.
        """
        starts, length = self._rows.starts, self._rows.length
        if row == len(starts) - 1:
            return make(self._sum[: length - starts[row], : self._columns.length])
        step = starts[row + 1] - starts[row]
        done = make(self._sum[:step, : self._columns.length])
        kept = self._rows.tile - step
        self._sum[:kept] = self._memory.copy(self._sum[step:])
        self._sum[kept:] = 0
        return done
