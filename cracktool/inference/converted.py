"""Checkpoints as ONNX files: faster on a CPU, ready without PyTorch. The fast set's ships, others are made once.

Chooses the engine and opens the file; how one is made is handed in from above. The folder of those that are made may
be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cracktool import __version__
from cracktool.card import check_model, file_digest
from cracktool.device import cpu_has_bfloat16, is_cpu
from cracktool.errors import OutputError, UsageError
from cracktool.files import make_folder
from cracktool.inference.runtimes import OnnxNetwork, OpenVinoNetwork, RuntimeNetwork, require_runtime
from cracktool.registry import SHIPPED_FOLDERS, cache_folder, read_card

if TYPE_CHECKING:
    from cracktool.weights import Checkpoint

Convert = Callable[["Checkpoint", Path], object]
"""Writes a checkpoint as an ONNX file, in one step: `cracktool.export.export_model`."""

_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


def converted_file(weights: Path) -> Path:
    """Return where the ONNX file of a checkpoint is kept, whether it is there or not: beside weights where it ships.

    Example:
        >>> converted_file(Path("runs/unet_resnet101/best.safetensors")).parent
        PosixPath('/home/me/.cache/cracktool/checkpoints/onnx')
    """
    beside = weights.with_suffix(".onnx")
    if beside.parent in SHIPPED_FOLDERS and beside.is_file():
        return beside
    card = read_card(weights)  # that of a model folder lies beside the tensors, and may change
    network = json.dumps([card.model, card.model_args], sort_keys=True)
    digest = hashlib.sha256(f"{file_digest(weights)} {network}".encode()).hexdigest()
    return cache_folder() / "onnx" / f"{digest}-{__version__}.onnx"


def choose_engine(weights: Path, device: str, dtype: str) -> tuple[str, str]:
    """Return the fastest engine that can begin at once, and what the user should know of the choice.

    Converting takes longer than a few photos do, so it is never done unasked.

    Args:
        weights: The file of a checkpoint.
        device: auto, cpu, cuda, cuda:1 or mps.
        dtype: auto, float32, bfloat16 or float16.
    """
    if weights.suffix != ".safetensors" or not is_cpu(device):
        return "torch", ""
    exact = dtype == "float32" or (dtype == "auto" and not cpu_has_bfloat16())
    # A tile of 512 px in float32, two threads: ONNX Runtime and OpenVINO take 0.65 of PyTorch's time, but OpenVINO is
    # ready 0.4 s later. With bfloat16, which ONNX Runtime lacks: OpenVINO 227 ms, PyTorch 261, ONNX Runtime 492.
    faster = [name for name in ("onnx", "openvino") if find_spec(_PACKAGES[name]) and (exact or name == "openvino")]
    if not faster:
        return "torch", ""
    if converted_file(weights).is_file():
        return faster[0], "the fastest here"
    return "torch", f"--engine {faster[0]} is faster, once it has converted the weights"


def load_converted(
    weights: Path, engine: str, *, model: str | None, device: str, dtype: str, convert: Convert | None, why: str
) -> RuntimeNetwork:
    """Load a checkpoint into ONNX Runtime or OpenVINO; where its ONNX file is missing, it is made first.

    In float32 the result counts as that of the checkpoint itself: other engines round otherwise, as other processors
    do. In 16 bits that is no longer small, and it counts as that of another file.

    Args:
        weights: The file of the checkpoint.
        engine: onnx or openvino.
        model: The model that the caller expects.
        device: auto, cpu, or cuda where ONNX Runtime has it.
        dtype: auto, float32, bfloat16 or float16; ONNX Runtime has float32 only.
        convert: Makes the ONNX file.
        why: Why this engine, for the user.

    Raises:
        WeightsError: The checkpoint is damaged, or of another model.
        UsageError: The engine is not installed or cannot do this, or there is no ONNX file and no way to make it.
        CrackError: The conversion failed.
    """
    require_runtime(engine, device)
    if weights.suffix != ".safetensors":
        advice = "make a checkpoint of it: crack export -o NAME.safetensors, with its --weights and --model"
        raise UsageError(f"an authors' file is run by PyTorch, not by {engine}", path=weights, remedy=advice)
    if engine == "onnx" and dtype not in ("auto", "float32"):
        remedy = "use --engine openvino or torch, or --dtype float32"
        raise UsageError(f"ONNX Runtime computes in float32 here, not in {dtype}", remedy=remedy)
    card = read_card(weights)
    check_model(model, card.model, weights)
    file = converted_file(weights)
    if not file.is_file():
        _convert(weights, file, convert)
    network = OnnxNetwork(file, device) if engine == "onnx" else OpenVinoNetwork(file, device, dtype)
    network.card = card  # all but its network may have changed since
    network.place += (" in float32" if engine == "onnx" else "") + f", {why}"
    if network.dtype == "float32":
        network.digest = file_digest(weights)
    return network


def _convert(weights: Path, file: Path, convert: Convert | None) -> None:
    if convert is None:
        advice = "give convert=cracktool.export.export_model, or run crack infer --engine onnx once"
        raise UsageError("there is no ONNX file of these weights yet", path=weights, remedy=advice)
    try:
        make_folder(file.parent)
    except OutputError as error:
        remedy = "name another with the variable CRACKTOOL_CACHE, or use --engine torch"
        raise OutputError(error.reason, path=error.path, remedy=remedy) from error
    from cracktool.weights import load_weights

    convert(load_weights(weights), file)
