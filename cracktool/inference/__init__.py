"""Inference: photos of any size, one or many, to probabilities and masks.

`network` finds who runs the weights on tiles, `engine` makes photos into tiles and back, `folder` writes the results;
`videos` and `rasters` read and write what is no plain photo.
"""

from __future__ import annotations

from cracktool.inference.engine import Predictor
from cracktool.inference.estimate import Estimate, estimate
from cracktool.inference.events import Band, Broken, Event, Finished, Opened
from cracktool.inference.folder import FolderOptions, Planned, Result, Skipped, infer_bytes, infer_folder
from cracktool.inference.inputs import parse_shard
from cracktool.inference.interruption import interruptible
from cracktool.inference.loading import load_predictor
from cracktool.inference.network import EXPORTED, Network, load_network
from cracktool.inference.scale_out import infer_ray
from cracktool.inference.writing import Done, Failed

__all__ = [
    "EXPORTED",
    "Band",
    "Broken",
    "Done",
    "Estimate",
    "Event",
    "Failed",
    "Finished",
    "FolderOptions",
    "Network",
    "Opened",
    "Planned",
    "Predictor",
    "Result",
    "Skipped",
    "estimate",
    "infer_bytes",
    "infer_folder",
    "infer_ray",
    "interruptible",
    "load_network",
    "load_predictor",
    "parse_shard",
]
