from dataclasses import replace
from functools import partial

import pytest

from cracktool.config import TrainConfig
from cracktool.errors import UsageError
from cracktool.training import probing
from cracktool.training.probing import choose_batch_size, fastest


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when a step says so: a busy machine cannot slow it."""
    now = [0.0]
    monkeypatch.setattr(probing.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({2: 0.02, 4: 0.02, 8: 0.02}, 8),  # a larger batch costs no more
        ({2: 0.02, 4: 0.04, 8: 0.08}, 2),  # nothing is gained
        ({2: 0.04, 4: 0.04, 8: 0.20}, 4),  # an image gets no cheaper
    ],
)
def test_doubling_ends_where_an_image_gets_no_cheaper(clock, seconds, best):
    def take(size):
        clock[0] += seconds[size]

    assert fastest((size, partial(take, size)) for size in seconds) == best


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"supervision": "image", "fit": "resize"},
        {"degrade": True, "model": "bicubic_pspnet", "size": 32},
        {"distil": 0.5, "teacher": "any"},
    ],
)
def test_real_steps_of_every_kind_are_tried(changes, monkeypatch):
    monkeypatch.setattr(probing, "CPU_LARGEST", 2)
    config = TrainConfig(model="unet_test_resnet", pretrained=False, size=32, device="cpu", dtype="float32")
    assert choose_batch_size(replace(config, **changes)) == 2


def test_processes_must_be_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--batch-size"):
        choose_batch_size(TrainConfig(model="unet_test_resnet", pretrained=False))
