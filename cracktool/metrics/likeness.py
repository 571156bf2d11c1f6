"""How like a restored picture is to the sharp one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError
from cracktool.images import Image


def quality(restored: Image, sharp: Image) -> dict[str, float]:
    """Return PSNR and SSIM of a restored photo against the sharp one, both uint8 RGB (H, W, 3).

    Raises:
        InputError: Their sizes differ.
    """
    from skimage.metrics import structural_similarity

    if restored.shape != sharp.shape:
        raise InputError(f"the sharp photo has shape {sharp.shape}, the restored one {restored.shape}")
    side = min(sharp.shape[:2])
    similarity = structural_similarity(  # type: ignore[no-untyped-call]
        restored,
        sharp,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        win_size=min(11, side - 1 + side % 2),
    )
    return {"psnr": psnr((restored.astype(np.float64) - sharp) / 255, peak=1.0), "ssim": float(similarity)}


def psnr(error: npt.NDArray[np.floating], *, peak: float) -> float:
    """Return the peak signal-to-noise ratio of an error, dB: 10 log10 peak^2 / MSE; at most 100 at a peak of 1."""
    mean_square = max(float(np.mean(np.square(error))), 1e-10)
    return float(10 * np.log10(peak**2 / mean_square))
