"""What the tests of networks share: an input that is the same in every run, and a network without batch norm."""

import torch
from torch import nn

from cracktool.models import SYSTEMS, PaddedModel, System


def picture(height, width, batch=1):
    """Return a normalised image batch (B, 3, H, W) of noise."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


class Normless(PaddedModel):
    """Two convolutions: what it learns of a batch is the mean of what it learns of the parts."""

    def __init__(self, *, pretrained=False):
        super().__init__(stride=1)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

    def forward_padded(self, x):
        return self.layers(x)


NORMLESS = {"normless": System(Normless, "none", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}
"""To be put into `SYSTEMS` by a test."""


def main():
    """Run the command line with the networks of this file: what `torchrun` starts in the tests."""
    from cracktool.cli import main as crack

    SYSTEMS.update(NORMLESS)
    crack()


if __name__ == "__main__":
    main()
