"""CrackRefineNet: the authors' numbers and names, each module against its formula, stochastic depth, any encoder."""

import json

import numpy as np
import pytest
import torch
from networks import picture
from parity import TOLERANCE, deviation, own_tensors, reference
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from cracktool.card import Card
from cracktool.errors import UsageError
from cracktool.export import export_model
from cracktool.models import crackrefinenet
from cracktool.models.crackrefinenet import (
    AdaptiveFeatureRefinement,
    ChannelNorm,
    ContextAwareModule,
    CrackRefineNet,
    RefiningDecoder,
    SelectiveFeatureAggregation,
)
from cracktool.weights import Checkpoint

pytestmark = pytest.mark.usefixtures("same_weights")


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return CrackRefineNet().eval()


def small(**arguments):
    return CrackRefineNet(**{"encoder": "convnext_atto", "width": 16, **arguments})


def channel_gate(module, x):
    mean = x.mean((2, 3))
    hidden = F.linear(mean, module.fc1.weight[:, :, 0, 0], module.fc1.bias).relu()
    return F.linear(hidden, module.fc2.weight[:, :, 0, 0], module.fc2.bias).sigmoid()[..., None, None]


@pytest.mark.slow
def test_parity(shared):
    authors = reference(shared, "crackrefinenet")
    model = CrackRefineNet().eval()
    model.load_state_dict(own_tensors(model, authors.tensors), strict=True)
    for dtype, tolerance in TOLERANCE.items():
        with torch.no_grad():
            logits = model.to(dtype)(authors.x.to(dtype))
        assert deviation(logits, authors.outputs["logits"]) <= tolerance


def test_every_tensor_of_the_authors_has_its_place(shared, published):
    model = published
    spec = json.loads((shared / "parity" / "crackrefinenet.json").read_text())
    shapes = {model.own_name(name): shape for name, shape in spec["tensors"] if name not in spec["unused_parameters"]}
    assert shapes == {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert [name for name, _ in spec["tensors"] if model.own_name(name) is None] == spec["unused_parameters"]
    assert all(model.own_name(name) == name for name in model.state_dict())
    assert [norm.eps for norm in model.norms] == [1e-6] * 4


def test_adaptive_feature_refinement():
    module = AdaptiveFeatureRefinement(32, dropout=0.5).double().eval()
    x = torch.randn(2, 32, 5, 6, dtype=torch.double)
    total = torch.zeros_like(x)
    for kernel, branch in ((3, module.conv3x3), (5, module.conv5x5)):
        depthwise, pointwise = branch[0], branch[1]
        assert depthwise.weight.shape == (32, 1, kernel, kernel)
        total += pointwise(depthwise(x)).relu()
    groups = total.view(2, 4, -1)
    normed = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
    expected = x * module.gate(normed.view_as(x)).sigmoid() * channel_gate(module, x)
    torch.testing.assert_close(module(x), expected)
    assert (module.train()(x) == 0).all((2, 3)).any()


def test_context_aware_module():
    module = ContextAwareModule(16).double()
    x = torch.randn(2, 16, 6, 5, dtype=torch.double)
    maps = np.stack([x.numpy().std(axis=1, ddof=1), x.numpy().mean(axis=1)], axis=1)
    spread = maps.std(axis=(2, 3), ddof=1, keepdims=True)
    context = module.conv2(module.conv1(torch.from_numpy((maps - maps.mean((2, 3), keepdims=True)) / (spread + 1e-6))))
    gate = module.conv3(context.relu()) + module.conv4(context.relu())
    torch.testing.assert_close(module(x), x * gate.sigmoid() * channel_gate(module, x))


def test_context_of_a_flat_map_is_finite():
    x = torch.zeros(1, 16, 4, 4, requires_grad=True)
    ContextAwareModule(16)(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_selective_feature_aggregation():
    module = SelectiveFeatureAggregation(8, maps=3).double()
    assert module.weights.tolist() == [1, 1, 1]
    maps = [torch.randn(1, 8, side, side, dtype=torch.double) for side in (8, 4, 2)]
    with torch.no_grad():
        module.weights.copy_(torch.tensor([2.0, -3.0, 5.0]))
    enlarged = [F.interpolate(each, size=(8, 8), mode="bilinear") for each in maps]
    torch.testing.assert_close(module(maps), module.conv(2 * enlarged[0] - 3 * enlarged[1] + 5 * enlarged[2]))


def test_head_before_enlarging_is_head_after_enlarging():
    decoder = RefiningDecoder([4, 4, 4, 4], width=16, dropout=0).double()
    fine, coarse = torch.randn(2, 16, 12, 8, dtype=torch.double), torch.randn(2, 16, 3, 2, dtype=torch.double)
    appended = torch.cat([fine, F.interpolate(coarse, scale_factor=4, mode="bilinear")], dim=1)
    torch.testing.assert_close(decoder._head(fine, coarse), decoder.segmentation_head(appended))


def test_norm_is_over_the_channels_of_each_pixel():
    x = torch.randn(2, 8, 3, 4, dtype=torch.double)
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    torch.testing.assert_close(ChannelNorm(8, eps=1e-6).double()(x), expected)


def test_any_size():
    model = small().eval()
    for height, width in ((1, 1), (33, 65), (64, 32)):
        with torch.no_grad():
            logits = model(picture(height, width))
        assert logits.shape == (1, 1, height, width)
        assert torch.isfinite(logits).all()


def test_learning_reaches_every_parameter():
    model = small(drop_path=0, width=64).train()  # of width 16 the channel gates have one hidden unit, often dead
    model(picture(65, 96, batch=2)).square().mean().backward()
    assert not [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]


def test_half_precision_stays_finite():
    model = small().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(picture(64, 64) * 5)
    logits.float().square().mean().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters())


def test_dropout_is_at_work_in_training_only():
    model = small(dropout=0.5, drop_path=0).train()
    x = picture(64, 64)
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))


def test_dropout_is_in_front_of_both_inputs_of_the_head():
    decoder = RefiningDecoder([4, 4, 4, 4], width=16, dropout=0.5).train()
    seen = []
    decoder.dropout.register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape)))
    decoder([torch.randn(1, 4, side, side) for side in (16, 8, 4, 2)])
    assert seen == [(1, 16, 64, 64), (1, 16, 16, 16)]


@pytest.mark.parametrize(("encoder", "blocks"), [("convnext_atto", 12), ("resnet18", 8)])
def test_blocks_are_skipped_in_training_only_the_later_the_more(encoder, blocks):
    x = picture(64, 64).expand(4, -1, -1, -1)
    model = small(dropout=0, drop_path=0.5, encoder=encoder).train()
    for name, parameter in model.encoder.named_parameters():
        if name.endswith("bn2.weight"):
            torch.nn.init.ones_(parameter)  # timm starts ResNets with blocks that add nothing
    rates = [module.p for module in model.encoder.modules() if isinstance(module, StochasticDepth)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.5, blocks))
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))
        never = small(dropout=0, drop_path=0, encoder=encoder).train()
        assert torch.equal(never(x), never(x))


def test_an_encoder_with_a_map_at_half_size_leaves_it_aside():
    model = CrackRefineNet("resnet18", width=16, drop_path=0).eval()
    assert [block.in_channels for block in model.decode_head.fpn_blocks] == [64, 128, 256, 512]
    with torch.no_grad():
        assert model(picture(33, 65)).shape == (1, 1, 33, 65)


def test_layer_scales_start_at_one_unless_loaded(monkeypatch):
    def scales(model):
        return {value.unique().item() for name, value in model.named_parameters() if name.endswith(".gamma")}

    assert scales(small()) == {1}
    real = crackrefinenet.build_encoder
    monkeypatch.setattr(crackrefinenet, "build_encoder", lambda name, pretrained, max_stride: real(name))
    assert scales(small(pretrained=True)) == {torch.tensor(1e-6).item()}


@pytest.mark.parametrize("pretrained", [True, False])
def test_pretrained_is_passed_on(monkeypatch, pretrained):
    asked = []
    real = crackrefinenet.build_encoder
    monkeypatch.setattr(
        crackrefinenet, "build_encoder", lambda name, pretrained, max_stride: asked.append(pretrained) or real(name)
    )
    with torch.device("meta"):
        small(pretrained=pretrained)
    assert asked == [pretrained]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width is 0, expected a multiple of 16"),
        ({"width": 40}, "width is 40, expected a multiple of 16"),
        ({"width": 32.0}, "width is 32.0, expected a multiple of 16"),
        ({"drop_path": 1}, "drop_path is 1, expected a share from 0 to below 1"),
        ({"drop_path": -0.1}, "drop_path is -0.1, expected a share from 0 to below 1"),
        ({"encoder": "vgg11"}, "vgg11 has no blocks that can be skipped in training .--set model_args.drop_path=0."),
        (
            {"encoder": "levit_128s"},
            r"levit_128s has maps at strides \[16, 32\], CrackRefineNet needs \[4, 8, 16, 32\]",
        ),
        ({"encoder": "convnext_tinny"}, "did you mean convnext_tiny"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        CrackRefineNet(**{"encoder": "convnext_atto", **arguments})


def test_shapes_without_memory(published):
    assert published(torch.zeros(2, 3, 500, 333, device="meta")).shape == (2, 1, 500, 333)
    assert published.stride == 32


@pytest.mark.slow
def test_onnx_for_any_size(tmp_path):
    pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
    card = Card(model="crackrefinenet", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), tile=64)
    model = small().eval()
    batch = picture(96, 96)
    with torch.no_grad():  # random weights give one grey; spread it, so that a wrong graph shows
        logits = model(batch)
        head = model.decode_head.segmentation_head
        head.weight /= logits.std()
        head.bias.sub_(logits.mean()).div_(logits.std())
    exported = export_model(Checkpoint(model, card, ""), tmp_path / "crackrefinenet.onnx")
    assert exported.difference < 1e-3
