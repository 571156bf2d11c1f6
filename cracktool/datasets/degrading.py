"""Make a photo of a data set blurred and small beside its sharp mask, for sets that score networks which restore.

Reads and writes no file; the blur of a photo is a function of a seed and its name alone.
"""

from __future__ import annotations

import hashlib
import io

import numpy as np

from cracktool.degradation import SCALE, degrade_randomly
from cracktool.images import Image, Mask, encode_png


def degraded(name: str, image: Image, mask: Mask | None, seed: int) -> tuple[Image, Mask | None, dict[str, bytes]]:
    """Blur a photo by a random kernel and shrink it to a quarter; its mask stays sharp.

    Args:
        name: The photo's file name without extension.
        image: Sharp photo, uint8 RGB (H, W, 3), both sides 4 px at least.
        mask: Its mask, bool (H, W), or None.
        seed: The same seed and name draw the same kernel.

    Returns:
        The small photo (H // 4, W // 4, 3); the mask cropped to exactly 4 times its sides; and as more files
        ``kernels/NAME.npy``, the kernel, float32 (21, 21), that blurred it, and ``sharp/NAME.png``, the sharp photo
        cropped likewise.

    Raises:
        UsageError: The photo has fewer than 4 rows or columns.

    Example:
        >>> image, mask, files = degraded("a", np.zeros((10, 8, 3), np.uint8), np.ones((10, 8), bool), 0)
        >>> image.shape, mask.shape, list(files)
        ((2, 2, 3), (8, 8), ['kernels/a.npy', 'sharp/a.png'])
    """
    digest = hashlib.sha256(f"{seed} {name}".encode(errors="surrogatepass")).digest()
    small, kernel = degrade_randomly(image, np.random.default_rng(int.from_bytes(digest)))
    kept = slice(SCALE * small.shape[0]), slice(SCALE * small.shape[1])
    cropped = None if mask is None else mask[kept]
    file = io.BytesIO()
    np.save(file, kernel)
    files = {f"kernels/{name}.npy": file.getvalue(), f"sharp/{name}.png": encode_png(np.ascontiguousarray(image[kept]))}
    return small, cropped, files
