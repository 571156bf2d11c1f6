"""What the synthetic photos are worth, and how fast they are made.

    python benchmarks/synthetic.py transfer DATA [-o WORK] [--steps 400] [NAME ...]
    python benchmarks/synthetic.py rate [--pictures 60]

`transfer` trains one small network for equal steps on real photos (the train splits of DeepCrack and Crack500), on
synthetic ones, and on both by halves, each from random weights, and scores the last weights at the threshold 0.5 on
real test photos. DATA holds prepared sets: deepcrack, crack500, canal and cfd; canal and CFD are never trained on.
Nothing is chosen by a score. Prints a table in Markdown, then one JSON line. What is in WORK already is used.

`rate` prints pictures per second; processor seconds are counted beside wall-clock seconds, so that a busy machine does
not falsify the rate of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
from commands import crack, score, train

from cracktool.datasets.synthetic import make_sample

TESTS = ("deepcrack", "canal", "cfd")
NAMES = ("real", "synthetic", "both")
BATCH = 8
NETWORK = [
    *("--model", "unet_regnetx_002", "--no-pretrained", "--set", "model_args.decoder_channels=[64,48,32,24]"),
    *("--size", 160, "--batch-size", BATCH, "--lr", 2e-3, "--set", "crack_crops=0.5", "--set", "warmup_steps=20"),
    *("--set", "epochs=1", "--set", "select=last", "--set", "val_images=4", "--set", "workers=0", "--set", "tile=256"),
]
SHAPE_HW = (512, 512)


def main() -> None:
    """Do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    transfer = kinds.add_parser("transfer")
    transfer.add_argument("data", type=Path, help="folder of prepared sets")
    transfer.add_argument("names", nargs="*", default=NAMES, help=f"which of {', '.join(NAMES)} [all]")
    transfer.add_argument("-o", "--out", type=Path, default=Path("work/synthetic"), help="runs [work/synthetic]")
    transfer.add_argument("--steps", type=int, default=400, help="of each training [400]")
    transfer.add_argument("--pictures", type=int, default=800, help="synthetic ones [800]")
    rate = kinds.add_parser("rate")
    rate.add_argument("--pictures", type=int, default=60, help="how many to make [60]")
    options = parser.parse_args()
    if options.kind == "rate":
        print_rate(options.pictures)
    else:
        print_transfer(options)


def print_transfer(options: argparse.Namespace) -> None:
    """Train, score and print what is missing, then the table."""
    data, out = options.data.resolve(), options.out.resolve()
    made = out / "photos"
    size = ("--size", "384x384", "--split", "0.99/0.01/0")
    if not (made / "manifest.csv").is_file():
        crack("prepare", "synthetic", "-n", options.pictures, *size, "-o", made)
    real = ["--data", data / "deepcrack", "--data", data / "crack500"]
    shares = {
        "real": [*real, "--set", "data_weights=[1,1]"],
        "synthetic": ["--data", made],
        "both": [*real, "--data", made, "--set", "data_weights=[1,1,2]"],
    }
    rows = {}
    for name in options.names:
        steps = ("--set", f"epoch_samples={options.steps * BATCH}")
        train(out / name, *NETWORK, *steps, *shares[name])
        rows[name] = {test: pooled_iou(out / name, data / test) for test in TESTS}
    print(f"| trained on | {' | '.join(TESTS)} |\n|---|{'--:|' * len(TESTS)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{row[test]:.3f}' for test in TESTS)} |")
    print(json.dumps({"benchmark": "synthetic transfer", "score": "crack IoU, pooled", "steps": options.steps} | rows))


def pooled_iou(run: Path, data: Path) -> float:
    """Return the crack IoU of the last weights on the test split, pooled over its pixels."""
    report = score(data, "test", run / "last.safetensors", run / f"{data.name}.json", "--threshold", 0.5)
    return float(report["scores"]["iou"]["pooled"])


def print_rate(pictures: int) -> None:
    """Measure with one and two threads and print."""
    cv2.setNumThreads(1)  # what is measured is one core, and threads of this program
    make_sample(0, 0, SHAPE_HW)
    rows = [measure(pictures, threads) for threads in (1, 2)]
    print("threads  images/s  images/cpu-s")
    for row in rows:
        print(f"{row['threads']:>7}  {row['images_per_s']:>8.1f}  {row['images_per_cpu_s']:>12.1f}")
    print(json.dumps({"benchmark": "synthetic", "shape_hw": SHAPE_HW, "pictures": pictures, "rows": rows}))


def measure(pictures: int, threads: int) -> dict[str, float]:
    """Make `pictures` with `threads` threads and return the rates."""
    wall, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda number: make_sample(number, 0, SHAPE_HW), range(pictures)):
            pass
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"threads": threads, "images_per_s": pictures / wall, "images_per_cpu_s": pictures / processor}


if __name__ == "__main__":
    main()
