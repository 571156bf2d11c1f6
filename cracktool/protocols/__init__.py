"""Named protocols: the evaluators behind published tables, each repeated as its authors run it.

Arrays in, numbers out, as in `cracktool.metrics`, which has the scores without anybody's conventions. Opens no file.

Example:
    >>> protocol = PROTOCOLS["khanhha"]
    >>> records = [protocol.measure(levels, truth) for levels, truth in pairs]
    >>> protocol.summarise(records, ["cfd"] * len(records))["Jaccard"]
    0.5612
"""

from __future__ import annotations

from typing import Any

from cracktool.protocols.cracksam import CRACKSAM
from cracktool.protocols.csbsr import CSBSR
from cracktool.protocols.deepsegmentor import DEEPSEGMENTOR
from cracktool.protocols.evaluator import Evaluator
from cracktool.protocols.fphbn import FPHBN
from cracktool.protocols.khanhha import KHANHHA
from cracktool.protocols.mmseg import MMSEG
from cracktool.protocols.omnicrack import OMNICRACK
from cracktool.protocols.opencrack import OPENCRACK
from cracktool.protocols.tut import TUT

PROTOCOLS: dict[str, Evaluator[Any]] = {
    protocol.name: protocol
    for protocol in (KHANHHA, MMSEG, CSBSR, TUT, DEEPSEGMENTOR, FPHBN, CRACKSAM, OMNICRACK, OPENCRACK)
}
"""Name of a protocol -> the evaluator."""

__all__ = ["PROTOCOLS", "Evaluator"]
