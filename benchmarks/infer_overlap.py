"""How much overlap tiles need: agreement with whole-image inference, and what it costs. A table, then one JSON line.

Also the measured receptive field: how far from a pixel its result still depends on, by the gradient of one logit.

    python benchmarks/infer_overlap.py [PHOTO] [--weights W] [--side 1600] [--tile PX]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from cracktool.images import read_image
from cracktool.inference import Predictor, load_network
from cracktool.weights import load_weights

OVERLAPS = (0.0, 0.0625, 0.125, 0.1875, 0.25, 0.375, 0.5)
SHARES = (0.9, 0.99, 0.999)
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", nargs="?", type=Path, default=ROOT / "examples" / "photos" / "pavement.jpg")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--side", type=int, default=1600, help="of the cut-out in px [1600]")
    parser.add_argument("--tile", type=int, help="none for what suits the photo")
    options = parser.parse_args()
    image = read_image(options.photo)[: options.side, : options.side]
    network = load_network(options.weights, device="cpu", dtype="float32", engine="torch")
    whole = Predictor(network, tile=max(image.shape)).probs(image)
    print(f"{'overlap':>8s}{'px':>6s}{'pixels run':>12s}{'of the mask differ':>20s}{'IoU':>9s}{'largest dp':>12s}")
    rows = [compare(image, whole, Predictor(network, tile=options.tile, overlap=share)) for share in OVERLAPS]
    reach = receptive_radius(options.weights, image)
    print("half of the square that holds a share of the gradient, px:", reach)
    print(json.dumps({"benchmark": "infer overlap", "tile": options.tile, "rows": rows, "radius_px": reach}))


def compare(image: np.ndarray, whole: np.ndarray, predictor: Predictor) -> dict[str, float]:
    """Print and return how tiles of one overlap differ from the whole image."""
    probs = predictor.probs(image)
    mask, expected = probs >= predictor.threshold, whole >= predictor.threshold
    axes = predictor.plan(*image.shape[:2])
    run = float(np.prod([len(axis.starts) * axis.tile for axis in axes])) / (image.shape[0] * image.shape[1])
    differ, iou = float((mask != expected).mean()), float((mask & expected).sum() / max((mask | expected).sum(), 1))
    largest = float(np.abs(probs - whole).max())
    overlap = predictor.overlap
    shared = min(axis.starts[0] + axis.tile - axis.starts[1] for axis in axes)
    print(f"{overlap:8.4f}{shared:6d}{run:12.2f}{differ:20.5%}{iou:9.5f}{largest:12.4f}", flush=True)
    return {
        "overlap": overlap,
        "shared_px": shared,
        "pixels_run": run,
        "differ": differ,
        "iou": iou,
        "largest": largest,
    }


def receptive_radius(weights: str | None, image: np.ndarray) -> dict[str, int]:
    """Return the half sides of the squares around a pixel that hold shares of the gradient of its logit."""
    checkpoint = load_weights(weights)
    side = min(image.shape[:2]) // 32 * 32
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (checkpoint.card.mean, checkpoint.card.std))
    pixels = torch.from_numpy(image[:side, :side].copy()).permute(2, 0, 1)[None].float() / 255
    x = ((pixels - mean) / std).requires_grad_()
    checkpoint.model(x)[0, 0, side // 2, side // 2].backward()
    energy = x.grad[0].abs().sum(dim=0)
    total = float(energy.sum())
    radii = range(1, side // 2)
    middle = side // 2
    held = [float(energy[middle - r : middle + r + 1, middle - r : middle + r + 1].sum()) / total for r in radii]
    return {
        f"{share:.1%}": next((r for r, part in zip(radii, held, strict=True) if part >= share), side)
        for share in SHARES
    }


if __name__ == "__main__":
    main()
