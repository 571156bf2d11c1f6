"""PSPNet over any timm encoder (Zhao et al. 2017, arXiv 1612.01105) in the form of segmentation_models.

The map at stride 8 is pooled to grids of 1, 2, 3 and 6 cells that carry the context of the whole picture; each is
brought back to size and appended. Layer names are those of segmentation_models_pytorch's ``PSPNet``.

Shapes for ``pspnet_resnet18`` and an input (B, 3, H, W), H and W already multiples of 8:

    ============  ======================  =======================
    step          input (channels)        output
    ============  ======================  =======================
    encoder       3 at stride 1           128 at stride 8
    psp           128 at 8                128 + 4 x 32 = 256 at 8
    conv          256 at 8                512 at 8
    head          512 at 8                1 at 8, bilinear to 1 at 1
    ============  ======================  =======================
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cracktool.errors import UsageError
from cracktool.models.arguments import check_count
from cracktool.models.encoder import build_encoder, encoder_channels
from cracktool.models.padding import PaddedModel

BINS = (1, 2, 3, 6)


class PSPNet(PaddedModel):
    """PSPNet: context pooled over the whole picture, at an eighth of its size.

    A tile sees the context of that tile alone, so tiled and whole-picture masks of this network differ a little.

    Args:
        encoder: Name of a timm backbone.
        pretrained: Load the encoder's ImageNet weights.
        max_stride: Stride at which the context is pooled, 4 to 32.
        width: Channels in front of the head.
        dropout: Share of channels dropped in training.

    Example:
        >>> PSPNet("resnet18").eval()(torch.zeros(1, 3, 65, 97)).shape
        torch.Size([1, 1, 65, 97])
    """

    def __init__(
        self, encoder: str, *, pretrained: bool = False, max_stride: int = 8, width: int = 512, dropout: float = 0.2
    ) -> None:
        if not isinstance(max_stride, int) or max_stride not in (4, 8, 16, 32):
            raise UsageError(f"max_stride {max_stride!r} does not fit", remedy="use 4, 8, 16 or 32")
        check_count("width", width)
        super().__init__(stride=max_stride)
        self.encoder = build_encoder(encoder, pretrained=pretrained, max_stride=max_stride)
        self.decoder = PSPDecoder(encoder_channels(self.encoder)[-1], width, dropout)
        self.segmentation_head = nn.Sequential(nn.Conv2d(width, 1, kernel_size=3, padding=1))

    def forward_padded(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a batch whose sides are multiples of the stride."""
        coarse = self.segmentation_head(self.decoder(self.encoder(x)[-1]))
        return F.interpolate(coarse, size=x.shape[-2:], mode="bilinear", align_corners=True)

    def own_name(self, name: str) -> str | None:
        """Return the name itself; segmentation_models stores two deep stages that its PSPNet never uses."""
        return None if self.stride == 8 and name.startswith(("encoder.layer3.", "encoder.layer4.")) else name


class PSPDecoder(nn.Module):
    """The pyramid, one 1x1 convolution over all of it, dropout."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.psp = PyramidPooling(inputs)
        self.conv = _conv_norm_relu(inputs + len(BINS) * (inputs // len(BINS)), width, norm=True)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, h, w) from the encoder's map (B, inputs, h, w)."""
        out: Tensor = self.dropout(self.conv(self.psp(x)))
        return out


class PyramidPooling(nn.Module):
    """The map itself and its means over grids of 1, 2, 3 and 6 cells a side, each an equal share of the channels."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        # One cell a side is a single value per image: batch norm over a batch of one could not be trained.
        self.blocks = nn.ModuleList(PooledBlock(inputs, inputs // len(BINS), bins) for bins in BINS)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 2 C, h, w) from (B, C, h, w), for C a multiple of 4."""
        return torch.cat([*(block(x) for block in self.blocks), x], dim=1)


class PooledBlock(nn.Module):
    """Mean over a grid of cells, 1x1 convolution, back to size."""

    def __init__(self, inputs: int, width: int, bins: int) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(bins), _conv_norm_relu(inputs, width, norm=bins > 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, h, w) from (B, C, h, w)."""
        return F.interpolate(self.pool(x), size=x.shape[-2:], mode="bilinear", align_corners=True)


def _conv_norm_relu(inputs: int, width: int, *, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, width, kernel_size=1, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(width))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))
