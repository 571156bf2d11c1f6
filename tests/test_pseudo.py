"""Pseudo-masks: how they are made of a teacher's probabilities, what unsure pixels teach, runs that use them."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from test_training import assert_same, make_data, tensors

from cracktool.config import Augment, TrainConfig, read_recipe, resolve
from cracktool.data import IGNORED, Example, Samples, list_examples, read_example
from cracktool.errors import InputError, UsageError, WeightsError
from cracktool.images import encode_png, read_grey, read_image
from cracktool.inference import load_predictor
from cracktool.losses import LOSSES, combine
from cracktool.manifest import Entry, Manifest, read_manifest, write_manifest
from cracktool.models import PaddedModel
from cracktool.training import EpochEnded, Labelled, Started, Stepped, train
from cracktool.training.objective import build_objective, without_ignored
from cracktool.training.pseudo import (
    REFINEMENTS,
    dark_pixels,
    guided_filter,
    predict_views,
    pseudo_manifest,
    pseudo_mask,
    three_levels,
)
from cracktool.weights import load_weights, save_weights

STILL = Augment(hflip=0.0, vflip=0.0, quarter_turns=0.0, brightness=0.0, contrast=0.0, saturation=0.0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


# Making a pseudo-mask of probabilities


def slow_guided_filter(guide, values, radius, eps):
    """He et al. 2013, equations 5, 6 and 8, window by window."""
    height, width = guide.shape
    windows = [
        np.s_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        for y in range(height)
        for x in range(width)
    ]
    slopes, offsets = np.zeros((2, height, width))
    for at, window in enumerate(windows):
        i, p = guide[window].astype(float), values[window].astype(float)
        slope = ((i * p).mean() - i.mean() * p.mean()) / (i.var() + eps)
        slopes.flat[at], offsets.flat[at] = slope, p.mean() - slope * i.mean()
    fits = [(slopes[window].mean(), offsets[window].mean()) for window in windows]
    return np.array([a * i + b for (a, b), i in zip(fits, guide.flat, strict=True)]).reshape(guide.shape)


@pytest.mark.parametrize(("shape", "radius", "eps"), [((13, 17), 2, 1e-3), ((9, 30), 4, 1e-1), ((5, 3), 8, 1e-2)])
def test_the_guided_filter_is_that_of_its_paper(shape, radius, eps):
    guide, values = noise(*shape), noise(*shape, seed=1)
    expected = slow_guided_filter(guide, values, radius, eps)
    np.testing.assert_allclose(guided_filter(guide, values, radius=radius, eps=eps), expected, atol=1e-5)


def test_the_guided_filter_keeps_edges_of_the_guide_and_smooths_elsewhere():
    edge = np.where(np.arange(40) < 20, 0.1, 0.9).astype(np.float32)[None].repeat(40, 0)
    blurred = cv2.GaussianBlur(edge, (0, 0), 4)
    found = guided_filter(edge, blurred)
    assert abs(found[20, 20] - found[20, 19]) > 3 * abs(blurred[20, 20] - blurred[20, 19])
    assert guided_filter(np.zeros_like(edge), noise(40, 40)).std() < 0.1 * noise(40, 40).std()


def test_crack_is_the_most_probable_share_but_never_improbable():
    probs = np.random.default_rng(0).permutation(1000).reshape(20, 50).astype(np.float32) / 1000
    levels = three_levels(probs, share=0.0215, low=0.25, high=0.5)
    assert (levels == 255).sum() == 22  # rounded up
    assert probs[levels == 255].min() == np.float32(0.978)
    assert np.array_equal(levels == 0, probs < 0.25)
    assert set(np.unique(levels)) == {0, 128, 255}
    assert (three_levels(probs, share=0.9, low=0.25, high=0.5) == 255).sum() == 500
    assert (three_levels(probs * 0.4, share=0.02, low=0.25, high=0.5) == 255).sum() == 0
    assert three_levels(probs, share=1, low=0.5, high=0.5).tolist() == np.where(probs < 0.5, 0, 255).tolist()


def test_views_are_averaged_at_the_size_of_the_image():
    image = np.full((40, 61, 3), 100, np.uint8)
    seen = []

    def predict(picture):
        seen.append(picture.shape[:2])
        return np.full((2 * picture.shape[0], 2 * picture.shape[1]), len(seen) / 10, np.float32)

    found = predict_views(predict, image, scales=(0.5, 1, 1.5))
    assert seen == [(20, 30), (40, 61), (60, 92)]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.full((40, 61), 0.2), rtol=1e-6)


def line(height=64, width=96, column=40, side=4):
    """A photo of bright grain with a dark line, and where that is."""
    image = np.random.default_rng(0).integers(150, 190, (height, width, 3), dtype=np.uint8)
    where = np.zeros((height, width), bool)
    where[:, column : column + side] = True
    image[where] = 40
    return image, where


def test_dark_pixels_are_those_of_the_line():
    image, where = line()
    dark = dark_pixels(image)
    assert dark[where].mean() > 0.9
    near = cv2.dilate(where.view(np.uint8), np.ones((1, 63), np.uint8)).view(bool)
    assert dark[near & ~where].mean() < 0.05
    assert not dark_pixels(np.full((20, 50, 3), 90, np.uint8)).any()
    two = np.full((10, 10, 3), 90, np.uint8)
    two[:, 5] = 30
    assert dark_pixels(two)[:, 5].all()


def test_darkness_narrows_a_coarse_map_to_the_line():
    image, where = line()
    coarse = np.zeros(where.shape, np.float32)
    coarse[:, 26:58] = 0.8
    found = REFINEMENTS["darkness"](coarse, image)
    assert found[where].mean() > 0.7
    assert found[~where].mean() < 0.02
    assert found[:, :26].max() == 0


@pytest.mark.parametrize("how", REFINEMENTS)
def test_every_refinement_gives_a_mask_of_three_levels(how):
    image, where = line()
    config = TrainConfig(model="x", supervision="pseudo", teacher="t", select="last", refine=how, pseudo_share=0.05)
    config = replace(config, pseudo_band=(0.05, 0.2))
    probs = cv2.GaussianBlur(where + noise(*where.shape) / 100, (0, 0), 3)
    mask = pseudo_mask(lambda picture: cv2.resize(probs, picture.shape[1::-1]), image, config)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 128, 255}
    assert (mask == 255).sum() <= 0.05 * mask.size + 1
    assert (mask == 255)[where].mean() > 0.5 or how == "darkness"  # which erodes what is this narrow
    assert not (mask == 255)[:, :20].any()


# The table that names them


def entry(image, label, mask="masks/x.png"):
    parts = {"split": "train", "group": "", "source": "", "height": 1, "width": 1, "crack_fraction": 0.0, "sha1": ""}
    return Entry(image=image, mask=mask, label=label, **parts)


def test_pseudo_masks_keep_sub_folders_and_stems_and_no_mask_of_the_set_is_named(tmp_path):
    rows = (
        entry("images/a/one.v2.jpg", "cracked"),
        entry("images/two.png", "uncracked"),
        entry("images/three.png", "unknown"),
        entry("../four.png", "cracked", mask=""),
    )
    made = pseudo_manifest(Manifest(tmp_path / "data", rows), tmp_path / "run")
    masks = {row.image: row.mask for row in made.entries}
    assert masks == {
        "images/a/one.v2.jpg": str(tmp_path / "run" / "images" / "a" / "one.v2.png"),
        "images/two.png": "",
        "../four.png": str(tmp_path / "run" / "four.png"),
    }
    found = list_examples(made, "pseudo")
    assert [item.mask and item.mask.parent for item in found][1:] == [None, tmp_path / "run"]
    assert all(item.pseudo and item.cracked is None for item in found)


def test_two_images_cannot_have_one_pseudo_mask(tmp_path):
    rows = (entry("images/a.jpg", "cracked"), entry("images/a.png", "cracked"))
    with pytest.raises(InputError, match=r"images/a\.jpg and images/a\.png would have one pseudo-mask"):
        pseudo_manifest(Manifest(tmp_path, rows), tmp_path)


# Samples with unsure pixels


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    """A picture that says by its red what its pseudo-mask has there."""
    folder = tmp_path_factory.mktemp("pseudo")
    soft = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(120, 90)).astype(np.float32), (0, 0), 6)
    levels = np.where(soft > 0.03, 255, np.where(soft < -0.03, 0, 128)).astype(np.uint8)
    (folder / "image.png").write_bytes(encode_png(np.dstack([levels, levels, levels])))
    (folder / "mask.png").write_bytes(encode_png(levels))
    return Example(folder / "image.png", folder / "mask.png", pseudo=True)


def test_grey_values_of_a_pseudo_mask_are_three_targets(item):
    image, mask = read_example(item)
    assert mask.dtype == torch.uint8
    assert torch.equal(mask[0] == 1, image[0] == 255)
    assert torch.equal(mask[0] == IGNORED, image[0] == 128)
    assert torch.equal(mask[0] == 0, image[0] == 0)
    plain = read_example(replace(item, pseudo=False))[1]
    assert torch.equal(plain[0] == 1, image[0] >= 128)


@pytest.mark.parametrize(
    "settings",
    [
        {"augment": Augment(rotate=30, brightness=0, contrast=0, saturation=0)},
        {"augment": replace(STILL, zoom=(0.6, 0.7))},
        {"augment": STILL, "fit": "resize"},
    ],
)
def test_changes_of_a_sample_keep_the_three_targets_apart_and_in_place(item, settings):
    samples = Samples([item], size=80, **settings)
    for seed in range(4):
        image, mask = samples[0, seed]
        assert set(mask.unique().tolist()) == {0, 1, IGNORED}
        expected = torch.where(image[0] > 191, 1, torch.where(image[0] < 64, 0, IGNORED))
        assert (expected == mask[0]).float().mean() > 0.9


def test_what_is_mostly_unsure_when_shrunk_is_unsure(tmp_path):
    columns = np.array([255, 128, 128, 128, 0, 0, 0, 255, 255, 255, 255, 0, 255, 128, 0, 0], np.uint8)
    levels = columns[None].repeat(16, 0).repeat(8, 0).repeat(8, 1)
    for name in ("image", "mask"):
        (tmp_path / f"{name}.png").write_bytes(encode_png(levels))
    item = Example(tmp_path / "image.png", tmp_path / "mask.png", pseudo=True)
    _, mask = Samples([item], size=32, fit="resize", augment=STILL)[0, 0]
    inner = mask[0, 16].view(16, 2)[:, 0]  # 4 columns to 1: both sides of each change are its own
    assert inner[[0, 2, 5, 9, 14]].tolist() == [1, IGNORED, 0, 1, 0]
    _, halved = Samples([item], size=8, fit="resize", augment=STILL)[0, 0]
    assert set(halved.unique().tolist()) <= {0, 1, IGNORED}
    assert halved[0, 4, 1] == IGNORED


def test_cut_outs_that_should_have_crack_are_not_content_with_unsure_pixels(tmp_path):
    levels = np.full((64, 256), 128, np.uint8)
    levels[:, :8] = 255
    for name in ("image", "mask"):
        (tmp_path / f"{name}.png").write_bytes(encode_png(levels))
    item = Example(tmp_path / "image.png", tmp_path / "mask.png", pseudo=True)
    samples = Samples([item], size=64, crack_crops=1.0, augment=STILL)
    with_crack = sum(bool((samples[0, seed][1] == 1).any()) for seed in range(40))
    assert with_crack > 2 * 40 * 8 / 193  # a single try hits the crack in 8 of 193 places


# Losses without ignored pixels


def half_ignored():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 24, 24, generator=generator)
    target = torch.zeros(2, 1, 24, 24)
    target[:, :, :, 6:11] = 1
    target[0, :, :, 9:14] = IGNORED
    target[1, :, 4:20] = IGNORED
    return logits, target


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_have_no_part_in_any_loss(name):
    logits, target = half_ignored()
    logits.requires_grad_()
    loss = without_ignored(combine(name, alpha=0.5))
    value = loss(logits, target)
    value.backward()
    ignored = target == IGNORED
    assert (logits.grad[ignored] == 0).all()
    assert logits.grad[~ignored].abs().sum() > 0
    other = torch.where(ignored, 50 * torch.randn_like(logits), logits)
    assert loss(other, target) == value
    wild = torch.where(ignored, torch.inf, logits.detach()).requires_grad_()
    loss(wild, target).backward()
    assert (wild.grad[ignored] == 0).all()
    assert torch.equal(wild.grad, logits.grad)


@pytest.mark.parametrize("name", LOSSES)
def test_where_nothing_is_ignored_the_loss_is_as_ever(name):
    logits, target = half_ignored()
    target = target % 2
    assert without_ignored(LOSSES[name])(logits, target) == LOSSES[name](logits, target)


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_of_unsure_pixels_alone_teaches_nothing(name):
    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = without_ignored(combine(name, alpha=0.5))(logits, torch.full_like(logits, IGNORED))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-4)
    assert (logits.grad == 0).all()


def test_sure_pixels_weigh_the_same_however_many_are_ignored():
    logits, target = half_ignored()
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(without_ignored(LOSSES["bce"])(logits, target), logits)
    (whole,) = torch.autograd.grad(LOSSES["bce"](logits, target % 2), logits)
    sure = target != IGNORED
    assert torch.equal(gradient[sure], whole[sure])


class Fixed(PaddedModel):
    """A network with a main and an auxiliary output that are given."""

    def __init__(self, *outputs):
        super().__init__(stride=1)
        self.outputs = outputs

    def forward(self, x):
        return self.outputs


def test_auxiliary_outputs_ignore_them_too():
    logits, target = half_ignored()
    main, aux = logits.clone().requires_grad_(), logits.flip(-1).clone().requires_grad_()
    config = TrainConfig(model="x", supervision="pseudo", teacher="t", select="last", loss="bce+dice")
    build_objective(config, 0)(Fixed(main, aux), torch.zeros(1), [target.to(torch.uint8)]).backward()
    for output in (main, aux):
        assert (output.grad[target == IGNORED] == 0).all()
        assert output.grad.abs().sum() > 0


# Runs


def settings(folder, **changes):
    values = {
        "model": "unet_test_resnet",
        "pretrained": False,
        "data": (str(folder),),
        "size": 64,
        "batch_size": 2,
        "epochs": 2,
        "workers": 0,
        "dtype": "float32",
        "augment": STILL,
        "model_args": {"decoder_channels": (16, 16, 16, 8, 8)},
    }
    return TrainConfig(**values | changes)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A run that has learned dark lines from masks."""
    place = tmp_path_factory.mktemp("teacher")
    config = settings(make_data(place / "data"), epochs=6, lr=1e-2, epoch_samples=16, augment=Augment())
    assert max(event.val_iou for event in train(config, place / "run") if isinstance(event, EpochEnded)) > 0.6
    return place / "run"


@pytest.fixture
def data(tmp_path):
    """Lines labelled cracked, noise labelled uncracked, one unknown; who opens a mask fails."""
    manifest = read_manifest(make_data(tmp_path / "data", 12))
    entries = []
    for entry in manifest.entries:
        manifest.mask_path(entry).write_bytes(b"not a picture")
        if int(entry.group) in (1, 11):
            pixels = np.random.default_rng(1).integers(120, 200, (70, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(manifest.image_path(entry))
        label = {1: "uncracked", 11: "uncracked", 2: "unknown"}.get(int(entry.group), "cracked")
        entries.append(replace(entry, label=label))
    write_manifest(manifest.folder / "manifest.csv", entries)
    return manifest.folder


@pytest.fixture
def config(data, teacher):
    return settings(data, supervision="pseudo", teacher=str(teacher), select="last", refine="none", pseudo_share=0.05)


def grey_files(run):
    return {str(path.relative_to(run)): read_grey(path) for path in sorted((run / "pseudo").rglob("*.png"))}


def test_a_teacher_labels_and_no_mask_is_opened(config, tmp_path):
    events = list(train(config, tmp_path / "run"))
    kinds = [type(event) for event in events]
    assert kinds == [Started, *[Labelled] * 7, *([Stepped] * 4 + [EpochEnded]) * 2, kinds[-1]]
    assert [event.done for event in events if isinstance(event, Labelled)] == [1, 2, 3, 4, 5, 6, 7]
    assert (events[0].train_images, events[0].val_images) == (8, 3)  # the unknown one is left out
    made = grey_files(tmp_path / "run")
    assert list(made) == [f"pseudo/1/images/{number}.png" for number in (0, 10, 4, 5, 6, 8, 9)]
    assert all(set(np.unique(levels)) == {0, 128, 255} and levels.shape == (70, 90) for levels in made.values())
    assert max(read_image(tmp_path / "run" / "first_batch.png").shape[:2]) > 100
    card = load_weights(tmp_path / "run").card
    assert card.scores[0]["protocol"] == "IoU of cracked images by label"
    best, last = (tensors(tmp_path / "run" / f"{name}.safetensors") for name in ("best", "last"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    assert all(event.best for event in events if isinstance(event, EpochEnded))
    with pytest.raises(InputError, match="masks"):
        list(train(replace(config, supervision="pixels", teacher=""), tmp_path / "other"))


def test_a_student_learns_what_its_teacher_knows(config, tmp_path):
    truth = make_data(tmp_path / "truth", 12)  # the same pictures, their masks whole

    def overlap(weights):
        predictor, found, either = load_predictor(weights, dtype="float32"), 0, 0
        for number in (0, 3, 5, 7):
            mask = read_grey(truth / "masks" / f"{number}.png") > 0
            predicted = predictor.mask(read_image(truth / "images" / f"{number}.png"))
            found, either = found + (mask & predicted).sum(), either + (mask | predicted).sum()
        return found / either

    config = replace(config, epochs=4, lr=1e-2, epoch_samples=16, augment=Augment())
    *_, last, _ = train(config, tmp_path / "student")
    assert overlap(tmp_path / "student") > 0.6
    assert last.val_recall == 1


def test_a_resumed_run_makes_only_what_is_missing_and_equals_an_undisturbed_one(config, tmp_path):
    list(train(config, tmp_path / "whole"))
    for event in train(config, tmp_path / "parts"):
        if isinstance(event, Labelled) and event.done == 3:
            break
    assert len(grey_files(tmp_path / "parts")) == 3
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("pseudo/1/**/*.png")}
    resumed = []
    for event in train(config, tmp_path / "parts", resume=True):
        resumed.append(event)
        if isinstance(event, Stepped) and event.batch == 6:
            break  # in the middle of the second epoch
    assert [event.total for event in resumed if isinstance(event, Labelled)] == [4] * 4
    assert not any(isinstance(event, Labelled) for event in train(config, tmp_path / "parts", resume=True))
    assert {path: path.stat().st_mtime_ns for path in made} == made
    whole, parts = grey_files(tmp_path / "whole"), grey_files(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    for name in ("best.safetensors", "last.safetensors"):
        assert_same(tmp_path / "whole" / name, tmp_path / "parts" / name)


def test_the_terms_of_the_teacher_hold_for_its_pupil_also_once_all_masks_are_made(config, teacher, tmp_path):
    learned = load_weights(teacher)
    card = replace(learned.card, data=("photos of others",), licence="for research only")
    save_weights(tmp_path / "teacher.safetensors", learned.model.state_dict(), card)
    config = replace(config, teacher=str(tmp_path / "teacher.safetensors"), epochs=1)
    for event in train(config, tmp_path / "run"):
        if isinstance(event, Stepped):
            break
    list(train(config, tmp_path / "run", resume=True))
    card = load_weights(tmp_path / "run").card
    assert (card.data, card.licence) == (("photos of others", *config.data), "for research only")


def test_a_run_keeps_one_teacher(config, teacher, tmp_path):
    copy = tmp_path / "teacher.safetensors"
    copy.write_bytes((teacher / "best.safetensors").read_bytes())
    config = replace(config, teacher=str(copy))
    for event in train(config, tmp_path / "run"):
        if isinstance(event, Labelled):
            break
    other = load_weights(teacher)
    save_weights(copy, other.model.state_dict(), replace(other.card, created="2000-01-01"))
    with pytest.raises(UsageError, match="made by another teacher"):
        next(train(config, tmp_path / "run", resume=True))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"teacher": "nowhere"}, WeightsError, "nowhere"),
        ({"loss": "bce+dize"}, UsageError, "dice"),
    ],
)
def test_what_is_wrong_is_noticed_before_anything_is_written(config, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        next(train(replace(config, **changes), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_labels_are_needed(config, tmp_path):
    folder = Path(config.data[0])
    manifest = read_manifest(folder)
    write_manifest(folder / "manifest.csv", [replace(entry, label="unknown") for entry in manifest.entries])
    with pytest.raises(InputError, match="no image with a label"):
        next(train(config, tmp_path / "run"))


def test_the_recipe_is_of_this_kind():
    found = resolve([read_recipe("weak_two_stage")], ["teacher=runs/other"])
    assert (found.supervision, found.teacher, found.select) == ("pseudo", "runs/other", "last")
