"""The proof of an export: the same photos through PyTorch and through each runtime, compared and timed side by side.

Photos are made, not read. Knows no file format: it sees exported files as networks that are ready to run.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cracktool.card import Card
from cracktool.datasets.synthetic import Wishes, make_sample
from cracktool.errors import CrackError
from cracktool.images import Image
from cracktool.inference import Network, Predictor
from cracktool.inference.memory import MainMemory, Pixels
from cracktool.inference.torch_network import TorchNetwork
from cracktool.metrics import threshold_level
from cracktool.weights import Checkpoint

WHOLE = ((97, 61), (130, 165), (1, 1))
"""Heights and widths of the photos that go in whole: odd, even, and the smallest. A network that enlarges
takes smaller ones, and gives these."""

TILE = 256
"""Side in px of the overlapping tiles of the photo of 601 x 807 px that goes in by tiles; less where the weights'
tiles are smaller or the network enlarges, and the photo with them."""

SURE = 7.0
"""Logits beyond this count as this: probabilities of 0.001 and 0.999, where float32 begins to round them away."""

CHANGE, CHANGES = 1e-5, 3
"""Standard deviation of a relative change of all weights, and how many are tried; see `Proof`."""

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
        pixels: Largest share of the pixels, over all photos, that are crack in only one of the two masks.
        further: Largest share of the pixels of each photo whose logits differ by more.
        rounding: Whether a file that is further away may be as far as rounding explains; see `Proof`.
    """

    logits: float
    pixels: float
    further: float = 0.0
    rounding: bool = False


FLOAT32 = Limits(logits=1e-3, pixels=1e-4)
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
class Gap:
    """How far two networks are apart on one photo.

    Args:
        photo: What it is, for the user.
        size: Its pixels.
        logits: Largest difference of a logit.
        further: Number of pixels whose logits differ by more than a limit.
        wrong: Number of pixels that are crack in only one of the two masks.
    """

    photo: str
    size: int
    logits: float
    further: int
    wrong: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far two networks are apart on the photos.

    Args:
        gaps: On each of them.
    """

    gaps: tuple[Gap, ...]

    @property
    def logits(self) -> float:
        """Largest difference of a logit."""
        return max(gap.logits for gap in self.gaps)

    @property
    def further(self) -> float:
        """Share of the pixels of all photos whose logits differ by more than the limit."""
        return sum(gap.further for gap in self.gaps) / sum(gap.size for gap in self.gaps)

    @property
    def pixels(self) -> float:
        """Share of the pixels of all photos that are crack in only one of the two masks."""
        return sum(gap.wrong for gap in self.gaps) / sum(gap.size for gap in self.gaps)


def float_limits(card: Card, *, half: bool) -> Limits:
    """Return how far a file in 32 or 16 bits may be from the network.

    Where a network puts maxima back where it found them, a single one put elsewhere shows in an area: there some
    logits may be anywhere. What the masks may differ is the same, but for what rounding explains in 32 bits.
    """
    limits = HALF if half else FLOAT32
    if "crackformer" not in card.model:
        return limits
    return replace(limits, further=0.05 if half else 0.01, rounding=not half)


class Proof:
    """What PyTorch gives of the photos, for exported files to be compared with.

    Which of two nearly equal values is the larger is decided by rounding, and where it is put back deep inside a
    network that unpools shows in a wide area. So such a network is no better defined than it is far from itself when
    its weights change in the fifth digit, which is more than a runtime's own order of sums changes: a file may be as
    far away. Half of all pixels must be near in any case, as those of a wrong graph are not, and half of each photo,
    but for one of which that change moves more.

    Args:
        checkpoint: The network and its card; it is left as it was.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.reference = self._network(copy.deepcopy(checkpoint.model).float())
        self.expected = list(run_photos(self.reference))

    def _network(self, model: nn.Module) -> Network:
        return TorchNetwork(replace(self.checkpoint, model=model), torch.device("cpu"))

    @cached_property
    def rounding(self) -> tuple[Difference, ...]:
        """How far the network is from itself with its weights changed a little, a few times over."""
        changed = (self._network(_changed(self.checkpoint.model, seed)) for seed in range(CHANGES))
        return tuple(self.measure("PyTorch", network, FLOAT32.logits) for network in changed)

    def check(self, name: str, network: Network, limits: Limits) -> Difference:
        """Return how far an exported file is from PyTorch.

        Args:
            name: Name of the runtime.
            network: The file in it.
            limits: How far it may be.

        Raises:
            CrackError: It is further away, or gives results of another shape, or values that are no numbers.
        """
        found = self.measure(name, network, limits.logits)
        problem = _problem(found, [limits.further] * len(found.gaps), limits.pixels)
        if problem and limits.rounding:
            problem = self._unexplained(found, limits)
        if problem:
            raise CrackError(f"{name} {problem}")
        return found

    def _unexplained(self, found: Difference, limits: Limits) -> str | None:
        explained = max(each.further for each in self.rounding)
        if found.further > min(explained, 0.5):
            away = f"is more than {limits.logits:g} in logits away from PyTorch at {found.further:.2%} of the pixels"
            return f"{away}; rounding explains {explained:.2%}"
        shares = [
            1.0 if any(2 * gap.further > gap.size for gap in gaps) else 0.5
            for gaps in zip(*(each.gaps for each in self.rounding), strict=True)
        ]
        return _problem(found, shares, max(limits.pixels, *(each.pixels for each in self.rounding)))

    def measure(self, name: str, network: Network, limit: float) -> Difference:
        """Return how far a network is from PyTorch; pixels are counted whose logits differ by more than a limit.

        Raises:
            CrackError: It gives results of another shape, or values that are no numbers.
        """
        level = threshold_level(network.card.threshold)
        pairs = zip(self.expected, run_photos(network), strict=True)
        return Difference(gaps=tuple(_measure_gap(name, ours, theirs, limit, level) for ours, theirs in pairs))


def _changed(model: nn.Module, seed: int) -> nn.Module:
    model = copy.deepcopy(model).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(1 + CHANGE * torch.randn(weights.shape, generator=generator))
    return model


def _measure_gap(name: str, ours: Probs, theirs: Probs, limit: float, level: int) -> Gap:
    photo = f"a photo of {ours.shape[-1]} x {ours.shape[-2]} px"
    if ours.shape != theirs.shape:
        raise CrackError(f"{name} gives shape {theirs.shape} and PyTorch {ours.shape} on {photo}")
    if not np.isfinite(theirs).all():
        raise CrackError(f"{name} gives values that are no numbers on {photo}")
    differences = np.abs(_logits(theirs) - _logits(ours))
    quantise = MainMemory().quantise
    return Gap(
        photo=photo,
        size=ours.size,
        logits=float(differences.max()),
        further=int((differences > limit).sum()),
        wrong=int(((quantise(ours) >= level) != (quantise(theirs) >= level)).sum()),
    )


def _problem(found: Difference, shares: Sequence[float], pixels: float) -> str | None:
    """Return what is wrong where a photo is further away at more than its share, or the masks differ at too many."""
    for gap, share in zip(found.gaps, shares, strict=True):
        if gap.further > share * gap.size:
            return f"is {gap.logits:.2g} in logits away from PyTorch on {gap.photo}"
    return f"gives another mask than PyTorch at {found.pixels:.2%} of the pixels" if found.pixels > pixels else None


def _logits(probs: Probs) -> npt.NDArray[np.float64]:
    sure = 1 / (1 + math.exp(-SURE))
    p = np.clip(probs.astype(np.float64), 1 - sure, sure)
    logits: npt.NDArray[np.float64] = np.log(p / (1 - p))
    return logits


def compare(checkpoint: Checkpoint, networks: Mapping[str, Network], limits: Limits) -> tuple[Parity, ...]:
    """Run the same photos through PyTorch and all networks.

    Args:
        checkpoint: What was exported.
        networks: Name of a runtime -> the exported file in it.
        limits: How far they may be from PyTorch.

    Raises:
        CrackError: One is further away.
    """
    proof = Proof(checkpoint)
    found = {name: proof.check(name, network, limits) for name, network in networks.items()}
    times = measure_times({"": proof.reference, **networks}, checkpoint.card.tile)
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
