"""What is learned from: masks, soft masks, image labels alone, degraded photos; and who chooses the checkpoint."""

import csv
import math
from dataclasses import replace

import pytest
import torch
from test_training import make_data, tensors

from cracktool.card import Card
from cracktool.cli import app
from cracktool.config import Augment, TrainConfig
from cracktool.device import choose_device
from cracktool.errors import InputError, UsageError
from cracktool.losses import SR_WEIGHTS, combine, supervise
from cracktool.manifest import read_manifest, write_manifest
from cracktool.models import CSBSR, SYSTEMS, PaddedModel, System, build_model, joint_loss
from cracktool.training import EpochEnded, choose_batch_size, train
from cracktool.training.objective import build_objective, image_logits
from cracktool.training.ranks import Ranks
from cracktool.training.validation import Validation
from cracktool.weights import Checkpoint, load_weights, read_weights

STILL = Augment(hflip=0, vflip=0, quarter_turns=0, brightness=0, contrast=0, saturation=0)


class Fixed(PaddedModel):
    """A network whose outputs are given."""

    def __init__(self, *outputs):
        super().__init__(stride=1)
        self.outputs = outputs

    def forward(self, x):
        return self.outputs if len(self.outputs) > 1 else self.outputs[0]


@pytest.fixture
def config(tmp_path):
    folder = make_data(tmp_path / "data")
    return TrainConfig(
        model="unet_test_resnet",
        pretrained=False,
        data=(str(folder),),
        size=64,
        batch_size=2,
        epochs=2,
        workers=0,
        dtype="float32",
        augment=STILL,
        model_args={"decoder_channels": (16, 16, 16, 8, 8)},
    )


def value(config, outputs, targets, epoch=0):
    return build_objective(config, epoch)(Fixed(*outputs), torch.zeros(1), targets).item()


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(shape[0]))


def test_masks_teach_the_main_output_and_auxiliary_ones_by_their_weight(config):
    main, aux = random(2, 1, 4, 4), random(3, 1, 4, 4)[:2]
    mask = (random(4, 1, 4, 4)[:2] > 0).to(torch.uint8)
    bce = combine("bce")
    config = replace(config, loss="bce", aux_weight=0.3)
    expected = bce(main, mask.float()) + 0.3 * bce(aux, mask.float())
    assert value(config, (main, aux), [mask]) == pytest.approx(expected.item())
    assert value(config, (main,), [mask]) == pytest.approx(bce(main, mask.float()).item())


def test_soft_masks_reach_the_loss_unrounded(config):
    logits, share = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.3)
    config = replace(config, loss="bce")
    assert value(config, (logits + 1,), [share]) == pytest.approx(combine("bce")(logits + 1, share).item())


def test_the_boundary_share_rises_with_the_epoch_up_to_its_cap(config):
    logits, mask = random(1, 1, 9, 9), torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    mask[..., 3:5] = 1
    config = replace(config, loss="boundary_combo", boundary_epochs=4, boundary_cap=0.4)
    for epoch, share in enumerate((0, 0.25, 0.4, 0.4)):
        expected = combine("boundary_combo", alpha=share)(logits, mask.float())
        assert value(config, (logits,), [mask], epoch) == pytest.approx(expected.item())
    whole_run = replace(config, boundary_epochs=0, epochs=10, boundary_cap=1.0)
    expected = combine("boundary_combo", alpha=0.3)(logits, mask.float())
    assert value(whole_run, (logits,), [mask], 3) == pytest.approx(expected.item())


@pytest.mark.parametrize("pooling", ["max", "cam"])
def test_a_label_is_compared_with_the_pooled_logits(config, pooling):
    logits, labels = random(2, 1, 4, 4), torch.tensor([1, 0], dtype=torch.uint8).view(2, 1, 1, 1)
    config = replace(config, loss="bce", supervision="image", fit="resize", pooling=pooling)
    pooled = logits.amax((1, 2, 3)) if pooling == "max" else logits.mean((1, 2, 3))
    expected = combine("bce")(pooled.view(2, 1, 1, 1), labels.float())
    assert value(config, (logits,), [labels]) == pytest.approx(expected.item())
    torch.testing.assert_close(image_logits((logits, -logits), pooling).flatten(), pooled)


@pytest.mark.parametrize("probed", [False, True])
@pytest.mark.parametrize(
    ("changes", "words"),
    [({"degrade": True}, "restores no photos"), ({"model": "bicubic_pspnet", "model_args": {}}, "set degrade=true")],
)
def test_only_a_network_that_restores_can_learn_to(config, tmp_path, changes, words, probed):
    config = replace(config, **changes)
    with pytest.raises(UsageError, match=words):
        choose_batch_size(config) if probed else next(train(config, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_network_that_enlarges_without_restoring_learns_from_the_mask_alone(config):
    main, aux = random(2, 1, 8, 8), random(3, 1, 8, 8)[:2]
    mask = (random(4, 1, 8, 8)[:2] > 0).to(torch.uint8)
    model = Fixed(main, aux)
    model.scale = 4
    config = replace(config, degrade=True, loss="bce", aux_weight=0.3, beta=0.1, restore_epochs=1)
    bce = combine("bce")
    expected = bce(main, mask.float()) + 0.3 * bce(aux, mask.float())
    untouched = [mask, None, None]
    assert build_objective(config, 0)(model, torch.zeros(1), untouched).item() == pytest.approx(expected.item())


def test_restoring_alone_comes_first(config):
    config = replace(config, degrade=True, restore_epochs=1, beta=0.5)
    torch.manual_seed(0)
    model = CSBSR(build_model("unet_test_resnet", decoder_channels=(8,) * 5), features=8, stages=1).train()
    x = torch.rand(2, 3, 16, 16)
    kernel = torch.full((2, 1, 21, 21), 1 / 441)
    targets = [torch.zeros(2, 1, 64, 64, dtype=torch.uint8), torch.zeros(2, 3, 64, 64, dtype=torch.uint8), kernel]

    def detector_gradient(epoch):
        model.zero_grad()
        build_objective(config, epoch)(model, x, targets).backward()
        return sum(p.grad.abs().sum().item() for p in model.segmentation_model.parameters() if p.grad is not None)

    assert detector_gradient(0) == 0
    assert detector_gradient(1) > 0


def test_where_to_restore_best_can_be_chosen(config):
    torch.manual_seed(0)
    model = CSBSR(build_model("unet_test_resnet", decoder_channels=(8,) * 5), features=8, stages=1).eval()
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    mask[..., 20:24] = 1
    targets = [mask, torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.full((1, 1, 21, 21), 1 / 441)]
    x, sharp = torch.rand(1, 3, 16, 16), targets[1].float()
    for name in ("none", "failure", "crack"):
        chosen = replace(config, degrade=True, sr_weights=name, loss="bce", beta=0.5)
        expected = joint_loss(
            model,
            x,
            sharp,
            targets[2],
            mask.float(),
            supervised=supervise(combine("bce"), aux_weight=0.4),
            beta=0.5,
            pixel_weights=SR_WEIGHTS[name],
        )
        assert build_objective(chosen, 0)(model, x, targets).item() == pytest.approx(expected.item())
    assert len({SR_WEIGHTS[name] for name in SR_WEIGHTS}) == 3


def hide_masks(config):
    """Damage every mask: whoever opens one fails."""
    folder = config.data[0]
    manifest = read_manifest(folder)
    for entry in manifest.entries:
        manifest.mask_path(entry).write_bytes(b"not a picture")
    labels = ["cracked", "uncracked"]
    entries = [replace(entry, label=labels[int(entry.group) % 2]) for entry in manifest.entries]
    write_manifest(manifest.folder / "manifest.csv", entries)


def test_with_image_labels_no_mask_is_opened_and_labels_choose_the_checkpoint(config, tmp_path):
    hide_masks(config)
    config = replace(config, supervision="image", fit="resize", epochs=3)
    events = [event for event in train(config, tmp_path / "run") if isinstance(event, EpochEnded)]
    assert all(event.val_iou in (0, 0.5, 1) for event in events)  # two images, one of them cracked: whole counts
    card = load_weights(tmp_path / "run").card
    assert card.scores[0]["protocol"] == "IoU of cracked images by label"
    with pytest.raises(InputError, match="masks"):
        list(train(replace(config, supervision="pixels"), tmp_path / "other"))


@pytest.mark.parametrize(("threshold", "found"), [(0.7, 2), (0.75, 0)])
def test_the_threshold_decides_whether_an_image_counts_as_cracked(config, threshold, found):
    hide_masks(config)
    config = replace(config, supervision="image", fit="resize", threshold=threshold)
    validation = Validation([read_manifest(config.data[0])], config, choose_device("cpu", "float32"), Ranks())
    card = Card(model=config.model, mean=(0, 0, 0), std=(1, 1, 1))
    counts = validation(Checkpoint(Fixed(torch.ones(1, 1, 64, 64)), card, ""))  # of probability 0.73
    assert (counts.tp + counts.fp, counts.fn + counts.tn) == (found, 2 - found)


def test_the_score_is_told_as_one_of_images_where_labels_teach(config, tmp_path, capsys):
    hide_masks(config)
    (tmp_path / "recipe.toml").write_text(replace(config, supervision="image", fit="resize", epochs=1).to_toml())
    words = ["train", "--recipe", tmp_path / "recipe.toml", "-o", tmp_path / "run"]
    app([str(word) for word in words], standalone_mode=False)
    told = capsys.readouterr().err
    assert told.count("IoU of cracked images") == 2
    assert "crack IoU" not in told


def test_labels_are_needed_where_they_alone_teach(config, tmp_path):
    manifest = read_manifest(config.data[0])
    unknown = [replace(entry, label="unknown") for entry in manifest.entries]
    write_manifest(manifest.folder / "manifest.csv", unknown)
    config = replace(config, supervision="image", fit="resize")
    with pytest.raises(InputError, match="no image with a label"):
        next(train(config, tmp_path / "run"))


def test_the_last_epoch_can_be_the_one_that_is_kept(config, tmp_path):
    events = list(train(replace(config, epochs=3, select="last", lr=0.05), tmp_path / "run"))
    ended = [event for event in events if isinstance(event, EpochEnded)]
    assert all(event.best for event in ended)
    assert events[-1].epoch == 3
    best, last = (tensors(tmp_path / "run" / f"{name}.safetensors") for name in ("best", "last"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    table = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert [row["best"] for row in table] == ["True"] * 3


def test_a_restoring_network_trains_on_degraded_photos_and_enlarges(config, tmp_path, monkeypatch):
    def small(*, pretrained):
        return CSBSR(build_model("unet_test_resnet", decoder_channels=(8,) * 5), features=8, stages=1)

    monkeypatch.setitem(SYSTEMS, "csbsr_small", System(small, "made for this test", mean=(0, 0, 0), std=(1, 1, 1)))
    settings = {"degrade": True, "restore_epochs": 1, "model": "csbsr_small", "size": 32, "tile": 64}
    config = replace(config, **settings, model_args={}, epoch_samples=2)
    runs = [list(train(config, tmp_path / name)) for name in ("one", "two")]
    first, second = ([event for event in run if isinstance(event, EpochEnded)] for run in runs)
    assert all(math.isfinite(event.train_loss) for event in first)
    assert read_weights(tmp_path / "one" / "best.safetensors")[1].scale == 4
    # Validation is degraded alike in every run.
    assert [event.val_iou for event in first] == [event.val_iou for event in second]


def test_init_takes_an_authors_file(config, tmp_path):
    list(train(replace(config, epochs=1), tmp_path / "first"))
    trained = tensors(tmp_path / "first" / "last.safetensors")
    torch.save({"state_dict": trained}, tmp_path / "theirs.pth")
    config = replace(config, epochs=1, lr=1e-12, init=str(tmp_path / "theirs.pth"))
    list(train(config, tmp_path / "second"))
    after = tensors(tmp_path / "second" / "last.safetensors")
    weights = [name for name in trained if name.endswith("weight")]
    assert all(torch.allclose(after[name], trained[name], atol=1e-6) for name in weights)
