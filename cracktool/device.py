"""Choose where a network runs and in which number format, and say why.

Looks at the machine; changes nothing on it and loads no network. PyTorch is imported only to be asked for its devices.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cracktool.errors import UsageError, check_name, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn

DTYPES = ("float32", "bfloat16", "float16")
Network = TypeVar("Network", bound="nn.Module")

_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "C:/Windows/System32/nvcuda.dll")  # the third in WSL
_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = frozenset({"amx_bf16", "bf16"})  # x86, Arm; avx512_bf16 alone has no units for matrices and is slower


@dataclass(frozen=True)
class Choice:
    """A device, the number format of the network's heavy operations, and a sentence for the user."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def weights_dtype(self) -> torch.dtype:
        """Number format for the weights of a network that is only run: bfloat16 on a CPU, else float32.

        What autocast leaves in float32 gains nothing on a CPU that its conversions to and fro do not take.
        """
        import torch

        pure = self.device.type == "cpu" and self.dtype == torch.bfloat16
        return torch.bfloat16 if pure else torch.float32

    def autocast(self) -> torch.autocast:
        """Return a context in which the heavy operations use the number format."""
        import torch

        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def move(model: Network, device: torch.device) -> Network:
    """Return a network, moved to a device and its kernels laid out channels last, which convolutions run faster in.

    Unlike ``Module.to(memory_format=...)`` it leaves tensors of five dimensions, such as CrackFormer's, as they are.
    """
    import torch

    model = model.to(device)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return model


def choose_device(name: str = "auto", dtype: str = "auto") -> Choice:
    """Choose device and number format.

    Args:
        name: auto (CUDA before MPS before CPU), cpu, mps, cuda, or cuda:1 for the second GPU.
        dtype: auto (the fastest that the device has), float32, bfloat16 or float16.

    Raises:
        UsageError: There is no such device or number format.

    Example:
        >>> choose_device("cpu", "float32").reason
        'CPU (as asked) in float32 (as asked)'
    """
    if dtype != "auto":
        check_name("dtype", dtype, DTYPES, also="auto")
    import torch

    device, why_device = _best_device() if name == "auto" else (_named_device(name), "as asked")
    number_format, why_format = _fastest(device) if dtype == "auto" else (getattr(torch, dtype), "as asked")
    reason = f"{_label(device)} ({why_device}) in {str(number_format).removeprefix('torch.')} ({why_format})"
    return Choice(device, number_format, reason)


def is_cpu(name: str = "auto") -> bool:
    """Return whether `choose_device` would choose the CPU; PyTorch is asked only where there is a driver of a GPU.

    Raises:
        UsageError: There is no such device.
    """
    may_have_gpu = sys.platform == "darwin" or any(Path(driver).exists() for driver in _GPU_DRIVERS)
    if name == "cpu" or (name == "auto" and not may_have_gpu):
        return True
    return choose_device(name).device.type == "cpu"


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU multiplies matrices of bfloat16 by itself; False where it cannot be known.

    Without AMX, avx512_bf16 is slower than float32: with the weights that ship, a tile of 1024 px on one core takes
    PyTorch 703 ms against 589 and OpenVINO 642 against 441, and a step of training takes 1.2 to 1.7 times as long.
    """
    try:
        text = _CPU_INFO.read_text()
    except OSError:  # not Linux: float32 is right everywhere, only slower
        return False
    lines = (line for line in text.splitlines() if line.lower().startswith(("flags", "features")))
    return not _BF16_FLAGS.isdisjoint(next(lines, "").split())


def _best_device() -> tuple[torch.device, str]:
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda"), "the fastest here"
    if torch.backends.mps.is_available():
        return torch.device("mps"), "the fastest here"
    return torch.device("cpu"), "no GPU found"


def _named_device(name: str) -> torch.device:
    import torch

    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdecimal())):
        remedy = did_you_mean(name, ("auto", "cpu", "cuda", "mps")) or "use auto, cpu, cuda, cuda:1 or mps"
        raise UsageError(f"no device {name!r}", remedy=remedy)
    if kind == "cuda" and int(index or 0) >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        raise UsageError(f"device {name} was asked for, but {_cuda_lack()}", remedy="use --device auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps was asked for, but there is none", remedy="use --device auto")
    return torch.device(name)


def _cuda_lack() -> str:
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch was built without CUDA"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"this machine has {count}, counted from cuda:0" if count else "no CUDA device was found"


def _fastest(device: torch.device) -> tuple[torch.dtype, str]:
    import torch

    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):  # Ampere and later
            return torch.bfloat16, "which it has units for"
        return torch.float16, "it is too old for bfloat16"
    if device.type == "cpu" and cpu_has_bfloat16():
        # Two cores, U-Net/ResNet-18, one tile of 512: 141 ms against 448 ms in float32.
        return torch.bfloat16, "which it has units for"
    return torch.float32, "safe everywhere"


def _label(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return device.type.upper()
