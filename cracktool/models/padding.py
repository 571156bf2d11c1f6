"""What all networks share: any input size, padded inside and cropped back; and looking at several enlargements.

Knows nothing about any architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Outputs = Tensor | tuple[Tensor, ...]
"""Logits; in training a network may add auxiliary logits of the same shape behind them."""


def main_logits(outputs: Outputs) -> Tensor:
    """Return the main logits (B, 1, H, W) of what a network gives, in training and out of it."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


class PaddedModel(nn.Module):
    """Base of all networks: `forward` takes any size, `forward_padded` only multiples of the stride.

    Args:
        stride: Both sides are padded at their end, by repeating the border, to multiples of this.
        scale: Side of the output over side of the input; above 1 for networks that enlarge.

    Attributes:
        views: How many times enlarged the network looks at its input; the logits of all are averaged. (1, 2) finds
            hairlines that a network of stride 2 loses, in five times the time; (0.75, 1, 1.5) is surer of all widths.
    """

    def __init__(self, stride: int, *, scale: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.scale = scale
        self.views: Sequence[float] = (1,)

    def forward(self, x: Tensor) -> Outputs:
        """Return logits (B, 1, scale H, scale W) of a normalised image batch (B, 3, H, W).

        In evaluation one tensor. In training a network with auxiliary outputs returns a tuple: the logits first,
        then each auxiliary one at the same size.
        """
        outputs = self._view(x, self.views[0])
        for times in self.views[1:]:
            outputs = tuple(map(torch.add, outputs, self._view(x, times)))
        if len(self.views) > 1:
            outputs = tuple(each / len(self.views) for each in outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def _view(self, x: Tensor, times: float) -> tuple[Tensor, ...]:
        """Return all outputs, at the input's size, for the input so many times enlarged."""
        seen = x if times == 1 else _resized(x, [_times(side, times) for side in x.shape[-2:]])
        height, width = seen.shape[-2:]
        padded = F.pad(seen, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        rows, columns = slice(height * self.scale), slice(width * self.scale)
        out = self.forward_padded(padded)
        found = (each[..., rows, columns] for each in (out if isinstance(out, tuple) else (out,)))
        return tuple(each if times == 1 else _resized(each, x.shape[-2:]) for each in found)

    def forward_padded(self, x: Tensor) -> Outputs:
        """Return what `forward` does, of a batch (B, 3, H, W) whose sides are multiples of the stride."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_padded")

    def own_name(self, name: str) -> str | None:
        """Return this network's name of a tensor in its authors' checkpoints; None for one that is never used."""
        return name


def _times(side: int, times: float) -> int:
    """Return a side so many times as long, in whole numbers throughout: an export knows the side as a symbol only."""
    factor = Fraction(times).limit_denominator(100)
    return -(-side * factor.numerator // factor.denominator)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
