"""Inference: photos of any size, one or many, to probabilities and masks.

`network` runs a checkpoint on tiles, `engine` makes photos into tiles and back, `folder` writes the results.
"""

from __future__ import annotations

from cracktool.inference.engine import Predictor
from cracktool.inference.events import Band, Broken, Event, Finished, Opened
from cracktool.inference.folder import FolderOptions, Planned, Result, Skipped, infer_bytes, infer_folder
from cracktool.inference.network import Network, OnnxNetwork, TorchNetwork, load_network
from cracktool.inference.writing import Done, Failed

__all__ = [
    "Band",
    "Broken",
    "Done",
    "Event",
    "Failed",
    "Finished",
    "FolderOptions",
    "Network",
    "OnnxNetwork",
    "Opened",
    "Planned",
    "Predictor",
    "Result",
    "Skipped",
    "TorchNetwork",
    "infer_bytes",
    "infer_folder",
    "load_network",
]
