"""What `checking` finds in data sets: the words that the command line and the contact sheet share.

Holds results; opens no picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cracktool.manifest import Entry

KINDS: Mapping[str, str] = {
    "damaged": "the photo or its mask is missing, empty or cannot be read",
    "size": "the mask is not of its photo's size",
    "leak": "what train shows is in val or test too, or what val shows in test: scores flatter",
    "inverted": "more than half of the photo is crack: black and white may be exchanged",
    "shifted": "the photo is darker beside the mask than below it, always to the same side",
    "misfit": "nothing below or near the mask is darker than its ground: it may belong to another photo",
    "soft": "the mask has greys, not only 0 and 255",
    "copy": "one split has the same scene twice, under the names of different photos",
}
"""The kinds of findings, worst first, and what each means."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that a person should look at.

    Args:
        kind: One of `KINDS`.
        image: Path of the image, or of the data set where all of it is meant.
        other: Path of the image that it repeats; empty where there is none.
        detail: What was seen, in words and figures.
    """

    kind: str
    image: str
    other: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """One image of the data sets.

    Args:
        folder: That of its data set.
        entry: Its line of the table.
        thumbnail: JPEG of 240 x 180 px at most with the mask outlined; empty where none was asked for, or none can be.
    """

    folder: Path
    entry: Entry
    thumbnail: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> Path:
        """Where the image lies."""
        return self.folder / self.entry.image

    @property
    def name(self) -> str:
        """The same as text: how findings name it."""
        return self.path.as_posix()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What `check` found.

    Args:
        folders: The data sets.
        images: All their images, in the order of the tables.
        findings: The worst kind first.
    """

    folders: tuple[Path, ...]
    images: tuple[CheckedImage, ...]
    findings: tuple[Finding, ...]
