"""Errors: the one family of exceptions that the package raises on purpose, one clear line each.

Knows nothing about any other module. The command line turns each of them into one line and an exit code::

    CrackError              exit code 1: some inputs failed, the others were done
    ├── InputError          a photo, mask, table or folder cannot be used
    ├── OutputError         a result cannot be written, or would overwrite something
    ├── WeightsError        a checkpoint is missing, damaged or of another network
    └── UsageError          exit code 2: an option, a name or a setting is wrong
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class CrackError(Exception):
    """Something a user can understand and mend.

    Args:
        reason: What was wrong and what was expected, without a final full stop.
        path: The file or folder it is about, put in front of the reason.
        remedy: The next value or command to try, put behind the reason.
    """

    exit_code = 1

    def __init__(self, reason: str, *, path: str | Path | None = None, remedy: str = "") -> None:
        super().__init__(reason, path, remedy)
        self.reason = reason
        self.path = path
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{' '.join(str(self.path).splitlines())}: " if self.path is not None else ""  # keeps double spaces
        advice = f" ({self.remedy})" if self.remedy else ""
        return where + " ".join(f"{self.reason}{advice}".split())

    def about(self, path: str | Path) -> CrackError:
        """Return the error with the file that it is about, where it names none; the deeper code knows no files."""
        return self if self.path is not None else type(self)(self.reason, path=path, remedy=self.remedy)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by the default pickling; loader workers send errors between processes.
        return _rebuild, (type(self), self.reason, self.path, self.remedy)


class InputError(CrackError):
    """A photo, mask, table or folder cannot be used."""


class OutputError(CrackError):
    """A result cannot be written, or would overwrite something."""


class WeightsError(CrackError):
    """A checkpoint is missing, damaged or belongs to another network."""


class UsageError(CrackError):
    """An option, a name or a setting is wrong."""

    exit_code = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean a, b?`` with the names nearest to `word`, or an empty string when none is near.

    Example:
        >>> did_you_mean("unet_resnet81", ["unet_resnet18", "pspnet_resnet18"])
        'did you mean unet_resnet18?'
    """
    near = get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"did you mean {', '.join(near)}?" if near else ""


def check_name(what: str, name: str, known: Iterable[str], *, also: str = "") -> None:
    """Refuse a name that is none of the known ones.

    Args:
        what: What it is the name of, such as ``loss``.
        name: As the user wrote it.
        known: All there are.
        also: What else may be used, for the remedy.

    Raises:
        UsageError: It is not known; the remedy gives the nearest names, or else all.

    Example:
        >>> check_name("format", "onnx", ["onnx", "openvino"])
    """
    names = list(known)
    if name not in names:
        every = ", ".join([*([also] if also else []), *names])
        raise UsageError(f"no {what} {name!r}", remedy=did_you_mean(name, names) or f"use {every}")


def choose_names(what: str, names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return names that a user chose, each once; ``all`` stands for every known one.

    Raises:
        UsageError: One is not known.

    Example:
        >>> choose_names("fruit", ["pear", "all"], ["apple", "pear"])
        ('pear', 'apple')
    """
    every = list(known)
    chosen = tuple(dict.fromkeys(each for name in names for each in (every if name == "all" else [name])))
    for name in chosen:
        check_name(what, name, every, also="all")
    return chosen


def _rebuild(kind: type[CrackError], reason: str, path: str | Path | None, remedy: str) -> CrackError:
    return kind(reason, path=path, remedy=remedy)
