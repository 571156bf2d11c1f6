"""From the start of the process to the first photo's mask, by each engine: a table, then one JSON line.

`crack infer` on one example photo of 1600 x 1200 px; the weights are converted before. The best of some runs counts:
what else the machine does can only add to it.

    python benchmarks/infer_start.py [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from commands import crack

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "pavement.jpg"
ENGINES = ("torch", "onnx", "openvino")


def main() -> None:
    """Run every engine in turn, print the best of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        infer(Path(folder), "onnx")  # converts
        taken = [{engine: infer(Path(folder), engine) for engine in ENGINES} for _ in range(options.runs)]
    best = {engine: [min(run[engine][i] for run in taken) for i in (0, 1)] for engine in ENGINES}
    print(f"{'engine':10s}{'s to the mask':>15s}{'processor s':>13s}")
    for engine, (wall, processor) in best.items():
        print(f"{engine:10s}{wall:15.2f}{processor:13.2f}")
    named = dict(zip(("seconds", "processor_seconds"), zip(*best.values(), strict=True), strict=True))
    figures = {name: dict(zip(ENGINES, map(round, values, [3] * 3), strict=True)) for name, values in named.items()}
    print(json.dumps({"benchmark": "infer start", **figures}))


def infer(folder: Path, engine: str) -> tuple[float, float]:
    """Return wall-clock and processor seconds of one run."""
    before, began = os.times(), time.perf_counter()
    crack("infer", PHOTO, "-o", folder / "masks", "--engine", engine, "--device", "cpu", "--overwrite", "-q")
    wall, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


if __name__ == "__main__":
    main()
