"""A network run by PyTorch: a checkpoint, or a program written by ``torch.export``; and the memory of its device.

The only part of inference that imports PyTorch; an exported ONNX or OpenVINO file runs without it.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from cracktool.card import METADATA_KEY, Card, file_digest
from cracktool.device import move
from cracktool.errors import WeightsError
from cracktool.inference.memory import CPU_BATCH_PIXELS, Floats, Memory, Pixels
from cracktool.inference.runtimes import LOGITS, PIXELS
from cracktool.metrics import BINS
from cracktool.weights import Checkpoint

_CUDA_BATCH_PIXELS = 16 * 512 * 512
_CUDA_BYTES_PER_PIXEL = 2048  # activations alive at once in the largest of the networks, generously
_CUDA_LAG = 8
_KEYS = (METADATA_KEY, "input", "output")

# All that the reader of programs raises on bytes that are none.
_DAMAGE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class TorchMemory:
    """The memory of a PyTorch device.

    Args:
        device: The device.
    """

    exhausted: tuple[type[Exception], ...] = (torch.OutOfMemoryError,)

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        self.name = torch.cuda.get_device_name(device) if self._cuda else device.type
        self.lag = _CUDA_LAG if self._cuda else 0

    def batch_pixels(self) -> int:
        """Return the pixels of a batch that suits the device."""
        if not self._cuda:
            return CPU_BATCH_PIXELS
        free, _ = torch.cuda.mem_get_info(self._device)
        return min(_CUDA_BATCH_PIXELS, free // 2 // _CUDA_BYTES_PER_PIXEL)

    def upload(self, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Tensor:
        """Return uint8 pixels on the device, written by `fill` into main memory."""
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=self._cuda)
        fill(pixels.numpy())
        return pixels.to(self._device, non_blocking=True)  # pinned memory is given out again only after the copy

    def upload_rows(self, pixels: Pixels, new: int, before: Tensor | None) -> Tensor | None:
        """Send new rows to a GPU on a stream of their own, while it computes; what is there already is copied there."""
        if not self._cuda:
            return None
        kept = len(pixels) - new
        fresh = torch.from_numpy(pixels[kept:])
        pinned = torch.empty(fresh.shape, dtype=torch.uint8, pin_memory=True)  # given out again only after the copy
        pinned.copy_(fresh)
        with torch.cuda.stream(self._copies):
            crossed = pinned.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._copies)
        crossed.record_stream(current)
        return crossed if before is None or not kept else torch.cat([before[len(before) - kept :], crossed])

    def stack(self, tiles: Sequence[Tensor]) -> Tensor:
        """Return tiles of the device as one tensor."""
        return torch.stack(tuple(tiles))

    @cached_property
    def _copies(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def constant(self, values: Floats) -> Tensor:
        """Return a float32 tensor that is only read."""
        return torch.tensor(values, device=self._device)

    def zeros(self, shape: tuple[int, int]) -> Tensor:
        """Return float32 zeros on the device."""
        return torch.zeros(shape, device=self._device)

    def copy(self, array: Tensor) -> Tensor:
        """Return a tensor of its own."""
        return array.clone()

    def flip(self, array: Tensor, axes: Sequence[int]) -> Tensor:
        """Return a tensor with some axes turned round."""
        return array.flip(tuple(axes))

    def quantise(self, probs: Tensor) -> Tensor:
        """Return uint8 levels of probabilities, as `cracktool.metrics.quantise` does."""
        return (probs * BINS).clamp_(max=BINS - 1).to(torch.uint8)

    def download(self, array: Tensor) -> Callable[[], npt.NDArray[Any]]:
        """Send a tensor to main memory; what is returned waits until it is there."""
        here = array.to("cpu", non_blocking=True)
        if not array.is_cuda:
            return here.numpy
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(array.device))

        def wait() -> npt.NDArray[Any]:
            copied.synchronize()
            return here.numpy()

        return wait

    def release(self) -> None:
        """Give back the GPU memory that is kept for reuse."""
        torch.cuda.empty_cache()


class TorchNetwork:
    """A checkpoint run by PyTorch.

    Args:
        checkpoint: Its model is taken over: moved to the device, set to evaluation, laid out channels last.
        device: Where to run.
        dtype: Number format of convolutions and products; the rest stays in that of the weights (autocast).
        place: Where it runs, for the user.

    Example:
        >>> network = TorchNetwork(load_weights(), torch.device("cpu"), torch.float32)
        >>> network(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape
        torch.Size([1, 64, 64])
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype = torch.float32, place: str = ""
    ) -> None:
        self.card = checkpoint.card
        self.digest = checkpoint.digest
        self.device: Any = device
        self.dtype = str(dtype).removeprefix("torch.")
        self.place = place
        self.memory: Memory = TorchMemory(device)
        self._dtype = dtype
        self._model = move(checkpoint.model.eval(), device)
        self._weights_dtype = next((each.dtype for each in self._model.parameters()), torch.float32)
        self._scale, self._shift = (torch.tensor(value, device=device) for value in self.card.normalisation())

    @torch.inference_mode()
    def __call__(self, tiles: Tensor) -> Tensor:
        """Return probabilities float32 (B, h, w) of RGB tiles uint8 (B, h, w, 3)."""
        x = tiles.permute(0, 3, 1, 2).float()  # (B, 3, h, w), channels last by its strides
        x = x.mul_(self._scale).add_(self._shift).to(self._weights_dtype)
        with torch.autocast(tiles.device.type, dtype=self._dtype, enabled=self._dtype != self._weights_dtype):
            logits = self._model(x)
        probs: Tensor = logits[:, 0].float().sigmoid()
        return probs


class ProgramNetwork:
    """A model exported by ``crack export`` as a program of ``torch.export``; it keeps the number format it has.

    Args:
        path: The .pt2 file, with the card in it.
        device: Where to run.

    Raises:
        WeightsError: The file is damaged, was not exported by this package, or cannot be opened without running code
            in it.
    """

    dtype = "float32"

    def __init__(self, path: Path, device: torch.device) -> None:
        metadata = _read_metadata(path)
        self.card = Card.from_json(metadata[METADATA_KEY], path=path)
        self.digest = file_digest(path)
        self.device: Any = device
        self.place = f"{device.type.upper()} (torch.export)"
        self.memory: Memory = TorchMemory(device)
        self._program = _load_program(path, device)
        self._takes_pixels, self._gives_logits = metadata["input"] == PIXELS, metadata["output"] == LOGITS
        self._scale, self._shift = (torch.tensor(value, device=device) for value in self.card.normalisation())

    @torch.inference_mode()
    def __call__(self, tiles: Tensor) -> Tensor:
        """Return probabilities float32 (B, h, w) of RGB tiles uint8 (B, h, w, 3)."""
        x = tiles
        if not self._takes_pixels:
            x = tiles.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
        values: Tensor = self._program(x.contiguous())[:, 0]
        return values.sigmoid() if self._gives_logits else values


def _read_metadata(path: Path) -> dict[str, str]:
    """Return what lies beside a program as text, once it is sure that no part of it is a pickle that could run code."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist() if _small(name)}
            configs = [json.loads(data) for name, data in parts.items() if name.endswith("_config.json")]
            pickled = any(entry["use_pickle"] for config in configs for entry in config["config"].values())
            for name, data in parts.items():
                if name.startswith("data/sample_inputs/"):
                    torch.load(io.BytesIO(data), weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, OSError, *_DAMAGE) as error:
        raise WeightsError("not a whole program of torch.export", path=path, remedy="export it again") from error
    metadata = {key: parts.get(f"extra/{key}", b"").decode("utf-8", "replace") for key in _KEYS}
    if pickled or not all(metadata.values()):
        raise WeightsError("a program without a cracktool card", path=path, remedy="use one from crack export")
    return metadata


def _small(name: str) -> bool:
    return "/extra/" in name or "/sample_inputs/" in name or name.endswith("_config.json")


def _load_program(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    try:
        program = torch.export.load(path)
    except _DAMAGE as error:
        raise WeightsError(
            f"this PyTorch {torch.__version__} cannot read the program", path=path, remedy="export it again with it"
        ) from error
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    return program.module(check_guards=False)  # the export tried the sizes; guards forbid maps of 1 px
