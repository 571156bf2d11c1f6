"""Authors' checkpoints: every published wrapper is opened, no code in a file is run, the tensors get our names."""

import os
import pickle
import random
import sys
import tempfile
import types
import warnings
import zipfile

import numpy as np
import pytest
import torch
from parity import TOLERANCE, deviation, own_tensors, reference
from torch import nn

from cracktool import checkpoints
from cracktool.card import file_digest
from cracktool.checkpoints import read_authors
from cracktool.errors import UsageError, WeightsError
from cracktool.export import export_safetensors
from cracktool.inference import load_network
from cracktool.models import FAMILIES, SYSTEMS, build_model, model_statistics
from cracktool.registry import ENDINGS, REGISTRY, Published, cache_folder, find_published, weights_path
from cracktool.weights import load_weights

TENSORS = {"conv.weight": torch.arange(6.0).reshape(1, 2, 3), "norm.num_batches_tracked": torch.tensor(7)}
TINY = "pspnet_test_resnet"


class History:
    """What mmengine pickles of its history: numpy arrays in an object of its own."""

    def __init__(self):
        self._log_history = np.array([0.5, 0.25])
        self.max_length = 1000


@pytest.fixture
def history(monkeypatch):
    """A history that is pickled as mmengine's, which is not installed."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = type("HistoryBuffer", (History,), {"__module__": module.__name__})
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        yield module.HistoryBuffer()


def mmengine_file(tensors, history):
    return {
        "meta": {"epoch": 3, "iter": np.int64(20_000), "dataset_meta": {"classes": ("background", "crack")}},
        "message_hub": {"log_scalars": {"train/loss": history}, "runtime_info": {"best": np.float64(0.8)}},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": np.float32(1e-4)}]},
        "state_dict": tensors,
    }


def khanhha_file(tensors):
    return {"model": tensors, "epoch": 9, "valid_loss": np.float64(0.1), "train_loss": torch.tensor(0.2)}


def save(content, path, **options):
    torch.save(content, path, **options)
    return path


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        khanhha_file,
        lambda tensors: {"state_dict": tensors, "arch": "unet"},
        lambda tensors: {"model_state_dict": tensors, "optimizer_state_dict": {"state": {}}},
        lambda tensors: {"net": tensors, "acc": 0.9},
        lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: khanhha_file({f"module.{name}": tensor for name, tensor in tensors.items()}),
    ],
    ids=["bare", "khanhha", "state_dict", "model_state_dict", "net", "several GPUs", "khanhha, several GPUs"],
)
def test_every_wrapper_is_opened(tmp_path, wrap, new_format):
    path = save(wrap(TENSORS), tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    assert same(read_authors(path), TENSORS)


def test_a_prefix_of_only_some_names_stays(tmp_path):
    tensors = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert same(read_authors(save(tensors, tmp_path / "a.pth")), tensors)


def test_what_mmengine_stores_beside_the_tensors_is_passed_over(tmp_path, history):
    path = save(mmengine_file(TENSORS, history), tmp_path / "a.pth")
    assert b"HistoryBuffer" in zipfile.ZipFile(path).read("a/data.pkl")
    sys.modules.pop("mmengine.logging.history_buffer")
    before = set(torch.serialization.get_safe_globals())
    assert same(read_authors(path), TENSORS)
    assert set(torch.serialization.get_safe_globals()) == before
    assert "mmengine.logging.history_buffer" not in sys.modules


def test_numbers_of_numpy_before_2_are_passed_over(tmp_path, monkeypatch):
    core = types.ModuleType("numpy.core.multiarray")
    for name in ("scalar", "_reconstruct"):
        make = types.FunctionType((lambda *_: None).__code__, {}, name)
        make.__module__, make.__qualname__ = core.__name__, name
        setattr(core, name, make)

    class Old:
        def __init__(self, make, *arguments):
            self.reduced = make, arguments

        def __reduce__(self):
            return self.reduced

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "numpy.core", types.ModuleType("numpy.core"))
        patch.setitem(sys.modules, core.__name__, core)
        number = Old(core.scalar, np.dtype("f8"), b"\0" * 8)
        array = Old(core._reconstruct, np.ndarray, (0,), b"b")
        path = save({"state_dict": TENSORS, "loss": number, "history": [array]}, tmp_path / "a.pth")
    assert b"numpy.core.multiarray" in zipfile.ZipFile(path).read("a/data.pkl")
    assert same(read_authors(path), TENSORS)


def test_a_stand_in_keeps_nothing_and_does_nothing():
    stand_in = checkpoints._PassedOver("anything", 3)
    stand_in.__setstate__({"a": 1})
    assert stand_in.__dict__ == {}


class Malicious:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        read_authors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 300 + len(str(path))
    return str(caught.value)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(("call", "name"), [(os.system, f"{os.name}.system"), (eval, "eval"), (os.mkdir, "mkdir")])
def test_a_file_that_would_run_code_is_refused(tmp_path, call, name, new_format):
    trap = tmp_path / "trap"
    argument = {os.system: f"mkdir '{trap}'", eval: f"__import__('os').mkdir({str(trap)!r})", os.mkdir: str(trap)}[call]
    content = {"state_dict": TENSORS, "epoch": Malicious(call, argument)}
    path = save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    before = set(torch.serialization.get_safe_globals())
    said = refusal(path)
    assert f"{name} could run any code" in said
    assert "save the network's state_dict()" in said
    assert not trap.exists()
    assert set(torch.serialization.get_safe_globals()) == before


def test_the_trap_of_that_test_works(tmp_path):
    path = save({"epoch": Malicious(os.mkdir, str(tmp_path / "trap"))}, tmp_path / "a.pth")
    torch.load(path, weights_only=False)
    assert (tmp_path / "trap").is_dir()


class OwnNetwork(nn.Module):
    pass


def test_a_whole_network_is_refused(tmp_path):
    said = refusal(save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "a.pth"))
    assert "it holds a whole network: reading torch.nn.modules.container.Sequential could run any code" in said
    assert "OwnNetwork could run any code" in refusal(save({"model": OwnNetwork()}, tmp_path / "b.pth"))


def test_a_torchscript_program_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "a.pt")
    assert "a TorchScript program" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "only list"),
        (torch.zeros(3), "only Tensor"),
        ({"epoch": 3, "best": 0.5}, "only epoch, best"),
        ({}, "only nothing"),
        ({"model": {}}, "only model"),
        ({"model": {"a": torch.zeros(1), "b": 3}}, "only model"),
        ({3: torch.zeros(1)}, "only 3"),
    ],
)
def test_files_without_a_state_dict(tmp_path, content, words):
    said = refusal(save(content, tmp_path / "a.pth"))
    assert f"there is no state dict in it, {words} (with its authors' code" in said


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.97])
def test_a_file_cut_short(tmp_path, new_format, share):
    path = save(TENSORS, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "damaged, or not a checkpoint of PyTorch (copy it again)" in refusal(path)


@pytest.mark.parametrize("data", [b"hello" * 100, b"\xff" * 100, b"PK\3\4" * 50, pickle.dumps({"a": 1})])
def test_a_file_of_another_kind(tmp_path, data):
    (tmp_path / "a.bin").write_bytes(data)
    assert "damaged, or not a checkpoint" in refusal(tmp_path / "a.bin")


def test_a_folder_or_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "missing.pth"):
        assert "cannot be read" in refusal(path)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "before 1.6"])
def test_changed_bytes_give_tensors_or_one_line(tmp_path, new_format):
    path = save(khanhha_file(TENSORS), tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    data = path.read_bytes()
    dice = random.Random(0)
    said = []
    for _ in range(80):
        changed = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(data) // (1 if new_format else 2))] = dice.randrange(256)
        path.write_bytes(changed)
        try:
            read_authors(path)
        except WeightsError as error:
            said.append(str(error))
    assert len(said) > 10
    assert not [line for line in said if "\n" in line]


# From here on: the tensors under our names, with a card.


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(TINY).eval()


@pytest.fixture
def authors_file(network, tmp_path):
    unused = {"encoder.layer3.0.conv1.weight": torch.zeros(1), "encoder.layer4.0.conv1.weight": torch.zeros(1)}
    return save(khanhha_file(network.state_dict() | unused), tmp_path / "model.pth")


def test_an_authors_file_becomes_a_checkpoint(network, authors_file):
    loaded = load_weights(authors_file, model=TINY)
    assert same(loaded.model.state_dict(), network.state_dict())
    assert not loaded.model.training
    assert loaded.digest == file_digest(authors_file)
    mean, std = model_statistics(TINY)
    assert (loaded.card.model, loaded.card.mean, loaded.card.std) == (TINY, mean, std)
    assert (loaded.card.stride, loaded.card.scale) == (8, 1)
    assert (loaded.card.threshold, loaded.card.tile, loaded.card.data, loaded.card.licence) == (0.5, 512, (), "")


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_of_authors(authors_file, ending):
    path = authors_file.rename(authors_file.with_suffix(ending))
    assert load_weights(path, model=TINY).card.model == TINY


def test_half_precision_becomes_float32(network, tmp_path):
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()
    }
    loaded = load_weights(save(half, tmp_path / "half.pt"), model=TINY).model.state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32, torch.int64}


def test_the_model_must_be_named(authors_file):
    with pytest.raises(UsageError, match=r"model.pth: an authors' file does not say its network \(add --model NAME;"):
        load_weights(authors_file)
    known = authors_file.rename(authors_file.with_name("model_unet_vgg_16_best.pt"))
    with pytest.raises(UsageError, match=r"add --model khanhha_unet_vgg16 if it is that of https://github.com/khanhha"):
        load_weights(known)


def test_a_model_misspelt(authors_file):
    with pytest.raises(UsageError, match=r"did you mean .*pspnet_test_resnet"):
        load_weights(authors_file, model="pspnet_test_resnett")


@pytest.mark.parametrize(
    ("drop", "add", "words"),
    [
        ("segmentation_head.0.bias", None, "1 tensors missing, such as segmentation_head.0.bias"),
        (None, "decoder.extra", "1 tensors unknown, such as decoder.extra"),
    ],
)
def test_tensors_of_another_network(network, tmp_path, drop, add, words):
    tensors = {name: tensor for name, tensor in network.state_dict().items() if name != drop}
    tensors |= {add: torch.zeros(1)} if add else {}
    with pytest.raises(WeightsError, match=rf"a.pth: the tensors do not fit the network: {words} \(check"):
        load_weights(save(tensors, tmp_path / "a.pth"), model=TINY)


def test_exported_weights_need_no_model_any_more(authors_file, tmp_path):
    original = load_weights(authors_file, model=TINY)
    export_safetensors(original, tmp_path / "a.safetensors")
    again = load_weights(tmp_path / "a.safetensors")
    assert same(again.model.state_dict(), original.model.state_dict())
    assert again.card.created
    assert again.card.mean == original.card.mean


# From here on: the published checkpoints.


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CRACKTOOL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def tiny_published(monkeypatch):
    entry = Published(
        model=TINY, file="best.pth", page="https://github.com/a/b", data="walls", licence="MIT",
        threshold=0.3, tile=64, mean=(0.0,) * 3, std=(1.0,) * 3,
    )  # fmt: skip
    monkeypatch.setitem(REGISTRY, "tiny_walls", entry)
    return entry


@pytest.mark.parametrize("named", [True, False], ids=["model named", "model from the table"])
def test_a_published_name_is_found_in_the_cache(network, cache, tiny_published, named):
    path = save(network.state_dict(), cache / "best.pth")
    assert weights_path("tiny_walls") == path
    loaded = load_weights("tiny_walls", model=TINY if named else None)
    assert same(loaded.model.state_dict(), network.state_dict())
    card = loaded.card
    assert (card.model, card.threshold, card.tile, card.stride) == (TINY, 0.3, 64, 8)
    assert (card.mean, card.std) == ((0.0,) * 3, (1.0,) * 3)
    assert (card.data, card.licence) == (("walls (https://github.com/a/b)",), "MIT")


def test_a_published_name_runs(network, cache, tiny_published):
    save(network.state_dict(), cache / "best.pth")
    ready = load_network("tiny_walls", device=torch.device("cpu"), dtype=torch.float32)
    tiles = torch.arange(64 * 64 * 3).remainder(256).to(torch.uint8).view(1, 64, 64, 3)
    with torch.no_grad():
        expected = network(tiles.permute(0, 3, 1, 2) / 255).sigmoid()[:, 0]  # plain 0 to 1, as the table says
    torch.testing.assert_close(ready(tiles), expected)
    assert ready.card.threshold == 0.3


def test_another_file_of_a_published_model_has_its_preprocessing_but_not_its_origin(network, tmp_path, tiny_published):
    card = load_weights(save(network.state_dict(), tmp_path / "mine.pth"), model=TINY).card
    assert (card.threshold, card.tile, card.mean, card.std) == (0.3, 64, (0.0,) * 3, (1.0,) * 3)
    assert (card.data, card.licence) == ((), "")


def test_a_published_name_that_contradicts_the_model(network, cache, tiny_published):
    save(network.state_dict(), cache / "best.pth")
    with pytest.raises(WeightsError, match=f"these are weights of {TINY}, not of unet_resnet18.*leave --model out"):
        load_weights("tiny_walls", model="unet_resnet18")


@pytest.mark.parametrize("name", REGISTRY)
def test_a_published_name_that_is_not_there(cache, name):
    with pytest.raises(WeightsError) as caught:
        load_weights(name)
    said = str(caught.value)
    assert said.startswith(f"{cache / REGISTRY[name].file}: the weights {name} are not there; licence: ")
    assert f"get them as {REGISTRY[name].page} says, and put them there" in said


def test_a_published_name_misspelt(cache):
    with pytest.raises(WeightsError, match=r"no such weights file.*did you mean khanhha_vgg16"):
        load_weights("khanha_vgg16")


def test_a_file_of_that_name_comes_first(cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "khanhha_vgg16").touch()
    assert weights_path("khanhha_vgg16").resolve() == tmp_path / "khanhha_vgg16"


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("CRACKTOOL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("CRACKTOOL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "cracktool" / "checkpoints"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "cracktool" / "checkpoints"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])  # as in a container of a user without a name
    assert cache_folder().is_relative_to(tempfile.gettempdir())


@pytest.mark.parametrize("name", REGISTRY)
def test_the_table_of_published_checkpoints(name):
    published = REGISTRY[name]
    assert published.page.startswith("https://github.com/")
    assert published.page.count("/") == 4
    assert published.file.endswith(ENDINGS)
    assert [other.file for other in REGISTRY.values()].count(published.file) == 1
    assert find_published(published.model, published.file) is published
    assert 0 < published.threshold < 1
    assert (published.mean is None) == (published.std is None)
    assert published.model in SYSTEMS or published.model.partition("_")[0] in FAMILIES
    assert model_statistics(published.model)


def test_the_published_settings():
    def settings(model):
        published = find_published(model, "")
        return published.threshold, published.tile

    assert settings("khanhha_unet_vgg16") == settings("khanhha_unet_resnet101") == (0.2, 448)
    assert settings("crackrefinenet") == settings("crackformer2") == (0.5, 512)
    assert settings("unet_resnet101") == settings("weak_unet_resnet50") == (0.5, 448)
    plain = find_published("pspnet_resnet18", "")
    assert (plain.mean, plain.std) == ((0.0,) * 3, (1.0,) * 3)
    assert model_statistics("crackformer2") == ((0.0,) * 3, (1.0,) * 3)  # the authors evaluate on values of 0 to 1
    assert find_published("unet_resnet18", "") is None


# Fixture -> our model, and which of its outputs is ours; None where the authors' lies at another size.
FIXTURES = {
    "khanhha_unet_vgg16": ("khanhha_unet_vgg16", "logits"),
    "khanhha_unet_resnet34": ("khanhha_unet_resnet34", "logits"),
    "khanhha_unet_resnet101": ("khanhha_unet_resnet101", "logits"),
    "smp_unet_resnet101": ("unet_resnet101", "logits"),
    "smp_pspnet_resnet18": ("pspnet_resnet18", "logits"),
    "crackrefinenet": ("crackrefinenet", "logits"),
    "crackformer2": ("crackformer2", "fused"),
    "skamlo_unet_resnet50": ("weak_unet_resnet50", "mask_logits"),
    "hrnet_ocr": ("hrnet_ocr", None),
}


def as_published(fixture, tensors, history):
    """Return what the authors of a fixture save: its tensors in their wrapper."""
    if fixture.startswith("khanhha"):
        return khanhha_file(tensors)
    if fixture == "crackrefinenet":
        return mmengine_file(tensors, history)
    if fixture == "hrnet_ocr":
        return {f"model.{name}": tensor for name, tensor in tensors.items()} | {"loss.weight": torch.ones(2)}
    return tensors


@pytest.mark.parametrize(
    "fixture",
    [pytest.param(name, marks=() if name == "smp_pspnet_resnet18" else pytest.mark.slow) for name in FIXTURES],
)
def test_the_authors_numbers_come_out_of_their_file(shared, tmp_path, history, fixture):
    model, output = FIXTURES[fixture]
    theirs = reference(shared, fixture)
    path = save(as_published(fixture, theirs.tensors, history), tmp_path / "best.pth")
    network = load_weights(path, model=model).model
    assert same(network.state_dict(), own_tensors(network, theirs.tensors))
    if output is not None:
        with torch.no_grad():
            found = network.double()(theirs.x.double())
        assert deviation(found, theirs.outputs[output]) <= TOLERANCE[torch.float64]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["csbsr_pspnet", "csbsr_hrnet_ocr"])
def test_both_halves_of_csbsr_come_out_of_one_file(shared, tmp_path, model):
    tensors = {
        f"module.{half}.{name}": tensor
        for half, fixture in (("segmentation_model", model), ("sr_model", "csbsr_kbpn"))
        for name, tensor in reference(shared, fixture).tensors.items()
    }
    network = load_weights(save(tensors, tmp_path / "latest.pth"), model=model).model
    assert same(network.state_dict(), own_tensors(network, tensors))
