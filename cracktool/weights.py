"""Weights: one safetensors file = tensors + what a checkpoint says of itself (its card).

Reads and writes checkpoints; runs nothing. Inference never guesses preprocessing: it comes from the card.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cracktool import __version__
from cracktool.errors import UsageError, WeightsError
from cracktool.files import replace_file
from cracktool.models import build_model

METADATA_KEY = "cracktool"
SCHEMA = 1
DEFAULT_NAME = "crack-small.safetensors"

_HERE = Path(__file__).parent
DEFAULT_FOLDERS = (_HERE / "default_weights", _HERE.parent / "weights")
"""Where the weights that ship lie: in an installed wheel, and in a checkout."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a checkpoint says of itself.

    Args:
        model: Name for `cracktool.models.build_model`.
        model_args: Its keyword arguments.
        mean: RGB mean subtracted from values scaled to 0 to 1.
        std: RGB standard deviation that they are divided by.
        channel_order: Order of the colours, always RGB.
        tile: Side in px of the tiles that suit the network.
        stride: Tile sides and starts are multiples of this, in px.
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
    threshold: float = 0.5
    classes: tuple[str, ...] = ("crack",)
    data: tuple[str, ...] = ()
    licence: str = ""
    scores: tuple[dict[str, Any], ...] = ()
    version: str = __version__
    created: str = ""
    schema: int = SCHEMA

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
        "mean and std": len(card.mean) == len(card.std) == 3 and all(std > 0 for std in card.std),
        "channel_order": card.channel_order == "RGB",
        "tile and stride": isinstance(card.tile, int)
        and isinstance(card.stride, int)
        and min(card.tile, card.stride) > 0,
        "threshold": 0 < card.threshold < 1,
    }
    if not all(holds.values()):
        raise ValueError(f"{', '.join(name for name, fits in holds.items() if not fits)} cannot be right")
    return card


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, its card, and the SHA-256 of the file (empty when it came from no file)."""

    model: nn.Module
    card: Card
    digest: str


def default_weights() -> Path:
    """Return the file of the weights that ship with the package.

    Raises:
        WeightsError: The installation lacks it.
    """
    for folder in DEFAULT_FOLDERS:
        if (folder / DEFAULT_NAME).is_file():
            return folder / DEFAULT_NAME
    raise WeightsError(
        f"the installation lacks {DEFAULT_NAME}", remedy="install cracktool again, or give --weights FILE"
    )


def weights_path(spec: str | Path | None) -> Path:
    """Return the file that a user's ``--weights`` means; None means the default.

    Raises:
        WeightsError: There is no such file.
    """
    if spec is None:
        return default_weights()
    path = Path(spec)
    if path.is_dir() and (path / "best.safetensors").is_file():  # a run folder of `crack train`
        return path / "best.safetensors"
    if not path.is_file():
        raise WeightsError("no such weights file", path=path, remedy="leave --weights out for the weights that ship")
    return path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_weights(path: Path, tensors: Mapping[str, Tensor], card: Card) -> None:
    """Write a checkpoint in one step.

    Args:
        path: The .safetensors file.
        tensors: State dict of the network that the card names.
        card: What the checkpoint says of itself.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    replace_file(path, save(plain, metadata={METADATA_KEY: card.to_json()}))


def read_weights(path: Path) -> tuple[dict[str, Tensor], Card]:
    """Read tensors and card of a .safetensors file.

    Raises:
        WeightsError: The file is damaged, cut short, or has no card.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"not a whole safetensors file: {error}", path=path, remedy="copy it again") from error
    if METADATA_KEY not in metadata:
        raise WeightsError("a safetensors file without a cracktool card", path=path, remedy="use one from crack train")
    return tensors, Card.from_json(metadata[METADATA_KEY], path=path)


def load_weights(spec: str | Path | None = None, *, model: str | None = None) -> Checkpoint:
    """Load a checkpoint in float32 on the CPU, ready for inference.

    Args:
        spec: A .safetensors file or a run folder of ``crack train``; None for the weights that ship.
        model: The model that the caller expects, to be refused when the card names another.

    Raises:
        WeightsError: The file is missing, damaged, or belongs to another network.

    Example:
        >>> load_weights().card.threshold
        0.5
    """
    path = weights_path(spec)
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path.suffix or 'no'} ending is not a known kind of weights",
            path=path,
            remedy="give a .safetensors or .onnx file",
        )
    tensors, card = read_weights(path)
    if model is not None and model != card.model:
        raise WeightsError(f"these are weights of {card.model}, not of {model}", path=path, remedy="leave --model out")
    try:
        network = build_model(card.model, **card.model_args)
    except UsageError as error:  # no mistake of the user's
        raise WeightsError(
            f"this version cannot build its network: {error.reason}",
            path=path,
            remedy="pip install --upgrade cracktool",
        ) from error
    load_tensors(network, tensors, path=path)
    return Checkpoint(network.eval(), card, file_digest(path))


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], *, path: str | Path) -> None:
    """Load a state dict strictly; a mismatch gives one line with what was expected and found.

    Raises:
        WeightsError: A tensor is missing, superfluous or of another shape.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        raise WeightsError(_mismatch(expected, found), path=path, remedy="check that the weights belong to this model")
    with torch.no_grad():
        network.load_state_dict(dict(tensors))


def _mismatch(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    reshaped = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    parts = [
        f"{len(names)} tensors {what}, such as {names[0]}"
        for what, names in (("missing", missing), ("unknown", extra), ("of another shape", reshaped))
        if names
    ]
    return f"the tensors do not fit the network: {'; '.join(parts)}"
