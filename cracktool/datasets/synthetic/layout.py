"""The layout `synthetic` of `prepare`: items made instead of read, with their centre lines and widths beside the masks.

Writes nothing itself: the truth travels with the image as one more file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cracktool.datasets.pairing import photos_in
from cracktool.datasets.raw import Layout, PrepareOptions, RawDataset, RawItem
from cracktool.datasets.synthetic.backgrounds import read_background
from cracktool.datasets.synthetic.scene import make_sample
from cracktool.datasets.synthetic.truth import lines_csv
from cracktool.errors import UsageError
from cracktool.images import Image, Mask


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions:
    """How many pictures and which.

    Args:
        n: How many, at least 1.
        size: Height and width in px, at least 16.
        seed: Picture i of a seed is always the same, whatever `n` is, given the same backgrounds.
        background: Folder of photos without cracks to draw the cracks on; None makes the surfaces as well.

    Raises:
        UsageError: A value is out of its range.

    Example:
        >>> SyntheticOptions(n=200).size
        (512, 512)
    """

    n: int = 200
    size: tuple[int, int] = (512, 512)
    seed: int = 0
    background: Path | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"{self.n} pictures", remedy="make 1 or more")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed}", remedy="use a number from 0 on")
        if min(self.size) < 16:
            raise UsageError(f"{self.size[1]} x {self.size[0]} px is too small", remedy="use 16 px or more")


def synthetic_items(options: SyntheticOptions) -> list[RawItem]:
    """List the pictures of a set, none of which is made before it is read.

    The pictures on one background are a group, so no background is in two splits.

    Raises:
        InputError: The folder of backgrounds is missing or has no picture.

    Example:
        >>> [item.name for item in synthetic_items(SyntheticOptions(n=2))]
        ['synthetic_00000', 'synthetic_00001']
    """
    if options.background is None:
        return [_item(index, options, None) for index in range(options.n)]
    photos = photos_in(options.background, remedy="name a folder of photos without cracks")
    read_background.cache_clear()  # a photo may have been replaced since the last run in this process
    return [_item(index, options, photos[index % len(photos)]) for index in range(options.n)]


def read_synthetic(source: Path, options: PrepareOptions) -> RawDataset:
    """List the pictures that `options` asks for.

    Args:
        source: Not looked at.
        options: Number, size, seed and backgrounds of the pictures.

    Raises:
        InputError: The folder of backgrounds is missing or has no picture.
        UsageError: The number, size or seed is out of its range.
    """
    size = options.size or SyntheticOptions().size
    count = SyntheticOptions().n if options.count is None else options.count
    wanted = SyntheticOptions(n=count, size=size, seed=options.seed, background=options.background)
    return RawDataset(items=synthetic_items(wanted))


def _item(index: int, options: SyntheticOptions, photo: Path | None) -> RawItem:
    name = f"synthetic_{index:05d}"
    # One source each: pictures of one source would be made one after the other by one thread.
    source = f"seed {options.seed}, picture {index}, {options.size[1]} x {options.size[0]} px"
    group = name
    if photo and options.background:
        group = photo.relative_to(options.background).as_posix()
        source += f", on {group}"
    read = partial(_read, name, index, options, photo)
    return RawItem(name=name, group=group, source=source, read=read, shape_hw=options.size)


def _read(name: str, index: int, options: SyntheticOptions, photo: Path | None) -> tuple[Image, Mask, dict[str, bytes]]:
    background = None if photo is None else read_background(photo)
    sample = make_sample(index, options.seed, options.size, background=background)
    return sample.image, sample.mask, {f"lines/{name}.csv": lines_csv(sample.cracks)}


SYNTHETIC = Layout(
    reader=read_synthetic,
    title="Photos made here, or cracks on your own, with centre lines and widths known exactly; needs no source",
    where_to_get="nowhere: the images are made here",
    tree="nothing",
    licence="that of this package",
    fractions=(0.1, 0.1),
    options=frozenset({"count", "size", "background"}),
    needs_source=False,
)
