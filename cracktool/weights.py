"""Weights: one safetensors file = tensors + what a checkpoint says of itself (its card).

Reads and writes checkpoints; runs nothing. Inference never guesses preprocessing: it comes from the card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cracktool.card import METADATA_KEY, Card, check_model, file_digest
from cracktool.checkpoints import read_authors
from cracktool.errors import UsageError, WeightsError
from cracktool.files import replace_file
from cracktool.models import PaddedModel, build_model, model_statistics
from cracktool.registry import ENDINGS, REGISTRY, find_published, read_card, weights_path


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, its card, and the SHA-256 of the file (empty when it came from no file)."""

    model: nn.Module
    card: Card
    digest: str


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
    """Read tensors and card of a .safetensors file; in a model folder the card may lie in config.json beside it.

    Raises:
        WeightsError: The file is damaged, cut short, or has no card.
    """
    card = read_card(path)
    with safe_open(path, framework="pt") as file:  # its header promised no more than there is
        return {name: file.get_tensor(name) for name in file.keys()}, card  # noqa: SIM118  # not a dict


def load_weights(spec: str | Path | None = None, *, model: str | None = None) -> Checkpoint:
    """Load a checkpoint in float32 on the CPU, ready for inference.

    The card of an authors' checkpoint is made of what is known of the published system: its normalisation, threshold
    and tile.

    Args:
        spec: A .safetensors file, a run or model folder, an authors' .pt, .pth, .bin, .ckpt or .pkl file, or
            a name of `cracktool.registry.SHIPPED` or `REGISTRY`; None for the fast ones that ship.
        model: The model that the caller expects, to be refused when the card names another; an authors' file does not
            say its model, so it is needed there.

    Raises:
        WeightsError: The file is missing, damaged, or belongs to another network.
        UsageError: An authors' file without a model, or no model of that name.

    Example:
        >>> load_weights().card.threshold
        0.5
    """
    path = weights_path(spec)
    if path.suffix in ENDINGS:
        return _load_authors(path, _authors_model(spec, path, model))
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path.suffix or 'no'} ending is not a known kind of weights",
            path=path,
            remedy=f"give a .safetensors file, or {', '.join(ENDINGS)} with --model",
        )
    tensors, card = read_weights(path)
    check_model(model, card.model, path)
    try:
        network = build_model(card.model, **card.model_args)
    except UsageError as error:  # no mistake of the user's
        raise WeightsError(
            f"this version cannot build its network: {error.reason}",
            path=path,
            remedy="pip install --upgrade cracktool",
        ) from error
    if network.scale != card.scale:
        raise WeightsError(f"its card has scale {card.scale}, its network {network.scale}", path=path)
    load_tensors(network, tensors, path=path)
    return Checkpoint(network.eval(), card, file_digest(path))


def with_views(checkpoint: Checkpoint, views: Sequence[float]) -> Checkpoint:
    """Return the same weights in a network that looks at its input so many times enlarged; see `PaddedModel`.

    The card loses its scores, which were those of another network.

    Raises:
        UsageError: These are no views, or the network enlarges by itself.

    Example:
        >>> with_views(load_weights(), [1, 2]).card.model_args["views"]
        [1, 2]
    """
    card = replace(checkpoint.card, model_args={**checkpoint.card.model_args, "views": list(views)}, scores=())
    network = build_model(card.model, **card.model_args)
    network.load_state_dict(checkpoint.model.state_dict())
    return Checkpoint(network.eval(), card, checkpoint.digest)


def _authors_model(spec: str | Path | None, path: Path, model: str | None) -> str:
    """Return the name of the model whose tensors an authors' file holds."""
    published = REGISTRY.get(str(spec))
    if published is not None:
        check_model(model, published.model, path)
        return published.model
    if model is not None:
        return model
    known = next((published for published in REGISTRY.values() if published.file == path.name), None)
    like = f"add --model {known.model} if it is that of {known.page}" if known else "add --model NAME"
    raise UsageError(
        "an authors' file does not say its network", path=path, remedy=f"{like}; crack train --list-models names them"
    )


def _load_authors(path: Path, model: str) -> Checkpoint:
    network = build_model(model)
    tensors, card = read_any_weights(path, network, model)
    load_tensors(network, tensors, path=path)
    return Checkpoint(network.eval(), card, file_digest(path))


def read_any_weights(path: Path, network: PaddedModel, model: str) -> tuple[dict[str, Tensor], Card]:
    """Read tensors and card of a .safetensors file or an authors' checkpoint, whether or not they fit a network.

    Args:
        path: The file.
        network: Gives the tensors of an authors' file its own names; those that it never uses are left out.
        model: Its name, which an authors' file does not say.

    Raises:
        WeightsError: The file is damaged, has no card or state dict, or cannot be read without running its code.
    """
    if path.suffix not in ENDINGS:
        return read_weights(path)
    named = ((network.own_name(name), tensor) for name, tensor in read_authors(path).items())
    tensors = {name: tensor for name, tensor in named if name is not None}
    return tensors, _authors_card(network, model, path)


def _authors_card(network: PaddedModel, model: str, path: Path) -> Card:
    mean, std = model_statistics(model)
    published = find_published(model, path.name)
    if published is None:
        return Card(model=model, mean=mean, std=std, stride=network.stride, scale=network.scale)
    is_it = published.file == path.name  # or some other of the same system, trained on who knows what
    return Card(
        model=model,
        mean=published.mean or mean,
        std=published.std or std,
        tile=published.tile,
        stride=network.stride,
        scale=network.scale,
        threshold=published.threshold,
        data=(f"{published.data} ({published.page})",) if is_it else (),
        licence=published.licence if is_it else "",
    )


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


def load_fitting(network: nn.Module, tensors: Mapping[str, Tensor], *, path: str | Path) -> tuple[str, ...]:
    """Load what fits of a state dict by name and shape, to go on from another task's weights or with another head.

    Returns:
        The network's tensors that are not among them, in its order; these are left as they were.

    Raises:
        WeightsError: Nothing fits.
    """
    state = network.state_dict()
    fitting = {name: tensors[name] for name in state if name in tensors and tensors[name].shape == state[name].shape}
    if not fitting:
        raise WeightsError(
            f"none of its {len(tensors)} tensors fits the network", path=path, remedy="check that the model is meant"
        )
    network.load_state_dict(fitting, strict=False)
    return tuple(name for name in state if name not in fitting)


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
