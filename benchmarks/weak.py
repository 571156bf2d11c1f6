"""Masks learned from image labels alone: every pooling, then the two-stage recipe; a table in Markdown.

    python benchmarks/weak.py DATA [NAME ...] -o WORK

DATA holds prepared sets: `patches` (photos of one source labelled cracked or not, no mask is used) and `deepcrack`,
whose train photos are all labelled cracked; their masks are not opened either. Scores are per-image Dice on the test
photos of DeepCrack, all of them cracked, and on the crack-free validation photos of `patches`, where a mask without
crack scores 1 and any other 0. The last column mixes both as the published rule's test set does, one crack-free photo
in eight (Skamlo/crack-image-segmentation reports 0.3908 by that rule, on other photos). Weights are those of the last
epoch, so nothing is chosen. All networks start from random weights. What is in WORK already is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from commands import score, train

from cracktool.models import POOLINGS

NETWORK = [
    *("--model", "unet_regnetx_002", "--no-pretrained", "--set", "model_args.decoder_channels=[96,64,48,32]"),
    *("--set", "optimizer=adamw", "--set", "select=last", "--set", "workers=1", "--set", "ema=0.98"),
]
LABELS = [
    *("--set", "supervision=image", "--set", "fit=resize", "--set", "size=128", "--set", "loss=bce"),
    *("--set", "lr=1e-3", "--set", "batch_size=16", "--set", "epochs=4", "--set", "tile=256"),
]
PSEUDO = [
    *("--recipe", "weak_two_stage", "--set", "lr=1e-3", "--set", "batch_size=8", "--set", "size=224"),
    *("--set", "epochs=2", "--set", "epoch_samples=2400"),
]
LAST_BAND = "pseudo_band=[0.3, 0.7]"
CRACK_FREE = 0.125
SETS = (("deepcrack", "test"), ("patches", "val"))
NAMES = (*POOLINGS, "round1", "round2")


def main() -> None:
    """Train, score and print what is missing, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of prepared sets")
    parser.add_argument("-o", "--out", type=Path, default=Path("work/weak"), help="runs and reports [work/weak]")
    parser.add_argument("names", nargs="*", default=NAMES, help=f"which of {', '.join(NAMES)} [all]")
    options = parser.parse_args()
    data, out = options.data.resolve(), options.out.resolve()
    for name in options.names:
        train(out / name, *NETWORK, *settings(name, data, out))
        dice(out / name, data)
    print("| trained | Dice, cracked photos | Dice, crack-free photos | Dice, published rule |\n|---|--:|--:|--:|")
    for name in options.names:
        cracked, free = dice(out / name, data)
        print(f"| {name} | {cracked:.3f} | {free:.3f} | {(1 - CRACK_FREE) * cracked + CRACK_FREE * free:.3f} |")


def settings(name: str, data: Path, out: Path) -> list[object]:
    """Return what the run of this name is trained on, and how."""
    if name in POOLINGS:
        return [*LABELS, "--data", data / "patches", "--set", f"pooling={name}"]
    both = ["--data", data / "patches", "--data", data / "deepcrack", "--set", "data_weights=[1,2]"]
    if name == "round1":
        return [*PSEUDO, *both, "--set", f"teacher={out / 'topk'}"]
    return [*PSEUDO, *both, "--set", f"teacher={out / 'round1'}", "--set", "refine=none", "--set", LAST_BAND]


def dice(run: Path, data: Path) -> tuple[float, float]:
    """Return the mean Dice per photo on cracked and on crack-free photos."""
    reports = [score(data / name, split, run, run / f"{name}.json") for name, split in SETS]
    cracked, free = (float(report["scores"]["dice"]["empty_is_one"]["mean"]) for report in reports)
    return cracked, free


if __name__ == "__main__":
    main()
