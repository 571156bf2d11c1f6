"""How well a network that restores photos restores them: against the sharp photos of ``crack prepare --degrade``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cracktool.degradation import SCALE
from cracktool.errors import InputError
from cracktool.images import Image, read_image
from cracktool.manifest import Entry, Manifest
from cracktool.metrics import psnr, quality

if TYPE_CHECKING:
    from cracktool.models import CSBSR
    from cracktool.weights import Checkpoint

TEXTS = {
    "psnr": "peak signal-to-noise ratio of the restored photo, dB: 10 log10 1 / MSE, RGB from 0 to 1",
    "ssim": "structural similarity of the restored photo (Wang 2004: Gaussian window of 1.5 px, mean of the channels)",
    "kernel_psnr": "peak signal-to-noise ratio of the estimated blur kernel, dB, peak: the largest of the true one",
}

_SIDE = 64  # of the small photo: a whole photo would need gigabytes; the authors restore squares of 56 px too

Scorer = Callable[[Entry], Mapping[str, float]]


def restoration_scorer(manifest: Manifest, load: Callable[[], Checkpoint]) -> Scorer | None:
    """Return what scores the restored photo of an entry; None for networks and data sets without sharp photos.

    Args:
        manifest: The data set.
        load: Gives the network; called only where there are sharp photos.

    Photos are restored on the CPU in squares of 64 px of the small photo, and joined.

    Raises:
        InputError: When called: the sharp photo or the kernel of an entry is missing or damaged.
    """
    from cracktool.models import CSBSR

    if not (manifest.folder / "sharp").is_dir():
        return None
    model = load().model
    if not isinstance(model, CSBSR):
        return None

    def score(entry: Entry) -> Mapping[str, float]:
        name = entry.image.removeprefix("images/").rsplit(".", 1)[0]
        sharp = read_image(manifest.folder / "sharp" / f"{name}.png")
        kernel = _read_kernel(manifest, name)
        restored, estimate = restore(model, read_image(manifest.image_path(entry)))
        return quality(restored, sharp) | {"kernel_psnr": psnr(estimate - kernel, peak=float(kernel.max()))}

    return score


def restore(model: CSBSR, photo: Image) -> tuple[Image, npt.NDArray[np.float32]]:
    """Return a small photo (h, w, 3) restored, uint8 (4 h, 4 w, 3), and the mean of the estimated kernels (21, 21)."""
    import torch

    height, width = photo.shape[:2]
    restored = np.empty((SCALE * height, SCALE * width, 3), np.uint8)
    kernels = []
    for rows, columns in _squares(height, width):
        part = torch.from_numpy(np.ascontiguousarray(photo[rows, columns])).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            sr, kernel = model.restore(part)
        target = (slice(SCALE * rows.start, SCALE * rows.stop), slice(SCALE * columns.start, SCALE * columns.stop))
        restored[target] = (sr[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        kernels.append(kernel[0, 0].numpy())
    return restored, np.mean(kernels, axis=0)


def _squares(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, _SIDE):
        for left in range(0, width, _SIDE):
            yield slice(top, min(top + _SIDE, height)), slice(left, min(left + _SIDE, width))


def _read_kernel(manifest: Manifest, name: str) -> npt.NDArray[np.float32]:
    path = manifest.folder / "kernels" / f"{name}.npy"
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"the blur kernel cannot be read: {error}", path=path) from error
