import datetime
import json
import math
import os
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from networks import picture
from torch import nn

from cracktool import export
from cracktool.card import METADATA_KEY, Card
from cracktool.datasets.synthetic import make_sample
from cracktool.errors import CrackError, InputError, OutputError, UsageError, WeightsError
from cracktool.export import (
    ExportOptions,
    choose_format,
    export_hub,
    export_model,
    export_safetensors,
    form,
    int8,
    onnx_file,
    parity,
)
from cracktool.images import encode_png, read_image, write_mask
from cracktool.inference import Predictor, load_network
from cracktool.inference.torch_network import TorchNetwork
from cracktool.models import build_model, model_statistics
from cracktool.models.padding import PaddedModel
from cracktool.weights import Checkpoint, load_weights, read_weights, with_views

onnx = pytest.importorskip("onnx", reason="needs the extra cracktool[export]")

CARD = Card(model="tiny", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), tile=48, stride=4, threshold=0.4)
ODD_SIZES = [(1, 1, 1), (2, 31, 97), (5, 64, 33), (1, 7, 160), (3, 128, 65)]
EXAMPLES = Path(__file__).parents[1] / "examples"


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


def checkpoint(name, tile=64):
    torch.manual_seed(0)
    mean, std = model_statistics(name)
    network = build_model(name)
    card = Card(model=name, mean=mean, std=std, tile=tile, stride=network.stride)
    with torch.no_grad():  # random weights give one grey; spread it, so that a wrong graph shows
        logits = network.eval()(picture(96, 96))
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
    return export_model(tiny, tmp_path_factory.mktemp("export") / "tiny.onnx").path


@pytest.fixture
def no_translation(tiny_file, monkeypatch):
    # The check is on trial, not the exporter, which takes seconds.
    monkeypatch.setattr(export, "build_onnx", lambda *_: tiny_file.read_bytes())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        sample = make_sample(number, shape_hw=(70, 90))
        (folder / f"{number}.png").write_bytes(encode_png(sample.image))
    return folder


@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_any_batch_and_size_gives_the_probabilities_of_torch(tiny, tiny_file, size):
    session = onnxruntime.InferenceSession(tiny_file)
    (found,) = session.run(["probs"], {"image": noise(*size)})
    expected = probabilities(tiny.model, noise(*size))
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (size[0], 1, *size[1:])
    assert found == pytest.approx(expected, abs=1e-5)
    assert size == (1, 1, 1) or np.ptp(expected) > 0.3


def signature(path):
    graph = onnx.load(path).graph
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in [*graph.input, *graph.output]
    ]


def test_inputs_and_outputs_have_the_names_that_the_engine_uses(tiny_file):
    floats = onnx.TensorProto.FLOAT
    assert signature(tiny_file) == [
        ("image", floats, ["batch", 3, "height", "width"]),
        ("probs", floats, ["batch", 1, "height", "width"]),
    ]
    assert {entry.version for entry in onnx.load(tiny_file).opset_import if entry.domain == ""} == {18}


def test_one_file_with_the_weights_inside(tiny_file):
    assert [path.name for path in tiny_file.parent.iterdir()] == ["tiny.onnx"]
    assert not any(tensor.external_data for tensor in onnx.load(tiny_file).graph.initializer)


def test_file_names_no_folder_of_this_machine(tiny_file):
    assert str(Path(export.__file__).parents[1]).encode() not in tiny_file.read_bytes()


def test_metadata_hold_the_card_and_what_other_programs_read(tiny_file):
    metadata = onnxruntime.InferenceSession(tiny_file).get_modelmeta().custom_metadata_map
    assert Card.from_json(metadata.pop(METADATA_KEY)) == CARD
    assert (metadata.pop("input"), metadata.pop("output")) == ("image", "probs")
    assert {key: json.loads(value) for key, value in metadata.items()} == {
        "model_type": "Segmentor",
        "class_names": {"0": "background", "1": "crack"},
        "resolution": 0.1,
        "tile_size": 48,
        "tiles_size": 48,
        "tiles_overlap": 15,
        "standardization_mean": [0.5, 0.4, 0.3],
        "standardization_std": [0.2, 0.25, 0.3],
        "seg_thresh": 0.4,
        "seg_small_segment": 0,
        "names": {"0": "crack"},
        "stride": 4,
        "largest_tile": 96,
    }


def test_checkpoint_is_left_as_it_was_and_nothing_is_printed(tmp_path, no_translation, tiny, capfd):
    network = Tiny(cells=3).train()
    network.load_state_dict(tiny.model.state_dict())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exported = export_model(Checkpoint(network, CARD, ""), tmp_path / "new" / "tiny.onnx")
    assert exported.path.stat().st_size == exported.size
    assert exported.difference <= 1e-3
    assert network.training
    assert isinstance(network.pool, nn.AdaptiveAvgPool2d)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert capfd.readouterr() == ("", "")
    assert not caught


def test_every_installed_runtime_is_compared_and_timed(tiny, no_translation, tmp_path):
    pytest.importorskip("openvino", reason="needs the extra cracktool[openvino]")
    exported = export_model(tiny, tmp_path / "tiny.onnx")
    assert [each.runtime for each in exported.parities] == ["ONNX Runtime", "OpenVINO"]
    assert all(each.milliseconds > 0 and each.torch_milliseconds > 0 for each in exported.parities)
    assert all(each.logits < 1e-3 and each.pixels <= 1e-4 for each in exported.parities)
    assert exported.loss is None


def test_the_photos_of_the_proof_show_both_classes_and_go_in_by_tiles(tiny):
    seen = []

    class Spy(TorchNetwork):
        def __call__(self, tiles):
            seen.append(tuple(tiles.shape[:3]))
            return super().__call__(tiles)

    results = list(parity.run_photos(Spy(tiny, torch.device("cpu"))))
    assert seen[:3] == [(2, 97, 61), (2, 130, 165), (2, 1, 1)]
    assert sum(batch for batch, *_ in seen[3:]) == 20
    assert results[-1].shape == (133, 157)
    assert 0.02 < (results[-1] >= CARD.threshold).mean() < 0.98


def test_a_network_that_enlarges_is_proved_on_smaller_photos(tiny):
    double = Checkpoint(nn.Sequential(tiny.model, nn.Upsample(scale_factor=2)), replace(CARD, scale=2), "")
    shapes = [result.shape[-2:] for result in parity.run_photos(TorchNetwork(double, torch.device("cpu")))]
    assert shapes == [(96, 60), (130, 164), (2, 2), (158, 164)]


@pytest.mark.parametrize("cells", [2, 3, 6])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (7, 64), (33, 20)], ids=str)
def test_pooling_by_products_equals_adaptive_pooling(cells, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(form._GridMean(cells)(x), nn.functional.adaptive_avg_pool2d(x, cells))


class Enlarging(nn.Module):
    """The exporter, which divides towards 0, would pool one row more than its map has."""

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(*(nn.Conv2d(3, 3, kernel_size=3, stride=2, padding=1) for _ in range(3)))
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, x):
        height, width = 4 * x.shape[-2], 4 * x.shape[-1]
        large = nn.functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
        return self.pool(self.down(nn.functional.pad(large, (0, -width % 8, 0, -height % 8))))[:, :1]


def test_sizes_are_divided_as_python_divides_them():
    torch.manual_seed(0)
    options = ExportOptions(embed_sigmoid=False)
    built = form.ExportedForm(Checkpoint(Enlarging().eval(), CARD, ""), options)
    session = onnxruntime.InferenceSession(onnx_file.build_onnx(built))
    for height, width in ((16, 17), (18, 5), (9, 32)):
        image = noise(1, height, width)
        (logits,) = session.run(None, {"image": image})
        np.testing.assert_allclose(logits, built(torch.from_numpy(image)).detach().numpy(), atol=1e-5)


def test_wrong_graph_leaves_no_file(no_translation, tmp_path):
    with pytest.raises(CrackError, match="away from PyTorch"):
        export_model(Checkpoint(Tiny().eval(), CARD, ""), tmp_path / "tiny.onnx")
    (tmp_path / "tiny.onnx").write_bytes(b"old")
    with pytest.raises(CrackError):
        export_model(Checkpoint(Tiny().eval(), CARD, ""), tmp_path / "tiny.onnx", ExportOptions(overwrite=True))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("tiny.onnx", b"old")]


class Spoilt(TorchNetwork):
    """A runtime that gives something else."""

    def __init__(self, tiny, spoil):
        super().__init__(tiny, torch.device("cpu"))
        self.spoil = spoil

    def __call__(self, tiles):
        return self.spoil(super().__call__(tiles))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda probs: probs[..., :-1], "gives shape"),
        (lambda probs: probs * torch.nan, "X gives values that are no numbers on a photo of 61 x 97 px"),
        (
            lambda probs: (probs.logit() + 2e-3).sigmoid(),
            r"X is 0\.002 in logits away .* on a photo of 61 x 97 px",
        ),
    ],
)
def test_a_runtime_that_differs_is_refused(tiny, spoil, message):
    with pytest.raises(CrackError, match=message):
        parity.compare(tiny, {"X": Spoilt(tiny, spoil)}, parity.FLOAT32)


def moved(logits, share, by=0.01):
    """Move a share of the rows; a single row only where all of them are."""
    rows = int(share * logits.shape[-2])
    return torch.cat([logits[..., :rows, :] + by, logits[..., rows:, :]], -2)


def moving(checkpoint, share, by=0.01):
    return Spoilt(checkpoint, lambda probs: moved(probs.logit(), share, by).sigmoid())


class Rounded(nn.Module):
    """A network that gives some rows differently as soon as a weight changes a little."""

    def __init__(self, share):
        super().__init__()
        self.tiny, self.share, self.unit = Tiny(), share, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return moved(self.tiny(x), self.share if self.unit != 1 else 0)


def rounded(share):
    torch.manual_seed(0)
    return Checkpoint(Rounded(share).eval(), CARD, "")


UNPOOLED = parity.float_limits(replace(CARD, model="csbsr_crackformer2"), half=False)


def test_few_pixels_of_a_network_that_unpools_may_differ():
    proof = parity.Proof(rounded(0))
    few = replace(UNPOOLED, further=0.02)
    assert proof.check("X", moving(proof.checkpoint, 0.02), few).logits == pytest.approx(0.01, rel=0.01)
    assert "rounding" not in vars(proof)  # it takes long
    with pytest.raises(CrackError, match=r"X is 0\.01 in logits away"):
        proof.check("X", moving(proof.checkpoint, 0.02), parity.FLOAT32)
    for share, limits in ((0.02, UNPOOLED), (0.03, few)):
        with pytest.raises(CrackError, match=r"of the pixels; rounding explains 0\.00%"):
            proof.check("X", moving(proof.checkpoint, share), limits)


def test_16_bits_of_a_network_that_unpools_may_differ_at_more_pixels_but_not_in_the_mask():
    limits = parity.float_limits(replace(CARD, model="crackformer2"), half=True)
    proof = parity.Proof(rounded(0))
    assert proof.check("X", moving(proof.checkpoint, 0.04, by=0.3), limits).further > 0
    assert limits.pixels == parity.HALF.pixels
    for share, refusing in ((0.04, parity.HALF), (0.06, limits)):
        with pytest.raises(CrackError, match=r"X is 0\.3 in logits away from PyTorch on a photo of 61 x 97 px"):
            proof.check("X", moving(proof.checkpoint, share, by=0.3), refusing)
    assert "rounding" not in vars(proof)


@pytest.mark.parametrize(
    ("of_rounding", "of_file", "message"),
    [
        (0.3, 0.3, None),
        (0.25, 0.3, r"X is more than 0.001 in logits away from PyTorch at 29.* of the pixels; rounding explains 23\."),
        (1, 0.6, r"X is more than 0.001 in logits away from PyTorch at 62.* of the pixels; rounding explains 100\."),
        (1, 0.45, None),
        (1, 1, "X is more than 0.001 in logits away from PyTorch at 100"),
    ],
)
def test_a_file_may_be_as_far_as_rounding_explains(of_rounding, of_file, message):
    proof = parity.Proof(rounded(of_rounding))
    file = moving(proof.checkpoint, of_file)
    if message is None:
        assert proof.check("X", file, UNPOOLED).further > UNPOOLED.further
        return
    with pytest.raises(CrackError, match=message):
        proof.check("X", file, UNPOOLED)


@pytest.mark.parametrize(("of_rounding", "refused"), [(0.2, True), (1, False)])
def test_no_photo_may_be_away_as_a_whole_unless_rounding_moves_it(of_rounding, refused):
    proof = parity.Proof(rounded(of_rounding))

    def spoil(probs):
        return moved(probs.logit(), probs.shape[-2] == 97).sigmoid()  # one of the photos

    if not refused:
        proof.check("X", Spoilt(proof.checkpoint, spoil), UNPOOLED)
        return
    with pytest.raises(CrackError, match=r"X is 0\.01 in logits away from PyTorch on a photo of 61 x 97 px"):
        proof.check("X", Spoilt(proof.checkpoint, spoil), UNPOOLED)


def test_masks_may_be_as_far_as_rounding_explains():
    proof = parity.Proof(rounded(1))
    assert proof.check("X", moving(proof.checkpoint, 0.45, by=0.05), UNPOOLED).pixels > UNPOOLED.pixels
    with pytest.raises(CrackError, match=r"X gives another mask than PyTorch at .* pixels"):
        proof.check("X", moving(proof.checkpoint, 0.45, by=0.5), UNPOOLED)


def test_a_mask_that_differs_is_refused(tiny):
    network = Spoilt(tiny, lambda probs: (probs.logit() + 0.05).sigmoid())
    with pytest.raises(CrackError, match=r"X gives another mask than PyTorch at .* pixels"):
        parity.compare(tiny, {"X": network}, parity.Limits(logits=math.inf, pixels=1e-4))


def test_logits_that_float32_rounds_away_count_as_equal():
    probs = np.float32([0, 1e-9, 0.5, 1 - 1e-6, 1])
    assert parity._logits(probs) == pytest.approx([-7, -7, 0, 7, 7])


def test_graph_that_cannot_run_is_refused_quietly(tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(export, "build_onnx", lambda *_: onnx.ModelProto().SerializeToString())
    with pytest.raises(WeightsError, match="not a whole ONNX file"):
        export_model(tiny, tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


class Branching(nn.Module):
    def forward(self, x):
        return x[:, :1] if x.sum() > 0 else x[:, 1:2]


@pytest.mark.parametrize(
    ("ending", "message"),
    [pytest.param(".onnx", "cannot be expressed", marks=pytest.mark.slow), (".pt2", "cannot be traced")],
)
def test_network_that_cannot_be_expressed_is_named(tmp_path, ending, message):
    with pytest.raises(CrackError, match=f"tiny {message}") as caught:
        export_model(Checkpoint(Branching(), CARD, ""), tmp_path / f"tiny{ending}")
    assert len(str(caught.value)) < 300
    assert not list(tmp_path.iterdir())


def test_openvino_is_two_files_that_give_the_same(tiny, no_translation, tmp_path):
    pytest.importorskip("openvino", reason="needs the extra cracktool[openvino]")
    exported = export_model(tiny, tmp_path / "tiny.xml")
    assert [path.name for path in exported.files] == ["tiny.xml", "tiny.bin"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.bin", "tiny.xml"]
    assert exported.size == sum(path.stat().st_size for path in exported.files)
    assert [each.runtime for each in exported.parities] == ["OpenVINO"]
    assert load_network(exported.path).card == CARD
    half = export_model(tiny, tmp_path / "half.xml", ExportOptions(half=True))
    assert half.files[1].stat().st_size < 0.8 * exported.files[1].stat().st_size
    exported.path.unlink()
    with pytest.raises(OutputError, match=r"tiny\.bin: exists already"):
        export_model(tiny, tmp_path / "tiny.xml")


def test_an_older_pair_of_openvino_stays_one_where_the_disk_is_full(tiny, no_translation, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="needs the extra cracktool[openvino]")
    for name in ("tiny.xml", "tiny.bin"):
        (tmp_path / name).write_text("old")

    def write(path, data):
        if path.suffix == ".bin":  # the larger one
            raise OutputError("cannot be written: No space left on device", path=path)
        path.write_bytes(data)

    monkeypatch.setattr(export, "replace_file", write)
    with pytest.raises(OutputError, match="No space left"):
        export_model(tiny, tmp_path / "tiny.xml", ExportOptions(overwrite=True))
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


class Plain(PaddedModel):
    """The least that can be traced."""

    def __init__(self):
        super().__init__(stride=2)
        self.layer = nn.Conv2d(3, 1, 3, padding=1)

    def forward_padded(self, x):
        return self.layer(x)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    torch.manual_seed(0)
    plain = Checkpoint(Plain().eval(), CARD, "")
    options = ExportOptions(embed_normalisation=True, embed_sigmoid=False)
    return plain, export_model(plain, tmp_path_factory.mktemp("pt2") / "plain.pt2", options)


def test_program_of_torch_export(program):
    plain, exported = program
    assert exported.difference < 1e-3
    network = load_network(exported.path)
    assert (network.card, network.place) == (CARD, "CPU (torch.export)")
    photo = make_sample(0, shape_hw=(75, 133)).image
    expected = Predictor(TorchNetwork(plain, torch.device("cpu"))).probs(photo)
    assert Predictor(network).probs(photo) == pytest.approx(expected, abs=1e-6)
    alone = torch.export.load(exported.path).module()  # as another program has it
    for shape in ((1, 64, 64, 3), (2, 33, 97, 3), (1, 1, 1, 3)):
        pixels = torch.randint(256, shape, dtype=torch.uint8)
        scale, shift = map(torch.from_numpy, CARD.normalisation())
        assert torch.allclose(alone(pixels), plain.model(pixels.permute(0, 3, 1, 2) * scale + shift), atol=1e-5)
    assert str(Path(__file__).parents[1]).encode() not in b"".join(parts(exported.path).values())


def parts(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_programs_that_are_damaged_foreign_or_run_code(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = parts(program[1].path)
    (tmp_path / "cut.pt2").write_bytes(program[1].path.read_bytes()[:-300])
    (tmp_path / "text.pt2").write_text("hello")
    torch.save({"a": Evil()}, tmp_path / "pickle.bin")
    evil = (tmp_path / "pickle.bin").read_bytes()
    spoilt = {
        "sample": {key: evil if "sample_inputs" in key else data for key, data in whole.items()},
        "pickled": {
            key: data.replace(b'"use_pickle": false', b'"use_pickle": true') if key.endswith("_config.json") else data
            for key, data in whole.items()
        },
        "foreign": {key: data for key, data in whole.items() if "/extra/" not in key},
    }
    for name, files in spoilt.items():
        with zipfile.ZipFile(tmp_path / f"{name}.pt2", "w", zipfile.ZIP_STORED) as archive:
            for key, data in files.items():
                archive.writestr(key, data)
    for name in ("cut", "text", *spoilt):
        with pytest.raises(WeightsError, match=f"{name}.pt2: (not a whole program|a program without)"):
            load_network(tmp_path / f"{name}.pt2")
    assert not (tmp_path / "evil").exists()


def test_int8_says_what_it_costs(tiny, no_translation, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "NARROW", 3)  # its first convolution has 4 channels
    exported = export_model(tiny, tmp_path / "int8.onnx", ExportOptions(int8=True, calibrate=photos))
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]
    assert (exported.loss.photos, exported.loss.truth, exported.loss.before) == (3, False, 1.0)
    assert 0.5 < exported.loss.after < 1
    assert exported.loss.points == pytest.approx(100 * (1 - exported.loss.after))
    model = onnx.load(exported.path)
    assert {tensor.data_type for tensor in model.graph.initializer} >= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert load_network(exported.path).card == CARD


@pytest.mark.parametrize("name", ["int8", "half"])
def test_scores_of_float32_are_not_those_of_8_bits(tiny, name):
    scored = replace(tiny, card=replace(CARD, scores=({"iou": 0.5},)))
    facts = form.ExportedForm(scored, ExportOptions(**{name: True})).metadata()
    assert bool(Card.from_json(facts[METADATA_KEY]).scores) == (name == "half")


def test_narrow_ends_of_a_network_keep_their_bits():
    widths = {"first": 16, "second": int8.NARROW, "wide": 64, "later": 8, "last": 1}
    weights = [
        onnx.helper.make_tensor(f"w_{name}", 1, (width, 1, 1, 1), [0.0] * width) for name, width in widths.items()
    ]
    nodes = [onnx.helper.make_node("Conv", ["x", f"w_{name}"], ["x"], name=name) for name in widths]
    cast = onnx.helper.make_node("Cast", ["x"], ["x"], name="cast", to=1)
    model = onnx.helper.make_model(onnx.helper.make_graph([cast, *nodes], "g", [], [], weights))
    assert int8._kept(model) == ["cast", "first", "second", "last"]


def test_int8_is_scored_by_the_masks_of_a_prepared_set(photos, tmp_path):
    from cracktool.manifest import Entry, write_manifest

    entries = []
    for number, split in enumerate(("train", "train", "val")):
        (tmp_path / f"{number}.png").write_bytes((photos / f"{number}.png").read_bytes())
        write_mask(tmp_path / f"m{number}.png", read_image(photos / f"{number}.png")[..., 0] < 99)
        entries.append(
            Entry(
                image=f"{number}.png", mask=f"m{number}.png", split=split, group=str(number), source=str(number),
                height=70, width=90, crack_fraction=0.1, label="cracked", sha1="",
            )
        )  # fmt: skip
    write_manifest(tmp_path / "manifest.csv", entries)
    calibration = int8.read_calibration(tmp_path)
    assert [path.name for path in calibration.photos] == ["0.png", "1.png"]
    assert [(path.name, mask.name) for path, mask in calibration.scored] == [("2.png", "m2.png")]
    write_manifest(tmp_path / "manifest.csv", [])
    with pytest.raises(InputError, match="no photo in this data set"):
        int8.read_calibration(tmp_path)


def test_loss_by_hand(tmp_path):
    class Reds:
        card, digest, dtype, memory, place = replace(CARD, stride=1), "", "float32", int8.OnnxNetwork.memory, ""

        def __init__(self, least):
            self.least = least

        def __call__(self, tiles):
            return (tiles[..., 0] >= self.least).astype(np.float32)

    photo = np.zeros((10, 10, 3), np.uint8)
    photo[:, :4] = 100
    photo[:, :2] = 200
    (tmp_path / "a.png").write_bytes(encode_png(photo))
    write_mask(tmp_path / "m.png", photo[..., 0] == 200)
    pair = (tmp_path / "a.png", tmp_path / "m.png")
    loss = int8.measure_loss(Reds(200), Reds(100), int8.Calibration((), (pair,)))
    assert (loss.before, loss.after, loss.points, loss.truth) == (1.0, 0.5, 50, True)
    loss = int8.measure_loss(Reds(100), Reds(200), int8.Calibration((), ((pair[0], None),)))
    assert (loss.before, loss.after, loss.truth) == (1.0, 0.5, False)
    loss = int8.measure_loss(Reds(250), Reds(250), int8.Calibration((), ((pair[0], None),)))
    assert np.isnan(loss.points), "where nothing shows a crack, no cost can be told"


@pytest.mark.parametrize(
    ("options", "ending", "message"),
    [
        ({"int8": True}, ".onnx", "add --calibrate DIR"),
        ({"int8": True, "calibrate": Path("none")}, ".onnx", "no such folder"),
        ({"int8": True, "half": True}, ".onnx", "one of --half and --int8"),
        ({"int8": True}, ".pt2", r"end the file in \.onnx or \.xml"),
        ({"calibrate": Path()}, ".onnx", "add --int8"),
    ],
)
def test_options_that_do_not_fit(tiny, tmp_path, options, ending, message):
    with pytest.raises((UsageError, InputError), match=message):
        export_model(tiny, tmp_path / f"tiny{ending}", ExportOptions(**options))
    assert not list(tmp_path.iterdir())


def test_plain_weights_heed_no_options():
    ExportOptions(overwrite=True).refuse_all("hf")
    with pytest.raises(UsageError, match="hf keeps the weights as they are"):
        ExportOptions(half=True).refuse_all("hf")


@pytest.mark.parametrize(
    ("name", "given", "kind"),
    [
        ("a.onnx", None, "onnx"),
        ("a.xml", None, "openvino"),
        ("a.pt2", "pt2", "pt2"),
        ("a", "hf", "hf"),
        ("a.b", "hf", "hf"),
    ],
)
def test_format_follows_the_ending_unless_given(name, given, kind):
    assert choose_format(Path(name), given) == kind


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("crack", None, r"no ending is no format.*\.onnx.*--format hf"),
        ("crack.onnx.data", None, r"\.data ending is no format"),
        ("crack.onnx", "openvino", r"end it in \.xml"),
        ("crack.onnx", "hf", "it is a folder"),
        ("crack.onnx", "onx", "did you mean onnx"),
    ],
)
def test_other_formats_are_refused(name, given, message):
    with pytest.raises(UsageError, match=message):
        choose_format(Path(name), given)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript", "openvino"])
def test_missing_extra_gives_the_command(tiny, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    extra = "openvino" if missing == "openvino" else "export"
    with pytest.raises(UsageError, match=rf'{missing}, which.*pip install "cracktool\[{extra}\]"'):
        export_model(tiny, tmp_path / "tiny.xml")


def test_weights_too_large_for_one_file_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "SIZE_LIMIT", 100)
    with pytest.raises(UsageError, match="GiB of weights"):
        export_model(tiny, tmp_path / "tiny.onnx")


def test_operators_of_the_future_are_named(tiny_file, tmp_path):
    model = onnx.load(tiny_file)
    model.opset_import[0].version = 99
    (tmp_path / "future.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=r"cannot read its opset 99 \(pip install --upgrade onnxruntime"):
        load_network(tmp_path / "future.onnx")
    (tmp_path / "cut.onnx").write_bytes(tiny_file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a whole ONNX file"):
        load_network(tmp_path / "cut.onnx")


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
    with pytest.raises(UsageError, match="another function"):
        export_model(tiny, path)
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        export_safetensors(tiny, path)
    assert path.read_bytes() == b"mine"
    export_safetensors(tiny, path, overwrite=True)
    assert read_weights(path)[1].model == "tiny"


def test_model_folder_loads_back(tmp_path):
    original = checkpoint("unet_test_resnet")
    card = replace(original.card, licence="for research: ask", data=("walls, CC0",), scores=({"iou": 0.5},))
    export_hub(Checkpoint(original.model, card, ""), tmp_path / "hub")
    assert sorted(path.name for path in (tmp_path / "hub").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert (config["architectures"], config["model_type"], config["tile"]) == (["unet_test_resnet"], "cracktool", 64)
    readme = (tmp_path / "hub" / "README.md").read_text()
    assert readme.startswith("---\nlibrary_name: cracktool\n")
    assert 'license_name: "for research: ask"' in readme
    assert all(line in readme for line in ("- walls, CC0", "- iou 0.5", "--weights hub/"))
    loaded = load_weights(tmp_path / "hub")
    assert replace(loaded.card, created="") == card
    assert torch.equal(loaded.model(picture(33, 65)), original.model(picture(33, 65)))
    with pytest.raises(OutputError, match="exists already"):
        export_hub(original, tmp_path / "hub")


def test_model_folder_whose_tensors_lost_their_card(tmp_path):
    from safetensors.torch import save_file

    original = checkpoint("unet_test_resnet")
    card = export_hub(original, tmp_path)
    save_file(original.model.state_dict(), tmp_path / "model.safetensors")  # as other programs write it again
    assert load_weights(tmp_path).card == card
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"config\.json: the card in it cannot be read"):
        load_weights(tmp_path)


def test_existing_file_is_refused_unless_overwrite(tiny, no_translation, tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        export_model(tiny, path)
    assert path.read_bytes() == b"mine"
    assert export_model(tiny, path, ExportOptions(overwrite=True)).size == path.stat().st_size > 4


def crack(monkeypatch, *arguments):
    from cracktool.cli import main

    monkeypatch.setattr(sys, "argv", ["crack", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def test_the_command_reports_and_names_the_next(tiny, no_translation, photos, tmp_path, monkeypatch, capsys):
    from cracktool import weights

    monkeypatch.setattr(weights, "load_weights", lambda spec, model: tiny)
    out = tmp_path / "a b.onnx"
    for options in ([], ["--int8", "--calibrate", str(photos), "--overwrite", "--quiet"]):
        assert not crack(monkeypatch, "export", "-o", out, *options)
        printed = capsys.readouterr()
        assert printed.out == f"{out}\n"
        if not options:
            head, torch_row, onnx_row, *_ = printed.err.splitlines()
            assert head.startswith("runtime\tms per tile of 48 px\tof PyTorch's time\tlogits")
            assert (torch_row.split("\t")[0], onnx_row.split("\t")[0]) == ("PyTorch", "ONNX Runtime")
            assert "MB, opset 18" in printed.err
            assert f"next: crack infer photos/ -o masks/ --weights '{out}'" in printed.err
    assert printed.err.startswith("8 bits cost ")  # even so
    assert "against float32's own masks of 3 photos" in printed.err


def test_views_go_into_the_weights(tmp_path, monkeypatch, capsys):
    out = tmp_path / "fine.safetensors"
    assert not crack(monkeypatch, "export", "--views", "1,2.0", "-o", out, "-q")
    fine, plain = load_weights(out), load_weights()
    assert fine.card.model_args == plain.card.model_args | {"views": [1, 2]}
    assert fine.card.largest_tile == plain.card.tile  # its second look has four times the pixels
    assert plain.card.scores
    assert not fine.card.scores  # another network's
    x = picture(64, 96)
    with torch.no_grad():
        twice = nn.functional.avg_pool2d(plain.model(nn.functional.interpolate(x, scale_factor=2, mode="bilinear")), 2)
        assert torch.allclose(fine.model(x), (plain.model(x) + twice) / 2, atol=1e-5)
    for wrong, line in (("1;2", "--views '1;2' cannot be read"), ("0", "views is [0], expected numbers from 0.1 to 8")):
        assert crack(monkeypatch, "export", "--views", wrong, "-o", tmp_path / "other.onnx") == 2
        assert line in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["fine.safetensors"]


@pytest.mark.slow
def test_views_in_onnx(tmp_path):
    fine = with_views(checkpoint("unet_efficientnet_lite0"), [0.75, 1, 2])
    assert export_model(fine, tmp_path / "fine.onnx").difference < 1e-3


@pytest.mark.slow
def test_program_in_half(tmp_path):
    torch.manual_seed(0)
    plain = Checkpoint(Plain().eval(), CARD, "")
    exported = export_model(plain, tmp_path / "plain.pt2", ExportOptions(half=True))
    assert 0 < exported.difference < 0.05
    assert {tensor.dtype for tensor in torch.export.load(exported.path).state_dict.values()} == {torch.float16}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"embed_normalisation": True}, {"embed_sigmoid": False}, {"half": True}], ids=str)
def test_forms_of_onnx(tiny, tmp_path, options):
    exported = export_model(tiny, tmp_path / "tiny.onnx", ExportOptions(**options))
    (source, kind, shape), (result, *_) = signature(exported.path)
    if "embed_normalisation" in options:
        assert (source, kind, shape) == ("pixels", onnx.TensorProto.UINT8, ["batch", "height", "width", 3])
        assert "model_type" not in [entry.key for entry in onnx.load(exported.path).metadata_props]
    assert result == ("logits" if "embed_sigmoid" in options else "probs")
    types = {tensor.data_type for tensor in onnx.load(exported.path).graph.initializer}
    assert (onnx.TensorProto.FLOAT16 in types) == ("half" in options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet_resnet18", "unet_efficientnet_lite0", "unet_convnext_tiny", "pspnet_resnet18"])
@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_every_kind_of_network_can_be_exported(tmp_path, name, ending):
    original = checkpoint(name)
    assert export_model(original, tmp_path / f"crack{ending}").difference < 1e-3
