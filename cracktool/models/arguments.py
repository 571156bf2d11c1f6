"""Checks of arguments that several networks have. Knows nothing about any architecture."""

from __future__ import annotations

from cracktool.errors import UsageError


def check_count(name: str, value: int) -> None:
    """Refuse anything but a whole number from 1.

    Raises:
        UsageError: It is none; the message has its name.
    """
    if not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} is {value!r}, expected a whole number from 1")


def check_share(name: str, value: float) -> None:
    """Refuse anything but a share from 0 to below 1, as of what is dropped: of all, nothing would be left to learn.

    Raises:
        UsageError: It is none; the message has its name.
    """
    if not 0 <= value < 1:
        raise UsageError(f"{name} is {value!r}, expected a share from 0 to below 1")
