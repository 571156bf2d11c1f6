"""The processes of one run: how they find each other, share the work, and add up what each has counted.

Started by `torchrun`, a run has one process per GPU, or several on a CPU; started otherwise it is alone.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cracktool.errors import UsageError
from cracktool.metrics import NO_COUNTS, Counts

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One process among those of a run.

    Args:
        rank: Which one, from 0. Only the first writes files.
        size: How many there are.
        local: Which one on this machine, from 0: the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return the device of this process, where auto or cuda was asked for."""
        if self.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local}"
        return name

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's part of the items."""
        return items[self.rank :: self.size]

    def wrap(self, learner: nn.Module, device: torch.device) -> nn.Module:
        """Return the module that learns with those of the other processes: they average their gradients."""
        if self.size == 1:
            return learner
        # Kernels of one channel lie in memory both ways at once, which it takes for an order that costs it time.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return DistributedDataParallel(learner, device_ids=[device] if device.type == "cuda" else None)

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def gather(self, value: Item) -> list[Item]:
        """Return what each process has, in the order of their ranks."""
        gathered = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(gathered, value)
        return gathered

    def total(self, counts: Counts) -> Counts:
        """Return the sum of what all processes counted."""
        return sum(self.gather(counts), NO_COUNTS)

    def mean(self, value: float) -> float:
        """Return the mean of a number over all processes."""
        return sum(self.gather(value)) / self.size

    def broadcast(self, module: nn.Module) -> None:
        """Give all processes the first one's tensors: the norms' statistics are of each one's own batches."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)


def no_sync(learner: nn.Module, *, wait: bool) -> AbstractContextManager[None]:
    """Return a context in which gradients are summed here only, where the step waits for more of them."""
    if wait and isinstance(learner, DistributedDataParallel):
        return learner.no_sync()
    return nullcontext()


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the other processes of a run that `torchrun` started; there are none otherwise.

    Args:
        device: As the settings name it: decides whether gradients travel between GPUs (NCCL) or CPUs (gloo).

    Raises:
        UsageError: All processes would share one named GPU.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    if ":" in device:
        raise UsageError(f"{size} processes cannot share {device}", remedy="use --device cuda, one GPU for each")
    on_gpus = device in ("auto", "cuda") and torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if on_gpus:  # else what NCCL gathers would lie on the first GPU for all of them
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpus else "gloo")
    try:
        yield Ranks(rank=dist.get_rank(), size=size, local=local)
    finally:
        dist.destroy_process_group()
