"""The dataset table: one CSV row per image. The only thing the rest of the package knows of a data set.

Reads and writes ``manifest.csv``; never opens a picture.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from cracktool.errors import InputError, OutputError, UsageError
from cracktool.files import replace_file

FILE_NAME = "manifest.csv"

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Label = Literal["cracked", "uncracked", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image of a data set.

    Args:
        image: Path of the image relative to the manifest's folder, with forward slashes.
        mask: Path of the mask likewise; empty where only a label is known.
        split: train, val or test.
        group: Images of one group (crops of one photo) are never separated by a split.
        source: The raw file that the image came from, for tracing, behind the collection that it is part of, where that
            is known; the first folder is the image's origin.
        height: Image height in px.
        width: Image width in px.
        crack_fraction: Share of crack pixels, 0 to 1; -1 where there is no mask.
        label: cracked, uncracked or unknown.
        sha1: SHA-1 of the image file.
    """

    image: str
    mask: str
    split: Split
    group: str
    source: str
    height: int
    width: int
    crack_fraction: float
    label: Label
    sha1: str

    @property
    def has_truth(self) -> bool:
        """Whether its pixels are known: by a mask, or by the label uncracked."""
        return bool(self.mask) or self.label == "uncracked"

    @property
    def origin(self) -> str:
        """The collection or situation that it belongs to; empty where its source tells none."""
        return origin(self.source)


def origin(source: str) -> str:
    """Return the first folder of an image's source, which names the collection or situation that it belongs to.

    Example:
        >>> [origin(source) for source in ("moss/IMG_1.jpg", "IMG_1.jpg")]
        ['moss', '']
    """
    folder, slash, _ = source.partition("/")
    return folder if slash else ""


COLUMNS = tuple(field.name for field in fields(Entry))


@dataclass(frozen=True)
class Manifest:
    """The rows of one data set and the folder that their paths start from."""

    folder: Path
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """The name of the data set: that of its folder."""
        return self.folder.resolve().name

    def split(self, name: str) -> Manifest:
        """Return the part of the table in one split; UsageError for a name that is not a split."""
        if name not in SPLITS:
            raise UsageError(f"no split {name!r}", remedy=f"use one of {', '.join(SPLITS)}")
        return Manifest(self.folder, tuple(entry for entry in self.entries if entry.split == name))

    def image_path(self, entry: Entry) -> Path:
        """Return where the image of an entry lies."""
        return self.folder / entry.image

    def mask_path(self, entry: Entry) -> Path | None:
        """Return where the mask of an entry lies, or None where it has none."""
        return self.folder / entry.mask if entry.mask else None


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Write the table to `path` in one step: a reader sees the old file or the new one, never a part.

    Raises:
        OutputError: A file name is not Unicode, or the table cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        writer.writerow({**asdict(entry), "crack_fraction": f"{entry.crack_fraction:.6f}"})
    try:
        data = text.getvalue().encode()
    except UnicodeEncodeError as error:
        name = text.getvalue()[: error.end].splitlines()[-1]
        raise OutputError(f"a file name is not Unicode: {name!r}", path=path, remedy="rename that file") from error
    replace_file(path, data)


def read_manifest(path: str | Path) -> Manifest:
    """Read a table, given itself or the folder it lies in.

    Raises:
        InputError: There is no such table, a row of it cannot be understood, or an image has two rows.
    """
    path = Path(path)
    table = path / FILE_NAME if path.is_dir() else path
    if not table.is_file():
        raise InputError(
            "no dataset table here", path=table, remedy="make one with: crack prepare LAYOUT SOURCE -o DIR"
        )
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark in front
            reader = csv.DictReader(file)
            _check_columns(table, reader.fieldnames or ())
            entries = tuple(_parse(table, reader.line_num, row) for row in reader)
    except UnicodeDecodeError as error:
        raise InputError("not a UTF-8 text table", path=table) from error
    except csv.Error as error:
        raise InputError(f"not a CSV table: {error}", path=table) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=table) from error
    rows = Counter(entry.image for entry in entries)
    if twice := next((image for image, count in rows.items() if count > 1), None):
        raise InputError(f"{twice} has {rows[twice]} rows", path=table, remedy="leave one")
    return Manifest(table.parent, entries)


def _check_columns(table: Path, found: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise InputError(f"columns missing: {', '.join(missing)}", path=table, remedy="prepare the data set again")


def _parse(table: Path, number: int, row: dict[str | None, str | None]) -> Entry:
    try:
        cells = {key: value for key, value in row.items() if key is not None and value is not None}
        if None in row or len(cells) != len(row):  # csv's way to say that a row is longer or shorter than the header
            raise ValueError("it has not as many values as there are columns")
        return _entry(cells)
    except ValueError as error:
        raise InputError(f"line {number} cannot be understood: {error}", path=table) from error


def _entry(row: dict[str, str]) -> Entry:
    if row["split"] not in SPLITS or row["label"] not in get_args(Label):
        raise ValueError(f"split {row['split']!r}, label {row['label']!r}")
    fraction = float(row["crack_fraction"])
    if not (fraction == -1 or 0 <= fraction <= 1):
        raise ValueError(f"crack_fraction {row['crack_fraction']!r}")
    return Entry(
        image=row["image"],
        mask=row["mask"],
        split=row["split"],
        group=row["group"],
        source=row["source"],
        height=int(row["height"]),
        width=int(row["width"]),
        crack_fraction=fraction,
        label=row["label"],  # type: ignore[arg-type]  # checked above
        sha1=row["sha1"],
    )


def short_names(manifests: Sequence[Manifest]) -> list[str]:
    """Return the names of the data sets' folders, with as much of the paths before them as tells them apart.

    Example:
        >>> short_names([Manifest(Path("/a/walls"), ()), Manifest(Path("/b/walls"), ())])
        ['a_walls', 'b_walls']
    """
    parts = [manifest.folder.resolve().parts[1:] for manifest in manifests]
    apart = len(set(parts))  # fewer where a folder is there twice
    ends = (["_".join(each[-depth:]) for each in parts] for depth in range(1, 1 + max(map(len, parts), default=0)))
    numbered = [f"{number}_{'_'.join(each)}" for number, each in enumerate(parts, 1)]  # /a_b/c beside /a/b/c
    return next((names for names in ends if len(set(names)) == apart), numbered)
