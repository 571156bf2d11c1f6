"""Models: a name such as ``unet_resnet101`` to a network that gives logits at the input's size.

A new architecture is one file and one line of `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cracktool.errors import UsageError, did_you_mean
from cracktool.models.encoder import encoder_names, encoder_statistics, without_memory
from cracktool.models.padding import PaddedModel
from cracktool.models.pspnet import PSPNet
from cracktool.models.unet import UNet

__all__ = ["FAMILIES", "LISTED", "PaddedModel", "build_model", "describe", "model_statistics"]

FAMILIES: dict[str, Callable[..., PaddedModel]] = {"unet": UNet, "pspnet": PSPNet}
"""Family -> class; a model's name is FAMILY_ENCODER with any timm encoder that offers feature maps."""

LISTED = tuple(
    f"{family}_{encoder}"
    for family in FAMILIES
    for encoder in ("regnetx_002", "resnet18", "resnet34", "resnet50", "resnet101", "convnext_tiny", "convnext_base")
    if not (family == "pspnet" and encoder == "regnetx_002")
)
"""The names shown to a user who asks for examples; every one of them is tested."""


def build_model(name: str, *, pretrained: bool = False, **arguments: Any) -> PaddedModel:
    """Build a network by its name.

    Args:
        name: FAMILY_ENCODER, such as ``unet_resnet101`` or ``pspnet_convnext_tiny``.
        pretrained: Load the encoder's ImageNet weights through timm.
        arguments: Keyword arguments of the family's class, such as ``max_stride``.

    Raises:
        UsageError: No such family, encoder or argument; the message names the nearest ones.
        WeightsError: The pretrained weights could not be had.

    Example:
        >>> build_model("unet_resnet18").stride
        32
    """
    family, encoder = _parse_name(name)
    try:
        return FAMILIES[family](encoder, pretrained=pretrained, **arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the arguments {arguments} do not fit {name}: {error}") from error


def model_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the RGB mean and standard deviation (values 0 to 1) with which a model's input is normalised."""
    return encoder_statistics(_parse_name(name)[1])


def describe(name: str) -> list[str]:
    """Return name, parameters in millions and stride of a model, as texts; builds no weights."""
    model = without_memory(lambda: build_model(name))
    count = sum(parameter.numel() for parameter in model.parameters())
    return [name, f"{count / 1e6:.1f} M", str(model.stride)]


def _parse_name(name: str) -> tuple[str, str]:
    family, _, encoder = name.partition("_")
    if family in FAMILIES and encoder in encoder_names():
        return family, encoder
    if family in FAMILIES:
        near = did_you_mean(name, [f"{family}_{known}" for known in encoder_names()])
    else:
        near = did_you_mean(name, LISTED)
    raise UsageError(f"no model {name!r}", remedy=near or "see crack train --list-models")
