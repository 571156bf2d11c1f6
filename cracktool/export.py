"""Export: a checkpoint as one file, ONNX for other runtimes and QGIS or safetensors for this package.

An ONNX file is kept only if it agrees with PyTorch, and needs the extra ``cracktool[export]``. Reads no photos; both
kinds are read back by `cracktool.inference`.
"""

from __future__ import annotations

import copy
import datetime
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cracktool.card import METADATA_KEY, Card
from cracktool.errors import CrackError, OutputError, UsageError
from cracktool.files import replace_file
from cracktool.weights import Checkpoint, save_weights

OPSET = 18
"""Version of the ONNX operators: the lowest that the exporter writes, read by ONNX Runtime from 1.14 (2023) on."""

TOLERANCE = 1e-4
"""Largest difference in probability to PyTorch that an exported file may have."""

CHECKED_SIZES = ((1, 64, 64), (2, 33, 97), (1, 1, 1), (3, 130, 65))
"""(B, H, W) at which an exported file is compared: a multiple of the strides, odd, the smallest, and one too many."""

QGIS_RESOLUTION = 0.1
"""Centimetres per pixel at which QGIS asks for the map: 1 mm, as of a road survey. The user can change it there."""

QGIS_OVERLAP = 15
"""Overlap of neighbouring tiles in QGIS, percent of a tile's side."""

SIZE_LIMIT = 2**31 - 2**20
"""Bytes of weights that fit one file: protobuf ends at 2 GiB, and the graph itself needs a little."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote.

    Args:
        path: The file.
        size: Its bytes.
        opset: Version of the ONNX operators in it.
        difference: Largest difference in probability to PyTorch that was seen.
        checked: (B, H, W) of the inputs that were compared.
    """

    path: Path
    size: int
    opset: int
    difference: float
    checked: tuple[tuple[int, int, int], ...]


def export_onnx(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> Exported:
    """Write a checkpoint as one ONNX file and prove that it gives the same probabilities.

    Input ``image`` is float32 (B, 3, H, W), RGB, scaled to 0 to 1 and normalised with the card's mean and standard
    deviation; output ``probs`` is float32 (B, 1, H, W), 0 to 1. B, H and W are free, odd sizes included. The metadata
    hold the card under ``cracktool`` and the keys that the QGIS plugin Deepness reads.

    Args:
        checkpoint: The network and its card; it is left as it was.
        path: The file to write, ending in ``.onnx``.
        overwrite: Replace an existing file.

    Raises:
        UsageError: Another ending, an extra that is not installed, or a network too large for one file.
        OutputError: The file exists, or cannot be written.
        CrackError: ONNX cannot express the network, or the result differs; no file is left.

    Example:
        >>> exported = export_onnx(load_weights(), Path("crack.onnx"))
        >>> exported.difference < 1e-4
        True
    """
    if path.suffix != ".onnx":
        raise UsageError(
            f"{path.suffix or 'no'} ending is no format to export to",
            path=path,
            remedy="end it in .onnx or .safetensors",
        )
    _require_free(path, overwrite)
    _require_extra()
    network = _Probabilities(checkpoint.model).cpu().float().eval()
    batches = [_cracked_walls(size, checkpoint.card) for size in CHECKED_SIZES]
    with torch.inference_mode():  # before anything is replaced in it
        expected = [network(torch.from_numpy(batch)).numpy() for batch in batches]
    _replace_pooling(network)
    data = _build(network, checkpoint.card)
    difference = _largest_difference(data, batches, expected, checkpoint.card.model)
    replace_file(path, data)
    return Exported(path=path, size=len(data), opset=OPSET, difference=difference, checked=CHECKED_SIZES)


def export_safetensors(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> Card:
    """Write a checkpoint as weights of this package, such as one that was read from an authors' file.

    Args:
        checkpoint: The network and its card; it is left as it was.
        path: The file to write.
        overwrite: Replace an existing file.

    Returns:
        The card in the file: the checkpoint's, dated today if it bore no date.

    Raises:
        UsageError: The name does not end in ``.safetensors``.
        OutputError: The file exists, or cannot be written.

    Example:
        >>> export_safetensors(load_weights("model.pth", model="unet_resnet101"), Path("model.safetensors")).tile
        448
    """
    if path.suffix != ".safetensors":
        raise UsageError("weights cannot be written under this ending", path=path, remedy="end it in .safetensors")
    _require_free(path, overwrite)
    card = checkpoint.card
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    card = replace(card, created=card.created or today)
    save_weights(path, checkpoint.model.state_dict(), card)
    return card


def _require_free(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputError("exists already", path=path, remedy="choose another name, or give --overwrite")


class _Probabilities(nn.Module):
    """A copy of the network with the sigmoid behind it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities (B, 1, H, W) of a normalised batch (B, 3, H, W)."""
        logits: Tensor = self.model(image)
        return logits.sigmoid()


class _GridMean(nn.Module):
    """Adaptive average pooling as two products of matrices: ONNX has none whose input size is free.

    Cell i of n covers the rows from floor(i H / n) to ceil((i + 1) H / n), and the columns alike.
    """

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, cells, cells) from (B, C, H, W)."""
        height, width = x.shape[-2:]
        return self._shares(height, x) @ x @ self._shares(width, x).T

    def _shares(self, length: int, like: Tensor) -> Tensor:
        # (cells, length): what each pixel of a line contributes to each cell's mean
        cell = torch.arange(self.cells, device=like.device)[:, None]
        start = (cell * length) // self.cells
        end = ((cell + 1) * length + self.cells - 1) // self.cells
        pixel = torch.arange(length, device=like.device)[None]
        inside = (pixel >= start) & (pixel < end)
        return inside.to(like.dtype) / (end - start).to(like.dtype)


def _replace_pooling(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int) and child.output_size > 1:
                setattr(module, name, _GridMean(child.output_size))


def _require_extra() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"export needs {error.name}, which is not installed", remedy='pip install "cracktool[export]"'
        ) from error


def _build(network: nn.Module, card: Card) -> bytes:
    """Return the ONNX file of a network that gives probabilities, sound but not yet compared."""
    import onnx

    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    if weights > SIZE_LIMIT:
        raise UsageError(f"{card.model} has {weights / 2**30:.1f} GiB of weights, and one ONNX file holds 2 GiB")
    try:
        model = _translate(network, card)
        onnx.checker.check_model(model, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = shorten(str(error.__cause__ or error), 200)  # the exporter says the rest on many lines
        raise CrackError(f"{card.model} cannot be expressed in ONNX for any input size: {reason}") from error
    return bytes(model.SerializeToString())


def _translate(network: nn.Module, card: Card) -> Any:
    """Return the network as an ``onnx.ModelProto`` with free batch, height and width."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with warnings.catch_warnings():  # about the exporter's own code, nothing that a user could mend
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            # Above 1, unequal and odd: the exporter would tie equal or special sizes to each other.
            (torch.zeros(2, 3, 67, 97),),
            input_names=["image"],
            output_names=["probs"],
            dynamic_shapes={"image": {0: "batch", 2: "height", 3: "width"}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # it is None only without dynamo
        ClearMetadataAndDocStringPass()(program.model)  # stack traces with the folders of this machine
    program.model.metadata_props.update(_metadata(card))
    return program.model_proto


def _metadata(card: Card) -> dict[str, str]:
    """Return the card and what the QGIS plugin Deepness reads, each value as JSON."""
    deepness = {
        "model_type": "Segmentor",
        "class_names": dict(enumerate(("background", *card.classes))),
        "resolution": QGIS_RESOLUTION,
        "tile_size": card.tile,  # what the plugin reads;
        "tiles_size": card.tile,  # what its documentation says that it reads
        "tiles_overlap": QGIS_OVERLAP,
        "standardization_mean": card.mean,
        "standardization_std": card.std,
        "seg_thresh": card.threshold,
        "seg_small_segment": 0,  # a median filter, which would wipe out cracks of a few pixels' width
    }
    return {METADATA_KEY: card.to_json(), **{key: json.dumps(value) for key, value in deepness.items()}}


def _largest_difference(data: bytes, batches: list[np.ndarray], expected: list[np.ndarray], name: str) -> float:
    """Compare what ONNX Runtime makes of the batches with what PyTorch made of them.

    Raises:
        CrackError: The file cannot be run, or a probability differs by more than `TOLERANCE`.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    run_errors = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented)
    try:
        session = _open_session(data)
        found = [session.run(["probs"], {"image": batch})[0] for batch in batches]
    except (*run_errors, errors.RuntimeException) as error:
        raise CrackError(f"ONNX Runtime cannot run {name}: {shorten(str(error), 200)}") from error
    return max(map(_difference, found, expected, [name] * len(found)))


def _difference(found: np.ndarray, expected: np.ndarray, name: str) -> float:
    if found.shape != expected.shape:
        raise CrackError(f"the ONNX graph of {name} gives shape {found.shape}, PyTorch {expected.shape}")
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:  # so that NaN fails too
        where = f"at size {found.shape}"
        raise CrackError(f"the ONNX graph of {name} is {difference:.2g} in probability away from PyTorch {where}")
    return difference


def _open_session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # it would talk on stderr besides raising
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _cracked_walls(size: tuple[int, int, int], card: Card) -> np.ndarray:
    """Return normalised float32 (B, 3, H, W): grainy grey with a dark diagonal, so that both classes have pixels."""
    batch, height, width = size
    pictures = np.random.default_rng(0).normal(0.6, 0.05, (batch, 3, height, width))
    row, column = np.mgrid[:height, :width]
    pictures[:, :, np.abs(row - column) < 3] -= 0.4
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (card.mean, card.std))
    return np.asarray((pictures - mean) / std, np.float32)
