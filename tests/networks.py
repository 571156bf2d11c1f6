"""What the tests of networks share: an input that is the same in every run."""

import torch


def picture(height, width, batch=1):
    """Return a normalised image batch (B, 3, H, W) of noise."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
