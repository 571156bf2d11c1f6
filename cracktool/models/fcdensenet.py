"""FC-DenseNet, "the one hundred layers tiramisu" (Jégou et al. 2017, arXiv 1611.09326), as khanhha uses it.

Every layer reads all earlier maps of its block and appends a few of its own. On the way back only the new maps of a
block are enlarged, which keeps the channels few; the encoder's map of the same size is appended to them. The authors
of khanhha/crack_segmentation end it in a sigmoid although their loss applies one too; here the output is logits.

Shapes for FC-DenseNet67 (``growth`` 16, ``layers`` 5: each block adds 80 maps) and an input (B, 3, H, W), H and W
already multiples of 32:

    ==========  ==========================  =======================
    step        input (channels at stride)  output
    ==========  ==========================  =======================
    stem        3 at 1                      48 at 1
    down.0      48 at 1                     48 + 80 = 128 at 1, halved behind it as all of ``down``
    down.1      128 at 2                    208 at 2
    down.2      208 at 4                    288 at 4
    down.3      288 at 8                    368 at 8
    down.4      368 at 16                   448 at 16
    bottleneck  448 at 32                   80 at 32
    up.0        80 + 448 at 16              80 at 16
    up.1        80 + 368 at 8               80 at 8
    up.2        80 + 288 at 4               80 at 4
    up.3        80 + 208 at 2               80 at 2
    up.4        80 + 128 at 1               208 + 80 = 288 at 1
    head        288 at 1                    1 at 1
    ==========  ==========================  =======================
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cracktool.errors import UsageError
from cracktool.models.arguments import check_count, check_share
from cracktool.models.padding import PaddedModel

BLOCKS = 5
"""Dense blocks on each way, which makes the stride 32."""


class FCDenseNet(PaddedModel):
    """FC-DenseNet67: 55 layers in 11 dense blocks, 10 transitions, the first and the last convolution.

    ``growth=12, layers=4`` makes the paper's FC-DenseNet56.

    Args:
        pretrained: There are no ImageNet weights for it, so this must stay False.
        growth: Maps that each layer adds.
        layers: Layers of each dense block.
        stem_width: Channels of the first convolution.
        dropout: Share of channels dropped behind each convolution of the blocks and the ways down in training.

    Raises:
        UsageError: Pretrained weights are asked for, or an argument is out of range.

    Example:
        >>> FCDenseNet(growth=4, layers=2).eval()(torch.zeros(1, 3, 33, 65)).shape
        torch.Size([1, 1, 33, 65])
    """

    def __init__(
        self,
        *,
        pretrained: bool = False,
        growth: int = 16,
        layers: int = 5,
        stem_width: int = 48,
        dropout: float = 0.2,
    ) -> None:
        if pretrained:
            raise UsageError("FC-DenseNet has no ImageNet weights", remedy="train it with --no-pretrained")
        for name, value in (("growth", growth), ("layers", layers), ("stem_width", stem_width)):
            check_count(name, value)
        check_share("dropout", dropout)
        super().__init__(stride=2**BLOCKS)
        added = growth * layers
        skips = [stem_width + added * (step + 1) for step in range(BLOCKS)]
        self.stem = nn.Conv2d(3, stem_width, kernel_size=3, padding=1)
        self.down = nn.ModuleList(DenseBlock(width - added, growth, layers, dropout) for width in skips)
        self.shrink = nn.ModuleList(Halving(width, dropout) for width in skips)
        self.bottleneck = DenseBlock(skips[-1], growth, layers, dropout)
        self.enlarge = nn.ModuleList(Doubling(added) for _ in skips)
        self.up = nn.ModuleList(DenseBlock(added + width, growth, layers, dropout) for width in reversed(skips))
        self.head = nn.Conv2d(added + skips[0] + added, 1, kernel_size=1)
        self.apply(_start_he_uniform)

    def forward_padded(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a batch (B, 3, H, W) whose sides are multiples of 32."""
        x = self.stem(x)
        skips = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            skips.append(torch.cat([x, block(x)], dim=1))
            x = shrink(skips[-1])
        new = self.bottleneck(x)
        for enlarge, block, skip in zip(self.enlarge, self.up, reversed(skips), strict=True):
            x = torch.cat([enlarge(new), skip], dim=1)
            new = block(x)
        logits: Tensor = self.head(torch.cat([x, new], dim=1))
        return logits


class DenseBlock(nn.Module):
    """Layers that each read the input and the maps of all layers before them."""

    def __init__(self, inputs: int, growth: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(*_norm_relu_conv(inputs + growth * layer, growth, kernel_size=3, dropout=dropout))
            for layer in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the new maps alone, (B, layers * growth, h, w), from (B, inputs, h, w)."""
        maps = [x]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, dim=1)))
        return torch.cat(maps[1:], dim=1)


class Halving(nn.Sequential):
    """1x1 convolution, 2x2 max pool: (B, width, h, w) to (B, width, h / 2, w / 2)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(*_norm_relu_conv(width, width, kernel_size=1, dropout=dropout), nn.MaxPool2d(2))


class Doubling(nn.ConvTranspose2d):
    """3x3 transposed convolution: (B, width, h, w) to (B, width, 2 h, 2 w)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, kernel_size=3, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the result without its last row and column, the odd ones out, as the paper's code crops it."""
        return super().forward(x, output_size)[..., :-1, :-1]


def _norm_relu_conv(inputs: int, width: int, *, kernel_size: int, dropout: float) -> list[nn.Module]:
    return [
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, width, kernel_size, padding=kernel_size // 2),
        nn.Dropout2d(dropout),
    ]


def _start_he_uniform(module: nn.Module) -> None:
    """Draw a convolution's weights as the paper does (section 4.1: He et al. 2015, uniform), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        assert module.bias is not None  # all of ours have one
        nn.init.zeros_(module.bias)
