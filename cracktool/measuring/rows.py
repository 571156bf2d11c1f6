"""Tables of arrays: some rows of all of them are taken or replaced at once.

Knows nothing about what the columns mean.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Chosen = slice | npt.NDArray[np.bool_ | np.int64]


class Rows:
    """A dataclass whose arrays, each (N, ...), have a row for each of N things; what is no array holds for all."""

    def __getitem__(self, chosen: Chosen) -> Self:
        """Return some of the rows: views of them for a slice, else copies."""
        rows = copy(self)
        vars(rows).update({name: column[chosen] for name, column in self._columns().items()})
        return rows

    def __setitem__(self, chosen: Chosen, others: Self) -> None:
        """Replace some of the rows."""
        new = others._columns()
        for name, column in self._columns().items():
            column[chosen] = new[name]

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
