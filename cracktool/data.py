"""Training data: a manifest's rows to batches of augmented samples.

Each sample is a function of its key (image, random seed) alone, so the order of workers, their number, and a run that
was stopped and resumed make no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transform

from cracktool.config import Augment, TrainConfig
from cracktool.degradation import SCALE, Degradation
from cracktool.errors import CrackError, InputError
from cracktool.images import read_grey, read_image, read_mask
from cracktool.manifest import Manifest

Key = tuple[int, int]
"""What a sample is made from: the number of the image and a random seed."""

IGNORED = 2
"""Value of a target where a pixel teaches nothing; 0 is background, 1 crack."""

CROP_TRIES = 8


@dataclass(frozen=True)
class Example:
    """A picture that can be learned from: its pixels, or its label alone.

    Args:
        image: The picture.
        mask: Where the crack is; None where there is none, or where only the label may teach.
        cracked: The label, where only it may teach; None where pixels teach.
        pseudo: The mask is a pseudo-mask: its grey values between 0 and 255 are pixels that teach nothing.
    """

    image: Path
    mask: Path | None
    cracked: bool | None = None
    pseudo: bool = False


def examples(manifest: Manifest, supervision: str = "pixels") -> list[Example]:
    """Return the rows that teach.

    Args:
        manifest: A data set, or one split of it.
        supervision: ``pixels`` for rows with a mask and those labelled uncracked; ``pseudo`` for the same where the
            masks are pseudo-masks; ``image`` for rows with a label, whose masks are left alone.
    """
    if supervision == "image":
        return [
            Example(manifest.image_path(entry), None, entry.label == "cracked")
            for entry in manifest.entries
            if entry.label != "unknown"
        ]
    return [
        Example(manifest.image_path(entry), manifest.mask_path(entry), pseudo=supervision == "pseudo")
        for entry in manifest.entries
        if entry.has_truth
    ]


class Samples(Dataset[tuple[Tensor, ...]]):
    """Augmented samples by key: image uint8 (3, size, size) RGB, and the target.

    The target is a mask uint8 (1, size, size) of 0 and 1, and `IGNORED` in pseudo-masks, or float32 shares of crack
    where masks are soft; of an example whose label alone may teach it is that one value, uint8 (1, 1, 1). With a
    degradation the image is uint8 (3, size / 4, size / 4), and behind the target come the sharp image and the kernel
    float32 (1, 21, 21).

    Args:
        items: The pictures.
        size: Side of the square samples, px.
        fit: ``crop`` cuts a random square out, ``resize`` squeezes the whole picture.
        crack_crops: Share of cut-outs that are made to contain crack.
        soft_masks: Keep the shares of crack that a shrunken mask has.
        degradation: Makes the image that is learned from of the sharp one.
        augment: Random changes.
    """

    def __init__(
        self,
        items: Sequence[Example],
        *,
        size: int,
        fit: str = "crop",
        crack_crops: float = 0.0,
        soft_masks: bool = False,
        degradation: Degradation | None = None,
        augment: Augment,
    ) -> None:
        self.items = items
        self.size = size
        self.fit = fit
        self.crack_crops = crack_crops
        self.soft_masks = soft_masks
        self.degradation = degradation
        self.augment = augment
        self._geometry = _geometry(augment)
        self._colour = _colour(augment)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Key) -> tuple[Tensor, ...]:
        index, seed = key
        image, mask = load(self.items[index])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too, which nothing restores
            image, mask = self._square(image, mask)
            image, mask = self._geometry(image, mask)
            image = _grain(self._colour(image), self.augment.noise)
        cracked = self.items[index].cracked
        target = mask.as_subclass(Tensor) if cracked is None else torch.full((1, 1, 1), int(cracked), dtype=torch.uint8)
        sharp = image.as_subclass(Tensor)
        if self.degradation is None:
            return sharp, target
        small, kernel = self.degradation(sharp.permute(1, 2, 0).numpy(), np.random.default_rng(seed))
        return torch.from_numpy(small).permute(2, 0, 1), target, sharp, torch.from_numpy(kernel)[None]

    def __getitems__(self, keys: list[Key]) -> list[tuple[Tensor, ...]] | CrackError:
        """Return a batch for the loader, or the error of one sample: raised in a worker, it would lose its form."""
        try:
            return [self[key] for key in keys]
        except CrackError as error:
            return error

    def _square(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        if self.fit == "resize":
            return _resize(image, self.size), _resize_mask(mask, self.size, soft=self.soft_masks)
        low, high = self.augment.zoom
        zoom = low * (high / low) ** torch.rand(()).item()
        side = max(1, round(self.size / zoom))
        top, left = self._corner(mask, side)
        image, mask = _cut(image, top, left, side), _cut(mask, top, left, side)
        if side == self.size:
            return image, mask
        return _resize(image, self.size), _resize_mask(mask, self.size)

    def _corner(self, mask: tv_tensors.Mask, side: int) -> tuple[int, int]:
        limits = [max(extent - side, 0) + 1 for extent in mask.shape[-2:]]
        crack = mask == 1
        wants_crack = torch.rand(()).item() < self.crack_crops and bool(crack.any())
        for _ in range(CROP_TRIES):
            top, left = (int(torch.randint(limit, ()).item()) for limit in limits)
            if not wants_crack or crack[..., top : top + side, left : left + side].any():
                break
        return top, left


class _Batches(DataLoader[tuple[Tensor, ...]]):
    """Raises here, in the process of the caller, what went wrong with a sample in a worker."""

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, CrackError):
                raise batch
            yield batch


def _collate(batch: list[tuple[Tensor, ...]] | CrackError) -> list[Tensor] | CrackError:
    return batch if isinstance(batch, CrackError) else default_collate(batch)


class EpochSampler(Sampler[Key]):
    """The keys of one pass, a function of (seed, epoch) alone.

    Args:
        weights: Relative chance of each image; None for every image once, in random order.
        count: Samples of one pass; more than there are images means repeats.
        seed: Seed of the run.
    """

    def __init__(self, *, images: int, weights: Tensor | None, count: int, seed: int) -> None:
        self.images = images
        self.weights = weights
        self.count = count
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is not None:
            order = torch.multinomial(self.weights, self.count, replacement=True, generator=generator)
        else:
            rounds = -(-self.count // self.images)
            order = torch.cat([torch.randperm(self.images, generator=generator) for _ in range(rounds)])[: self.count]
        seeds = torch.randint(2**62, (self.count,), generator=generator)
        return iter(list(zip(order.tolist(), seeds.tolist(), strict=True)))


def load(item: Example) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Read a picture (3, H, W) and its mask (1, H, W) of 0 and 1, and `IGNORED` in pseudo-masks.

    Raises:
        InputError: A file cannot be read, or the two differ in size.
    """
    image = read_image(item.image)
    mask = np.zeros(image.shape[:2], np.uint8) if item.mask is None else _read_target(item.mask, pseudo=item.pseudo)
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"the mask is {mask.shape[1]}x{mask.shape[0]} px, its image {image.shape[1]}x{image.shape[0]}",
            path=item.mask,
            remedy=_degraded_advice(image, mask),
        )
    picture = torch.from_numpy(image).permute(2, 0, 1)
    return tv_tensors.Image(picture), tv_tensors.Mask(torch.from_numpy(mask)[None])


def _degraded_advice(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> str:
    if mask.shape != (SCALE * image.shape[0], SCALE * image.shape[1]):
        return ""
    return "a set made with --degrade is for crack eval; train on the sharp one with --set degrade=true"


def _read_target(path: Path, *, pseudo: bool) -> npt.NDArray[np.uint8]:
    if not pseudo:
        return read_mask(path).view(np.uint8)
    grey = read_grey(path)
    return np.where(grey == 255, 1, np.where(grey == 0, 0, IGNORED)).astype(np.uint8)


def training_loader(
    manifests: Sequence[Manifest], config: TrainConfig
) -> tuple[DataLoader[tuple[Tensor, ...]], EpochSampler]:
    """Return the batches of a run and the sampler whose ``epoch`` chooses the pass.

    Args:
        manifests: The train split of each data set, in the order of ``config.data``.
        config: Settings.

    Raises:
        InputError: A data set has nothing to learn from.
    """
    sets = [examples(manifest, config.supervision) for manifest in manifests]
    for manifest, items in zip(manifests, sets, strict=True):
        if not items:
            lacking = "mask" if config.supervision == "pixels" else "label"
            raise InputError(f"no image with a {lacking} in the train split", path=manifest.folder)
    items = [item for each in sets for item in each]
    sampler = EpochSampler(
        images=len(items),
        weights=_chances(sets, config.data_weights),
        count=config.epoch_samples or len(items),
        seed=config.seed,
    )
    samples = Samples(
        items,
        size=config.size,
        fit=config.fit,
        crack_crops=config.crack_crops,
        soft_masks=config.soft_masks,
        degradation=Degradation() if config.degrade else None,
        augment=config.augment,
    )
    loader = _Batches(
        samples,
        batch_size=config.batch_size,
        sampler=sampler,
        num_workers=config.workers,
        drop_last=len(sampler) >= config.batch_size,
        collate_fn=_collate,
        worker_init_fn=_quiet_worker,
        pin_memory=torch.cuda.is_available(),
    )
    return loader, sampler


def _chances(sets: Sequence[Sequence[Example]], shares: Sequence[float]) -> Tensor | None:
    if not shares:
        return None
    return torch.cat([torch.full((len(items),), share / len(items)) for items, share in zip(sets, shares, strict=True)])


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(0)  # loader processes share the cores already


def _geometry(augment: Augment) -> v2.Compose:
    turn = v2.RandomChoice([_QuarterTurn(times) for times in (1, 2, 3)])
    steps: list[v2.Transform] = [
        v2.RandomHorizontalFlip(augment.hflip),
        v2.RandomVerticalFlip(augment.vflip),
        v2.RandomApply([turn], augment.quarter_turns),
    ]
    if augment.rotate:
        steps.append(_Rotate(augment.rotate))
    return v2.Compose(steps)


def _colour(augment: Augment) -> v2.Compose:
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


class _Rotate(v2.Transform):  # type: ignore[misc]
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


class _Jpeg(v2.Transform):  # type: ignore[misc]
    """JPEG artefacts; torchvision's own transform rests on an encoder that it is about to remove."""

    def __init__(self, lowest: int, highest: int) -> None:
        super().__init__()
        self.qualities = (lowest, highest + 1)

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, int]:
        return {"quality": int(torch.randint(*self.qualities, ()).item())}

    def transform(self, inpt: Tensor, params: dict[str, int]) -> Tensor:
        bgr = np.ascontiguousarray(inpt.permute(1, 2, 0).numpy()[..., ::-1])
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, params["quality"]])
        decoded: Tensor = torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))
        image: Tensor = tv_tensors.Image(decoded.permute(2, 0, 1).contiguous())
        return image


def _grain(image: tv_tensors.Image, probability: float) -> tv_tensors.Image:
    if torch.rand(()).item() >= probability:
        return image
    sigma = 2 + 10 * torch.rand(()).item()
    noisy = image.float() + sigma * torch.randn(image.shape)
    return tv_tensors.Image(noisy.round().clamp(0, 255).to(torch.uint8))


def _cut(picture: Tensor, top: int, left: int, side: int) -> Tensor:
    cut = picture[..., top : top + side, left : left + side]
    missing = [side - extent for extent in cut.shape[-2:]]
    # Reflection can add at most the extent less one; tiny pictures need several rounds.
    while max(missing) > 0:
        down, right = (
            min(lack, extent - 1) if extent > 1 else 0 for lack, extent in zip(missing, cut.shape[-2:], strict=True)
        )
        if down == right == 0:
            cut = transform.pad(cut, [0, 0, missing[1], missing[0]], padding_mode="edge")
            break
        cut = transform.pad(cut, [0, 0, right, down], padding_mode="reflect")
        missing = [side - extent for extent in cut.shape[-2:]]
    wrapped: Tensor = tv_tensors.wrap(cut, like=picture)
    return wrapped


def _resize(image: tv_tensors.Image, size: int) -> tv_tensors.Image:
    return transform.resize(image, [size, size], antialias=True)


def _resize_mask(mask: tv_tensors.Mask, size: int, *, soft: bool = False) -> tv_tensors.Mask:
    # Averaged and cut at one half: a nearest-neighbour mask would lose parts of thin cracks.
    share = _shrink(mask == 1, size)
    if soft:
        return tv_tensors.Mask(share)
    hard = (share >= 0.5).to(torch.uint8)
    if (mask == IGNORED).any():  # what is not mostly background is not surely so
        hard[(_shrink(mask > 0, size) >= 0.5) & (hard == 0)] = IGNORED
    return tv_tensors.Mask(hard)


def _shrink(where: Tensor, size: int) -> Tensor:
    share: Tensor = transform.resize_image(where.as_subclass(Tensor).float(), [size, size], antialias=True)
    return share
