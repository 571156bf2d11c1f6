"""The training loop: `train` yields events and keeps the run folder complete after each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from cracktool.config import TrainConfig
from cracktool.data import Normalise, training_loader
from cracktool.device import choose_device
from cracktool.errors import UsageError
from cracktool.files import leftovers, replace_file
from cracktool.manifest import read_manifest
from cracktool.models import PaddedModel, model_statistics
from cracktool.training.board import open_board
from cracktool.training.events import EpochEnded, Event, Finished, Labelled, Started, Stepped
from cracktool.training.mining import Mine
from cracktool.training.objective import Objective, build_objective
from cracktool.training.pseudo import PseudoMasks
from cracktool.training.ranks import Ranks, join_ranks, no_sync
from cracktool.training.run_folder import (
    BEST,
    CONFIG,
    STATE,
    card_of,
    check_folder,
    draw_first_batch,
    read_rows,
    save_epoch,
)
from cracktool.training.state import backward_and_step, learning_rate, new_state, set_trainable, update_ema
from cracktool.training.teaching import build_teaching
from cracktool.training.validation import Validation
from cracktool.weights import Checkpoint


def train(config: TrainConfig, folder: Path, *, resume: bool = False) -> Iterator[Event]:
    """Train a network and yield events; the run folder is complete after each `EpochEnded`.

    Started by `torchrun`, each process learns from its own part of ``ranks * batch_size`` samples per step, so that the
    run equals one of a single process with that batch size, but for norms over a batch on CPUs. All processes yield
    events; the first writes the folder.

    Args:
        config: Settings.
        folder: The run folder. It may not hold another run unless `resume`.
        resume: Continue from the last complete epoch in `folder`; the result is that of a run never stopped.

    Raises:
        UsageError: A setting is wrong, or `resume` is asked for with other settings.
        InputError: A data set is missing, empty or damaged.
        OutputError: `folder` holds a run already.
        WeightsError: Initial or pretrained weights cannot be had.

    Example:
        >>> config = TrainConfig(model="unet_resnet18", data=("data/cracks",), pretrained=False)
        >>> for event in train(config, Path("runs/first")):
        ...     print(event)
    """
    check_folder(folder, config, resume=resume)
    build_objective(config, 0)  # wrong names are refused before anything is read
    model_statistics(config.model)
    with join_ranks(config.device) as ranks:
        yield from _Run(config, folder, ranks, resumed=resume and (folder / STATE).is_file()).events()


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to do about the two errors of PyTorch that settings alone can bring."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UsageError("the GPU's memory is too small", remedy="lower --batch-size, or give it as auto") from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        remedy = "give a larger --size or --batch-size, and to fill it from few images set epoch_samples"
        raise UsageError("a batch norm cannot learn from one sample of so few pixels", remedy=remedy) from error


class Learner(nn.Module):
    """A network and what it minimises as one module: gradients meet where the processes of a run share it."""

    def __init__(self, model: PaddedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, objective: Objective, x: Tensor, targets: list[Tensor]) -> Tensor:
        """Return the objective of a batch, one number."""
        return objective(self.model, x, targets)


class _Run:
    """All parts of a run, made of its settings."""

    def __init__(self, config: TrainConfig, folder: Path, ranks: Ranks, *, resumed: bool) -> None:
        self.config = config
        self.folder = folder
        self.ranks = ranks
        manifests = [read_manifest(path) for path in config.data]  # before weights are downloaded
        self.choice = choose_device(ranks.device(config.device), config.dtype)
        self.state = new_state(config, self.choice, ranks=ranks.size, resumed=resumed)
        if resumed:
            self.state.restore(folder / STATE)
        learned = [each.split("train") for each in manifests]
        self.pseudo = PseudoMasks(learned, folder, config, self.choice) if config.supervision == "pseudo" else None
        self.mine = Mine(config, folder) if config.mine else None
        self.loader, self.sampler = training_loader(
            self.pseudo.manifests if self.pseudo else learned,
            config,
            mined=self.mine.examples if self.mine else (),
            rank=ranks.rank,
            ranks=ranks.size,
        )
        self.validation = Validation(manifests, config, self.choice, ranks)
        self.learner = ranks.wrap(Learner(self.state.model), self.choice.device)
        self.normalise = Normalise(self.state.card.mean, self.state.card.std, self.choice.device)
        self.teach = build_teaching(config, self.choice, self.state, self.normalise)

    def events(self) -> Iterator[Event]:
        """Train from the state that is there to the last epoch."""
        state, config = self.state, self.config
        if self.ranks.first:
            for half_written in leftovers(self.folder):
                half_written.unlink(missing_ok=True)
        self.ranks.wait()  # until all have seen the folder as it was
        if self.ranks.first:
            replace_file(self.folder / CONFIG, config.to_toml().encode())
        yield self._started()
        yield from self._labelling()
        rows = read_rows(self.folder)[: state.epoch]
        with open_board(self.folder if self.ranks.first else None) as board:
            while state.epoch < config.epochs and not self._out_of_patience():
                begin = time.perf_counter()
                losses = []
                for event in self._one_epoch():
                    losses.append(event.loss)
                    board.step(event)
                    yield event
                ended = self._validate(losses, begin)
                rows.append(asdict(ended))
                if self.ranks.first:
                    save_epoch(state, ended, rows, self.folder, config, self.validation.images)
                    board.epoch(ended)
                yield ended
        yield Finished(
            weights=self.folder / BEST,
            val_iou=state.best_iou,
            epoch=state.best_epoch,
            stopped_early=state.epoch < config.epochs,
            rank=self.ranks.rank,
        )

    def _started(self) -> Started:
        return Started(
            device=self.choice,
            rank=self.ranks.rank,
            ranks=self.ranks.size,
            parameters=sum(parameter.numel() for parameter in self.state.model.parameters()),
            fresh=self.state.fresh,
            train_images=self.sampler.images,
            val_images=self.validation.images,
            first_epoch=self.state.epoch + 1,
            batches_per_epoch=len(self.loader),
        )

    def _labelling(self) -> Iterator[Labelled]:
        if self.pseudo is None:
            return
        yield from self.pseudo.make(self.ranks)
        self.ranks.wait()
        self.state.card = self.state.card.taught_by(*self.pseudo.terms())

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return 0 < patience <= self.state.epoch - self.state.best_epoch

    def _one_epoch(self) -> Iterator[Stepped]:
        state, config, batches = self.state, self.config, len(self.loader)
        steps = math.ceil(batches / config.accumulate)
        self.sampler.epoch = state.epoch
        if self.mine is not None:
            weights = self.sampler.weights
            self.sampler.weights = self.mine.hard_negatives(self._checkpoint(), self.choice, self.ranks, weights)
        # Dropout is alike in a resumed run, and differs between processes.
        torch.manual_seed((config.seed * 1_000_003 + state.epoch) * self.ranks.size + self.ranks.rank)
        set_trainable(state.model, config.frozen, norms=not config.frozen_norms)
        objective = build_objective(config, state.epoch)
        for number, (images, *targets) in enumerate(self.loader):
            if state.epoch == number == 0 and self.ranks.first:
                draw_first_batch(images, targets[0], self.folder)
            done, gathered = divmod(number, config.accumulate)
            step = state.epoch * steps + done
            window = min(config.accumulate, batches - done * config.accumulate)
            last = gathered + 1 == window
            rate = learning_rate(config, step, steps)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            with no_sync(self.learner, wait=not last), _explained():
                with self.choice.autocast():
                    x, targets = self.teach(images, targets, epoch=state.epoch)
                    value = self.learner(objective, x, targets)
                backward_and_step(state, value, share=1 / window, step=last, clip_norm=config.clip_norm)
            if last and state.ema is not None:
                update_ema(state.ema, state.model, min(config.ema, (1 + step) / (10 + step)))
            seen = state.epoch * batches + number + 1
            yield Stepped(epoch=state.epoch + 1, batch=seen, loss=value.item(), lr=rate, images=len(images))
        state.epoch += 1

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self.state.validated.eval(), card_of(self.config, self.state), "")

    def _validate(self, losses: list[float], begin: float) -> EpochEnded:
        state = self.state
        self.ranks.broadcast(state.validated)
        scores = self.validation(self._checkpoint()).scores()
        best = self.config.select == "last" or scores.iou > state.best_iou
        if best:
            state.best_iou, state.best_epoch = scores.iou, state.epoch
        return EpochEnded(
            epoch=state.epoch,
            train_loss=self.ranks.mean(sum(losses) / len(losses)),
            val_iou=scores.iou,
            val_precision=scores.precision,
            val_recall=scores.recall,
            lr=state.optimizer.param_groups[0]["lr"],
            seconds=time.perf_counter() - begin,
            best=best,
        )
