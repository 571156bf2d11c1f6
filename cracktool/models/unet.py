"""U-Net over any timm encoder (Ronneberger et al. 2015, arXiv 1505.04597) in the form of segmentation_models.

Each step of the decoder doubles the size (nearest), appends the encoder's map of that stride where there is one, and
applies two convolutions. Layer names are those of segmentation_models_pytorch's ``Unet``.

Shapes for ``unet_resnet101`` and an input (B, 3, H, W), H and W already multiples of 32:

    ==========  ==========================  ======================
    step        input (channels at stride)  output
    ==========  ==========================  ======================
    encoder     3 at 1                      64, 256, 512, 1024, 2048 at 2, 4, 8, 16, 32
    blocks.0    2048 + 1024 at 16           256 at 16
    blocks.1    256 + 512 at 8              128 at 8
    blocks.2    128 + 256 at 4              64 at 4
    blocks.3    64 + 64 at 2                32 at 2
    blocks.4    32 at 1                     16 at 1
    head        16 at 1                     1 at 1
    ==========  ==========================  ======================
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cracktool.errors import UsageError
from cracktool.models.encoder import MAX_STRIDE, build_encoder, encoder_channels, encoder_strides
from cracktool.models.padding import PaddedModel

DECODER_CHANNELS = (256, 128, 64, 32, 16)


class UNet(PaddedModel):
    """U-Net: encoder maps of every stride meet again on the way back to full size.

    Args:
        encoder: Name of a timm backbone.
        pretrained: Load the encoder's ImageNet weights.
        decoder_channels: Width of each decoder step, deepest first; with fewer than the halvings of the encoder the
            logits of the last step are enlarged to full size.
        max_stride: Depth of the encoder, 2 to 32; 16 leaves out the last stage of a ResNet.

    Example:
        >>> UNet("resnet18")(torch.zeros(1, 3, 65, 97)).shape
        torch.Size([1, 1, 65, 97])
    """

    def __init__(
        self,
        encoder: str,
        *,
        pretrained: bool = False,
        decoder_channels: Sequence[int] | None = None,
        max_stride: int = MAX_STRIDE,
    ) -> None:
        if not isinstance(max_stride, int) or max_stride not in (2, 4, 8, 16, 32):
            raise UsageError(f"max_stride {max_stride!r} does not fit", remedy="use 2, 4, 8, 16 or 32")
        super().__init__(stride=max_stride)
        steps = max_stride.bit_length() - 1
        widths = tuple(DECODER_CHANNELS[-steps:] if decoder_channels is None else decoder_channels)
        if not 1 <= len(widths) <= steps:
            raise UsageError(f"decoder_channels has {len(widths)} values, max_stride {max_stride} allows 1 to {steps}")
        if not all(isinstance(width, int) and width > 0 for width in widths):
            raise UsageError(f"decoder_channels is {list(widths)}, expected whole numbers from 1")
        self.encoder = build_encoder(encoder, pretrained=pretrained, max_stride=max_stride)
        by_stride = dict(zip(encoder_strides(self.encoder), encoder_channels(self.encoder), strict=True))
        self.decoder = UNetDecoder(by_stride, widths)
        self.segmentation_head = nn.Sequential(nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1))

    def forward_padded(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a batch whose sides are multiples of the stride."""
        features = dict(zip(encoder_strides(self.encoder), self.encoder(x), strict=True))
        logits: Tensor = self.segmentation_head(self.decoder(features, x.shape))
        if self.decoder.skip_strides[-1] == 1:
            return logits
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


class UNetDecoder(nn.Module):
    """The way back: one block for each doubling, from the deepest map to full size.

    Args:
        channels: Channels of the encoder's map by stride.
        widths: Channels after each block, deepest first.
    """

    def __init__(self, channels: dict[int, int], widths: Sequence[int]) -> None:
        super().__init__()
        deepest = max(channels)
        self.skip_strides = [deepest >> step for step in range(1, len(widths) + 1)]
        inputs = [channels[deepest], *widths[:-1]]
        skips = [channels.get(stride, 0) for stride in self.skip_strides]
        self.blocks = nn.ModuleList(map(DecoderBlock, inputs, skips, widths))

    def forward(self, features: dict[int, Tensor], input_shape: torch.Size) -> Tensor:
        """Return full-size features from the encoder's maps by stride."""
        x = features[max(features)]
        for stride, block in zip(self.skip_strides, self.blocks, strict=True):
            skip = features.get(stride)
            size = skip.shape[-2:] if skip is not None else (input_shape[-2] // stride, input_shape[-1] // stride)
            x = block(x, skip, size)
        return x


class DecoderBlock(nn.Module):
    """Nearest doubling, the skip appended, two 3x3 convolutions with batch norm."""

    def __init__(self, inputs: int, skip: int, width: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm_relu(inputs + skip, width)
        self.conv2 = _conv_norm_relu(width, width)

    def forward(self, x: Tensor, skip: Tensor | None, size: Sequence[int]) -> Tensor:
        """Return (B, width, *size) from x at half that size and a skip at that size."""
        x = F.interpolate(x, size=tuple(size), mode="nearest")
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        out: Tensor = self.conv2(self.conv1(x))
        return out


def _conv_norm_relu(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )
