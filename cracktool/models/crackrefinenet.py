"""CrackRefineNet (Okran et al. 2026, Automation in Construction 181, 106635): ConvNeXt and a decoder of gates.

The maps at strides 4 to 32 are brought to one width. On the way up, each is multiplied by gates that are computed from
the map itself: adaptive feature refinement (AFR) at strides 32 and 16, context-aware modules (CAM) at 8 and 4. All four
refined maps are then added up (selective feature aggregation, SFA), and appended to the last one enlarged to full size.

Layer names of the decoder are those of the authors' checkpoints. Two things hold for every encoder, as in the authors'
ConvNeXt: each map passes a layer norm over its channels, and layer scales start at 1 unless weights are loaded.
timm's ImageNet weights of ``convnext_base`` were fine-tuned on ImageNet-1k after 22k; the authors' were not.

Shapes for ``crackrefinenet`` and an input (B, 3, H, W), H and W already multiples of 32:

    ===========  ======================================  ================================
    step         input (channels at stride)              output
    ===========  ======================================  ================================
    encoder      3 at 1                                  128, 256, 512, 1024 at 4, 8, 16, 32
    norms        each map                                the same
    fpn_blocks   each map                                256 each
    afr1         256 at 32                               256 at 32
    decoder1     256 at 32, the map at 16 added          256 at 16
    afr2         256 at 16                               256 at 16
    decoder2     256 at 16, the map at 8 added           256 at 8
    cam1         256 at 8                                256 at 8
    decoder3     256 at 8, the map at 4 added            256 at 4
    cam2         256 at 4                                256 at 4
    decoder4     256 at 4                                256 at 1
    sfa          the four refined maps                   256 at 4
    head         256 at 1, and 256 at 4 enlarged to 1    1 at 1
    ===========  ======================================  ================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cracktool.errors import UsageError
from cracktool.models.arguments import check_share
from cracktool.models.encoder import build_encoder, encoder_channels, encoder_strides
from cracktool.models.padding import PaddedModel

STRIDES = (4, 8, 16, 32)
"""Strides of the encoder's maps that are used."""

REDUCTION = 16
"""Channels of a map over those between the two layers of its channel gate."""

NORM_GROUPS = 4

_RENAMED = (
    (r"backbone\.norm(\d)\.", r"norms.\1."),
    (r"backbone\.downsample_layers\.0\.", "encoder.stem_"),
    (r"backbone\.downsample_layers\.(\d)\.", r"encoder.stages_\1.downsample."),
    (r"backbone\.stages\.(\d)\.", r"encoder.stages_\1.blocks."),
    (r"\.depthwise_conv\.", ".conv_dw."),
    (r"\.pointwise_conv(\d)\.", r".mlp.fc\1."),
)


class CrackRefineNet(PaddedModel):
    """CrackRefineNet: maps of four strides, each refined by gates of its own, added up.

    Args:
        encoder: Name of a timm backbone with maps at strides 4, 8, 16 and 32; the authors' is ``convnext_base``.
        pretrained: Load the encoder's ImageNet weights.
        width: Channels of the decoder, a multiple of 16.
        dropout: Share of channels dropped in training: in both AFR modules and on both inputs of the head.
        drop_path: Stochastic depth (Huang et al. 2016, arXiv 1603.09382): how often the encoder's last block is
            skipped in training, 0 to below 1; it rises linearly from 0 at the first block.

    Raises:
        UsageError: An argument is out of range, or the encoder has no map at one of the strides or, with `drop_path`,
            no blocks that can be skipped.

    Example:
        >>> CrackRefineNet("convnext_atto", width=32).eval()(torch.zeros(1, 3, 65, 97)).shape
        torch.Size([1, 1, 65, 97])
    """

    def __init__(
        self,
        encoder: str = "convnext_base",
        *,
        pretrained: bool = False,
        width: int = 256,
        dropout: float = 0.3,
        drop_path: float = 0.1,
    ) -> None:
        if not isinstance(width, int) or width < 1 or width % REDUCTION:
            raise UsageError(f"width is {width!r}, expected a multiple of {REDUCTION}")
        check_share("drop_path", drop_path)
        super().__init__(stride=STRIDES[-1])
        self.encoder = build_encoder(encoder, pretrained=pretrained, max_stride=STRIDES[-1])
        by_stride = dict(zip(encoder_strides(self.encoder), encoder_channels(self.encoder), strict=True))
        if not set(STRIDES) <= set(by_stride):
            raise UsageError(f"{encoder} has maps at strides {list(by_stride)}, CrackRefineNet needs {list(STRIDES)}")
        if drop_path and not _let_blocks_be_skipped(self.encoder, drop_path):
            reason = f"{encoder} has no blocks that can be skipped in training"
            raise UsageError(reason, remedy="--set model_args.drop_path=0")
        if not pretrained:
            _start_layer_scales_at_one(self.encoder)
        channels = [by_stride[stride] for stride in STRIDES]
        self.norms = nn.ModuleList(ChannelNorm(each, eps=1e-6) for each in channels)
        self.decode_head = RefiningDecoder(channels, width, dropout)

    def forward_padded(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a batch whose sides are multiples of 32."""
        features = dict(zip(encoder_strides(self.encoder), self.encoder(x), strict=True))
        maps = [norm(features[stride]) for stride, norm in zip(STRIDES, self.norms, strict=True)]
        logits: Tensor = self.decode_head(maps)
        return logits

    def own_name(self, name: str) -> str | None:
        """Return timm's name for an encoder tensor of mmpretrain; mmseg stores a classifier that is never used."""
        if name.startswith("decode_head.conv_seg."):
            return None
        if name.startswith("backbone."):
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
        return name


class RefiningDecoder(nn.Module):
    """The way up through AFR and CAM, their sum by SFA, and the head.

    Args:
        channels: Channels of the encoder's maps, finest first.
        width: Channels of everything between those and the head.
        dropout: Share of channels dropped in training.
    """

    def __init__(self, channels: Sequence[int], width: int, dropout: float) -> None:
        super().__init__()
        self.fpn_blocks = nn.ModuleList(nn.Conv2d(each, width, kernel_size=1) for each in channels)
        self.afr1 = AdaptiveFeatureRefinement(width, dropout)
        self.afr2 = AdaptiveFeatureRefinement(width, dropout)
        self.cam1 = ContextAwareModule(width)
        self.cam2 = ContextAwareModule(width)
        self.decoder1 = nn.Sequential(*_doubling(width))
        self.decoder2 = nn.Sequential(*_doubling(width))
        self.decoder3 = nn.Sequential(*_doubling(width))
        self.decoder4 = nn.Sequential(*_doubling(width), *_doubling(width))
        self.sfa = SelectiveFeatureAggregation(width, len(channels))
        self.dropout = nn.Dropout2d(dropout)
        self.segmentation_head = nn.Conv2d(2 * width, 1, kernel_size=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits (B, 1, 4 h, 4 w) from maps (B, C_i, h / 2^i, w / 2^i), i = 0 to 3."""
        q1, q2, q3, q4 = (block(each) for block, each in zip(self.fpn_blocks, maps, strict=True))
        r4 = self.afr1(q4)
        r3 = self.afr2(q3 + self.decoder1(r4))
        r2 = self.cam1(q2 + self.decoder2(r3))
        r1 = self.cam2(q1 + self.decoder3(r2))
        return self._head(self.dropout(self.decoder4(r1)), self.dropout(self.sfa([r1, r2, r3, r4])))

    def _head(self, fine: Tensor, coarse: Tensor) -> Tensor:
        # The authors enlarge the coarse map, append it and apply the head. The head is linear in each pixel, so it
        # may go first: the same logits, but one channel is enlarged instead of `width`.
        weight, width = self.segmentation_head.weight, fine.shape[1]
        logits = F.conv2d(fine, weight[:, :width], self.segmentation_head.bias)
        return logits + _resized(F.conv2d(coarse, weight[:, width:]), fine)


class ChannelGated(nn.Module):
    """Squeeze and excitation (Hu et al. 2018, arXiv 1709.01507), part of both modules below."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // REDUCTION, kernel_size=1)
        self.fc2 = nn.Conv2d(width // REDUCTION, width, kernel_size=1)

    def channel_gate(self, x: Tensor) -> Tensor:
        """Return a factor from 0 to 1 for each channel, (B, C, 1, 1)."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return torch.sigmoid(self.fc2(F.relu(self.fc1(mean))))


class AdaptiveFeatureRefinement(ChannelGated):
    """AFR: gates for each pixel, from neighbourhoods of 3 and 5 px, times gates for each channel."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width)
        self.conv3x3 = _separable(width, 3)
        self.conv5x5 = _separable(width, 5)
        self.norm = nn.GroupNorm(NORM_GROUPS, width)
        self.gate = nn.Conv2d(width, width, kernel_size=1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, h, w) times its gates."""
        pixel_gate = torch.sigmoid(self.gate(self.norm(self.conv3x3(x) + self.conv5x5(x))))
        out: Tensor = self.dropout(x * pixel_gate * self.channel_gate(x))
        return out


class ContextAwareModule(ChannelGated):
    """CAM: gates for each pixel from where the channels are strong and where they differ, times channel gates."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.conv1 = nn.Conv2d(2, width // 2, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width // 2, width, kernel_size=1)
        self.conv3 = nn.Conv2d(width, width, kernel_size=5, padding=2)
        self.conv4 = nn.Conv2d(width, width, kernel_size=7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, h, w) times its gates."""
        statistics = torch.cat([x.std(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)  # (B, 2, h, w)
        context = F.relu(self.conv2(self.conv1(_standardised(statistics))))
        pixel_gate = torch.sigmoid(self.conv3(context) + self.conv4(context))
        return x * pixel_gate * self.channel_gate(x)


class SelectiveFeatureAggregation(nn.Module):
    """SFA: maps of several strides, each times a learned number, added up at the finest one's size."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(maps))
        self.conv = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return (B, C, h, w) from maps of C channels, the first of which is (h, w)."""
        finest = maps[0]
        weighted = [weight * _resized(each, finest) for weight, each in zip(self.weights, maps, strict=True)]
        out: Tensor = self.conv(torch.stack(weighted).sum(dim=0))
        return out


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a map (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _separable(width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width),
        nn.Conv2d(width, width, kernel_size=1),
        nn.ReLU(inplace=True),
    )


def _doubling(width: int) -> tuple[nn.Module, ...]:
    up = nn.ConvTranspose2d(width, width, kernel_size=2, stride=2)
    return up, nn.BatchNorm2d(width), nn.ReLU(inplace=True)


def _standardised(maps: Tensor) -> Tensor:
    """Return each map of a batch (B, C, h, w) with mean 0 and standard deviation 1 over its pixels."""
    mean = maps.mean(dim=(2, 3), keepdim=True)
    return (maps - mean) / (maps.std(dim=(2, 3), keepdim=True) + 1e-6)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _let_blocks_be_skipped(encoder: nn.Module, last: float) -> bool:
    """Give timm's residual blocks their stochastic depth; return whether the encoder has any such blocks."""
    from torchvision.ops import StochasticDepth  # not above: with timm it is most of the time that a start takes

    # A block that skips nothing has an Identity there, or None as in ResNets.
    blocks = [each for each in encoder.modules() if isinstance(getattr(each, "drop_path", 0), nn.Identity | None)]
    for index, block in enumerate(blocks):
        block.drop_path = StochasticDepth(last * index / max(len(blocks) - 1, 1), mode="row")
    return bool(blocks)


def _start_layer_scales_at_one(encoder: nn.Module) -> None:
    # timm starts them at 1e-6, at which blocks of random weights add next to nothing.
    for name, parameter in encoder.named_parameters():
        if name.endswith(".gamma"):
            nn.init.ones_(parameter)
