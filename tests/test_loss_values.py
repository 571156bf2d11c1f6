"""Losses by hand: formulas on a few pixels, the maps of distances and lines, the share of the boundary term."""

import math

import numpy as np
import pytest
import torch

from cracktool.errors import UsageError
from cracktool.losses import (
    balanced_bce,
    batch_dice,
    bce,
    boundary,
    boundary_combo,
    boundary_combo_gdice,
    boundary_px,
    boundary_share,
    cldice,
    dice,
    focal,
    generalised_dice,
    lovasz,
    signed_distance,
    skeleton_recall,
    squared_dice,
    tversky,
    weighted_bce,
)
from cracktool.losses.centrelines import soft_skeleton, tubed_skeleton


def logit(prob):
    return math.log(prob / (1 - prob))


def row(*values):
    """One image of one row."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def picture(text):
    """A mask from lines of . and #."""
    return np.array([[letter == "#" for letter in line] for line in text.split()])


def batch(*masks):
    return torch.from_numpy(np.stack(masks)).double().unsqueeze(1)


# One image of two pixels: probability 0.8 on crack, 0.4 on background.
LOGITS, TARGET = row(logit(0.8), logit(0.4)), row(1, 0)
HIT, CLEAR = -math.log(0.8), -math.log(0.6)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (bce(LOGITS, TARGET), (HIT + CLEAR) / 2),
        (weighted_bce(LOGITS, TARGET), (HIT + CLEAR) / 4),
        (weighted_bce(LOGITS, TARGET, crack_weight=20), (20 * HIT + CLEAR) / 21 / 2),
        (balanced_bce(LOGITS, TARGET), (0.5 * HIT + 1.1 * 0.5 * CLEAR) / 2),
        (focal(LOGITS, TARGET), (0.25 * 0.2**2 * HIT + 0.75 * 0.4**2 * CLEAR) / 2),
        (focal(LOGITS, TARGET, alpha=0.5, gamma=0), (HIT + CLEAR) / 4),
        (dice(LOGITS, TARGET), 1 - (2 * 0.8 + 1) / (1.2 + 1 + 1)),
        (dice(LOGITS, TARGET, smooth=0.5), 1 - (2 * 0.8 + 0.5) / (1.2 + 1 + 0.5)),
        (batch_dice(LOGITS, TARGET, smooth=0.5), 1 - (2 * 0.8 + 0.5) / (1.2 + 1 + 0.5)),
        (squared_dice(LOGITS, TARGET, smooth=0.5), 1 - (2 * 0.8 + 0.5) / (0.64 + 0.16 + 1 + 0.5)),
        (generalised_dice(LOGITS, TARGET), 1 - 2 * (0.8 + 0.6) / (1.2 + 1 + 0.8 + 1)),
        (tversky(LOGITS, TARGET), 1 - (0.8 + 1) / (0.8 + 0.3 * 0.4 + 0.7 * 0.2 + 1)),
        (tversky(LOGITS, TARGET, alpha=1, beta=0), 1 - (0.8 + 1) / (0.8 + 0.4 + 1)),
        (tversky(LOGITS, TARGET, alpha=0.5, beta=0.5, smooth=0.5), dice(LOGITS, TARGET, smooth=1.0)),
        (lovasz(LOGITS, TARGET), (1 + logit(0.4)) / 2),
        (lovasz(row(-1, 2, 0.5), row(1, 0, 0)), 3 * 1 / 2 + 2 * (1 - 1 / 2) + 0),
    ],
    ids=lambda value: "" if isinstance(value, float) else None,
)
def test_values_by_hand(value, expected):
    assert float(value) == pytest.approx(float(expected), rel=1e-5)


def test_balanced_bce_weighs_each_class_by_the_other():
    logits, target = row(*[logit(0.4)] * 4), row(1, 0, 0, 0)
    expected = (0.75 * -math.log(0.4) + 3 * 1.1 * 0.25 * -math.log(0.6)) / 4
    assert balanced_bce(logits, target).item() == pytest.approx(expected)


def test_balanced_bce_of_one_class_counts_the_other_as_a_hundredth():
    logits = row(logit(0.4), logit(0.4))
    assert balanced_bce(logits, row(0, 0)).item() == pytest.approx(1.1 * 0.01 * -math.log(0.6))
    assert balanced_bce(logits, row(1, 1)).item() == pytest.approx(0.01 * -math.log(0.4))


def test_generalised_dice_weighs_by_inverse_squared_size():
    probs, truth = np.array([0.7, 0.2, 0.1, 0.4]), np.array([1, 0, 0, 0])
    above = 2 * (0.7 / 1**2 + (0.8 + 0.9 + 0.6) / 3**2)
    below = (1.4 + 1) / 1**2 + (2.6 + 3) / 3**2
    value = generalised_dice(row(*map(logit, probs)), row(*truth))
    assert value.item() == pytest.approx(1 - above / below)


def test_generalised_dice_takes_an_absent_class_for_a_hundredth():
    p = 0.3
    value = generalised_dice(row(logit(p), logit(p)), row(0, 0))
    assert value.item() == pytest.approx(1 - 2 * (1 - p) / (p / 0.01**2 + (1 - p) + 1))


@pytest.mark.parametrize("truth", [(0, 0, 0), (1, 0, 0), (1, 1, 1)])
def test_generalised_dice_knows_no_size(truth):
    logits, target = row(1, -2, 0.5), row(*truth)
    large = generalised_dice(logits.tile(1, 1, 40, 30), target.tile(1, 1, 40, 30))
    torch.testing.assert_close(large, generalised_dice(logits, target))


def test_lovasz_of_sure_errors_is_one_minus_iou():
    truth = np.array([1, 1, 1, 0, 0, 0, 0])
    for code in range(1, 2**7):
        wrong = np.array([code >> bit & 1 for bit in range(7)])
        found = truth ^ wrong
        iou = (found & truth).sum() / (found | truth).sum()
        logits = np.where(wrong, 0, 2 * truth - 1)  # an error of 1 where wrong, of 0 elsewhere
        assert lovasz(row(*logits), row(*truth)).item() == pytest.approx(1 - iou)


def nearest(mask, value):
    """Distance of each pixel to the nearest one of `value`, from all pairs."""
    places = np.argwhere(mask == value)
    pixels = np.argwhere(np.ones_like(mask))
    return np.linalg.norm(pixels[:, None] - places[None], axis=2).min(1).reshape(mask.shape)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_signed_distance_is_that_of_all_pairs(share):
    mask = np.random.default_rng(3).random((13, 17)) < share
    outside, inside = nearest(mask, True), nearest(mask, False)
    edge = inside == 1
    in_px = np.where(edge, 0, outside - inside)
    scaled = np.where(edge, 0, outside / outside.max() - inside / inside.max())
    np.testing.assert_allclose(signed_distance(mask, normalised=False), in_px, atol=1e-5)
    np.testing.assert_allclose(signed_distance(mask), scaled, atol=1e-6)


def test_signed_distance_by_hand():
    mask = picture("....... .#####. .#####. .#####. .......")
    assert signed_distance(mask, normalised=False)[2].tolist() == [1, 0, -2, -2, -2, 0, 1]
    np.testing.assert_allclose(signed_distance(mask)[2], np.array([1 / 2**0.5, 0, -1, -1, -1, 0, 1 / 2**0.5]))


@pytest.mark.parametrize("normalised", [True, False])
def test_signed_distance_of_one_class_pushes_the_right_way(normalised):
    mask = np.zeros((3, 4), bool)
    assert (signed_distance(mask, normalised=normalised) == 1).all()
    assert (signed_distance(~mask, normalised=normalised) == -1).all()


@pytest.mark.parametrize(("loss", "normalised"), [(boundary, True), (boundary_px, False)])
def test_boundary_has_its_value_and_gradient_by_hand(loss, normalised):
    masks = picture("#### #### ...."), picture(".... ...# ....")
    phi = batch(*(signed_distance(mask, normalised=normalised) for mask in masks))
    logits = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    probs = logits.detach().sigmoid()
    value = loss(logits, batch(*masks))
    value.backward()
    torch.testing.assert_close(value.detach(), (probs * phi).mean())
    torch.testing.assert_close(logits.grad, phi * probs * (1 - probs) / 24)
    assert (logits.grad != 0).any()


def test_boundary_of_the_perfect_mask_is_its_documented_least():
    mask = picture("........ .######. .######. .######. .######. ........")
    target = batch(mask)
    least = boundary(target * 60 - 30, target).item()
    assert -mask.mean() < least < 0
    assert least == pytest.approx((signed_distance(mask) * mask).mean())


@pytest.mark.parametrize(
    ("combo", "overlap"), [(boundary_combo, squared_dice), (boundary_combo_gdice, generalised_dice)]
)
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_boundary_combo_by_its_formula(combo, overlap, alpha):
    logits, target = row(0.5, -1, 2, 0.1), row(1, 1, 0, 0)
    rest = (overlap(logits, target) + weighted_bce(logits, target)) / 2
    expected = alpha * boundary(logits, target) + (1 - alpha) * rest
    value = combo(logits, target, alpha=alpha)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    ("epoch", "ramp", "cap", "share"),
    [(0, 100, 0.99, 0), (1, 100, 0.99, 0.01), (99, 100, 0.99, 0.99), (500, 100, 0.99, 0.99), (49, 50, 1, 0.98)],
)
def test_boundary_share(epoch, ramp, cap, share):
    assert boundary_share(epoch, ramp_epochs=ramp, cap=cap) == share


@pytest.mark.parametrize(("epoch", "ramp", "cap"), [(-1, 10, 1), (0, 0, 1), (0, 10, 1.1), (0, 10, -0.1)])
def test_boundary_share_refuses(epoch, ramp, cap):
    with pytest.raises(UsageError, match="no boundary share at epoch"):
        boundary_share(epoch, ramp_epochs=ramp, cap=cap)


BAR = picture("......... ......... ######### ######### ######### ......... .........")
LINE = picture("......... ......... ......... ######### ......... ......... .........")
SHORT = BAR & (np.arange(9) < 5)


def test_soft_skeleton_of_a_bar_is_its_middle():
    assert torch.equal(soft_skeleton(batch(BAR), 3), batch(LINE))
    assert torch.equal(soft_skeleton(batch(BAR), 0), batch(BAR) * 0)  # not yet eroded that far
    assert torch.equal(soft_skeleton(batch(BAR) * 0.5, 3), batch(LINE) * 0.5)


def test_soft_skeleton_of_a_peak_on_a_ridge_adds_up_as_probabilities_do():
    peak = batch(BAR) * 0.5
    peak[..., 3, 4] = 1  # 0.5 above its surroundings, which have a ridge of 0.5 there
    assert soft_skeleton(peak, 3)[..., 3, :].unique().tolist() == [0.5, 0.75]


def test_cldice_by_hand():
    # The line found is 4 px long, all on crack; 5 of the 9 px of the true line are found.
    recall = (5 + 1) / (9 + 1)
    value = cldice(batch(SHORT) * 60 - 30, batch(BAR))
    assert value.item() == pytest.approx(1 - 2 * recall / (1 + recall))
    # The other way round 5 of the 9 px of the line found are true, and the 4 px of the true line are found.
    precision = (5 + 1) / (9 + 1)
    value = cldice(batch(BAR) * 60 - 30, batch(SHORT))
    assert value.item() == pytest.approx(1 - 2 * precision / (precision + 1))


def test_cldice_does_not_mind_width():
    thin = batch(BAR & LINE) * 60 - 30
    assert cldice(thin, batch(BAR)).item() == pytest.approx(0, abs=1e-9)
    assert dice(thin, batch(BAR)).item() > 0.4


def test_tubed_skeleton_is_narrow_and_inside():
    mask = np.zeros((31, 61), bool)
    mask[8:23, 5:55] = True
    tube = tubed_skeleton(mask)
    rows = np.flatnonzero(tube[:, 30])
    assert len(rows) == 5  # the line and 2 px on each side
    assert abs(rows.mean() - 15) <= 1
    narrow = np.zeros((31, 61), bool)
    narrow[14:17, 5:55] = True
    assert (tubed_skeleton(narrow) <= narrow).all()
    assert (tubed_skeleton(narrow)[14:17, 20:40] == 1).all()


def test_skeleton_recall_by_hand():
    mask = np.zeros((31, 61), bool)
    mask[8:23, 5:55] = True
    tube = batch(tubed_skeleton(mask))
    assert skeleton_recall(torch.full_like(tube, logit(0.3)), batch(mask)).item() == pytest.approx(0.7)
    left = torch.arange(61) < 30
    value = skeleton_recall(torch.where(left, 30.0, -30.0).expand_as(tube).double(), batch(mask))
    assert value.item() == pytest.approx(1 - (tube * left).sum().item() / tube.sum().item())


@pytest.mark.parametrize("loss", [cldice, skeleton_recall])
def test_without_a_line_the_loss_is_dice(loss):
    logits = torch.randn(2, 1, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = batch(BAR, BAR & False)
    expected = (loss(logits[:1], target[:1]) + dice(logits[1:], target[1:])) / 2
    torch.testing.assert_close(loss(logits, target), expected)
