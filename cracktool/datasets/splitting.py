"""Give every image its split: published splits stay but for leaks, missing ones are cut without parting a photo.

Works on names and positions only; opens no picture.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain, count, pairwise

from cracktool.datasets.raw import Notes, PrepareOptions, RawItem
from cracktool.linking import lowest_linked
from cracktool.manifest import SPLITS, Split, origin


def shares_to_cut(published: Set[Split], options: PrepareOptions, defaults: tuple[float, float]) -> tuple[float, float]:
    """Return the shares of val and test to cut, in that order.

    What is published stays unless the user gives shares; only val is cut from a published train where it is missing.

    Args:
        published: The splits that the raw data set comes with.
        options: What the user asks for.
        defaults: The layout's own shares of val and test.
    """
    if options.split:
        return options.split[1:]
    return 0.0 if "val" in published else defaults[0], 0.0 if published else defaults[1]


def tell_photos_apart(items: Sequence[RawItem]) -> list[RawItem]:
    """Return the items, those with a group of their own that share its name with another published split put apart.

    ``train/001`` and ``test/001`` are two photos unless their pixels say otherwise; ``train/001-1`` and ``test/001-2``
    are crops of one.
    """
    splits: defaultdict[str, set[str | None]] = defaultdict(set)
    for item in items:
        splits[item.group].add(item.split)
    whole = (item.split and item.name == item.group.replace("/", "_") for item in items)
    return [
        replace(item, group=f"{item.split}/{item.group}") if alone and len(splits[item.group]) > 1 else item
        for item, alone in zip(items, whole, strict=True)
    ]


def without_published(items: Sequence[RawItem], notes: Notes) -> list[RawItem]:
    """Return the items without their published splits, and note that they had some."""
    if any(item.split for item in items):
        notes.add("the published split is cut anew, as asked: scores do not compare with published ones")
    return [replace(item, split=None) for item in items]


def assign_splits(
    items: Sequence[RawItem],
    crack_fractions: Sequence[float],
    photos: Sequence[int],
    shares: tuple[float, float],
    seed: int,
    notes: Notes,
) -> list[Split]:
    """Return the split of each item: val and test get their share of each origin, and of much and little crack.

    Args:
        items: The images; those without a split, and those of a published train, may move.
        crack_fractions: Share of crack pixels of each, 0 to 1; -1 where it is not known.
        photos: From `photo_numbers`: images of one number stay on one side.
        shares: Of val and test, from `shares_to_cut`.
        seed: The same seed gives the same split; adding images moves few of the others.
        notes: Told when a split stays empty although a share was asked for.
    """
    splits: list[Split] = [item.split or "train" for item in items]
    blocks: defaultdict[int, list[int]] = defaultdict(list)
    for position, split in enumerate(splits):
        if split == "train":
            blocks[photos[position]].append(position)
    strata: defaultdict[tuple[str, str, int], list[list[int]]] = defaultdict(list)
    for block in sorted(blocks.values(), key=lambda block: _draw(seed, items[block[0]].group)):
        strata[_stratum(items, crack_fractions, block)].append(block)
    sizes = {key: sum(map(len, strata[key])) for key in sorted(strata)}
    wanted: list[tuple[Split, float]] = [("test", shares[1]), ("val", shares[0])]
    for split, share in wanted:
        chosen = _cut(strata, sizes, share)
        if share and not chosen:
            notes.add(f"no {split} split was cut: there are too few photos to part them")
        for position in chain.from_iterable(chosen):
            splits[position] = split
    return splits


def photo_numbers(items: Sequence[RawItem], copies: Sequence[tuple[int, int]]) -> list[int]:
    """Return a number for each item, equal for those of one photo: crops of a group, copies, and copies of those.

    Args:
        items: The images.
        copies: Pairs of positions that show the same.
    """
    return [int(n) for n in lowest_linked(len(items), [*copies, *equal_pairs([item.group for item in items])])]


def leaks(items: Sequence[RawItem], photos: Sequence[int]) -> list[bool]:
    """Return for each item whether a split that must stay honest shows its photo too.

    Test is more worth than val, and val more than train: an image of train leaks where another crop or a copy of its
    photo is in val or test, one of val where it is in test, and none of test does.

    Args:
        items: The images with their published splits; without one, an image counts as of train.
        photos: From `photo_numbers`.
    """
    worth = [SPLITS.index(item.split or "train") for item in items]
    best: defaultdict[int, int] = defaultdict(int)
    for photo, value in zip(photos, worth, strict=True):
        best[photo] = max(best[photo], value)
    return [value < best[photo] for photo, value in zip(photos, worth, strict=True)]


def note_left_out(items: Sequence[RawItem], leaking: Sequence[bool], notes: Notes) -> None:
    """Note how many images of which split were left out because they leak, and which."""
    found = [item for item, leaks in zip(items, leaking, strict=True) if leaks]
    counts = Counter(item.split or "train" for item in found)
    if found:
        parts = " and ".join(f"{counts[split]} of {split}" for split in ("train", "val") if counts[split])
        why = "whose photos val or test shows too are left out, so that scores stay honest (--keep-leaks keeps them)"
        notes.add(f"{parts} {why}", *map(_title, found))


def note_leaks(items: Sequence[RawItem], notes: Notes) -> None:
    """Note the photos of which crops lie in several published splits."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.split:
            splits[item.group].add(item.split)
    names = sorted(photo for photo, found in splits.items() if len(found) > 1)
    if names:
        shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        notes.add(f"{len(names)} photo names occur in several published splits, so scores may flatter: {shown}")


def note_copies(
    items: Sequence[RawItem], same_bytes: Sequence[tuple[int, int]], similar: Sequence[tuple[int, int]], notes: Notes
) -> None:
    """Note copies: pairs of equal files, and pairs of similar images unless they are crops of one photo."""
    for kind, pairs in (("same file twice", same_bytes), ("near-duplicates", similar)):
        for first, second in pairs:
            one, other = items[first], items[second]
            if one.split != other.split:
                notes.add(f"{kind} in different published splits", f"{_title(one)} = {_title(other)}")
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


def _draw(seed: int, group: str) -> str:
    # A hash instead of a shuffle: the order of the other photos does not change when one is added.
    return hashlib.sha1(f"{seed} {group}".encode(), usedforsecurity=False).hexdigest()


def _stratum(items: Sequence[RawItem], fractions: Sequence[float], block: Sequence[int]) -> tuple[str, str, int]:
    """Return what an image and its likes have in common: origin, label, and crack to a factor of two."""
    first = items[block[0]]
    known = [fractions[position] for position in block if fractions[position] >= 0]
    if not known:
        return origin(first.source), first.label, 0
    mean = sum(known) / len(known)
    return origin(first.source), "", round(math.log2(mean)) if mean else -99


def _cut(
    strata: Mapping[tuple[str, str, int], list[list[int]]], sizes: Mapping[tuple[str, str, int], int], share: float
) -> list[list[int]]:
    """Take out of each stratum its share of images in whole blocks; what rounding leaves goes to the next stratum."""
    taken: list[list[int]] = []
    due = 0.0
    for key, size in sizes.items():
        due += share * size
        chosen, strata[key][:] = _choose(strata[key], round(due) - sum(map(len, taken)))
        taken += chosen
    for key in sizes:  # where whole blocks did not fit their own stratum
        chosen, strata[key][:] = _choose(strata[key], round(due) - sum(map(len, taken)))
        taken += chosen
    return taken


def _choose(blocks: Sequence[list[int]], target: int) -> tuple[list[list[int]], list[list[int]]]:
    chosen: list[list[int]] = []
    rest: list[list[int]] = []
    missing = target
    for block in blocks:
        fits = len(block) <= missing
        (chosen if fits else rest).append(block)
        missing -= len(block) if fits else 0
    return chosen, rest
