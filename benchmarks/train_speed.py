"""The training loop against the bare work: images/s of `train` over those of the same steps on one batch in memory.

    python benchmarks/train_speed.py DATA [--model unet_resnet18] [--size 448] [--batch-size 8] [--steps 12]

Both are measured in turn in one process; the first steps of each, which allocate, are left out. Prints a table, then
one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from cracktool.config import TrainConfig
from cracktool.data import Normalise, training_loader
from cracktool.device import choose_device
from cracktool.manifest import read_manifest
from cracktool.models import model_statistics
from cracktool.training import Stepped, train
from cracktool.training.objective import build_objective
from cracktool.training.state import backward_and_step, new_state

WARM = 2


def main() -> None:
    """Measure both in turn and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="prepared data set")
    parser.add_argument("--model", default="unet_resnet18")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = TrainConfig(
        model=options.model,
        pretrained=False,
        data=(str(options.data),),
        size=options.size,
        batch_size=options.batch_size,
        epochs=1,
        epoch_samples=(options.steps + WARM) * options.batch_size,
        val_images=1,
    )
    print(f"{choose_device().reason}\n{'images/s':>12s}{'bare':>10s}{'loop':>10s}{'ratio':>10s}")
    ratios = []
    for number in range(options.rounds):
        plain, looped = bare(config, options.steps), loop(config)
        ratios.append(looped / plain)
        print(f"{f'round {number + 1}':>12s}{plain:10.2f}{looped:10.2f}{ratios[-1]:10.3f}", flush=True)
    print(json.dumps({"model": options.model, "ratio": statistics.median(ratios), "ratios": ratios}))


def bare(config: TrainConfig, steps: int) -> float:
    """Return images/s of forward, backward and step on a batch that lies ready on the device."""
    choice = choose_device(config.device, config.dtype)
    state = new_state(config, choice)
    state.model.train()
    loader, _ = training_loader([read_manifest(path).split("train") for path in config.data], config)
    images, *targets = next(iter(loader))
    x = Normalise(*model_statistics(config.model), choice.device)(images)
    targets = [target.to(choice.device) for target in targets]
    objective = build_objective(config, 0)
    times = []
    for _ in range(WARM + steps):
        with choice.autocast():
            value = objective(state.model, x, targets)
        backward_and_step(state, value, share=1.0, step=True, clip_norm=config.clip_norm)
        value.item()  # waits for a GPU, as the loop does
        times.append(time.perf_counter())
    return rate(times, config)


def loop(config: TrainConfig) -> float:
    """Return images/s of the loop, between the ends of its steps."""
    with tempfile.TemporaryDirectory() as folder:
        times = [time.perf_counter() for event in train(config, Path(folder) / "run") if isinstance(event, Stepped)]
    return rate(times, config)


def rate(times: list[float], config: TrainConfig) -> float:
    """Return images/s between the moments at which steps ended, the first ones left out."""
    return (len(times) - WARM) * config.batch_size / (times[-1] - times[WARM - 1])


if __name__ == "__main__":
    main()
