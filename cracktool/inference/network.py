"""Weights of any kind, ready to run: pixels in, probabilities out, with their own preprocessing.

Chooses who runs them; knows nothing about photos, tiles or files of pictures.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from cracktool.card import Card, check_model
from cracktool.errors import UsageError, WeightsError, check_name
from cracktool.files import is_file
from cracktool.inference.converted import Convert, choose_engine, load_converted
from cracktool.inference.memory import Array, Memory
from cracktool.inference.runtimes import OnnxNetwork, OpenVinoNetwork
from cracktool.registry import weights_path

ENGINES = ("auto", "torch", "onnx", "openvino")
"""Who may be asked to run a network: PyTorch, ONNX Runtime or OpenVINO."""

EXPORTED = {".onnx": ("onnx", "openvino"), ".xml": ("openvino",), ".pt2": ("torch",)}
"""Ending of a file of ``crack export`` -> the engines that run it."""


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
    weights: str | Path | None = None,
    *,
    model: str | None = None,
    device: object = "auto",
    dtype: object = "auto",
    engine: str = "auto",
    convert: Convert | None = None,
) -> Network:
    """Load weights of any kind, ready to run.

    Args:
        weights: A file of ``crack export``, ending in .onnx, .xml or .pt2, or whatever `cracktool.weights.load_weights`
            takes; None for the fast ones that ship.
        model: The model that the caller expects, to be refused when the card names another; needed for an authors'
            file, which has no card.
        device: auto, cpu, cuda, cuda:1 or mps, or a device of PyTorch.
        dtype: Number format of the heavy operations: auto, float32, bfloat16 or float16, or one of PyTorch; .onnx and
            .pt2 files keep their own.
        engine: torch, onnx (ONNX Runtime) or openvino; auto for the fastest that can begin at once. The last two run
            a checkpoint on a CPU as an ONNX file, which is made once and kept.
        convert: Makes that file where it is missing: `cracktool.export.export_model`.

    Raises:
        WeightsError: The file is missing, damaged, or belongs to another network.
        UsageError: What it needs is not installed, there is no such device, the engine cannot run the file, or an
            authors' file without a model.

    Example:
        >>> load_network("crack.onnx").card.model
        'unet_efficientnet_lite0'
    """
    check_name("engine", engine, ENGINES)
    names = str(device), str(dtype).removeprefix("torch.")
    if Path(weights or "").suffix in EXPORTED:
        network = _load_exported(Path(weights or ""), engine, *names)
        check_model(model, network.card.model, weights or "")
        return network
    path = weights_path(weights)
    chosen, why = choose_engine(path, *names) if engine == "auto" else (engine, "as asked")
    if chosen == "torch":
        return _load_torch(weights, model, *names, why if engine == "auto" else "")
    return load_converted(path, chosen, model=model, device=names[0], dtype=names[1], convert=convert, why=why)


def _load_exported(path: Path, engine: str, device: str, dtype: str) -> Network:
    able = EXPORTED[path.suffix]
    if engine not in ("auto", *able):
        advice = f"use --engine {able[0]}, or the .safetensors file that it was made of"
        raise UsageError(f"{engine} does not run {path.suffix} files", path=path, remedy=advice)
    if not is_file(path):
        raise WeightsError("no such weights file", path=path, remedy="leave --weights out for the weights that ship")
    if path.suffix == ".pt2":
        from cracktool.device import choose_device
        from cracktool.inference.torch_network import ProgramNetwork

        return ProgramNetwork(path, choose_device(device).device)
    by_onnx = path.suffix == ".onnx" and engine != "openvino"
    return OnnxNetwork(path, device) if by_onnx else OpenVinoNetwork(path, device, dtype)


def _load_torch(weights: str | Path | None, model: str | None, device: str, dtype: str, hint: str) -> Network:
    from cracktool.device import choose_device
    from cracktool.inference.folding import fold_norms
    from cracktool.inference.torch_network import TorchNetwork
    from cracktool.weights import load_weights

    choice = choose_device(device, dtype)
    checkpoint = load_weights(weights, model=model)
    folded = fold_norms(checkpoint.model, checkpoint.card.stride).to(choice.weights_dtype)
    place = "; ".join(filter(None, (choice.reason, hint)))
    return TorchNetwork(replace(checkpoint, model=folded), choice.device, choice.dtype, place)
