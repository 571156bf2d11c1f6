"""The run folder: its settings, its table and curves, its first batch as a picture, its weights.

Written by one process; each file is whole or not there.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from cracktool.card import Card
from cracktool.config import TrainConfig, read_recipe, resolve
from cracktool.data import IGNORED
from cracktool.errors import InputError, OutputError, UsageError
from cracktool.files import replace_file
from cracktool.report import plot_batch, plot_curves
from cracktool.training.events import EpochEnded
from cracktool.training.state import State
from cracktool.weights import save_weights

STATE, BEST, LAST = "last.pt", "best.safetensors", "last.safetensors"
METRICS, CURVES, CONFIG = "metrics.csv", "curves.png", "config.toml"


def check_folder(folder: Path, config: TrainConfig, *, resume: bool) -> None:
    """Refuse a folder that holds another run; settings alone, of a run that came to nothing, are none.

    Raises:
        OutputError: It holds a run, and none is to be resumed, or weights of unknown origin.
        UsageError: The run in it has other settings.
    """
    settings = folder / CONFIG
    held = [folder / name for name in (STATE, BEST, LAST, METRICS, CURVES) if (folder / name).exists()]
    if not held:
        return
    if not settings.exists():
        reason = f"would be overwritten, and there is no {CONFIG} beside it"
        raise OutputError(reason, path=held[0], remedy="choose another folder with -o")
    if not resume:
        raise OutputError("holds a run already", path=folder, remedy="add --resume, or choose another folder with -o")
    earlier = resolve([read_recipe(str(settings))])  # not the text: runs of older versions lack newer settings
    if earlier.to_toml() != config.to_toml():
        raise UsageError(
            "cannot resume with other settings than those of the run",
            path=settings,
            remedy=f"resume with --recipe {settings}, or choose another folder with -o",
        )


def save_epoch(
    state: State, ended: EpochEnded, rows: Sequence[Mapping[str, Any]], folder: Path, config: TrainConfig, images: int
) -> None:
    """Write what an epoch leaves: weights, table, curves and, last, the state; it was validated on so many images."""
    card = card_of(config, state, ended, images)
    if ended.best:
        save_weights(folder / BEST, state.validated.state_dict(), card)
    save_weights(folder / LAST, state.validated.state_dict(), card)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(folder / METRICS, text.getvalue().encode())
    plot_curves(rows, folder / CURVES)
    state.save(folder / STATE)  # last: a run killed before this line repeats the epoch


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the table of the epochs so far; none where there is no table yet.

    Raises:
        InputError: It is damaged.
    """
    path = folder / METRICS
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read: {error}", path=path, remedy="train into a new folder") from error


def card_of(config: TrainConfig, state: State, ended: EpochEnded | None = None, images: int = 0) -> Card:
    """Return what the weights say of themselves, with their score on so many validation images after an epoch.

    Data and licence of the weights that the run began with are theirs too.
    """
    by_label = config.supervision != "pixels"
    score = {
        "data": list(config.data),
        "split": "val",
        "protocol": "IoU of cracked images by label" if by_label else "crack IoU, pooled over pixels, native size",
        "images": images,
        "threshold": config.threshold,
    }
    return Card(
        model=config.model,
        model_args=config.model_args,
        mean=state.card.mean,
        std=state.card.std,
        tile=config.tile,
        stride=state.model.stride,
        scale=state.model.scale,
        threshold=config.threshold,
        data=tuple(dict.fromkeys((*state.card.data, *config.data))),
        licence=state.card.licence,
        scores=({**score, "epoch": ended.epoch, "iou": round(ended.val_iou, 4)},) if ended else (),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def draw_first_batch(images: Tensor, targets: Tensor, folder: Path) -> None:
    """Draw the first samples of a run with their targets, for a person to look at before the run is long.

    Args:
        images: uint8 (B, 3, H, W).
        targets: Masks (B, 1, H, W), larger by a whole factor where samples are shrunken, or labels (B, 1, 1, 1).
        folder: The run folder.
    """
    pictures = images.permute(0, 2, 3, 1).numpy()
    crack = (targets[:, 0] >= 0.5) & (targets[:, 0] < IGNORED)
    if crack.shape[-1] > 1:  # shrunken samples are drawn at the size of their masks
        scale = crack.shape[-1] // pictures.shape[2]
        pictures = pictures.repeat(scale, axis=1).repeat(scale, axis=2)
    masks = crack.expand(-1, *pictures.shape[1:3]).numpy()  # a label stands for all of its image
    plot_batch(pictures, masks, folder / "first_batch.png")
