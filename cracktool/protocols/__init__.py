"""Published evaluators, a file each."""

from __future__ import annotations

from typing import Any

from cracktool.protocols.protocol import Protocol

__all__ = ["PROTOCOLS", "Protocol"]

PROTOCOLS: dict[str, Protocol[Any]] = {}
