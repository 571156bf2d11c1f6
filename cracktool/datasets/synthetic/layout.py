"""The layout `synthetic` of `prepare`: items made instead of read, with their centre lines and widths beside the masks.

Writes nothing itself: the truth travels with the image as one more file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cracktool.datasets.raw import Layout, PrepareOptions, RawDataset, RawItem
from cracktool.datasets.synthetic.scene import Sample, make_sample
from cracktool.errors import UsageError
from cracktool.images import Image, Mask


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions:
    """How many pictures and which.

    Args:
        n: How many, at least 1.
        size: Height and width in px, at least 16.
        seed: Picture i of a seed is always the same, whatever `n` is.

    Raises:
        UsageError: A value is out of its range.

    Example:
        >>> SyntheticOptions(n=200).size
        (512, 512)
    """

    n: int = 200
    size: tuple[int, int] = (512, 512)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"{self.n} pictures", remedy="make 1 or more")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed}", remedy="use a number from 0 on")
        if min(self.size) < 16:
            raise UsageError(f"{self.size[1]} x {self.size[0]} px is too small", remedy="use 16 px or more")


def synthetic_items(options: SyntheticOptions) -> list[RawItem]:
    """List the pictures of a set, none of which is made before it is read.

    Example:
        >>> [item.name for item in synthetic_items(SyntheticOptions(n=2))]
        ['synthetic_00000', 'synthetic_00001']
    """
    return [_item(index, options) for index in range(options.n)]


def truth_json(sample: Sample) -> bytes:
    """Return the centre lines and widths of a sample as JSON, UTF-8, with one line per crack.

    The object has ``height``, ``width`` (px), ``surface`` and ``cracks``, a list of ``{"points": [[y, x], ...],
    "widths": [...], "parent": null or a position in the list}``. The numbers are those that the mask was made of.
    """
    cracks = [
        {"points": crack.points.tolist(), "widths": crack.widths.tolist(), "parent": crack.parent}
        for crack in sample.cracks
    ]
    head = json.dumps({"height": sample.mask.shape[0], "width": sample.mask.shape[1], "surface": sample.material})
    body = ",\n".join(json.dumps(crack, separators=(",", ":")) for crack in cracks)
    return f'{head[:-1]}, "cracks": [\n{body}\n]}}\n'.encode()


def read_synthetic(source: Path, options: PrepareOptions) -> RawDataset:
    """List the pictures that `options` asks for.

    Args:
        source: Not looked at.
        options: Number, size and seed of the pictures, and the shares of val and test.

    Raises:
        UsageError: The number, size or seed is out of its range.
    """
    size = options.size or SyntheticOptions().size
    count = SyntheticOptions().n if options.count is None else options.count
    return RawDataset(items=synthetic_items(SyntheticOptions(n=count, size=size, seed=options.seed)))


def _item(index: int, options: SyntheticOptions) -> RawItem:
    name = f"synthetic_{index:05d}"
    # One source each: pictures of one source would be made one after the other by one thread.
    source = f"seed {options.seed}, picture {index}, {options.size[1]} x {options.size[0]} px"
    return RawItem(name=name, group=name, source=source, read=partial(_read, name, index, options))


def _read(name: str, index: int, options: SyntheticOptions) -> tuple[Image, Mask, dict[str, bytes]]:
    sample = make_sample(index, options.seed, options.size)
    return sample.image, sample.mask, {f"truth/{name}.json": truth_json(sample)}


SYNTHETIC = Layout(
    reader=read_synthetic,
    title="Synthetic pavement, concrete, plaster and brick with centre lines and widths known exactly; needs no source",
    where_to_get="nowhere: the images are made here",
    tree="nothing",
    licence="that of this package",
    fractions=(0.1, 0.1),
    options=frozenset({"count", "size"}),
    needs_source=False,
)
