"""Models: a name such as ``unet_resnet101`` to a network that gives logits at the input's size.

A new architecture is one file and one line of `FAMILIES` or `SYSTEMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cracktool.errors import UsageError, did_you_mean
from cracktool.models.costs import read_costs
from cracktool.models.crackformer import CrackFormer2
from cracktool.models.crackrefinenet import CrackRefineNet
from cracktool.models.csbsr import CSBSR, BicubicPSPNet, CSBSRPSPNet, joint_loss
from cracktool.models.encoder import encoder_names, encoder_statistics
from cracktool.models.fcdensenet import FCDenseNet
from cracktool.models.hrnet_ocr import HRNetOCR
from cracktool.models.khanhha import KhanhhaResNet, KhanhhaVGG
from cracktool.models.padding import Outputs, PaddedModel, main_logits
from cracktool.models.pspnet import PSPNet
from cracktool.models.unet import UNet
from cracktool.models.weak import POOLINGS, PatchClassifier, WeakUNet

__all__ = [
    "CSBSR",
    "FAMILIES",
    "LISTED",
    "POOLINGS",
    "SYSTEMS",
    "Outputs",
    "PaddedModel",
    "System",
    "build_model",
    "describe",
    "joint_loss",
    "main_logits",
    "model_statistics",
]

FAMILIES: dict[str, Callable[..., PaddedModel]] = {"unet": UNet, "pspnet": PSPNet, "crackrefinenet": CrackRefineNet}
"""Family -> class; a model's name is FAMILY_ENCODER with any timm encoder that offers feature maps."""

_PAPERS = {
    "unet": "Ronneberger et al. 2015, arXiv 1505.04597",
    "pspnet": "Zhao et al. 2017, arXiv 1612.01105",
    "crackrefinenet": "Okran et al. 2026, Automation in Construction 181, 106635",
}
_KHANHHA = "github.com/khanhha/crack_segmentation"
_CSBSR = "Kondo & Ukita 2024, IEEE TIM 73, 5013816"
_VIEWS = 0.1, 8  # times the side: 64 times the pixels are the most
_AS_THEY_ARE: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class System:
    """A published network with a name of its own.

    Args:
        build: Makes it; takes ``pretrained`` and the keyword arguments of its class.
        source: Where it was published.
        mean: RGB mean (values 0 to 1) with which its input is normalised.
        std: RGB standard deviation likewise.
    """

    build: Callable[..., PaddedModel]
    source: str
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


def _csbsr(detector: Callable[..., PaddedModel], *, pretrained: bool = False, **arguments: Any) -> CSBSR:
    return CSBSR(detector(pretrained=pretrained), pretrained=pretrained, **arguments)


def _crackformer2_untaught(*, pretrained: bool) -> CrackFormer2:
    return CrackFormer2()  # it has no ImageNet weights; the restoring half of CSBSR does


SYSTEMS: dict[str, System] = {
    "crackrefinenet": System(CrackRefineNet, _PAPERS["crackrefinenet"]),
    "khanhha_unet_vgg16": System(KhanhhaVGG, _KHANHHA),
    "khanhha_unet_resnet34": System(partial(KhanhhaResNet, 34), _KHANHHA),
    "khanhha_unet_resnet101": System(partial(KhanhhaResNet, 101), _KHANHHA),
    "fcdensenet67": System(FCDenseNet, "Jegou et al. 2017, arXiv 1611.09326"),
    "crackformer2": System(CrackFormer2, "Liu et al. 2023, IEEE T-ITS 24(9)", **_AS_THEY_ARE),
    "hrnet_ocr": System(HRNetOCR, "Yuan et al. 2020, arXiv 1909.11065"),
    "csbsr_pspnet": System(partial(_csbsr, CSBSRPSPNet), _CSBSR, **_AS_THEY_ARE),
    "csbsr_unet": System(partial(_csbsr, KhanhhaVGG), _CSBSR, **_AS_THEY_ARE),
    "csbsr_hrnet_ocr": System(partial(_csbsr, partial(HRNetOCR, regions=1, form="openseg")), _CSBSR, **_AS_THEY_ARE),
    "csbsr_crackformer2": System(partial(_csbsr, _crackformer2_untaught), _CSBSR, **_AS_THEY_ARE),
    "bicubic_pspnet": System(
        BicubicPSPNet, "bicubic enlargement before the PSPNet of CSBSR, its baseline", **_AS_THEY_ARE
    ),
    "weak_unet_resnet50": System(WeakUNet, "github.com/Skamlo/crack-image-segmentation"),
    "patch_resnet50": System(PatchClassifier, "after Koenig et al. 2021, arXiv 2109.00456"),
}
"""Name -> published network that is not a family over encoders."""

LISTED = (
    *SYSTEMS,
    "unet_efficientnet_lite0",  # the network of the weights that ship as fast, and that of accurate
    "unet_efficientnet_lite2",
    *(
        f"{family}_{encoder}"
        for family in ("unet", "pspnet")
        for encoder in ("resnet18", "resnet34", "resnet50", "resnet101", "convnext_tiny", "convnext_base")
    ),
)
"""The names shown to a user who asks for examples; every one of them is tested."""


def build_model(name: str, *, pretrained: bool = False, views: Sequence[float] = (1,), **arguments: Any) -> PaddedModel:
    """Build a network by its name.

    Args:
        name: A name of `SYSTEMS`, or FAMILY_ENCODER such as ``unet_resnet101`` or ``pspnet_convnext_tiny``.
        pretrained: Load the encoder's ImageNet weights through timm.
        views: How many times enlarged it looks at its input, from 0.1 to 8; see `PaddedModel`.
        arguments: Keyword arguments of the network's class, such as ``max_stride``.

    Raises:
        UsageError: No such name, encoder or argument; the message names the nearest ones.
        WeightsError: The pretrained weights could not be had.

    Example:
        >>> build_model("unet_resnet18").stride
        32
    """
    try:
        listed = isinstance(views, Sequence) and len(set(views)) == len(views) > 0
        least, most = _VIEWS
        if not listed or not all(isinstance(times, int | float) and least <= times <= most for times in views):
            raise UsageError(f"views is {views!r}, expected numbers from {least} to {most}, each once, as in [1, 2]")
        if name in SYSTEMS:
            model = SYSTEMS[name].build(pretrained=pretrained, **arguments)
        else:
            family, encoder = _parse_name(name)
            model = FAMILIES[family](encoder, pretrained=pretrained, **arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the arguments {arguments} do not fit {name}: {error}") from error
    if model.scale > 1 and tuple(views) != (1,):
        raise UsageError(f"{name} enlarges by itself", remedy="leave views out")
    model.views = tuple(views)
    return model


def model_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the RGB mean and standard deviation (values 0 to 1) with which a model's input is normalised."""
    if name in SYSTEMS:
        return SYSTEMS[name].mean, SYSTEMS[name].std
    return encoder_statistics(_parse_name(name)[1])


def describe(name: str) -> list[str]:
    """Return a listed model as texts: name, parameters, GMACs and relative CPU time at 512 px, stride, source."""
    cost = read_costs()[name]
    source = SYSTEMS[name].source if name in SYSTEMS else _PAPERS[_parse_name(name)[0]]
    return [name, f"{cost.parameters / 1e6:.1f} M", f"{cost.gmacs:.0f}", f"{cost.time:.2g}", str(cost.stride), source]


def _parse_name(name: str) -> tuple[str, str]:
    family, _, encoder = name.partition("_")
    if family in FAMILIES and encoder in encoder_names():
        return family, encoder
    if family in FAMILIES:
        near = did_you_mean(name, [f"{family}_{known}" for known in encoder_names()])
    else:
        near = did_you_mean(name, LISTED)
    raise UsageError(f"no model {name!r}", remedy=near or "see crack train --list-models")
