"""Validation: the network of an epoch over the validation split, counted in pixels, or in images where masks are taboo.

Chooses nothing and writes nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from cracktool.config import Augment, TrainConfig
from cracktool.data import Normalise, Samples, list_examples
from cracktool.degradation import degrade_randomly
from cracktool.device import Choice
from cracktool.errors import CrackError, InputError
from cracktool.evaluation import read_truth
from cracktool.images import Image, read_image
from cracktool.inference import Predictor
from cracktool.inference.torch_network import TorchNetwork
from cracktool.manifest import Entry, Manifest
from cracktool.metrics import NO_COUNTS, Counts, Histogram, Levels, threshold_level
from cracktool.training.objective import image_logits
from cracktool.training.ranks import Ranks
from cracktool.weights import Checkpoint


class Validation:
    """The images that an epoch's network is scored on, and how.

    Args:
        manifests: The data sets.
        config: Settings.
        choice: Where the network runs.
        ranks: The processes that share the images.

    Raises:
        InputError: None of the data sets has an image to validate on.
    """

    def __init__(self, manifests: Sequence[Manifest], config: TrainConfig, choice: Choice, ranks: Ranks) -> None:
        self.config = config
        self.choice = choice
        self.ranks = ranks
        pairs = self._pairs(manifests)
        self.images = len(pairs)
        mine = ranks.share(pairs)
        chosen = [Manifest(each.folder, tuple(entry for owner, entry in mine if owner is each)) for each in manifests]
        self.manifests = [each for each in chosen if each.entries]
        self._count: Callable[[Checkpoint], Counts] = {
            "pixels": self._count_pixels,
            "image": self._count_images,
            "pseudo": self._count_found,
        }[config.supervision]

    def __call__(self, checkpoint: Checkpoint) -> Counts:
        """Return what a network gets right and wrong, over all processes."""
        return self.ranks.total(self._count(checkpoint))

    def _pairs(self, manifests: Sequence[Manifest]) -> list[tuple[Manifest, Entry]]:
        by_label = self.config.supervision != "pixels"
        pairs = [
            (each, entry)
            for each in manifests
            for entry in each.split("val").entries
            if (entry.label != "unknown" if by_label else entry.has_truth)
        ]
        if not pairs:
            raise InputError(
                f"no data set has a validation split with {'labels' if by_label else 'masks'}",
                path=manifests[0].folder,
                remedy="prepare it again with --split 0.8/0.1/0.1",
            )
        limit = self.config.val_images
        if limit and limit < len(pairs):
            return [pairs[index * len(pairs) // limit] for index in range(limit)]
        return pairs

    def _count_pixels(self, checkpoint: Checkpoint) -> Counts:
        counts = NO_COUNTS
        for manifest, entry, levels in self._predictions(checkpoint):
            truth = read_truth(manifest, entry)[: levels.shape[0], : levels.shape[1]]  # quarters cut off a rest
            counts += Histogram.of(levels, truth).counts(threshold_level(self.config.threshold))
        return counts

    def _count_found(self, checkpoint: Checkpoint) -> Counts:
        """Count images by their labels, found cracked where any pixel is; masks are not opened.

        It shows false alarms on uncracked images and cracks that are missed altogether, but soon is near 1 and says
        nothing of where the crack lies. So it does not choose: the last weights are kept, without any pooling to be
        tuned.
        """
        counts = NO_COUNTS
        for _, entry, levels in self._predictions(checkpoint):
            found = bool((levels >= threshold_level(self.config.threshold)).any())
            counts += _one_image(found=found, cracked=entry.label == "cracked")
        return counts

    def _predictions(self, checkpoint: Checkpoint) -> Iterator[tuple[Manifest, Entry, Levels]]:
        predictor = Predictor(TorchNetwork(checkpoint, self.choice.device, self.choice.dtype))
        for manifest in self.manifests:
            read = partial(_image, manifest, degrade=self.config.degrade)
            for entry, levels in predictor.stream(manifest.entries, read):
                if isinstance(levels, CrackError):
                    raise levels
                yield manifest, entry, levels

    @torch.no_grad()
    def _count_images(self, checkpoint: Checkpoint) -> Counts:
        """Count images by their labels; masks are not opened, so none can choose a checkpoint."""
        model, normalise = (
            checkpoint.model.eval(),
            Normalise(checkpoint.card.mean, checkpoint.card.std, self.choice.device),
        )
        items = [item for manifest in self.manifests for item in list_examples(manifest, "image")]
        still = Augment(hflip=0, vflip=0, quarter_turns=0, brightness=0, contrast=0, saturation=0)
        samples = Samples(items, size=self.config.size, fit="resize", augment=still)
        counts = NO_COUNTS
        for index in range(len(samples)):
            image, target = samples[index, 0][:2]
            with self.choice.autocast():
                logit = image_logits(model(normalise(image[None])), self.config.pooling)
            found = logit.sigmoid().item() >= self.config.threshold
            counts += _one_image(found=found, cracked=bool(target.item()))
        return counts


def _image(manifest: Manifest, entry: Entry, *, degrade: bool) -> Image:
    image = read_image(manifest.image_path(entry))
    if not degrade:
        return image
    seed = zlib.crc32(entry.image.encode())  # alike in every epoch and run
    return degrade_randomly(image, np.random.default_rng(seed))[0]


def _one_image(*, found: bool, cracked: bool) -> Counts:
    return Counts(
        tp=int(found and cracked),
        fp=int(found and not cracked),
        fn=int(cracked and not found),
        tn=int(not cracked and not found),
    )
