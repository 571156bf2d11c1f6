"""How many synthetic pictures a second: python benchmarks/synthetic.py [PICTURES]. A table, then one JSON line.

Processor seconds are counted beside wall-clock seconds, so that a busy machine does not falsify the rate of one core.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cracktool.datasets.synthetic import make_sample  # works from a checkout that is not installed

SHAPE_HW = (512, 512)


def measure(pictures: int, threads: int) -> dict[str, float]:
    """Make `pictures` with `threads` threads and return the rates."""
    wall, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda number: make_sample(number, 0, SHAPE_HW), range(pictures)):
            pass
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"threads": threads, "images_per_s": pictures / wall, "images_per_cpu_s": pictures / processor}


def main() -> None:
    """Measure with one and two threads and print."""
    pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    cv2.setNumThreads(1)  # what is measured is one core, and threads of this program
    make_sample(0, 0, SHAPE_HW)
    rows = [measure(pictures, threads) for threads in (1, 2)]
    print("threads  images/s  images/cpu-s")
    for row in rows:
        print(f"{row['threads']:>7}  {row['images_per_s']:>8.1f}  {row['images_per_cpu_s']:>12.1f}")
    print(json.dumps({"benchmark": "synthetic", "shape_hw": SHAPE_HW, "pictures": pictures, "rows": rows}))


if __name__ == "__main__":
    main()
