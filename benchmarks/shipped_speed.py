"""Time of the weights that ship beside the U-Net over ResNet-101: one tile of 512 px in float32.

    OMP_NUM_THREADS=1 python benchmarks/shipped_speed.py

Seconds of the processor, all networks in turn, in PyTorch and in ONNX Runtime, there with several looks too; printed
relative to the fast set in ONNX Runtime, which runs where no engine is asked for.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from shipped_weights import LOOKS

from cracktool.card import Card
from cracktool.export import export_model
from cracktool.export.parity import measure_times
from cracktool.inference import Network, load_network
from cracktool.inference.folding import fold_norms
from cracktool.inference.torch_network import TorchNetwork
from cracktool.models import build_model, model_statistics
from cracktool.registry import SHIPPED
from cracktool.weights import Checkpoint, load_weights, with_views

SIDE = 512
LARGE = "unet_resnet101"


def main() -> None:
    """Print a row for each network and engine."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        networks: dict[str, Network] = {}
        for name in SHIPPED:
            once, several = Path(folder) / f"{name}.onnx", Path(folder) / f"{name}_looking.onnx"
            checkpoint = load_weights(name)
            export_model(checkpoint, once)
            export_model(with_views(checkpoint, LOOKS), several)
            networks[f"{name}, ONNX Runtime"] = load_network(once)
            networks[f"{name}, PyTorch"] = load_network(name, device="cpu", dtype="float32", engine="torch")
            networks[f"{name}, {len(LOOKS)} looks, ONNX Runtime"] = load_network(several)
        networks[f"{LARGE}, PyTorch"] = large()
        times = measure_times(networks, SIDE, time.process_time)
    first = next(iter(times.values()))
    for name, milliseconds in times.items():
        print(f"{name:32s}{milliseconds:8.0f} ms{milliseconds / first:8.2f}")


def large() -> TorchNetwork:
    """Return the network to compare with, its norms folded as `crack infer` folds them."""
    mean, std = model_statistics(LARGE)
    card = Card(model=LARGE, mean=mean, std=std, tile=SIDE, stride=32)
    model = fold_norms(build_model(LARGE).eval(), card.stride)
    return TorchNetwork(Checkpoint(model, card, ""), torch.device("cpu"))


if __name__ == "__main__":
    main()
