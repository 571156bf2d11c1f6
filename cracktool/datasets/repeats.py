"""Find what data sets show twice, and tell leaks from mere copies.

Compares what was kept of the images; opens again only those that may overlap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cracktool.datasets.duplicates import Fingerprint, near_duplicates
from cracktool.datasets.findings import CheckedImage, Finding
from cracktool.datasets.overlaps import Grey, Marks, candidates, mirror, overlap, shrunk
from cracktool.datasets.splitting import equal_pairs
from cracktool.images import read_image
from cracktool.manifest import SPLITS


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is kept of an image to find it again.

    Args:
        image: Its place and its line of the table.
        digest: Of the file.
        look: For near-duplicates.
        marks: For crops and other overlaps.
        mirrored: Those of the mirror image, for mirrored copies.
    """

    image: CheckedImage
    digest: str
    look: Fingerprint
    marks: Marks
    mirrored: Marks


def find_repeats(seen: Sequence[Seen], pool: Executor) -> list[Finding]:
    """Return a finding for each pair of images that show the same, wholly or in part.

    Crops of one photo in one split are what the table says of them, and no finding.

    Args:
        seen: The images of all data sets.
        pool: Compares images.

    Raises:
        InputError: An image was read before and cannot be read again.
    """
    similar = near_duplicates([each.look for each in seen])
    how = {pair: f"near-duplicate{', turned or mirrored' if turned else ''}" for pair, turned in similar.items()}
    how |= dict.fromkeys(equal_pairs([each.digest for each in seen]), "same file")
    how = {pair: text for pair, text in how.items() if text == "same file" or not _expected(seen, pair)}
    how |= _overlaps(seen, [pair for pair in candidates([each.marks for each in seen]) if pair not in how], pool)
    how |= _overlaps(seen, [pair for pair in _mirrored_pairs(seen) if pair not in how], pool, mirrored=True)
    by_name = [pair for pair in _leaks_by_name(seen) if pair not in how and pair[::-1] not in how]
    how |= dict.fromkeys(by_name, "of one photo by name")
    return [_finding(seen[first].image, seen[second].image, text) for (first, second), text in how.items()]


def _expected(seen: Sequence[Seen], pair: tuple[int, int]) -> bool:
    one, other = (seen[position].image for position in pair)
    return (one.folder, one.entry.group, one.entry.split) == (other.folder, other.entry.group, other.entry.split)


def _mirrored_pairs(seen: Sequence[Seen]) -> list[tuple[int, int]]:
    """Return the pairs of positions, smaller first, of which one may show part of the other's mirror image."""
    count = len(seen)
    pairs = candidates([*(each.marks for each in seen), *(each.mirrored for each in seen)])
    across = ((first, second - count) for first, second in pairs if first < count <= second)
    return sorted({(min(pair), max(pair)) for pair in across if pair[0] != pair[1]})


def _overlaps(
    seen: Sequence[Seen], pairs: Sequence[tuple[int, int]], pool: Executor, *, mirrored: bool = False
) -> dict[tuple[int, int], str]:
    doubtful = [pair for pair in pairs if not _expected(seen, pair)]

    @lru_cache(maxsize=64)  # the pairs are sorted by their first image
    def read(position: int) -> Grey:
        return shrunk(read_image(seen[position].image.path))

    def compare(pair: tuple[int, int]) -> float:
        first, second = pair
        if not mirrored:
            return overlap(seen[first].marks, seen[second].marks, lambda: (read(first), read(second)))
        return overlap(seen[first].marks, seen[second].mirrored, lambda: (read(first), mirror(read(second))))

    shares = pool.map(compare, doubtful)
    text = "of the scene, mirrored" if mirrored else "of the scene"
    return {pair: f"{share:.0%} {text}" for pair, share in zip(doubtful, shares, strict=True) if share}


def _leaks_by_name(seen: Sequence[Seen]) -> Iterator[tuple[int, int]]:
    """Yield each image of a photo that another split has crops of too, with the first of these in the best split."""
    groups: defaultdict[tuple[Path, str], list[int]] = defaultdict(list)
    for position, each in enumerate(seen):
        groups[each.image.folder, each.image.entry.group].append(position)
    for members in groups.values():
        worth = {position: SPLITS.index(seen[position].image.entry.split) for position in members}
        best = max(members, key=lambda position: worth[position])
        yield from ((position, best) for position in members if worth[position] < worth[best])


def _finding(one: CheckedImage, other: CheckedImage, text: str) -> Finding:
    """Return a leak where the splits differ; the image that scores need less comes first, for it is the one to go."""
    one, other = sorted((one, other), key=lambda image: (SPLITS.index(image.entry.split), image.name))
    if one.entry.split == other.entry.split:
        return Finding(kind="copy", image=one.name, other=other.name, detail=f"{text}, {one.entry.split}")
    detail = f"{text}, {one.entry.split} and {other.entry.split}"
    return Finding(kind="leak", image=one.name, other=other.name, detail=detail)
