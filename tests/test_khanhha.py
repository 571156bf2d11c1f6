"""khanhha's U-Nets: any size gives logits, the authors' files fit name by name and give the authors' numbers."""

import json

import pytest
import torch
from networks import picture
from parity import TOLERANCE, deviation, own_tensors, reference
from torch import nn

from cracktool.errors import UsageError
from cracktool.models import khanhha
from cracktool.models.khanhha import KhanhhaResNet, KhanhhaVGG

BUILD = {
    "khanhha_unet_vgg16": KhanhhaVGG,
    "khanhha_unet_resnet34": lambda **more: KhanhhaResNet(34, **more),
    "khanhha_unet_resnet101": lambda **more: KhanhhaResNet(101, **more),
}
SMALL = [name for name in BUILD if name != "khanhha_unet_resnet101"]


pytestmark = pytest.mark.usefixtures("same_weights")


@pytest.mark.parametrize("name", SMALL)
def test_any_size_gives_logits_and_evaluation_is_repeatable(name):
    model = BUILD[name](filters=2).eval()
    nn.init.constant_(model.final.bias, -50)  # far from what a sigmoid could give
    with torch.no_grad():
        for height, width in ((1, 1), (33, 20)):
            logits = model(picture(height, width))
            assert logits.shape == (1, 1, height, width)
            assert (logits < -25).all()
            assert torch.equal(model(picture(height, width)), logits)


@pytest.mark.parametrize("name", SMALL)
def test_learning_reaches_every_parameter(name):
    model = BUILD[name](filters=4, **({"dropout": 0.0} if "resnet" in name else {})).train()
    for key, parameter in model.named_parameters():
        if parameter.ndim == 1:  # some norms start at 0 and let nothing through in the first step
            nn.init.constant_(parameter, 0.5 if key.endswith("weight") else 0.1)
    model(picture(33, 32)).square().mean().backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]


@pytest.mark.parametrize("name", BUILD)
def test_every_tensor_of_the_authors_files_has_a_place(shared, name):
    spec = json.loads((shared / "parity" / f"{name}.json").read_text())
    with torch.device("meta"):
        model = BUILD[name]()
    expected = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    unused = {key for key, _ in spec["tensors"] if model.own_name(key) is None}
    assert unused == set(spec["aliases"]) | set(spec["unused_parameters"])
    assert {model.own_name(key): shape for key, shape in spec["tensors"] if key not in unused} == expected
    assert all(model.own_name(key) == key for key in expected)


@pytest.mark.parametrize(
    ("build", "stride", "millions"),
    [
        (KhanhhaVGG, 32, 29.3),
        (lambda: KhanhhaResNet(34), 64, 34.6),
        (lambda: KhanhhaResNet(101), 64, 74.6),
        (lambda: KhanhhaResNet(152), 64, 90.3),
    ],
)
def test_stride_and_size(build, stride, millions):
    with torch.device("meta"):
        model = build().eval()
        assert model(torch.zeros(2, 3, 33, 65)).shape == (2, 1, 33, 65)
    assert model.stride == stride
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_first_pool_of_the_resnet_has_windows_of_two_by_two():
    with torch.no_grad():
        model = KhanhhaResNet(34, filters=1).eval()
        seen = []
        model.encoder.layer1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
        stem = model.encoder(picture(64, 64))[0]
    assert torch.equal(seen[0], stem.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(-1, -2)))


def test_dropout_drops_in_training_and_rests_in_evaluation():
    model = KhanhhaResNet(34, filters=8, dropout=0.5).train()
    x = torch.ones(1, 8, 4, 4)
    assert not torch.equal(model.dropout(x), x)
    assert torch.equal(model.eval().dropout(x), x)
    dropped = []
    model.dropout.register_forward_hook(lambda *_: dropped.append(True))
    with torch.no_grad():
        model(picture(1, 1))
    assert dropped == [True]


@pytest.mark.parametrize(("name", "encoder"), [("khanhha_unet_vgg16", "vgg16"), ("khanhha_unet_resnet34", "resnet34")])
def test_pretrained_weights_are_asked_for_only_when_wanted(monkeypatch, name, encoder):
    asked = []
    real = khanhha.build_encoder

    def build(name, *, pretrained):
        asked.append((name, pretrained))
        return real(name)

    monkeypatch.setattr(khanhha, "build_encoder", build)
    with torch.device("meta"):
        BUILD[name]()
        BUILD[name](pretrained=True)
    assert asked == [(encoder, False), (encoder, True)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KhanhhaVGG(filters=0), "filters is 0, expected a whole number from 1"),
        (lambda: KhanhhaVGG(filters=2.5), "filters is 2.5, expected a whole number"),
        (lambda: KhanhhaResNet(34, filters=-1), "filters is -1, expected a whole number"),
        (lambda: KhanhhaResNet(33), "depth 33 does not fit.*34, 101 or 152"),
        (lambda: KhanhhaResNet(34, dropout=1.0), "dropout is 1.0, expected a share from 0"),
        (lambda: KhanhhaResNet(34, dropout=-0.1), "dropout is -0.1, expected a share from 0"),
    ],
)
def test_arguments_that_do_not_fit(build, message):
    with pytest.raises(UsageError, match=message):
        build()


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILD)
def test_parity_with_the_authors(shared, name):
    theirs = reference(shared, name)
    model = BUILD[name]().eval()
    model.load_state_dict(own_tensors(model, theirs.tensors), strict=True)
    for dtype, tolerance in TOLERANCE.items():
        with torch.no_grad():
            logits = model.to(dtype)(theirs.x.to(dtype))
        assert deviation(logits, theirs.outputs["logits"]) <= tolerance
