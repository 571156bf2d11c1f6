"""What all networks share: any input size, padded inside and cropped back; and looking at several enlargements.

Knows nothing about any architecture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cracktool.errors import UsageError
from cracktool.models.views import Fusion

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
        views: How many times enlarged the network looks at its input; see `look`.
        fusion: How much each of several views counts; None for one.
    """

    def __init__(self, stride: int, *, scale: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.scale = scale
        self.views: tuple[int, ...] = (1,)
        self.fusion: Fusion | None = None

    def look(self, views: Sequence[int]) -> None:
        """Look at the input so many times enlarged, whole numbers, and weigh what is found in each view.

        (1, 2) finds hairlines that a network of stride 2 loses, in five times the time.

        Raises:
            UsageError: These are no views, or the network enlarges by itself.
        """
        if not views or not all(isinstance(times, int) and times > 0 for times in views):
            raise UsageError(f"views is {list(views)}, expected whole numbers from 1")
        if self.scale > 1 and tuple(views) != (1,):
            raise UsageError("the network enlarges by itself", remedy="leave views out")
        self.views = tuple(views)
        self.fusion = Fusion(len(views)) if len(views) > 1 else None

    def forward(self, x: Tensor) -> Outputs:
        """Return logits (B, 1, scale H, scale W) of a normalised image batch (B, 3, H, W).

        In evaluation one tensor. In training a network with auxiliary outputs returns a tuple: the logits first,
        then each auxiliary one at the same size.
        """
        found = [self._view(x, times) for times in self.views]
        outputs = found[0]
        if self.fusion is not None:
            shares = self.fusion(x, [each[0] for each in found])
            outputs = tuple(
                (torch.cat(each, dim=1) * shares).sum(dim=1, keepdim=True) for each in zip(*found, strict=True)
            )
        return outputs if len(outputs) > 1 else outputs[0]

    def _view(self, x: Tensor, times: int) -> tuple[Tensor, ...]:
        """Return all outputs, at the input's size, for the input so many times enlarged."""
        seen = x if times == 1 else F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)
        height, width = seen.shape[-2:]
        padded = F.pad(seen, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        rows, columns = slice(height * self.scale), slice(width * self.scale)
        out = self.forward_padded(padded)
        found = (each[..., rows, columns] for each in (out if isinstance(out, tuple) else (out,)))
        return tuple(each if times == 1 else F.avg_pool2d(each, times) for each in found)

    def forward_padded(self, x: Tensor) -> Outputs:
        """Return what `forward` does, of a batch (B, 3, H, W) whose sides are multiples of the stride."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_padded")

    def own_name(self, name: str) -> str | None:
        """Return this network's name of a tensor in its authors' checkpoints; None for one that is never used."""
        return name
