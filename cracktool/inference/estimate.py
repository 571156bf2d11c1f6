"""What a run will cost before it is begun: tiles, memory, time, from one batch that is run on trial.

Opens no photo: sizes come from the plan.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from cracktool.inference.engine import Predictor
from cracktool.inference.folder import Planned
from cracktool.inference.rasters import is_raster

_DECODED_TWICE = 2  # OpenCV holds a photo twice for a moment while it decodes
_FLOAT, _RGB = 4, 3  # bytes


@dataclass(frozen=True)
class Estimate:
    """What a run will cost.

    Args:
        photos: Photos, and frames of videos.
        pixels: Pixels of all of them.
        tiles: Tiles that the network will run at most; empty ones are passed over.
        seconds: Time on this machine, as busy as it is now, for the network alone.
        bytes: Peak of the resident memory of the process; on a GPU, that of the GPU comes on top.
    """

    photos: int
    pixels: int
    tiles: int
    seconds: float
    bytes: int

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        return (
            f"{self.photos:,} photos, {self.pixels / 1e6:,.1f} megapixels, {self.tiles:,} tiles: "
            f"about {clock} and {self.bytes / 1e9:.1f} GB of memory"
        )


def estimate(predictor: Predictor, planned: Iterable[Planned]) -> Estimate:
    """Estimate what photos will cost.

    Example:
        >>> plan = [result for result in infer_folder(predictor, ["photos"], out, FolderOptions(dry_run=True))]
        >>> print(estimate(predictor, [each for each in plan if isinstance(each, Planned)]))
        40 photos, 480.0 megapixels, 2,560 tiles: about 9 min 12 s and 0.9 GB of memory
    """
    photos = pixels = tiles = run_pixels = 0
    held = 0
    for plan in planned:
        rows, columns = predictor.plan(plan.height, plan.width)
        count = len(rows.starts) * len(columns.starts) * plan.frames
        photos, pixels, tiles = photos + plan.frames, pixels + plan.height * plan.width * plan.frames, tiles + count
        run_pixels += count * rows.tile * columns.tile
        held = max(held, _held(predictor, plan, rows.tile, columns.padded))
    seconds = run_pixels * _seconds_per_pixel(predictor) if tiles else 0.0
    return Estimate(photos, pixels, tiles, seconds, _peak() + held)


def _held(predictor: Predictor, plan: Planned, tile: int, width: int) -> int:
    scale = predictor.network.card.scale
    bands = tile * width * (3 * _RGB + 2 * _FLOAT * scale**2)  # strips of pixels, and sums of probabilities
    if is_raster(plan.path)[0]:
        return bands
    photo = plan.height * plan.width * _RGB
    return bands + photo * (predictor.ahead + 1 + _DECODED_TWICE)


def _seconds_per_pixel(predictor: Predictor) -> float:
    """Return the time that the network needs for a pixel of a tile, all flips together; the first run warms it up."""
    side = predictor.plan(predictor.tile, predictor.tile)[0].tile
    memory = predictor.network.memory
    tiles = memory.upload((1, side, side, 3), lambda pixels: pixels.fill(0))
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        memory.download(predictor.network(tiles))()
        best = min(best, time.perf_counter() - began)
    return best * (4 if predictor.tta else 1) / side**2


def _peak() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
