"""The events of a run for TensorBoard, where that is installed.

Writes below the run folder, in `tensorboard/`; without TensorBoard, or in all processes but the first, nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cracktool.training.events import EpochEnded, Stepped


class Board:
    """Takes events and shows them.

    Args:
        writer: A ``SummaryWriter``, or None to show nothing.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def step(self, event: Stepped) -> None:
        """Show loss and learning rate of a batch."""
        self._scalars({"loss/step": event.loss, "learning_rate": event.lr}, event.batch)

    def epoch(self, event: EpochEnded) -> None:
        """Show the scores of an epoch."""
        scores = {"iou": event.val_iou, "precision": event.val_precision, "recall": event.val_recall}
        self._scalars({f"validation/{name}": value for name, value in scores.items()}, event.epoch)
        self._scalars({"loss/epoch": event.train_loss}, event.epoch)

    def _scalars(self, values: dict[str, float], number: int) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, number)


@contextmanager
def open_board(folder: Path | None) -> Iterator[Board]:
    """Give a board that writes below a run folder; one that shows nothing for None or without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        folder = None
    if folder is None:
        yield Board(None)
        return
    with SummaryWriter(folder / "tensorboard") as writer:
        yield Board(writer)
