"""Several processes learning together: real `torchrun`, over gloo on the CPU."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import assert_close, assert_same, make_data, rows

from cracktool.config import TrainConfig
from cracktool.data import EpochSampler
from cracktool.errors import UsageError
from cracktool.metrics import Counts
from cracktool.training.ranks import Ranks, join_ranks

CRACK = str(Path(__file__).parent / "networks.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", CRACK]


@pytest.fixture
def recipe(tmp_path):
    """Return a function that writes settings and gives the options that train with them."""
    data = make_data(tmp_path / "data", 12)

    def write(**changes: object) -> list[str]:
        config = TrainConfig(
            model="normless",
            pretrained=False,
            data=(str(data),),
            size=64,
            batch_size=2,
            epochs=3,
            epoch_samples=8,
            loss="bce",
            lr=1e-2,
            ema=0.5,
            workers=0,
            dtype="float32",
        )
        path = tmp_path / f"{len(changes)}{sum(map(ord, str(changes)))}.toml"
        path.write_text(replace(config, **changes).to_toml())
        return ["train", "--recipe", str(path), "-o"]

    return write


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(recipe, tmp_path):
    runs = [(TORCHRUN, "two", {"batch_size": 2}), ([sys.executable, CRACK], "one", {"batch_size": 4})]
    for command, name, changes in runs:
        done = subprocess.run(
            [*command, *recipe(**changes), str(tmp_path / name)], env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{tmp_path / name}/best.safetensors\n"  # told once
        assert done.stderr.count("images to learn from") == 1
    for weights in ("best.safetensors", "last.safetensors"):
        assert_close(tmp_path / "one" / weights, tmp_path / "two" / weights)
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    for column in ("train_loss", "val_iou", "val_recall", "lr"):
        assert [float(row[column]) for row in one] == pytest.approx([float(row[column]) for row in two], abs=1e-5)


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_run_resumes(recipe, tmp_path):
    options = recipe(epochs=6, epoch_samples=80)
    subprocess.run([*TORCHRUN, *options, str(tmp_path / "whole")], env=environment(), check=True, capture_output=True)
    process = subprocess.Popen(
        [*TORCHRUN, *options, str(tmp_path / "parts")], env=environment(), stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "parts" / "metrics.csv"
    while process.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0, "the run ended before it could be killed"
    resumed = [*TORCHRUN, *options, str(tmp_path / "parts"), "--resume"]
    subprocess.run(resumed, env=environment(), check=True, capture_output=True)
    for weights in ("best.safetensors", "last.safetensors"):
        assert_same(tmp_path / "whole" / weights, tmp_path / "parts" / weights)


def test_the_parts_of_a_pass_make_up_the_batches_of_one_process():
    settings = {"images": 10, "weights": None, "count": 17, "seed": 3}
    alone = list(EpochSampler(**settings))
    parts = [EpochSampler(**settings, batch=2, rank=rank, ranks=2) for rank in (0, 1)]
    assert [len(part) for part in parts] == [8, 8]
    first, second = map(list, parts)
    together = [key for at in range(0, 8, 2) for key in (*first[at : at + 2], *second[at : at + 2])]
    assert together == alone[:16]


def test_a_process_alone_is_its_own_sum():
    counts = Counts(tp=1, fp=2, fn=3, tn=4)
    alone = Ranks()
    assert (alone.total(counts), alone.mean(2.5), alone.share([1, 2]), alone.first) == (counts, 2.5, [1, 2], True)
    module = torch.nn.Linear(1, 1)
    assert alone.wrap(module, torch.device("cpu")) is module


def test_each_process_has_a_part_of_the_images():
    parts = [Ranks(rank=rank, size=3).share(range(7)) for rank in range(3)]
    assert [list(part) for part in parts] == [[0, 3, 6], [1, 4], [2, 5]]


def test_one_named_gpu_cannot_be_shared(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="2 processes cannot share cuda:0"), join_ranks("cuda:0"):
        pass
