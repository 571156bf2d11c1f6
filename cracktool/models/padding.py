"""Any input size for networks that need multiples of their stride: pad inside, crop back.

Knows nothing about any architecture.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PaddedModel(nn.Module):
    """Base of all networks: `forward` takes any size, `forward_padded` only multiples of the stride.

    Args:
        stride: Both sides are padded at their end, by repeating the border, to multiples of this.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a normalised image batch (B, 3, H, W)."""
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        return self.forward_padded(padded)[..., :height, :width]

    def forward_padded(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a batch (B, 3, H, W) whose sides are multiples of the stride."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_padded")
