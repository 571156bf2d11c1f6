"""Weights of pixels for losses of restored photos: what matters for finding cracks is to be restored best.

Source: Kondo & Ukita 2024 (CSBSR, IEEE TIM 73, 5013816). Knows nothing about the network that restores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cracktool.images import Mask
from cracktool.losses.pixels import draw_maps
from cracktool.metrics.distances import distance_to


def failure_weights(logits: Tensor, mask: Tensor) -> Tensor:
    """Return exp(|p - t|), p = sigmoid(logit), the failure-oriented weights: 1 where right, e where wrong.

    The paper has a factor in the exponent, and finds 1 best.

    Args:
        logits: What the detector found (B, 1, H, W); no gradient flows through it.
        mask: Truth t (B, 1, H, W), 0 to 1.
    """
    return (logits.detach().sigmoid() - mask).abs().exp()


def crack_weights(logits: Tensor, mask: Tensor) -> Tensor:
    """Return 2 exp(-d), d the distance to the nearest crack pixel in px: the crack-oriented weights.

    2 on crack, falling to 0 away from it, and 0 all over a photo without crack. Measured on the CPU.

    Args:
        logits: What the detector found (B, 1, H, W); only its type is looked at.
        mask: Truth (B, 1, H, W), crack from 0.5 on.
    """
    return 2 * draw_maps(_nearness, mask, logits)


SR_WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor] | None] = {
    "none": None,
    "failure": failure_weights,
    "crack": crack_weights,
}
"""Name -> weights of the pixels in restoring, of the detector's logits and the mask; None for all alike."""


def _nearness(crack: Mask) -> npt.NDArray[np.float32]:
    return np.exp(-distance_to(crack))
