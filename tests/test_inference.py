"""Sliding-window inference in memory: tiled equals whole, many photos, any batch, little memory."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cracktool.card import METADATA_KEY, Card
from cracktool.errors import InputError, UsageError, WeightsError
from cracktool.images import encode_png, read_image
from cracktool.inference import (
    Band,
    Broken,
    Finished,
    Opened,
    Predictor,
    load_network,
)
from cracktool.inference.memory import MainMemory
from cracktool.inference.runtimes import OnnxNetwork, OpenVinoNetwork
from cracktool.inference.torch_network import TorchMemory, TorchNetwork
from cracktool.metrics import threshold_level
from cracktool.weights import Checkpoint

CPU = torch.device("cpu")
CARD = Card(model="tiny", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), tile=128, stride=4)
SIZES = [(1, 1), (5, 7), (3, 300), (64, 64), (100, 127), (128, 128), (129, 131), (257, 401), (401, 33), (257, 4001)]


class Tiny(nn.Module):
    """Stride 4, receptive field under 32 px, any input size."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.Conv2d(3, 6, 3, padding=1)
        self.coarse = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Conv2d(14, 1, 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.5)

    def forward(self, x):
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        fine = self.fine(x).relu()
        coarse = F.interpolate(self.coarse(F.max_pool2d(fine, 4)).relu(), scale_factor=4.0, mode="nearest")
        return self.head(torch.cat([fine, coarse], dim=1))[..., :height, :width]


class Red:
    """A network that gives back the red channel; can pretend to have little memory."""

    def __init__(self, *, room=10**9, stride=4, tile=64):
        self.card = Card(model="red", mean=(0, 0, 0), std=(1, 1, 1), tile=tile, stride=stride)
        self.digest, self.memory, self.dtype = "red", TorchMemory(CPU), "float32"
        self.place = "here"
        self.batches, self.room = [], room

    def __call__(self, tiles):
        assert tiles.dtype == torch.uint8
        self.batches.append(len(tiles))
        if len(tiles) > self.room:
            raise torch.OutOfMemoryError("too much")
        return (tiles[..., 0].float() + 0.5) / 256


def tiny_network():
    return TorchNetwork(Checkpoint(Tiny(), CARD, "tiny"), CPU, torch.float32)


def photo(height, width, seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 6 + 1, width // 6 + 1, 3), dtype=np.uint8)
    fine = generator.integers(0, 40, (height, width, 3), dtype=np.uint8)
    return coarse.repeat(6, 0).repeat(6, 1)[:height, :width] // 2 + fine


@torch.inference_mode()
def whole_image(image):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CARD.mean, CARD.std))
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    return Tiny()(((pixels - mean) / std)[None])[0, 0].sigmoid().numpy()


@pytest.mark.parametrize("size", SIZES)
def test_tiled_equals_whole_image(size):
    image = photo(*size)
    probs = Predictor(tiny_network(), overlap=0.5).probs(image)
    assert probs.dtype == np.float32
    assert np.abs(probs - whole_image(image)).max() < 1e-5


@pytest.mark.parametrize("size", [(300, 300), (700, 333), (1, 900)])
def test_tiles_of_one_size_equal_the_whole_image_too(size):
    image = photo(*size)
    predictor = Predictor(tiny_network(), tile=128, overlap=0.5)
    assert np.abs(predictor.probs(image) - whole_image(image)).max() < 1e-5


def test_a_network_that_looks_at_all_it_sees_keeps_its_tile():
    network = Red()
    network.card = replace(network.card, model="pspnet_resnet18")
    assert Predictor(network).tile == network.card.tile
    assert Predictor(Red()).tile == 2 * network.card.tile


def test_of_wide_photos_rows_of_tiles_are_less_tall():
    predictor = Predictor(tiny_network())
    tile = predictor.network.card.tile
    for width, expected in ((10_000, 2 * tile), (10_000_000, tile)):
        rows, columns = predictor.plan(10_000, width)
        assert expected - 64 < rows.tile <= expected
        assert 2 * tile - 64 < columns.tile <= 2 * tile


def test_tiles_show_without_overlap():
    # The equality above is owed to overlap and weights, not to a network that sees single pixels.
    image = photo(256, 384)
    assert np.abs(Predictor(tiny_network(), overlap=0).probs(image) - whole_image(image)).max() > 0.01


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6, 0.9])
@pytest.mark.parametrize("size", [(1, 1), (70, 200), (333, 65)])
def test_identity_round_trips(size, overlap):
    image = photo(*size)
    assert np.array_equal(Predictor(Red(), overlap=overlap).levels(image), image[..., 0])


class Enlarged(Red):
    """Gives the red channel three times as large."""

    def __init__(self):
        super().__init__()
        self.card = replace(self.card, scale=3)

    def __call__(self, tiles):
        return super().__call__(tiles).repeat_interleave(3, 1).repeat_interleave(3, 2)


@pytest.mark.parametrize("size", [(1, 1), (70, 200), (333, 65)])
def test_a_network_that_enlarges_gives_its_own_scale(size):
    image = photo(*size)
    expected = image[..., 0].repeat(3, 0).repeat(3, 1)
    predictor = Predictor(Enlarged(), overlap=0.4)
    assert np.array_equal(predictor.levels(image), expected)
    assert np.array_equal(next(predictor.stream([image], lambda item: item))[1], expected)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 64, None])
@pytest.mark.parametrize("ahead", [0, 3])
def test_any_batch_size_gives_the_same_masks(batch_size, ahead):
    images = [photo(*size, seed=seed) for seed, size in enumerate([(150, 150), (40, 90), (40, 90), (200, 129)])]
    alone = [Predictor(tiny_network()).mask(image) for image in images]
    assert 0.02 < np.mean(alone[0]) < 0.98
    predictor = Predictor(tiny_network(), batch_size=batch_size, ahead=ahead)
    together = [levels >= predictor.level for _, levels in predictor.stream(images, lambda image: image)]
    assert all(map(np.array_equal, alone, together))


def test_quantisation_and_threshold():
    network = tiny_network()
    image = photo(90, 140)
    predictor = Predictor(network, threshold=0.3)
    probs = predictor.probs(image)
    assert np.array_equal(predictor.levels(image), np.minimum(np.floor(probs * 256), 255))
    assert np.array_equal(predictor.mask(image), predictor.levels(image) >= threshold_level(0.3))
    assert predictor.mask(image).sum() > Predictor(network, threshold=0.6).mask(image).sum()


def test_full_certainty_is_the_last_level():
    network = Red()
    network.__class__ = type("One", (Red,), {"__call__": lambda self, tiles: torch.ones(tiles.shape[:3])})
    assert (Predictor(network, overlap=0.6).levels(photo(100, 200)) == 255).all()


def test_tta_averages_four_flips():
    image = photo(60, 80)
    flips = [(lambda a: a), (lambda a: a[::-1]), (lambda a: a[:, ::-1]), (lambda a: a[::-1, ::-1])]
    expected = np.mean([flip(whole_image(flip(image))) for flip in flips], axis=0)
    tta = Predictor(tiny_network(), tta=True).probs(image)
    assert np.abs(tta - expected).max() < 1e-5
    assert np.abs(tta - whole_image(image)).max() > 0.01


def test_tiles_of_many_photos_share_batches():
    network = Red()
    list(Predictor(network, tile=64, batch_size=4).stream([photo(64, 64)] * 6 + [photo(64, 96)], lambda image: image))
    assert network.batches == [4, 4]  # 6 tiles of six photos and the 2 tiles of the seventh
    network.batches.clear()
    list(Predictor(network, batch_size=4).stream([photo(64, 64), photo(32, 64), photo(32, 64)], lambda image: image))
    assert network.batches == [1, 2]  # a small photo gets a small tile, and the batch ends where the shape changes


def test_broken_photos_keep_their_place():
    def read(name):
        if name.startswith("bad"):
            raise InputError("broken", path=name)
        return photo(64, 64, seed=len(name))

    names = ["bad1", "a", "bb", "bad2", "bad3", "ccc", "bad4"]
    results = list(Predictor(Red(), batch_size=8).stream(names, read))
    assert [name for name, _ in results] == names
    assert [isinstance(result, InputError) for _, result in results] == [True, False, False, True, True, False, True]
    assert np.array_equal(results[5][1], read("ccc")[..., 0])


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        list(Predictor(Red()).stream([1], lambda number: number / 0))


def test_bands_come_while_the_photo_is_under_way():
    image = photo(200, 150)
    events = list(Predictor(Red(), tile=64, batch_size=1, overlap=0.5).bands(["x"], lambda _: image))
    bands = [event for event in events if isinstance(event, Band)]
    assert isinstance(events[0], Opened)
    assert events[0].image is image
    assert isinstance(events[-1], Finished)
    assert [band.top for band in bands] == list(np.cumsum([0] + [len(band.levels) for band in bands])[:-1])
    assert len(bands) > 3
    assert max(len(band.levels) for band in bands) <= 64
    assert np.array_equal(np.concatenate([band.levels for band in bands]), image[..., 0])


def test_decoding_runs_ahead_but_not_away():
    decoded, most_ahead = [], []

    def read(index):
        decoded.append(index)
        return photo(8, 8)

    for index, _ in Predictor(Red(), batch_size=1, ahead=2).stream(range(12), read):
        time.sleep(0.01)
        most_ahead.append(max(decoded) - index)
    assert 1 <= max(most_ahead) <= 4  # two waiting, one in hand, one whose batch is full


def test_stopping_early_ends_the_threads():
    before = threading.active_count()
    stream = Predictor(Red(), batch_size=1).stream(range(100), lambda _: photo(8, 8))
    next(stream)
    stream.close()
    until = time.monotonic() + 10  # a thread sees within a fifth of a second that nobody waits for it
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_refuses_what_is_no_photo(image):
    with pytest.raises(InputError, match="not an RGB photo"):
        Predictor(Red()).levels(image)
    (event,) = Predictor(Red()).bands([1], lambda _: image)
    assert isinstance(event, Broken)


@pytest.mark.parametrize(
    "options", [{"tile": 0}, {"overlap": 1.0}, {"batch_size": 0}, {"threshold": 0.0}, {"threshold": 1.5}]
)
def test_refuses_settings(options):
    with pytest.raises(UsageError):
        Predictor(Red(), **options)


def test_settings_follow_the_weights_unless_given():
    network = Red()
    assert Predictor(network).settings() == {
        "tile": 128, "overlap": 0.25, "halo": 16, "threshold": 0.5, "tta": False, "dtype": "float32"
    }  # fmt: skip
    assert Predictor(network, tile=96, threshold=0.2, tta=True).settings()["tile"] == 96


def test_out_of_memory_halves_the_batch_and_says_so():
    network = Red(room=3)
    image = photo(200, 200)
    predictor = Predictor(network, tile=64, batch_size=16)
    assert np.array_equal(predictor.levels(image), image[..., 0])
    assert network.batches[:4] == [16, 8, 4, 2]
    assert max(network.batches[4:]) == 2
    assert len(predictor.warnings) == 3
    assert "going on with 2" in predictor.warnings[-1]
    network.batches.clear()
    predictor.levels(image)
    assert max(network.batches) == 2  # remembered


def test_the_batch_that_fitted_is_remembered_for_the_same_network_tile_and_device(monkeypatch, tmp_path):
    monkeypatch.setenv("CRACKTOOL_CACHE", str(tmp_path))
    image, network = photo(200, 200), Red(room=3)
    Predictor(network, tile=64).levels(image)
    assert max(network.batches) > 3
    again, other = Red(room=3), Red(room=3)
    other.memory.name = "another GPU"
    assert np.array_equal(Predictor(again, tile=64).levels(image), image[..., 0])
    assert max(again.batches) == 2
    for unlike in (Predictor(other, tile=64), Predictor(Red(room=3), tile=48), Predictor(Red(), tile=64, batch_size=5)):
        unlike.levels(image)
        assert max(unlike.network.batches) > 3
    for content in (b"no table", b"[]", b'{"red, tiles of 64 px, float32 on cpu": "x"}'):
        (tmp_path / "batch_sizes.json").write_bytes(content)
        fresh = Predictor(Red(room=3), tile=64)
        fresh.levels(image)
        assert len(fresh.warnings) > 0
    monkeypatch.setenv("CRACKTOOL_CACHE", "/proc/nowhere")
    assert np.array_equal(Predictor(Red(room=3), tile=64).levels(image), image[..., 0])


def test_out_of_memory_for_one_tile_is_one_clear_line():
    with pytest.raises(UsageError, match=r"one tile of 64 x 64 px \(try --tile 32"):
        Predictor(Red(room=0), tile=64).levels(photo(80, 80))


def test_other_runtime_errors_are_no_memory_errors():
    network = Red()
    network.__class__ = type("Bad", (Red,), {"__call__": lambda self, tiles: tiles @ tiles})
    with pytest.raises(RuntimeError):
        Predictor(network).levels(photo(80, 80))


def test_network_in_bfloat16_is_close_and_leaves_the_weights_alone():
    model = Tiny()
    network = TorchNetwork(Checkpoint(model, CARD, "d"), CPU, torch.bfloat16)
    tiles = torch.from_numpy(np.stack([photo(64, 64), photo(64, 64, seed=1)]))
    probs = network(tiles)
    assert probs.dtype == torch.float32
    assert probs.shape == (2, 64, 64)
    assert 0 < (probs - tiny_network()(tiles)).abs().max() < 0.05
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training


def test_on_a_cpu_bfloat16_is_the_format_of_the_weights_too(monkeypatch):
    seen = []
    forward = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: seen.append(x.dtype) or forward(self, x))
    network = load_network(device="cpu", dtype="bfloat16", engine="torch")
    seen.clear()  # folding tried itself out
    probs = network(torch.from_numpy(photo(64, 64)[None]))
    assert set(seen) == {torch.bfloat16}
    assert probs.dtype == torch.float32
    exact = load_network(device="cpu", dtype="float32", engine="torch")(torch.from_numpy(photo(64, 64)[None]))
    assert 0 < (probs - exact).abs().max() < 0.05


def onnx_file(path, convolution, metadata):
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight", "bias"], ["logits"], pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", ["logits"], ["probs"]),
        ],
        "one convolution",
        [helper.make_tensor_value_info("image", floats, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("probs", floats, ["batch", 1, "height", "width"])],
        [onnx.numpy_helper.from_array(value.detach().numpy(), name) for name, value in convolution.named_parameters()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_onnx_gives_the_same_masks(tmp_path):
    convolution = nn.Conv2d(3, 1, 3, padding=1)
    path = onnx_file(tmp_path / "tiny.onnx", convolution, {METADATA_KEY: CARD.to_json()})
    network = load_network(path, device=CPU, dtype=torch.bfloat16)
    assert isinstance(network, OnnxNetwork)
    assert network.card == CARD
    assert len(network.digest) == 64
    image = photo(150, 210)
    expected = Predictor(TorchNetwork(Checkpoint(convolution, CARD, "d"), CPU)).probs(image)
    assert np.ptp(expected) > 0.1
    assert np.abs(Predictor(network).probs(image) - expected).max() < 1e-5
    with pytest.raises(WeightsError, match="weights of tiny, not of unet"):
        load_network(path, model="unet", device=CPU, dtype=torch.float32)


@pytest.fixture(scope="module")
def tiny_onnx(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    return onnx_file(path, nn.Conv2d(3, 1, 3, padding=1), {METADATA_KEY: CARD.to_json()})


@pytest.fixture
def tiny_xml(tiny_onnx, tmp_path):
    openvino = pytest.importorskip("openvino", reason="needs the extra cracktool[openvino]")
    openvino.save_model(openvino.Core().read_model(tiny_onnx), tmp_path / "tiny.xml", compress_to_fp16=False)
    return tmp_path / "tiny.xml"


def test_openvino_gives_the_same_probabilities(tiny_onnx, tiny_xml):
    network = load_network(tiny_xml, dtype="float32")
    assert (network.card, network.dtype, len(network.digest)) == (CARD, "float32", 64)
    assert network.place == "CPU (OpenVINO) in float32 (as asked)"
    for size in ((150, 210), (33, 1)):
        expected = Predictor(load_network(tiny_onnx)).probs(photo(*size))
        assert np.abs(Predictor(network).probs(photo(*size)) - expected).max() < 1e-5
        assert np.abs(Predictor(OpenVinoNetwork(tiny_onnx)).probs(photo(*size)) - expected).max() < 1e-5


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_exported_files_are_run_without_torch(ending, tiny_onnx, tiny_xml, tmp_path):
    weights = {".onnx": tiny_onnx, ".xml": tiny_xml}[ending]
    (tmp_path / "a.png").write_bytes(encode_png(photo(70, 90)))
    code = "import sys; sys.modules['torch'] = None\nfrom cracktool.cli import main\nmain()"
    command = [sys.executable, "-c", code, "infer", tmp_path / "a.png", "-o", tmp_path / "masks", "--weights", weights]
    run = subprocess.run([*command, "--tta", "--debug"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, f"{tmp_path / 'masks' / 'a.png'}\n"), run.stderr
    expected = Predictor(load_network(tiny_onnx), tta=True).mask(photo(70, 90))
    assert np.array_equal(read_image(tmp_path / "masks" / "a.png")[..., 0] == 255, expected)


def test_openvino_files_that_are_none_of_ours(tiny_xml):
    page = tiny_xml.with_name("page.xml")
    for text, message in [
        ("<html/>", "XML file of html, not an OpenVINO model"),
        ("text", "not a whole OpenVINO"),
        ("", "not a whole"),
        (tiny_xml.read_text()[:-500], "not a whole OpenVINO model"),
        (tiny_xml.read_text().replace("cracktool", "other"), "without a cracktool card"),
    ]:
        page.write_text(text)
        page.with_suffix(".bin").write_bytes(tiny_xml.with_suffix(".bin").read_bytes())
        with pytest.raises(WeightsError, match=message):
            load_network(page)
    tiny_xml.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match=r"tiny\.bin with its tensors is not beside it"):
        load_network(tiny_xml)


def test_other_tensors_of_the_same_graph_are_another_digest(tiny_xml):
    before = load_network(tiny_xml).digest
    tensors = bytearray(tiny_xml.with_suffix(".bin").read_bytes())
    tensors[0] ^= 1
    tiny_xml.with_suffix(".bin").write_bytes(tensors)
    assert load_network(tiny_xml).digest != before


def test_what_openvino_cannot_do(tiny_xml, monkeypatch):
    with pytest.raises(UsageError, match="did you mean bfloat16"):
        load_network(tiny_xml, dtype="bfloat61")
    with pytest.raises(UsageError, match="on the CPU here, not on cuda"):
        load_network(tiny_xml, device="cuda")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match=r'pip install "cracktool\[openvino\]"'):
        load_network(tiny_xml)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_onnx_runtime_takes_the_cuda_device_asked_for_or_says_that_it_cannot(tiny_onnx, monkeypatch, capfd):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(UsageError, match="cuda here, not on cuda:x"):
        OnnxNetwork(tiny_onnx, "cuda:x")
    asked, real = [], onnxruntime.InferenceSession

    def open_session(*values, providers, **options):
        asked.append(providers)
        return real(*values, providers=providers, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    with pytest.raises(UsageError, match="cannot use this CUDA device"):  # and does not go on by the CPU
        OnnxNetwork(tiny_onnx, "cuda:99")
    assert asked == [[("CUDAExecutionProvider", {"device_id": "99"})]]
    assert capfd.readouterr().out == ""


def test_onnx_files_that_are_none_of_ours(tmp_path):
    with pytest.raises(WeightsError, match="without a cracktool card"):
        OnnxNetwork(onnx_file(tmp_path / "foreign.onnx", nn.Conv2d(3, 1, 3), {}))
    (tmp_path / "text.onnx").write_text("hello world")
    with pytest.raises(WeightsError, match="not a whole ONNX file"):
        load_network(tmp_path / "text.onnx", device=CPU, dtype=torch.float32)


def test_a_file_that_cannot_be_run_is_named(tmp_path):
    path = onnx_file(tmp_path / "large.onnx", nn.Conv2d(3, 1, 99), {METADATA_KEY: CARD.to_json()})
    pytest.importorskip("openvino", reason="needs the extra cracktool[openvino]")
    for network in (OnnxNetwork(path), OpenVinoNetwork(path)):
        with pytest.raises(WeightsError, match=r"large\.onnx: it cannot be run on tiles of 32 x 64 px"):
            network(np.zeros((1, 32, 64, 3), np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (70, 201), (333, 65)])
def test_numpy_and_torch_blend_to_the_same_levels(size):
    class Same(Red):
        def __call__(self, tiles):
            return (tiles[..., 0].astype(np.float32) + 0.5) / 256

    network = Same()
    network.memory = MainMemory()
    for tta in (False, True):
        assert np.array_equal(Predictor(network, overlap=0.6, tta=tta).levels(photo(*size)), photo(*size)[..., 0])


def test_missing_weights(tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        load_network(tmp_path / "none.safetensors", device=CPU, dtype=torch.float32)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_photo():
    script = Path(__file__).parents[1] / "benchmarks" / "infer_memory.py"
    run = subprocess.run([sys.executable, script, "--photos", "200"], capture_output=True, text=True, check=True)
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["times_taller"] == 10
    assert figures["engine_growth"] < 0.15
    assert figures["command_growth"] < 0.15
    assert figures["engine_bytes_per_photo_byte"] < 1.15  # the photo itself; one float per pixel would be 2.33


@pytest.mark.slow
def test_memory_stays_flat_over_many_photos():
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()
    images = [photo(*size) for size in [(120, 160), (200, 90), (64, 64), (300, 300)]]
    resident = [
        process.memory_info().rss
        for _ in Predictor(tiny_network()).stream(range(500), lambda index: images[index % 4].copy())
    ]
    early, late = np.median(resident[100:200]), np.median(resident[-100:])
    assert late - early < 4 * 2**20  # every fifth photo kept would be 5.6 MiB


@pytest.mark.gpu
def test_cuda_gives_the_masks_of_the_cpu():
    images = [photo(300, 500), photo(90, 90), photo(90, 90)]
    network = TorchNetwork(Checkpoint(Tiny(), CARD, "tiny"), torch.device("cuda"), torch.float32)
    on_gpu = [levels for _, levels in Predictor(network).stream(images, lambda image: image)]
    on_cpu = [Predictor(tiny_network()).levels(image) for image in images]
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(on_gpu, on_cpu, strict=True))
