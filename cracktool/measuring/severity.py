"""Severity: widths in mm to the classes of a standard, kept as TOML files that users copy and edit.

Never a pavement condition index: that needs all distresses of a sample unit and deduct curves, not cracks alone.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from cracktool.errors import UsageError, check_name, did_you_mean

_STATISTICS = ("mean", "median", "p95", "max")
_KEYS = {"name", "version", "standard", "note", "statistic", "classes"}


@dataclass(frozen=True, kw_only=True)
class SeverityClass:
    """One class of widths.

    Args:
        label: What a table shows.
        limit: Upper bound in mm; infinite for the last class.
        inclusive: Whether the bound itself belongs to this class.
    """

    label: str
    limit: float
    inclusive: bool

    def holds(self, width: float) -> bool:
        """Whether a width in mm is not above this class."""
        return width <= self.limit if self.inclusive else width < self.limit


@dataclass(frozen=True, kw_only=True)
class Severity:
    """The class of a crack.

    Args:
        label: Class of the width as measured.
        possible: All classes that the width's 95 % interval reaches into, from low to high.
    """

    label: str
    possible: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SeverityProfile:
    """Classes of crack widths by a standard or an owner's rules.

    Args:
        name: Short name, for tables.
        version: Of this file: changes with every edit of its limits.
        standard: Title and edition that the limits were taken from.
        statistic: Which width of a crack counts: mean, median, p95 or max.
        classes: From narrow to wide; the last one has no limit.
        note: What a user must know before using it.
    """

    name: str
    version: str
    standard: str
    statistic: str
    classes: tuple[SeverityClass, ...]
    note: str = ""

    def classify(self, width_mm: float, low_mm: float | None = None, high_mm: float | None = None) -> Severity:
        """Return the class of a width, and the classes its interval reaches into.

        Args:
            width_mm: Width in mm.
            low_mm: Lower end of its interval; the width itself when not given.
            high_mm: Upper end of its interval; the width itself when not given.

        Example:
            >>> read_severity("aci224r").classify(0.2).label
            'up to 0.30 mm'
        """
        low, here, high = (
            next(number for number, each in enumerate(self.classes) if each.holds(value))
            for value in (width_mm if low_mm is None else low_mm, width_mm, width_mm if high_mm is None else high_mm)
        )
        labels = tuple(each.label for each in self.classes[min(low, here) : max(high, here) + 1])
        return Severity(label=self.classes[here].label, possible=labels)


@cache
def list_severities() -> tuple[str, ...]:
    """Return the names of the profiles that come with the package."""
    folder = resources.files("cracktool.measuring") / "severities"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def read_severity(source: str | Path) -> SeverityProfile:
    """Read a profile by its name in the package, or a TOML file of a user's own.

    Raises:
        UsageError: There is no such profile, or the file breaks the rules; the reason says which.
    """
    if str(source) in list_severities():
        text = (resources.files("cracktool.measuring") / "severities" / f"{source}.toml").read_text(encoding="utf-8")
        return _parse(text, str(source))
    path = Path(source)
    if path.suffix != ".toml":
        check_name("severity profile", str(source), list_severities(), also="a .toml file")
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", path=path) from error
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8 text", path=path) from error


def _parse(text: str, path: str) -> SeverityProfile:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the file is not valid TOML: {error}", path=path) from error
    for key in table:
        if key not in _KEYS:
            raise UsageError(f"the key {key!r} means nothing", path=path, remedy=did_you_mean(key, _KEYS))
    for key in sorted(_KEYS - {"note", "classes"}):
        if not isinstance(table.get(key), str) or not table[key]:
            raise UsageError(f"the key {key!r} is missing or not a text", path=path)
    if table["statistic"] not in _STATISTICS:
        raise UsageError(f"statistic is {table['statistic']!r}", path=path, remedy=f"one of {', '.join(_STATISTICS)}")
    return SeverityProfile(
        name=table["name"],
        version=table["version"],
        standard=table["standard"],
        statistic=table["statistic"],
        classes=_parse_classes(table.get("classes"), path),
        note=str(table.get("note", "")),
    )


def _parse_classes(rows: Any, path: str) -> tuple[SeverityClass, ...]:
    if not isinstance(rows, list) or len(rows) < 2 or not all(isinstance(row, dict) for row in rows):
        raise UsageError("two [[classes]] at least are expected", path=path)
    classes = []
    for number, row in enumerate(rows, 1):
        bounds = [key for key in ("below", "up_to") if key in row]
        last = number == len(rows)
        if not isinstance(row.get("label"), str) or set(row) - {"label", "below", "up_to"}:
            raise UsageError(f"class {number} takes a label and below or up_to, nothing else", path=path)
        if len(bounds) != (0 if last else 1):
            raise UsageError(f"class {number} needs {'no limit' if last else 'one of below and up_to'}", path=path)
        limit = row[bounds[0]] if bounds else math.inf
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
            raise UsageError(f"the limit of class {number} is {limit!r}, expected mm above 0", path=path)
        classes.append(SeverityClass(label=row["label"], limit=float(limit), inclusive="below" not in bounds))
    limits = [each.limit for each in classes]
    if limits != sorted(set(limits)):
        raise UsageError(f"the limits {limits[:-1]} do not grow from class to class", path=path)
    return tuple(classes)
