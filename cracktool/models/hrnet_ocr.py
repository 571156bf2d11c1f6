"""HRNet with object-contextual regions (Wang et al. 2020, arXiv 1908.07919; Yuan et al. 2020, arXiv 1909.11065).

HRNet keeps a map at stride 4 all the way and exchanges with coarser ones after every module. OCR then sums up the whole
picture in one vector per region (here background and crack), and each pixel takes what it needs from these vectors.

The network classifies K regions. Ours gives one logit: crack minus background for K = 2, whose sigmoid is the crack's
share in the softmax of the two.

Shapes for width 48 and an input (B, 3, H, W), H and W already multiples of 32; N = H W / 16 pixels:

    ================  ==============================  =====================================
    step              input (channels at stride)      output
    ================  ==============================  =====================================
    stem              3 at 1                          64 at 4
    layer1            64 at 4                         256 at 4
    stage2            256 at 4                        48, 96 at 4, 8
    stage3            48, 96 at 4, 8                  48, 96, 192 at 4, 8, 16
    stage4            48, 96, 192 at 4, 8, 16         48, 96, 192, 384 at 4, 8, 16, 32
    concatenation     the four of stage4              720 at 4
    aux_head          720 at 4                        K at 4: soft regions
    conv3x3           720 at 4                        512 at 4: pixel features
    ocr_gather        K and 512 at 4                  K vectors of 512
    ocr_distri_head   512 at 4, K vectors             512 at 4
    cls_head          512 at 4                        K at 4, as 1 logit bilinear to 1 at 1
    ================  ==============================  =====================================

Layer names are those of the copy in CSBSR (Yuki-11/CSBSR), which `own_name` also makes of the original's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cracktool.errors import UsageError
from cracktool.models.arguments import check_count
from cracktool.models.encoder import build_encoder, encoder_names
from cracktool.models.padding import Outputs, PaddedModel

STEM_WIDTH = 64
BLOCKS = 4
"""Residual blocks of the first stage, and of each branch of each module."""

MODULES = (1, 4, 3)
"""Modules of the stages with two, three and four branches."""

PIXEL_WIDTH = 512
KEY_WIDTH = 256
DROPOUT = 0.05

FORMS = ("hrnet", "openseg")
"""The heads of HRNet-Semantic-Segmentation, and those of openseg, which CSBSR took over."""

_HEADS = ("conv3x3.", "ocr_distri_head.", "cls_head.", "aux_head.")

_HRNET_NAMES = (
    ("conv3x3_ocr.0.", "conv3x3.0."),
    ("conv3x3_ocr.1.", "conv3x3.1.0."),
    ("aux_head.1.", "aux_head.1.0."),
    ("aux_head.3.", "aux_head.2."),
)


class HRNetOCR(PaddedModel):
    """HRNet with object-contextual regions: fine maps throughout, and the whole picture as context of each pixel.

    A tile's regions are those of that tile alone, so tiled and whole-picture masks of this network differ a little.
    In training it returns the logits and those of the soft regions, which the authors weigh 1 and 0.4.

    Args:
        pretrained: Load the encoder's ImageNet weights. They come from HRNet for classification, which enlarges
            nearest where this one does it bilinearly; the authors begin with the same.
        regions: Classes K: 2 for background and crack, or 1 for the crack alone, as in CSBSR. With one region the
            attention is always 1 and its keys and queries learn nothing; and a batch of one cannot be trained on,
            since the norms of the region vector would see a single value per channel.
        width: Channels at stride 4; doubled at each coarser stride.
        form: "hrnet" has a 1x1 convolution in front of the soft regions; "openseg" has 3x3 there, and biases
            throughout the context's convolutions.

    Raises:
        UsageError: A value that does not fit, or a width of which there are no ImageNet weights.

    Example:
        >>> HRNetOCR(width=8).eval()(torch.zeros(1, 3, 65, 97)).shape
        torch.Size([1, 1, 65, 97])
    """

    def __init__(self, *, pretrained: bool = False, regions: int = 2, width: int = 48, form: str = "hrnet") -> None:
        if regions not in (1, 2):
            raise UsageError(f"regions is {regions!r}", remedy="use 2 (background and crack) or 1 (crack)")
        check_count("width", width)
        if form not in FORMS:
            raise UsageError(f"form {form!r} does not fit", remedy=f"use {' or '.join(FORMS)}")
        super().__init__(stride=32)
        self.form = form
        openseg = form == "openseg"
        self.backbone = HRNet(width)
        if pretrained:
            _load_imagenet(self.backbone, width)
        inputs = sum(self.backbone.widths)
        self.aux_head = nn.Sequential(
            *_conv_norm_relu(inputs, inputs, kernel_size=3 if openseg else 1, bias=True),
            nn.Conv2d(inputs, regions, kernel_size=1),
        )
        self.conv3x3 = nn.Sequential(*_conv_norm_relu(inputs, PIXEL_WIDTH, kernel_size=3, bias=True))
        self.ocr_distri_head = RegionContext(PIXEL_WIDTH, KEY_WIDTH, bias=openseg)
        self.cls_head = nn.Conv2d(PIXEL_WIDTH, regions, kernel_size=1)

    def forward_padded(self, x: Tensor) -> Outputs:
        """Return logits (B, 1, H, W) of a batch whose sides are multiples of 32; in training also the soft regions'."""
        main, aux = self.region_logits(x)
        logits = _enlarge(_crack_logit(main), x)
        return (logits, _enlarge(_crack_logit(aux), x)) if self.training else logits

    def region_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the authors' own outputs: the logits of all K regions and those of the soft regions.

        Args:
            x: Batch (B, 3, H, W) whose sides are multiples of 32.

        Returns:
            Two tensors (B, K, H / 4, W / 4).
        """
        finest, *coarser = self.backbone(x)
        features = torch.cat([finest, *(_enlarge(each, finest) for each in coarser)], dim=1)
        aux = self.aux_head(features)
        pixels = self.conv3x3(features)
        return self.cls_head(self.ocr_distri_head(pixels, gather_regions(pixels, aux))), aux

    def own_name(self, name: str) -> str | None:
        """Return our name of a tensor in a checkpoint of the form's authors; None for one of their loss."""
        name = re.sub(r"^((model|module)\.)+", "", name)
        if name.startswith("loss."):
            return None
        if self.form == "openseg":
            return name
        for theirs, ours in _HRNET_NAMES:
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name if name.startswith(_HEADS) else f"backbone.{name}"


def gather_regions(pixels: Tensor, region_logits: Tensor) -> Tensor:
    """Return each region's mean pixel feature, weighted by the softmax of its logits over all pixels.

    Args:
        pixels: Features (B, C, h, w).
        region_logits: Logits (B, K, h, w).

    Returns:
        Vectors (B, C, K, 1). Yuan et al. 2020, equation 3.
    """
    weights = region_logits.flatten(2).softmax(dim=2)  # (B, K, N)
    return (pixels.flatten(2) @ weights.transpose(1, 2)).unsqueeze(3)


class RegionContext(nn.Module):
    """What each pixel takes from the regions, appended to its own features and mixed (Yuan et al. 2020, 3.2).

    Args:
        width: Channels of the pixel features and region vectors.
        key_width: Channels in which the two are compared.
        bias: Give the convolutions biases.
    """

    def __init__(self, width: int, key_width: int, *, bias: bool) -> None:
        super().__init__()
        self.object_context_block = RegionAttention(width, key_width, bias=bias)
        self.conv_bn_dropout = nn.Sequential(
            *_conv_norm_relu(2 * width, width, kernel_size=1, bias=bias), nn.Dropout2d(DROPOUT)
        )

    def forward(self, pixels: Tensor, regions: Tensor) -> Tensor:
        """Return (B, width, h, w) from pixel features of that shape and region vectors (B, width, K, 1)."""
        context = self.object_context_block(pixels, regions)
        out: Tensor = self.conv_bn_dropout(torch.cat([context, pixels], dim=1))
        return out


class RegionAttention(nn.Module):
    """Attention of the pixels to the regions: softmax(q k / sqrt(d)) v, with queries from the pixels."""

    def __init__(self, width: int, key_width: int, *, bias: bool) -> None:
        super().__init__()

        def layers(inputs: int, *outputs: int) -> nn.Sequential:
            pairs = pairwise((inputs, *outputs))
            return nn.Sequential(*(each for a, b in pairs for each in _conv_norm_relu(a, b, kernel_size=1, bias=bias)))

        self.f_pixel = layers(width, key_width, key_width)
        self.f_object = layers(width, key_width, key_width)
        self.f_down = layers(width, key_width)
        self.f_up = layers(key_width, width)

    def forward(self, pixels: Tensor, regions: Tensor) -> Tensor:
        """Return each pixel's context (B, width, h, w) from its features and region vectors (B, width, K, 1)."""
        query = self.f_pixel(pixels)  # (B, D, h, w)
        key = self.f_object(regions).flatten(2)  # (B, D, K)
        value = self.f_down(regions).flatten(2)  # (B, D, K)
        scores = query.flatten(2).transpose(1, 2) @ key * query.shape[1] ** -0.5  # (B, N, K)
        context = value @ scores.softmax(dim=2).transpose(1, 2)  # (B, D, N)
        out: Tensor = self.f_up(context.unflatten(2, query.shape[2:]))
        return out


class HRNet(nn.Module):
    """HRNetV2: branches at strides 4, 8, 16 and 32 that exchange after every module.

    Args:
        width: Channels at stride 4; doubled at each coarser stride.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widths = tuple(width << branch for branch in range(len(MODULES) + 1))
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.conv2 = nn.Conv2d(STEM_WIDTH, STEM_WIDTH, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM_WIDTH)
        first = STEM_WIDTH * Bottleneck.expansion
        self.layer1 = nn.Sequential(
            *(Bottleneck(first if block else STEM_WIDTH, STEM_WIDTH) for block in range(BLOCKS))
        )
        self.transition1 = nn.ModuleList(
            [_step(first, self.widths[0], stride=1), nn.Sequential(_step(first, self.widths[1], stride=2))]
        )
        self.transition2 = _new_branch(self.widths[:3])
        self.transition3 = _new_branch(self.widths[:4])
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(HighResolutionModule(self.widths[:branches]) for _ in range(modules)))
            for branches, modules in enumerate(MODULES, start=2)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return maps at strides 4, 8, 16 and 32 of a batch (B, 3, H, W)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        maps: list[Tensor] = self.stage2([layer(x) for layer in self.transition1])
        maps = self.stage3([*maps, self.transition2[-1](maps[-1])])
        return list(self.stage4([*maps, self.transition3[-1](maps[-1])]))


class HighResolutionModule(nn.Module):
    """Four residual blocks on every branch, then every branch receives the sum of all, brought to its size.

    Args:
        widths: Channels of the branches, each at twice the stride of the one before.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(width) for _ in range(BLOCKS))) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return maps of the same shapes."""
        maps = [branch(each) for branch, each in zip(self.branches, maps, strict=True)]
        return [self._fused(maps, target) for target in range(len(maps))]

    def _fused(self, maps: list[Tensor], target: int) -> Tensor:
        layers = cast(nn.ModuleList, self.fuse_layers[target])
        total = layers[0](maps[0])  # the finest branch is at this size or is halved to it
        for source in range(1, len(maps)):
            part = layers[source](maps[source])
            total = total + (_enlarge(part, maps[target]) if source > target else part)
        return F.relu(total)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the input added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the input added, itself widened where the widths differ."""

    expansion = 4

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity() if inputs == outputs else _step(inputs, outputs, kernel_size=1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 4 width, h, w) from (B, inputs, h, w)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


def _exchange(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """Return what brings one branch to another's channels, and to its stride where that is coarser."""
    if source == target:
        return nn.Identity()
    if source > target:
        return _step(widths[source], widths[target], kernel_size=1, relu=False)
    before = [_step(widths[source], widths[source], stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*before, _step(widths[source], widths[target], stride=2, relu=False))


def _new_branch(widths: Sequence[int]) -> nn.ModuleList:
    # Only the last one has layers: the place of the others is kept for the authors' numbering.
    kept = [nn.Identity() for _ in widths[:-1]]
    return nn.ModuleList([*kept, nn.Sequential(_step(widths[-2], widths[-1], stride=2))])


def _step(inputs: int, outputs: int, *, kernel_size: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


def _conv_norm_relu(inputs: int, outputs: int, *, kernel_size: int, bias: bool) -> tuple[nn.Module, nn.Module]:
    # Two entries, not three: norm and ReLU count as one in the authors' numbering of the heads.
    conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=bias)
    return conv, nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def _crack_logit(logits: Tensor) -> Tensor:
    return logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]


def _load_imagenet(backbone: HRNet, width: int) -> None:
    name = f"hrnet_w{width}"
    if name not in encoder_names():
        known = sorted(int(each[7:]) for each in encoder_names() if re.fullmatch(r"hrnet_w\d+", each))
        advice = f"use a width of {', '.join(map(str, known))}, or train from random weights with --no-pretrained"
        raise UsageError(f"there are no ImageNet weights for an HRNet of width {width}", remedy=advice)
    donor = build_encoder(name, pretrained=True).state_dict()
    backbone.load_state_dict({key: donor[key] for key in backbone.state_dict()})
