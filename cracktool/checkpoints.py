"""Checkpoints of the published systems as their authors saved them: opened safely, and the table of those known.

Knows no network and no card: `cracktool.weights` gives the tensors our names and describes them. Nothing is downloaded.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.serialization import safe_globals

from cracktool.errors import WeightsError

ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
"""Endings of the files that authors save."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training code keeps the tensors beside epoch, losses and optimizer."""

PASSED_OVER = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
)
"""Losses and histories that training code stores beside the tensors; a stand-in takes their place, unread."""

_REMEDY = "with its authors' code, save the network's state_dict() to a new file"

# All that PyTorch's reader raises on bytes that are no checkpoint: it checks little before it acts on them.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A checkpoint of a published system.

    Args:
        model: Name for `cracktool.models.build_model`.
        file: Name under which it is looked for: the authors' own, but for those whose own says nothing.
        page: Where its authors offer it, or the code that makes it.
        data: What it was trained on.
        licence: Terms that its page states.
        threshold: Crack from this probability on, as its authors cut.
        tile: Side in px of the pictures that it was trained on.
        mean: RGB mean of its input (values 0 to 1), where it is not the model's.
        std: RGB standard deviation likewise.
    """

    model: str
    file: str
    page: str
    data: str
    licence: str = "none stated"
    threshold: float = 0.5
    tile: int = 512
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


_MERGED = "khanhha's 12 merged sets, about 11,200 pictures of 448 px"


def _khanhha(model: str, file: str) -> Published:
    page = "https://github.com/khanhha/crack_segmentation"
    return Published(model=model, file=file, page=page, data=_MERGED, threshold=0.2, tile=448)


def _crackrefinenet(data: str) -> Published:
    page = "https://github.com/AmmarOkran/CrackRefineNet"
    return Published(model="crackrefinenet", file=f"crackrefinenet_{data.lower()}.pth", page=page, data=data)


def _crackformer2(file: str, data: str) -> Published:
    return Published(model="crackformer2", file=file, page="https://github.com/LouisNUST/CrackFormer-II", data=data)


def _csbsr(model: str) -> Published:
    # Trained on pictures of 56 px, which it enlarges to 224. All its files are called latest.pth.
    page = "https://github.com/Yuki-11/CSBSR"
    return Published(model=model, file=f"{model}.pth", page=page, data=_MERGED, licence="Apache-2.0", tile=56)


REGISTRY: dict[str, Published] = {
    "khanhha_vgg16": _khanhha("khanhha_unet_vgg16", "model_unet_vgg_16_best.pt"),
    "khanhha_resnet101": _khanhha("khanhha_unet_resnet101", "model_unet_resnet_101_best.pt"),
    "khanhha_resnet34": _khanhha("khanhha_unet_resnet34", "model_best.pt"),
    "crackrefinenet_cfd": _crackrefinenet("CFD"),
    "crackrefinenet_crack500": _crackrefinenet("Crack500"),
    "crackrefinenet_rcfd": _crackrefinenet("RCFD"),
    "crackformer2_crack260": _crackformer2("crack260.pth", "CrackTree260"),
    "crackformer2_crack315": _crackformer2("crack315.pth", "CrackLS315"),
    "crackformer2_crack537": _crackformer2("crack537.pth", "DeepCrack"),
    "csbsr_pspnet": _csbsr("csbsr_pspnet"),
    "csbsr_hrnet_ocr": _csbsr("csbsr_hrnet_ocr"),
    "csbsr_crackformer2": _csbsr("csbsr_crackformer2"),
    "alvaro_unet_resnet101": Published(
        model="unet_resnet101",
        file="model_final.pth",
        page="https://github.com/Alvaro2304/crack_segmentation_unet",
        data=_MERGED,
        threshold=0.5,  # for photos; its video script cuts at 0.2
        tile=448,
    ),
    "omendra_pspnet_resnet18": Published(
        model="pspnet_resnet18",
        file="PSPnet_best_model.pth",
        page="https://github.com/Omendra108/Crack-Segmentation-using-PSPnet",
        data=_MERGED,
        tile=256,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ),
    "skamlo_unet_resnet50": Published(
        model="weak_unet_resnet50",
        file="best_model.pth",
        page="https://github.com/Skamlo/crack-image-segmentation",
        data=f"{_MERGED}, by label alone",
        licence="MIT",
        threshold=0.5,  # of its published Dice; its pictures are cut at 0.35
        tile=448,
    ),
}
"""Name for ``--weights`` -> checkpoint of a published system."""


def cache_folder() -> Path:
    """Return the folder where published checkpoints are looked for: ``$CRACKTOOL_CACHE``, else the user's cache."""
    if folder := os.environ.get("CRACKTOOL_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cracktool" / "checkpoints"


def published_path(name: str) -> Path:
    """Return the file of a name of `REGISTRY` in the cache folder.

    Raises:
        WeightsError: It is not there; the message says where to get it and where to put it.
    """
    published = REGISTRY[name]
    path = cache_folder() / published.file
    if not path.is_file():
        raise WeightsError(
            f"the weights {name} are not there; licence: {published.licence}",
            path=path,
            remedy=f"get them as {published.page} says, and put them there under that name",
        )
    return path


def find_published(model: str, file: str) -> Published | None:
    """Return the known checkpoint of a model, the one with that file name first; None for a model without any."""
    of_model = [published for published in REGISTRY.values() if published.model == model]
    return min(of_model, key=lambda published: published.file != file, default=None)


def read_authors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an authors' checkpoint under the authors' names, on the CPU; no code in it is run.

    Accepts a bare state dict and one under a key of `WRAPPERS`. A ``module.`` in front of every name, left there by
    training on several GPUs, is removed.

    Raises:
        WeightsError: The file is damaged, holds no state dict, or cannot be read without running its code.

    Example:
        >>> read_authors(Path("model_unet_vgg_16_best.pt"))["center.block.1.conv.weight"].shape
        torch.Size([512, 512, 3, 3])
    """
    found = _load(path)
    tensors = _state_dict(found)
    if not tensors:
        keys = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise WeightsError(f"there is no state dict in it, only {keys[:100] or 'nothing'}", path=path, remedy=_REMEDY)
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


class _PassedOver:
    """Stands for an object of `PASSED_OVER`: takes whatever it is made from, keeps nothing, does nothing."""

    def __new__(cls, *_: object) -> _PassedOver:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


def _load(path: Path) -> object:
    try:
        with warnings.catch_warnings(), safe_globals([(_PassedOver, name) for name in PASSED_OVER]):
            warnings.simplefilter("ignore")  # of TorchScript, before the error that says the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", path=path) from error
    except _DAMAGE as error:
        reason, remedy = _explain(str(error))
        raise WeightsError(reason, path=path, remedy=remedy) from error


def _explain(error: str) -> tuple[str, str]:
    """Return reason and remedy in the user's words."""
    if refused := re.search(r"GLOBAL (\S+) (?:was not|whose)", error):
        name = refused[1]
        content = "a whole network" if name.startswith("torch.nn.") else "more than tensors"
        return f"it holds {content}: reading {name} could run any code and is refused", _REMEDY
    if "TorchScript" in error:
        return "a TorchScript program, which carries its own code, is no checkpoint", _REMEDY
    return "damaged, or not a checkpoint of PyTorch", "copy it again"


def _state_dict(found: object) -> dict[str, Tensor]:
    """Return `found`, or what a key of `WRAPPERS` holds, if it is tensors by name; else nothing."""
    if not isinstance(found, dict):
        return {}
    for candidate in (found, *(found.get(key) for key in WRAPPERS)):
        if isinstance(candidate, dict) and all(map(_is_named_tensor, candidate.items())) and candidate:
            return dict(candidate)
    return {}


def _is_named_tensor(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)
