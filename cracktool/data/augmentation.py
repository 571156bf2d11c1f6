"""Random changes of samples, and how they are cut out and resized."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transform

from cracktool.config import Augment
from cracktool.data.examples import IGNORED, UNKNOWN
from cracktool.images import through_jpeg


def build_geometry(augment: Augment) -> v2.Compose:
    """Return the flips, turns and rotations of an image and its mask alike."""
    turn = v2.RandomChoice([_QuarterTurn(times) for times in (1, 2, 3)])
    steps: list[v2.Transform] = [
        v2.RandomHorizontalFlip(augment.hflip),
        v2.RandomVerticalFlip(augment.vflip),
        v2.RandomApply([turn], augment.quarter_turns),
    ]
    if augment.rotate:
        steps.append(_Rotate(augment.rotate))
    return v2.Compose(steps)


def build_colour(augment: Augment) -> v2.Compose:
    """Return the changes of colour, sharpness and compression of an image alone."""
    steps: list[v2.Transform] = [v2.ColorJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue)]
    if augment.blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(kernel_size=7, sigma=(0.3, 1.8))], augment.blur))
    if augment.jpeg:
        steps.append(v2.RandomApply([_Jpeg(35, 92)], augment.jpeg))
    if augment.invert:
        steps.append(v2.RandomInvert(augment.invert))
    return v2.Compose(steps)


class _QuarterTurn(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def transform(self, inpt: Tensor, params: dict[str, object]) -> Tensor:
        turned: Tensor = tv_tensors.wrap(torch.rot90(inpt, self.times, dims=(-2, -1)), like=inpt)
        return turned


class _Rotate(v2.Transform):  # type: ignore[misc]  # as above
    """A turn by any angle on a mirrored surrounding, so that no black corner teaches an edge."""

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.degrees = degrees

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, object]:
        return {"angle": (2 * torch.rand(()).item() - 1) * self.degrees}

    def transform(self, inpt: Tensor, params: dict[str, object]) -> Tensor:
        height, width = inpt.shape[-2:]
        margin = min(height, width) // 4  # (sqrt 2 - 1) / 2 = 0.21 of the side is seen at 45 degrees
        padded = transform.pad(inpt, [margin], padding_mode="reflect")
        smooth = isinstance(inpt, tv_tensors.Image)
        mode = transform.InterpolationMode.BILINEAR if smooth else transform.InterpolationMode.NEAREST
        turned = transform.rotate(padded, params["angle"], interpolation=mode)
        middle: Tensor = transform.center_crop(turned, [height, width])
        return middle


class _Jpeg(v2.Transform):  # type: ignore[misc]  # as above
    """JPEG artefacts; torchvision's own transform rests on an encoder that it is about to remove."""

    def __init__(self, lowest: int, highest: int) -> None:
        super().__init__()
        self.qualities = (lowest, highest + 1)

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, int]:
        return {"quality": int(torch.randint(*self.qualities, ()).item())}

    def transform(self, inpt: Tensor, params: dict[str, int]) -> Tensor:
        decoded = torch.from_numpy(through_jpeg(inpt.permute(1, 2, 0).numpy(), params["quality"]))
        image: Tensor = tv_tensors.Image(decoded.permute(2, 0, 1).contiguous())
        return image


def grain(image: tv_tensors.Image, probability: float) -> tv_tensors.Image:
    """Return an image uint8 with Gaussian grain of 2 to 12 levels, or as it is."""
    if torch.rand(()).item() >= probability:
        return image
    sigma = 2 + 10 * torch.rand(()).item()
    noisy = image.float() + sigma * torch.randn(image.shape)
    return tv_tensors.Image(noisy.round().clamp(0, 255).to(torch.uint8))


def cut(picture: Tensor, top: int, left: int, side: int) -> Tensor:
    """Return a square (..., side, side) of a picture; what lies beyond its edge mirrors it."""
    part = picture[..., top : top + side, left : left + side]
    missing = [side - extent for extent in part.shape[-2:]]
    # Reflection can add at most the extent less one; tiny pictures need several rounds.
    while max(missing) > 0:
        down, right = (
            min(lack, extent - 1) if extent > 1 else 0 for lack, extent in zip(missing, part.shape[-2:], strict=True)
        )
        if down == right == 0:
            part = transform.pad(part, [0, 0, missing[1], missing[0]], padding_mode="edge")
            break
        part = transform.pad(part, [0, 0, right, down], padding_mode="reflect")
        missing = [side - extent for extent in part.shape[-2:]]
    wrapped: Tensor = tv_tensors.wrap(part, like=picture)
    return wrapped


def resize(image: tv_tensors.Image, size: int) -> tv_tensors.Image:
    """Return an image squeezed to (3, size, size)."""
    return transform.resize(image, [size, size], antialias=True)


def resize_mask(mask: tv_tensors.Mask, size: int, *, soft: bool = False) -> tv_tensors.Mask:
    """Return a mask squeezed to (1, size, size): crack where half of a pixel is, or the shares of crack where soft."""
    # Averaged and cut at one half: a nearest-neighbour mask would lose parts of thin cracks.
    share = _shrink(mask == 1, size)
    squeezed = share if soft else (share >= 0.5).to(torch.uint8)
    if not soft and (mask == IGNORED).any():  # what is not mostly background is not surely so
        squeezed[(_shrink(mask > 0, size) >= 0.5) & (squeezed == 0)] = IGNORED
    if (mask == UNKNOWN).any():
        squeezed[_shrink(mask == UNKNOWN, size) >= 0.5] = UNKNOWN
    return tv_tensors.Mask(squeezed)


def _shrink(where: Tensor, size: int) -> Tensor:
    share: Tensor = transform.resize_image(where.as_subclass(Tensor).float(), [size, size], antialias=True)
    return share
