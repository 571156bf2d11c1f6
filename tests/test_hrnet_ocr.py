"""HRNet with object-contextual regions: the authors' numbers, one logit of two classes, both forms of the heads."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from networks import picture
from parity import TOLERANCE, deviation, own_tensors, reference
from torch import nn
from torch.nn import functional as F

from cracktool.errors import UsageError
from cracktool.models import hrnet_ocr
from cracktool.models.hrnet_ocr import HighResolutionModule, HRNetOCR, RegionAttention, gather_regions

CSBSR = {"regions": 1, "form": "openseg"}
FIXTURES = [("hrnet_ocr", {}), ("csbsr_hrnet_ocr", CSBSR)]
FORMS = [{}, CSBSR, {"form": "openseg"}, {"regions": 1}]


pytestmark = pytest.mark.usefixtures("same_weights")


@pytest.fixture
def network(monkeypatch):
    """Builds a narrow and shallow network whose norms have uneven values, so that a mix-up of any two tensors shows."""
    monkeypatch.setattr(hrnet_ocr, "BLOCKS", 1)
    monkeypatch.setattr(hrnet_ocr, "MODULES", (1, 1, 1))

    def build(**arguments):
        model = HRNetOCR(width=2, **arguments)
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.uniform_(0.4, 0.6)
        return model

    return build


@cache
def without_values(**arguments):
    with torch.device("meta"):
        return HRNetOCR(**arguments)


def enlarged(logits, size):
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)


@pytest.mark.parametrize("arguments", FORMS)
def test_any_size_and_both_outputs_in_training(network, arguments):
    model = network(**arguments)
    with torch.no_grad():
        for height, width in ((1, 1), (33, 65)):
            logits = model.eval()(picture(height, width))
            assert logits.shape == (1, 1, height, width)
            assert torch.isfinite(logits).all()
        main, aux = model.train()(picture(33, 65, batch=2))
    assert main.shape == aux.shape == (2, 1, 33, 65)
    assert not torch.equal(main, aux)


def test_one_logit_gives_the_cracks_share_of_the_softmax(network):
    model = network().eval()
    x = picture(64, 96)
    with torch.no_grad():
        main, aux = model.region_logits(x)
        assert main.shape == aux.shape == (1, 2, 16, 24)
        expected = enlarged(main, (64, 96)).softmax(dim=1)[:, 1:]
        torch.testing.assert_close(model(x).sigmoid(), expected)
        for module in model.modules():  # statistics and dropout stay as in evaluation
            module.training = module is model
        torch.testing.assert_close(model(x)[1].sigmoid(), enlarged(aux, (64, 96)).softmax(dim=1)[:, 1:])


def test_one_region_is_the_logit_itself(network):
    model = network(**CSBSR).eval()
    x = picture(64, 96)
    with torch.no_grad():
        main, _ = model.region_logits(x)
        torch.testing.assert_close(model(x), enlarged(main, (64, 96)))


@pytest.mark.parametrize(("arguments", "idle"), [({}, ()), (CSBSR, ("f_pixel.", "f_object."))])
def test_learning_reaches_every_parameter_but_the_comparison_with_a_single_region(network, arguments, idle):
    model = network(**arguments).train()
    main, aux = model(picture(65, 96, batch=2))
    (main.square().mean() + aux.square().mean()).backward()
    # A convolution's bias in front of a norm is taken off again: what gradient it has is rounding.
    convolutions = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.Conv2d)]
    rounding = {f"{name}.bias" for name, each in convolutions if each.out_channels > model.cls_head.out_channels}
    kept = {key: value for key, value in model.named_parameters() if key not in rounding}
    unmoved = {key for key, value in kept.items() if value.grad is None or not value.grad.any()}
    assert unmoved == {key for key in kept if any(part in key for part in idle)}


def test_a_batch_of_one_can_be_learned_from(network):
    model = network().train()
    main, aux = model(picture(64, 64))
    (main + aux).mean().backward()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters())


def test_regions_are_means_weighted_by_their_softmax_over_the_picture():
    pixels, logits = torch.randn(2, 5, 3, 4), torch.randn(2, 3, 3, 4)
    found = gather_regions(pixels, logits)
    assert found.shape == (2, 5, 3, 1)
    for image in range(2):
        for region in range(3):
            share = np.exp(logits[image, region].double().numpy())
            expected = (pixels[image].double().numpy() * share / share.sum()).sum(axis=(1, 2))
            np.testing.assert_allclose(found[image, :, region, 0], expected, rtol=1e-4, atol=1e-6)


def test_each_pixel_takes_the_values_of_the_regions_it_resembles():
    attention = RegionAttention(6, 4, bias=True).eval()
    pixels, regions = torch.randn(1, 6, 3, 5), torch.randn(1, 6, 2, 1)
    with torch.no_grad():
        found = attention(pixels, regions)
        query, key = attention.f_pixel(pixels)[0], attention.f_object(regions)[0, :, :, 0]
        value = attention.f_down(regions)[0, :, :, 0]
        for row, column in ((0, 0), (2, 4), (1, 3)):
            shares = ((key.T @ query[:, row, column]) / 4**0.5).softmax(dim=0)
            expected = attention.f_up((value @ shares)[None, :, None, None])
            torch.testing.assert_close(found[:, :, row, column], expected[..., 0, 0])


def test_branches_are_summed_at_every_size():
    module = HighResolutionModule((2, 4, 8)).eval()
    maps = [torch.randn(1, 2 << branch, 16 >> branch, 24 >> branch) for branch in range(3)]
    with torch.no_grad():
        found = module(maps)
        fine, middle, coarse = (branch(each) for branch, each in zip(module.branches, maps, strict=True))
        fuse = module.fuse_layers
        first = fine + enlarged(fuse[0][1](middle), (16, 24)) + enlarged(fuse[0][2](coarse), (16, 24))
        last = fuse[2][0](fine) + fuse[2][1](middle) + coarse
    assert [each.shape for each in found] == [each.shape for each in maps]
    torch.testing.assert_close(found[0], first.relu())
    torch.testing.assert_close(found[2], last.relu())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("conv1.weight", "backbone.conv1.weight"),
        ("model.stage2.0.branches.0.0.bn1.bias", "backbone.stage2.0.branches.0.0.bn1.bias"),
        ("module.model.conv3x3_ocr.0.bias", "conv3x3.0.bias"),
        ("conv3x3_ocr.1.running_var", "conv3x3.1.0.running_var"),
        ("model.aux_head.0.weight", "aux_head.0.weight"),
        ("aux_head.1.weight", "aux_head.1.0.weight"),
        ("aux_head.3.bias", "aux_head.2.bias"),
        ("cls_head.bias", "cls_head.bias"),
        ("ocr_distri_head.conv_bn_dropout.1.0.bias", "ocr_distri_head.conv_bn_dropout.1.0.bias"),
        ("loss.criterion.weight", None),
        ("module.loss.weight", None),
    ],
)
def test_names_in_the_original_files(theirs, ours):
    assert without_values().own_name(theirs) == ours


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.conv1.weight", "backbone.conv1.weight"),
        ("module.aux_head.1.0.weight", "aux_head.1.0.weight"),
        ("model.aux_head.2.bias", "aux_head.2.bias"),
        ("loss.weight", None),
    ],
)
def test_names_in_the_files_of_csbsr(theirs, ours):
    assert without_values(**CSBSR).own_name(theirs) == ours


@pytest.mark.parametrize(("fixture", "arguments"), FIXTURES)
def test_every_tensor_of_the_authors_has_its_place(shared, fixture, arguments):
    spec = json.loads((shared / "parity" / f"{fixture}.json").read_text())
    model = without_values(**arguments)
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert found == {model.own_name(name): shape for name, shape in spec["tensors"]}
    assert sum(value.numel() for value in model.parameters()) == spec["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize(("fixture", "arguments"), FIXTURES)
def test_parity_with_the_authors(shared, fixture, arguments):
    given = reference(shared, fixture)
    model = HRNetOCR(**arguments).eval()
    model.load_state_dict(own_tensors(model, given.tensors), strict=True)
    for dtype, tolerance in TOLERANCE.items():
        found = outputs(model.to(dtype), given.x.to(dtype))
        for name, expected in given.outputs.items():
            assert deviation(found[name], expected) <= tolerance, (name, dtype)


def outputs(model, x):
    """Return what the authors' network returns, under the names of the fixtures."""
    with torch.no_grad():
        main, aux = model.region_logits(x)
        aux_probability = enlarged(aux, x.shape[-2:]).sigmoid()
        probability = model(x).sigmoid()
    return {"logits": main, "aux_logits": aux, "probability": probability, "aux_probability": aux_probability}


def test_imagenet_weights_fill_the_whole_encoder(monkeypatch):
    real = hrnet_ocr.build_encoder
    donors = {}

    def build(name, *, pretrained):
        assert pretrained
        donors[name] = real(name)
        return donors[name]

    monkeypatch.setattr(hrnet_ocr, "build_encoder", build)
    with torch.device("meta"):
        HRNetOCR(width=18)
    assert not donors
    found = HRNetOCR(width=18, pretrained=True).backbone.state_dict()
    donor = donors["hrnet_w18"].state_dict()
    assert len(found) > 1000
    assert all(torch.equal(value, donor[key]) for key, value in found.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": True, "width": 8}, r"HRNet of width 8 .*18, 30, 32, 40, 44, 48, 64.*--no-pretrained"),
        ({"regions": 3}, r"regions is 3 .*2 \(background and crack\) or 1"),
        ({"width": 0}, "width is 0, expected a whole number"),
        ({"width": 4.5}, "width is 4.5, expected a whole number"),
        ({"form": "ocr"}, "form 'ocr' does not fit .*hrnet or openseg"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        HRNetOCR(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, CSBSR])
def test_export_to_onnx_for_any_size(network, arguments, tmp_path):
    # Shallow, yet with every operator: the exporter takes over a minute for the whole depth.
    pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
    from cracktool.card import Card
    from cracktool.export import export_model
    from cracktool.weights import Checkpoint

    card = Card(model="hrnet_ocr", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), tile=64)
    exported = export_model(Checkpoint(network(**arguments).eval(), card, ""), tmp_path / "net.onnx")
    assert exported.difference < 1e-3
