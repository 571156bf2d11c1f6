"""`crack infer` against the bare network, MONAI's sliding window and the 10 %-stride patch loop: a table, a JSON line.

All by the same network, tile and overlap, on the CPU, in turn and in one process, with processor seconds beside
wall-clock seconds, so that a busy machine does not falsify the ratios. The bare network runs the same tiles from
memory, without decoding, blending or writing. The patch loop is that of khanhha/crack_segmentation as published:
windows of the tile's side, moved by a tenth of it, one at a time. MONAI gets photos that are decoded.

    python benchmarks/infer_rate.py [--photos 40] [--side 3000x4000] [--small 300] [--tile PX] [--loop-side 1500]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from cracktool.images import encode_jpeg, read_image
from cracktool.inference import Predictor, infer_folder, load_network
from cracktool.inference.network import Network

ROOT = Path(__file__).parents[1]
OVERLAP = 0.25
MONAI_PIXELS = 120e6  # of a set; more of them tell nothing new


def main() -> None:
    """Make photos, time all ways of running them, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=40, help="large ones, 0 for none [40]")
    parser.add_argument("--side", default="3000x4000", help="height x width of the large ones [3000x4000]")
    parser.add_argument("--small", type=int, default=300, help="small photos of mixed sizes, 0 for none [300]")
    parser.add_argument(
        "--tile", type=int, help="px; none for what suits each photo, against the weights' own of the others"
    )
    parser.add_argument("--loop-side", type=int, default=1500, help="of the patch loop's photo, px; 0 for none")
    options = parser.parse_args()
    height, width = map(int, options.side.split("x"))
    network = load_network(device="cpu", dtype="float32", engine="torch")
    predictor = Predictor(network, tile=options.tile, overlap=OVERLAP)
    tile = options.tile or network.card.tile
    rng = np.random.default_rng(0)
    mixed = [tuple(int(side) for side in rng.integers(200, 700, 2)) for _ in range(options.small)]
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        large = make_photos(Path(folder) / "large", [(height, width)] * options.photos)
        small = make_photos(Path(folder) / "small", mixed)
        print(f"{'what':34s}{'wall s':>9s}{'cpu s':>9s}{'Mpx / cpu s':>13s}")
        for name, photos in (("large", large), ("small", small)):
            if not photos:
                continue
            figures |= compare(name, photos, predictor, tile, Path(folder))
    if options.loop_side:
        figures |= compare_loop(options.loop_side, predictor, tile)
    print(json.dumps({"benchmark": "infer rate", **vars(options)} | figures))


def compare(name: str, photos: Sequence[Path], predictor: Predictor, tile: int, folder: Path) -> dict[str, float]:
    """Time one set of photos; return the ratios, above 1 where `crack infer` is faster."""
    network = predictor.network
    images = [read_image(photo) for photo in photos]
    totals = np.cumsum([image.shape[0] * image.shape[1] for image in images])
    few = [image for image, total in zip(images, totals, strict=True) if total <= MONAI_PIXELS]
    batches = list(tiles_of(images, predictor))
    network(batches[0])  # warms up
    ways: dict[str, tuple[Sequence[np.ndarray], Callable[[], object]]] = {
        "bare": (images, lambda: [network(batch) for batch in batches]),
        "folder": (images, lambda: list(infer_folder(predictor, list(photos), folder / f"{name}_{time.time_ns()}"))),
        "monai": (few, lambda: [monai_mask(image, network, tile) for image in few]),
    }
    rates = {way: rate(f"{name} {way}", run, used) for way, (used, run) in ways.items()}
    return {
        f"{name}_of_bare": round(rates["folder"] / rates["bare"], 3),
        f"{name}_times_monai": round(rates["folder"] / rates["monai"], 2),
    }


def compare_loop(side: int, predictor: Predictor, tile: int) -> dict[str, float]:
    """Time the patch loop on one photo."""
    image = texture(side, side)
    predictor.mask(image)
    ours = rate("loop's photo, engine", lambda: predictor.mask(image), [image])
    theirs = rate("loop's photo, 10 % stride", lambda: patch_loop(image, predictor.network, tile), [image])
    return {"times_patch_loop": round(ours / theirs, 1)}


def rate(what: str, run: Callable[[], object], images: Sequence[np.ndarray]) -> float:
    """Print and return the megapixels per processor second of a run over some images."""
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    wall, processor = time.perf_counter(), time.process_time()
    run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    found = pixels / 1e6 / processor
    print(f"{what:34s}{wall:9.1f}{processor:9.1f}{found:13.2f}", flush=True)
    return found


def tiles_of(images: Sequence[np.ndarray], predictor: Predictor):
    """Yield the tiles that the engine runs, uint8 (B, h, w, 3), in batches of one shape."""
    for image in images:
        rows, columns = predictor.plan(*image.shape[:2])
        padded = np.pad(image, ((0, rows.padded - len(image)), (0, columns.padded - image.shape[1]), (0, 0)), "edge")
        cut = [padded[y : y + rows.tile, x : x + columns.tile] for y in rows.starts for x in columns.starts]
        step = max(512 * 512 // (rows.tile * columns.tile), 1)
        for start in range(0, len(cut), step):
            yield torch.from_numpy(np.stack(cut[start : start + step]))


def monai_mask(image: np.ndarray, network: Network, tile: int) -> np.ndarray:
    """Return the mask by MONAI's sliding window, Gaussian weights as its documentation advises for segmentation."""
    from monai.inferers import sliding_window_inference

    def run(batch: torch.Tensor) -> torch.Tensor:
        return network(batch.permute(0, 2, 3, 1).to(torch.uint8).contiguous())[:, None]

    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        probs = sliding_window_inference(pixels, (tile, tile), 1, run, overlap=OVERLAP, mode="gaussian")
    return (probs[0, 0] >= 0.5).numpy()


def patch_loop(image: np.ndarray, network: Network, tile: int) -> np.ndarray:
    """Return the mask as the mean of windows moved by a tenth of their side."""
    height, width = image.shape[:2]
    total, count = np.zeros((height, width)), np.zeros((height, width))
    step = tile // 10
    for top in [*range(0, height - tile, step), height - tile]:
        for left in [*range(0, width - tile, step), width - tile]:
            window = np.ascontiguousarray(image[top : top + tile, left : left + tile])
            total[top : top + tile, left : left + tile] += network(torch.from_numpy(window)[None])[0].numpy()
            count[top : top + tile, left : left + tile] += 1
    return total / count >= 0.5


def make_photos(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[Path]:
    """Write a JPEG of each (height, width)."""
    folder.mkdir()
    for number, (height, width) in enumerate(sizes):
        (folder / f"{number:04}.jpg").write_bytes(encode_jpeg(texture(height, width, number)))
    return sorted(folder.iterdir())


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return cracked asphalt of any size, uint8 (height, width, 3): an example photo beside itself."""
    photo = read_image(ROOT / "examples" / "photos" / "pavement.jpg")
    times = (-(-height // photo.shape[0]) + 1, -(-width // photo.shape[1]) + 1, 1)
    top, left = np.random.default_rng(seed).integers(0, 300, 2)
    return np.ascontiguousarray(np.tile(photo, times)[top : top + height, left : left + width])


if __name__ == "__main__":
    main()
