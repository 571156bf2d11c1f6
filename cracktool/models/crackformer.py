"""CrackFormer-II (Liu, Yang, Miao, Mertz, Kong 2023, IEEE T-ITS 24(9)): small transformer blocks in a SegNet.

Five encoder stages remember where each 2x2 window had its maximum; five decoder stages put values back there. At each
scale the first maps of both sides make an attention map for the last ones, which give a side output.

Shapes for an input (B, 3, H, W), H and W already multiples of 32; a block is `TransformerBlock` unless it says else:

    =======  ====================  ===================================================  ===================
    stage    input (channels)      blocks                                               output
    =======  ====================  ===================================================  ===================
    down1    3 at stride 1         3x3 convolution to 64; 64                            64 at 1, pooled to 2
    down2    64 at 2               128; 128                                             128 at 2, pooled to 4
    down3    128 at 4              256; 256 and the same once more                      256 at 4, pooled to 8
    down4    256 at 8              512; 512 and the same once more                      512 at 8, pooled to 16
    down5    512 at 16             512; 512 and the same once more                      512 at 16, pooled to 32
    up5      512 at 32, unpooled   512; 512; 512                                        512 at 16
    up4      512 at 16, unpooled   512; 512; 256                                        256 at 8
    up3      256 at 8, unpooled    256; 256; 128                                        128 at 4
    up2      128 at 4, unpooled    128; 64                                              64 at 2
    up1      64 at 2, unpooled     64; 64                                               64 at 1
    side i   last of down i, up i  3x3 convolution to 64, times attention, 3x3 to 1     1 at i's, bilinear to 1
    final    5 side outputs        1x1 convolution                                      1 at 1
    =======  ====================  ===================================================  ===================
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cracktool.errors import UsageError
from cracktool.models.arguments import check_share
from cracktool.models.padding import Outputs, PaddedModel

GROUP = 4
"""Channels that each group norm and each grouped convolution take together."""

HEADS = 4
KEY_DEPTH = 16
WINDOW = 7
"""Side of the neighbourhood, in pixels, in which attention knows relative positions."""

SIDE_WIDTH = 64

UNUSED = re.compile(r"^down[345]\.nn3\.|\.bn2\.")
"""Tensors in the authors' files that their network never uses: a third block of three stages, a norm of each block."""

RENAMED = (
    (r"^fuse(\d)\.", r"side\1."),
    (r"^LABlock_(\d)\.", r"side\1.attention."),
    (r"\.(nn\d?)\.conv\.", r".\1."),
    (r"\.conv2\.0\.", ".transformer."),
    (r"\.bn(\d)\.", r".gn\1."),
    (r"\.dwconv\.dwconv\.", ".dwconv."),
    (r"\.W_1\.", ".conv1."),
    (r"\.psi\.", ".conv2."),
)
"""Patterns in the authors' tensor names and what this network says instead."""


class CrackFormer2(PaddedModel):
    """CrackFormer-II: logits fused from five scales, each of which is trained as well.

    Args:
        pretrained: Refused; there are no ImageNet weights of this network.
        dropout: Share of values dropped, twice in each block, in training.

    Raises:
        UsageError: Pretrained weights are asked for, or the dropout is no share.

    Example:
        >>> CrackFormer2().eval()(torch.zeros(1, 3, 33, 65)).shape
        torch.Size([1, 1, 33, 65])
    """

    def __init__(self, *, pretrained: bool = False, dropout: float = 0.3) -> None:
        if pretrained:
            raise UsageError("there are no ImageNet weights for crackformer2", remedy="--no-pretrained")
        check_share("dropout", dropout)
        super().__init__(stride=32)

        def block(inputs: int, width: int) -> TransformerBlock:
            return TransformerBlock(inputs, width, dropout)

        self.down1 = Stage(ConvReLU(3, 64), block(64, 64))
        self.down2 = Stage(block(64, 128), block(128, 128))
        self.down3 = Stage(block(128, 256), block(256, 256), last_twice=True)
        self.down4 = Stage(block(256, 512), block(512, 512), last_twice=True)
        self.down5 = Stage(block(512, 512), block(512, 512), last_twice=True)
        self.up5 = Stage(block(512, 512), block(512, 512), block(512, 512))
        self.up4 = Stage(block(512, 512), block(512, 512), block(512, 256))
        self.up3 = Stage(block(256, 256), block(256, 256), block(256, 128))
        self.up2 = Stage(block(128, 128), block(128, 64))
        self.up1 = Stage(block(64, 64), block(64, 64))
        self.side5 = SideOutput(512, 512 + 512)
        self.side4 = SideOutput(512, 512 + 256)
        self.side3 = SideOutput(256, 256 + 128)
        self.side2 = SideOutput(128, 128 + 64)
        self.side1 = SideOutput(64, 64 + 64)
        self.final = nn.Conv2d(5, 1, kernel_size=1)

    def forward_padded(self, x: Tensor) -> Outputs:
        """Return logits (B, 1, H, W) of a batch whose sides are multiples of 32; in training those of `all_outputs`."""
        outputs = self.all_outputs(x)
        return outputs if self.training else outputs[0]

    def all_outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the fused logits and those of side 5 to side 1, each (B, 1, H, W); x as for `forward_padded`."""
        size = x.shape[-2:]
        encoded, indices = [], []
        for down in (self.down1, self.down2, self.down3, self.down4, self.down5):
            encoded.append(down(x))
            x, places = F.max_pool2d(encoded[-1][-1], kernel_size=2, return_indices=True)
            indices.append(places)
        sides = []
        for up, side in (
            (self.up5, self.side5),
            (self.up4, self.side4),
            (self.up3, self.side3),
            (self.up2, self.side2),
            (self.up1, self.side1),
        ):
            decoded = up(max_unpool(x, indices.pop()))
            coarse = side(encoded.pop(), decoded)
            sides.append(F.interpolate(coarse, size=size, mode="bilinear", align_corners=False))
            x = decoded[-1]
        return self.final(torch.cat(sides, dim=1)), *sides

    def own_name(self, name: str) -> str | None:
        """Return this network's name of a tensor in the authors' checkpoints; None for one that is never used."""
        if UNUSED.search(name):
            return None
        for pattern, own in RENAMED:
            name = re.sub(pattern, own, name)
        return name


def max_unpool(x: Tensor, indices: Tensor) -> Tensor:
    """Return maps twice the size, with each value where its 2x2 window had the maximum and 0 elsewhere.

    The same as torch's ``max_unpool2d``, which ONNX does not have.

    Args:
        x: Maps (B, C, H, W).
        indices: Of the same shape, as ``max_pool2d`` gives them: places in a plane of (2H, 2W), row by row.
    """
    height, width = x.shape[-2:]
    places = torch.arange(4 * height * width, device=x.device).view(height, 2, width, 2)
    chosen = indices[..., :, None, :, None] == places  # (B, C, H, 2, W, 2)
    return torch.where(chosen, x[..., :, None, :, None], 0.0).flatten(-4, -3).flatten(-2)


class Stage(nn.Module):
    """Blocks in a row, the output of each given.

    Args:
        blocks: What is applied, in this order.
        last_twice: Apply the last block to its own output too, as the authors do where they declare a third block.
    """

    def __init__(self, *blocks: nn.Module, last_twice: bool = False) -> None:
        super().__init__()
        for number, block in enumerate(blocks, start=1):
            self.add_module(f"nn{number}", block)
        self.last_twice = last_twice

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps (B, width, H, W) after each step."""
        blocks = list(self.children())
        steps = []
        for block in blocks + blocks[-1:] * self.last_twice:
            x = block(x)
            steps.append(x)
        return steps


class ConvReLU(nn.Conv2d):
    """3x3 convolution and ReLU."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(inputs, width, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H, W)."""
        return super().forward(x).relu()


class TransformerBlock(nn.Module):
    """A bottleneck with a transformer at a quarter of the width, and a shortcut round it."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        hidden = max(inputs, width) // 4
        self.conv1 = nn.Conv2d(inputs, hidden, kernel_size=1, bias=False)
        self.gn1 = _group_norm(hidden)
        self.transformer = Transformer(hidden, dropout)
        self.conv3 = nn.Conv2d(hidden, width, kernel_size=1, bias=False)
        self.gn3 = _group_norm(width)
        self.shortcut = nn.Identity() if inputs == width else _conv_norm(inputs, width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H, W) from (B, inputs, H, W)."""
        hidden = F.gelu(self.transformer(F.gelu(self.gn1(self.conv1(x)))))
        return F.gelu(F.gelu(self.gn3(self.conv3(hidden))) + self.shortcut(x))


class Transformer(nn.Module):
    """Attention and a small network, each added to its input, without a norm in front."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.attn = LambdaAttention(width)
        self.mlp = MLP(width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H, W) from the same shape."""
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out


class LambdaAttention(nn.Module):
    """Attention as a linear map per pixel, the lambda layer (Bello 2021, arXiv 2102.08602, section 3).

    Each pixel's queries are applied to a matrix, from keys to values, that is the sum of one for the whole map (its
    content) and one for the pixel's neighbourhood (relative positions). No memory grows with the square of the pixels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = _conv_norm(width, HEADS * KEY_DEPTH, kernel_size=1, bias=False)
        self.keys = _conv_norm(width, KEY_DEPTH, kernel_size=1, bias=False)
        self.values = _conv_norm(width, width // HEADS, kernel_size=1, bias=False)
        # The axis of length 1 in the middle is the channels' in a 3-d kernel, as the authors' files store it.
        self.embedding = nn.Parameter(torch.empty(KEY_DEPTH, 1, 1, WINDOW, WINDOW))
        nn.init.normal_(self.embedding, std=1 / WINDOW)  # keeps the variance of the values over the window's pixels

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H, W) from the same shape."""
        values = self.values(x)  # (B, V, H, W)
        keys = self.keys(x).flatten(2).softmax(dim=-1)
        content = torch.einsum("bkn,bvn->bvk", keys, values.flatten(2))
        queries = self.queries(x).unflatten(1, (HEADS, KEY_DEPTH))  # (B, 4, 16, H, W)
        lambdas = content[..., None, None] + self.position(values)  # (B, V, 16, H, W)
        # One head at a time: a product over all of them would need four times the memory, and einsum takes 7 times as
        # long on a CPU, for it makes a small matrix product of every pixel.
        heads = [(query.unsqueeze(1) * lambdas).sum(dim=2) for query in queries.unbind(dim=1)]
        return torch.cat(heads, dim=1)

    def position(self, values: Tensor) -> Tensor:
        """Return (B, V, 16, H, W): each channel of the values (B, V, H, W) through the same 16 kernels."""
        maps = F.conv2d(values.flatten(0, 1).unsqueeze(1), self.embedding.squeeze(2), padding=WINDOW // 2)
        return maps.view(*values.shape[:2], *maps.shape[1:])


class MLP(nn.Module):
    """Two 1x1 convolutions with a grouped 3x3 one between them, at a quarter of the width."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        hidden = width // 4
        self.fc1 = nn.Conv2d(width, hidden, kernel_size=1)
        self.gn1 = _group_norm(hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, kernel_size=3, padding=1, groups=hidden // GROUP)
        self.gn2 = _group_norm(hidden)
        self.fc2 = nn.Conv2d(hidden, width, kernel_size=1)
        self.gn3 = _group_norm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H, W) from the same shape."""
        hidden = F.gelu(self.gn2(self.dwconv(self.gn1(self.fc1(x)))))
        out: Tensor = self.dropout(self.gn3(self.fc2(self.dropout(hidden))))
        return out


class SideOutput(nn.Module):
    """Logits of one scale: the last maps of encoder and decoder, weighted by attention from the maps before them.

    Args:
        early: Channels of each map but the last ones.
        last: Channels of the two last maps together.
    """

    def __init__(self, early: int, last: int) -> None:
        super().__init__()
        self.attention = LocalAttention(early)
        self.nn = ConvReLU(last, SIDE_WIDTH)
        self.conv = nn.Conv2d(SIDE_WIDTH, 1, kernel_size=3, padding=1)

    def forward(self, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """Return logits (B, 1, h, w) from what `Stage` gives on both sides of one scale."""
        early = torch.stack(encoded[:-1] + decoded[:-1]).sum(dim=0)
        last = torch.cat([encoded[-1], decoded[-1]], dim=1)
        logits: Tensor = self.conv(self.nn(last) * self.attention(early))
        return logits


class LocalAttention(nn.Module):
    """Weights from 0 to 1 for each pixel and channel of a side output, from two 3x3 convolutions."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(inputs, SIDE_WIDTH, kernel_size=3)
        self.conv2 = _conv_norm(SIDE_WIDTH, SIDE_WIDTH, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 64, h, w) from (B, inputs, h, w)."""
        weights: Tensor = self.conv2(self.conv1(F.gelu(x))).sigmoid()
        return weights


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // GROUP, channels)


def _conv_norm(inputs: int, width: int, *, kernel_size: int, bias: bool = True) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, width, kernel_size, padding=kernel_size // 2, bias=bias)
    return nn.Sequential(convolution, _group_norm(width))
