"""Pseudo-masks: what a teacher finds in images labelled cracked, refined and cut into crack, background and unsure.

Opens images and never a mask of the data set; knows nothing about losses or epochs.

A network learned from image labels alone gives blurred maps. The second stage of Laskya/weakly-supervised-crack-
segmentation teaches a second network with what is certain of them:

    1. `predict_views`: the teacher's probabilities, averaged over flips and scales;
    2. `REFINEMENTS`: brought to the edges in the image;
    3. `three_levels`: crack, background, and unsure pixels between them that teach nothing.

Images labelled uncracked need no teacher: they are background for certain. Unlabelled ones are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.config import TrainConfig
from cracktool.device import Choice
from cracktool.errors import InputError, UsageError
from cracktool.files import replace_file
from cracktool.images import Image, Mask, encode_png, read_image
from cracktool.inference import Predictor, load_network
from cracktool.manifest import Entry, Manifest
from cracktool.training.events import Labelled
from cracktool.training.ranks import Ranks

Pixel = TypeVar("Pixel", np.uint8, np.float32)
Map = npt.NDArray[np.float32]
"""Probabilities or grey values, (H, W), in [0, 1]."""

FOLDER = "pseudo"
"""Folder of the pseudo-masks in that of the run, with one folder per data set: 1, 2, ..."""

MADE_BY = "made_by.json"
"""File in `FOLDER` that says which weights made the pseudo-masks, and how."""

BACKGROUND, UNSURE, CRACK = 0, 128, 255
"""Grey values of a pseudo-mask; `cracktool.data` reads whatever lies between the first and the last as unsure."""

SCALES = (0.75, 1.0, 1.25)
"""Sizes of the image, against its own, whose predictions are averaged."""

PATCH, STEP = 32, 8
"""Side and distance in px of the patches in which `dark_pixels` compares grey values."""


class PseudoMasks:
    """The pseudo-masks of a run: those that lie in its folder, and those that its teacher has still to make.

    Each is made of its image and the teacher alone, so a run that was stopped and resumed has those of one never
    stopped.

    Args:
        manifests: The train split of each data set.
        folder: The run folder.
        config: Settings.
        choice: Where the teacher runs.

    Raises:
        InputError: Two images would have one pseudo-mask.
        WeightsError: The teacher cannot be had.
        UsageError: The masks in the folder were made by another teacher, or in another way.
    """

    def __init__(self, manifests: Sequence[Manifest], folder: Path, config: TrainConfig, choice: Choice) -> None:
        self.manifests = [
            pseudo_manifest(manifest, folder.resolve() / FOLDER / str(number))
            for number, manifest in enumerate(manifests, start=1)
        ]
        self._config = config
        self._made_by = folder / FOLDER / MADE_BY
        self._missing = [
            (manifest.image_path(entry), Path(entry.mask))
            for manifest in self.manifests
            for entry in manifest.entries
            if entry.mask and not Path(entry.mask).is_file()
        ]
        self._teacher = self._load_teacher(choice) if self._missing else None

    def make(self, ranks: Ranks) -> Iterator[Labelled]:
        """Make this process's part of the masks that are missing, a file each, and give the teacher's memory back."""
        teacher, self._teacher = self._teacher, None
        if teacher is None:
            return
        if ranks.first:
            replace_file(self._made_by, self._origin(teacher).encode())
        missing = ranks.share(self._missing)
        for done, (image, mask) in enumerate(missing, start=1):
            replace_file(mask, encode_png(pseudo_mask(teacher.probs, read_image(image), self._config)))
            yield Labelled(done=done, total=len(missing))

    def terms(self) -> tuple[Sequence[str], str]:
        """Return the training data of the teacher that made the masks, and the terms that its weights come under."""
        made_by = json.loads(self._made_by.read_text(encoding="utf-8")) if self._made_by.is_file() else {}
        return made_by.get("data", ()), made_by.get("licence", "")

    def _load_teacher(self, choice: Choice) -> Predictor:
        network = load_network(self._config.teacher, device=choice.device, dtype=choice.dtype, engine="torch")
        teacher = Predictor(network, tta=True)
        if self._made_by.is_file() and self._made_by.read_text(encoding="utf-8") != self._origin(teacher):
            reason = "the pseudo-masks here were made by another teacher, or in another way"
            raise UsageError(reason, path=self._made_by.parent, remedy="train into a new folder")
        return teacher

    def _origin(self, teacher: Predictor) -> str:
        values = {name: getattr(self._config, name) for name in ("refine", "pseudo_share", "pseudo_band")}
        card = teacher.network.card
        terms = {"data": card.data, "licence": card.licence}
        return json.dumps({"teacher": teacher.network.digest, **terms, **values, **teacher.settings()}, indent=1)


def pseudo_manifest(manifest: Manifest, folder: Path) -> Manifest:
    """Return the rows that teach with pseudo-masks, naming these and no mask of the data set.

    Args:
        manifest: A data set, or one split of it.
        folder: Where its pseudo-masks lie, absolute; sub-folders and stems are those of the images.

    Raises:
        InputError: Two images would have one pseudo-mask.
    """
    entries: list[Entry] = []
    images: dict[str, str] = {}
    for entry in manifest.entries:
        if entry.label == "uncracked":
            entries.append(replace(entry, mask=""))
        elif entry.label == "cracked":
            inside = [part for part in PurePosixPath(entry.image).parts if part not in ("..", "/")]
            mask = str(folder.joinpath(*inside).with_suffix(".png"))
            if mask in images:
                reason = f"{images[mask]} and {entry.image} would have one pseudo-mask"
                raise InputError(reason, path=manifest.folder, remedy="rename one of them")
            images[mask] = entry.image
            entries.append(replace(entry, mask=mask))
    return Manifest(manifest.folder, tuple(entries))


def pseudo_mask(predict: Callable[[Image], Map], image: Image, config: TrainConfig) -> npt.NDArray[np.uint8]:
    """Return the pseudo-mask of an image that has crack, uint8 (H, W) of `BACKGROUND`, `UNSURE` and `CRACK`.

    Args:
        predict: The teacher: an image uint8 (H, W, 3) -> its probabilities.
        image: RGB uint8 (H, W, 3).
        config: Settings.
    """
    probs = REFINEMENTS[config.refine](predict_views(predict, image), image)
    low, high = config.pseudo_band
    return three_levels(probs, share=config.pseudo_share, low=low, high=high)


def predict_views(predict: Callable[[Image], Map], image: Image, scales: Sequence[float] = SCALES) -> Map:
    """Return probabilities averaged over sizes of the image, (H, W) whatever the size of what `predict` returns.

    Flips are the predictor's own affair (``tta``).
    """
    height, width = image.shape[:2]
    total = np.zeros((height, width), np.float32)
    for scale in scales:
        seen = _resized(image, max(round(height * scale), 1), max(round(width * scale), 1))
        total += _resized(predict(seen), height, width) / len(scales)
    return total


def guided_filter(guide: Map, values: Map, *, radius: int = 8, eps: float = 1e-3) -> Map:
    """Return values smoothed, but not across the edges of a guide: q = mean(a) I + mean(b).

    In each square window, a = cov(I, p) / (var(I) + eps) and b = mean(p) - a mean(I) fit the values p linearly to the
    guide I; a pixel gets the mean fit of all windows that it lies in. Windows end where the picture does.

    Args:
        guide: (H, W).
        values: (H, W).
        radius: Windows have a side of 2 radius + 1 px.
        eps: Variance of the guide below which a window counts as flat, and is averaged.

    Source: He et al. 2013 (IEEE TPAMI 35(6)), equations 5, 6 and 8; radius and eps of Laskya/weakly-supervised-crack-
    segmentation.

    Example:
        >>> guided_filter(np.zeros((1, 3), np.float32), np.float32([[0, 1, 0]]), radius=1).round(2)
        array([[0.42, 0.44, 0.42]], dtype=float32)
    """
    count = _window_sum(np.ones_like(guide), radius)

    def mean(picture: Map) -> Map:
        return _window_sum(picture, radius) / count

    mean_guide, mean_values = mean(guide), mean(values)
    slope = (mean(guide * values) - mean_guide * mean_values) / (mean(guide * guide) - mean_guide**2 + eps)
    return mean(slope) * guide + mean(mean_values - slope * mean_guide)


def dark_pixels(image: Image) -> Mask:
    """Return where a photo is dark against its surroundings, bool (H, W).

    In each patch of the smoothed grey photo, the darkest of the three classes of Otsu's thresholds is dark; a pixel is
    dark if it is so in every patch it lies in. In a patch of fewer than three grey values all but the lightest are.

    Args:
        image: RGB uint8 (H, W, 3).

    Takes 1.3 s for 448 x 448 px.

    Source: König et al. 2021 (arXiv 2109.00456): bilateral filter (5, 120, 120), patches of 32 px every 8 px.
    """
    grey = np.asarray(cv2.cvtColor(cv2.bilateralFilter(image, 5, 120, 120), cv2.COLOR_RGB2GRAY), np.uint8)
    dark = np.ones(grey.shape, bool)
    for top in _patch_starts(grey.shape[0]):
        for left in _patch_starts(grey.shape[1]):
            patch = np.s_[top : top + PATCH, left : left + PATCH]
            dark[patch] &= grey[patch] < _darkest_class_ends(grey[patch])
    return dark


def three_levels(probs: Map, *, share: float, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return the pseudo-mask of probabilities, uint8 (H, W) of `BACKGROUND`, `UNSURE` and `CRACK`.

    Crack is from `high` on, but no more than the most probable pixels up to a share of the image (and those equal to
    the least of them); background is below `low`.

    Args:
        probs: (H, W).
        share: Largest share of crack, above 0 and up to 1.
        low: Probability below which a pixel is background.
        high: Least probability of crack, `low` or more.

    Source: Laskya/weakly-supervised-crack-segmentation, with 2 %.

    Example:
        >>> three_levels(np.float32([[0.9, 0.8, 0.6, 0.3, 0.1]]), share=0.4, low=0.2, high=0.5).tolist()
        [[255, 255, 128, 128, 0]]
    """
    rank = probs.size - math.ceil(share * probs.size)
    crack = probs >= max(np.partition(probs, rank, axis=None)[rank], high)
    return np.where(crack, CRACK, np.where(probs < low, BACKGROUND, UNSURE)).astype(np.uint8)


def _resized(picture: npt.NDArray[Pixel], height: int, width: int) -> npt.NDArray[Pixel]:
    if picture.shape[:2] == (height, width):
        return picture
    way = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way), picture.dtype)


def _guided(probs: Map, image: Image) -> Map:
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255)
    return guided_filter(grey, probs).clip(0, 1)


def _darkness(probs: Map, image: Image) -> Map:
    # König et al.: four erosions narrow a map as coarse as that of a patch classifier, a closing mends the crack.
    square = np.ones((3, 3), np.uint8)
    dark = cv2.erode(probs, square, iterations=4) * dark_pixels(image)
    return np.asarray(cv2.morphologyEx(dark, cv2.MORPH_CLOSE, square), np.float32)


def _unchanged(probs: Map, image: Image) -> Map:
    return probs


REFINEMENTS: dict[str, Callable[[Map, Image], Map]] = {"guided": _guided, "darkness": _darkness, "none": _unchanged}
"""Name -> function of probabilities (H, W) and the image uint8 (H, W, 3) to better probabilities."""


def _window_sum(picture: Map, radius: int) -> Map:
    side = (2 * radius + 1, 2 * radius + 1)
    total = cv2.boxFilter(picture, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total, np.float32)


def _patch_starts(length: int) -> Sequence[int]:
    last = max(length - PATCH, 0)
    return [*range(0, last, STEP), last]


def _darkest_class_ends(patch: npt.NDArray[np.uint8]) -> int:
    from skimage.filters import threshold_multiotsu  # 0.3 s, and most trainings need none

    values = np.unique(patch)
    if len(values) < 3:
        return int(values[-1])
    return int(threshold_multiotsu(patch, classes=3)[0])  # type: ignore[no-untyped-call]
