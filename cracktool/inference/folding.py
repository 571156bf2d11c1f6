"""Batch norms folded into the convolutions before them: the same result with fewer passes over memory.

Changes a network in place; for networks that will only be run.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_SIDE = 64  # px of the picture that shows which norm follows which convolution
_CLOSE = 1e-3  # of logits, whose scale is 1


@torch.no_grad()
def fold_norms(model: nn.Module, stride: int = 32) -> nn.Module:
    """Return a network in evaluation with its batch norms folded; the network itself where that changes its result.

    A norm belongs to a convolution when the one and only input that it was seen to take is that convolution's output.

    Args:
        model: Taken over.
        stride: Both sides of its input are multiples of this.

    Example:
        >>> folded = fold_norms(load_weights().model)
    """
    picture = torch.linspace(-2, 2, 3 * _side(stride) ** 2).reshape(1, 3, _side(stride), _side(stride))
    expected, pairs = _watch(model, picture)
    if not pairs:
        return model
    folded = copy.deepcopy(model)
    for convolution, norm in pairs:
        _fold(folded, convolution, norm)
    close = torch.allclose(folded(picture), expected, rtol=_CLOSE, atol=_CLOSE)
    return folded if close else model


def _side(stride: int) -> int:
    return max(_SIDE, 2 * stride)


def _watch(model: nn.Module, picture: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """Run a picture; return the logits, and the names of each convolution and norm that belong together."""
    made: dict[int, tuple[str, Tensor]] = {}  # outputs are kept, so that no two have one identity
    taken: dict[str, list[str | None]] = {}
    calls: dict[str, int] = {}

    def after_convolution(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
            made[id(output)] = name, output
            calls[name] = calls.get(name, 0) + 1

        return note

    def before_norm(name: str) -> Any:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found = made.get(id(inputs[0]))
            taken.setdefault(name, []).append(found[0] if found else None)

        return note

    hooks = []
    for name, module in model.named_modules():
        if type(module) is nn.Conv2d:
            hooks.append(module.register_forward_hook(after_convolution(name)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(before_norm(name)))
    try:
        logits: Tensor = model(picture).clone()
    finally:
        for hook in hooks:
            hook.remove()
    users = [names[0] for names in taken.values() if len(names) == 1]
    pairs = [(names[0], norm) for norm, names in taken.items() if len(names) == 1 and names[0] is not None]
    return logits, [(conv, norm) for conv, norm in pairs if calls[conv] == 1 and users.count(conv) == 1]


def _fold(model: nn.Module, convolution: str, norm: str) -> None:
    old: Any = model.get_submodule(norm)
    model.set_submodule(convolution, fuse_conv_bn_eval(model.get_submodule(convolution), old))  # type: ignore[type-var]
    # timm's norms carry an activation.
    rest = nn.Sequential(old.drop, old.act) if hasattr(old, "act") else nn.Identity()
    model.set_submodule(norm, rest)
