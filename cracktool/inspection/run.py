"""Photos with their masks -> a record each, in threads beside whatever makes the masks.

Finds the pairs, measures, remembers; tables and pages are made from the records afterwards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from cracktool import __version__
from cracktool.errors import CrackError, InputError, OutputError
from cracktool.files import is_by_product, is_file, is_folder
from cracktool.georeference import ENDINGS, GeoReference, read_georeference
from cracktool.images import EXTENSIONS, Image, Mask
from cracktool.inference.folder import Skipped
from cracktool.inference.inputs import Task, Unusable, plan_tasks
from cracktool.inference.journal import file_state
from cracktool.inference.writing import Done
from cracktool.inspection.pixels import opened
from cracktool.inspection.positions import Position, read_position
from cracktool.inspection.records import PhotoRecord, make_record, read_record, write_record
from cracktool.inspection.schema import SCHEMA, Row
from cracktool.inspection.settings import InspectionOptions, find_scale
from cracktool.measuring import Measurements, Scale, measure
from cracktool.threads import in_order

T = TypeVar("T")

RECORD_ENDING = ".cracks.json"
_WAITING = 16  # results; a photo's pixels are read when its turn comes


@dataclass(frozen=True)
class Pair:
    """A mask and the photo it is of.

    Args:
        mask: Its file.
        photo: File of the photo; None to measure the mask alone.
        place: Where results go, without ending.
        name: The same relative to the folder of all results, with ``/``: ids of cracks start with it.
        page: Which picture of the photo's file, where that has several.
    """

    mask: Path
    photo: Path | None
    place: Path
    name: str
    page: int = 0

    @property
    def record(self) -> Path:
        """File of its measurements."""
        return self.place.with_name(self.place.name + RECORD_ENDING)


@dataclass(frozen=True)
class Inspected:
    """A measured photo: its record's file and row, and whether an earlier run had made it."""

    path: Path
    row: Row
    reused: bool


def pair_of(done: Done | Skipped, out: Path) -> Pair:
    """Return the pair of a photo and the mask that `crack infer` wrote for it below `out`."""
    mask = done.outputs[0]
    place = mask.with_suffix("")
    return Pair(mask, done.path, place, place.relative_to(out).as_posix(), done.page)


def find_pairs(inputs: Sequence[str | Path], masks: Path, out: Path) -> list[Pair | InputError]:
    """Pair photos with the masks of a folder by sub-folder and stem; without inputs list the masks alone.

    Args:
        inputs: Photos as `crack infer` takes them.
        masks: Folder of the masks.
        out: Folder of the results.

    Returns:
        A pair or what is wrong with it, in the order of the inputs; then the masks whose photo is missing.

    Raises:
        InputError: There is nothing at all.
    """
    if not is_folder(masks):
        raise InputError("no such folder of masks", path=masks)
    there = [each for each in plan_tasks([masks], out, probs=False, overlay=False) if not _is_by_product(each, masks)]
    tasks = plan_tasks(inputs, out, probs=False, overlay=False) if inputs else there
    found: list[Pair | InputError] = []
    taken: set[Path] = set()
    for task in tasks:
        if isinstance(task, Unusable):
            found.append(task.error)
            continue
        place = task.mask.with_suffix("")
        name = place.relative_to(out).as_posix()
        if not inputs:
            found.append(Pair(task.photo, None, place, name))
            continue
        mask = _mask_of(masks, name)
        if mask is None:
            found.append(
                InputError(f"there is no mask for it in {masks}", path=task.photo, remedy=f"such as {name}.png")
            )
        else:
            taken.add(mask)
            found.append(Pair(mask, task.photo, place, name, task.page))
    if inputs:
        found += [
            InputError("there is no photo for this mask", path=each.photo, remedy="or measure the masks without photos")
            for each in there
            if isinstance(each, Task) and each.photo not in taken
        ]
    return found


def _is_by_product(task: Task | Unusable, masks: Path) -> bool:
    return isinstance(task, Task) and is_by_product(task.photo.relative_to(masks))


def _mask_of(masks: Path, name: str) -> Path | None:
    places = (masks / (name + ending) for ending in sorted(EXTENSIONS, key=lambda each: each != ".png"))
    return next((place for place in places if is_file(place)), None)


def inspect_photos(
    items: Iterable[T],
    pair: Callable[[T], Pair | CrackError | None],
    options: InspectionOptions,
    *,
    overwrite: bool = False,
    workers: int = 1,
) -> Iterator[tuple[T, Inspected | CrackError | None]]:
    """Measure photos one after another while the next ones are still on their way.

    A record that these options made of these very files is kept. What fails does not stop the others.

    Args:
        items: Results of an inference, or pairs; drawn as the work goes on.
        pair: Says what is to be measured for an item: an error is passed on, None stands for nothing.
        options: How it is measured.
        overwrite: Measure again, and replace files that hold something else.
        workers: Photos measured at the same time.

    Yields:
        Each item with what came of it, in the order of the items.

    Example:
        >>> for result, done in inspect_photos(infer_folder(predictor, ["photos"], out), pairs, InspectionOptions()):
        ...     print(done)
    """

    def measured(work: tuple[T, Pair | CrackError | None]) -> tuple[T, Inspected | CrackError | None]:
        return work[0], _try(work[1], options, overwrite)

    yield from in_order(measured, ((item, pair(item)) for item in items), threads=workers, waiting=_WAITING)


def _try(pair: Pair | CrackError | None, options: InspectionOptions, overwrite: bool) -> Inspected | CrackError | None:
    if pair is None or isinstance(pair, CrackError):
        return pair
    try:
        return inspect_photo(pair, options, overwrite=overwrite)
    except CrackError as error:
        return error.about(pair.photo or pair.mask)


def inspect_photo(pair: Pair, options: InspectionOptions, *, overwrite: bool = False) -> Inspected:
    """Measure one photo and write its record, unless these options made it of these very files already.

    Raises:
        InputError: Photo or mask cannot be read, or do not belong together.
        UsageError: Its scales contradict each other.
        OutputError: The record cannot be written, or something else has its name.
    """
    made_from = {
        "photo": _state(pair.photo),
        "mask": _state(pair.mask),
        "page": pair.page,
        "options": options.settings(),
        "version": f"{__version__}, {SCHEMA}",
    }
    made_from = json.loads(json.dumps(made_from))  # as it comes back from a record, where there are no tuples
    if not overwrite and os.path.lexists(pair.record):
        try:
            earlier = read_record(pair.record)
        except InputError as error:
            raise OutputError(f"cannot be replaced: {error.reason}", path=pair.record, remedy=error.remedy) from error
        if earlier.made_from == made_from:
            return Inspected(pair.record, earlier.row, reused=True)
    record = _measured(pair, options, made_from)
    write_record(pair.record, record)
    return Inspected(pair.record, record.row, reused=False)


def _measured(pair: Pair, options: InspectionOptions, made_from: dict[str, Any]) -> PhotoRecord:
    with opened(pair.photo, pair.mask, pair.page) as (image, mask, shown):
        shape_hw = mask.shape if image is None else image.shape[:2]
        scale, notes = find_scale(options, pair.photo, image, pair.mask, shape_hw)
        factor = _enlargement(image, mask)
        image, scale = _enlarged(image, scale, factor)
        found = measure(
            image,
            mask,
            scale=scale,
            severity=options.severity,
            bridge=options.bridge,
            min_length=options.min_length,
            spacing=options.spacing,
            reference=options.reference,
            shown=shown,
        )
    return make_record(
        found,
        photo=str(pair.photo or pair.mask),
        mask=str(pair.mask),
        place=pair.name,
        made_from=made_from,
        position=read_position(pair.photo) if pair.photo is not None else Position(),
        geo=_georeference(pair.photo or pair.mask, factor),
        enlarged=factor,
        notes=[*notes, *_remarks(found, pair, options)],
    )


def _georeference(path: Path, factor: int) -> GeoReference | None:
    """Return how the pixels of a file's mask, `factor` times as fine as its own, lie on a map."""
    if path.suffix.lower() not in ENDINGS:
        return None
    try:
        geo = read_georeference(path)
    except CrackError:  # no rasterio, or no GeoTIFF: then the photo has no place on a map
        return None
    return geo.enlarged(factor) if geo else None


def _remarks(found: Measurements, pair: Pair, options: InspectionOptions) -> list[str]:
    """Return what an inspector should know before trusting the rows."""
    remarks = []
    if pair.photo is None:
        remarks.append("no photo: widths are those of the mask")
    if options.severity and found.scale is None:
        remarks.append("no scale: no severity")
    if found.scale and found.area_mm2 is None:
        remarks.append("the horizon is in the photo: no area, no density, and nothing in mm beyond it")
    if found.percent > 50:
        remarks.append("most of the mask is crack: is it inverted, or one blob?")
    if found.specks > 1000:
        remarks.append(f"{found.specks} specks are not listed")
    return remarks


def _enlargement(image: Image | None, mask: Mask) -> int:
    """Return how many times as fine as its photo the mask of a network that enlarges is; 1 for any other."""
    if image is None:
        return 1
    factor = max(1, mask.shape[0] // image.shape[0])
    fits = mask.shape == (factor * image.shape[0], factor * image.shape[1])
    return factor if fits else 1  # `measure` says what does not fit


def _enlarged(image: Image | None, scale: Scale | None, factor: int) -> tuple[Image | None, Scale | None]:
    """Return a photo as large as its mask, and its scale for the mask's pixels."""
    if image is None or factor == 1:
        return image, scale
    enlarged = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    if scale is not None:
        shrink = np.array([[1 / factor, 0, (1 / factor - 1) / 2], [0, 1 / factor, (1 / factor - 1) / 2], [0, 0, 1]])
        scale = Scale(
            matrix=scale.matrix @ shrink,
            source=scale.source,
            relative_std=scale.relative_std,
            variants=tuple(each @ shrink for each in scale.variants),
        )
    return np.asarray(enlarged, np.uint8), scale


def _state(path: Path | None) -> list[object] | None:
    return None if path is None else [str(path), *file_state(path)]
