"""Batches: which samples make a pass, for which process, loaded by how many others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from cracktool.config import TrainConfig
from cracktool.data.examples import Example, list_examples
from cracktool.data.samples import Key, Samples
from cracktool.datasets.pairing import photos_in
from cracktool.errors import CrackError, InputError, UsageError
from cracktool.manifest import Manifest
from cracktool.threads import processors


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

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:  # type: ignore[override]  # PyTorch: an iterator class of its own
        for batch in super().__iter__():
            if isinstance(batch, CrackError):
                raise batch
            yield batch


def _collate(batch: list[tuple[Tensor, ...]] | CrackError) -> list[Tensor] | CrackError:
    return batch if isinstance(batch, CrackError) else default_collate(batch)


class EpochSampler(Sampler[Key]):
    """The keys of one pass, a function of (seed, epoch) alone.

    Args:
        images: How many images there are.
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
    sets = [list_examples(manifest, config.supervision) for manifest in manifests]
    for manifest, items in zip(manifests, sets, strict=True):
        if not items:
            lacking = "mask" if config.supervision == "pixels" else "label"
            raise InputError(f"no image with a {lacking} in the train split", path=manifest.folder)
    photos = photos_in(Path(config.unlabelled), remedy="name a folder of photos") if config.unlabelled else []
    unlabelled = [Example(path, None, unlabelled=True) for path in photos]
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
        degrade=config.degrade,
        augment=config.augment,
    )
    loader = _Batches(
        samples,
        batch_size=config.batch_size,
        sampler=sampler,
        num_workers=min(8, processors()) if config.workers < 0 else config.workers,
        drop_last=len(sampler) >= config.batch_size,
        collate_fn=_collate,
        worker_init_fn=_quiet_worker,
        pin_memory=torch.cuda.is_available(),
    )
    return loader, sampler


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


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(0)  # loader processes share the cores already
