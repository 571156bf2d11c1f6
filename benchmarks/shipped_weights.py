"""Repeat the weights that ship: prepare the data sets, train, score, and write the cards.

    pip install -e ".[imagenet]"
    python benchmarks/shipped_weights.py RAW [fast] [accurate] [-o WORK]

RAW holds the raw data sets, one folder each, in the layouts that `crack prepare` reads: crack500, deepcrack, canal,
sut, masonry, ceramic, walls, patches, cfd (weights/README.md says where they are to be had). WORK takes the prepared
sets and the runs; what is there already is used. The last step replaces weights/crack-NAME.safetensors and
weights/scores/NAME/, and the ONNX file of the fast set. Fast alone trains accurate too, which teaches it. The extra of
the first line holds the ImageNet weights that they begin with.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from commands import crack

from cracktool.config import read_recipe
from cracktool.evaluation import evaluate, model_origin, predictions_from_model
from cracktool.export import ExportOptions, export_model
from cracktool.files import replace_file
from cracktool.images import encode_jpeg, read_image
from cracktool.inference import load_predictor
from cracktool.manifest import read_manifest
from cracktool.metrics import Histogram
from cracktool.registry import SHIPPED, shipped_weights, weights_path
from cracktool.weights import load_weights, read_weights, save_weights, with_views

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
DRAWN = {  # what only the last stages learn: prepare's options
    "paving": ("--material", "paving", "--pattern", "none", "--seed", "1"),
    "networks": ("--pattern", "network", "--seed", "2"),
    "scenes": ("--scene", "--pattern", "none", "--seed", "3"),
    "cracked_scenes": ("--scene", "--seed", "4"),
}


@dataclass(frozen=True)
class Stage:
    """A last stage: learns more drawings, and ships in a mean with what it began with.

    Args:
        name: Of its run.
        shares: Of the samples in %, where they are not the recipe's.
        options: More options of `crack train`.
        kept: What it weighs in the mean.
        data: Its drawings, for the card.
        teacher: The set whose probabilities it learns beside the masks, of `LOOKS` looks; empty for none.
    """

    name: str
    shares: Mapping[str, int]
    options: tuple[str, ...]
    kept: float
    data: str
    teacher: str = ""


LAST = {
    "fast": (
        Stage(
            name="joints",
            shares={"crack500": 33, "synthetic": 13, "paving": 5, "networks": 8},
            options=("--set", "epoch_samples=2300", "--seed", "14"),
            kept=2 / 3,
            data="drawn by crack prepare synthetic, 640: paving without crack, networks of cracks",
        ),
        Stage(
            name="taught",
            shares={"crack500": 33, "synthetic": 9, "paving": 5, "networks": 7, "scenes": 2, "cracked_scenes": 2},
            options=("--set", "epoch_samples=1500", "--seed", "21", "--set", "select=last", "--set", "distil=1.0"),
            kept=1 / 3,
            data="drawn by crack prepare synthetic, 640: scenes",
            teacher="accurate",
        ),
    ),
    "accurate": (
        Stage(
            name="scenes",
            shares={
                "crack500": 32,
                "patches": 3,
                "synthetic": 8,
                "paving": 4,
                "networks": 6,
                "scenes": 5,
                "cracked_scenes": 5,
            },
            options=("--set", "epoch_samples=1500", "--lr", "3e-4", "--seed", "18", "--set", "select=last"),
            kept=1 / 2,
            data="drawn by crack prepare synthetic, 1280: paving without crack, networks of cracks, scenes",
        ),
    ),
}
LOOKS = 0.75, 1, 1.5  # of a teacher at a photo, in times its side
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
    for name, drawn in DRAWN.items():
        crack("prepare", "synthetic", "-n", "400", "--size", "448x448", *drawn, "-o", f"data/{name}")
    for name in options.names:
        ship(name, learn(name))
    if "fast" in options.names:
        export_model(load_weights(), shipped_weights().with_suffix(".onnx"), ExportOptions(overwrite=True))
        draw()


@cache
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
    weights = average(runs[-2], runs[-1], 1 / 2, Path(f"runs/{name}.safetensors"), DATA)
    for stage in LAST[name]:
        weights = calibrated(go_on(name, weights, stage))
    return weights


def go_on(name: str, weights: Path, stage: Stage) -> Path:
    """Train a last stage from weights, and return the mean of both."""
    recipe = read_recipe(f"{name}_polish")
    shares = dict(zip(recipe["data"], recipe["data_weights"], strict=True))
    shares |= {f"data/{each}": share for each, share in stage.shares.items()}
    data = ("--set", f"data={json.dumps(list(shares))}", "--set", f"data_weights={json.dumps(list(shares.values()))}")
    run = Path(f"runs/{name}_{stage.name}")
    length = ("--epochs", 5, *stage.options)
    teacher = ("--teacher", looking(learn(stage.teacher))) if stage.teacher else ()
    crack("train", "--recipe", f"{name}_polish", "--init", weights, *data, *length, *teacher, "-o", run, "--resume")
    learnt = read_weights(weights)[1].data
    return average(weights, run, stage.kept, run.with_suffix(".safetensors"), (*learnt, stage.data))


def looking(weights: Path) -> Path:
    """Write weights that look several times at a photo: slower and surer, for others to learn from."""
    several = with_views(load_weights(weights), LOOKS)
    path = weights.with_name(f"{weights.stem}_looking.safetensors")
    save_weights(path, several.model.state_dict(), several.card)
    return path


def average(before: Path, after: Path, share: float, path: Path, data: tuple[str, ...]) -> Path:
    """Write the mean of weights and of those that went on from them (model soups: Wortsman et al. 2022)."""
    (first, _), (second, card) = (read_weights(weights_path(each)) for each in (before, after))
    tensors = {
        name: torch.lerp(first[name].double(), each.double(), share).to(each.dtype) for name, each in second.items()
    }
    save_weights(path, tensors, replace(card, data=data, licence=LICENCE, scores=()))
    return path


def calibrated(weights: Path) -> Path:
    """Multiply the logits so that probabilities mean what they say (temperature scaling: Guo et al. 2017).

    The factor is that of the least cross-entropy near the cracks of the validation splits, as a power of 2: so no logit
    is rounded, and the masks stay what they were bit for bit.
    """
    predictor, near = load_predictor(weights), Histogram.pool(())
    for name in VALIDATED:
        part = read_manifest(f"data/{name}").split("val")
        origin = model_origin(predictor, weights.name)
        near += evaluate(part, predictions_from_model(part, predictor), origin=origin).near
    odds = np.log((np.arange(256) + 0.5) / (255.5 - np.arange(256)))

    def cross_entropy(factor: float) -> float:
        return float(near.crack @ np.logaddexp(0, -factor * odds) + near.background @ np.logaddexp(0, factor * odds))

    factor = min((2.0**power for power in range(-3, 4)), key=cross_entropy)
    tensors, card = read_weights(weights)
    last = {name: each * factor if name.startswith("segmentation_head.") else each for name, each in tensors.items()}
    path = weights.with_name(f"{weights.stem}_calibrated.safetensors")
    save_weights(path, last, card)
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
