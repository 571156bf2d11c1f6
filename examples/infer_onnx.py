"""Masks as `crack infer` gives them, with ONNX Runtime and NumPy alone: for programs that do not have cracktool.

crack export -o crack.onnx
python examples/infer_onnx.py crack.onnx photo.jpg mask.png
"""

import json
import math
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def plan(length: int, most: int, halo: int, stride: int) -> tuple[int, list[tuple[int, np.ndarray]]]:
    """Return the padded length, and start and weights (tile,) of each tile along one side of a photo."""
    units, most, halo = math.ceil(length / stride), most // stride, math.ceil(halo / stride)
    count = 1 if units <= most else math.ceil((units - halo) / (most - halo))
    side = math.ceil((units + (count - 1) * halo) / count) * stride
    starts = [i * (units - side // stride) // max(count - 1, 1) * stride for i in range(count)]
    rises = [rise(starts[i] + side, starts[i + 1], units * stride) for i in range(count - 1)]
    given = [np.ones(units * stride), *rises, 0]  # each tile takes over from the one before it: weights sum to 1
    weights = [given[i] - given[i + 1] for i in range(count)]
    return units * stride, [(start, w[start : start + side]) for start, w in zip(starts, weights, strict=True)]


def rise(end: int, next_start: int, length: int) -> np.ndarray:
    """Return a cosine ramp from 0 to 1 over the middle half of where two tiles overlap."""
    quarter = (end - next_start) / 4
    share = (np.arange(length) + 0.5 - next_start - quarter) / max(2 * quarter, 1e-9)
    return 0.5 - 0.5 * np.cos(np.pi * share.clip(0, 1))


def find_cracks(session: onnxruntime.InferenceSession, photo: np.ndarray) -> np.ndarray:
    """Return where the crack is, bool (H, W), in an RGB photo uint8 (H, W, 3)."""
    metadata = session.get_modelmeta().custom_metadata_map
    card, most = json.loads(metadata["cracktool"]), json.loads(metadata["largest_tile"])
    height, width = photo.shape[:2]
    tallest = max(card["tile"], min(most, 10 * 2**20 // width))
    halo, stride = round(0.25 * card["tile"]), card["stride"]
    (rows, down), (columns, across) = plan(height, tallest, halo, stride), plan(width, most, halo, stride)
    padded = np.pad(photo, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    image = ((padded / 255 - card["mean"]) / card["std"]).astype(np.float32).transpose(2, 0, 1)[None]
    probs = np.zeros((rows, columns), np.float32)
    for top, row_weights in down:
        for left, column_weights in across:
            here = slice(top, top + len(row_weights)), slice(left, left + len(column_weights))
            (tile,) = session.run(["probs"], {"image": np.ascontiguousarray(image[:, :, *here])})
            probs[here] += tile[0, 0] * (row_weights[:, None] * column_weights)
    return np.floor(256 * probs[:height, :width]).clip(max=255) >= math.ceil(256 * card["threshold"])


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    model, source, target = sys.argv[1:]
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(source)).convert("RGB"))
    found = find_cracks(onnxruntime.InferenceSession(model), pixels)
    Image.fromarray(np.uint8(255) * found).save(target)
