"""RegNetX-200MF (Radosavovic et al. 2020, arXiv 2003.13678) as an encoder: the backbone of the fast weights that ship.

Layer names and arithmetic are those of timm's ``regnetx_002``. It is here as well because importing timm takes longer
than finding the cracks of a photo.

Shapes for an input (B, 3, H, W):

    ======  ======  ========  ==============
    stage   blocks  channels  stride
    ======  ======  ========  ==============
    stem    -       32        2
    s1      1       24        4
    s2      1       56        8
    s3      4       152       16
    s4      7       368       32
    ======  ======  ========  ==============
"""

from __future__ import annotations

import math

from torch import Tensor, nn

NAME = "regnetx_002"
_STEM, _GROUP = 32, 8
_STAGES = ((1, 24), (1, 56), (4, 152), (7, 368))  # blocks, channels
_STRIDES = (2, 4, 8, 16, 32)


class RegNetX002(nn.Module):
    """The stem and the stages up to a stride.

    Args:
        max_stride: 2, 4, 8, 16 or 32.

    Example:
        >>> [feature.shape[1] for feature in RegNetX002(8)(torch.zeros(1, 3, 64, 64))]
        [32, 24, 56]
    """

    def __init__(self, max_stride: int) -> None:
        super().__init__()
        self.strides = tuple(stride for stride in _STRIDES if stride <= max_stride)
        stages = _STAGES[: len(self.strides) - 1]
        self.channels = (_STEM, *(channels for _, channels in stages))
        self.stem = ConvNorm(3, _STEM, 3, stride=2)
        inputs = _STEM
        for number, (blocks, channels) in enumerate(stages, 1):
            stage = nn.Sequential()
            for block in range(blocks):
                stage.add_module(f"b{block + 1}", Bottleneck(inputs, channels, stride=1 if block else 2))
                inputs = channels
            self.add_module(f"s{number}", stage)
        self._start()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps (B, channels, H / stride, W / stride), strides rising."""
        features = [self.stem(x)]
        for number in range(1, len(self.strides)):
            features.append(self.get_submodule(f"s{number}")(features[-1]))
        return features

    def _start(self) -> None:
        """Set weights as timm does: kernels normal by fan-out, the last norm of each block zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.conv3.bn.weight)


class Bottleneck(nn.Module):
    """1x1, 3x3 in groups of 8 channels, 1x1, beside a way past them."""

    def __init__(self, inputs: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, channels, 1)
        self.conv2 = ConvNorm(channels, channels, 3, stride=stride, groups=channels // _GROUP)
        self.conv3 = ConvNorm(channels, channels, 1, active=False)
        past = stride > 1 or inputs != channels
        self.downsample = ConvNorm(inputs, channels, 1, stride=stride, active=False) if past else nn.Identity()
        self.drop_path = nn.Identity()  # for networks that leave out blocks at random while they learn
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, H / stride, W / stride)."""
        out: Tensor = self.act3(self.drop_path(self.conv3(self.conv2(self.conv1(x)))) + self.downsample(x))
        return out


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless told otherwise, ReLU."""

    def __init__(
        self, inputs: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, H / stride, W / stride)."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out
