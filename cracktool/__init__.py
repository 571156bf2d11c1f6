"""cracktool: find cracks in photos, pixel by pixel, and measure them.

The public names below are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cracktool.config import TrainConfig
    from cracktool.errors import CrackError
    from cracktool.evaluation import evaluate
    from cracktool.images import read_image, write_mask
    from cracktool.inference import load_predictor
    from cracktool.models import build_model
    from cracktool.training import train

_HOMES = {
    "CrackError": "errors",
    "TrainConfig": "config",
    "build_model": "models",
    "evaluate": "evaluation",
    "load_predictor": "inference",
    "read_image": "images",
    "train": "training",
    "write_mask": "images",
}

__all__ = [
    "CrackError",
    "TrainConfig",
    "build_model",
    "evaluate",
    "load_predictor",
    "read_image",
    "train",
    "write_mask",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cracktool' has no attribute {name!r}")
    return getattr(import_module(f"cracktool.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
