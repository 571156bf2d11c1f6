import csv
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import NORMLESS
from PIL import Image

from cracktool.card import Card
from cracktool.config import Augment, TrainConfig, read_recipe, recipe_names, resolve
from cracktool.device import choose_device
from cracktool.errors import InputError, OutputError, UsageError, WeightsError
from cracktool.images import read_image
from cracktool.manifest import Entry, write_manifest
from cracktool.models import SYSTEMS, build_model
from cracktool.training import (
    EpochEnded,
    Finished,
    Started,
    Stepped,
    build_optimizer,
    learning_rate,
    train,
)
from cracktool.training.state import new_state
from cracktool.weights import load_weights, read_weights, save_weights

MODEL = "unet_test_resnet"


def make_data(folder: Path, count: int = 8, *, splits=("train", "train", "train", "val")) -> Path:
    """Grey pictures with one dark line each."""
    rng = np.random.default_rng(0)
    entries = []
    for index in range(count):
        image = rng.integers(120, 200, (70, 90, 3), dtype=np.uint8)
        mask = np.zeros((70, 90), np.uint8)
        column = 10 + 9 * (index % 8)
        image[:, column : column + 4] //= 4
        mask[:, column : column + 4] = 255
        for kind, picture in (("images", image), ("masks", mask)):
            path = folder / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        entries.append(
            Entry(
                image=f"images/{index}.png",
                mask=f"masks/{index}.png",
                split=splits[index % len(splits)],
                group=str(index),
                source="",
                height=70,
                width=90,
                crack_fraction=0.04,
                label="cracked",
                sha1="",
            )
        )
    write_manifest(folder / "manifest.csv", entries)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(data):
    return TrainConfig(
        model=MODEL,
        pretrained=False,
        data=(str(data),),
        size=64,
        batch_size=2,
        epochs=2,
        workers=0,
        dtype="float32",
        augment=Augment(blur=0.5, noise=0.5, zoom=(0.7, 1.4)),
        model_args={"decoder_channels": (16, 16, 16, 8, 8)},
    )


@pytest.fixture
def normless(monkeypatch):
    """Let there be a network to which a batch is the sum of its samples."""
    for name, system in NORMLESS.items():
        monkeypatch.setitem(SYSTEMS, name, system)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return read_weights(path)[0]


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def assert_same(one: Path, other: Path) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def assert_close(one: Path, other: Path, *, atol: float = 1e-6) -> None:
    left, right = tensors(one), tensors(other)
    for name in left:
        assert torch.allclose(left[name], right[name], atol=atol), name


def test_a_run_tells_what_happens_and_leaves_everything(config, tmp_path):
    events = list(train(config, tmp_path / "run"))
    assert [type(event) for event in events] == [
        Started, *[Stepped] * 3, EpochEnded, *[Stepped] * 3, EpochEnded, Finished,
    ]  # fmt: skip
    assert (events[0].train_images, events[0].val_images, events[0].batches_per_epoch) == (6, 2, 3)
    assert [event.batch for event in events if isinstance(event, Stepped)] == [1, 2, 3, 4, 5, 6]
    assert (events[0].ranks, {event.images for event in events if isinstance(event, Stepped)}) == (1, {2})
    assert not events[-1].stopped_early
    written = "best.safetensors config.toml curves.png first_batch.png last.pt last.safetensors metrics.csv"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == written.split()
    table = rows(tmp_path / "run")
    assert [row["epoch"] for row in table] == ["1", "2"]
    assert float(table[1]["val_iou"]) == [e.val_iou for e in events if isinstance(e, EpochEnded)][1]
    for picture in ("curves.png", "first_batch.png"):
        assert min(read_image(tmp_path / "run" / picture).shape[:2]) > 100
    card = load_weights(tmp_path / "run").card
    assert card.model == MODEL
    assert card.scores[0]["images"] == 2
    assert card.scores[0]["iou"] == round(events[-1].val_iou, 4)


def test_a_network_learns_a_dark_line(config, tmp_path):
    config = replace(config, epochs=6, lr=1e-2, epoch_samples=16, augment=Augment())
    events = [event for event in train(config, tmp_path) if isinstance(event, EpochEnded)]
    assert events[-1].train_loss < events[0].train_loss / 2
    assert max(event.val_iou for event in events) > 0.6


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "optimizer": "sgd", "schedule": "poly", "warmup_steps": 2}])
def test_resume_equals_an_undisturbed_run(config, tmp_path, changes):
    config = replace(config, **changes)
    list(train(config, tmp_path / "whole"))
    for event in train(config, tmp_path / "parts"):
        if isinstance(event, Stepped) and event.batch == 5:
            break  # in the middle of the second epoch
    events = list(train(config, tmp_path / "parts", resume=True))
    assert events[0].first_epoch == 2
    for name in ("best.safetensors", "last.safetensors"):
        assert_same(tmp_path / "whole" / name, tmp_path / "parts" / name)
    columns = ("epoch", "train_loss", "val_iou")
    scores = [[[row[column] for column in columns] for row in rows(tmp_path / run)] for run in ("whole", "parts")]
    assert scores[0] == scores[1]


def test_loader_processes_make_no_difference(config, tmp_path):
    list(train(config, tmp_path / "none"))
    list(train(replace(config, workers=2), tmp_path / "two"))
    assert_same(tmp_path / "none" / "last.safetensors", tmp_path / "two" / "last.safetensors")


def test_accumulated_batches_equal_a_larger_one(config, normless, tmp_path):
    config = replace(config, epochs=1, epoch_samples=8, optimizer="sgd", loss="bce", model="normless", model_args={})
    list(train(replace(config, batch_size=4), tmp_path / "large"))
    list(train(replace(config, batch_size=2, accumulate=2), tmp_path / "small"))
    assert_close(tmp_path / "large" / "last.safetensors", tmp_path / "small" / "last.safetensors")


def test_what_is_left_of_a_pass_makes_a_step_too(config, normless, tmp_path):
    config = replace(config, epochs=1, epoch_samples=6, optimizer="sgd", loss="bce", model="normless", model_args={})
    list(train(replace(config, accumulate=2), tmp_path / "rest"))  # 2 + 1 batches
    list(train(replace(config, accumulate=3), tmp_path / "whole"))
    rest, whole = (tensors(tmp_path / run / "last.safetensors") for run in ("rest", "whole"))
    assert any(not torch.equal(rest[name], whole[name]) for name in rest)
    list(train(replace(config, accumulate=50), tmp_path / "one"))
    assert_close(tmp_path / "whole" / "last.safetensors", tmp_path / "one" / "last.safetensors")


def test_patience_ends_a_run_that_no_longer_gets_better(config, tmp_path):
    config = replace(config, epochs=30, patience=2, lr=1e-12)  # the first epoch is the best
    events = list(train(config, tmp_path))
    assert events[-1].stopped_early
    assert sum(isinstance(event, EpochEnded) for event in events) == 3
    again = list(train(config, tmp_path, resume=True))
    assert [type(event) for event in again] == [Started, Finished]


@pytest.mark.slow  # half a minute of compiling
def test_compiled_networks_learn_alike(config, normless, tmp_path):
    config = replace(config, epochs=1, model="normless", model_args={}, ema=0.5)
    list(train(config, tmp_path / "plain"))
    list(train(replace(config, compile=True), tmp_path / "compiled"))
    assert_close(tmp_path / "plain" / "last.safetensors", tmp_path / "compiled" / "last.safetensors", atol=1e-4)


def test_tensorboard_shows_the_run_where_it_is_installed(config, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = list(train(config, tmp_path))
    shown = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    scores = [event.val_iou for event in events if isinstance(event, EpochEnded)]
    assert [each.value for each in shown.Scalars("validation/iou")] == pytest.approx(scores)
    assert len(shown.Scalars("loss/step")) == 6


@pytest.mark.slow  # the networks of CSBSR take a minute each
@pytest.mark.parametrize("name", sorted(set(recipe_names()) - {"weak_two_stage"}))
def test_every_recipe_takes_a_step_and_keeps_its_weights(name, data, tmp_path):
    short = {"data": [str(data)], "data_weights": [], "pretrained": False, "init": "", "workers": 0, "dtype": "float32"}
    config = resolve(
        [read_recipe(name), short], ["size=64", "batch_size=2", "epochs=2", "epoch_samples=2", "val_images=1"]
    )
    events = list(train(config, tmp_path))
    assert isinstance(events[-1], Finished)
    load_weights(tmp_path)


@pytest.mark.slow
def test_kill_and_resume_through_the_command(config, tmp_path):
    def command(folder: str, *more: str) -> list[str]:
        options = ["--recipe", str(tmp_path / "recipe.toml"), "-o", str(tmp_path / folder)]
        return [sys.executable, "-m", "cracktool", "train", *options, *more]

    (tmp_path / "recipe.toml").write_text(replace(config, epochs=4, epoch_samples=40).to_toml())
    subprocess.run(command("whole"), check=True, capture_output=True)
    process = subprocess.Popen(command("parts"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    metrics = tmp_path / "parts" / "metrics.csv"
    while process.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    subprocess.run(command("parts", "--resume"), check=True, capture_output=True)
    for name in ("best.safetensors", "last.safetensors"):
        assert_same(tmp_path / "whole" / name, tmp_path / "parts" / name)


def test_what_a_killed_run_left_half_written_is_removed(config, tmp_path):
    half = tmp_path / "run" / ".0123456789abcdef.part"
    half.parent.mkdir()
    half.write_bytes(b"half a state")
    next(train(config, tmp_path / "run"))
    assert not half.exists()


def test_best_is_the_best(config, tmp_path):
    ended = [event for event in train(replace(config, epochs=4, lr=0.02), tmp_path) if isinstance(event, EpochEnded)]
    best = max(ended, key=lambda event: event.val_iou)
    assert load_weights(tmp_path).card.scores[0]["epoch"] == best.epoch
    assert [event.best for event in ended][best.epoch - 1]


def test_init_starts_from_weights(config, tmp_path):
    list(train(replace(config, epochs=1), tmp_path / "first"))
    still = replace(config, epochs=1, lr=1e-12, init=str(tmp_path / "first"), weight_decay=0.0, optimizer="sgd")
    list(train(still, tmp_path / "second"))
    first, second = tensors(tmp_path / "first" / "last.safetensors"), tensors(tmp_path / "second" / "last.safetensors")
    assert torch.allclose(first["segmentation_head.0.weight"], second["segmentation_head.0.weight"], atol=1e-6)


def test_initial_weights_say_how_their_input_is_normalised_and_what_they_learned(config, tmp_path):
    tensors = build_model(MODEL, **config.model_args).state_dict()
    terms = {"data": ("DeepCrack-537: non-commercial",), "licence": "non-commercial use only"}
    asis = Card(model=MODEL, model_args=config.model_args, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), **terms)
    save_weights(tmp_path / "asis.safetensors", tensors, asis)
    config = replace(config, init=str(tmp_path / "asis.safetensors"))
    assert new_state(config, choose_device("cpu")).card.mean == asis.mean
    interrupted = train(config, tmp_path / "run")
    next(event for event in interrupted if isinstance(event, EpochEnded))
    interrupted.close()
    (tmp_path / "asis.safetensors").unlink()
    list(train(config, tmp_path / "run", resume=True))
    card = load_weights(tmp_path / "run" / "last.safetensors").card
    assert (card.mean, card.std) == (asis.mean, asis.std)
    assert (card.data, card.licence) == ((*asis.data, *config.data), asis.licence)


def test_authors_weights_begin_with_their_own_normalisation(tmp_path, data):
    file = tmp_path / "PSPnet_best_model.pth"
    torch.save(build_model("pspnet_resnet18").state_dict(), file)
    config = TrainConfig(model="pspnet_resnet18", init=str(file), data=(str(data),))
    state = new_state(config, choose_device("cpu"))
    assert (state.card.mean, state.card.std, state.fresh) == ((0.0,) * 3, (1.0,) * 3, ())


def test_init_takes_what_fits_and_says_what_does_not(config, tmp_path):
    list(train(replace(config, epochs=1), tmp_path / "first"))
    config = replace(config, init=str(tmp_path / "first"))
    started = next(train(replace(config, model_args={"decoder_channels": (8, 4)}), tmp_path / "second"))
    assert "segmentation_head.0.weight" in started.fresh
    assert not any(name.startswith("encoder.") for name in started.fresh)
    with pytest.raises(WeightsError, match=r"none of its \d+ tensors fits"):
        next(train(replace(config, model="fcdensenet67", model_args={}), tmp_path / "third"))


def test_frozen_parts_keep_weights_and_statistics(config, tmp_path):
    list(train(replace(config, epochs=1), tmp_path / "first"))
    list(train(replace(config, init=str(tmp_path / "first"), frozen=("encoder",), ema=0.5), tmp_path / "second"))
    before, after = (tensors(tmp_path / run / "last.safetensors") for run in ("first", "second"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "encoder.bn1.running_mean" in before
    assert changed == {name for name in before if not name.startswith("encoder.")}


def test_frozen_norms_keep_their_statistics_alone(config, tmp_path):
    list(train(replace(config, epochs=1), tmp_path / "first"))
    list(train(replace(config, init=str(tmp_path / "first"), frozen_norms=True), tmp_path / "second"))
    before, after = (tensors(tmp_path / run / "last.safetensors") for run in ("first", "second"))
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert "encoder.bn1.running_mean" in kept
    assert kept == {name for name in before if "running_" in name or "num_batches" in name}


def test_a_folder_with_a_run_is_refused(config, tmp_path):
    list(train(replace(config, epochs=1), tmp_path))
    before = (tmp_path / "best.safetensors").read_bytes()
    with pytest.raises(OutputError, match="--resume"):
        next(train(config, tmp_path))
    with pytest.raises(UsageError, match="other settings"):
        next(train(replace(config, lr=0.5), tmp_path, resume=True))
    assert (tmp_path / "best.safetensors").read_bytes() == before
    (tmp_path / "config.toml").unlink()
    with pytest.raises(OutputError, match=r"would be overwritten, and there is no config\.toml"):
        next(train(config, tmp_path))
    assert (tmp_path / "best.safetensors").read_bytes() == before


def test_a_run_that_came_to_nothing_is_in_nobodys_way(config, tmp_path):
    with pytest.raises(UsageError, match="loss is no longer a number"):
        list(train(replace(config, lr=1e30, optimizer="sgd"), tmp_path))
    assert (tmp_path / "config.toml").is_file()
    assert isinstance(list(train(replace(config, epochs=1), tmp_path))[-1], Finished)


@pytest.fixture(scope="module")
def whole_state(tmp_path_factory):
    """The state and settings of a short run."""
    folder = tmp_path_factory.mktemp("whole")
    config = TrainConfig(
        model=MODEL, pretrained=False, data=(str(make_data(folder / "data")),), epochs=1, size=32, batch_size=2,
        workers=0, tile=64, device="cpu",
    )  # fmt: skip
    list(train(config, folder / "run"))
    return config, folder / "run"


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle", "list", "other"])
def test_a_damaged_state_is_refused(whole_state, tmp_path, damage):
    config, run = whole_state
    shutil.copytree(run, tmp_path / "run")
    state = tmp_path / "run" / "last.pt"
    contents = {
        "cut": state.read_bytes()[:1000],
        "empty": b"",
        "text": b"text",
        "pickle": b"\x80\x02garbage",
        "list": saved([1]),
        "other": saved({"model": 1}),
    }
    state.write_bytes(contents[damage])
    with pytest.raises(WeightsError, match=r"last\.pt: cannot be resumed from: it is damaged, or of another network"):
        next(train(config, tmp_path / "run", resume=True))


def test_a_run_goes_on_in_as_many_processes_as_it_began_with(whole_state, tmp_path):
    config, run = whole_state
    shutil.copytree(run, tmp_path / "run")
    state = torch.load(run / "last.pt", weights_only=True)
    (tmp_path / "run" / "last.pt").write_bytes(saved(state | {"ranks": 2}))
    with pytest.raises(UsageError, match=r"another number of processes than 2: there are 1.*--nproc-per-node 2"):
        next(train(config, tmp_path / "run", resume=True))


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_a_damaged_table_is_refused(whole_state, tmp_path):
    config, run = whole_state
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").write_bytes(b"\xff\xfe\xe4")
    with pytest.raises(InputError, match=r"metrics\.csv: cannot be read"):
        list(train(config, tmp_path / "run", resume=True))


def test_a_run_goes_on_where_its_first_weights_are_gone(config, tmp_path):
    list(train(replace(config, epochs=1), tmp_path / "first"))
    config = replace(config, epochs=2, init=str(tmp_path / "first"))
    interrupted = train(config, tmp_path / "second")
    next(event for event in interrupted if isinstance(event, EpochEnded))
    interrupted.close()
    shutil.rmtree(tmp_path / "first")
    assert isinstance(list(train(config, tmp_path / "second", resume=True))[-1], Finished)


def test_a_batch_that_is_too_small_for_norms_is_told_and_the_advice_helps(config, tmp_path):
    data = make_data(tmp_path / "data", 2, splits=("train", "val"))
    config = replace(config, data=(str(data),), model_args={}, size=32, epochs=1)
    with pytest.raises(UsageError, match=r"batch norm cannot learn from one sample.*epoch_samples"):
        list(train(config, tmp_path / "run"))
    list(train(replace(config, epoch_samples=2), tmp_path / "run"))


def test_a_state_that_does_not_fit_on_the_disk_is_told_with_its_name(whole_state, tmp_path):
    config, run = whole_state
    most = (run / "last.pt").stat().st_size - 100
    assert (run / "best.safetensors").stat().st_size < most
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(OutputError, match=r"last\.pt: cannot be written: File too large"):
            list(train(config, tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_next_command_is_one_that_works(whole_state, tmp_path):
    config, _ = whole_state
    data = Path(config.data[0]).rename(tmp_path / "da ta")
    settings = ("--size", "32", "--batch-size", "2", "--set", "workers=0", "--set", "tile=64", "--device", "cpu")
    named = ("--model", "pspnet_resnet18", "--no-pretrained", "--data", data, "-o", tmp_path / "ru n", "--epochs", "1")
    command = [sys.executable, "-m", "cracktool", "train", *map(str, named), *settings]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
    Path(tmp_path / "da ta").rename(config.data[0])
    assert f"next: crack eval '{data}' --split val --weights '{tmp_path / 'ru n'}'" in told


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "unet_resnet81"}, UsageError, "unet_resnet18"),
        ({"loss": "bce+dize"}, UsageError, "dice"),
        ({"data": ("nowhere",)}, InputError, "nowhere"),
        ({"init": "nowhere.safetensors"}, WeightsError, "nowhere"),
        ({"device": "cuda:7"}, UsageError, "cuda"),
        ({"frozen": ("encodr",)}, UsageError, "begins with 'encodr' .it has decoder, encoder, segmentation_head"),
        ({"frozen": ("encoder", "decoder", "seg")}, UsageError, "all of the network is frozen"),
        ({"frozen": ("encoder",)}, UsageError, "what is frozen has learned nothing yet .set init=WEIGHTS"),
        ({"frozen_norms": True}, UsageError, "what is frozen has learned nothing yet"),
    ],
)
def test_wrong_settings_are_noticed_before_anything_is_written(config, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        next(train(replace(config, **changes), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_set_without_validation_split_is_refused(config, tmp_path):
    data = make_data(tmp_path / "data", 3, splits=("train",))
    with pytest.raises(InputError, match="validation"):
        next(train(replace(config, data=(str(data),)), tmp_path / "run"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "constant"}, {0: 1.0, 99: 1.0}),
        ({"schedule": "constant", "warmup_steps": 10}, {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0}),
        ({"schedule": "cosine"}, {0: 1.0, 50: 0.5, 99: 0.000247}),
        ({"schedule": "poly", "poly_power": 1.0}, {0: 1.0, 25: 0.75, 50: 0.5}),
        ({"schedule": "step", "step_epochs": 3}, {29: 1.0, 30: 0.1, 60: 0.01, 99: 0.001}),
    ],
)
def test_learning_rate(config, settings, expected):
    config = replace(config, lr=1.0, epochs=10, **settings)
    for step, rate in expected.items():
        assert learning_rate(config, step, 10) == pytest.approx(rate, rel=1e-2)


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_weight_decay_spares_norms_and_biases(config, name, kind):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = build_optimizer(model, replace(config, optimizer=name, weight_decay=0.1))
    assert type(optimizer).__name__ == kind
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(1, 0.1), (3, 0.0)]
    everything = build_optimizer(model, replace(config, optimizer=name, weight_decay=0.1, decay_all=True))
    assert [(len(group["params"]), group["weight_decay"]) for group in everything.param_groups] == [(4, 0.1)]


def test_a_diverging_loss_is_one_clear_error(config, tmp_path):
    with pytest.raises(UsageError, match="lower --lr"):
        list(train(replace(config, lr=1e30, optimizer="sgd", epochs=20), tmp_path))
