"""The choice of device and number format."""

import sys

import pytest
import torch

from cracktool import device
from cracktool.device import choose_device, move
from cracktool.errors import UsageError
from cracktool.models import LISTED, build_model


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretend to be another machine."""

    def build(*, cuda=0, capability=(9, 0), mps=False, flags="fpu sse2"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU X")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\nbugs : none\n")
        monkeypatch.setattr(device, "_CPU_INFO", tmp_path / "cpuinfo")

    return build


@pytest.mark.parametrize(
    ("has", "name", "dtype", "expected"),
    [
        ({}, "auto", "auto", ("cpu", torch.float32)),
        ({"flags": "avx512_bf16 amx_bf16"}, "auto", "auto", ("cpu", torch.bfloat16)),
        ({"flags": "avx512f avx512_bf16"}, "auto", "auto", ("cpu", torch.float32)),
        ({"flags": "amx_bf16"}, "cpu", "float32", ("cpu", torch.float32)),
        ({"mps": True}, "auto", "auto", ("mps", torch.float32)),
        ({"mps": True, "cuda": 1}, "auto", "auto", ("cuda", torch.bfloat16)),
        ({"cuda": 1, "capability": (7, 5)}, "auto", "auto", ("cuda", torch.float16)),
        ({"cuda": 2}, "cuda:1", "float16", ("cuda:1", torch.float16)),
        ({"cuda": 1}, "cpu", "bfloat16", ("cpu", torch.bfloat16)),
    ],
)
def test_choice(machine, has, name, dtype, expected):
    machine(**has)
    choice = choose_device(name, dtype)
    assert (str(choice.device), choice.dtype) == expected
    assert str(choice.dtype).removeprefix("torch.") in choice.reason
    assert choice.device.type in choice.reason.lower()


def test_reason_names_the_gpu_and_why(machine):
    machine(cuda=1)
    assert "GPU X" in choose_device().reason
    machine()
    assert choose_device().reason == "CPU (no GPU found) in float32 (safe everywhere)"


def test_without_a_driver_no_pytorch_is_needed_to_know_that_there_is_no_gpu(machine, monkeypatch, tmp_path):
    machine(cuda=1)
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device, "_GPU_DRIVERS", (str(tmp_path),))
    assert not device.is_cpu()
    assert device.is_cpu("cpu")
    assert not device.is_cpu("cuda")
    machine()
    assert device.is_cpu()
    monkeypatch.setattr(device, "_GPU_DRIVERS", (str(tmp_path / "absent"),))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert device.is_cpu()
    monkeypatch.undo()
    with pytest.raises(UsageError, match="no device 'cud'"):
        device.is_cpu("cud")


def test_unknown_processor_file_means_float32(machine, monkeypatch, tmp_path):
    machine()
    monkeypatch.setattr(device, "_CPU_INFO", tmp_path / "absent")
    assert choose_device("cpu").dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "dtype", "words"),
    [
        ("cuda", "auto", "cuda was asked for, but .*use --device auto"),
        ("cuda:7", "auto", "cuda:7"),
        ("mps", "auto", "there is none"),
        ("cudda", "auto", "did you mean cuda"),
        ("cpu:1", "auto", "no device"),
        ("cuda:x", "auto", "no device"),
        ("cpu", "bfloat", "did you mean bfloat16"),
        ("cpu", "int8", "no dtype"),
    ],
)
def test_refuses(machine, name, dtype, words):
    machine()
    with pytest.raises(UsageError, match=words):
        choose_device(name, dtype)


def test_refuses_a_gpu_beyond_the_last(machine):
    machine(cuda=2)
    with pytest.raises(UsageError, match="has 2"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", LISTED)
def test_every_network_can_be_moved(name):
    with torch.device("meta"):
        model = build_model(name)
    moved = move(model, torch.device("meta"))
    kernels = [p for p in moved.parameters() if p.ndim == 4]
    assert moved is model
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
