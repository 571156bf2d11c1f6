"""Checkpoints: bit-equal after saving, a card that says everything, and one line for each way to be wrong."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cracktool import registry
from cracktool.card import METADATA_KEY, SCHEMA, Card, file_digest
from cracktool.errors import OutputError, WeightsError
from cracktool.models import build_model
from cracktool.registry import shipped_weights, weights_path
from cracktool.weights import load_tensors, load_weights, read_weights, save_weights

NAME = "unet_test_resnet"
ARGUMENTS = {"decoder_channels": [8, 4, 4, 4, 4]}
CARD = Card(
    model=NAME,
    model_args=ARGUMENTS,
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
    tile=64,
    stride=32,
    threshold=0.4,
    data=("walls, CC0", "ceramic, MIT"),
    licence="CC0",
    scores=({"data": ["walls"], "split": "val", "iou": 0.5},),
    created="2026-01-02",
)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(NAME, **ARGUMENTS).eval()


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(path, model.state_dict(), CARD)
    return path


def test_everything_comes_back_bit_equal(model, file):
    loaded = load_weights(file)
    assert loaded.card == CARD
    assert loaded.digest == hashlib.sha256(file.read_bytes()).hexdigest() == file_digest(file)
    assert not loaded.model.training
    mine, theirs = model.state_dict(), loaded.model.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    x = torch.randn(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.model(x), model(x))


def test_saving_the_same_gives_the_same_file(model, file):
    again = file.with_name("b.safetensors")
    save_weights(again, model.state_dict(), CARD)
    assert file_digest(again) == file_digest(file)
    save_weights(again, model.state_dict() | {"segmentation_head.0.bias": torch.ones(1)}, CARD)
    assert file_digest(again) != file_digest(file)


def test_an_unwritable_place(model, file):
    with pytest.raises(OutputError, match="cannot be written"):
        save_weights(file / "below.safetensors", model.state_dict(), CARD)


def test_half_precision_files_load_in_float32(model, tmp_path):
    path = tmp_path / "half.safetensors"
    half = {
        name: value.bfloat16() if value.is_floating_point() else value for name, value in model.state_dict().items()
    }
    save_weights(path, half, CARD)
    loaded = load_weights(path).model.state_dict()
    assert {value.dtype for value in loaded.values()} == {torch.float32, torch.int64}
    assert all(torch.equal(loaded[name], value.to(loaded[name].dtype)) for name, value in half.items())


def test_card_round_trip():
    assert Card.from_json(CARD.to_json()) == CARD
    smallest = Card(model="unet_resnet18", mean=(0.0,) * 3, std=(1.0,) * 3)
    assert Card.from_json(smallest.to_json()) == smallest
    assert "\n" not in CARD.to_json()


def test_a_card_may_hold_more_than_this_version_knows():
    assert Card.from_json(json.dumps(json.loads(CARD.to_json()) | {"mood": "good"})) == CARD


def changed(**values):
    return json.dumps(json.loads(CARD.to_json()) | values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the card in it cannot be read"),
        ("[]", "the card in it cannot be read"),
        ("3", "the card in it cannot be read"),
        ("{}", "'schema' is missing"),
        (json.dumps({"schema": 1}), "cannot be read: .*model"),
        (changed(schema="new"), "the card in it cannot be read"),
        (changed(schema=None), "the card in it cannot be read"),
        (changed(schema=SCHEMA + 1), f"schema {SCHEMA + 1}, this version reads up to {SCHEMA}.*pip install --upgrade"),
        (json.dumps({"schema": 7, "network": "other fields"}), "schema 7, this version reads"),
        (changed(model=3), "model cannot be right"),
        (changed(model_args=[1]), "model cannot be right"),
        (changed(mean=[0.5]), "mean and std cannot be right"),
        (changed(mean=["a", "b", "c"]), "mean and std cannot be right"),
        (changed(mean=[float("nan"), 0, 0]), "mean and std cannot be right"),
        (changed(model_args={"name": "unet"}), "model_args cannot be right"),
        (changed(mean=0.5), "the card in it cannot be read"),
        (changed(std=[1, 0, 1]), "mean and std cannot be right"),
        (changed(channel_order="BGR"), "channel_order cannot be right"),
        (changed(tile="large"), "cannot be r"),
        (changed(stride=0), "tile, stride and scale cannot be right"),
        (changed(threshold=1.5), "threshold cannot be right"),
        (changed(threshold="low"), "the card in it cannot be read"),
    ],
)
def test_cards_that_are_refused(text, message):
    with pytest.raises(WeightsError, match=f"^w.safetensors: .*{message}"):
        Card.from_json(text, path="w.safetensors")


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.99])
def test_a_file_cut_short(file, share):
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(WeightsError, match=r"a.safetensors: not a whole safetensors file.*copy it again") as caught:
        load_weights(file)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("data", [b"hello" * 100, b"\xff" * 100])
def test_a_file_of_another_kind(file, data):
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_weights(file)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_no_card(model, tmp_path, metadata):
    path = tmp_path / "plain.safetensors"
    save_file({name: value.clone() for name, value in model.state_dict().items()}, path, metadata)
    with pytest.raises(WeightsError, match=r"without a cracktool card.*crack train"):
        load_weights(path)


def test_read_weights_gives_tensors_and_card(model, file):
    tensors, card = read_weights(file)
    assert card == CARD
    assert tensors.keys() == load_file(file).keys() == model.state_dict().keys()


def test_the_callers_model(file):
    assert load_weights(file, model=NAME).card.model == NAME
    with pytest.raises(WeightsError, match=f"these are weights of {NAME}, not of unet_resnet18.*leave --model out"):
        load_weights(file, model="unet_resnet18")


@pytest.mark.parametrize("change", [{"model": "hrnet_w99"}, {"model_args": {"depth": 9}}])
def test_a_network_that_this_version_lacks(model, tmp_path, change):
    path = tmp_path / "new.safetensors"
    save_weights(path, model.state_dict(), Card.from_json(changed(**change)))
    with pytest.raises(WeightsError, match=r"new.safetensors: this version cannot build its network.*--upgrade"):
        load_weights(path)


def edited(model, *, drop=(), add=(), reshape=()):
    tensors = {name: value for name, value in model.state_dict().items() if name not in drop}
    tensors |= {name: torch.zeros(1) for name in add}
    return tensors | {name: torch.zeros(7, 7) for name in reshape}


HEAD, BIAS = "segmentation_head.0.weight", "segmentation_head.0.bias"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"drop": (HEAD, BIAS)}, f"2 tensors missing, such as {BIAS}"),
        ({"add": ("fc.weight",)}, "1 tensors unknown, such as fc.weight"),
        ({"reshape": (HEAD,)}, f"1 tensors of another shape, such as {HEAD}"),
        (
            {"drop": (BIAS,), "add": ("x",), "reshape": (HEAD,)},
            f"1 tensors missing, such as {BIAS}; 1 tensors unknown, such as x; "
            f"1 tensors of another shape, such as {HEAD}",
        ),
    ],
)
def test_tensors_that_do_not_fit(model, tmp_path, edit, message):
    tensors = edited(model, **edit)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=re.escape(f"t.pth: the tensors do not fit the network: {message} (check")):
        load_tensors(model, tensors, path="t.pth")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    save_weights(tmp_path / "t.safetensors", tensors, CARD)
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_weights(tmp_path / "t.safetensors")


def test_a_run_folder_means_its_best_weights(file):
    folder = file.parent
    assert_missing(folder)
    file.rename(folder / "best.safetensors")
    assert weights_path(folder) == weights_path(str(folder)) == folder / "best.safetensors"
    assert load_weights(folder).card == CARD


def assert_missing(path):
    with pytest.raises(WeightsError, match=r"no such weights file.*or a name: fast, accurate, khanhha_vgg16, .*\)"):
        weights_path(path)


def test_missing_and_unknown_files(tmp_path):
    assert_missing(tmp_path / "missing.safetensors")
    for name, ending in (("a.zip", ".zip ending"), ("plain", "no ending")):
        (tmp_path / name).touch()
        with pytest.raises(WeightsError, match=f"{name}: {ending} is not a known kind"):
            load_weights(tmp_path / name)


@pytest.mark.parametrize(("spec", "name"), [(None, "fast"), ("fast", "fast"), ("accurate", "accurate")])
def test_the_weights_that_ship(file, monkeypatch, tmp_path, spec, name):
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(registry, "SHIPPED_FOLDERS", (first, second))
    with pytest.raises(WeightsError, match=rf"lacks crack-{name}\.safetensors.*install cracktool again"):
        load_weights(spec)
    for folder in (second, first):
        folder.mkdir()
        (folder / f"crack-{name}.safetensors").write_bytes(file.read_bytes())
        assert weights_path(spec) == shipped_weights(name) == folder / f"crack-{name}.safetensors"
    assert load_weights(spec).card == CARD


def test_a_file_comes_before_the_weights_that_ship_under_its_name(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("accurate").write_bytes(file.read_bytes())
    assert weights_path("accurate") == Path("accurate")
    with pytest.raises(WeightsError, match="did you mean accurate"):
        weights_path("acurate")


def test_the_key_of_the_card_in_the_file(file):
    assert METADATA_KEY.encode() in file.read_bytes()[:10_000]
