"""Which file of weights a user means, and what it says of itself: the ones that ship, a path, or a published system.

Reads no tensors, downloads nothing and needs no PyTorch.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from cracktool.card import METADATA_KEY, Card
from cracktool.errors import WeightsError, did_you_mean
from cracktool.files import is_file

SHIPPED = ("fast", "accurate")
"""Names for ``--weights`` of the sets that ship, as crack-NAME.safetensors; the first is the default."""

HUB_TENSORS, HUB_CONFIG = "model.safetensors", "config.json"
"""Names of the files of a model folder as the Hugging Face Hub lays it out."""

_HERE = Path(__file__).parent
SHIPPED_FOLDERS = (_HERE / "shipped_weights", _HERE.parent / "weights")
"""Where the weights that ship lie: in an installed wheel, and in a checkout."""

ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
"""Endings of the files that authors save."""


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
    try:
        home = Path.home()
    except RuntimeError:  # a user who is only a number, as in some containers
        home = Path(tempfile.gettempdir()) / f"home-{os.getuid()}"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "cracktool" / "checkpoints"


def published_path(name: str) -> Path:
    """Return the file of a name of `REGISTRY` in the cache folder.

    Raises:
        WeightsError: It is not there; the message says where to get it and where to put it.
    """
    published = REGISTRY[name]
    path = cache_folder() / published.file
    if not is_file(path):
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


def shipped_weights(name: str = SHIPPED[0]) -> Path:
    """Return the file of weights that ship with the package.

    Args:
        name: A name of `SHIPPED`.

    Raises:
        WeightsError: The installation lacks it.
    """
    file = f"crack-{name}.safetensors"
    for folder in SHIPPED_FOLDERS:
        if is_file(folder / file):
            return folder / file
    raise WeightsError(f"the installation lacks {file}", remedy="install cracktool again, or give --weights FILE")


def weights_path(spec: str | Path | None) -> Path:
    """Return the file that a user's ``--weights`` means; None means the default.

    Args:
        spec: A file, a run folder of ``crack train``, a model folder of ``crack export --format hf``, or a name of
            `SHIPPED` or `REGISTRY`.

    Raises:
        WeightsError: There is no such file.
    """
    if spec is None:
        return shipped_weights()
    path = Path(spec)
    for name in ("best.safetensors", HUB_TENSORS):  # a run folder of `crack train`, a model folder
        if is_file(path / name):
            return path / name
    if is_file(path):
        return path
    if str(spec) in SHIPPED:
        return shipped_weights(str(spec))
    if str(spec) in REGISTRY:
        return published_path(str(spec))
    near = did_you_mean(str(spec), (*SHIPPED, *REGISTRY))
    remedy = near or f"give a file, a run folder, or a name: {', '.join((*SHIPPED, *REGISTRY))}"
    raise WeightsError("no such weights file", path=path, remedy=remedy)


def read_card(path: Path) -> Card:
    """Read the card of a .safetensors file; in a model folder it may lie in config.json beside the file.

    Raises:
        WeightsError: The file is damaged, cut short, or has no card.
    """
    if path.suffix != ".safetensors":
        reason = "tensors and card are read from .safetensors files alone"
        raise WeightsError(reason, path=path, remedy="give the .safetensors file that it was made of")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"not a whole safetensors file: {error}", path=path, remedy="copy it again") from error
    config = path.with_name(HUB_CONFIG)
    if METADATA_KEY not in metadata and path.name == HUB_TENSORS and config.is_file():
        return Card.from_json(config.read_text(encoding="utf-8", errors="replace"), path=config)
    if METADATA_KEY not in metadata:
        raise WeightsError("a safetensors file without a cracktool card", path=path, remedy="use one from crack train")
    return Card.from_json(metadata[METADATA_KEY], path=path)
