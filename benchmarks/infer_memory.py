"""Peak memory on a photo and on one ten times taller, and over many small photos: a table, then one JSON line.

The tall photo is measured twice: `engine` is `Predictor.bands` on pixels that are there already, `command` is
`infer_folder` with decoding and writing (OpenCV holds a photo twice for a moment while it decodes). `many` is
`infer_folder` on JPEGs of 200 to 700 px; resident memory is read after each (without the pages of files, which the
kernel takes and gives back as it likes), a straight line is laid through it from the second quarter on, and its rise
compared with the scatter around it. Each measurement is a process of its own, on the CPU, with a network of one
convolution: what is measured is the code around a network. Tiles are of one size, whatever suits the photo's height.

    python benchmarks/infer_memory.py [--width 2000] [--height 1500] [--photos 2000]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from cracktool.card import Card
from cracktool.images import Image, encode_jpeg
from cracktool.inference import Predictor, infer_folder
from cracktool.inference.torch_network import TorchNetwork
from cracktool.weights import Checkpoint

TIMES = 10
MIB = 2**20


def main() -> None:
    """Measure both photos in both ways, each in a new process, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=2000)
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--photos", type=int, default=2000, help="small ones; 0 for none")
    parser.add_argument("--one", choices=["engine", "command", "many"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one == "many":
        print(json.dumps(resident(options.photos)))
        return
    if options.one:
        print(measure(options.one, options.height, options.width))
        return
    print("what        height   photo MiB    peak MiB   beyond the photo MiB")
    figures: dict[str, float] = {"times_taller": TIMES}
    for what in ("engine", "command"):
        low, high = (run(what, height, options.width) for height in (options.height, TIMES * options.height))
        photo = options.height * options.width * 3
        figures[f"{what}_growth"] = round((high - low - (TIMES - 1) * photo) / (low - photo), 4)
        figures[f"{what}_bytes_per_photo_byte"] = round((high - low) / ((TIMES - 1) * photo), 3)
    if options.photos:
        figures |= rise(options.photos)
    print(json.dumps(figures))


def rise(photos: int) -> dict[str, float]:
    """Print and return how resident memory rises over many photos, in a new process, and how it scatters."""
    command = [sys.executable, __file__, "--one", "many", "--photos", str(photos)]
    after = np.array(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)) / MIB
    settled = np.arange(photos // 4, photos)
    slope, start = np.polyfit(settled, after[settled], 1)
    scatter = float((after[settled] - slope * settled - start).std())
    rises = slope * len(settled)
    print(f"{photos} small photos: {after[settled].mean():.0f} MiB, rises by {rises:.1f}, scatters by {scatter:.1f}")
    return {"photos": photos, "rise_mib": round(float(rises), 2), "scatter_mib": round(scatter, 2)}


def resident(photos: int) -> list[int]:
    """Run many small photos; return the resident memory of this process, without files', in bytes after each."""
    import psutil

    sizes = np.random.default_rng(0).integers(200, 700, (40, 2))
    process, after = psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        for number in range(photos):
            path = Path(folder) / "in" / f"{number:05}.jpg"
            if number < len(sizes):
                path.write_bytes(encode_jpeg(np.random.default_rng(number).integers(0, 256, sizes[number], np.uint8)))
            else:
                os.link(path.with_name(f"{number % len(sizes):05}.jpg"), path)
        for _ in infer_folder(predictor(), [path.parent], Path(folder) / "masks"):
            now = process.memory_info()
            after.append(now.rss - getattr(now, "shared", 0))
    return after


def predictor() -> Predictor:
    """Return a network of one convolution, ready to take photos."""
    card = Card(model="conv", mean=(0.5,) * 3, std=(0.2,) * 3)
    checkpoint = Checkpoint(torch.nn.Conv2d(3, 1, 3, padding=1), card, "none")
    return Predictor(TorchNetwork(checkpoint, torch.device("cpu")), tile=512)


def run(what: str, height: int, width: int) -> int:
    """Print a line of the table, and return the peak memory in bytes of a new process that runs one photo."""
    command = [sys.executable, __file__, "--one", what, "--height", str(height), "--width", str(width)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    photo = height * width * 3
    print(f"{what:8s}{height:10d}{photo / MIB:12.0f}{peak / MIB:12.0f}{(peak - photo) / MIB:23.0f}")
    return peak


def measure(what: str, height: int, width: int) -> int:
    """Run one photo, and return the peak memory of this process in bytes."""
    if what == "engine":
        pixels = np.repeat(striped(height, width)[..., None], 3, axis=2)
        for _ in predictor().bands(["photo"], lambda _: pixels):
            pass
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "photo.jpg"
            path.write_bytes(encode_jpeg(striped(height, width)))
            list(infer_folder(predictor(), [path], Path(folder) / "masks"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def striped(height: int, width: int) -> Image:
    """Return rows of one grey each, uint8 (height, width): no tile is passed over as empty."""
    return np.broadcast_to(np.random.default_rng(0).integers(0, 256, (height, 1), np.uint8), (height, width))


if __name__ == "__main__":
    main()
