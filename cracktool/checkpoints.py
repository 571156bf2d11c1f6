"""Checkpoints of the published systems as their authors saved them, opened safely.

Knows no network and no card: `cracktool.weights` gives the tensors our names and describes them.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.serialization import safe_globals

from cracktool.errors import WeightsError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training code keeps the tensors beside epoch, losses and optimizer."""

PASSED_OVER = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
)
"""Losses and histories that training code stores beside the tensors; a stand-in takes their place, unread."""

_REMEDY = "with its authors' code, save the network's state_dict() to a new file"

# All that PyTorch's reader raises on bytes that are no checkpoint: it checks little before it acts on them.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    pickle.UnpicklingError,
)


def read_authors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an authors' checkpoint under the authors' names, on the CPU; no code in it is run.

    Accepts a bare state dict and one under a key of `WRAPPERS`. A ``module.`` in front of every name, left there by
    training on several GPUs, is removed.

    Raises:
        WeightsError: The file is damaged, holds no state dict, or cannot be read without running its code.

    Example:
        >>> read_authors(Path("model_unet_vgg_16_best.pt"))["center.block.1.conv.weight"].shape
        torch.Size([512, 512, 3, 3])
    """
    found = _load(path)
    tensors = _state_dict(found)
    if not tensors:
        keys = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise WeightsError(f"there is no state dict in it, only {keys[:100] or 'nothing'}", path=path, remedy=_REMEDY)
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


class _PassedOver:
    """Stands for an object of `PASSED_OVER`: takes whatever it is made from, keeps nothing, does nothing."""

    def __new__(cls, *_: object) -> _PassedOver:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


def _load(path: Path) -> object:
    try:
        with warnings.catch_warnings(), safe_globals([(_PassedOver, name) for name in PASSED_OVER]):
            warnings.simplefilter("ignore")  # of TorchScript, before the error that says the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", path=path) from error
    except _DAMAGE as error:
        reason, remedy = _explain(str(error))
        raise WeightsError(reason, path=path, remedy=remedy) from error


def _explain(error: str) -> tuple[str, str]:
    """Return reason and remedy in the user's words."""
    if refused := re.search(r"GLOBAL (\S+) (?:was not|whose)", error):
        name = refused[1]
        content = "a whole network" if name.startswith("torch.nn.") else "more than tensors"
        return f"it holds {content}: reading {name} could run any code and is refused", _REMEDY
    if "TorchScript" in error:
        return "a TorchScript program, which carries its own code, is no checkpoint", _REMEDY
    return "damaged, or not a checkpoint of PyTorch", "copy it again"


def _state_dict(found: object) -> dict[str, Tensor]:
    """Return `found`, or what a key of `WRAPPERS` holds, if it is tensors by name; else nothing."""
    if not isinstance(found, dict):
        return {}
    for candidate in (found, *(found.get(key) for key in WRAPPERS)):
        if isinstance(candidate, dict) and all(map(_is_named_tensor, candidate.items())) and candidate:
            return dict(candidate)
    return {}


def _is_named_tensor(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)
