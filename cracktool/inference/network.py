"""A checkpoint ready to run: pixels in, probabilities out, with its own preprocessing.

Knows nothing about photos, tiles or files of pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from cracktool.device import move
from cracktool.errors import UsageError, WeightsError
from cracktool.weights import METADATA_KEY, Card, Checkpoint, file_digest, load_weights, weights_path

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Network(Protocol):
    """What the engine needs of a network.

    Attributes:
        card: What the checkpoint says of itself.
        digest: SHA-256 of its file.
        device: Where its input must lie.
        dtype: Number format of its heavy operations.
    """

    card: Card
    digest: str
    device: torch.device
    dtype: torch.dtype

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return probabilities float32 (B, h, w) of RGB tiles uint8 (B, h, w, 3), both on `device`.

        Both sides of the tiles are multiples of ``card.stride``.
        """
        ...


class TorchNetwork:
    """A checkpoint run by PyTorch.

    Args:
        checkpoint: Its model is taken over: moved to the device, set to evaluation, laid out channels last.
        device: Where to run.
        dtype: Number format of convolutions and products; the rest stays float32 (autocast).

    Example:
        >>> network = TorchNetwork(load_weights(), torch.device("cpu"), torch.float32)
        >>> network(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape
        torch.Size([1, 64, 64])
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.card = checkpoint.card
        self.digest = checkpoint.digest
        self.device = device
        self.dtype = dtype
        self._model = move(checkpoint.model.eval(), device)
        self._scale, self._shift = (value.to(device) for value in _normalisation(self.card))

    @torch.inference_mode()
    def __call__(self, tiles: Tensor) -> Tensor:
        """Return probabilities float32 (B, h, w) of RGB tiles uint8 (B, h, w, 3)."""
        x = tiles.permute(0, 3, 1, 2).float()  # (B, 3, h, w), channels last by its strides
        x = x.mul_(self._scale).add_(self._shift)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            logits = self._model(x)
        probs: Tensor = logits[:, 0].float().sigmoid()
        return probs


class OnnxNetwork:
    """A model exported by ``crack export``, run by ONNX Runtime.

    Args:
        path: The .onnx file, with the card in its metadata.
        device: cpu, or cuda where ONNX Runtime has it. Tiles lie in main memory either way.

    Raises:
        WeightsError: The file is damaged, or was not exported by this package.
        UsageError: ONNX Runtime is not installed, or cannot use the device.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._session = _open_session(path, _provider(device))
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise WeightsError("an ONNX file without a cracktool card", path=path, remedy="use one from crack export")
        self.card = Card.from_json(metadata[METADATA_KEY], path=path)
        self.digest = file_digest(path)
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self._scale, self._shift = _normalisation(self.card)

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return probabilities float32 (B, h, w) of RGB tiles uint8 (B, h, w, 3)."""
        x = tiles.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
        (probs,) = self._session.run(["probs"], {"image": x.contiguous().numpy()})
        return torch.from_numpy(probs)[:, 0]


def load_network(
    weights: str | Path | None = None, *, model: str | None = None, device: torch.device, dtype: torch.dtype
) -> Network:
    """Load weights of any kind, ready to run.

    Args:
        weights: An .onnx file, or whatever `cracktool.weights.load_weights` takes; None for the weights that ship.
        model: The model that the caller expects, to be refused when the card names another; needed for an authors'
            file, which has no card.
        device: Where to run.
        dtype: Number format of the heavy operations; an .onnx file keeps its own.

    Raises:
        WeightsError: The file is missing, damaged, or belongs to another network.
        UsageError: What it needs is not installed, or an authors' file without a model.
    """
    path = weights_path(weights)
    if path.suffix != ".onnx":
        return TorchNetwork(load_weights(weights, model=model), device, dtype)
    network = OnnxNetwork(path, device)
    if model is not None and model != network.card.model:
        reason = f"these are weights of {network.card.model}, not of {model}"
        raise WeightsError(reason, path=path, remedy="leave --model out")
    return network


def _normalisation(card: Card) -> tuple[Tensor, Tensor]:
    # (x / 255 - mean) / std as one product and one sum
    mean, std = (torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1) for values in (card.mean, card.std))
    return 1 / (255 * std), -mean / std


def _provider(device: torch.device) -> str:
    try:
        import onnxruntime
    except ImportError as error:
        reason = "ONNX Runtime is not installed, and .onnx weights need it"
        raise UsageError(reason, remedy="pip install 'cracktool[export]'") from error
    if device.type != "cuda":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        reason = "this ONNX Runtime cannot use CUDA"
        raise UsageError(reason, remedy="use --device cpu, or pip install onnxruntime-gpu")
    return "CUDAExecutionProvider"


def _open_session(path: Path, provider: str) -> InferenceSession:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except (Fail, InvalidGraph, InvalidProtobuf) as error:
        raise WeightsError("not a whole ONNX file", path=path, remedy="export it again") from error
