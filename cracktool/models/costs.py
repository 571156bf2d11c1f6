"""What each listed network costs: counted from the network itself, and the time that was measured once, as a table.

`benchmarks/models.py` writes the table, ``costs.csv``; building thirty networks to count them again takes too long for
a listing.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from cracktool.models.padding import PaddedModel

TABLE = Path(__file__).with_name("costs.csv")

MASK_SIDE = 512
"""Costs are those of one mask of this side, px; a network that enlarges takes a photo smaller by its scale."""


@dataclass(frozen=True)
class Cost:
    """What one network costs.

    Args:
        parameters: Number of learned values.
        gmacs: Multiplications with addition for one mask of 512 x 512 px, in thousand millions.
        stride: Multiple to which inputs are padded, px.
        time: CPU time for that mask over that of ``unet_resnet18``, measured alternately.
    """

    parameters: int
    gmacs: float
    stride: int
    time: float


def count(model: PaddedModel) -> tuple[int, float]:
    """Return parameters and GMACs of a network for one mask of `MASK_SIDE`; runs it in evaluation mode."""
    reference = next(model.parameters())
    side = MASK_SIDE // model.scale
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side, device=reference.device))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, counter.get_total_flops() / 2e9  # the counter takes a multiplication and an addition as two


def read_costs() -> dict[str, Cost]:
    """Return the recorded costs by the name of the model."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {
            row["model"]: Cost(int(row["parameters"]), float(row["gmacs"]), int(row["stride"]), float(row["time"]))
            for row in csv.DictReader(file)
        }
