"""Batch sizes that fitted into the memory of a device, kept in the user's cache: each is found out only once.

One JSON table; it may be deleted at any time. Where it cannot be read or written, the next run finds out again.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from cracktool.errors import OutputError
from cracktool.files import replace_file
from cracktool.registry import cache_folder


def remembered_batch(what: str) -> int | None:
    """Return how many tiles fitted at last, None where nobody knows.

    Args:
        what: Network, side of the tiles, number format and device.
    """
    most = _table().get(what)
    return most if isinstance(most, int) and most > 0 else None


def remember_batch(what: str, most: int) -> None:
    """Keep how many tiles fit; `what` as in `remembered_batch`."""
    text = json.dumps({**_table(), what: most}, indent=1)
    with contextlib.suppress(OSError, OutputError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        replace_file(_file(), text.encode())


def _file() -> Path:
    return cache_folder() / "batch_sizes.json"


def _table() -> dict[str, object]:
    try:
        table = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
