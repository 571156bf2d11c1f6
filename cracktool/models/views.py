"""How much each enlargement of a photo counts, pixel by pixel: thin cracks show enlarged, wide ones from afar.

After the attention over scales of Tao, Sapra and Catanzaro, "Hierarchical Multi-Scale Attention for Semantic
Segmentation", 2020, but it sees the photo and what was found in it instead of features, so it suits any network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STRIDE = 4  # the widths of cracks change slowly along them: a quarter of the resolution is enough
_CHANNELS = 16
_DILATIONS = (1, 2, 4, 8)  # the last layer sees 31 places, 124 px


class Fusion(nn.Module):
    """Weights of several views of a photo at each of its pixels, equal ones until it has learnt.

    Args:
        views: How many there are.
    """

    def __init__(self, views: int) -> None:
        super().__init__()
        widths = (3 + views, *[_CHANNELS] * len(_DILATIONS))
        layers: list[nn.Module] = []
        for taken, given, dilation in zip(widths, widths[1:], _DILATIONS, strict=False):
            layers += [nn.Conv2d(taken, given, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True)]
        last = nn.Conv2d(_CHANNELS, views, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Tensor, logits: Sequence[Tensor]) -> Tensor:
        """Return the weights (B, views, H, W), whose sum is 1.

        Args:
            x: The normalised photos (B, 3, H, W).
            logits: What was found in each view, (B, 1, H, W).
        """
        seen = torch.cat([x, *(each.sigmoid() for each in logits)], dim=1)
        height, width = x.shape[-2:]
        seen = F.pad(seen, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        coarse = self.layers(F.avg_pool2d(seen, _STRIDE))
        fine = F.interpolate(coarse, scale_factor=_STRIDE, mode="bilinear", align_corners=False)
        return fine[..., :height, :width].softmax(dim=1)
