"""Samples: a picture cut out or squeezed, changed at random, with its target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from cracktool.config import Augment
from cracktool.data.augmentation import build_colour, build_geometry, cut, grain, resize, resize_mask
from cracktool.data.examples import Example, read_example
from cracktool.degradation import degrade_randomly
from cracktool.errors import CrackError
from cracktool.images import read_grey

Key = tuple[int, int]
"""What a sample is made from: the number of the image and a random seed."""

CROP_TRIES = 8


class Samples(Dataset[tuple[Tensor, ...]]):
    """Augmented samples by key: image uint8 (3, size, size) RGB, and the target.

    The target is a mask uint8 (1, size, size) of 0 and 1, and `IGNORED` in pseudo-masks, `UNKNOWN` in photos without a
    mask; or float32 shares of crack where masks are soft; of an example whose label alone may teach it is that one
    value, uint8 (1, 1, 1). Degraded, the image is uint8 (3, size / 4, size / 4), and behind the target come
    the sharp image and the kernel float32 (1, 21, 21).

    Args:
        items: The pictures.
        size: Side of the square samples, px.
        fit: ``crop`` cuts a random square out, ``resize`` squeezes the whole picture.
        crack_crops: Share of cut-outs that are made to contain crack, where the picture has any.
        empty_crops: Share of cut-outs that are made to contain none, where the picture has room.
        soft_masks: Keep the shares of crack that a shrunken mask has.
        degrade: Learn from the sharp image made blurred and small.
        augment: Random changes.
    """

    def __init__(
        self,
        items: Sequence[Example],
        *,
        size: int,
        fit: str = "crop",
        crack_crops: float = 0.0,
        empty_crops: float = 0.0,
        soft_masks: bool = False,
        degrade: bool = False,
        augment: Augment,
    ) -> None:
        self.items = items
        self.size = size
        self.fit = fit
        self.crack_crops = crack_crops
        self.empty_crops = empty_crops
        self.soft_masks = soft_masks
        self.degrade = degrade
        self.augment = augment
        self._geometry = build_geometry(augment)
        self._colour = build_colour(augment)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Key) -> tuple[Tensor, ...]:
        index, seed = key
        image, mask = read_example(self.items[index])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too, which nothing restores
            image, mask = self._square(index, image, mask)
            image, mask = self._geometry(image, mask)
            image = grain(self._colour(image), self.augment.noise)
        cracked = self.items[index].cracked
        target = mask.as_subclass(Tensor) if cracked is None else torch.full((1, 1, 1), int(cracked), dtype=torch.uint8)
        sharp = image.as_subclass(Tensor)
        if not self.degrade:
            return sharp, target
        small, kernel = degrade_randomly(sharp.permute(1, 2, 0).numpy(), np.random.default_rng(seed))
        return torch.from_numpy(small).permute(2, 0, 1), target, sharp, torch.from_numpy(kernel)[None]

    def __getitems__(self, keys: list[Key]) -> list[tuple[Tensor, ...]] | CrackError:
        """Return a batch for the loader, or the error of one sample: raised in a worker, it would lose its form."""
        try:
            return [self[key] for key in keys]
        except CrackError as error:
            return error

    def _square(
        self, index: int, image: tv_tensors.Image, mask: tv_tensors.Mask
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        if self.fit == "resize":
            return resize(image, self.size), resize_mask(mask, self.size, soft=self.soft_masks)
        low, high = self.augment.zoom
        zoom = low * (high / low) ** torch.rand(()).item()
        side = max(1, round(self.size / zoom))
        heat = self.items[index].heat
        top, left = self._corner(mask, side) if heat is None else _hot_corner(read_grey(heat), side)
        image, mask = cut(image, top, left, side), cut(mask, top, left, side)
        if side == self.size:
            return image, mask
        return resize(image, self.size), resize_mask(mask, self.size)

    def _corner(self, mask: tv_tensors.Mask, side: int) -> tuple[int, int]:
        limits = [max(extent - side, 0) + 1 for extent in mask.shape[-2:]]
        crack = mask == 1
        draw = torch.rand(()).item()
        wanted = draw < self.crack_crops
        choosy = draw < self.crack_crops + self.empty_crops and bool(crack.any())
        for _ in range(CROP_TRIES):
            top, left = (int(torch.randint(limit, ()).item()) for limit in limits)
            if not choosy or bool(crack[..., top : top + side, left : left + side].any()) == wanted:
                break
        return top, left


def _hot_corner(heat: npt.NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Return the corner of a cut-out around a pixel drawn with the square of its level as its chance."""
    chances = np.square(heat, dtype=np.float64).ravel().cumsum() + 1e-6 * np.arange(1, heat.size + 1)
    pixel = int(np.searchsorted(chances, torch.rand(()).item() * chances[-1], side="right"))
    middle = divmod(pixel, heat.shape[1])
    top, left = (
        min(max(place - side // 2, 0), max(extent - side, 0)) for place, extent in zip(middle, heat.shape, strict=True)
    )
    return top, left
