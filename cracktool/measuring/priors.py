"""What is known of a photo's cracks before a profile is fitted: how deep they look and how blurred.

Numbers only; how they are learnt from fits is said in `learning`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cracktool.measuring.rows import Rows

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What is known of the cracks of a photo.

    The defaults hold for open cracks in daylight, in grey values as cameras write them (gamma included). The depth was
    read off 979 measured profiles of concrete (Benz and Rodehorst 2021), where it is the same from 0.5 to 15 px; its
    spread is set so that intervals of cracks below 3 px, which rest on it, hold the truth as often as they say.

    Args:
        depth: Relative depth r: median, and standard deviation of its logarithm. 1 is a black crack.
        blur: sigma in px of lens, pixel and resampling together: median, and standard deviation of its logarithm.
        correlation: How many neighbouring samples share one noise: texture is not white.
    """

    depth: tuple[float, float] = (0.845, 0.165)
    blur: tuple[float, float] = (0.8, 0.45)
    correlation: float = 2.0

    def repeated(self, count: int) -> Priors:
        """Return the same for each of so many profiles."""
        depth, depth_std, blur, blur_std = (np.full(count, each, np.float32) for each in (*self.depth, *self.blur))
        return Priors(depth, depth_std, blur, blur_std, self.correlation)


@dataclass(frozen=True)
class Priors(Rows):
    """What is known of the crack of each of N profiles, as in `Prior`; arrays float32 (N,)."""

    depth: Float32s
    depth_std: Float32s
    blur: Float32s
    blur_std: Float32s
    correlation: float
