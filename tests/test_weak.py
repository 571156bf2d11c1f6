"""Weak supervision: the authors' numbers and names, poolings against their formulas, the patch classifier."""

import json
import math

import numpy as np
import pytest
import torch
from networks import picture
from parity import TOLERANCE, deviation, own_tensors, reference
from torch.nn import functional as F

from cracktool.card import Card
from cracktool.errors import UsageError
from cracktool.export import export_model
from cracktool.models import weak
from cracktool.models.weak import (
    POOLINGS,
    PatchClassifier,
    UpBlock,
    WeakUNet,
    cam_pooling,
    generalised_mean_pooling,
    lse_pooling,
    max_pooling,
    topk_pooling,
)
from cracktool.weights import Checkpoint

MASK = [[[[2.0, -1.0], [0.0, -3.0]]]]


pytestmark = pytest.mark.usefixtures("same_weights")


def filled(model):
    """Move norms away from 0, at which some start and let nothing through in the first step."""
    for value in model.parameters():
        if value.ndim == 1:
            torch.nn.init.uniform_(value, 0.4, 0.6)
    return model


def logit(probability):
    return math.log(probability / (1 - probability))


@pytest.mark.slow
def test_parity(shared):
    authors = reference(shared, "skamlo_unet_resnet50")
    model = WeakUNet().eval()
    model.load_state_dict(own_tensors(model, authors.tensors), strict=True)
    for dtype, tolerance in TOLERANCE.items():
        with torch.no_grad():
            logits = model.to(dtype)(authors.x.to(dtype))
        assert deviation(logits, authors.outputs["mask_logits"]) <= tolerance
        assert np.abs(max_pooling(logits).numpy() - authors.outputs["image_logit"][0]).item() <= tolerance


def test_every_tensor_of_the_authors_has_its_place(shared):
    spec = json.loads((shared / "parity" / "skamlo_unet_resnet50.json").read_text())
    with torch.device("meta"):
        model = WeakUNet()
    shapes = {model.own_name(name): shape for name, shape in spec["tensors"]}
    assert shapes == {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert all(model.own_name(name) == name for name in model.state_dict())


def test_the_skip_comes_before_what_was_enlarged():
    block = UpBlock(8, 3, 5).eval()
    x, skip = torch.randn(2, 8, 2, 3), torch.randn(2, 3, 4, 6)
    first, second = block.conv[:3], block.conv[3:]
    assert first[0].in_channels == 3 + 4
    torch.testing.assert_close(block(x, skip), second(first(torch.cat([skip, block.up(x)], 1))))
    assert (block(x, skip) >= 0).all()


@pytest.mark.parametrize("network", [WeakUNet, PatchClassifier])
def test_shapes_without_memory(network):
    with torch.device("meta"):
        model = network().eval()
        assert model(torch.zeros(2, 3, 500, 333)).shape == (2, 1, 500, 333)
    assert model.stride == 32


@pytest.mark.parametrize("network", [WeakUNet, PatchClassifier])
@pytest.mark.parametrize("pretrained", [True, False])
def test_pretrained_is_passed_on(monkeypatch, network, pretrained):
    asked = []
    real = weak.build_encoder
    monkeypatch.setattr(weak, "build_encoder", lambda name, pretrained: asked.append((name, pretrained)) or real(name))
    with torch.device("meta"):
        network(pretrained=pretrained)
    assert asked == [("resnet50", pretrained)]


@pytest.mark.parametrize(
    ("pooling", "arguments", "expected"),
    [
        (max_pooling, {}, 2),
        (topk_pooling, {}, 2),  # 2 % of 4 px, rounded up
        (topk_pooling, {"share": 0.5}, 1),
        (topk_pooling, {"share": 0.51}, 1 / 3),
        (topk_pooling, {"share": 1}, -0.5),
        (lse_pooling, {}, math.log((math.exp(10) + math.exp(-5) + 1 + math.exp(-15)) / 4) / 5),
        (lse_pooling, {"sharpness": 1}, math.log((math.exp(2) + math.exp(-1) + 1 + math.exp(-3)) / 4)),
        (lse_pooling, {"sharpness": 1e4}, 2),
        (lse_pooling, {"sharpness": 1e-7}, -0.5),
        (cam_pooling, {}, -0.5),
    ],
)
def test_values_by_hand(pooling, arguments, expected):
    mask = torch.tensor(MASK, dtype=torch.double)
    assert pooling(torch.cat([mask, mask + 1]), **arguments).tolist() == pytest.approx(
        [expected, expected + 1], abs=2e-4 if arguments.get("sharpness") == 1e4 else 1e-6
    )


@pytest.mark.parametrize("power", [1, 2, 3, 7])
def test_generalised_mean_by_its_formula(power):
    mask = torch.tensor(MASK, dtype=torch.double)
    probabilities = 1 / (1 + np.exp(-mask.numpy()))
    expected = logit((probabilities**power).mean() ** (1 / power))
    assert generalised_mean_pooling(mask, power=power).item() == pytest.approx(expected, abs=1e-12)
    if power == 3:
        assert generalised_mean_pooling(mask).item() == pytest.approx(expected, abs=1e-12)


def test_names():
    assert list(POOLINGS) == ["max", "topk", "lse", "generalised_mean", "cam"]
    assert len(set(POOLINGS.values())) == len(POOLINGS)


@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
def test_gradients(pooling):
    mask = torch.randn(2, 1, 5, 11, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(pooling, (mask,))
    assert pooling(mask).shape == (2,)


@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
@pytest.mark.parametrize("value", [-1e30, -1e4, -100, 0, 100, 1e4, 1e30])
def test_an_image_of_one_logit_has_that_logit(pooling, value):
    for dtype in (torch.float32, torch.float64):
        mask = torch.full((1, 1, 4, 4), value, dtype=dtype, requires_grad=True)
        pooled = pooling(mask)
        pooled.backward()
        assert pooled.item() == pytest.approx(value, rel=1e-5, abs=1e-5)
        assert torch.isfinite(mask.grad).all()
        assert mask.grad.sum() > 0.99  # it can still be unlearned


@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
@pytest.mark.parametrize("value", [100, 1e4, 1e30])
def test_extremes_of_both_signs_stay_finite(pooling, value):
    mask = torch.tensor([[[[value, -value, 0.0, value]]]], requires_grad=True)
    pooled = pooling(mask)
    pooled.backward()
    assert torch.isfinite(pooled).all()
    assert torch.isfinite(mask.grad).all()


@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_pooled_in_single(pooling, dtype):
    mask = (torch.randn(1, 1, 300, 300) * 4).to(dtype)
    pooled = pooling(mask)
    assert pooled.dtype == torch.float32
    assert pooled.item() == pytest.approx(pooling(mask.double()).item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
def test_an_image_logit_can_have_either_sign(pooling):
    mask = torch.randn(1, 1, 8, 8)
    assert pooling(mask - 10).item() < 0 < pooling(mask + 10).item()


@pytest.mark.parametrize(
    ("pooling", "arguments", "message"),
    [
        (topk_pooling, {"share": 0}, "share is 0, expected above 0 and up to 1"),
        (topk_pooling, {"share": 1.5}, "share is 1.5"),
        (lse_pooling, {"sharpness": 0}, "sharpness is 0, expected above 0"),
        (lse_pooling, {"sharpness": math.nan}, "sharpness is nan"),
        (generalised_mean_pooling, {"power": 0}, "power is 0, expected a whole number from 1"),
        (generalised_mean_pooling, {"power": 2.5}, "power is 2.5"),
    ],
)
def test_arguments_that_do_not_fit(pooling, arguments, message):
    with pytest.raises(UsageError, match=message):
        pooling(torch.zeros(1, 1, 2, 2), **arguments)


@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
def test_image_labels_teach_every_parameter(pooling):
    model = filled(PatchClassifier(encoder="regnetx_002")).train()
    labels = torch.tensor([1.0, 0.0])
    F.binary_cross_entropy_with_logits(pooling(model(picture(64, 65, batch=2))), labels).backward()
    assert not [name for name, value in model.named_parameters() if not value.grad.any()]


@pytest.mark.slow
def test_image_labels_teach_every_parameter_of_the_unet():
    model = filled(WeakUNet()).train()
    labels = torch.tensor([1.0, 0.0])
    F.binary_cross_entropy_with_logits(cam_pooling(model(picture(64, 65, batch=2))), labels).backward()
    assert not [name for name, value in model.named_parameters() if not value.grad.any()]


def test_a_patch_alone_is_classified_by_mean_and_two_dense_layers():
    model = PatchClassifier(encoder="regnetx_002").eval()
    x = picture(32, 32)
    with torch.no_grad():
        mean = model.encoder(x)[-1].mean((2, 3))
        hidden = F.linear(mean, model.dense.weight[:, :, 0, 0], model.dense.bias).relu()
        expected = F.linear(hidden, model.score.weight[:, :, 0, 0], model.score.bias)
        torch.testing.assert_close(model(x), expected.view(1, 1, 1, 1).expand(1, 1, 32, 32))
    assert hidden.shape == (1, 1000)


def test_heat_map_is_the_cells_interpolated():
    model = PatchClassifier(encoder="regnetx_002").eval()
    cells = []
    model.score.register_forward_hook(lambda module, args, out: cells.append(out))
    with torch.no_grad():
        heat = model(picture(96, 64))
    assert cells[0].shape == (1, 1, 3, 2)
    torch.testing.assert_close(heat, F.interpolate(cells[0], scale_factor=32, mode="bilinear"))
    torch.testing.assert_close(cam_pooling(heat), cells[0].mean((1, 2, 3)))  # training by the mean sees every cell


def test_an_encoder_without_stride_32_is_refused():
    with pytest.raises(UsageError, match="vit_tiny_patch16_224 cannot be an encoder here"):
        PatchClassifier(encoder="vit_tiny_patch16_224")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "head"), [(WeakUNet, "outc"), (lambda: PatchClassifier(encoder="regnetx_002"), "score")]
)
def test_onnx_for_any_size(build, head, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
    card = Card(model="weak", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), tile=64)
    model = build().eval()
    batch = picture(96, 96)
    with torch.no_grad():  # random weights give one grey; spread it, so that a wrong graph shows
        logits = model(batch)
        layer = model.get_submodule(head)
        layer.weight /= logits.std()
        layer.bias.sub_(logits.mean()).div_(logits.std())
    exported = export_model(Checkpoint(model, card, ""), tmp_path / "weak.onnx")
    assert exported.difference < 1e-3
