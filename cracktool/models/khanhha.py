"""The U-Nets of khanhha/crack_segmentation, after TernausNet (Iglovikov and Shvets 2018, arXiv 1801.05746).

The encoder is VGG16 or a ResNet. The decoders have no batch norm, double their maps bilinearly in front of the
convolutions, and append the encoder's map behind their own. Decoder layers have the authors' names, encoder layers
those of timm.

Shapes for ``filters=32`` and an input (B, 3, H, W). VGG16, H and W already multiples of 32, where the encoder's map of
a stride is the one in front of its max pool:

    ==========  ==========================  ======================
    step        input (channels at stride)  output
    ==========  ==========================  ======================
    encoder     3 at 1                      64, 128, 256, 512, 512, 512 at 1, 2, 4, 8, 16, 32
    center      512 at 32                   256 at 16
    dec5        256 + 512 at 16             256 at 8
    dec4        256 + 512 at 8              256 at 4
    dec3        256 + 256 at 4              64 at 2
    dec2        64 + 128 at 2               32 at 1
    dec1        32 + 64 at 1                32 at 1
    final       32 at 1                     1 at 1
    ==========  ==========================  ======================

ResNet-101 and -152, H and W already multiples of 64; the four wide maps of ResNet-34 have a quarter of the channels:

    ==========  ==========================  ======================
    step        input (channels at stride)  output
    ==========  ==========================  ======================
    encoder     3 at 1                      256, 512, 1024, 2048 at 4, 8, 16, 32
    pool        2048 at 32                  2048 at 64
    center      2048 at 64                  256 at 32
    dec5        256 + 2048 at 32            256 at 16
    dec4        256 + 1024 at 16            256 at 8
    dec3        256 + 512 at 8              64 at 4
    dec2        64 + 256 at 4               128 at 2
    dec1        128 at 2                    32 at 1
    dec0        32 at 1                     32 at 1
    final       32 at 1                     1 at 1
    ==========  ==========================  ======================
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import Tensor, nn

from cracktool.errors import UsageError
from cracktool.models.arguments import check_count, check_share
from cracktool.models.encoder import build_encoder, encoder_channels
from cracktool.models.padding import PaddedModel

DEPTHS = (34, 101, 152)


class KhanhhaVGG(PaddedModel):
    """U-Net over VGG16 without batch norm anywhere (``UNet16`` of khanhha/crack_segmentation).

    Args:
        pretrained: Load the encoder's ImageNet weights.
        filters: Width of the last decoder step; the others are 2 to 16 times as wide.

    Raises:
        UsageError: An argument is out of range.
        WeightsError: The pretrained weights could not be had.

    Example:
        >>> KhanhhaVGG(filters=4)(torch.zeros(1, 3, 33, 65)).shape
        torch.Size([1, 1, 33, 65])
    """

    def __init__(self, *, pretrained: bool = False, filters: int = 32) -> None:
        check_count("filters", filters)
        super().__init__(stride=32)
        self.encoder = build_encoder("vgg16", pretrained=pretrained)
        skip1, skip2, skip3, skip4, skip5, bottom = encoder_channels(self.encoder)
        self.center = DecoderBlock(bottom, 16 * filters, 8 * filters)
        self.dec5 = DecoderBlock(8 * filters + skip5, 16 * filters, 8 * filters)
        self.dec4 = DecoderBlock(8 * filters + skip4, 16 * filters, 8 * filters)
        self.dec3 = DecoderBlock(8 * filters + skip3, 8 * filters, 2 * filters)
        self.dec2 = DecoderBlock(2 * filters + skip2, 4 * filters, filters)
        self.dec1 = ConvReLU(filters + skip1, filters)
        self.final = nn.Conv2d(filters, 1, kernel_size=1)

    def forward_padded(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a batch (B, 3, H, W) whose sides are multiples of 32."""
        skip1, skip2, skip3, skip4, skip5, bottom = self.encoder(x)
        x = self.center(bottom)
        x = self.dec5(torch.cat([x, skip5], dim=1))
        x = self.dec4(torch.cat([x, skip4], dim=1))
        x = self.dec3(torch.cat([x, skip3], dim=1))
        x = self.dec2(torch.cat([x, skip2], dim=1))
        logits: Tensor = self.final(self.dec1(torch.cat([x, skip1], dim=1)))
        return logits

    def own_name(self, name: str) -> str | None:
        """Return our name of an authors' tensor; their ``conv1`` to ``conv5`` repeat ``encoder`` under other names."""
        if re.match(r"conv\d\.", name):
            return None
        return re.sub(r"^encoder\.(?=\d)", "encoder.features_", name)


class KhanhhaResNet(PaddedModel):
    """U-Net over a ResNet with one more halving below it (``UNetResNet`` of khanhha/crack_segmentation).

    As the authors call it, dropout drops at test time too under present PyTorch, so that every run gives another mask;
    here it rests in evaluation.

    Args:
        depth: Layers of the ResNet: 34, 101 or 152.
        pretrained: Load the encoder's ImageNet weights. They were trained with ResNet's own max pool, 3x3.
        filters: Width of the last decoder steps; the others are 2 to 16 times as wide.
        dropout: Share of channels dropped in front of the last convolution in training.

    Raises:
        UsageError: An argument is out of range.
        WeightsError: The pretrained weights could not be had.

    Example:
        >>> KhanhhaResNet(34, filters=4).eval()(torch.zeros(1, 3, 33, 65)).shape
        torch.Size([1, 1, 33, 65])
    """

    def __init__(self, depth: int, *, pretrained: bool = False, filters: int = 32, dropout: float = 0.2) -> None:
        if depth not in DEPTHS:
            raise UsageError(f"depth {depth!r} does not fit", remedy="use 34, 101 or 152")
        check_count("filters", filters)
        check_share("dropout", dropout)
        super().__init__(stride=64)
        self.encoder = build_encoder(f"resnet{depth}", pretrained=pretrained)
        self.encoder.maxpool = nn.MaxPool2d(2)
        _, skip2, skip3, skip4, skip5 = encoder_channels(self.encoder)
        self.pool = nn.MaxPool2d(2)
        self.center = DecoderBlock(skip5, 16 * filters, 8 * filters)
        self.dec5 = DecoderBlock(8 * filters + skip5, 16 * filters, 8 * filters)
        self.dec4 = DecoderBlock(8 * filters + skip4, 16 * filters, 8 * filters)
        self.dec3 = DecoderBlock(8 * filters + skip3, 8 * filters, 2 * filters)
        self.dec2 = DecoderBlock(2 * filters + skip2, 4 * filters, 4 * filters)
        self.dec1 = DecoderBlock(4 * filters, 4 * filters, filters)
        self.dec0 = ConvReLU(filters, filters)
        self.dropout = nn.Dropout2d(dropout)
        self.final = nn.Conv2d(filters, 1, kernel_size=1)

    def forward_padded(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a batch (B, 3, H, W) whose sides are multiples of 64."""
        _, skip2, skip3, skip4, skip5 = self.encoder(x)
        x = self.center(self.pool(skip5))
        x = self.dec5(torch.cat([x, skip5], dim=1))
        x = self.dec4(torch.cat([x, skip4], dim=1))
        x = self.dec3(torch.cat([x, skip3], dim=1))
        x = self.dec2(torch.cat([x, skip2], dim=1))
        logits: Tensor = self.final(self.dropout(self.dec0(self.dec1(x))))
        return logits

    def own_name(self, name: str) -> str | None:
        """Return the name itself; their ``conv1`` to ``conv5`` repeat ``encoder``, whose classifier is never used."""
        return None if re.match(r"conv\d\.|encoder\.fc\.", name) else name


class DecoderBlock(nn.Module):
    """Bilinear doubling, two convolutions.

    Args:
        inputs: Channels that come in.
        middle: Channels between the convolutions.
        width: Channels that go out.
    """

    def __init__(self, inputs: int, middle: int, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            ConvReLU(inputs, middle),
            ConvReLU(middle, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, 2 h, 2 w) from (B, inputs, h, w)."""
        out: Tensor = self.block(x)
        return out


class ConvReLU(nn.Sequential):
    """3x3 convolution with bias, ReLU: (B, inputs, h, w) to (B, width, h, w)."""

    def __init__(self, inputs: int, width: int) -> None:
        conv = nn.Conv2d(inputs, width, kernel_size=3, padding=1)
        super().__init__(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True)))
