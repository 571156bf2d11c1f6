"""CrackFormer-II: the authors' numbers on all six outputs, the pooling that ONNX can say, and learning."""

import json

import numpy as np
import pytest
import torch
from networks import picture
from parity import TOLERANCE, deviation, own_tensors, reference
from torch.nn import functional as F

from cracktool.card import Card
from cracktool.errors import UsageError
from cracktool.export import ExportOptions, export_model
from cracktool.models.crackformer import CrackFormer2, LambdaAttention, max_unpool
from cracktool.weights import Checkpoint

OUTPUTS = ("fused", "side5", "side4", "side3", "side2", "side1")


pytestmark = pytest.mark.usefixtures("same_weights")


@pytest.fixture(scope="module")
def authors(shared):
    return reference(shared, "crackformer2")


def test_parity_of_all_six_outputs(authors):
    # In float64 alone: two values of a window that are nearly equal may swap when they are rounded to float32.
    model = CrackFormer2().eval()
    model.load_state_dict(own_tensors(model, authors.tensors), strict=True)
    with torch.no_grad():
        outputs = model.double().all_outputs(authors.x.double())
    assert set(authors.outputs) == set(OUTPUTS)
    for name, output in zip(OUTPUTS, outputs, strict=True):
        assert deviation(output, authors.outputs[name]) <= TOLERANCE[torch.float64], name


def test_only_tensors_that_the_authors_never_use_are_left_out(shared, authors):
    unused = json.loads((shared / "parity" / "crackformer2.json").read_text())["unused_parameters"]
    with torch.device("meta"):
        model = CrackFormer2()
    assert [name for name in authors.tensors if model.own_name(name) is None] == unused
    assert model.stride == 32
    assert set(own_tensors(model, authors.tensors)) == set(model.state_dict())
    assert len(authors.tensors) == len(model.state_dict()) + len(unused)


def test_training_gives_six_outputs_and_evaluation_the_first():
    model = CrackFormer2(dropout=0)
    x = picture(33, 5)
    with torch.no_grad():
        outputs = model.train()(x)
        fused = model.eval()(x)
    assert len(outputs) == 6
    assert all(output.shape == (1, 1, 33, 5) for output in outputs)
    torch.testing.assert_close(fused, outputs[0])


def test_dropout_is_at_work_in_training_only():
    model = CrackFormer2(dropout=0.5).train()
    x = picture(32, 32)
    with torch.no_grad():
        assert not torch.equal(model(x)[0], model(x)[0])
        model.eval()
        assert torch.equal(model(x), model(x))


def test_learning_reaches_every_parameter():
    model = CrackFormer2().train()
    torch.stack(model(picture(64, 32))).square().mean().backward()
    # The same added to every key changes nothing: a softmax over positions takes it out again.
    unmoved = [name for name, value in model.named_parameters() if not value.grad.any()]
    assert all(name.endswith("attn.keys.1.bias") for name in unmoved)


def test_half_precision_stays_finite():
    model = CrackFormer2().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = torch.stack(model(picture(32, 32) * 5))
    outputs.float().square().mean().backward()
    assert torch.isfinite(outputs).all()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters())


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 6, 10), (1, 2, 8, 4)])
@pytest.mark.parametrize("levels", [2, 1000])
def test_unpooling_is_that_of_torch(shape, levels):
    x = torch.randint(levels, shape).double().requires_grad_()  # of two levels most windows have equal values
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    share = torch.rand(shape, dtype=torch.double)
    theirs, ours = F.max_unpool2d(pooled, indices, 2), max_unpool(pooled, indices)
    assert torch.equal(ours, theirs)
    expected, found = (torch.autograd.grad((maps * share).sum(), x, retain_graph=True)[0] for maps in (theirs, ours))
    assert torch.equal(found, expected)


def test_positions_are_a_3d_convolution_that_keeps_channels_apart():
    attention = LambdaAttention(16).double()
    values = torch.rand(2, 4, 9, 12, dtype=torch.double)
    expected = F.conv3d(values.unsqueeze(1), attention.embedding, padding=(0, 3, 3)).transpose(1, 2)
    torch.testing.assert_close(attention.position(values), expected)


def test_attention_is_each_pixels_queries_times_its_own_matrix():
    attention = LambdaAttention(16).double()
    x = torch.rand(1, 16, 5, 6, dtype=torch.double)
    queries = attention.queries(x).view(4, 16, 30)
    keys = attention.keys(x).view(16, 30).softmax(dim=1)
    values = attention.values(x)
    content = torch.einsum("kn,vn->vk", keys, values.view(4, 30))
    matrices = content[..., None] + attention.position(values).view(4, 16, 30)
    expected = torch.einsum("hkn,vkn->hvn", queries, matrices).reshape(1, 16, 5, 6)
    torch.testing.assert_close(attention(x), expected)


def test_there_is_nothing_pretrained():
    with pytest.raises(UsageError, match=r"no ImageNet weights for crackformer2 .*--no-pretrained"):
        CrackFormer2(pretrained=True)


@pytest.mark.parametrize("dropout", [-0.1, 1, 1.5])
def test_dropout_must_be_a_share(dropout):
    with pytest.raises(UsageError, match="expected a share from 0 to below 1"):
        CrackFormer2(dropout=dropout)


@pytest.mark.slow
def test_onnx_for_any_size(tmp_path):
    pytest.importorskip("onnx", reason="needs the extra cracktool[export]")
    runtime = pytest.importorskip("onnxruntime")
    card = Card(model="crackformer2", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), tile=64)
    model = CrackFormer2().eval()
    batch = picture(96, 96)
    with torch.no_grad():  # random weights give one grey; spread it, so that a wrong graph shows and rounding does not
        logits = model(batch)
        model.final.weight /= 4 * logits.std()
        model.final.bias.sub_(logits.mean()).div_(4 * logits.std())
    options = ExportOptions(embed_normalisation=False, embed_sigmoid=False)
    exported = export_model(Checkpoint(model, card, ""), tmp_path / "crackformer2.onnx", options)
    session = runtime.InferenceSession(exported.path)
    # Where two values of a window are nearly equal, rounding says which is larger: rarely in noise, often in photos.
    for size in ((96, 96), (64, 160), (97, 61)):
        x = picture(*size)
        with torch.no_grad():
            expected = model(x).numpy()
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert np.quantile(np.abs(found - expected), 0.99) < 1e-3
