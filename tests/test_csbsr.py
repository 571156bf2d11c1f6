"""CSBSR: the authors' functions of the authors' names; restoring, detecting and the loss that teaches both."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from parity import TOLERANCE, deviation, own_tensors, reference
from torch import nn
from torch.nn import functional as F

from cracktool.card import Card
from cracktool.config import read_recipe
from cracktool.degradation import degrade, degrade_randomly
from cracktool.errors import UsageError
from cracktool.export import export_model, parity
from cracktool.losses import bce, supervise
from cracktool.losses.restoring import crack_weights, failure_weights
from cracktool.models import build_model, csbsr, kbpn, model_statistics
from cracktool.models.csbsr import (
    CSBSR,
    BicubicPSPNet,
    CSBSRPSPNet,
    blur_and_shrink,
    joint_loss,
    normalise_instances,
    restoration_loss,
)
from cracktool.models.kbpn import KBPN
from cracktool.models.padding import PaddedModel
from cracktool.weights import Checkpoint


class Detector(PaddedModel):
    """One convolution, one more as auxiliary output; remembers what it was shown."""

    def __init__(self):
        super().__init__(stride=8)
        self.main = nn.Conv2d(3, 1, 3, padding=1)
        self.side = nn.Conv2d(3, 1, 1)

    def forward(self, x):
        self.shown = x
        return super().forward(x)

    def forward_padded(self, x):
        return (self.main(x), self.side(x)) if self.training else self.main(x)

    def own_name(self, name):
        return None if name.startswith("unused.") else name.replace("theirs", "main")


pytestmark = pytest.mark.usefixtures("same_weights")


@pytest.fixture
def model():
    return CSBSR(Detector(), features=4, stages=2)


def photos(height, width, batch=1):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def kernels(batch):
    values = torch.rand(batch, 1, 21, 21, generator=torch.Generator().manual_seed(4))
    return values / values.sum((2, 3), keepdim=True)


def evened(network):
    """Give norms a scale: some of a ResNet's start at 0 and let nothing through in the first step."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.4, 0.6)
    return network


def unmoved(network):
    return [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]


# KBPN


@pytest.mark.slow
def test_kbpn_is_the_authors(shared):
    expected = reference(shared, "csbsr_kbpn")
    network = KBPN().eval()
    network.load_state_dict(expected.tensors, strict=True)
    for dtype, tolerance in TOLERANCE.items():
        with torch.no_grad():
            sr, kernel = network.to(dtype)(expected.x.to(dtype))
        assert deviation(sr, expected.outputs["sr"]) <= tolerance
        assert deviation(kernel, expected.outputs["kernel"]) <= tolerance


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (5, 8)])
def test_kbpn_restores_any_size_and_its_kernels_sum_to_one(stages, size):
    sr, kernel = KBPN(features=4, stages=stages)(photos(*size, batch=2))
    assert sr.shape == (2, 3, 4 * size[0], 4 * size[1])
    assert kernel.shape == (2, 1, 21, 21)
    assert kernel.sum((1, 2, 3)).tolist() == pytest.approx([1, 1], abs=1e-4)


def test_photos_of_a_batch_do_not_touch_each_other():
    network, x = KBPN(features=4, stages=2).double(), photos(6, 7, batch=2).double()
    together = network(x)
    for index in range(2):
        for whole, single in zip(together, network(x[index : index + 1]), strict=True):
            assert torch.allclose(whole[index : index + 1], single, rtol=1e-6, atol=1e-9)


def test_what_kbpn_learns_is_added_to_the_enlarged_photo():
    network, x = KBPN(features=4, stages=2), photos(6, 7)
    nn.init.zeros_(network.output_conv.layer.weight)
    assert torch.allclose(network(x)[0], F.interpolate(x, scale_factor=4, mode="bicubic"), atol=1e-6)


def test_learning_reaches_every_part_of_kbpn():
    network = KBPN(features=16, stages=3)  # a ReLU of few channels may be dead
    sr, kernel = network(photos(6, 8))
    (sr.square().mean() + kernel.square().mean()).backward()
    assert unmoved(network) == []


def test_blur_inside_kbpn_is_a_convolution_for_each_photo():
    x, kernel = photos(12, 20, batch=2), kernels(2)
    plain = [F.conv2d(x[i : i + 1], kernel[i].expand(3, 1, 21, 21), stride=4, padding=10, groups=3) for i in range(2)]
    assert torch.allclose(kbpn._blurred_and_shrunk(x, kernel.flatten(1)), torch.cat(plain), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 6)])
def test_a_kernel_at_each_place_need_not_be_spread_to_be_convolved(size):
    conv, x, kernel = nn.Conv2d(2 + 441, 3, 3, padding=1), torch.rand(2, 2, *size), torch.rand(2, 441)
    spread = kernel[:, :, None, None].expand(-1, -1, *size)
    plain = F.leaky_relu(conv(torch.cat([x, spread], dim=1)), 0.1)
    assert torch.allclose(kbpn._conv_beside_kernel(conv, x, kernel), plain, atol=1e-5)


def test_pretrained_layers_are_the_first_of_vgg16(monkeypatch):
    channels = (3, 64, 64, 128, 128)
    encoder = nn.Sequential(*(nn.Conv2d(*pair, 3) for pair in pairwise(channels)))
    asked = []
    monkeypatch.setattr(kbpn, "build_encoder", lambda name, **more: asked.append((name, more)) or encoder)
    network = CSBSR(Detector(), pretrained=True, stages=1)
    assert asked == [("vgg16", {"pretrained": True, "max_stride": 2})]
    loaded = network.sr_model.feat.state_dict()
    assert list(loaded) == [f"{index}.{kind}" for index in (0, 2, 4, 6) for kind in ("weight", "bias")]
    assert all(map(torch.equal, loaded.values(), encoder.state_dict().values()))
    with pytest.raises(UsageError, match=r"no pretrained weights fit 4 features .*--no-pretrained"):
        KBPN(pretrained=True, features=4)


def test_vgg16_has_the_convolutions_that_are_loaded():
    with torch.device("meta"):
        known = [value.shape for value in kbpn.build_encoder("vgg16", max_stride=2).state_dict().values()]
        assert [value.shape for value in KBPN().feat.state_dict().values()] == known


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": 3}, "features is 3, expected an even number"),
        ({"features": 0}, "features is 0"),
        ({"features": 4.0}, "features is 4.0"),
        ({"stages": 0}, "stages is 0, expected a whole number from 1"),
        ({"stages": 2.5}, "stages is 2.5"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(UsageError, match=message):
        CSBSR(Detector(), **arguments)


# The detector of the paper


@pytest.mark.slow
def test_the_detector_is_the_authors(shared):
    expected = reference(shared, "csbsr_pspnet")
    network = CSBSRPSPNet().eval()
    network.load_state_dict(own_tensors(network, expected.tensors), strict=True)
    for dtype, tolerance in TOLERANCE.items():
        with torch.no_grad():
            network.to(dtype).training = False
            logits = network(expected.x.to(dtype))
            network.training = True  # of the whole alone, so that nothing is dropped and norms stay
            main, auxiliary = network(expected.x.to(dtype))
        assert torch.equal(main, logits)
        assert deviation(logits, expected.outputs["logits"]) <= tolerance
        assert deviation(auxiliary.sigmoid(), expected.outputs["aux_probability"]) <= tolerance


def test_the_detector_learns_from_one_photo_of_any_size_in_every_part():
    network = evened(CSBSRPSPNet()).train()
    outputs = network(photos(33, 42))
    assert [each.shape for each in outputs] == [(1, 1, 33, 42)] * 2
    sum(each.square().mean() for each in outputs).backward()
    assert unmoved(network) == []


def test_the_detector_asks_for_pretrained_weights_only_when_wanted(monkeypatch):
    asked = []
    real = csbsr.build_encoder
    monkeypatch.setattr(csbsr, "build_encoder", lambda name, *, pretrained: asked.append(pretrained) or real(name))
    with torch.device("meta"):
        CSBSRPSPNet()
        CSBSRPSPNet(pretrained=True)
    assert asked == [False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_enlarged_probabilities_keep_a_gradient_where_they_are_sure(dtype):
    sure = torch.tensor([[30.0, -30.0], [4.0, -4.0]], dtype=dtype)[None, None].requires_grad_()
    enlarged = csbsr._enlarge_probabilities(sure, torch.zeros(1, 1, 9, 9))
    assert enlarged.dtype == torch.float32
    assert enlarged[0, 0, ::8, ::8].tolist() == [pytest.approx([30, -30]), pytest.approx([4, -4])]
    assert enlarged[0, 0, 4, 4].item() == pytest.approx(0, abs=1e-4)
    enlarged[0, 0, 0, 0].backward()
    assert sure.grad[0, 0, 0, 0].item() == pytest.approx(1)


# Both together


@pytest.mark.parametrize("size", [(1, 1), (5, 9)])
def test_logits_have_four_times_the_side(model, size):
    with torch.no_grad():
        assert model.eval()(photos(*size)).shape == (1, 1, 4 * size[0], 4 * size[1])
        outputs = model.train()(photos(*size, batch=2))
    assert [each.shape for each in outputs] == [(2, 1, 4 * size[0], 4 * size[1])] * 2
    assert (model.stride, model.scale) == (1, 4)


def test_the_detector_sees_the_whole_restored_picture_clipped_and_normalised(model):
    sr = torch.stack([torch.linspace(-1, 2, 3 * 20 * 36).view(3, 20, 36), torch.rand(3, 20, 36)])
    assert torch.equal(model.eval().detect(sr), model.segmentation_model(normalise_instances(sr.clamp(0, 1))))
    x = photos(5, 9)
    with torch.no_grad():
        logits = model(x)
        shown = model.segmentation_model.shown
        assert shown.shape == (1, 3, 20, 36)  # nothing of the padding is in the mean
        assert torch.equal(logits, model.detect(model.restore(x)[0]))


def test_each_channel_of_each_picture_is_normalised():
    x = torch.rand(2, 3, 8, 12) * torch.tensor([1.0, 5.0])[:, None, None, None] + torch.arange(3)[:, None, None]
    assert torch.allclose(normalise_instances(x), nn.InstanceNorm2d(3)(x), atol=1e-5)
    assert not normalise_instances(torch.full((1, 3, 4, 4), 0.5)).any()


def test_the_authors_joint_file_loads(model):
    tensors = {f"module.{name.replace('main', 'theirs')}": value + 1 for name, value in model.state_dict().items()}
    own = own_tensors(model, {**tensors, "module.segmentation_model.unused.weight": torch.zeros(1)})
    twin = CSBSR(Detector(), features=4, stages=2)
    twin.load_state_dict(own, strict=True)
    assert all(map(torch.equal, twin.state_dict().values(), own.values()))
    assert model.own_name("sr_model.feat.0.weight") == "sr_model.feat.0.weight"
    with torch.device("meta"):
        names = CSBSR(CSBSRPSPNet()).state_dict()
    assert {"segmentation_model.feats.conv1.weight", "sr_model.output_conv.layer.weight"} <= set(names)


@pytest.mark.slow
def test_it_can_be_exported(model, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
    monkeypatch.setattr(parity, "WHOLE", ((8, 8), (7, 5), (1, 1)))
    card = Card(model="csbsr", mean=(0, 0, 0), std=(1, 1, 1), stride=1, scale=4, tile=16)
    exported = export_model(Checkpoint(model.eval(), card, ""), tmp_path / "csbsr.onnx")
    assert exported.difference < 1e-3


# The baseline


@pytest.fixture
def baseline(monkeypatch):
    monkeypatch.setattr(csbsr, "CSBSRPSPNet", lambda *, pretrained: Detector())
    return BicubicPSPNet()


@pytest.mark.parametrize("size", [(1, 1), (5, 9)])
def test_the_baseline_finds_cracks_in_the_photo_enlarged_clipped_and_normalised(baseline, size):
    x = (photos(*size) > 0.5).float()  # bicubic interpolation leaves 0 to 1 at hard edges
    plain = F.interpolate(x, scale_factor=4, mode="bicubic", align_corners=False)
    assert size == (1, 1) or plain.min() < 0
    with torch.no_grad():
        logits = baseline.eval()(x)
        assert torch.allclose(baseline.segmentation_model.shown, normalise_instances(plain.clamp(0, 1)), atol=1e-5)
        assert torch.equal(logits, baseline.segmentation_model(baseline.segmentation_model.shown))
        outputs = baseline.train()(x)
    assert [each.shape for each in outputs] == [(1, 1, 4 * size[0], 4 * size[1])] * 2
    assert (baseline.stride, baseline.scale) == (1, 4)


def test_the_baseline_has_the_detector_of_csbsr_and_its_range_of_input(monkeypatch):
    asked = []
    real = csbsr.build_encoder
    monkeypatch.setattr(csbsr, "build_encoder", lambda name, *, pretrained: asked.append(pretrained) or real(name))
    with torch.device("meta"):
        network = build_model("bicubic_pspnet", pretrained=True)
        detector = CSBSRPSPNet()
    assert asked == [True, False]
    assert type(network.segmentation_model) is CSBSRPSPNet
    assert list(network.state_dict()) == [f"segmentation_model.{name}" for name in detector.state_dict()]
    assert model_statistics("bicubic_pspnet") == model_statistics("csbsr_pspnet") == ((0, 0, 0), (1, 1, 1))


def test_the_recipe_of_the_baseline_is_that_of_csbsr_but_for_restoring():
    ours, theirs = read_recipe("bicubic_pspnet"), read_recipe("csbsr_pspnet")
    restoring = {"model": "csbsr_pspnet", "beta": 0.3, "restore_epochs": 1}
    assert {**ours, **restoring} == theirs
    assert ours["model"] == "bicubic_pspnet"
    assert not {"beta", "restore_epochs"} & set(ours)


def test_the_sides_of_crackformer_weigh_what_the_authors_give_them():
    main, *sides = torch.randn(6, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = (main > 1).float()
    total = supervise(bce, aux_weight=read_recipe("csbsr_crackformer2")["aux_weight"])((main, *sides), mask)
    of_sides = bce(torch.cat(sides, dim=1), mask.expand(-1, 5, -1, -1))  # theirs: a mean over the five, times five
    torch.testing.assert_close(total, bce(main, mask) + 0.4 * 5 * of_sides)


@pytest.mark.slow
def test_the_baseline_can_be_exported(baseline, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
    monkeypatch.setattr(parity, "WHOLE", ((8, 8), (7, 5), (1, 1)))
    card = Card(model="bicubic_pspnet", mean=(0, 0, 0), std=(1, 1, 1), stride=1, scale=4, tile=16)
    exported = export_model(Checkpoint(baseline.eval(), card, ""), tmp_path / "bicubic.onnx")
    assert exported.difference < 1e-3


# Degrading again, and the loss


def test_degrading_again_is_what_degrading_was():
    rng = np.random.default_rng(0)
    images = rng.integers(60, 200, (2, 48, 64, 3), dtype=np.uint8)  # within 0 to 255 all the way
    pairs = [degrade_randomly(image, rng) for image in images]
    kernel = torch.from_numpy(np.stack([each for _, each in pairs]))[:, None]
    sharp = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    again = blur_and_shrink(sharp, kernel).permute(0, 2, 3, 1) * 255
    assert np.abs(again.numpy() - np.stack([each for each, _ in pairs])).max() <= 0.51


def test_degrading_again_does_not_turn_the_kernel_either():
    kernel = np.zeros((21, 21), np.float32)
    kernel[2, 17] = 1
    image = np.random.default_rng(0).integers(60, 200, (32, 40, 3), dtype=np.uint8)
    again = blur_and_shrink(torch.from_numpy(image).permute(2, 0, 1)[None] / 255, torch.from_numpy(kernel)[None, None])
    assert np.abs(again[0].permute(1, 2, 0).numpy() * 255 - degrade(image, kernel)).max() <= 0.51


def test_restoration_loss_adds_three_terms():
    hr, lr, kernel = photos(16, 24), photos(4, 6), kernels(1)
    sr = (hr + 0.25).requires_grad_()
    blurred = (blur_and_shrink(sr, kernel) - lr).abs().mean()
    exact = restoration_loss(sr, kernel, lr, hr, kernel)
    assert exact.item() == pytest.approx(0.4 * 0.25 + 0.4 * blurred.item(), abs=1e-5)
    with_kernel = restoration_loss(sr, kernel + 0.5, lr, hr, kernel)
    wrongly_blurred = (blur_and_shrink(sr, kernel + 0.5) - lr).abs().mean()
    expected = 0.4 * 0.25 + 0.4 * wrongly_blurred.item() + 0.2 * 0.25
    assert with_kernel.item() == pytest.approx(expected, abs=1e-4)


def test_weights_multiply_both_pictures_of_the_restoration_loss():
    hr, lr, kernel = photos(16, 24), photos(4, 6), kernels(1)
    sr = hr + torch.tensor([0.1] * 12 + [0.5] * 12)
    left = torch.zeros(1, 1, 16, 24)
    left[..., :12] = 2
    blurred = (blur_and_shrink(sr, kernel) - lr).abs()
    loss = restoration_loss(sr, kernel, lr, hr, kernel, weights=left)
    by_hand = 0.4 * 0.1 + 0.4 * blurred[..., :3].mean().item()  # twice a half
    assert loss.item() == pytest.approx(by_hand, abs=1e-5)


def mean_gap(logits, mask):
    return (logits - mask).abs().mean()


def both_gaps(outputs, mask):
    main, side = outputs
    return mean_gap(main, mask) + 0.4 * mean_gap(side, mask)


def batch():
    return {
        "lr": photos(4, 6, batch=2),
        "hr": photos(16, 24, batch=2),
        "kernel": kernels(2),
        "mask": (photos(16, 24, batch=2)[:, :1] > 0.9).float(),
    }


def test_joint_loss_is_the_mix_of_both(model):
    data = batch()
    sr, estimate = model.restore(data["lr"])
    main, side = model.detect(sr)
    detecting = mean_gap(main, data["mask"]) + 0.4 * mean_gap(side, data["mask"])
    restoring = restoration_loss(sr, estimate, data["lr"], data["hr"], data["kernel"])
    expected = 0.7 * restoring + 0.3 * detecting
    assert joint_loss(model, **data, supervised=both_gaps).item() == pytest.approx(expected.item(), rel=1e-5)
    detector_only = joint_loss(model, **data, supervised=both_gaps, beta=1)
    assert detector_only.item() == pytest.approx(detecting.item(), rel=1e-5)


def test_joint_loss_weighs_the_pixels(model):
    data = batch()
    sr, estimate = model.restore(data["lr"])
    main, _ = model.detect(sr)
    pictures = (sr, estimate, data["lr"], data["hr"], data["kernel"])
    for weigh in (failure_weights, crack_weights):
        expected = restoration_loss(*pictures, weights=weigh(main, data["mask"]))
        loss = joint_loss(model, **data, supervised=both_gaps, beta=0, pixel_weights=weigh)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_joint_loss_teaches_both_parts():
    model = CSBSR(Detector(), features=16, stages=2)
    joint_loss(model, **batch(), supervised=both_gaps, pixel_weights=failure_weights).backward()
    assert unmoved(model) == []


def test_both_halves_are_compiled(model, monkeypatch):
    compiled = []

    def compile_counting(call, **_):
        return lambda *args: compiled.append(call.__self__) or call(*args)

    monkeypatch.setattr(torch, "compile", compile_counting)
    model.compile()
    joint_loss(model, **batch(), supervised=both_gaps)
    assert compiled == [model.sr_model, model.segmentation_model]


def test_failure_weights_grow_with_the_error_and_carry_no_gradient():
    logits = torch.tensor([[[[20.0, -20.0, 0.0]]]], requires_grad=True)
    weights = failure_weights(logits, torch.tensor([[[[1.0, 1.0, 0.0]]]]))
    assert weights.flatten().tolist() == pytest.approx([1, math.exp(1), math.exp(0.5)])
    assert not weights.requires_grad


def test_crack_weights_fall_with_the_distance_to_the_crack():
    mask = torch.zeros(2, 1, 5, 6)
    mask[0, 0, 1, 1] = 1
    weights = crack_weights(torch.zeros(2, 1, 5, 6, dtype=torch.float64), mask)
    assert weights.dtype == torch.float64
    assert weights[0, 0, 1, 1].item() == 2
    assert weights[0, 0, 1, 5].item() == pytest.approx(2 * math.exp(-4))
    assert weights[0, 0, 4, 5].item() == pytest.approx(2 * math.exp(-5))
    assert not weights[1].any()
