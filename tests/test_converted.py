"""Checkpoints run by ONNX Runtime and OpenVINO: converted once, then without PyTorch, with the same masks."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import NORMLESS, Normless

from cracktool.card import METADATA_KEY, Card, file_digest
from cracktool.errors import OutputError, UsageError, WeightsError
from cracktool.images import encode_png, read_mask
from cracktool.inference import Predictor, converted, load_network, load_predictor
from cracktool.inference.converted import converted_file
from cracktool.inference.runtimes import OnnxNetwork, OpenVinoNetwork
from cracktool.inference.torch_network import TorchNetwork
from cracktool.models import SYSTEMS
from cracktool.registry import read_card, shipped_weights
from cracktool.weights import read_weights, save_weights

pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
pytest.importorskip("openvino", reason="needs the extra cracktool[openvino]")

CARD = Card(model="normless", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), tile=64, stride=1)
PHOTO = np.random.default_rng(0).integers(0, 256, (90, 150, 3), dtype=np.uint8)
ROOT = Path(__file__).parents[1]


def write_onnx(checkpoint, path):
    """Write the network of these tests as `export_model` would, in a hundredth of the time."""
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    first, _, second = checkpoint.model.layers
    tensors = {
        f"{kind}{i}": getattr(each, kind) for i, each in enumerate((first, second)) for kind in ("weight", "bias")
    }
    nodes = [
        helper.make_node("Conv", ["image", "weight0", "bias0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "weight1", "bias1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["probs"]),
    ]
    sizes = ["batch", "height", "width"]
    image, probs = (
        helper.make_tensor_value_info(name, floats, [sizes[0], channels, *sizes[1:]])
        for name, channels in (("image", 3), ("probs", 1))
    )
    kept = [onnx.numpy_helper.from_array(tensor.detach().numpy(), name) for name, tensor in tensors.items()]
    graph = helper.make_graph(nodes, "normless", [image], [probs], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: checkpoint.card.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint, and the cache after an engine was asked for that needs its ONNX file."""
    folder = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SYSTEMS, "normless", NORMLESS["normless"])
        patch.setenv("CRACKTOOL_CACHE", str(folder / "cache"))
        torch.manual_seed(0)
        save_weights(folder / "w.safetensors", Normless().state_dict(), CARD)
        load_network(folder / "w.safetensors", device="cpu", engine="onnx", convert=write_onnx)
    return folder


@pytest.fixture
def weights(made, monkeypatch):
    monkeypatch.setitem(SYSTEMS, "normless", NORMLESS["normless"])
    monkeypatch.setenv("CRACKTOOL_CACHE", str(made / "cache"))
    monkeypatch.setattr(converted, "cpu_has_bfloat16", lambda: False)
    return made / "w.safetensors"


def test_every_engine_gives_the_same_mask_as_the_same_work(weights):
    by = {engine: load_predictor(weights, device="cpu", dtype="float32", engine=engine) for engine in
          ("torch", "onnx", "openvino")}  # fmt: skip
    networks = [TorchNetwork, OnnxNetwork, OpenVinoNetwork]
    assert [type(predictor.network) for predictor in by.values()] == networks
    for predictor in by.values():
        assert np.abs(predictor.probs(PHOTO) - by["torch"].probs(PHOTO)).max() < 1e-5
        assert (predictor.network.digest, predictor.network.card) == (file_digest(weights), CARD)
        assert predictor.settings() == by["torch"].settings()
    assert np.ptp(by["torch"].probs(PHOTO)) > 0.05
    assert by["onnx"].network.place == "CPU (ONNX Runtime) in float32, as asked"


def test_16_bits_count_as_other_work(weights):
    network = load_network(weights, device="cpu", dtype="bfloat16", engine="openvino")
    assert network.dtype == "bfloat16"
    assert network.digest != file_digest(weights)


def test_auto_converts_nothing_but_uses_what_is_there(weights, monkeypatch, tmp_path):
    assert isinstance(load_network(weights, device="cpu"), OnnxNetwork)
    assert load_network(weights, device="cpu").place.endswith("the fastest here")
    monkeypatch.setattr(converted, "cpu_has_bfloat16", lambda: True)
    assert isinstance(load_network(weights, device="cpu"), OpenVinoNetwork)
    assert isinstance(load_network(weights, device="cpu", dtype="float32"), OnnxNetwork)
    monkeypatch.setattr(converted, "find_spec", lambda name: name != "openvino" or None)
    assert isinstance(load_network(weights, device="cpu"), TorchNetwork)  # ONNX Runtime has no bfloat16
    monkeypatch.setattr(converted, "is_cpu", lambda name: False)
    assert isinstance(load_network(weights, device="cpu", dtype="float32"), TorchNetwork)
    monkeypatch.undo()
    monkeypatch.setitem(SYSTEMS, "normless", NORMLESS["normless"])
    monkeypatch.setenv("CRACKTOOL_CACHE", str(tmp_path))
    network = load_network(weights, device="cpu", dtype="float32")
    assert isinstance(network, TorchNetwork)
    assert network.place.endswith("; --engine onnx is faster, once it has converted the weights")
    assert list(tmp_path.iterdir()) == []


def test_the_onnx_file_that_ships_is_that_of_the_weights_that_ship(monkeypatch, tmp_path):
    monkeypatch.setenv("CRACKTOOL_CACHE", str(tmp_path))
    network = load_network(device="cpu", dtype="float32")
    assert isinstance(network, OnnxNetwork)
    assert OnnxNetwork(converted_file(shipped_weights())).card == read_card(shipped_weights())
    expected = load_network(device="cpu", dtype="float32", engine="torch")
    probs, truth = Predictor(network).probs(PHOTO), Predictor(expected).probs(PHOTO)
    assert np.abs(probs - truth).max() < 1e-4
    assert truth.std() > 0.02
    assert list(tmp_path.iterdir()) == []


def test_other_weights_or_another_version_have_another_file(weights, monkeypatch, tmp_path):
    assert converted_file(weights).is_file()
    tensors, card = read_weights(weights)
    other = {name: tensor + 1 for name, tensor in tensors.items()}
    for name, changed in (("tensors", (other, card)), ("card", (tensors, replace(card, model_args={"views": [1, 2]})))):
        save_weights(tmp_path / f"{name}.safetensors", *changed)
        assert converted_file(tmp_path / f"{name}.safetensors") != converted_file(weights)
    before = converted_file(weights)
    monkeypatch.setattr(converted, "__version__", "9")
    assert converted_file(weights) != before


def test_a_model_folder_may_change_its_card(weights, tmp_path):
    from safetensors.torch import load_file, save_file

    save_file(load_file(weights), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(CARD.to_json())
    before = load_predictor(tmp_path, device="cpu", engine="onnx", convert=write_onnx)
    darker = replace(CARD, threshold=0.25, mean=(0.1, 0.1, 0.1))
    (tmp_path / "config.json").write_text(darker.to_json())
    after, expected = (load_predictor(tmp_path, device="cpu", engine=engine) for engine in ("onnx", "torch"))
    assert after.threshold == 0.25
    assert np.abs(after.probs(PHOTO) - expected.probs(PHOTO)).max() < 1e-5
    assert np.abs(after.probs(PHOTO) - before.probs(PHOTO)).max() > 1e-3
    (tmp_path / "config.json").write_text(replace(CARD, model_args={"views": [1, 2]}).to_json())
    with pytest.raises(UsageError, match="no ONNX file of these weights yet"):
        load_predictor(tmp_path, device="cpu", engine="onnx")


def test_a_later_run_needs_no_pytorch(weights, tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(PHOTO))
    code = "import sys; sys.modules |= {'torch': None, 'timm': None}\nfrom cracktool.cli import main\nmain()"
    command = [sys.executable, "-c", code, "infer", tmp_path / "a.png", "-o", tmp_path / "masks", "-w", weights]
    run = subprocess.run([*command, "--dtype", "float32", "--debug"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, f"{tmp_path / 'masks' / 'a.png'}\n"), run.stderr
    assert "normless on CPU (ONNX Runtime) in float32, the fastest here" in run.stderr
    expected = load_predictor(weights, device="cpu", dtype="float32", engine="torch").mask(PHOTO)
    assert np.array_equal(read_mask(tmp_path / "masks" / "a.png"), expected)


def test_what_cannot_be_done(weights, monkeypatch, tmp_path):
    with pytest.raises(UsageError, match=r"no engine 'onxx' \(did you mean onnx"):
        load_network(weights, engine="onxx")
    with pytest.raises(UsageError, match="in float32 here, not in bfloat16"):
        load_network(weights, engine="onnx", dtype="bfloat16")
    with pytest.raises(UsageError, match="on the CPU here, not on cuda"):
        load_network(weights, engine="openvino", device="cuda")
    with pytest.raises(WeightsError, match="weights of normless, not of unet"):
        load_network(weights, engine="onnx", model="unet")
    with pytest.raises(UsageError, match=r"torch does not run \.onnx files \(use --engine onnx, or"):
        load_network(converted_file(weights), engine="torch")
    assert isinstance(load_network(converted_file(weights), engine="openvino"), OpenVinoNetwork)
    torch.save(Normless().state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"run by PyTorch, not by onnx.*crack export"):
        load_network(tmp_path / "w.pth", model="normless", engine="onnx")
    monkeypatch.setenv("CRACKTOOL_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=r"no ONNX file of these weights yet.*export_model"):
        load_network(weights, device="cpu", engine="onnx")
    monkeypatch.setenv("CRACKTOOL_CACHE", str(weights / "file"))
    with pytest.raises(OutputError, match=r"cannot be made a folder.*CRACKTOOL_CACHE"):
        load_network(weights, device="cpu", engine="onnx", convert=write_onnx)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"ONNX Runtime is not installed \(pip install onnxruntime\)"):
        load_network(weights, device="cpu", engine="onnx")


@pytest.mark.slow
def test_the_command_converts_once_and_says_so(weights, tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(PHOTO))
    code = "from networks import main\nmain()"
    env = {**os.environ, "CRACKTOOL_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, "infer", tmp_path / "a.png", "-w", weights, "--dtype", "float32"]
    for engine, says in (("openvino", True), ("onnx", False), ("torch", False)):
        run = subprocess.run(
            [*command, "--engine", engine, "-o", tmp_path / engine], capture_output=True, text=True, env=env, check=True
        )
        assert ("converting the weights" in run.stderr) == says
    (mask, *others) = [read_mask(tmp_path / engine / "a.png") for engine in ("torch", "onnx", "openvino")]
    assert all(np.array_equal(mask, other) for other in others)
    assert 0.02 < mask.mean() < 0.98


@pytest.mark.slow
def test_the_first_mask_is_there_at_once(tmp_path):
    script = ROOT / "benchmarks" / "infer_start.py"
    env = {**os.environ, "CRACKTOOL_CACHE": str(tmp_path)}
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=env)
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["processor_seconds"]["onnx"] < 0.7 * figures["processor_seconds"]["torch"]
    if os.getloadavg()[0] > os.cpu_count() / 2 + 1:  # the run itself keeps half of two cores busy
        pytest.skip("the machine is busy with other work, so wall-clock seconds say nothing")
    assert figures["seconds"]["onnx"] < 2.5
