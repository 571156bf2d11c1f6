"""Weights of any kind, ready to run: pixels in, probabilities out, with their own preprocessing.

Chooses who runs them by the file's ending; knows nothing about photos, tiles or files of pictures.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from cracktool.card import Card
from cracktool.errors import WeightsError
from cracktool.inference.memory import Array, Memory


class Network(Protocol):
    """What the engine needs of a network.

    Attributes:
        card: What the checkpoint says of itself.
        digest: SHA-256 of its file.
        dtype: Number format of its heavy operations, such as float32.
        device: Device of PyTorch where its input must lie, or the name of one.
        memory: Where its input and output lie.
        place: Where it runs and in which number format, for the user.
    """

    card: Card
    digest: str
    dtype: str
    device: Any
    memory: Memory
    place: str

    def __call__(self, tiles: Array) -> Array:
        """Return probabilities float32 (B, h, w) of RGB tiles uint8 (B, h, w, 3), both in `memory`.

        Both sides of the tiles are multiples of ``card.stride``.
        """
        ...


def load_network(
    weights: str | Path | None = None, *, model: str | None = None, device: object = "auto", dtype: object = "auto"
) -> Network:
    """Load weights of any kind, ready to run.

    Args:
        weights: A file of ``crack export``, ending in .onnx, .xml or .pt2, or whatever `cracktool.weights.load_weights`
            takes; None for the weights that ship.
        model: The model that the caller expects, to be refused when the card names another; needed for an authors'
            file, which has no card.
        device: auto, cpu, cuda, cuda:1 or mps, or a device of PyTorch.
        dtype: Number format of the heavy operations: auto, float32, bfloat16 or float16, or one of PyTorch; .onnx and
            .pt2 files keep their own.

    Raises:
        WeightsError: The file is missing, damaged, or belongs to another network.
        UsageError: What it needs is not installed, there is no such device, or an authors' file without a model.

    Example:
        >>> load_network("crack.onnx").card.model
        'unet_regnetx_002'
    """
    names = str(device), str(dtype).removeprefix("torch.")
    path = Path(weights or "")
    if path.suffix not in (".onnx", ".xml", ".pt2"):
        return _load_torch(weights, model, *names)
    if not path.is_file():
        raise WeightsError("no such weights file", path=path, remedy="leave --weights out for the weights that ship")
    network = _load_exported(path, *names)
    network.card.check_model(model, path)
    return network


def _load_exported(path: Path, device: str, dtype: str) -> Network:
    if path.suffix == ".pt2":
        from cracktool.device import choose_device
        from cracktool.inference.torch_network import ProgramNetwork

        return ProgramNetwork(path, choose_device(device).device)
    from cracktool.inference.runtimes import OnnxNetwork, OpenVinoNetwork

    return OnnxNetwork(path, device) if path.suffix == ".onnx" else OpenVinoNetwork(path, device, dtype)


def _load_torch(weights: str | Path | None, model: str | None, device: str, dtype: str) -> Network:
    from cracktool.device import choose_device
    from cracktool.inference.folding import fold_norms
    from cracktool.inference.torch_network import TorchNetwork
    from cracktool.weights import load_weights

    choice = choose_device(device, dtype)
    checkpoint = load_weights(weights, model=model)
    folded = replace(checkpoint, model=fold_norms(checkpoint.model, checkpoint.card.stride))
    return TorchNetwork(folded, choice.device, choice.dtype, choice.reason)
