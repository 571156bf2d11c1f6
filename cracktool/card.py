"""The card: what a checkpoint says of itself, in whatever kind of file it lies.

Plain data, read from JSON and written to it; opens no checkpoint and needs no PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cracktool import __version__
from cracktool.errors import WeightsError

METADATA_KEY = "cracktool"
"""Key of a file's metadata under which the card lies."""

SCHEMA = 1

_GLOBAL = ("pspnet", "ocr", "crackrefinenet", "crackformer", "patch", "weak")  # pool or attend over all they see


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a checkpoint says of itself.

    Args:
        model: Name for `cracktool.models.build_model`.
        model_args: Its keyword arguments.
        mean: RGB mean subtracted from values scaled to 0 to 1.
        std: RGB standard deviation that they are divided by.
        channel_order: Order of the colours, always RGB.
        tile: Side in px of the tiles that suit the network; `largest_tile` says how far one may go beyond.
        stride: Tile sides and starts are multiples of this, in px.
        scale: Side of the output over side of the input; above 1 for networks that enlarge.
        threshold: Crack from this probability on.
        classes: Names of the output channels.
        data: Training data, one line each with its licence.
        licence: Terms that the weights come under.
        scores: Scores with data, split, protocol and threshold.
        version: Version of cracktool that wrote the file.
        created: Date of writing, YYYY-MM-DD.
        schema: Version of this table.
    """

    model: str
    model_args: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str = "RGB"
    tile: int = 512
    stride: int = 32
    scale: int = 1
    threshold: float = 0.5
    classes: tuple[str, ...] = ("crack",)
    data: tuple[str, ...] = ()
    licence: str = ""
    scores: tuple[dict[str, Any], ...] = ()
    version: str = __version__
    created: str = ""
    schema: int = SCHEMA

    @property
    def largest_tile(self) -> int:
        """Side in px of the largest tiles that a result does not suffer from: twice `tile`.

        Networks that pool or attend over all they see keep to the side that they were trained with, and so do those
        that enlarge what comes out or goes in, which need much memory.
        """
        enlarges = self.scale > 1 or max(self.model_args.get("views", (1,))) > 1
        keeps = enlarges or any(name in self.model for name in _GLOBAL)
        return self.tile if keeps else 2 * self.tile

    def normalisation(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return scale and shift, float32 (1, 3, 1, 1): ``(x / 255 - mean) / std`` as one product and one sum."""
        mean, std = (np.asarray(values, np.float32).reshape(1, 3, 1, 1) for values in (self.mean, self.std))
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def taught_by(self, data: Sequence[str], licence: str) -> Card:
        """Return the card with the training data and the terms of a teacher's weights beside its own."""
        terms = filter(None, (*self.licence.split("; "), *licence.split("; ")))
        return replace(self, data=tuple(dict.fromkeys((*self.data, *data))), licence="; ".join(dict.fromkeys(terms)))

    def to_json(self) -> str:
        """Return the card as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str, *, path: str | Path = "") -> Card:
        """Read a card; `path` names the file in errors.

        Raises:
            WeightsError: The text is no card, or of a later schema.
        """
        try:
            values = json.loads(text)
            schema = int(values["schema"])
            if schema <= SCHEMA:
                return _card(values)
        except KeyError as error:
            raise WeightsError(f"the card in it cannot be read: {error} is missing", path=path) from error
        except (ValueError, TypeError) as error:
            raise WeightsError(f"the card in it cannot be read: {error}", path=path) from error
        raise WeightsError(
            f"its card has schema {schema}, this version reads up to {SCHEMA}",
            path=path,
            remedy="pip install --upgrade cracktool",
        )


def _card(values: dict[str, Any]) -> Card:
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    known = {item.name for item in fields(Card)}
    card = Card(**{key: value for key, value in {**values, **lists}.items() if key in known})
    holds = {
        "model": isinstance(card.model, str) and isinstance(card.model_args, dict),
        "model_args": not {"name", "pretrained"} & set(card.model_args),
        "mean and std": len(card.mean) == len(card.std) == 3
        and all(isinstance(value, int | float) and math.isfinite(value) for value in (*card.mean, *card.std))
        and min(card.std) > 0,
        "channel_order": card.channel_order == "RGB",
        "tile, stride and scale": all(
            isinstance(value, int) and value > 0 for value in (card.tile, card.stride, card.scale)
        ),
        "threshold": 0 < card.threshold < 1,
    }
    if not all(holds.values()):
        raise ValueError(f"{', '.join(name for name, fits in holds.items() if not fits)} cannot be right")
    return card


def check_model(expected: str | None, found: str, path: str | Path) -> None:
    """Refuse weights of another model than the one that the caller expects, if any.

    Raises:
        WeightsError: They are of another.
    """
    if expected not in (None, found):
        raise WeightsError(f"these are weights of {found}, not of {expected}", path=path, remedy="leave --model out")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
