"""Give every image its split: published splits stay, missing ones are cut without parting a photo or its copies.

Works on names and positions only; opens no picture.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, count, pairwise

from cracktool.datasets.duplicates import connected
from cracktool.datasets.raw import Notes, PrepareOptions, RawItem
from cracktool.errors import UsageError
from cracktool.manifest import Split


def fractions(
    published: set[Split], options: PrepareOptions, defaults: tuple[float, float], name: str
) -> tuple[float, float]:
    """Return the shares of val and test to cut, in that order.

    A published split is never cut anew: val may be taken from a published train, test from nothing published.

    Args:
        published: The splits that the raw data set comes with.
        options: What the user asks for.
        defaults: The layout's own shares of val and test.
        name: Of the data set, for the message.

    Raises:
        UsageError: A share is asked for that the published split leaves no room for, or both make more than 1.
    """
    val, test = options.val, options.test
    if val and "val" in published:
        raise UsageError(f"{name} has a published val split", remedy="leave out val")
    if test and published:
        raise UsageError(f"{name} has a published split, test is not cut anew", remedy="leave out test")
    val = (0.0 if "val" in published else defaults[0]) if val is None else val
    test = (0.0 if published else defaults[1]) if test is None else test
    if val + test > 1:
        raise UsageError(f"val {val} and test {test} make more than 1", remedy="give both of them")
    return val, test


def assign_splits(
    items: Sequence[RawItem], copies: Sequence[tuple[int, int]], shares: tuple[float, float], seed: int, notes: Notes
) -> list[Split]:
    """Return the split of each item.

    Args:
        items: The images; those without a split, and those of a published train, may move.
        copies: Pairs of positions that show the same and must stay on one side.
        shares: Of val and test, from `fractions`.
        seed: The same seed gives the same split; adding images moves few of the others.
        notes: Told when a split stays empty although a share was asked for.
    """
    splits: list[Split] = [item.split or "train" for item in items]
    pool = [position for position, split in enumerate(splits) if split == "train"]
    blocks = _blocks(items, pool, copies)
    blocks.sort(key=lambda block: _draw(seed, items[block[0]].group))
    wanted: list[tuple[Split, float]] = [("test", shares[1]), ("val", shares[0])]
    for split, share in wanted:
        chosen, blocks = _choose(blocks, round(share * len(pool)))
        if share and not chosen:
            notes.add(f"no {split} split was cut: there are too few photos to part them")
        for position in chain.from_iterable(chosen):
            splits[position] = split
    return splits


def note_leaks(items: Sequence[RawItem], notes: Notes) -> None:
    """Note the photos of which crops lie in several published splits."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.split:
            splits[item.group].add(item.split)
    leaks = sorted(group for group, found in splits.items() if len(found) > 1)
    if leaks:
        shown = ", ".join(leaks[:12]) + (f" and {len(leaks) - 12} more" if len(leaks) > 12 else "")
        notes.add(f"{len(leaks)} photo names occur in several published splits, so scores may flatter: {shown}")


def note_copies(
    items: Sequence[RawItem], same_bytes: Sequence[tuple[int, int]], similar: Sequence[tuple[int, int]], notes: Notes
) -> None:
    """Note copies: pairs of equal files, and pairs of similar images unless they are crops of one photo."""
    for kind, pairs in (("same file twice", same_bytes), ("near-duplicates", similar)):
        for first, second in pairs:
            one, other = items[first], items[second]
            if one.split != other.split:
                notes.add(f"{kind} in different published splits, kept there", f"{_title(one)} = {_title(other)}")
            elif pairs is same_bytes or one.group != other.group:
                notes.add(f"{kind}, kept in one split", f"{_title(one)} = {_title(other)}")


def equal_pairs(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of positions that link all equal digests.

    Example:
        >>> equal_pairs(["a", "b", "a", "a"])
        [(0, 2), (2, 3)]
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    for position, digest in enumerate(digests):
        places[digest].append(position)
    return [pair for found in places.values() for pair in pairwise(found)]


def unique_names(items: Sequence[RawItem]) -> list[str]:
    """Return a file name for each item: its own, or with its split or label in front where several share it.

    Upper and lower case count as equal, since some file systems do not tell them apart.
    """
    often = Counter(item.name.lower() for item in items)
    taken = {name for name, times in often.items() if times == 1}
    names = []
    for item in items:
        name = item.name
        if often[name.lower()] > 1:
            base = f"{item.split or item.label}_{name}"
            candidates = chain([base], (f"{base}_{number}" for number in count(2)))
            name = next(candidate for candidate in candidates if candidate.lower() not in taken)
            taken.add(name.lower())
        names.append(name)
    return names


def _title(item: RawItem) -> str:
    return f"{item.split}/{item.name}" if item.split else item.name


def _blocks(items: Sequence[RawItem], pool: Sequence[int], copies: Sequence[tuple[int, int]]) -> list[list[int]]:
    place = {position: index for index, position in enumerate(pool)}
    links = [(place[first], place[second]) for first, second in copies if first in place and second in place]
    links += equal_pairs([items[position].group for position in pool])
    blocks: defaultdict[int, list[int]] = defaultdict(list)
    for index, root in enumerate(connected(len(pool), links)):
        blocks[root].append(pool[index])
    return list(blocks.values())


def _draw(seed: int, group: str) -> str:
    # A hash instead of a shuffle: the order of the other photos does not change when one is added.
    return hashlib.sha1(f"{seed} {group}".encode(), usedforsecurity=False).hexdigest()


def _choose(blocks: Sequence[list[int]], target: int) -> tuple[list[list[int]], list[list[int]]]:
    chosen: list[list[int]] = []
    rest: list[list[int]] = []
    missing = target
    for block in blocks:
        fits = len(block) <= missing
        (chosen if fits else rest).append(block)
        missing -= len(block) if fits else 0
    return chosen, rest
