"""The contract between the readers of raw data sets and `prepare`: what a reader is given and what it returns.

Opens no file itself and writes nothing.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cracktool.errors import CrackError, InputError, UsageError
from cracktool.images import Image, Mask
from cracktool.manifest import Label, Split
from cracktool.threads import processors

_SMALLEST_TILE = 16
_SHOWN = 5  # names per warning; the rest is a count

Content = tuple[Image, Mask | None] | tuple[Image, Mask | None, Mapping[str, bytes]]
"""An image, uint8 RGB (height, width, 3); its mask, bool (height, width), or None; as a third, where there is more to
keep, further files: path below the output folder -> content."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """What the user may decide about a data set; a layout refuses the options that mean nothing to it.

    Args:
        split: Shares of the images, each 0 to 1, that become train, val and test, whether a split is published or not;
            None for the published split, and for the layout's own habit where there is none.
        keep_leaks: Leave a published split as it is even where photos of val or test are in train too.
        seed: Of the split and of the blur: the same seed gives the same ones.
        masks: Folder of the masks, where it does not lie beside the images.
        mask_threshold: Grey values from here on, 1 to 255, are crack; None for the layout's own value.
        invert: Exchange crack and background of the masks, for a copy that has them the other way round.
        label: Of an annotation export, the labels that are crack; empty for those with "crack" in their name.
        line_width: How wide lines of an annotation export are drawn, in px; None for 1.
        count: How many images to make, for a layout that makes them; None for its habit.
        size: Their height and width in px; None for its habit.
        background: Folder of crack-free photos to draw cracks on, for such a layout; None makes the surfaces as well.
        material: What all surfaces are to be, for such a layout; None for a mixture.
        pattern: What cracks all images are to have, for such a layout; None for a mixture.
        scene: Put sky, trees, openings, beams and railings beside the surfaces, for such a layout.
        tile: Side of the square tiles in px, 16 or more, that larger images are cut into; None keeps them whole.
        min_crack_px: Leave out images (with `tile`, tiles) whose mask has fewer crack pixels.
        keep_empty: Share of those, 0 to 1, that is kept nonetheless: ground without cracks to learn from.
        degrade: Store photos blurred and at a quarter of their size beside sharp masks, to score networks that restore.

    Raises:
        UsageError: A value is out of its range, or means nothing without another.

    Example:
        >>> PrepareOptions(split=(0.7, 0.15, 0.15)).seed
        0
    """

    split: tuple[float, float, float] | None = None
    keep_leaks: bool = False
    seed: int = 0
    masks: Path | None = None
    mask_threshold: int | None = None
    invert: bool = False
    label: tuple[str, ...] = ()
    line_width: float | None = None
    count: int | None = None
    size: tuple[int, int] | None = None
    background: Path | None = None
    material: str | None = None
    pattern: str | None = None
    scene: bool = False
    tile: int | None = None
    min_crack_px: int = 0
    keep_empty: float = 0.0
    degrade: bool = False

    def __post_init__(self) -> None:
        if self.split and not (min(self.split) >= 0 and math.isclose(sum(self.split), 1, abs_tol=1e-6)):
            shares = "/".join(f"{share:g}" for share in self.split)
            raise UsageError(f"the split {shares} does not make 1", remedy="try 0.7/0.15/0.15: train, val and test")
        if self.split and self.keep_leaks:
            raise UsageError("keep_leaks keeps a published split, split cuts a new one", remedy="leave one of them out")
        if self.mask_threshold is not None and not 1 <= self.mask_threshold <= 255:
            raise UsageError(f"mask_threshold is {self.mask_threshold}, expected 1 to 255")
        if self.line_width is not None and not 1 <= self.line_width <= 1000:
            raise UsageError(f"line_width is {self.line_width}, expected 1 to 1000")
        if self.tile is not None and self.tile < _SMALLEST_TILE:
            raise UsageError(f"tile is {self.tile}, expected {_SMALLEST_TILE} px or more")
        if self.min_crack_px < 0:
            raise UsageError(f"min_crack_px is {self.min_crack_px}, expected 0 or more")
        if not 0 <= self.keep_empty <= 1:
            raise UsageError(f"keep_empty is {self.keep_empty}, expected 0 to 1")
        if self.keep_empty and not self.min_crack_px:
            raise UsageError("keep_empty means nothing where no image is left out", remedy="give min_crack_px as well")


@dataclass(frozen=True, kw_only=True)
class RawItem:
    """One image that a data set will have, still in its raw form.

    Args:
        name: File name in the prepared set, without extension and folder. Equal names get their split in front.
        group: Images of one group (crops of one photo) are never separated by a split.
        source: Where it comes from: its path below the raw folder, with its collection in front where it does not begin
            with that. Neighbours of one source are read by one thread.
        read: Returns the picture; None where the data set leaves it out, for example because it shows too little crack.
            Raises InputError. Called from a worker thread.
        split: The published split; None where the data set has none.
        label: Where there is no mask; with one, the mask decides.
        file: The raw file, where it holds exactly this image: a JPEG or PNG is then copied byte for byte.
        shape_hw: Height and width in px, where they are known before it is read; those of `file` need not be said.
    """

    name: str
    group: str
    source: str
    read: Callable[[], Content | None]
    split: Split | None = None
    label: Label = "unknown"
    file: Path | None = None
    shape_hw: tuple[int, int] | None = None


def read_item(item: RawItem) -> tuple[Image, Mask | None, Mapping[str, bytes]] | None:
    """Read an item and make sure that its parts fit each other.

    Returns:
        Image, mask and further files as in `Content`; None where the data set leaves it out.

    Raises:
        InputError: The raw files cannot be used, or do not fit each other.
    """
    picture = item.read()
    if picture is None:
        return None
    image, mask = picture[0], picture[1]
    path = item.file or item.source
    size = f"{image.shape[1]} x {image.shape[0]}"
    if item.shape_hw not in (None, image.shape[:2]):
        raise InputError(f"the picture has {size} px, its header says otherwise", path=path, remedy="save it anew")
    if mask is not None and mask.shape != image.shape[:2]:
        turned = mask.shape == image.shape[1::-1]
        raise InputError(
            f"the mask has {mask.shape[1]} x {mask.shape[0]} px, the image {size}",
            path=path,
            remedy="turn the mask as the photo's EXIF orientation says" if turned else "",
        )
    return image, mask, picture[2] if len(picture) == 3 else {}


class Notes:
    """Collects what a user should know: each text once, with the names it is about. Safe to use from several threads.

    Example:
        >>> notes = Notes()
        >>> notes.add("images without a mask are skipped", "a.jpg")
        >>> notes.lines()
        ('images without a mask are skipped: a.jpg',)
    """

    def __init__(self) -> None:
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._lock = threading.Lock()

    def add(self, text: str, *names: str) -> None:
        """Note `text`, and `names` as what it is about."""
        with self._lock:
            self._names[text].update(names)

    def lines(self) -> tuple[str, ...]:
        """Return one line per text, sorted, so that the order of the threads does not show."""
        with self._lock:
            return tuple(_line(text, sorted(names)) for text, names in sorted(self._names.items()))


@dataclass(frozen=True, kw_only=True)
class RawDataset:
    """What a reader found.

    Args:
        items: The images, in a fixed order.
        notes: Warnings; reading the items may add to them.
        failures: Raw files that were seen to be unusable before their items could be named.
        difference: Why the counts may differ from the published ones, as far as the reader can tell.
    """

    items: Sequence[RawItem]
    notes: Notes = field(default_factory=Notes)
    failures: tuple[CrackError, ...] = ()
    difference: str = "the copy is incomplete, reduced or changed"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One family of raw data sets that `prepare` understands.

    Args:
        reader: Takes the raw folder and the options.
        title: One line for lists.
        where_to_get: Home page and what to fetch there.
        tree: The folders and files expected below the raw folder.
        licence: As found; the user must check.
        published: Images per split as published ("all" where there are no splits); empty where nothing is.
        fractions: Shares of val and test that are cut where none are published.
        options: Names of the `PrepareOptions` that apply.
        needs_source: False for a layout that makes its images itself.
    """

    reader: Callable[[Path, PrepareOptions], RawDataset]
    title: str
    where_to_get: str
    tree: str
    licence: str
    published: Mapping[str, int] = field(default_factory=dict)
    fractions: tuple[float, float] = (0.0, 0.0)
    options: frozenset[str] = frozenset()
    needs_source: bool = True


def thread_count(jobs: int | None) -> int:
    """Return how many threads to use: as many as asked for, or one per processor, 8 at most.

    Raises:
        UsageError: Fewer than one is asked for.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs} jobs", remedy="use 1 or more")
    return jobs or min(8, processors())


def _line(text: str, names: list[str]) -> str:
    if not names:
        return text
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{text}: {', '.join(names[:_SHOWN])}{more}"
