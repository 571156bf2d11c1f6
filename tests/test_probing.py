import time
from dataclasses import replace

import pytest

from cracktool.config import TrainConfig
from cracktool.errors import UsageError
from cracktool.training import probing
from cracktool.training.probing import choose_batch_size, fastest


def steps(seconds):
    """Batch sizes 2, 4 and 8 whose steps take `seconds` of the size."""
    return ((size, lambda size=size: time.sleep(seconds(size))) for size in (2, 4, 8))


def test_the_largest_batch_is_best_where_it_costs_no_more():
    assert fastest(steps(lambda size: 0.02)) == 8


def test_the_smallest_batch_is_best_where_nothing_is_gained():
    assert fastest(steps(lambda size: 0.01 * size)) == 2


def test_doubling_ends_where_an_image_gets_no_cheaper():
    assert fastest(steps(lambda size: {2: 0.04, 4: 0.04, 8: 0.2}[size])) == 4


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
