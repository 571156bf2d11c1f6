"""Blend the tiles of one photo into finished rows, holding one tile's height of them.

Sees probabilities in any order of columns, rows of tiles from top to bottom; knows no network and no file.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from cracktool.tiles import Axis

LEVELS = 256


def quantise(probs: Tensor) -> Tensor:
    """Return uint8 levels ``min(floor(256 p), 255)`` of probabilities: the only quantisation in the package."""
    return (probs * LEVELS).clamp_(max=LEVELS - 1).to(torch.uint8)


class RowBand:
    """The rows of a photo that are not final yet, float32 (tile, padded width) on the device.

    Args:
        rows: Tiles down.
        columns: Tiles across.
        device: Where the probabilities lie.
    """

    def __init__(self, rows: Axis, columns: Axis, device: torch.device) -> None:
        self._rows, self._columns = rows, columns
        self._row_weights, self._column_weights = _weights(rows, device), _weights(columns, device)
        self._sum = torch.zeros(rows.tile, columns.padded, device=device)

    def add(self, row: int, column: int, probs: Tensor) -> None:
        """Add one tile, float32 (tile height, tile width), with its weights."""
        start = self._columns.starts[column]
        weights = self._row_weights[row][:, None] * self._column_weights[column]
        self._sum[:, start : start + self._columns.tile].addcmul_(probs, weights)

    def finish(self, row: int) -> Tensor:
        """Return the rows above the next row of tiles, float32 (rows, width), and forget them."""
        starts, length = self._rows.starts, self._rows.length
        if row == len(starts) - 1:
            return self._sum[: length - starts[row], : self._columns.length]
        step = starts[row + 1] - starts[row]
        done = self._sum[:step, : self._columns.length].clone()
        kept = self._rows.tile - step
        self._sum[:kept] = self._sum[step:].clone()
        self._sum[kept:] = 0
        return done


@lru_cache(maxsize=64)
def _weights(axis: Axis, device: torch.device) -> Tensor:
    return torch.tensor(axis.weights(), device=device)
