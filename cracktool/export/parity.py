"""The proof of an export: the same photos through PyTorch and through each runtime, compared and timed side by side.

Photos are made, not read. Knows no file format: it sees networks that are ready to run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from cracktool.card import Card
from cracktool.datasets.synthetic import Wishes, make_sample
from cracktool.errors import CrackError
from cracktool.images import Image
from cracktool.inference import Network, Predictor
from cracktool.inference.memory import MainMemory, Pixels
from cracktool.metrics import threshold_level

WHOLE = ((97, 61), (130, 165), (1, 1))
"""Heights and widths of the photos that go in whole: odd, even, and the smallest. A network that enlarges
takes smaller ones, and gives these."""

TILE = 256
"""Side in px of the overlapping tiles of the photo of 601 x 807 px that goes in by tiles; less where the weights'
tiles are smaller or the network enlarges, and the photo with them."""

SURE = 7.0
"""Logits beyond this count as this: probabilities of 0.001 and 0.999, where float32 begins to round them away."""

ROUNDS = 7
"""Times that each runtime is timed, in turn with the others; one where a tile takes longer than `PATIENCE`."""

PATIENCE = 2.0
"""Seconds of a tile."""

Probs = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a runtime may be from PyTorch.

    Args:
        logits: Largest difference of a logit.
        pixels: Largest share of a photo's pixels that are crack in only one of the two masks.
        further: Largest share of a photo's pixels whose logits differ by more.
    """

    logits: float
    pixels: float
    further: float = 0.0


FLOAT32 = Limits(logits=1e-3, pixels=1e-4)
HALF = Limits(logits=0.25, pixels=5e-3)
UNPOOLED = Limits(logits=1e-3, pixels=1e-4, further=1e-2)
UNPOOLED_AND_ENLARGED = Limits(logits=1e-2, pixels=1e-4)
"""Of a network in float32 that puts maxima back where it found them, as CrackFormer does. Which of two nearly equal
values is the larger is decided by rounding, and a change deep inside shows in a wide area: with random weights PyTorch
in float32 is up to 0.0036 in logits from float64, beyond 0.001 at 0.3 % of the pixels, where the photo is enlarged
before up to 0.0044, at 2 %. ONNX Runtime and OpenVINO are as far from PyTorch: 0.0018 and 0.0048."""

INT8 = Limits(logits=math.inf, pixels=math.inf)  # judged by what it costs in crack IoU


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How a runtime compares with PyTorch.

    Args:
        runtime: Its name.
        logits: Largest difference of a logit that was seen.
        pixels: Share of the pixels that are crack in only one of the two masks.
        milliseconds: Median time for a tile.
        torch_milliseconds: That of PyTorch in float32, taken in turn with it.
    """

    runtime: str
    logits: float
    pixels: float
    milliseconds: float
    torch_milliseconds: float


def float32_limits(card: Card) -> Limits:
    """Return how far an exported float32 file of a network may be from it."""
    if "crackformer" not in card.model:
        return FLOAT32
    return UNPOOLED_AND_ENLARGED if card.scale > 1 else UNPOOLED


def compare(reference: Network, networks: Mapping[str, Network], limits: Limits) -> tuple[Parity, ...]:
    """Run the same photos through all networks.

    Args:
        reference: The checkpoint in PyTorch, in float32.
        networks: Name of a runtime -> the exported file in it.
        limits: How far they may be apart.

    Raises:
        CrackError: One is further from the reference.
    """
    expected = list(run_photos(reference))
    found = {name: measure_differences(name, network, expected, limits) for name, network in networks.items()}
    times = measure_times({"": reference, **networks}, reference.card.tile)
    return tuple(
        Parity(runtime=name, logits=logits, pixels=pixels, milliseconds=times[name], torch_milliseconds=times[""])
        for name, (logits, pixels) in found.items()
    )


def run_photos(network: Network) -> Iterator[Probs]:
    """Give the probabilities of the photos: those that go in whole, each with its mirror image, and the tiled one."""
    scale = network.card.scale  # a network that enlarges works on what it gives
    for number, (height, width) in enumerate(WHOLE):
        yield _whole(network, _photo(number, max(1, height // scale), max(1, width // scale)))
    tile = min(TILE, network.card.tile) // scale
    large = _photo(len(WHOLE), tile * 9 // 4 + 25, tile * 25 // 8 + 7)
    yield Predictor(network, tile=tile).probs(large)


def _photo(number: int, height: int, width: int) -> Image:
    # Cut from one large enough to show something; a crack from side to side, so that both classes have pixels.
    wishes = Wishes(pattern="single", width=(6, 9))
    sample = make_sample(number, seed=1, shape_hw=(max(height, 64), max(width, 64)), wishes=wishes)
    return sample.image[:height, :width]


def _whole(network: Network, photo: Image) -> Probs:
    def fill(pixels: Pixels) -> None:
        pixels[0], pixels[1] = photo, photo[:, ::-1]

    memory = network.memory
    return memory.download(network(memory.upload((2, *photo.shape), fill)))()


def measure_differences(name: str, network: Network, expected: list[Probs], limits: Limits) -> tuple[float, float]:
    """Return the largest difference of a logit and the share of pixels that differ in the masks.

    Args:
        name: Name of the runtime.
        network: An exported file in it.
        expected: What `run_photos` gives of the checkpoint in PyTorch.
        limits: How far it may be from that.

    Raises:
        CrackError: It is further away.
    """
    level = threshold_level(network.card.threshold)
    quantise, wrong, total = MainMemory().quantise, 0, 0
    furthest = 0.0
    for ours, theirs in zip(expected, run_photos(network), strict=True):
        where = f"on a photo of {ours.shape[-1]} x {ours.shape[-2]} px"
        if ours.shape != theirs.shape:
            raise CrackError(f"{name} gives shape {theirs.shape} and PyTorch {ours.shape} {where}")
        differences = np.abs(_logits(theirs) - _logits(ours))
        near = differences <= limits.logits  # NaN is not
        if near.mean() < 1 - limits.further:
            raise CrackError(f"{name} is {differences.max():.2g} in logits away from PyTorch {where}")
        furthest = max(furthest, float(differences.max()))
        wrong += int(((quantise(ours) >= level) != (quantise(theirs) >= level)).sum())
        total += ours.size
    if wrong > limits.pixels * total:
        raise CrackError(f"{name} gives another mask than PyTorch at {wrong} of {total} pixels")
    return furthest, wrong / total


def _logits(probs: Probs) -> npt.NDArray[np.float64]:
    sure = 1 / (1 + math.exp(-SURE))
    p = np.clip(probs.astype(np.float64), 1 - sure, sure)
    logits: npt.NDArray[np.float64] = np.log(p / (1 - p))
    return logits


def measure_times(
    networks: Mapping[str, Network], side: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median milliseconds of each network for one tile of `side` px, all taken in turn.

    Args:
        networks: Name of a runtime -> what it runs.
        side: Of the tile, in px.
        clock: Gives the seconds; `time.process_time` where other work keeps the machine busy.
    """
    calls = {}
    for name, network in networks.items():
        tile = np.broadcast_to(np.uint8(127), (1, side, side, 3))
        pixels = network.memory.upload(tile.shape, partial(np.copyto, src=tile))
        calls[name] = partial(network, pixels)
    warm = {name: _seconds(call, clock) for name, call in calls.items()}  # the first call also plans
    rounds = ROUNDS if max(warm.values()) < PATIENCE else 1
    taken = [{name: _seconds(call, clock) for name, call in calls.items()} for _ in range(rounds)]
    return {name: 1000 * float(np.median([each[name] for each in taken])) for name in calls}


def _seconds(call: partial[object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start
