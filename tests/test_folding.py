"""Folded batch norms: the same logits, no norm left, and hands off where it does not fit."""

import pytest
import torch
from torch import nn

from cracktool.inference.folding import fold_norms
from cracktool.models import build_model
from cracktool.weights import load_weights


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def shaken(model):
    """Give norms the statistics of a network that has learned something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("name", ["ships", "unet_resnet18", "unet_regnetx_004", "pspnet_resnet18"])
def test_the_logits_stay_and_the_norms_go(name):
    model = load_weights().model if name == "ships" else shaken(build_model(name))
    before = norms(model)
    folded = fold_norms(model, 32)
    assert norms(folded) < before / 10
    assert norms(model) == before  # the network given is as it was
    picture = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(picture)
        assert (folded(picture) - expected).abs().max() < 1e-4 * max(expected.abs().max(), 1)


class Odd(nn.Module):
    """A norm behind no convolution, one that two convolutions use, and a convolution whose output is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.a, self.b = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.shared, self.twice, self.last = nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1)

    def forward(self, x):
        x = self.shared(self.b(self.shared(self.a(self.first(x)))))
        y = self.twice(x)
        return y + self.last(y)


def test_what_does_not_belong_together_is_left_alone():
    model = shaken(Odd())
    assert fold_norms(model) is model
