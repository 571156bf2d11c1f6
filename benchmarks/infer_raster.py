"""A gigapixel GeoTIFF in little memory: a table of peak memory and cost per megapixel, then one JSON line.

Each photo is a process of its own, on the CPU. The last row is a photo of four times the height of the one before.

    python benchmarks/infer_raster.py [--width 20000] [--heights 50000,200000] [--costs 1,10,100,1000] [--network conv]

`conv` is a network of one convolution in ONNX Runtime, which runs the default weights too: what is measured is the code
around a network. `conv-torch` is the same in PyTorch, whose libraries take more memory. `default` are the weights that
ship, in PyTorch; a gigapixel takes them an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cracktool.card import METADATA_KEY, Card
from cracktool.images import read_size
from cracktool.inference import Done, Predictor, infer_folder, load_network
from cracktool.inference.network import Network
from cracktool.inference.runtimes import OnnxNetwork

MIB = 2**20
BLOCK = 512


def main() -> None:
    """Measure all sizes, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=20_000)
    parser.add_argument("--heights", default="50000,200000", help="of the photos whose memory is measured")
    parser.add_argument("--costs", default="1,10,100,1000", help="megapixels of square photos whose time is measured")
    parser.add_argument("--network", choices=["conv", "conv-torch", "default"], default="conv")
    parser.add_argument("--tile", default="auto", help="px, or auto")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.network, options.tile)))
        return
    print(f"{'photo':>18s}{'Mpx':>9s}{'peak MiB':>10s}{'cpu s / Mpx':>13s}")
    heights = [int(height) for height in options.heights.split(",") if height]
    peaks = [run(height, options.width, options)["peak"] for height in heights]
    sides = [round(math.sqrt(1e6 * float(cost))) for cost in options.costs.split(",") if cost]
    costs = [run(side, side, options)["cost"] for side in sides]
    figures = {"peak_mib": [round(peak / MIB) for peak in peaks], "cpu_s_per_megapixel": [round(c, 4) for c in costs]}
    if len(peaks) > 1:
        figures["growth"] = round(peaks[-1] / peaks[0] - 1, 4)
    values = {name: value for name, value in vars(options).items() if name != "one"}
    print(json.dumps({"benchmark": "infer raster", **values} | figures))


def run(height: int, width: int, options: argparse.Namespace) -> dict[str, float]:
    """Print a line of the table, and return what a new process measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder) / "ortho.tif", height, width)
        more = ["--network", options.network, "--tile", options.tile]
        command = [sys.executable, __file__, "--one", str(path), *more]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    pixels = height * width / 1e6
    found["cost"] /= pixels
    print(f"{f'{height} x {width}':>18s}{pixels:9.0f}{found['peak'] / MIB:10.0f}{found['cost']:13.4f}", flush=True)
    return found


def measure(path: Path, kind: str, tile: str) -> dict[str, float]:
    """Run one photo; return the peak memory of this process in bytes and processor seconds."""
    network = build(kind, path.parent)
    predictor = Predictor(network, tile=int(tile) if tile.isdecimal() else None)
    warm = make(path.with_name("warm.tif"), 600, 600)
    done = list(infer_folder(predictor, [warm], path.parent / "warm"))
    height, width = read_size(path)
    photos = [path]  # of a small one several, as in a folder of them
    for number in range(1, round(50e6 / (height * width))):
        photos.append(path.with_name(f"{number}.tif"))
        photos[-1].hardlink_to(path)
    began = time.process_time()
    done += infer_folder(predictor, photos, path.parent / "masks")
    cost = (time.process_time() - began) / len(photos)
    assert all(isinstance(each, Done) for each in done), done
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak": peak, "cost": cost}


def build(kind: str, folder: Path) -> Network:
    """Return the network of a name."""
    card = Card(model="conv", mean=(0.5,) * 3, std=(0.2,) * 3)
    if kind == "conv":
        return OnnxNetwork(write_convolution(folder / "conv.onnx", card))
    if kind == "default":
        return load_network(device="cpu", dtype="float32", engine="torch")
    import torch  # only where it is asked for: its libraries take memory

    from cracktool.inference.torch_network import TorchNetwork
    from cracktool.weights import Checkpoint

    return TorchNetwork(Checkpoint(torch.nn.Conv2d(3, 1, 3, padding=1), card, "none"), torch.device("cpu"))


def write_convolution(path: Path, card: Card) -> Path:
    """Write a convolution of 3 x 3 with a sigmoid behind it as an ONNX file."""
    import onnx

    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    takes, gives = (
        helper.make_tensor_value_info(name, floats, ["batch", channels, "height", "width"])
        for name, channels in (("image", 3), ("probs", 1))
    )
    weight = np.random.default_rng(0).normal(0, 0.1, (1, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["logits"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["logits"], ["probs"]),
    ]
    graph = helper.make_graph(nodes, "conv", [takes], [gives], [onnx.numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, path)
    return path


def make(path: Path, height: int, width: int) -> Path:
    """Write a tiled GeoTIFF of noise, block by block."""
    import rasterio
    from rasterio.windows import Window

    block = np.random.default_rng(0).integers(90, 170, (3, BLOCK, width), dtype=np.uint8)
    place = rasterio.transform.from_origin(500_000, 5_000_000, 0.01, 0.01)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=height, width=width, dtype="uint8", tiled=True, blockxsize=BLOCK,
        blockysize=BLOCK, crs="EPSG:25832", transform=place, BIGTIFF="IF_SAFER",
    ) as dataset:  # fmt: skip
        for top in range(0, height, BLOCK):
            rows = min(BLOCK, height - top)
            dataset.write(block[:, :rows], window=Window(0, top, width, rows))
    return path


if __name__ == "__main__":
    main()
