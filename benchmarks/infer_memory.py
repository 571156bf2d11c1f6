"""Peak memory of `infer_folder` on a photo and on one ten times taller: a table, then one JSON line.

Each photo is run in a process of its own, on the CPU, with a network of one convolution: what is measured is the
engine and the files around it, not a network.

    python benchmarks/infer_memory.py [--width 2000] [--height 1500]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TIMES = 10
MIB = 2**20


def main() -> None:
    """Measure both photos, each in a new process, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=2000)
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(options.one))
        return
    beyond = []
    print("     height      width   photo MiB    peak MiB   beyond the photo MiB")
    for height in (options.height, TIMES * options.height):
        photo = height * options.width * 3
        peak = run(height, options.width)
        beyond.append(peak - photo)
        print(f"{height:11d}{options.width:11d}{photo / MIB:12.0f}{peak / MIB:12.0f}{(peak - photo) / MIB:23.0f}")
    growth = beyond[1] / beyond[0] - 1
    print(json.dumps({"times_taller": TIMES, "growth_beyond_the_photo": round(growth, 4)}))


def run(height: int, width: int) -> int:
    """Return the peak memory in bytes of a new process that runs one photo."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.png"
        write_photo(path, height, width)
        command = [sys.executable, __file__, "--one", str(path)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def write_photo(path: Path, height: int, width: int) -> None:
    """Write a grey photo with a slanting crack."""
    rows = np.arange(height)
    pixels = np.full((height, width), 150, np.uint8)
    for offset in range(4):
        pixels[rows, (rows // 3 + offset) % width] = 40
    from cracktool.images import encode_png

    path.write_bytes(encode_png(pixels))


def measure(path: Path) -> int:
    """Run one photo and return the peak memory of this process in bytes."""
    import torch

    from cracktool.inference import Predictor, TorchNetwork, infer_folder
    from cracktool.weights import Card, Checkpoint

    network = TorchNetwork(
        Checkpoint(torch.nn.Conv2d(3, 1, 3, padding=1), Card(model="conv", mean=(0.5,) * 3, std=(0.2,) * 3), "none"),
        torch.device("cpu"),
    )
    list(infer_folder(Predictor(network), [path], path.parent / "out"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
