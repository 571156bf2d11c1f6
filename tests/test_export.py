import datetime
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cracktool import export
from cracktool.card import METADATA_KEY, Card
from cracktool.errors import CrackError, OutputError, UsageError
from cracktool.export import export_onnx, export_safetensors
from cracktool.inference import load_network
from cracktool.inference.torch_network import TorchNetwork
from cracktool.models import build_model, model_statistics
from cracktool.models.padding import PaddedModel
from cracktool.weights import Checkpoint, read_weights

onnx = pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra cracktool[export]")

CARD = Card(model="tiny", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), tile=320, threshold=0.4)
ODD_SIZES = [(1, 1, 1), (2, 31, 97), (5, 64, 33), (1, 7, 160), (3, 128, 65)]


class Tiny(PaddedModel):
    """A network that the exporter knows in a second, with padding, pooling to a grid and resizing."""

    def __init__(self, cells=3):
        super().__init__(stride=4)
        self.down = nn.Conv2d(3, 4, kernel_size=4, stride=4)
        self.pool = nn.AdaptiveAvgPool2d(cells)
        self.up = nn.Conv2d(8, 1, kernel_size=1)

    def forward_padded(self, x):
        fine = self.down(x)
        coarse = nn.functional.interpolate(self.pool(fine), size=fine.shape[-2:], mode="bilinear", align_corners=True)
        return nn.functional.interpolate(self.up(torch.cat([fine, 4 * coarse], 1)), size=x.shape[-2:], mode="nearest")


def checkpoint(name):
    torch.manual_seed(0)
    mean, std = model_statistics(name)
    card = Card(model=name, mean=mean, std=std)
    network = build_model(name)
    batch = torch.from_numpy(export._cracked_walls((1, 96, 96), card))
    with torch.no_grad():  # random weights give one grey; spread it, so that a wrong graph shows
        network.eval()
        logits = network(batch)
        head = network.segmentation_head[0]
        head.weight /= logits.std()
        head.bias.sub_(logits.mean()).div_(logits.std())
    return Checkpoint(network, card, "")


def probabilities(network, batch):
    with torch.inference_mode():
        return network(torch.from_numpy(batch)).sigmoid().numpy()


def noise(batch, height, width):
    return np.random.default_rng(height).normal(size=(batch, 3, height, width)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return Checkpoint(Tiny().eval(), CARD, "")


@pytest.fixture(scope="module")
def tiny_file(tiny, tmp_path_factory):
    return export_onnx(tiny, tmp_path_factory.mktemp("export") / "tiny.onnx").path


@pytest.fixture
def no_translation(tiny_file, monkeypatch):
    # The check is on trial, not the exporter, which takes seconds.
    monkeypatch.setattr(export, "_build", lambda network, card: tiny_file.read_bytes())


@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_any_batch_and_size_gives_the_probabilities_of_torch(tiny, tiny_file, size):
    session = onnxruntime.InferenceSession(tiny_file)
    (found,) = session.run(["probs"], {"image": noise(*size)})
    expected = probabilities(tiny.model, noise(*size))
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (size[0], 1, *size[1:])
    assert found == pytest.approx(expected, abs=1e-5)
    assert size == (1, 1, 1) or np.ptp(expected) > 0.3


def test_inputs_and_outputs_have_the_names_that_the_engine_uses(tiny_file):
    graph = onnx.load(tiny_file).graph
    shapes = [
        (value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
        for value in [*graph.input, *graph.output]
    ]
    assert shapes == [("image", ["batch", 3, "height", "width"]), ("probs", ["batch", 1, "height", "width"])]


def test_one_file_with_the_weights_inside(tiny_file):
    assert [path.name for path in tiny_file.parent.iterdir()] == ["tiny.onnx"]
    assert not any(tensor.external_data for tensor in onnx.load(tiny_file).graph.initializer)


def test_file_names_no_folder_of_this_machine(tiny_file):
    assert str(Path(export.__file__).parent).encode() not in tiny_file.read_bytes()


def test_metadata_hold_the_card_and_what_deepness_reads(tiny_file):
    metadata = onnxruntime.InferenceSession(tiny_file).get_modelmeta().custom_metadata_map
    assert Card.from_json(metadata.pop(METADATA_KEY)) == CARD
    assert {key: json.loads(value) for key, value in metadata.items()} == {
        "model_type": "Segmentor",
        "class_names": {"0": "background", "1": "crack"},
        "resolution": 0.1,
        "tile_size": 320,
        "tiles_size": 320,
        "tiles_overlap": 15,
        "standardization_mean": [0.5, 0.4, 0.3],
        "standardization_std": [0.2, 0.25, 0.3],
        "seg_thresh": 0.4,
        "seg_small_segment": 0,
    }


def test_checkpoint_is_left_as_it_was_and_nothing_is_printed(tmp_path, capfd):
    network = Tiny(cells=2).train().to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exported = export_onnx(Checkpoint(network, CARD, ""), tmp_path / "new" / "tiny.onnx")
    assert (exported.path.stat().st_size, exported.opset) == (exported.size, 18)
    assert 0 <= exported.difference <= export.TOLERANCE
    assert exported.checked == export.CHECKED_SIZES
    assert network.training
    assert isinstance(network.pool, nn.AdaptiveAvgPool2d)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, before[name])
    assert capfd.readouterr() == ("", "")
    assert not caught


@pytest.mark.parametrize("cells", [2, 3, 6])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (7, 64), (33, 20)], ids=str)
def test_pooling_by_products_equals_adaptive_pooling(cells, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(export._GridMean(cells)(x), nn.functional.adaptive_avg_pool2d(x, cells))


def test_wrong_graph_leaves_no_file(tiny, no_translation, tmp_path):
    other = Tiny().eval()
    with pytest.raises(CrackError, match="away from PyTorch"):
        export_onnx(Checkpoint(other, CARD, ""), tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())
    assert export_onnx(tiny, tmp_path / "tiny.onnx").difference < 1e-5


def test_network_changed_on_the_way_is_compared_with_the_original(tiny, tmp_path, monkeypatch):
    exact = export._GridMean.forward
    monkeypatch.setattr(export._GridMean, "forward", lambda self, x: 1.1 * exact(self, x))
    with pytest.raises(CrackError, match="away from PyTorch"):
        export_onnx(tiny, tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


def test_wrong_graph_leaves_the_old_file(no_translation, tmp_path):
    (tmp_path / "tiny.onnx").write_bytes(b"old")
    with pytest.raises(CrackError):
        export_onnx(Checkpoint(Tiny().eval(), CARD, ""), tmp_path / "tiny.onnx", overwrite=True)
    assert (tmp_path / "tiny.onnx").read_bytes() == b"old"


@pytest.mark.parametrize(
    "spoil",
    [lambda probs: probs[..., :-1], lambda probs: probs * np.nan, lambda probs: probs + 2e-4],
    ids=["shape", "nan", "too far"],
)
def test_wrong_output_of_the_session_is_refused(tiny, tiny_file, no_translation, tmp_path, monkeypatch, spoil):
    session = onnxruntime.InferenceSession(tiny_file)

    class Spoilt:
        def run(self, names, feeds):
            return [spoil(output) for output in session.run(names, feeds)]

    monkeypatch.setattr(export, "_open_session", lambda data: Spoilt())
    with pytest.raises(CrackError, match="the ONNX graph of tiny"):
        export_onnx(tiny, tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


def test_graph_that_cannot_run_is_refused_quietly(tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(export, "_build", lambda network, card: onnx.ModelProto().SerializeToString())
    with pytest.raises(CrackError, match="ONNX Runtime cannot run tiny"):
        export_onnx(tiny, tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_network_that_onnx_cannot_express_is_named(tmp_path):
    class Branching(nn.Module):
        def forward(self, x):
            return x[:, :1] if x.sum() > 0 else x[:, 1:2]

    with pytest.raises(CrackError, match="tiny") as caught:
        export_onnx(Checkpoint(Branching(), CARD, ""), tmp_path / "tiny.onnx")
    assert len(str(caught.value)) < 300
    assert not list(tmp_path.iterdir())


def test_safetensors_hold_the_tensors_and_the_card(tiny, tmp_path):
    card = export_safetensors(tiny, tmp_path / "tiny.safetensors")
    tensors, found = read_weights(tmp_path / "tiny.safetensors")
    assert found == card == replace(CARD, created=datetime.datetime.now(datetime.UTC).date().isoformat())
    assert tensors.keys() == tiny.model.state_dict().keys()
    assert all(torch.equal(tensors[name], value) for name, value in tiny.model.state_dict().items())
    dated = Checkpoint(tiny.model, replace(CARD, created="2020-01-02"), "")
    assert export_safetensors(dated, tmp_path / "dated.safetensors").created == "2020-01-02"


def test_safetensors_are_written_under_their_ending_and_replace_nothing_unasked(tiny, tmp_path):
    path = tmp_path / "tiny.safetensors"
    with pytest.raises(UsageError, match=r"end it in \.safetensors"):
        export_safetensors(tiny, tmp_path / "tiny.pth")
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        export_safetensors(tiny, path)
    assert path.read_bytes() == b"mine"
    export_safetensors(tiny, path, overwrite=True)
    assert read_weights(path)[1].model == "tiny"


def test_existing_file_is_refused_unless_overwrite(tiny, no_translation, tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        export_onnx(tiny, path)
    assert path.read_bytes() == b"mine"
    assert export_onnx(tiny, path, overwrite=True).size == path.stat().st_size > 4


@pytest.mark.parametrize("name", ["crack.pt2", "crack", "crack.onnx.data"])
def test_other_endings_are_refused(tiny, tmp_path, name):
    with pytest.raises(UsageError, match=r"end it in \.onnx"):
        export_onnx(tiny, tmp_path / name)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_missing_extra_gives_the_command(tiny, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf'{missing}, which.*pip install "cracktool\[export\]"'):
        export_onnx(tiny, tmp_path / "tiny.onnx")


def test_weights_too_large_for_one_file_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "SIZE_LIMIT", 100)
    with pytest.raises(UsageError, match="GiB of weights"):
        export_onnx(tiny, tmp_path / "tiny.onnx")


def test_exported_file_gives_the_mask_of_the_torch_network(tmp_path):
    original = checkpoint("unet_test_resnet")
    path = export_onnx(original, tmp_path / "unet.onnx").path
    network = load_network(path)
    assert network.card == original.card
    tiles = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8))
    expected = TorchNetwork(original, torch.device("cpu"))(tiles)
    found = torch.from_numpy(network(tiles.numpy()))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    sure = (expected - 0.5).abs() > 1e-5
    assert torch.equal((found >= 0.5)[sure], (expected >= 0.5)[sure])
    assert 0.1 < (expected >= 0.5).float().mean() < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet_resnet18", "unet_regnetx_002", "unet_convnext_tiny", "pspnet_resnet18"])
def test_every_kind_of_network_can_be_exported(tmp_path, name):
    original = checkpoint(name)
    path = export_onnx(original, tmp_path / "crack.onnx").path
    session = onnxruntime.InferenceSession(path)
    for size in ODD_SIZES:
        (found,) = session.run(["probs"], {"image": noise(*size)})
        assert found == pytest.approx(probabilities(original.model, noise(*size)), abs=1e-4)
