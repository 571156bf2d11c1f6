"""Training: ``train(config, folder)`` yields what happens, and leaves a run folder that can be resumed and used.

Prints nothing; the caller shows the events. A run folder holds ``config.toml`` (resolved settings), ``metrics.csv`` and
``curves.png`` (one row per epoch), ``first_batch.png``, ``best.safetensors`` (best crack IoU on the validation split),
``last.safetensors`` and ``last.pt`` (the state that ``resume`` continues from); where a teacher makes them, also the
pseudo-masks, in ``pseudo/``.
"""

from __future__ import annotations

from cracktool.training.events import EpochEnded, Event, Finished, Labelled, Started, Stepped
from cracktool.training.loop import train
from cracktool.training.probing import choose_batch_size
from cracktool.training.run_folder import CONFIG, check_folder
from cracktool.training.state import build_optimizer, learning_rate

__all__ = [
    "CONFIG",
    "EpochEnded",
    "Event",
    "Finished",
    "Labelled",
    "Started",
    "Stepped",
    "build_optimizer",
    "check_folder",
    "choose_batch_size",
    "learning_rate",
    "train",
]
