"""Weights and settings to a predictor, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cracktool.inference.converted import Convert
from cracktool.inference.engine import Predictor
from cracktool.inference.network import load_network


def load_predictor(
    weights: str | Path | None = None,
    *,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "auto",
    convert: Convert | None = None,
    **settings: Any,
) -> Predictor:
    """Load weights and make them ready to take photos.

    Args:
        weights: An .onnx, .xml or .pt2 file of ``crack export``, or whatever `cracktool.weights.load_weights` takes;
            None for the fast ones that ship.
        model: The model that the caller expects, to be refused when the weights are of another; needed for an
            authors' file, which does not say its own.
        device: auto, cpu, cuda, cuda:1 or mps.
        dtype: auto, float32, bfloat16 or float16.
        engine: auto, torch, onnx or openvino; see `load_network`.
        convert: Makes the ONNX file that onnx and openvino run, once: `cracktool.export.export_model`.
        settings: Keyword arguments of `Predictor`, such as ``tile`` and ``threshold``.

    Raises:
        WeightsError: The file is missing, damaged, or belongs to another network.
        UsageError: A setting is wrong, or there is no such device.

    Example:
        >>> load_predictor().mask(read_image("examples/photos/pavement.jpg")).shape
        (1200, 1600)
    """
    network = load_network(weights, model=model, device=device, dtype=dtype, engine=engine, convert=convert)
    return Predictor(network, **settings)
