"""What each part of the recipe of the weights that ship is worth, and what larger networks make of the same photos.

    python benchmarks/ablation.py TABLE DATA [ROW ...] -o WORK [--photos DIR] [--split test]

DATA holds the prepared sets of shipped_weights.py. TABLE is one of:

    parts      a U-Net over RegNetX-200MF, the recipe with one part changed at a time, 2,000 samples of 160 px each
    networks   the network of the default weights, from random and from ImageNet weights (extra `imagenet`), a U-Net
               over ResNet-101 and one of khanhha, 2,000 samples of 128 px each

All start from random weights but where a row says else, learn from as many samples in as many steps, and keep the
last weights. Scores are crack IoU over all pixels of the validation splits at threshold 0.5, because this is for
choosing, or with --split test of the test splits, of which nothing may be chosen; differences from the first row are
of pairs of photos, with the 95 % interval of a bootstrap over groups of photos; an asterisk marks those that the
interval tells from none. The last column is the share of pixels that is marked in photos without crack. --photos
names photos without masks for the row that learns from them. What is in WORK already is used.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commands import crack, train
from shipped_weights import TESTS, VALIDATED

from cracktool.images import read_mask
from cracktool.manifest import read_manifest
from cracktool.registry import shipped_weights

SCORED = {"val": VALIDATED, "test": TESTS}
SETS = {"crack500": 30, "deepcrack": 20, "canal": 12, "sut": 8, "masonry": 7, "ceramic": 4, "walls": 4, "patches": 10}
FIXED = [
    *("--recipe", "fast", "--no-pretrained", "--epochs", "4", "--batch-size", "8", "--lr", "1e-3"),
    *("--set", "augment.blur=0.25", "--set", "augment.noise=0.25", "--set", "augment.jpeg=0.25"),
    *("--set", "warmup_steps=20", "--set", "ema=0.98", "--set", "select=last", "--set", "epoch_samples=500"),
    *("--set", "val_images=1", "--set", "workers=0"),
]
SLIM = ["--set", "model_args.decoder_channels=[96,64,48,32]"]
SIZES = {"parts": ["--model", "unet_regnetx_002", *SLIM, "--size", "160"], "networks": ["--size", "128"]}
NETWORKS = {
    "unet_efficientnet_lite0": SLIM,
    "the same from ImageNet weights": [*SLIM, "--pretrained"],
    "unet_resnet101": ["--model", "unet_resnet101"],
    "khanhha_unet_resnet34": ["--model", "khanhha_unet_resnet34"],
}


def main() -> None:
    """Train what is missing of one table, score it, print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=SIZES)
    parser.add_argument("data", type=Path, help="folder of prepared sets")
    parser.add_argument("rows", nargs="*", help="rows to train and score; the first is compared with [all]")
    parser.add_argument("-o", "--out", type=Path, default=Path("work/ablation"), help="runs [work/ablation]")
    parser.add_argument("--photos", type=Path, help="photos without masks")
    parser.add_argument("--split", choices=SCORED, default="val", help="which photos are scored [val]")
    options = parser.parse_args()
    data, out = options.data.resolve(), options.out.resolve() / options.table
    clean = {split: crack_free(data, split, out) for split in ("train", "val")}
    known = NETWORKS if options.table == "networks" else parts(clean["train"], options.photos)
    rows = {name: known[name] for name in options.rows or known}
    for name, changes in rows.items():
        train(run_of(out, name), *FIXED, *SIZES[options.table], *learned_from(data, name), *changes)
    sets = SCORED[options.split]
    reports = {each: scored(data / each, options.split, out, list(rows)) for each in sets}
    print("| |", " | ".join([*(f"{each} {options.split}" for each in sets), "marked without crack"]), "|")
    print("|---|" + "--:|" * (len(sets) + 1))
    for number, name in enumerate(rows):
        cells = [cell(reports[each], number, run_of(out, name)) for each in sets]
        print(f"| {name} |", " | ".join([*cells, f"{false_alarms(clean['val'], out, name):.2%}"]), "|", flush=True)


def parts(clean: Path, photos: Path | None) -> dict[str, list[str]]:
    """Return the rows of the first table: what is changed -> options of `crack train`."""
    rows = {
        "the recipe": [],
        "photos squashed whole": ["--set", "fit=resize", "--set", "crack_crops=0", "--set", "augment.zoom=[1, 1]"],
        "cut-outs where they fall": ["--set", "crack_crops=0"],
        "no average of the weights": ["--set", "ema=0"],
        "no photos without crack": [],
        "those mined for false alarms": ["--mine", str(clean), "--set", "mine_share=0.1"],
        "a third drawn cracks": [],
        "loss + clDice": ["--loss", "bce+dice+0.5*cldice"],
        "loss + skeleton recall": ["--loss", "bce+dice+0.5*skeleton_recall"],
        "loss bce + Lovász": ["--loss", "bce+lovasz"],
        "loss Boundary Combo": ["--loss", "boundary_combo"],
        "distilled from the weights that ship": ["--teacher", str(shipped_weights()), "--set", "distil=1"],
        "also from photos without masks": ["--unlabelled", str(photos)],
    }
    if photos is None:
        del rows["also from photos without masks"]
    return rows


def learned_from(data: Path, name: str) -> list[str]:
    """Return the options that name the data sets of a row and their shares."""
    shares = dict(SETS)
    if name in ("no photos without crack", "those mined for false alarms"):
        del shares["patches"]
    if name == "a third drawn cracks":
        shares["synthetic"] = sum(shares.values()) // 2
    folders = [part for each in shares for part in ("--data", str(data / each))]
    return [*folders, "--set", f"data_weights={list(shares.values())}"]


def crack_free(data: Path, split: str, out: Path) -> Path:
    """Copy the photos of a split that show no crack into a folder and return it."""
    folder = out / f"clean_{split}"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(data / "patches").split(split)
    for entry in (each for each in manifest.entries if each.label == "uncracked"):
        target = folder / Path(entry.image).name
        if not target.exists():
            shutil.copy(manifest.image_path(entry), target)
    return folder


def scored(data: Path, split: str, out: Path, rows: Sequence[str]) -> dict[str, Any]:
    """Return the matrix and differences of all rows on a split of one data set."""
    weights = [part for name in rows for part in ("--weights", run_of(out, name))]
    return dict(json.loads(crack("eval", data, "--split", split, *weights, "--dtype", "float32", "--json", "-q")))


def cell(report: dict[str, Any], number: int, run: Path) -> str:
    """Return the score of a row, and how far it is from that of the first."""
    value = report["matrix"]["cells"][number][0]["value"]
    if number == 0:
        return f"{value:.3f}"
    (found,) = (each for each in report["differences"][str(run)] if each["score"] == "iou")
    low, high = found["ci95"]
    told = "*" if low > 0 or high < 0 else ""
    return f"{value:.3f} ({value - found['first']:+.3f}{told})"


def false_alarms(photos: Path, out: Path, name: str) -> float:
    """Return the share of pixels that a row marks in photos without crack."""
    masks = out / "false_alarms" / run_of(out, name).name
    crack("infer", photos, "-o", masks, "--weights", run_of(out, name), "--dtype", "float32", "-q")
    found = [read_mask(path).mean() for path in sorted(masks.rglob("*.png"))]
    return float(sum(found) / len(found))


def run_of(out: Path, name: str) -> Path:
    """Return the run folder of a row."""
    return out / "".join(letter if letter.isalnum() else "_" for letter in name)


if __name__ == "__main__":
    main()
