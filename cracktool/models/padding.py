"""Any input size for networks that need multiples of their stride: pad inside, crop back.

Knows nothing about any architecture.
"""

from __future__ import annotations

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
    """

    def __init__(self, stride: int, *, scale: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.scale = scale

    def forward(self, x: Tensor) -> Outputs:
        """Return logits (B, 1, scale H, scale W) of a normalised image batch (B, 3, H, W).

        In evaluation one tensor. In training a network with auxiliary outputs returns a tuple: the logits first,
        then each auxiliary one at the same size.
        """
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        rows, columns = slice(height * self.scale), slice(width * self.scale)
        out = self.forward_padded(padded)
        if isinstance(out, tuple):
            return tuple(each[..., rows, columns] for each in out)
        return out[..., rows, columns]

    def forward_padded(self, x: Tensor) -> Outputs:
        """Return what `forward` does, of a batch (B, 3, H, W) whose sides are multiples of the stride."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_padded")

    def own_name(self, name: str) -> str | None:
        """Return this network's name of a tensor in its authors' checkpoints; None for one that is never used."""
        return name
