"""An ONNX model that computes in 8 bits, and what that costs in masks.

The ranges of the values come from photos (static quantisation); reads a prepared data set or a folder of photos.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from cracktool.datasets.pairing import photos_in
from cracktool.errors import CrackError, InputError, UsageError
from cracktool.images import Image, Mask, read_image, read_mask
from cracktool.inference import Predictor
from cracktool.inference.runtimes import OnnxNetwork, RuntimeNetwork
from cracktool.manifest import FILE_NAME, Manifest, read_manifest

TILES = 64
"""Tiles from which the ranges are taken, one of a photo."""

SCORED = 200
"""Photos at most on which the masks are scored."""

OPERATORS = ("Conv", "ConvTranspose", "Add", "Concat", "Resize", "MaxPool", "AveragePool", "Relu", "Clip", "LeakyRelu")
"""Operators that compute in 8 bits; the others are few, and cost accuracy."""

NARROW = 32
"""Channels up to which the first convolutions stay in float32. With the fast weights, that and the last convolution in
float32 bring the cost on DeepCrack val from 3.0 points of crack IoU to 0.2 at most."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What 8 bits cost.

    Args:
        photos: Photos that were scored.
        truth: Whether they have masks to score by; without them, float32's own masks are the measure.
        before: Crack IoU over all their pixels in float32; 1 without truth, not a number where nothing shows a crack.
        after: The same in 8 bits.
    """

    photos: int
    truth: bool
    before: float
    after: float

    @property
    def points(self) -> float:
        """IoU points lost, of 100."""
        return 100 * (self.before - self.after)


@dataclass(frozen=True)
class Calibration:
    """Photos to take ranges from, and photos with their masks, or without, to score by.

    Args:
        photos: Of the train split, where there are splits.
        scored: Photos of the val split with their masks; with none where there is no truth.
    """

    photos: tuple[Path, ...]
    scored: tuple[tuple[Path, Path | None], ...]


def read_calibration(folder: Path | None) -> Calibration:
    """Find the photos of a prepared data set, or of a folder.

    Raises:
        UsageError: No folder is given.
        InputError: There is no photo in it, or its manifest is broken.
    """
    if folder is None:
        remedy = "add --calibrate DIR, a prepared data set or a folder of typical photos"
        raise UsageError("8 bits need photos to take the ranges of the values from", remedy=remedy)
    if folder.name == FILE_NAME or (folder / FILE_NAME).is_file():
        return _of_manifest(read_manifest(folder))
    photos = photos_in(folder, remedy="give a folder of typical photos")
    return Calibration(_spread(photos, TILES), tuple((path, None) for path in _spread(photos, SCORED)))


def _of_manifest(manifest: Manifest) -> Calibration:
    train = manifest.split("train") if any(entry.split == "train" for entry in manifest.entries) else manifest
    scored = [entry for entry in manifest.entries if entry.split == "val" and entry.mask]
    scored = scored or [entry for entry in manifest.entries if entry.mask]
    photos = [manifest.image_path(entry) for entry in train.entries]
    if not photos:
        raise InputError("no photo in this data set", path=manifest.folder)
    pairs = [(manifest.image_path(entry), manifest.mask_path(entry)) for entry in scored]
    if not pairs:
        pairs = [(path, None) for path in photos]
    return Calibration(_spread(photos, TILES), tuple(_spread(pairs, SCORED)))


def _spread(items: Sequence[Any], count: int) -> tuple[Any, ...]:
    """Return `count` items evenly spread over all, or all where there are fewer."""
    if len(items) <= count:
        return tuple(items)
    return tuple(items[number * len(items) // count] for number in range(count))


def write_int8(source: Path, target: Path, calibration: Calibration) -> None:
    """Write the ONNX file of a model in 8 bits.

    Weights get 7 bits, as products of 8 by 8 overflow on CPUs without instructions for them (VNNI); the same file then
    gives the same masks everywhere.

    Args:
        source: Its ONNX file in float32.
        target: The file to write.
        calibration: Photos to take the ranges of the values from.

    Raises:
        CrackError: The model cannot be quantised.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Tiles(CalibrationDataReader):  # type: ignore[misc]  # its package has no types
        def __init__(self) -> None:
            self._batches = _batches(OnnxNetwork(source), calibration.photos)

        def get_next(self) -> Any:
            return next(self._batches, None)

    folded = target.with_suffix(".folded.onnx")
    _fold(source, folded)
    with _silence():
        quantize_static(
            folded,
            target,
            Tiles(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=_kept(onnx.load(folded)),
        )
    folded.unlink()
    model = onnx.load(target)
    onnx.helper.set_model_props(model, {entry.key: entry.value for entry in onnx.load(source).metadata_props})
    onnx.save(model, target)


def _fold(source: Path, target: Path) -> None:
    # Norms go into the convolutions before them, where 8 bits would otherwise come between the two.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _kept(model: Any) -> list[str]:
    # What comes before the network, its narrow first convolutions and its last one: few values carry all there, so 8
    # bits cost most, and the work is little.
    nodes = list(model.graph.node)
    places = [index for index, node in enumerate(nodes) if node.op_type == "Conv"]
    widths = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    narrow = list(takewhile(lambda index: widths.get(nodes[index].input[1], NARROW + 1) <= NARROW, places))
    return [node.name for node in (*nodes[: places[0]], *(nodes[index] for index in (*narrow, places[-1])))]


def _batches(network: RuntimeNetwork, photos: Sequence[Path]) -> Iterator[dict[str, Any]]:
    generator = np.random.default_rng(0)
    for path in photos:
        photo = read_image(path)
        tile = _cut(photo, network.card.tile, network.card.stride, generator)
        yield {network.takes: network.prepared(tile[None])}


def _cut(photo: Image, tile: int, stride: int, generator: np.random.Generator) -> Image:
    sides = [min(length, tile) // stride * stride or length for length in photo.shape[:2]]
    top, left = (int(generator.integers(length - side + 1)) for length, side in zip(photo.shape, sides, strict=False))
    return photo[top : top + sides[0], left : left + sides[1]]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    # The quantiser logs advice to its own authors' tools.
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def measure_loss(before: RuntimeNetwork, after: RuntimeNetwork, calibration: Calibration) -> Loss:
    """Score the masks of a model in float32 and in 8 bits, both in the same runtime.

    Raises:
        CrackError: A photo or mask cannot be read, or the sizes of the two do not fit.
    """
    counts = np.zeros((2, 2), np.int64)  # (network, intersection and union)
    truth = all(mask is not None for _, mask in calibration.scored)
    predictors = [Predictor(network) for network in (before, after)]
    for path, mask_path in calibration.scored:
        photo = read_image(path)
        masks = [predictor.mask(photo) for predictor in predictors]
        true = masks[0] if mask_path is None else read_mask(mask_path)
        if true.shape != masks[0].shape:
            raise CrackError(f"its mask has {true.shape}, the network gives {masks[0].shape}", path=path)
        counts += [_counts(mask, true) for mask in masks]
    first, second = (float(both / either) if either else 1.0 for both, either in counts)
    if not counts.any():
        first = second = math.nan
    return Loss(photos=len(calibration.scored), truth=truth, before=first, after=second)


def _counts(mask: Mask, truth: Mask) -> tuple[int, int]:
    return int((mask & truth).sum()), int((mask | truth).sum())
