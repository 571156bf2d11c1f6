"""Reference numbers of the authors' own networks: the same weights by a rule, the same input, their output."""

from __future__ import annotations

import json
import runpy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

TOLERANCE = {torch.float32: 1e-4, torch.float64: 2e-6}


@dataclass(frozen=True)
class Reference:
    """One fixture: the authors' state dict, an input (1, 3, H, W), and what their network made of it."""

    tensors: dict[str, torch.Tensor]
    x: torch.Tensor
    outputs: dict[str, np.ndarray]


def reference(shared: Path, name: str) -> Reference:
    """Return the fixture `name` of the shared folder."""
    rule = runpy.run_path(str(shared / "parity" / "rule.py"))
    spec = json.loads((shared / "parity" / f"{name}.json").read_text())
    arrays = rule["fill"](spec["tensors"], spec["aliases"])
    tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}
    x = torch.from_numpy(rule["make_input"](*spec["input_shape"][2:]))
    with np.load(shared / "parity" / f"{name}.npz") as outputs:
        return Reference(tensors, x, dict(outputs))


def own_tensors(model, tensors):
    """Return an authors' state dict under our names, as the loader does."""
    renamed = {model.own_name(name): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}


def deviation(output: torch.Tensor, expected: np.ndarray) -> float:
    """Return the largest difference over the expected output's standard deviation."""
    return float(np.abs(output.detach().double().numpy() - expected).max() / expected.std())
