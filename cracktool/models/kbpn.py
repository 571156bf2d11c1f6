"""KBPN, blind fourfold super-resolution (Kondo & Ukita 2024, IEEE TIM 73, 5013816, the first half of CSBSR).

A photo is taken to be a sharp one, blurred by a kernel that nobody knows and shrunk to a quarter. Each stage enlarges
the features, draws a picture from them, mends its estimate of the kernel, blurs and shrinks the picture with it, and
feeds back what then differs from the photo. Layer names are the authors'.

Shapes for four stages of 128 features and a photo (B, 3, h, w); k is the kernel as a vector of 441 = 21 x 21 values:

    ====================  ======================================  ===================
    step                  input (channels at scale)               output
    ====================  ======================================  ===================
    feat                  3 at 1                                  128 at 1
    predictor             128 at 1                                k
    stage i = 1 .. 4:
      up                  128 at 1, later 128 (i - 1)             128 at 4
      kb                  128 i at 4, k, the photo                128 at 4, k
      down (not last)     128 i at 4                              128 at 1
      sft (not last)      128 i at 1, k                           128 i at 1
    output_conv           4 x 128 at 4                            3 at 4, added to the photo enlarged by bicubic
    ====================  ======================================  ===================
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cracktool.degradation import KERNEL_SIDE, SCALE
from cracktool.errors import UsageError
from cracktool.models.arguments import check_count
from cracktool.models.encoder import build_encoder

_TAPS = KERNEL_SIDE**2
_COARSE_SIDE = 7
"""Side at which kernels are predicted, before they are enlarged to 21."""


class KBPN(nn.Module):
    """Kernelised back-projection network: a blurred photo to one of four times its side, and the kernel of its blur.

    Takes photos of any size; finding the mask of one takes about 170 KiB of memory a pixel (128 x 128 px: 2.7 GiB).

    Args:
        pretrained: Load ImageNet weights of VGG16 into the four convolutions in front; needs 128 features.
        features: Channels of each feature map, an even number.
        stages: Rounds of back-projection.

    Raises:
        UsageError: An argument does not fit.
        WeightsError: The pretrained weights could not be had.

    Example:
        >>> sr, kernel = KBPN(features=8, stages=2)(torch.rand(1, 3, 9, 12))
        >>> sr.shape, kernel.shape
        (torch.Size([1, 3, 36, 48]), torch.Size([1, 1, 21, 21]))
    """

    def __init__(self, *, pretrained: bool = False, features: int = 128, stages: int = 4) -> None:
        if not isinstance(features, int) or features < 2 or features % 2:
            raise UsageError(f"features is {features!r}, expected an even number from 2")
        check_count("stages", stages)
        super().__init__()
        self.feat = _photo_features(features, pretrained)
        self.predictor = KernelPredictor(features)
        self.back_projection_stages = nn.ModuleList(
            Stage(features, number, last=number == stages) for number in range(1, stages + 1)
        )
        self.output_conv = Conv(stages * features, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the restored picture and the kernel of the blur.

        Args:
            x: RGB photos (B, 3, h, w), values 0 to 1.

        Returns:
            Pictures (B, 3, 4 h, 4 w), which may leave 0 to 1 a little, and kernels (B, 1, 21, 21) summing to 1,
            to be laid on the picture without turning (cross-correlation).
        """
        low = self.feat(x)
        kernel = self.predictor(low)
        highs: list[Tensor] = []
        lows: list[Tensor] = []
        for stage in self.back_projection_stages:
            low, kernel = stage(low, x, kernel, highs, lows)
        enlarged = F.interpolate(x, size=_enlarged(x), mode="bicubic", align_corners=False)
        sr = self.output_conv(torch.cat(highs, dim=1)) + enlarged
        return sr, kernel.view(-1, 1, KERNEL_SIDE, KERNEL_SIDE)


class Stage(nn.Module):
    """One round of back-projection; the last one stops at the enlarged features.

    Args:
        features: Channels of each feature map.
        number: 1 for the first stage.
        last: Leave out the way back to the size of the photo.
    """

    def __init__(self, features: int, number: int, *, last: bool) -> None:
        super().__init__()
        self.up = UpProjection(features * max(1, number - 1), features)
        self.kb = KernelBlock(features, number)
        self.down = None if last else DownProjection(features * number, features)
        self.sft = None if last else KernelModulation(features * number)

    def forward(
        self, low: Tensor, photo: Tensor, kernel: Tensor, highs: list[Tensor], lows: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the next stage's input and the mended kernel; this stage's maps are added to `highs` and `lows`."""
        high = self.up(low)
        error, kernel = self.kb(torch.cat([*highs, high], dim=1), photo, kernel)
        highs.append(high + error)
        if self.down is None or self.sft is None:
            return low, kernel
        lows.append(self.down(torch.cat(highs, dim=1)))
        return self.sft(torch.cat(lows, dim=1), kernel), kernel


class UpProjection(nn.Module):
    """Enlarge, shrink again, and enlarge what got lost on the way (Haris et al. 2018, arXiv 1803.02735)."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, features, kernel=1, bias=True, act=_prelu())
        self.up_conv1 = Enlarge(features, features)
        self.up_conv2 = Shrink(features)
        self.up_conv3 = Enlarge(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, features, 4 h, 4 w) from (B, inputs, h, w)."""
        x = self.conv(x)
        high = self.up_conv1(x)
        out: Tensor = high + self.up_conv3(self.up_conv2(high) - x)
        return out


class DownProjection(nn.Module):
    """Shrink, enlarge again, and shrink what got lost on the way."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, features, kernel=1, bias=True, act=_prelu())
        self.down_conv1 = Shrink(features)
        self.down_conv2 = Enlarge(features, features)
        self.down_conv3 = Shrink(features)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, features, h, w) from (B, inputs, 4 h, 4 w)."""
        x = self.conv(x)
        low = self.down_conv1(x)
        out: Tensor = low + self.down_conv3(self.down_conv2(low) - x)
        return out


class KernelBlock(nn.Module):
    """A picture from the features so far, the kernel mended by it, and what the photo then still tells otherwise."""

    def __init__(self, features: int, number: int) -> None:
        super().__init__()
        self.sr_reconst = Conv(features * number, 3)
        self.kernel_predictor = KernelCorrector()
        self.up_conv1 = Enlarge(3, features)

    def forward(self, highs: Tensor, photo: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of the error (B, features, 4 h, 4 w) and the mended kernel (B, 441)."""
        picture = self.sr_reconst(highs)
        kernel = _normalised(kernel + self.kernel_predictor(picture, kernel))
        return self.up_conv1(_blurred_and_shrunk(picture, kernel) - photo), kernel


class KernelPredictor(nn.Module):
    """First estimate of the kernel, from the photo's features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        widths = (features, features, _COARSE_SIDE**2)
        self.feat_ext = nn.Sequential(*(Conv(features, width, act=_prelu()) for width in widths))

    def forward(self, x: Tensor) -> Tensor:
        """Return kernels (B, 441) summing to 1 from features (B, C, h, w)."""
        return _normalised(_kernel_from_map(self.feat_ext(x)))


class KernelCorrector(nn.Module):
    """What to add to a kernel, from the picture drawn with it (after Gu et al. 2019, arXiv 1904.03377)."""

    def __init__(self) -> None:
        super().__init__()
        coarse = _COARSE_SIDE**2
        self.fe_SR = nn.Sequential(
            Conv(3, coarse, act=nn.ReLU()),
            Conv(coarse, 32, kernel=1, act=_leaky()),
            Conv(32, 32, act=_leaky()),
            Conv(32, 32, act=_leaky()),
            Conv(32, coarse, act=_leaky()),
        )
        self.fe_kernel = nn.ModuleList([ConvOfKernel(coarse, act=_leaky()), Conv(coarse, coarse, act=_leaky())])
        self.fe_cat = nn.Sequential(
            Conv(2 * coarse, 32, kernel=1, act=_leaky()), Conv(32, 32, act=_leaky()), Conv(32, coarse)
        )

    def forward(self, picture: Tensor, kernel: Tensor) -> Tensor:
        """Return corrections (B, 441) from pictures (B, 3, H, W) and kernels (B, 441)."""
        of_kernel, of_map = self.fe_kernel
        known = of_map(of_kernel(kernel, picture))
        return _kernel_from_map(self.fe_cat(torch.cat([self.fe_SR(picture), known], dim=1)))


class KernelModulation(nn.Module):
    """Features scaled and shifted, at each place, by what they and the kernel say (SFT, Wang et al. 2018)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        inputs = features + _TAPS
        self.SFT_scale_conv0 = nn.Conv2d(inputs, inputs, kernel_size=3, padding=1)
        self.SFT_scale_conv1 = nn.Conv2d(inputs, features, kernel_size=3, padding=1)
        self.SFT_shift_conv0 = nn.Conv2d(inputs, inputs, kernel_size=3, padding=1)
        self.SFT_shift_conv1 = nn.Conv2d(inputs, features, kernel_size=3, padding=1)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Return (B, C, h, w) from features of that shape and kernels (B, 441)."""
        scale: Tensor = self.SFT_scale_conv1(_conv_beside_kernel(self.SFT_scale_conv0, x, kernel))
        shift: Tensor = self.SFT_shift_conv1(_conv_beside_kernel(self.SFT_shift_conv0, x, kernel))
        return x * scale.sigmoid() + shift


class Conv(nn.Module):
    """A convolution that keeps the size, and an activation or none."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 3, bias: bool = False, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.layer = nn.Conv2d(inputs, outputs, kernel_size=kernel, padding=kernel // 2, bias=bias)
        self.act = act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h, w) from (B, inputs, h, w)."""
        out: Tensor = self.act(self.layer(x))
        return out


class ConvOfKernel(nn.Module):
    """A 3x3 convolution of a map that holds the kernel at each place, and an activation."""

    def __init__(self, outputs: int, *, act: nn.Module) -> None:
        super().__init__()
        self.layer = nn.Conv2d(_TAPS, outputs, kernel_size=3, padding=1, bias=False)
        self.act = act

    def forward(self, kernel: Tensor, like: Tensor) -> Tensor:
        """Return (B, outputs, h, w) from kernels (B, 441), at the size of another map."""
        out: Tensor = self.act(_conv_of_kernel(self.layer.weight, kernel, like))
        return out


class Enlarge(nn.Module):
    """Fourfold transposed convolution with PReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(inputs, outputs, kernel_size=8, stride=SCALE, padding=2, bias=False)
        self.act = _prelu()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, 4 h, 4 w) from (B, inputs, h, w)."""
        out: Tensor = self.act(self.layer(x))
        return out


class Shrink(nn.Module):
    """Convolution of stride 4 with PReLU."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(features, features, kernel_size=8, stride=SCALE, padding=2, bias=False)
        self.act = _prelu()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, features, h, w) from (B, features, 4 h, 4 w)."""
        out: Tensor = self.act(self.layer(x))
        return out


def _photo_features(features: int, pretrained: bool) -> nn.Sequential:
    half = features // 2
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, half), (half, half), (half, features), (features, features)):
        layers += [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
    network = nn.Sequential(*layers)
    if pretrained and features != 128:
        raise UsageError(f"no pretrained weights fit {features} features", remedy="use 128, or --no-pretrained")
    if pretrained:
        known = build_encoder("vgg16", pretrained=True, max_stride=2).state_dict()
        # The same four convolutions, in the same order; pooling has no tensors.
        network.load_state_dict(dict(zip(network.state_dict(), known.values(), strict=True)))
    return network


def _kernel_from_map(x: Tensor) -> Tensor:
    """Return kernels (B, 441) from maps (B, 49, h, w): their means as 7 x 7, enlarged by bicubic to 21 x 21."""
    coarse = x.mean(dim=(2, 3)).view(-1, 1, _COARSE_SIDE, _COARSE_SIDE)
    fine = F.interpolate(coarse, size=(KERNEL_SIDE, KERNEL_SIDE), mode="bicubic", align_corners=False)
    return fine.view(-1, _TAPS)


def _normalised(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum(dim=1, keepdim=True)


def _conv_beside_kernel(conv: nn.Conv2d, x: Tensor, kernel: Tensor) -> Tensor:
    """Return the activated 3x3 convolution of features (B, C, h, w) with the kernel (B, 441) appended at each place."""
    of_features, of_kernel = torch.split(conv.weight, [x.shape[1], _TAPS], dim=1)
    out = F.conv2d(x, of_features, conv.bias, padding=1) + _conv_of_kernel(of_kernel, kernel, x)
    return F.leaky_relu(out, 0.1)


def _conv_of_kernel(weight: Tensor, kernel: Tensor, like: Tensor) -> Tensor:
    """Return the 3x3 convolution (B, C, h, w) of 441 planes, each of one value: the kernel (B, 441) at each place.

    Places differ only in which of the nine taps lie inside, so nine products do. As a plain convolution of the planes
    this would be 40 % of the whole network's work.
    """
    taps = torch.einsum("oiyx,bi->boyx", weight, kernel).flatten(2)  # (B, C, 9)
    size = like.shape[-2:]
    inside = F.unfold(like.new_ones(1, 1, *size), 3, padding=1)  # (1, 9, h w), 0 or 1
    return (taps @ inside).view(*taps.shape[:2], *size)


def _blurred_and_shrunk(picture: Tensor, kernel: Tensor) -> Tensor:
    """Return (B, 3, h, w): each picture (B, 3, 4 h, 4 w) under its own kernel (B, 441) at every fourth place.

    A convolution in groups would do the same, but ONNX fixes the number of groups and with it that of photos.
    """
    height, width = picture.shape[-2] // SCALE, picture.shape[-1] // SCALE
    patches = F.unfold(picture, KERNEL_SIDE, padding=KERNEL_SIDE // 2, stride=SCALE)  # (B, 3 x 441, h w)
    return torch.einsum("bckyx,bk->bcyx", patches.view(-1, 3, _TAPS, height, width), kernel)


def _enlarged(x: Tensor) -> tuple[int, int]:
    return x.shape[-2] * SCALE, x.shape[-1] * SCALE


def _prelu() -> nn.Module:
    return nn.PReLU(init=0.01)


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.01)
