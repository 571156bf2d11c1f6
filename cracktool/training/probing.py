"""Find a batch size by trying: the largest that fits a GPU, or the fastest per image on a CPU.

Learns from noise with a network that is thrown away; reads and writes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cracktool.config import TrainConfig
from cracktool.data import Normalise
from cracktool.degradation import KERNEL_SIDE, SCALE
from cracktool.device import Choice, choose_device
from cracktool.errors import UsageError
from cracktool.training.objective import build_objective
from cracktool.training.state import backward_and_step, new_state

CUDA_LARGEST, CPU_LARGEST = 256, 32
GAIN = 0.95
"""A larger batch must take less than this share of the time per image: on a CPU bigger ones soon gain nothing."""
MEMORY_SHARE = 0.8
"""Of a GPU's memory: validation tiles and the allocator's waste need the rest."""

Step = Callable[[], None]


def choose_batch_size(config: TrainConfig) -> int:
    """Return a batch size for these settings on this machine, a power of two.

    Args:
        config: Settings; ``batch_size`` is not looked at.

    Raises:
        UsageError: Several processes share the run, or a GPU has too little memory for a single sample.

    Example:
        >>> choose_batch_size(TrainConfig(model="unet_resnet34"))  # doctest: +SKIP
        16
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes cannot probe for one batch size", remedy="give --batch-size a number")
    choice = choose_device(config.device, config.dtype)
    if choice.device.type == "cuda":
        return largest_that_fits(_steps(config, choice, CUDA_LARGEST), choice.device)
    return fastest(_steps(config, choice, CPU_LARGEST))


def fastest(steps: Iterator[tuple[int, Step]]) -> int:
    """Return the size after which doubling no longer makes an image cheaper.

    Args:
        steps: Rising batch sizes, and what runs one step of that size.
    """
    best, least = 1, float("inf")
    for size, step in steps:
        step()  # the first allocates
        begin = time.perf_counter()
        step()
        each = (time.perf_counter() - begin) / size
        if each > GAIN * least:
            break
        best, least = size, each
    return best


def largest_that_fits(steps: Iterator[tuple[int, Step]], device: torch.device) -> int:
    """Return the largest size whose step leaves a share of the GPU's memory free.

    Raises:
        UsageError: Not even the smallest does.
    """
    limit = MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory
    best = 0
    for size, step in steps:
        torch.cuda.reset_peak_memory_stats(device)
        try:
            step()
        except torch.OutOfMemoryError:
            break
        if torch.cuda.max_memory_reserved(device) > limit:
            break
        best = size
    torch.cuda.empty_cache()
    if not best:
        raise UsageError("the GPU has too little memory for two samples", remedy="lower --size, or use --device cpu")
    return best


def _steps(config: TrainConfig, choice: Choice, largest: int) -> Iterator[tuple[int, Step]]:
    state = new_state(config, choice)
    objective = build_objective(config, 0)
    normalise = Normalise(state.card.mean, state.card.std, choice.device)
    size = 2  # of one sample alone a batch norm cannot learn everywhere
    while size <= largest:
        images, targets = _noise(config, size)
        targets = [target.to(choice.device) for target in targets]

        def step(images: Tensor = images, targets: list[Tensor] = targets) -> None:
            with choice.autocast():
                value = objective(state.model, normalise(images), targets)
            backward_and_step(state, value, share=1.0, step=True, clip_norm=config.clip_norm)
            if choice.device.type == "cuda":
                torch.cuda.synchronize(choice.device)

        yield size, step
        size *= 2


def _noise(config: TrainConfig, count: int) -> tuple[Tensor, list[Tensor]]:
    """Return images and targets of the shapes that the loader and a teacher give."""
    side = config.size
    sharp = torch.randint(256, (count, 3, side, side), dtype=torch.uint8)
    mask = (sharp[:, :1] > 240).to(torch.uint8)
    if config.supervision == "image":
        return sharp, [mask[..., :1, :1]]
    if config.degrade:
        kernel = torch.full((count, 1, KERNEL_SIDE, KERNEL_SIDE), 1 / KERNEL_SIDE**2)
        return sharp[..., ::SCALE, ::SCALE], [mask, sharp, kernel]
    return sharp, [mask, mask.float()] if config.distil else [mask]
