"""What can be learned from: the rows of a manifest as pictures with masks or labels, read from their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torchvision import tv_tensors

from cracktool.degradation import SCALE
from cracktool.errors import InputError
from cracktool.images import read_grey, read_image, read_mask
from cracktool.manifest import Manifest

IGNORED = 2
"""Value of a target where a pixel teaches nothing; 0 is background, 1 crack."""

UNKNOWN = 3
"""Value of a target where a teacher is to say what a pixel is."""


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


def list_examples(manifest: Manifest, supervision: str = "pixels") -> list[Example]:
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


def read_example(item: Example) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
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
