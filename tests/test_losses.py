"""Losses: their formulas by hand, their gradients, their extremes, and the formula that adds them up."""

import math

import pytest
import torch

from cracktool.errors import UsageError
from cracktool.losses import LOSSES, bce, combine, dice, focal, tversky

NAMES = sorted(LOSSES)
SHAPE = (2, 1, 3, 4)


def some(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    target = (torch.rand(SHAPE, generator=generator) < 0.4).to(dtype)
    return logits.to(dtype), target


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("truth", ["mixed", "empty", "full", "soft"])
def test_gradient_in_double_precision(name, truth):
    logits, target = some()
    target = {"mixed": target, "empty": target * 0, "full": target * 0 + 1, "soft": target * 0.7 + 0.1}[truth]
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, target), logits.requires_grad_())


@pytest.mark.parametrize("name", NAMES)
def test_perfect_is_nothing_and_inverted_is_the_most(name):
    loss = LOSSES[name]
    _, target = some()
    sure = (target * 2 - 1) * 30
    perfect, inverted = loss(sure, target).item(), loss(-sure, target).item()
    assert 0 <= perfect < 1e-6
    for scale in (-0.99, -0.5, 0.0, 0.5):
        assert loss(sure * scale, target).item() < inverted
    if name in ("dice", "tversky"):
        assert inverted > 0.8  # 1, but for the smoothing


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_empty_mask_teaches(name, dtype):
    logits = torch.zeros(2, 1, 64, 64, dtype=dtype, requires_grad=True)
    LOSSES[name](logits, torch.zeros(2, 1, 64, 64)).backward()
    assert (logits.grad > 0).all()  # towards less crack, everywhere


@pytest.mark.parametrize("name", NAMES)
def test_a_full_mask_teaches(name):
    logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
    LOSSES[name](logits, torch.ones(2, 1, 8, 8)).backward()
    assert (logits.grad < 0).all()


def logit(prob):
    return math.log(prob / (1 - prob))


# One image of two pixels: probability 0.8 on crack, 0.4 on background.
LOGITS = torch.tensor([logit(0.8), logit(0.4)]).view(1, 1, 1, 2)
TARGET = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (bce(LOGITS, TARGET), (-math.log(0.8) - math.log(0.6)) / 2),
        (dice(LOGITS, TARGET), 1 - (2 * 0.8 + 1) / (1.2 + 1 + 1)),
        (dice(LOGITS, TARGET, smooth=0.5), 1 - (2 * 0.8 + 0.5) / (1.2 + 1 + 0.5)),
        (focal(LOGITS, TARGET), (-0.25 * 0.2**2 * math.log(0.8) - 0.75 * 0.4**2 * math.log(0.6)) / 2),
        (focal(LOGITS, TARGET, alpha=0.5, gamma=0), (-math.log(0.8) - math.log(0.6)) / 4),
        (tversky(LOGITS, TARGET), 1 - (0.8 + 1) / (0.8 + 0.3 * 0.4 + 0.7 * 0.2 + 1)),
        (tversky(LOGITS, TARGET, alpha=1, beta=0), 1 - (0.8 + 1) / (0.8 + 0.4 + 1)),
        (tversky(LOGITS, TARGET, alpha=0.5, beta=0.5, smooth=0.5), dice(LOGITS, TARGET, smooth=1.0)),
    ],
    ids=["bce", "dice", "dice smooth", "focal", "focal 0", "tversky", "tversky fp", "tversky is dice"],
)
def test_values_by_hand(value, expected):
    assert float(value) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", ["dice", "tversky"])
def test_overlap_is_taken_image_by_image(name):
    logits, target = some(dtype=torch.float32)
    alone = [LOSSES[name](logits[[index]], target[[index]]) for index in range(2)]
    torch.testing.assert_close(LOSSES[name](logits, target), torch.stack(alone).mean())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 1, 300, 300, generator=generator).to(dtype)
    target = (torch.rand(1, 1, 300, 300, generator=generator) < 0.05).to(dtype)
    value = LOSSES[name](logits, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, LOSSES[name](logits.float(), target.float()))


@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_stay_finite(name):
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4]).view(1, 1, 2, 2).requires_grad_()
    value = LOSSES[name](logits, torch.tensor([1.0, 0, 0, 1]).view(1, 1, 2, 2))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("formula", "parts"),
    [
        ("bce", [(1, bce)]),
        ("bce+dice", [(1, bce), (1, dice)]),
        ("0.5*bce + 2*dice", [(0.5, bce), (2, dice)]),
        (" .25 * focal+tversky ", [(0.25, focal), (1, tversky)]),
        ("dice+dice", [(2, dice)]),
    ],
)
def test_combine(formula, parts):
    logits, target = some(dtype=torch.float32)
    expected = sum(weight * loss(logits, target) for weight, loss in parts)
    torch.testing.assert_close(combine(formula)(logits, target), expected)


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
        ("bce+dicce", "no loss 'dicce' in 'bce.dicce'.*did you mean dice"),
        ("lovasz", "no loss 'lovasz'.*use a sum of bce, dice, focal, tversky"),
    ],
)
def test_combine_refuses(formula, message):
    with pytest.raises(UsageError, match=message):
        combine(formula)
