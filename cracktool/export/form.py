"""The form of a network that other programs run: any size goes in, with as much before and after it as is wanted.

A copy in which what other runtimes lack is replaced by what is equal; knows no file format.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cracktool.card import METADATA_KEY
from cracktool.errors import UsageError
from cracktool.inference.runtimes import IMAGE, LOGITS, PIXELS, PROBS
from cracktool.weights import Checkpoint

QGIS_RESOLUTION = 0.1
"""Centimetres per pixel at which QGIS asks for the map: 1 mm, as of a road survey. The user can change it there."""

QGIS_OVERLAP = 15
"""Overlap of neighbouring tiles in QGIS, percent of a tile's side."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is wanted of an exported model.

    Args:
        embed_normalisation: Take RGB pixels, uint8 (B, H, W, 3), instead of normalised float32 (B, 3, H, W).
        embed_sigmoid: Give probabilities, instead of logits.
        half: Keep the weights in 16 bits, which halves the file.
        int8: Compute in 8 bits where the runtime can; the ranges of the values are taken from photos.
        calibrate: Those photos: a prepared data set, or a folder.
        overwrite: Replace existing files.
    """

    embed_normalisation: bool = False
    embed_sigmoid: bool = True
    half: bool = False
    int8: bool = False
    calibrate: Path | None = None
    overwrite: bool = False

    def refuse_all(self, kind: str) -> None:
        """Refuse what a format of plain weights cannot heed.

        Raises:
            UsageError: Something besides ``overwrite`` is wanted.
        """
        if replace(self, overwrite=False) != ExportOptions():
            reason = f"{kind} keeps the weights as they are"
            raise UsageError(reason, remedy="leave the other options out, or export to .onnx, .xml or .pt2")

    @property
    def takes(self) -> str:
        """Name of the input."""
        return PIXELS if self.embed_normalisation else IMAGE

    @property
    def gives(self) -> str:
        """Name of the output."""
        return PROBS if self.embed_sigmoid else LOGITS


class ExportedForm(nn.Module):
    """A copy of a network, in evaluation on the CPU, that takes and gives what the options say.

    Args:
        checkpoint: The network and its card; it is left as it was.
        options: What goes in and comes out; with ``half`` the network computes in float16.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, checkpoint: Checkpoint, options: ExportOptions) -> None:
        super().__init__()
        self.model = copy.deepcopy(checkpoint.model).cpu().float().eval()
        _replace_pooling(self.model)
        self._number_format = torch.float16 if options.half else torch.float32
        self.model.to(self._number_format)
        self.options, self.card = options, checkpoint.card
        if options.embed_normalisation:
            for name, values in zip(("scale", "shift"), checkpoint.card.normalisation(), strict=True):
                self.register_buffer(name, torch.from_numpy(values))

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities or logits float32 (B, 1, H, W)."""
        if self.options.embed_normalisation:
            image = image.permute(0, 3, 1, 2).float() * self.scale + self.shift
        logits: Tensor = self.model(image.to(self._number_format)).float()
        return logits.sigmoid() if self.options.embed_sigmoid else logits

    def example(self) -> Tensor:
        """Return an input to trace the network with."""
        # Above 1, unequal and odd: the exporter would tie equal or special sizes to each other.
        shape, dtype = ((2, 67, 97, 3), torch.uint8) if self.options.embed_normalisation else ((2, 3, 67, 97), None)
        return torch.zeros(shape, dtype=dtype)

    def free_axes(self) -> dict[int, str]:
        """Return the axes of the input whose length is free, with their names."""
        rows = 1 if self.options.embed_normalisation else 2
        return {0: "batch", rows: "height", rows + 1: "width"}

    def metadata(self) -> dict[str, str]:
        """Return what the file says of itself: the card, input and output, and the keys that other programs read.

        Those of Ultralytics (``names``, ``stride``), and those of the QGIS plugin Deepness where it can run the model:
        it normalises itself and wants probabilities. In 8 bits the card has no scores: they were those of float32.
        """
        options = self.options
        card = replace(self.card, scores=()) if options.int8 else self.card
        plain = {METADATA_KEY: card.to_json(), "input": options.takes, "output": options.gives}
        values: dict[str, object] = {
            "names": dict(enumerate(card.classes)), "stride": card.stride, "largest_tile": card.largest_tile
        }  # fmt: skip
        if (options.takes, options.gives) == (IMAGE, PROBS):
            values |= {
                "model_type": "Segmentor",
                "class_names": dict(enumerate(("background", *card.classes))),
                "resolution": QGIS_RESOLUTION,
                "tile_size": card.tile,  # what the plugin reads;
                "tiles_size": card.tile,  # what its documentation says that it reads
                "tiles_overlap": QGIS_OVERLAP,
                "standardization_mean": card.mean,
                "standardization_std": card.std,
                "seg_thresh": card.threshold,
                "seg_small_segment": 0,  # a median filter, which would wipe out cracks of a few pixels' width
            }
        return plain | {key: json.dumps(value) for key, value in values.items()}


class _GridMean(nn.Module):
    """Adaptive average pooling as two products of matrices: ONNX has none whose input size is free.

    Cell i of n covers the rows from floor(i H / n) to ceil((i + 1) H / n), and the columns alike.
    """

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, cells, cells) from (B, C, H, W)."""
        height, width = x.shape[-2:]
        return self._shares(height, x) @ x @ self._shares(width, x).T

    def _shares(self, length: int, like: Tensor) -> Tensor:
        # (cells, length): what each pixel of a line contributes to each cell's mean
        cell = torch.arange(self.cells, device=like.device)[:, None]
        start = (cell * length) // self.cells
        end = ((cell + 1) * length + self.cells - 1) // self.cells
        pixel = torch.arange(length, device=like.device)[None]
        inside = (pixel >= start) & (pixel < end)
        return inside.to(like.dtype) / (end - start).to(like.dtype)


def _replace_pooling(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int) and child.output_size > 1:
                setattr(module, name, _GridMean(child.output_size))
