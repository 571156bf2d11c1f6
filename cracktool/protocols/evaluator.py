"""What a named protocol is: one published evaluator, image by image, then over the set.

Knows no evaluator itself; they lie beside it, a file each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cracktool.images import Mask
from cracktool.metrics import Levels

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Evaluator(Generic[Record]):
    """A published evaluator, repeated with its own thresholds, comparisons, epsilons and rules for empty masks.

    Args:
        name: As on the command line.
        source: Paper and code.
        text: What it does and where it misleads, one paragraph.
        scores: Name of each score, as the evaluator calls it -> its meaning in one line.
        measure: Reads one image: levels uint8 (H, W), where level n is the probability n / 255 and a binary mask has 0
            and 255, and a truth bool (H, W). Pure, so that images can be read in threads; what it returns is small,
            whatever the size of the image.
        summarise: The scores of a set of at least one image: what `measure` returned for each, and the name of the
            collection that each is of, in the same order. A score is NaN where the evaluator divides 0 by 0.

    Example:
        >>> records = [protocol.measure(levels, truth) for levels, truth in pairs]
        >>> protocol.summarise(records, ["cfd"] * len(records))
        {'Dice': 0.71, 'Dice std': 0.09, 'Jaccard': 0.56, 'Jaccard std': 0.1}
    """

    name: str
    source: str
    text: str
    scores: Mapping[str, str]
    measure: Callable[[Levels, Mask], Record]
    summarise: Callable[[Sequence[Record], Sequence[str]], dict[str, float]]
