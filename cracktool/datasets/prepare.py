"""`crack prepare`: one raw data set in, `images/`, `masks/` and `manifest.csv` out.

Knows no layout by name; writes only below the output folder and never deletes or overwrites a whole file there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from cracktool.datasets import LAYOUTS
from cracktool.datasets.duplicates import near_duplicates
from cracktool.datasets.raw import Layout, Notes, PrepareOptions, RawDataset, RawItem, thread_count
from cracktool.datasets.splitting import (
    assign_splits,
    equal_pairs,
    leaks,
    note_copies,
    note_leaks,
    note_left_out,
    photo_numbers,
    shares_to_cut,
    tell_photos_apart,
    unique_names,
    without_published,
)
from cracktool.datasets.storing import Stored, Task, store
from cracktool.datasets.tiling import note_sparse, tiled
from cracktool.errors import CrackError, InputError, OutputError, UsageError, check_name
from cracktool.files import leftovers
from cracktool.manifest import FILE_NAME, SPLITS, Entry, Split, read_manifest, write_manifest
from cracktool.threads import in_order

Progress = Callable[[int, int], None]

_OPTIONS = (
    "masks", "mask_threshold", "invert", "label", "line_width", "count", "size", "background", "material", "pattern",
    "scene",
)  # fmt: skip
_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"})


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What `prepare` did.

    Args:
        manifest: The table that it wrote, or would have written in a dry run.
        counts: Images of train, val and test in it.
        published: Images per split as published ("all" where there are no splits); empty where nothing is, and where
            the user chose other tiles.
        left_out: Images left out for too little crack, by the data set's own rule or the user's.
        leaks: Images of a published train or val that are left out of the table, because val or test shows their photo.
        warnings: One line each.
        failures: One error for each raw file that could not be used; the others were done.
        seconds: Wall-clock time.
    """

    manifest: Path
    counts: Mapping[str, int]
    published: Mapping[str, int]
    left_out: int
    leaks: int
    warnings: tuple[str, ...]
    failures: tuple[CrackError, ...]
    seconds: float


def prepare(
    layout: str,
    source: Path | None,
    out: Path,
    *,
    options: PrepareOptions | None = None,
    jobs: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Turn a raw data set into the one form that the rest of the package reads.

    Degraded, the photos of ``images/`` are blurred and small, the masks 4 times their sides, and ``kernels/NAME.npy``
    holds what blurred each; such a set is scored with networks that enlarge.

    A published split stays, but for leaks: an image of train whose photo val or test shows too, and one of val whose
    photo test shows, is stored and left out of the table, so that another run may keep it.

    A second run changes nothing; a run that was interrupted, even killed, goes on where it stopped, and what it leaves
    is the same in every byte.

    Args:
        layout: A name in `cracktool.datasets.LAYOUTS`.
        source: The raw folder; None for ``raw/LAYOUT``.
        out: Where ``images/``, ``masks/`` and ``manifest.csv`` go.
        options: Splits, the reading of masks, tiles, and whether photos are degraded.
        jobs: Threads; None for one per processor, 8 at most. Processes would be no faster: what takes time here lets
            other threads run.
        dry_run: Read everything, write nothing.
        progress: Called in this thread with the numbers of images done and of all.

    Raises:
        UsageError: An unknown layout, or an option that it does not know.
        InputError: The raw folder is missing or holds something else, or none of its images can be used.
        OutputError: `out` holds another data set, or cannot be written.

    Example:
        >>> prepare("crack500", Path("raw/crack500"), Path("data/crack500")).counts  # doctest: +SKIP
        {'train': 1896, 'val': 348, 'test': 1124}
    """
    begin = time.perf_counter()
    options = options or PrepareOptions()
    known = _find_layout(layout, options)
    folder = _find_source(layout, known, source, out)
    raw = _read_raw(known, folder, options)
    _refuse_own_photos(raw.items, folder, out)
    tasks = _tasks(tiled(tell_photos_apart(raw.items), options, raw.notes), options)
    places = {task.name: place for place, task in enumerate(tasks)}
    there = _names_there(out, places.keys(), degraded=options.degrade)
    half_written = [] if dry_run else leftovers(out)
    failures = list(raw.failures)
    results = _run(tasks, there, None if dry_run else out, thread_count(jobs), progress)
    done = _collect(results, failures, raw.notes, _bright_remedy(known, options))
    done.sort(key=lambda result: places[result.task.name])
    kept = [result for result in done if result.kept]
    if not kept:
        why = f"the first problem: {failures[0]}" if failures else f"all {len(done)} hold too little crack"
        raise InputError("no image could be used", path=folder if known.needs_source else None, remedy=why)
    entries = _entries(kept, options, known.fractions, raw.notes)
    if options.min_crack_px:
        note_sparse([result.task.item for result in done if not result.kept], entries, raw.notes)
    as_published = not options.tile and not options.min_crack_px
    if as_published:
        _note_difference(known, raw, kept, bool(failures))
    table = out / FILE_NAME
    if not dry_run and not (table.exists() and _own_table(table) == tuple(entries)):
        write_manifest(table, entries)
    for path in half_written:
        path.unlink(missing_ok=True)
    return Prepared(
        manifest=table,
        counts={split: sum(entry.split == split for entry in entries) for split in SPLITS},
        published=known.published if as_published else {},
        left_out=len(done) - len(kept),
        leaks=len(kept) - len(entries),
        warnings=raw.notes.lines(),
        failures=tuple(failures),
        seconds=time.perf_counter() - begin,
    )


def _find_layout(name: str, options: PrepareOptions) -> Layout:
    check_name("data set layout", name, LAYOUTS)
    defaults = PrepareOptions()
    for option in _OPTIONS:
        if option not in LAYOUTS[name].options and getattr(options, option) != getattr(defaults, option):
            raise UsageError(f"{option} means nothing to the layout {name}", remedy="leave it out")
    return LAYOUTS[name]


def _find_source(name: str, layout: Layout, source: Path | None, out: Path) -> Path:
    folder = source or Path("raw") / name
    if not layout.needs_source:
        if source is not None:
            raise UsageError(f"the layout {name} makes its images itself", remedy="leave out the raw folder")
        return folder
    if folder.is_file() and folder.suffix.lower() in _ARCHIVES:
        raise InputError("an archive, not a folder", path=folder, remedy="unpack it and give the folder")
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise InputError(what, path=folder, remedy=f"get it from {layout.where_to_get}; expected in it: {layout.tree}")
    if out.resolve() == folder.resolve():
        raise UsageError("the raw and the output folder are the same", path=out, remedy="choose another output folder")
    return folder


def _read_raw(layout: Layout, source: Path, options: PrepareOptions) -> RawDataset:
    """Run the reader; where it finds nothing, tell of archives that lie there instead, or of the tree expected."""
    try:
        return layout.reader(source, options)
    except InputError as error:
        if error.path != source:
            raise
        packed = sorted(path.name for path in source.iterdir() if path.suffix.lower() in _ARCHIVES)
        remedy = error.remedy or f"expected: {layout.tree}"
        if packed:
            remedy = f"unpack {', '.join(packed[:5])} there first; {remedy}"
        raise InputError(error.reason, path=source, remedy=remedy) from error


def _refuse_own_photos(items: Sequence[RawItem], source: Path, out: Path) -> None:
    """Raise UsageError where an output folder within the raw one was read too, by a layout that looks everywhere."""
    home = out.resolve()
    if home.is_relative_to(source.resolve()) and any(
        item.file and item.file.resolve().is_relative_to(home) for item in items
    ):
        raise UsageError(
            "lies in the raw folder, and its photos are taken for raw ones", path=out, remedy="move it out of there"
        )


def _tasks(items: Sequence[RawItem], options: PrepareOptions) -> list[Task]:
    blur_seed = options.seed if options.degrade else None
    return [
        Task(item=item, name=name, blur_seed=blur_seed) for item, name in zip(items, unique_names(items), strict=True)
    ]


def _names_there(out: Path, names: Set[str], *, degraded: bool) -> set[str]:
    """Return those of `names` that are stored; OutputError where pictures or a table of another data set are there."""
    if out.exists() and not out.is_dir():
        raise OutputError("is a file, expected a folder", path=out)
    parts = ("images", "masks", "kernels")
    present = [path for part in parts for path in sorted((out / part).glob("[!.]*"))]
    if (out / FILE_NAME).exists():
        present += [out / entry.image for entry in _own_table(out / FILE_NAME)]
    ours = parts if degraded else parts[:2]
    foreign = [path for path in present if path.stem not in names or path.parent.name not in ours]
    if degraded:
        foreign += [path for path in present if path.suffix.lower() == ".jpg"]  # a sharp photo
    if foreign:
        raise OutputError(
            f"holds another data set: {len(foreign)} files that this run does not make, first {foreign[0].name}",
            path=out,
            remedy="choose another output folder; nothing was changed",
        )
    return {path.stem for path in present}


def _own_table(table: Path) -> tuple[Entry, ...]:
    try:
        return read_manifest(table).entries
    except InputError as error:
        raise OutputError(f"is no table of this program: {error.reason}", path=table) from error


def _run(
    tasks: Sequence[Task], there: Set[str], out: Path | None, threads: int, progress: Progress | None
) -> Iterator[Stored | InputError]:
    """Yield the results, of stored images (`there`) first: what does not fit them is met before anything is written.

    Few are under way at a time, so memory stays bounded.
    """
    done = 0
    for stored in (True, False):
        stage = (task for task in tasks if (task.name in there) is stored)
        # A thread does the neighbours of one source, so a photo is decoded once for its crops.
        groups = (list(group) for _, group in groupby(stage, key=lambda task: task.item.source))
        for results in in_order(partial(_store_group, out=out), groups, threads=threads, waiting=2 * threads):
            yield from results
            done += len(results)
            if progress:
                progress(done, len(tasks))


def _store_group(group: Sequence[Task], out: Path | None) -> list[Stored | InputError]:
    results: list[Stored | InputError] = []
    for task in group:
        try:
            results.append(store(task, out))
        except InputError as error:
            results.append(error)
    return results


def _bright_remedy(layout: Layout, options: PrepareOptions) -> str:
    """Return what to do about masks that are mostly crack, by what the layout lets the user decide."""
    if "invert" in layout.options:
        return "leave out --invert" if options.invert else "are they inverted? --invert exchanges crack and background"
    return "choose with --label what is crack" if "label" in layout.options else "look at them"


def _collect(
    results: Iterator[Stored | InputError], failures: list[CrackError], notes: Notes, bright_remedy: str
) -> list[Stored]:
    done = []
    seen = {str(error) for error in failures}
    for result in results:
        if isinstance(result, Stored):
            done.append(result)
            if result.crack_fraction > 0.5:
                notes.add(f"masks more than half crack ({bright_remedy})", result.task.name)
        elif str(result) not in seen:  # the 16 crops of one bad photo fail alike
            seen.add(str(result))
            failures.append(result)
    return done


def _entries(
    stored: Sequence[Stored], options: PrepareOptions, defaults: tuple[float, float], notes: Notes
) -> list[Entry]:
    """Return the table: the images that stay, each with its split."""
    items = [result.task.item for result in stored]
    if options.split:
        items = without_published(items, notes)
    photos = photo_numbers(items, _copies(items, stored, notes))
    if options.keep_leaks:
        note_leaks(items, notes)
    else:
        leaking = leaks(items, photos)
        note_left_out(items, leaking, notes)
        stay = [position for position, leaves in enumerate(leaking) if not leaves]
        items, stored = [items[position] for position in stay], [stored[position] for position in stay]
        photos = [photos[position] for position in stay]
    shares = shares_to_cut({item.split for item in items if item.split}, options, defaults)
    fractions = [result.crack_fraction for result in stored]
    splits = assign_splits(items, fractions, photos, shares, options.seed, notes)
    return [_entry(result, split) for result, split in zip(stored, splits, strict=True)]


def _copies(items: Sequence[RawItem], stored: Sequence[Stored], notes: Notes) -> list[tuple[int, int]]:
    """Return the pairs of positions that show the same, and note them."""
    digests = [result.sha1 for result in stored]
    same = equal_pairs(digests)
    alike = near_duplicates([result.look for result in stored if result.look])
    similar = [(first, second) for first, second in alike if digests[first] != digests[second]]
    note_copies(items, same, similar, notes)
    return [*same, *similar]


def _entry(result: Stored, split: Split) -> Entry:
    return Entry(
        image=result.image,
        mask=result.mask,
        split=split,
        group=result.task.item.group,
        source=result.task.item.source,
        height=result.shape_hw[0],
        width=result.shape_hw[1],
        crack_fraction=round(result.crack_fraction, 6),  # as in the table, so that both compare equal
        label=result.label,
        sha1=result.sha1,
    )


def _note_difference(layout: Layout, raw: RawDataset, kept: Sequence[Stored], failed: bool) -> None:
    found: Counter[str] = Counter(all=len(kept))
    found.update(result.task.item.split for result in kept if result.task.item.split)
    parts = [
        f"{split} {found[split]} of {number}" for split, number in layout.published.items() if found[split] != number
    ]
    if parts:
        reason = raw.difference + ("; some raw files failed" if failed else "")
        raw.notes.add(f"counts differ from the published ones: {', '.join(parts)} ({reason})")
