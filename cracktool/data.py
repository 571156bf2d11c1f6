"""Training data: a manifest's rows to batches of augmented samples.

Each sample is a function of its key (image, random seed) alone, so the order of workers, their number, and a run that
was stopped and resumed make no difference.
"""

from __future__ import annotations

import os
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
from cracktool.datasets.pairing import list_pictures
from cracktool.degradation import SCALE, Degradation
from cracktool.errors import CrackError, InputError, UsageError
from cracktool.images import read_grey, read_image, read_mask
from cracktool.manifest import Manifest

Key = tuple[int, int]
"""What a sample is made from: the number of the image and a random seed."""

IGNORED = 2
"""Value of a target where a pixel teaches nothing; 0 is background, 1 crack."""

UNKNOWN = 3
"""Value of a target where a teacher is to say what a pixel is."""

CROP_TRIES = 8


@dataclass(frozen=True)
class Example:
    """A picture that can be learned from: its pixels, or its label alone.

    Args:
        image: The picture.
        mask: Where the crack is; None where there is none, or where only the label may teach.
        cracked: The label, where only it may teach; None where pixels teach.
        pseudo: The mask is a pseudo-mask: its grey values between 0 and 255 are pixels that teach nothing.
        unlabelled: Nobody has said what is in it.
        heat: Levels of false alarms, a picture of its size: cut-outs are where they are; None for anywhere.
    """

    image: Path
    mask: Path | None
    cracked: bool | None = None
    pseudo: bool = False
    unlabelled: bool = False
    heat: Path | None = None


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
        crack_crops: Share of cut-outs that are made to contain crack, where the picture has any.
        empty_crops: Share of cut-outs that are made to contain none, where the picture has room.
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
        empty_crops: float = 0.0,
        soft_masks: bool = False,
        degradation: Degradation | None = None,
        augment: Augment,
    ) -> None:
        self.items = items
        self.size = size
        self.fit = fit
        self.crack_crops = crack_crops
        self.empty_crops = empty_crops
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
            image, mask = self._square(index, image, mask)
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

    def _square(
        self, index: int, image: tv_tensors.Image, mask: tv_tensors.Mask
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        if self.fit == "resize":
            return _resize(image, self.size), _resize_mask(mask, self.size, soft=self.soft_masks)
        low, high = self.augment.zoom
        zoom = low * (high / low) ** torch.rand(()).item()
        side = max(1, round(self.size / zoom))
        heat = self.items[index].heat
        top, left = self._corner(mask, side) if heat is None else _hot_corner(read_grey(heat), side)
        image, mask = _cut(image, top, left, side), _cut(mask, top, left, side)
        if side == self.size:
            return image, mask
        return _resize(image, self.size), _resize_mask(mask, self.size)

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


class Normalise:
    """uint8 RGB (B, 3, H, W) -> float32 on the device, normalised and laid out channels last.

    Args:
        mean: Of each channel, values 0 to 1.
        std: Of each channel, values 0 to 1.
        device: Where the result lies.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.device = device
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1) * 255

    def __call__(self, images: Tensor) -> Tensor:
        """Return the normalised images."""
        scaled = (images.to(self.device, non_blocking=True).float() - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last)


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
        batch: Samples of a batch of one process.
        rank: Which process this is, from 0.
        ranks: How many processes share each pass. Together their batches are those of one with a batch of all.
    """

    def __init__(
        self,
        *,
        images: int,
        weights: Tensor | None,
        count: int,
        seed: int,
        batch: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.images = images
        self.weights = weights
        self.count = count
        self.seed = seed
        self.batch = batch
        self.rank = rank
        self.ranks = ranks
        self.epoch = 0

    def __len__(self) -> int:
        return self.count if self.ranks == 1 else self.count // (self.ranks * self.batch) * self.batch

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is not None:
            order = torch.multinomial(self.weights, self.count, replacement=True, generator=generator)
        else:
            rounds = -(-self.count // self.images)
            order = torch.cat([torch.randperm(self.images, generator=generator) for _ in range(rounds)])[: self.count]
        seeds = torch.randint(2**62, (self.count,), generator=generator)
        keys = list(zip(order.tolist(), seeds.tolist(), strict=True))
        if self.ranks == 1:
            return iter(keys)
        steps = range(self.rank * self.batch, len(self) * self.ranks, self.ranks * self.batch)
        return iter([key for start in steps for key in keys[start : start + self.batch]])


def load(item: Example) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Read a picture (3, H, W) and its mask (1, H, W) of 0 and 1, and `IGNORED` in pseudo-masks.

    Raises:
        InputError: A file cannot be read, or the two differ in size.
    """
    image = read_image(item.image)
    nothing = np.full(image.shape[:2], UNKNOWN if item.unlabelled else 0, np.uint8)
    mask = nothing if item.mask is None else _read_target(item.mask, pseudo=item.pseudo)
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
    manifests: Sequence[Manifest],
    config: TrainConfig,
    *,
    mined: Sequence[Example] = (),
    rank: int = 0,
    ranks: int = 1,
) -> tuple[DataLoader[tuple[Tensor, ...]], EpochSampler]:
    """Return the batches of a run and the sampler whose ``epoch`` chooses the pass.

    Args:
        manifests: The train split of each data set, in the order of ``config.data``.
        config: Settings.
        mined: Crack-free photos that are mined for false alarms, last among the samples.
        rank: Which process of the run this is, from 0.
        ranks: How many there are; each has batches of its own.

    Raises:
        InputError: A data set has nothing to learn from.
        UsageError: A pass is too short for all processes to have a batch.
    """
    sets = [examples(manifest, config.supervision) for manifest in manifests]
    for manifest, items in zip(manifests, sets, strict=True):
        if not items:
            lacking = "mask" if config.supervision == "pixels" else "label"
            raise InputError(f"no image with a {lacking} in the train split", path=manifest.folder)
    unlabelled = [Example(path, None, unlabelled=True) for path in _photos(config.unlabelled)]
    items = [*(item for each in sets for item in each), *unlabelled, *mined]
    sampler = EpochSampler(
        images=len(items),
        weights=_chances(sets, unlabelled, mined, config),
        count=config.epoch_samples or len(items),
        seed=config.seed,
        batch=config.batch_size,
        rank=rank,
        ranks=ranks,
    )
    if not len(sampler):
        raise UsageError(
            f"a pass of {sampler.count} samples has no batch of {config.batch_size} for each of {ranks} processes",
            remedy="lower --batch-size, or set epoch_samples",
        )
    samples = Samples(
        items,
        size=config.size,
        fit=config.fit,
        crack_crops=config.crack_crops,
        empty_crops=config.empty_crops,
        soft_masks=config.soft_masks,
        degradation=Degradation() if config.degrade else None,
        augment=config.augment,
    )
    loader = _Batches(
        samples,
        batch_size=config.batch_size,
        sampler=sampler,
        num_workers=min(8, _processors()) if config.workers < 0 else config.workers,
        drop_last=len(sampler) >= config.batch_size,
        collate_fn=_collate,
        worker_init_fn=_quiet_worker,
        pin_memory=torch.cuda.is_available(),
    )
    return loader, sampler


def _photos(folder: str) -> list[Path]:
    if not folder:
        return []
    photos = list_pictures(Path(folder))
    if not photos:
        raise InputError("no photos in this folder", path=folder, remedy="name a folder of photos")
    return photos


def _chances(
    sets: Sequence[Sequence[Example]], unlabelled: Sequence[Example], mined: Sequence[Example], config: TrainConfig
) -> Tensor | None:
    """Return the chance of each sample, or None where every image comes once per pass."""
    if not (config.data_weights or unlabelled or mined):
        return None
    extra = [(unlabelled, config.unlabelled_share if unlabelled else 0), (mined, config.mine_share if mined else 0)]
    rest = 1 - sum(share for _, share in extra)
    shares = config.data_weights or [len(items) for items in sets]
    parts = [(items, rest * share / sum(shares)) for items, share in zip(sets, shares, strict=True)]
    return torch.cat([torch.full((len(items),), share / len(items)) for items, share in (*parts, *extra) if items])


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # on Linux: what this process may use of them
    return len(affinity(0)) if affinity else os.cpu_count() or 1


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
