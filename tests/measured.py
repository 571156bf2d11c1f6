"""What the tests of inspections share: photos with a drawn crack, their masks, and their records."""

from functools import cache
from pathlib import Path

import numpy as np
from drawn import Look, draw, straight, turned
from PIL import Image

from cracktool.images import write_mask
from cracktool.inspection import Inspected, InspectionOptions, Pair, inspect_photo, read_record

SHAPE = (160, 200)


def save_photo(path: Path, grey, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(path, **options)


def photo_and_mask(angle=20, width=4.0):
    photo, mask = _drawn(angle, width)
    return photo.copy(), mask.copy()


@cache
def _drawn(angle, width):
    photo, mask, _ = draw(turned(straight(120), angle, (79.5, 99.5)), width, SHAPE, Look(texture=2.0))
    return photo, mask


def make_pair(folder: Path, name="a", *, angle=20, width=4.0, suffix=".png", **options) -> Pair:
    """Write a photo and its mask; the results go to ``found``."""
    photo, mask = photo_and_mask(angle, width)
    save_photo(folder / "photos" / f"{name}{suffix}", photo, **options)
    (folder / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
    write_mask(folder / "masks" / f"{name}.png", mask)
    (folder / "found" / name).parent.mkdir(parents=True, exist_ok=True)
    return Pair(folder / "masks" / f"{name}.png", folder / "photos" / f"{name}{suffix}", folder / "found" / name, name)


def ring_mask():
    """A mask whose one part has a hole, and a speck."""
    y, x = np.mgrid[:100, :120]
    mask = np.abs(np.hypot(y - 50, x - 55) - 30) < 2.5
    mask[3, 110:112] = mask[90:92, 5] = True
    return mask


def record_of(pair: Pair, **options):
    done = inspect_photo(pair, InspectionOptions(**options))
    assert isinstance(done, Inspected)
    return read_record(done.path)
