"""All losses by name: gradients, extremes, masks of one class; the formula that adds them up; auxiliary outputs."""

from functools import partial

import pytest
import torch

from cracktool.errors import UsageError
from cracktool.losses import COMBOS, LOSSES, bce, boundary, combine, dice, focal, squared_dice, supervise, tversky

CASES = LOSSES | {f"{name} {alpha}": partial(COMBOS[name], alpha=alpha) for name in COMBOS for alpha in (0.3, 1)}
NAMES = sorted(CASES)
POOLED = {"batch_dice", "balanced_bce"}
BINARY = {"lovasz", "boundary", "boundary_px", "cldice", "skeleton_recall"}
SHAPE = (2, 1, 3, 4)


def some(seed=0, dtype=torch.float64, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    target = (torch.rand(shape, generator=generator) < 0.4).to(dtype)
    return logits.to(dtype), target


def gradient(name, target, dtype=torch.float32):
    logits = torch.zeros(target.shape, dtype=dtype, requires_grad=True)
    CASES[name](logits, target).backward()
    return logits.grad


def has_boundary(name):
    return name.startswith("boundary") and name not in COMBOS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("truth", ["mixed", "empty", "full", "soft", "one empty"])
def test_gradient_in_double_precision(name, truth):
    logits, target = some()
    some_empty = target * torch.tensor([0, 1]).view(2, 1, 1, 1)
    masks = {"mixed": target, "empty": target * 0, "full": target * 0 + 1, "soft": target * 0.7 + 0.1}
    target = {**masks, "one empty": some_empty}[truth]
    assert torch.autograd.gradcheck(lambda x: CASES[name](x, target), logits.requires_grad_())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("truth", ["mixed", "empty", "full"])
def test_perfect_is_the_least_and_inverted_is_the_most(name, truth):
    loss = CASES[name]
    _, target = some(shape=(2, 1, 9, 9))
    target = {"mixed": target, "empty": target * 0, "full": target * 0 + 1}[truth]
    sure = (target * 2 - 1) * 30
    perfect, inverted = loss(sure, target).item(), loss(-sure, target).item()
    for scale in (-0.5, -0.1, 0.0, 0.1, 0.5):
        assert perfect - 1e-12 <= loss(sure * scale, target).item() < inverted
    if not has_boundary(name):
        assert perfect == pytest.approx(0, abs=1e-6)
    if name in ("dice", "batch_dice", "generalised_dice", "tversky", "skeleton_recall"):
        assert inverted > 0.95  # 1, but for the smoothing


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_empty_mask_teaches(name, dtype):
    grad = gradient(name, torch.zeros(2, 1, 64, 64), dtype)
    if name == "lovasz":  # one false pixel is as bad as all: only the largest error of each image counts
        assert (grad >= 0).all()
        assert (grad > 0).sum((1, 2, 3)).tolist() == [1, 1]
    else:
        assert (grad > 0).all()  # towards less crack, everywhere


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_mask_teaches_beside_one_with_crack(name):
    target = torch.zeros(2, 1, 16, 16)
    target[1, :, 5:8] = 1
    grad = gradient(name, target)[0]
    assert (grad >= 0).all()
    assert grad.sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_full_mask_teaches(name):
    grad = gradient(name, torch.ones(2, 1, 8, 8))
    if name == "skeleton_recall":  # off the line nothing is asked for
        assert (grad <= 0).all()
        assert (grad < 0).sum((1, 2, 3)).min() > 0
    else:
        assert (grad < 0).all()


@pytest.mark.parametrize("name", sorted(set(NAMES) - POOLED))
def test_images_of_a_batch_do_not_mix(name):
    logits, target = some(dtype=torch.float32, shape=(3, 1, 9, 9))
    target[2] = 0
    alone = [CASES[name](logits[[index]], target[[index]]) for index in range(3)]
    torch.testing.assert_close(CASES[name](logits, target), torch.stack(alone).mean())


@pytest.mark.parametrize("name", sorted(POOLED))
def test_pixels_of_a_batch_are_one_count(name):
    logits, target = some(dtype=torch.float32)
    target[1] = 0
    together = CASES[name](logits.view(1, 1, 6, 4), target.view(1, 1, 6, 4))
    torch.testing.assert_close(CASES[name](logits, target), together)


@pytest.mark.parametrize("name", sorted(BINARY))
def test_soft_targets_are_cut_at_a_half(name):
    logits, target = some(shape=(2, 1, 9, 9))
    soft = torch.where(target == 1, 128 / 255, 127 / 255)
    torch.testing.assert_close(CASES[name](logits, soft), CASES[name](logits, target), rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - BINARY))
def test_soft_targets_are_soft(name):
    logits, target = some()
    assert CASES[name](logits, target * 0.7 + 0.1).item() != pytest.approx(CASES[name](logits, target).item(), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 1, 100, 100, generator=generator).to(dtype)
    target = (torch.rand(1, 1, 100, 100, generator=generator) < 0.05).to(dtype)
    value = CASES[name](logits, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, CASES[name](logits.float(), target.float()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("truth", [[1.0, 0, 0, 1], [0.0, 0, 0, 0], [1.0, 1, 1, 1]])
def test_extreme_logits_stay_finite(name, truth):
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4]).view(1, 1, 2, 2).requires_grad_()
    value = CASES[name](logits, torch.tensor(truth).view(1, 1, 2, 2))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_one_pixel_per_image_will_do(name):
    logits, target = torch.zeros(2, 1, 1, 1, requires_grad=True), torch.tensor([1.0, 0]).view(2, 1, 1, 1)
    CASES[name](logits, target).backward()
    assert logits.grad[0] < 0 < logits.grad[1]


@pytest.mark.parametrize(
    ("formula", "parts"),
    [
        ("bce", [(1, bce)]),
        ("bce+dice", [(1, bce), (1, dice)]),
        ("0.5*bce + 2*dice", [(0.5, bce), (2, dice)]),
        (" .25 * focal+tversky ", [(0.25, focal), (1, tversky)]),
        ("dice+dice", [(2, dice)]),
        ("boundary_combo", [(0.5, squared_dice), (0.25, bce)]),
    ],
)
def test_combine(formula, parts):
    logits, target = some(dtype=torch.float32)
    expected = sum(weight * loss(logits, target) for weight, loss in parts)
    torch.testing.assert_close(combine(formula)(logits, target), expected)


@pytest.mark.parametrize("alpha", [0, 0.25, 1])
def test_combine_hands_on_the_boundary_share(alpha):
    logits, target = some()
    total = combine("bce+2*boundary_combo", alpha=alpha)(logits, target)
    combo = alpha * boundary(logits, target) + (1 - alpha) * combine("boundary_combo")(logits, target)
    torch.testing.assert_close(total, bce(logits, target) + 2 * combo)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("", "the loss '' cannot be read.*0.5.bce.dice"),
        ("bce+", "the loss 'bce.' cannot be read"),
        ("+bce", "cannot be read"),
        ("bce dice", "cannot be read"),
        ("bce*0.5", "cannot be read"),
        ("-1*bce", "cannot be read"),
        ("x*bce", "cannot be read"),
        ("bce+dicce", "no loss 'dicce' in 'bce.dicce'.*did you mean .*dice"),
        ("hinge", "no loss 'hinge'.*use a sum of bce, .*dice, .*lovasz"),
    ],
)
def test_combine_refuses(formula, message):
    with pytest.raises(UsageError, match=message):
        combine(formula)


@pytest.mark.parametrize("alpha", [-0.01, 1.01, float("nan")])
def test_combine_refuses_a_share_out_of_range(alpha):
    with pytest.raises(UsageError, match=r"boundary share is .*expected 0 to 1"):
        combine("boundary_combo", alpha=alpha)


def test_auxiliary_outputs_are_supervised():
    outputs, target = tuple(some(seed)[0] for seed in range(3)), some()[1]
    values = [dice(each, target) for each in outputs]
    total = supervise(dice, aux_weight=0.4)
    torch.testing.assert_close(total(outputs, target), values[0] + 0.4 * (values[1] + values[2]))
    torch.testing.assert_close(total(outputs[:1], target), values[0])
    torch.testing.assert_close(total(outputs[0], target), values[0])


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_supervise_refuses_a_weight_out_of_range(weight):
    with pytest.raises(UsageError, match=r"weight of auxiliary outputs is .*expected 0 or more"):
        supervise(dice, aux_weight=weight)
