"""The proof of an export: the same photos through PyTorch and through each runtime, compared and timed side by side.

Photos are made, not read. Knows no file format: it sees networks that are ready to run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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
        pixels: Largest share of the pixels that are crack in only one of the two masks.
        further: Largest share of the pixels whose logits differ by more.
    """

    logits: float
    pixels: float
    further: float = 0.0


FLOAT32 = Limits(logits=1e-3, pixels=1e-4)
UNPOOLED = Limits(logits=1e-3, pixels=1e-4, further=1e-2)
"""Of a network in float32 for which `unpools` holds, before `widen`: a single value put elsewhere shows in an area."""

HALF = Limits(logits=0.25, pixels=5e-3)
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


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far two networks are apart on the photos.

    Args:
        logits: Largest difference of a logit.
        further: Share of the pixels whose logits differ by more than a limit.
        pixels: Share of the pixels that are crack in only one of the two masks.
        photo: The one with the largest difference, for the user.
    """

    logits: float
    further: float
    pixels: float
    photo: str


def unpools(card: Card) -> bool:
    """Return whether a network puts maxima back where it found them: rounding may decide where that is."""
    return "crackformer" in card.model


def widen(limits: Limits, reference: list[Probs], exact: Network) -> Limits:
    """Return limits that leave room for what rounding does to a network that unpools.

    Which of two nearly equal values is the larger is decided by rounding, and where it is put back deep inside shows in
    a wide area. PyTorch in float32 is therefore itself away from float64, and a runtime that rounds in another order is
    as far from float64 in its own way: up to twice as far from PyTorch. Half of the pixels must stay within the limit
    of logits whatever rounding does, as those of a wrong graph do not.

    Args:
        limits: Those of a network that rounding leaves alone.
        reference: What `run_photos` gives of the checkpoint in float32.
        exact: The checkpoint in float64.
    """
    rounding = measure_difference("float64", exact, reference, limits)
    return replace(
        limits,
        further=min(max(limits.further, 2 * rounding.further), 0.5),
        pixels=max(limits.pixels, 2 * rounding.pixels),
    )


def compare(
    reference: Network, networks: Mapping[str, Network], limits: Limits, exact: Network | None = None
) -> tuple[Parity, ...]:
    """Run the same photos through all networks.

    Args:
        reference: The checkpoint in PyTorch, in float32.
        networks: Name of a runtime -> the exported file in it.
        limits: How far they may be apart.
        exact: The checkpoint in float64, where rounding decides much; see `widen`.

    Raises:
        CrackError: One is further from the reference.
    """
    expected = list(run_photos(reference))
    if exact is not None:
        limits = widen(limits, expected, exact)
    found = {name: prove(name, network, expected, limits) for name, network in networks.items()}
    times = measure_times({"": reference, **networks}, reference.card.tile)
    return tuple(
        Parity(
            runtime=name,
            logits=difference.logits,
            pixels=difference.pixels,
            milliseconds=times[name],
            torch_milliseconds=times[""],
        )
        for name, difference in found.items()
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


def prove(name: str, network: Network, expected: list[Probs], limits: Limits) -> Difference:
    """Return how far an exported file is from PyTorch.

    Args:
        name: Name of the runtime.
        network: The file in it.
        expected: What `run_photos` gives of the checkpoint in PyTorch.
        limits: How far it may be from that.

    Raises:
        CrackError: It is further away.
    """
    found = measure_difference(name, network, expected, limits)
    if found.further > limits.further:
        raise CrackError(f"{name} is {found.logits:.2g} in logits away from PyTorch on {found.photo}")
    if found.pixels > limits.pixels:
        raise CrackError(f"{name} gives another mask than PyTorch at {found.pixels:.2%} of the pixels")
    return found


def measure_difference(name: str, network: Network, expected: list[Probs], limits: Limits) -> Difference:
    """Return how far a network is from what another gave; of the limits only that of logits is used.

    Raises:
        CrackError: It gives results of another shape, or values that are no numbers.
    """
    level = threshold_level(network.card.threshold)
    quantise, further, wrong = MainMemory().quantise, 0, 0
    largest = {}
    for ours, theirs in zip(expected, run_photos(network), strict=True):
        photo = f"a photo of {ours.shape[-1]} x {ours.shape[-2]} px"
        if ours.shape != theirs.shape:
            raise CrackError(f"{name} gives shape {theirs.shape} and PyTorch {ours.shape} on {photo}")
        if not np.isfinite(theirs).all():
            raise CrackError(f"{name} gives values that are no numbers on {photo}")
        differences = np.abs(_logits(theirs) - _logits(ours))
        largest[photo] = float(differences.max())
        further += int((differences > limits.logits).sum())
        wrong += int(((quantise(ours) >= level) != (quantise(theirs) >= level)).sum())
    total = sum(ours.size for ours in expected)
    photo = max(largest, key=largest.__getitem__)
    return Difference(logits=largest[photo], further=further / total, pixels=wrong / total, photo=photo)


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
