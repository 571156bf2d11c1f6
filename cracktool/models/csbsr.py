"""CSBSR: a blurred, small photo restored at four times its side, and the cracks found in that (Kondo & Ukita 2024).

"Joint Learning of Blind Super-Resolution and Crack Segmentation for Realistic Degraded Images", IEEE TIM 73, 5013816:
KBPN restores the photo, a detector finds the cracks, one loss teaches both. Also the paper's own detector, a PSPNet
(Zhao et al. 2017, arXiv 1612.01105) over a dilated ResNet-34, that detector behind a bicubic enlargement as a baseline,
and that loss. Layer names are the authors'.

Shapes of `CSBSR` for a photo (B, 3, h, w):

    ====================  ======================  =======================
    step                  input (channels)        output
    ====================  ======================  =======================
    sr_model (KBPN)       3 at 1                  3 at 4, kernel 21 x 21
    segmentation_model    3 at 4, normalised      1 at 4
    ====================  ======================  =======================

Shapes of `CSBSRPSPNet` for an input (B, 3, H, W), H and W already multiples of 8:

    ====================  ======================  =======================
    step                  input (channels)        output
    ====================  ======================  =======================
    feats                 3 at stride 1           256 and 512 at stride 8
    psp                   512 at 8                5 x 512 -> 1024 at 8
    up_1, up_2, up_3      1024 at 8               256 at 4, 64 at 2, 64 at 1
    final                 64 at 1                 1 at 1
    aux (in training)     256 at 8                1 at 8, bilinear to 1 at 1
    ====================  ======================  =======================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cracktool.degradation import KERNEL_SIDE, SCALE
from cracktool.models.encoder import build_encoder
from cracktool.models.kbpn import KBPN
from cracktool.models.padding import Outputs, PaddedModel, main_logits

BINS = (1, 2, 3, 6)

Supervised = Callable[[Outputs, Tensor], Tensor]
"""What the detector gives and the mask (B, 1, H, W) to one number."""

PixelWeights = Callable[[Tensor, Tensor], Tensor]
"""Logits and mask (B, 1, H, W) to the weight of each pixel, of that shape."""


class CSBSR(PaddedModel):
    """Restore, then detect: takes RGB from 0 to 1, not normalised, and gives logits of four times its side.

    Photos of any size are restored as they are; the detector pads what it needs. The restored picture is normalised
    over its whole area, so the mask of a tile differs a little from that part of the mask of a whole photo.

    Args:
        detector: Network that finds cracks in the restored picture.
        pretrained: Load ImageNet weights of VGG16 into the first layers of KBPN; the detector is left as it is.
        features: Channels of KBPN.
        stages: Stages of KBPN.

    Raises:
        UsageError: An argument does not fit.
        WeightsError: The pretrained weights could not be had.

    Example:
        >>> CSBSR(CSBSRPSPNet(), features=8, stages=2).eval()(torch.rand(1, 3, 9, 15)).shape
        torch.Size([1, 1, 36, 60])
    """

    def __init__(
        self, detector: PaddedModel, *, pretrained: bool = False, features: int = 128, stages: int = 4
    ) -> None:
        super().__init__(stride=1, scale=SCALE)
        self.sr_model = KBPN(pretrained=pretrained, features=features, stages=stages)
        self.segmentation_model = detector

    def forward_padded(self, x: Tensor) -> Outputs:
        """Return logits (B, 1, 4 H, 4 W); in training those of the detector's auxiliary outputs behind them."""
        return self.detect(self.restore(x)[0])

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Let torch.compile translate both halves, which `joint_loss` calls one by one."""
        self.sr_model.compile(*args, **kwargs)
        self.segmentation_model.compile(*args, **kwargs)

    def restore(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return restored pictures (B, 3, 4 H, 4 W), not yet clipped, and kernels (B, 1, 21, 21) summing to 1."""
        sr, kernel = self.sr_model(x)
        return sr, kernel

    def detect(self, sr: Tensor) -> Outputs:
        """Return what the detector finds in restored pictures (B, 3, 4 H, 4 W), clipped to 0 to 1 here."""
        outputs: Outputs = self.segmentation_model(normalise_instances(sr.clamp(0, 1)))
        return outputs

    def own_name(self, name: str) -> str | None:
        """Return our name of a tensor of the authors' joint checkpoint, in which parallel training left ``module.``."""
        name = name.removeprefix("module.")
        part, _, rest = name.partition(".")
        if part != "segmentation_model":
            return name
        inner = self.segmentation_model.own_name(rest)
        return None if inner is None else f"{part}.{inner}"


class CSBSRPSPNet(PaddedModel):
    """PSPNet as CSBSR has it: context pooled at an eighth of the size, then three doublings back to full size.

    Args:
        pretrained: Load the ResNet-34's ImageNet weights.

    Raises:
        WeightsError: The pretrained weights could not be had.

    Example:
        >>> CSBSRPSPNet().eval()(torch.zeros(1, 3, 65, 97)).shape
        torch.Size([1, 1, 65, 97])
    """

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(stride=8)
        self.feats = build_encoder("resnet34", pretrained=pretrained)
        _dilate(self.feats.get_submodule("layer3"), 2)
        _dilate(self.feats.get_submodule("layer4"), 4)
        self.psp = PyramidPooling(512, 1024)
        self.drop_1 = nn.Dropout2d(0.3)
        self.up_1 = Doubling(1024, 256)
        self.up_2 = Doubling(256, 64)
        self.up_3 = Doubling(64, 64)
        self.drop_2 = nn.Dropout2d(0.15)
        self.final = nn.Sequential(nn.Conv2d(64, 1, kernel_size=1))
        self.aux = nn.Sequential(
            nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(256, 1, kernel_size=1),
        )

    def forward_padded(self, x: Tensor) -> Outputs:
        """Return logits (B, 1, H, W) of a batch whose sides are multiples of 8; in training auxiliary ones too."""
        *_, middle, deep = self.feats(x)
        features = self.drop_1(self.psp(deep))
        for up in (self.up_1, self.up_2, self.up_3):
            features = self.drop_2(up(features))
        logits: Tensor = self.final(features)
        if self.training:
            return logits, _enlarge_probabilities(self.aux(middle), x)
        return logits


class BicubicPSPNet(PaddedModel):
    """The baseline of CSBSR: its PSPNet behind a bicubic enlargement by 4 in place of KBPN, all else alike.

    Takes RGB from 0 to 1, not normalised, of any size. The enlarged picture is clipped and normalised over its whole
    area, as CSBSR does with the restored one.

    Args:
        pretrained: Load the ResNet-34's ImageNet weights.

    Raises:
        WeightsError: The pretrained weights could not be had.

    Example:
        >>> BicubicPSPNet().eval()(torch.rand(1, 3, 9, 15)).shape
        torch.Size([1, 1, 36, 60])
    """

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(stride=1, scale=SCALE)
        self.segmentation_model = CSBSRPSPNet(pretrained=pretrained)

    def forward_padded(self, x: Tensor) -> Outputs:
        """Return logits (B, 1, 4 H, 4 W); in training those of the detector's auxiliary output behind them."""
        size = (SCALE * x.shape[-2], SCALE * x.shape[-1])
        enlarged = F.interpolate(x, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
        outputs: Outputs = self.segmentation_model(normalise_instances(enlarged))
        return outputs


class PyramidPooling(nn.Module):
    """The map's means over grids of 1, 2, 3 and 6 cells a side, beside the map itself, mixed by a 1x1 convolution."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Conv2d(inputs, inputs, kernel_size=1, bias=False))
            for bins in BINS
        )
        self.bottleneck = nn.Conv2d((len(BINS) + 1) * inputs, width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, h, w) from (B, inputs, h, w)."""
        size = x.shape[-2:]
        pooled = [F.interpolate(stage(x), size=size, mode="bilinear", align_corners=False) for stage in self.stages]
        return F.relu(self.bottleneck(torch.cat([*pooled, x], dim=1)))


class Doubling(nn.Module):
    """Bilinear doubling, 3x3 convolution, batch norm, PReLU."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(inputs, width, kernel_size=3, padding=1), nn.BatchNorm2d(width), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, 2 h, 2 w) from (B, inputs, h, w)."""
        size = (2 * x.shape[-2], 2 * x.shape[-1])
        out: Tensor = self.conv(F.interpolate(x, size=size, mode="bilinear", align_corners=False))
        return out


def joint_loss(
    model: CSBSR,
    lr: Tensor,
    hr: Tensor,
    kernel: Tensor,
    mask: Tensor,
    *,
    supervised: Supervised,
    beta: float = 0.3,
    pixel_weights: PixelWeights | None = None,
) -> Tensor:
    """Return (1 - beta) L_SR + beta L_seg, the loss that teaches restoring and detecting together.

    L_seg is `supervised`, L_SR is `restoration_loss`. beta 0 leaves the detector untaught, as in the 30,000 steps that
    the authors begin with.

    Args:
        model: The network, in training mode.
        lr: Degraded photos (B, 3, h, w), 0 to 1.
        hr: The sharp ones (B, 3, 4 h, 4 w), 0 to 1.
        kernel: The kernels that blurred them (B, 1, 21, 21), summing to 1.
        mask: Crack masks of the sharp photos (B, 1, 4 h, 4 w), 0 to 1.
        supervised: Loss of the detector's main logits and auxiliary ones against a mask.
        beta: Share of the detector; published: 0.3 for PSPNet and U-Net, 0.9 for HRNet+OCR and CrackFormer.
        pixel_weights: One of `cracktool.losses.SR_WEIGHTS`, to restore best where it matters for finding cracks.

    Source: Kondo & Ukita 2024 (IEEE TIM 73, 5013816).
    """
    sr, estimate = model.restore(lr)
    outputs = model.detect(sr)
    weights = None if pixel_weights is None else pixel_weights(main_logits(outputs).detach(), mask)
    restoring = restoration_loss(sr, estimate, lr, hr, kernel, weights=weights)
    return (1 - beta) * restoring + beta * supervised(outputs, mask)


def restoration_loss(
    sr: Tensor,
    estimate: Tensor,
    lr: Tensor,
    hr: Tensor,
    kernel: Tensor,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    """Return 0.4 L1(sr, hr) + 0.4 L1(sr degraded by the estimate, lr) + 0.2 MSE(estimate, kernel).

    The released settings list the three weights as ``[0.4,0.4,0,2]``, four numbers, so that the published networks
    were trained with 0 for the kernel; 0.2 is what was meant.

    Args:
        sr: Restored pictures (B, 3, 4 h, 4 w), not clipped: a clipped value would have no gradient.
        estimate: Estimated kernels (B, 1, 21, 21).
        lr: Degraded photos (B, 3, h, w), 0 to 1.
        hr: Sharp photos (B, 3, 4 h, 4 w), 0 to 1.
        kernel: True kernels (B, 1, 21, 21).
        weights: Weight of each pixel of `hr` (B, 1, 4 h, 4 w), shrunk by bilinear for the second term.
    """
    sharp = (sr - hr).abs()
    blurred = (blur_and_shrink(sr, estimate) - lr).abs()
    if weights is not None:
        sharp = weights * sharp
        blurred = F.interpolate(weights, size=lr.shape[-2:], mode="bilinear", align_corners=False) * blurred
    return 0.4 * sharp.mean() + 0.4 * blurred.mean() + 0.2 * F.mse_loss(estimate, kernel)


def normalise_instances(x: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) with mean 0 and standard deviation 1 in each channel of each."""
    # Written out because the exporter of nn.InstanceNorm2d fixes the batch size.
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=(2, 3), keepdim=True) + 1e-5)


def blur_and_shrink(picture: Tensor, kernel: Tensor) -> Tensor:
    """Return pictures blurred by their own kernels and shrunk to a quarter by bicubic, as `cracktool.degradation` does.

    Args:
        picture: Pictures (B, C, 4 h, 4 w), sides 12 px at least.
        kernel: Kernels (B, 1, 21, 21), laid on without turning.

    Returns:
        Pictures (B, C, h, w), neither rounded nor clipped.
    """
    batch, channels, height, width = picture.shape
    padded = F.pad(picture, [KERNEL_SIDE // 2] * 4, mode="reflect")
    # All channels of all pictures side by side, a group each: every picture has a kernel of its own.
    side_by_side = padded.reshape(1, batch * channels, *padded.shape[-2:])
    blurred = F.conv2d(side_by_side, kernel.repeat_interleave(channels, dim=0), groups=batch * channels)
    size = (height // SCALE, width // SCALE)
    return F.interpolate(blurred.view_as(picture), size=size, mode="bicubic", align_corners=False)


def _enlarge_probabilities(logits: Tensor, like: Tensor) -> Tensor:
    """Return the logits of bilinearly enlarged probabilities, at the size of another map.

    The authors enlarge after the sigmoid. Both probabilities are enlarged, crack's and the other's, because 1 - p
    would be 0 for logits from 17 on and leave nothing to learn from.
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    crack, other = (
        F.interpolate(probs, size=like.shape[-2:], mode="bilinear", align_corners=True)
        for probs in (exact.sigmoid(), (-exact).sigmoid())
    )
    return crack.log() - other.log()


def _dilate(stage: nn.Module, dilation: int) -> None:
    """Let a stage of a ResNet keep the size: all its blocks but the first reach as far as they did, by dilation."""
    for index, block in enumerate(stage.children()):
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d):
                conv.stride = (1, 1)
                if index:
                    conv.dilation = conv.padding = (dilation, dilation)
