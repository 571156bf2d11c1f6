"""Sliding-window inference: tiles of many photos -> batches -> finished rows.

Reads and writes no files; memory is that of the photo's own pixels and one tile's height of probabilities. Of a photo
that gives its pixels by rows, only a few tiles' height of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from cracktool.errors import CrackError, UsageError
from cracktool.images import Image, Mask
from cracktool.inference.batch_sizes import remember_batch, remembered_batch
from cracktool.inference.blend import RowBand
from cracktool.inference.decode import TIMEOUT, decoded
from cracktool.inference.events import Band, Broken, Event, Finished, Leaving, Opened, arrived
from cracktool.inference.memory import Array, Memory
from cracktool.inference.network import Network
from cracktool.inference.strips import Photo, Strip, strips
from cracktool.metrics import threshold_level
from cracktool.tiles import Axis, check_overlap, plan_axis, plan_even

T = TypeVar("T")
V = TypeVar("V")
Levels = npt.NDArray[np.uint8]

_MOST_TILES = 64
_MOST_ENTRIES = 64  # of a batch, with tiles that are passed over, which hold pixels too
_ROW_PIXELS = 10 * 2**20  # of a row of tiles, which is held at once: those of wider photos are less tall
_FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))


class Predictor:
    """A network that takes photos of any size, one or many.

    Args:
        network: Runs the tiles.
        tile: Side of the tiles in px; None for what suits the photo: as few and as equal tiles as can be, up to
            `Card.largest_tile`, which run the fewest pixels twice.
        overlap: Least share of a tile that it shares with the next, 0 to 0.9; where the tiles suit the photo, of the
            tile of the weights.
        batch_size: Tiles of one batch; None for what suits the device.
        threshold: Crack from this probability on, between 0 and 1; None for that of the weights.
        tta: Average over the four flips of each tile: four times the work, slightly better masks.
        ahead: Photos decoded ahead by threads.
        timeout: Seconds that a photo is waited for once it is its turn.

    Attributes:
        warnings: What the user should know of the work so far, one sentence each.

    Tiles of one and the same colour, and those where a photo shows nothing (nodata), are without crack and not run.

    Raises:
        UsageError: A value is out of range.

    Example:
        >>> predictor = Predictor(load_network())
        >>> predictor.mask(read_image("examples/photos/pavement.jpg")).shape
        (1200, 1600)
    """

    def __init__(
        self,
        network: Network,
        *,
        tile: int | None = None,
        overlap: float = 0.25,
        batch_size: int | None = None,
        threshold: float | None = None,
        tta: bool = False,
        ahead: int = 2,
        timeout: float = TIMEOUT,
    ) -> None:
        if not 0 < timeout < float("inf"):
            raise UsageError(f"timeout is {timeout:g}, but must be seconds above 0", remedy=f"{TIMEOUT:g} is usual")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch size is {batch_size}, but must be 1 or more", remedy="leave it out")
        self.network = network
        self._memory = network.memory
        self.tile = network.card.largest_tile if tile is None else tile
        self._halo = round(check_overlap(overlap) * network.card.tile) if tile is None else None
        self.overlap = overlap
        self.tta = tta
        self.threshold = network.card.threshold if threshold is None else threshold
        self.level = threshold_level(self.threshold)
        self.plan(1, 1)
        self._batch_size = batch_size
        self._most = batch_size or remembered_batch(self._batch_key) or _MOST_TILES
        self.ahead = ahead
        self.timeout = timeout
        self.warnings: list[str] = []

    def settings(self) -> dict[str, object]:
        """Return everything besides the weights that decides the pixels of a result."""
        return {
            "tile": self.tile, "overlap": self.overlap, "halo": self._halo, "threshold": self.threshold,
            "tta": self.tta, "dtype": self.network.dtype,
        }  # fmt: skip

    def levels(self, image: Image) -> Levels:
        """Return quantised probabilities of an RGB photo uint8 (H, W, 3): uint8 (H, W), level l is p from l / 256 on.

        A network that enlarges gives its result at its own scale, (scale H, scale W); so do `probs` and `mask`.

        Raises:
            InputError: The array is not such a photo.
        """
        return self._whole(image, self._memory.quantise, np.uint8)

    def probs(self, image: Image) -> npt.NDArray[np.float32]:
        """Return probabilities of an RGB photo uint8 (H, W, 3), float32 (H, W), without quantisation."""
        return self._whole(image, self._memory.copy, np.float32)

    def mask(self, image: Image) -> Mask:
        """Return where the crack is in an RGB photo uint8 (H, W, 3), bool (H, W)."""
        mask: Mask = self.levels(image) >= self.level
        return mask

    def stream(self, items: Iterable[T], read: Callable[[T], Photo]) -> Iterator[tuple[T, Levels | CrackError]]:
        """Run many photos; tiles of several share a batch.

        Args:
            items: What stands for a photo, such as its path; drawn only as the work goes on.
            read: Makes pixels of an item, or what gives them by rows, in a thread. A `CrackError` that it raises
                becomes the item's result.

        Yields:
            Each item with its levels or its error, in the order of `items`.

        Example:
            >>> for path, levels in predictor.stream(sorted(Path("photos").glob("*.jpg")), read_image):
            ...     print(path, levels if isinstance(levels, CrackError) else levels.shape)
        """
        return _wholes(self.bands(items, read), np.uint8)

    def bands(self, items: Iterable[T], read: Callable[[T], Photo]) -> Iterator[Event[T]]:
        """Run many photos as `stream` does, but give rows as soon as they are final and hold no whole result.

        Yields:
            For each item in order: `Opened`, its `Band` from top to bottom, `Finished`; or `Broken` alone. Of a photo
            that is read by rows, `Broken` may also come in place of the rest.
        """
        return self._events(items, read, self._memory.quantise)

    def _whole(self, image: Image, finish: Callable[[Array], Array], dtype: type[Any]) -> npt.NDArray[Any]:
        ((_, whole),) = _wholes(self._events([image], _unchanged, finish), dtype)
        if isinstance(whole, CrackError):
            raise whole
        return whole

    def _events(
        self, items: Iterable[T], read: Callable[[T], Photo], finish: Callable[[Array], Array]
    ) -> Iterator[Event[T]]:
        entries = self._cut(decoded(items, read, self.ahead, self.timeout))
        events = (event for batch in self._batches(entries) for event in self._blended(batch, finish))
        return arrived(events, self._memory.lag)

    def plan(self, height: int, width: int) -> tuple[Axis, Axis]:
        """Return where the tiles of a photo lie, down and across."""
        card = self.network.card
        if self._halo is None:
            plan = partial(plan_axis, tile=self.tile, overlap=self.overlap, stride=card.stride)
            return plan(height), plan(width)
        tallest = max(card.tile, min(self.tile, _ROW_PIXELS // width))
        plan = partial(plan_even, halo=self._halo, stride=card.stride)
        return plan(height, most=tallest), plan(width, most=self.tile)

    def _cut(self, photos: Iterable[tuple[T, Photo | CrackError]]) -> Iterator[_Tile[T] | Broken[T]]:
        for item, given in photos:
            if isinstance(given, CrackError):
                yield Broken(item, given)
                continue
            height, width = given.shape[:2] if isinstance(given, np.ndarray) else (given.height, given.width)
            photo = _Photo(item, given, *self.plan(height, width), self.network, self.timeout)
            try:
                yield from photo.tiles()
            except CrackError as error:
                yield Broken(item, error)

    def _batches(self, entries: Iterable[_Tile[T] | Broken[T]]) -> Iterator[list[_Tile[T] | Broken[T]]]:
        # Broken photos and empty tiles travel in the batch, so that results keep their order without an early flush.
        batch: list[_Tile[T] | Broken[T]] = []
        shape, tiles = (0, 0), 0
        for entry in entries:
            run = entry.shape if isinstance(entry, _Tile) and not entry.is_empty else None
            if run and tiles and (run != shape or tiles >= self._limit(shape)):
                yield batch
                batch, tiles = [], 0
            batch.append(entry)
            if run:
                shape, tiles = run, tiles + 1
            elif not tiles or len(batch) > _MOST_ENTRIES:  # no tile waits for others, or too much is held
                yield batch
                batch, tiles = [], 0
        yield batch

    def _blended(
        self, batch: Sequence[_Tile[T] | Broken[T]], finish: Callable[[Array], Array]
    ) -> Iterator[Event[T] | Leaving[T]]:
        probs = self._probabilities([entry for entry in batch if isinstance(entry, _Tile) and not entry.is_empty])
        for entry in batch:
            if isinstance(entry, Broken):
                yield entry
            else:
                yield from entry.blend(None if entry.is_empty else next(probs), finish)

    def _probabilities(self, tiles: Sequence[_Tile[Any]]) -> Iterator[Array]:
        done = 0
        while done < len(tiles):
            part = tiles[done : done + self._limit(tiles[0].shape)]
            probs = self._attempt(part)
            if probs is None:
                self._halve(part)
            else:
                yield from probs
                done += len(part)

    def _attempt(self, tiles: Sequence[_Tile[Any]]) -> Array | None:
        try:
            return self._views(self._stage(tiles))
        except self._memory.exhausted:
            return None  # the next try is made outside, where the failed one's tensors are free

    def _views(self, pixels: Array) -> Array:
        if not self.tta:
            return self.network(pixels)
        flip = self._memory.flip
        views = [flip(self.network(flip(pixels, axes)), axes) for axes in _FLIPS]
        return sum(views) / len(views)

    def _stage(self, tiles: Sequence[_Tile[Any]]) -> Array:
        if tiles[0].strip.on_device is not None:
            return self._memory.stack([tile.on_device for tile in tiles])
        return self._memory.upload((len(tiles), *tiles[0].shape, 3), partial(_copy_pixels, tiles))

    def _halve(self, tiles: Sequence[_Tile[Any]]) -> None:
        height, width = tiles[0].shape
        if len(tiles) == 1:
            reason = f"the GPU has too little memory for one tile of {height} x {width} px"
            raise UsageError(reason, remedy=f"try --tile {max(height, width) // 2}, or --device cpu")
        self._most = len(tiles) // 2
        self.warnings.append(f"out of GPU memory with batches of {len(tiles)}: going on with {self._most}")
        if self._batch_size is None:
            remember_batch(self._batch_key, self._most)
        self._memory.release()

    @property
    def _batch_key(self) -> str:
        network = self.network
        return f"{network.card.model}, tiles of {self.tile} px, {network.dtype} on {self._memory.name}"

    def _limit(self, shape: tuple[int, int]) -> int:
        if self._batch_size is not None:
            return self._most
        return max(1, min(self._batch_pixels // (shape[0] * shape[1]), self._most))

    @cached_property
    def _batch_pixels(self) -> int:
        return self._memory.batch_pixels()


class _Photo(Generic[T]):
    """One photo on its way through the engine."""

    def __init__(self, item: T, photo: Photo, rows: Axis, columns: Axis, network: Network, timeout: float) -> None:
        self.item, self.photo = item, photo
        self.rows, self.columns = rows, columns
        self.out_rows, self.out_columns = (axis.enlarged(network.card.scale) for axis in (rows, columns))
        self.scale = network.card.scale
        self.memory: Memory = network.memory
        self.timeout = timeout

    @cached_property
    def band(self) -> RowBand:
        return RowBand(self.out_rows, self.out_columns, self.memory)

    def tiles(self) -> Iterator[_Tile[T]]:
        """Give the tiles row by row; `InputError` where rows of the photo cannot be read.

        A photo of one tile is never passed over as empty: there is nothing to be gained.
        """
        single = len(self.rows.starts) == len(self.columns.starts) == 1
        for row, strip in enumerate(strips(self.photo, self.rows, self.columns, self.memory, self.timeout)):
            for column, left in enumerate(self.columns.starts):
                yield _Tile(self, row, column, strip, not single and strip.is_empty(left, self.columns.tile))


@dataclass(frozen=True)
class _Tile(Generic[T]):
    photo: _Photo[T]
    row: int
    column: int
    strip: Strip
    is_empty: bool

    @property
    def shape(self) -> tuple[int, int]:
        return self.photo.rows.tile, self.photo.columns.tile

    @property
    def pixels(self) -> Image:
        return self.strip.tile(self.photo.columns.starts[self.column], self.photo.columns.tile)

    @property
    def on_device(self) -> Array:
        left = self.photo.columns.starts[self.column]
        assert self.strip.on_device is not None
        return self.strip.on_device[:, left : left + self.photo.columns.tile]

    def blend(self, probs: Array | None, finish: Callable[[Array], Array]) -> Iterator[Event[T] | Leaving[T]]:
        """Add what the network made of the tile, None where it was not run; give the rows that this makes final."""
        photo = self.photo
        if self.row == self.column == 0:
            yield Opened(photo.item, photo.photo, (photo.out_rows.length, photo.out_columns.length))
        if probs is not None:
            photo.band.add(self.row, self.column, probs)
        if self.column == len(photo.columns.starts) - 1:
            levels, total = photo.band.finish(self.row, lambda rows: (finish(rows), rows.sum()))
            wait, total = photo.memory.download(levels), photo.memory.download(total)
            yield Leaving(photo.item, photo.out_rows.starts[self.row], wait, total, self._valid(len(levels)))
            if self.row == len(photo.rows.starts) - 1:
                yield Finished(photo.item)

    def _valid(self, rows: int) -> Mask | None:
        """Return where the photo shows something in the rows that are final now, at the scale of the result."""
        valid, scale = self.strip.valid, self.photo.scale
        if valid is None:
            return None
        return valid.repeat(scale, axis=0).repeat(scale, axis=1)[:rows] if scale > 1 else valid[:rows]


def _wholes(events: Iterable[Event[T]], dtype: type[Any]) -> Iterator[tuple[T, npt.NDArray[Any] | CrackError]]:
    """Put the rows of each photo together."""
    whole = np.empty((0, 0), dtype)
    for event in events:
        if isinstance(event, Broken):
            yield event.item, event.error
        elif isinstance(event, Opened):
            whole = np.empty(event.shape, dtype)
        elif isinstance(event, Band):
            whole[event.top : event.top + len(event.levels)] = event.levels
        else:
            yield event.item, whole


def _copy_pixels(tiles: Sequence[_Tile[Any]], targets: Image) -> None:
    for tile, target in zip(tiles, targets, strict=True):
        target[:] = tile.pixels


def _unchanged(value: V) -> V:
    return value
