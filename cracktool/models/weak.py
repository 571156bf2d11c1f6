"""Weak supervision: networks that learn where cracks are from photos labelled only as cracked or not.

A network gives mask logits (B, 1, H, W) as all others do; a pooling of `POOLINGS` makes of them one logit per image,
which is compared with the image's label in training. Prediction needs no pooling.

`WeakUNet` is the U-Net over ResNet-50 of Skamlo/crack-image-segmentation. Layer names of its decoder are those of the
authors' checkpoints. Shapes for ``weak_unet_resnet50`` and an input (B, 3, H, W), H and W already multiples of 32:

    ==========  ==========================  ======================
    step        input (channels at stride)  output
    ==========  ==========================  ======================
    encoder     3 at 1                      64, 256, 512, 1024, 2048 at 2, 4, 8, 16, 32
    dec1        2048 at 32, 1024 at 16      512 at 16
    dec2        512 at 16, 512 at 8         256 at 8
    dec3        256 at 8, 256 at 4          128 at 4
    dec4        128 at 4, 64 at 2           64 at 2
    final_up    64 at 2                     32 at 1
    final_conv  32 at 1                     32 at 1
    outc        32 at 1                     1 at 1
    ==========  ==========================  ======================

`PatchClassifier` is the classifier of König et al. 2021 (arXiv 2109.00456) as a convolution: its logits are a map of
how crack-like each patch of 32 px is. Shapes for ``patch_resnet50``:

    =======  ======================  =======================
    step     input (channels)        output
    =======  ======================  =======================
    encoder  3 at stride 1           2048 at stride 32
    dense    2048 at 32              1000 at 32
    score    1000 at 32              1 at 32, bilinear to 1 at 1
    =======  ======================  =======================
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cracktool.errors import UsageError
from cracktool.models.arguments import check_count
from cracktool.models.encoder import MAX_STRIDE, build_encoder, encoder_channels
from cracktool.models.padding import PaddedModel

Pooling = Callable[[Tensor], Tensor]

DECODER_CHANNELS = (512, 256, 128, 64)
FINAL_CHANNELS = 32
DENSE_CHANNELS = 1000

_RENAMED = (
    (r"^first_conv\.0\.", "encoder.conv1."),
    (r"^first_conv\.1\.", "encoder.bn1."),
    (r"^enc(\d)\.", r"encoder.layer\1."),
)


class WeakUNet(PaddedModel):
    """U-Net over ResNet-50 with transposed convolutions, as the weak project trains it from image labels.

    Its authors pool with `max_pooling` and start from torchvision's second ImageNet weights; `pretrained` here are
    timm's of ``resnet50``.

    Args:
        pretrained: Load the encoder's ImageNet weights.

    Example:
        >>> max_pooling(WeakUNet().eval()(torch.zeros(2, 3, 65, 97))).shape
        torch.Size([2])
    """

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(stride=MAX_STRIDE)
        self.encoder = build_encoder("resnet50", pretrained=pretrained)
        *skips, deepest = encoder_channels(self.encoder)
        inputs = (deepest, *DECODER_CHANNELS[:-1])
        self.dec1, self.dec2, self.dec3, self.dec4 = map(UpBlock, inputs, reversed(skips), DECODER_CHANNELS)
        self.final_up = nn.ConvTranspose2d(DECODER_CHANNELS[-1], FINAL_CHANNELS, kernel_size=2, stride=2)
        self.final_conv = nn.Conv2d(FINAL_CHANNELS, FINAL_CHANNELS, kernel_size=3, padding=1)
        self.outc = nn.Conv2d(FINAL_CHANNELS, 1, kernel_size=1)

    def forward_padded(self, x: Tensor) -> Tensor:
        """Return mask logits (B, 1, H, W) of a batch whose sides are multiples of 32."""
        at2, at4, at8, at16, at32 = self.encoder(x)
        x = self.dec1(at32, at16)
        x = self.dec2(x, at8)
        x = self.dec3(x, at4)
        x = self.dec4(x, at2)
        logits: Tensor = self.outc(F.relu(self.final_conv(self.final_up(x))))
        return logits

    def own_name(self, name: str) -> str | None:
        """Return timm's name for a tensor of the authors' encoder; the rest bear the same names."""
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        return name


class UpBlock(nn.Module):
    """Transposed convolution to double size and half the channels, the skip put before it, two 3x3 convolutions."""

    def __init__(self, inputs: int, skip: int, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, kernel_size=2, stride=2)
        self.conv = nn.Sequential(*_conv_norm_relu(inputs // 2 + skip, width), *_conv_norm_relu(width, width))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, width, 2 h, 2 w) from x (B, inputs, h, w) and a skip of double its size."""
        out: Tensor = self.conv(torch.cat([skip, self.up(x)], dim=1))
        return out


class PatchClassifier(PaddedModel):
    """Patch classifier: one crack logit for each cell of 32 px, interpolated to a heat map of the input's size.

    The source classifies patches of 32 px: ResNet-50, mean over the patch, a dense layer of 1000 with ReLU, softmax
    over two classes. At stride 32 such a patch is a single cell, whose mean is the cell itself, so both dense layers
    are 1x1 convolutions on the map. What differs: a cell sees beyond the borders of its patch; one logit stands for
    the two classes; patches do not overlap, the map is interpolated where the source averages overlapping patches.
    Left out is what the source does afterwards: Grad-CAM++, erosion, and the search for dark pixels.

    Args:
        pretrained: Load the encoder's ImageNet weights.
        encoder: Name of a timm backbone with a map at stride 32.

    Example:
        >>> PatchClassifier(encoder="resnet18").eval()(torch.zeros(1, 3, 65, 97)).shape
        torch.Size([1, 1, 65, 97])
    """

    def __init__(self, *, pretrained: bool = False, encoder: str = "resnet50") -> None:
        super().__init__(stride=MAX_STRIDE)
        self.encoder = build_encoder(encoder, pretrained=pretrained)
        self.dense = nn.Conv2d(encoder_channels(self.encoder)[-1], DENSE_CHANNELS, kernel_size=1)
        self.score = nn.Conv2d(DENSE_CHANNELS, 1, kernel_size=1)

    def forward_padded(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a batch whose sides are multiples of 32."""
        scores = self.score(F.relu(self.dense(self.encoder(x)[-1])))
        return F.interpolate(scores, size=x.shape[-2:], mode="bilinear", align_corners=False)


def max_pooling(logits: Tensor) -> Tensor:
    """Return the largest mask logit of each image: max z.

    One pixel per image learns in each step (equal ones share), so masks come out as sparse blobs.

    Args:
        logits: Mask logits (B, 1, H, W).

    Returns:
        Image logits (B,), float32 or wider.

    Source: Skamlo/crack-image-segmentation.

    Example:
        >>> max_pooling(torch.tensor([[[[-1.0, 3.0]]]]))
        tensor([3.])
    """
    return _pixels(logits).amax(dim=1)


def topk_pooling(logits: Tensor, *, share: float = 0.02) -> Tensor:
    """Return the mean of the largest mask logits of each image: (1/k) sum of the k largest z, k = share H W.

    Args:
        logits: Mask logits (B, 1, H, W).
        share: Share of the pixels that is averaged, above 0 and up to 1; k is rounded up.

    Returns:
        Image logits (B,), float32 or wider.

    Raises:
        UsageError: The share is out of range.

    Source: Laskya/weakly-supervised-crack-segmentation, with 2 %.

    Example:
        >>> topk_pooling(torch.tensor([[[[-1.0, 3.0, 1.0, 0.0]]]]), share=0.5)
        tensor([2.])
    """
    if not 0 < share <= 1:
        raise UsageError(f"share is {share!r}, expected above 0 and up to 1")
    pixels = _pixels(logits)
    return pixels.topk(math.ceil(share * pixels.shape[1]), dim=1).values.mean(dim=1)


def lse_pooling(logits: Tensor, *, sharpness: float = 5.0) -> Tensor:
    """Return a smooth maximum of each image's mask logits: (1/r) log((1/(H W)) sum exp(r z)).

    Args:
        logits: Mask logits (B, 1, H, W).
        sharpness: r, above 0: near 0 the mean, for large values the maximum.

    Returns:
        Image logits (B,), float32 or wider.

    Raises:
        UsageError: The sharpness is not above 0.

    Source: Pinheiro and Collobert 2015 (arXiv 1411.6228).

    Example:
        >>> lse_pooling(torch.tensor([[[[2.0, 2.0]]]]))
        tensor([2.])
    """
    if not sharpness > 0:
        raise UsageError(f"sharpness is {sharpness!r}, expected above 0")
    return _log_mean_exp(sharpness * _pixels(logits)) / sharpness


def generalised_mean_pooling(logits: Tensor, *, power: int = 3) -> Tensor:
    """Return the logit of the generalised mean of each image's probabilities: m = ((1/(H W)) sum p^q)^(1/q).

    The logit is log m - log(1 - m), p = sigmoid(z). A whole q keeps it exact where all p round to 1, for then
    1 - p^q = (1 - p)(1 + p + ... + p^(q-1)), and log(1 - p) = log sigmoid(-z) does not round.

    Args:
        logits: Mask logits (B, 1, H, W).
        power: q, a whole number from 1: with 1 the mean probability, for large values the maximum.

    Returns:
        Image logits (B,), float32 or wider.

    Raises:
        UsageError: The power is no whole number from 1.

    Source: Radenović et al. 2018 (GeM, arXiv 1711.02512), there of features, here of probabilities.

    Example:
        >>> generalised_mean_pooling(torch.tensor([[[[2.0, 2.0]]]]))
        tensor([2.])
    """
    check_count("power", power)
    pixels = _pixels(logits)
    log_probs = F.logsigmoid(pixels)
    log_mean = _log_mean_exp(power * log_probs) / power
    log_rest = _log_mean_exp(F.logsigmoid(-pixels) + _log_geometric_sum(log_probs, power))
    return log_mean - (log_rest - _log_geometric_sum(log_mean, power))


def cam_pooling(logits: Tensor) -> Tensor:
    """Return the mean of each image's mask logits: (1/(H W)) sum z.

    Then the mask logits are the class activation map. They are not passed through a ReLU first: no image logit could
    be negative then, and none of an uncracked image could be learned.

    Args:
        logits: Mask logits (B, 1, H, W).

    Returns:
        Image logits (B,), float32 or wider.

    Source: Zhou et al. 2016 (arXiv 1512.04150), global average pooling.

    Example:
        >>> cam_pooling(torch.tensor([[[[-1.0, 3.0]]]]))
        tensor([1.])
    """
    return _pixels(logits).mean(dim=1)


POOLINGS: dict[str, Pooling] = {
    "max": max_pooling,
    "topk": topk_pooling,
    "lse": lse_pooling,
    "generalised_mean": generalised_mean_pooling,
    "cam": cam_pooling,
}
"""Name -> function that makes image logits (B,) of mask logits (B, 1, H, W)."""


def _pixels(logits: Tensor) -> Tensor:
    """Return (B, H W), in float32 at least: sums over a whole image overflow half precision."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(1)


def _log_mean_exp(x: Tensor) -> Tensor:
    return x.logsumexp(dim=1) - math.log(x.shape[1])


def _log_geometric_sum(log_p: Tensor, count: int) -> Tensor:
    """Return log(1 + p + ... + p^(count - 1)) for p from 0 to 1."""
    total = torch.ones_like(log_p)
    for exponent in range(1, count):
        total = total + (exponent * log_p).exp()
    return total.log()


def _conv_norm_relu(inputs: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, width, kernel_size=3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
