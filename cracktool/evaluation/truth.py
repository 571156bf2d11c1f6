"""The true mask of an image of a data set, and whether it can be what it says."""

from __future__ import annotations

import numpy as np

from cracktool.degradation import SCALE
from cracktool.errors import InputError
from cracktool.images import Mask, read_grey
from cracktool.manifest import Entry, Manifest
from cracktool.metrics import Levels

_MOSTLY = 0.5
"""Cracks of real photos cover far less; a mask with more than this is likely to be inverted."""


def read_truth(manifest: Manifest, entry: Entry, *, scale: int = 1) -> Mask:
    """Read the true mask of an entry that has one or is labelled uncracked, bool (scale H, scale W).

    Args:
        manifest: The data set.
        entry: One of its images, H x W px.
        scale: Side of the mask over side of the image: 4 in a set made by ``crack prepare --degrade``.

    Raises:
        InputError: The mask cannot be read, is not of that size, or holds something else than 0 and 255.
    """
    path = manifest.mask_path(entry)
    shape = scale * entry.height, scale * entry.width
    grey = read_grey(path) if path else np.zeros(shape, np.uint8)
    if grey.shape != shape:
        reason = f"the true mask is {size_of(grey)}, expected {shape[1]} x {shape[0]}"
        raise InputError(reason, path=path, remedy=_size_advice(grey.shape, entry, scale))
    truth: Mask = grey == 255
    between = int(np.count_nonzero(grey)) - int(np.count_nonzero(truth))
    if between:
        reason = f"the true mask holds {between} pixels that are neither 0 nor 255"
        raise InputError(reason, path=path, remedy="prepare the data set again")
    return truth


def doubts(image: str, truth: Mask, predicted: Mask, *, by: str) -> list[str]:
    """Return what the user should know of a pair of masks that can be scored, but hardly be right.

    Args:
        image: What the user knows the image as.
        truth: Its true mask.
        predicted: The mask to score.
        by: Where that comes from.
    """
    masks = {"the true mask": truth, f"the prediction of {by}": predicted}
    return [
        f"{image}: {name} marks {share:.0%} of the photo as crack; is it inverted?"
        for name, mask in masks.items()
        if (share := float(mask.mean())) > _MOSTLY
    ]


def size_of(array: Levels | Mask) -> str:
    """Return width x height of an array (H, W) in words."""
    return f"{array.shape[1]} x {array.shape[0]} px"


def _size_advice(found: tuple[int, ...], entry: Entry, scale: int) -> str:
    if scale == 1 and found == (SCALE * entry.height, SCALE * entry.width):
        return f"the photo is degraded: use a network that enlarges it by {SCALE}, such as csbsr_pspnet"
    if scale != 1 and found == (entry.height, entry.width):
        return f"the prediction has {scale} times the photo's sides: prepare the data set with --degrade"
    return "prepare the data set again"
