"""Settings of a training run: defaults <- recipe file <- ``--set key=value``, checked, with "did you mean".

Knows nothing about models or data; names are checked where they are used.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cracktool.errors import UsageError, check_name, did_you_mean

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of a training sample. Probabilities are 0 to 1; 0 switches a change off."""

    hflip: float = 0.5
    """Probability of a left-right flip."""
    vflip: float = 0.5
    """Probability of an upside-down flip."""
    quarter_turns: float = 0.5
    """Probability of a turn by 90 degrees."""
    rotate: float = 0.0
    """Largest turn in degrees, either way; what comes in from outside mirrors the border."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest magnification of the cut-out."""
    brightness: float = 0.2
    """Largest relative change of brightness."""
    contrast: float = 0.2
    """Largest relative change of contrast."""
    saturation: float = 0.2
    """Largest relative change of saturation."""
    hue: float = 0.0
    """Largest change of hue, as a share of the colour circle, at most 0.5."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    noise: float = 0.0
    """Probability of Gaussian grain."""
    jpeg: float = 0.0
    """Probability of JPEG artefacts."""
    invert: float = 0.0
    """Probability of inverted colours."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("hflip", "vflip", "quarter_turns", "blur", "noise", "jpeg", "invert"):
            _check(0 <= getattr(self, name) <= 1, f"augment.{name}", getattr(self, name), "a probability from 0 to 1")
        for name in ("brightness", "contrast", "saturation"):
            _check(0 <= getattr(self, name) <= 1, f"augment.{name}", getattr(self, name), "a share from 0 to 1")
        _check(0 <= self.hue <= 0.5, "augment.hue", self.hue, "a share from 0 to 0.5")
        _check(0 <= self.rotate <= 180, "augment.rotate", self.rotate, "degrees from 0 to 180")
        _check(
            0.1 <= self.zoom[0] <= self.zoom[1] <= 10, "augment.zoom", self.zoom, "two rising factors from 0.1 to 10"
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights of a training run, but for the pictures themselves."""

    model: str
    """Name of the network, such as unet_resnet101."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the network's class."""
    pretrained: bool = True
    """Start from ImageNet weights of the encoder."""
    init: str = ""
    """Start from this checkpoint instead; empty for none."""
    frozen: tuple[str, ...] = ()
    """Parts that keep the weights they start with, by the beginnings of their names, such as encoder."""
    frozen_norms: bool = False
    """Batch norms keep the statistics they start with: for small batches, and for fine-tuning with several views."""

    data: tuple[str, ...] = ("data/crack500",)
    """Prepared data sets: folders with a manifest.csv."""
    data_weights: tuple[float, ...] = ()
    """Share of each data set among the samples, in any unit; empty for one share per image."""
    size: int = 448
    """Side of the square samples, in px."""
    fit: Literal["crop", "resize"] = "crop"
    """How an image becomes a square sample: a random cut-out, or squeezed whole."""
    crack_crops: float = 0.0
    """Share of cut-outs that are made to contain crack, where the image has any."""
    empty_crops: float = 0.0
    """Share of cut-outs that are made to contain none, where the image has room beside its crack."""
    mine: str = ""
    """Folder of crack-free photos: where the network sees cracks in them, it learns next; empty for none."""
    mine_share: float = 0.2
    """Share of the samples that is cut from those."""
    unlabelled: str = ""
    """Folder of photos without masks, learned from as the moving average of the network sees them; empty for none."""
    unlabelled_share: float = 0.25
    """Share of the samples that is cut from those."""
    trust: tuple[float, float] = (0.1, 0.9)
    """Probabilities up to which and from which on the average is believed; what is between teaches nothing."""
    augment: Augment = field(default_factory=Augment)
    """Random changes of the samples."""

    soft_masks: bool = False
    """Learn from the shares of crack that shrunken masks have; otherwise each pixel is crack or none."""

    degrade: bool = False
    """Blur the samples and shrink them to a quarter: what networks that restore photos learn from."""
    beta: float = 0.3
    """Share of finding cracks, against restoring, in what such a network learns."""
    restore_epochs: int = 0
    """Epochs at the start in which such a network learns to restore only."""
    sr_weights: Literal["none", "failure", "crack"] = "none"
    """Restore best everywhere alike, where finding cracks fails, or near cracks."""

    supervision: Literal["pixels", "image", "pseudo"] = "pixels"
    """Learn from masks; from image labels alone; or from those and a teacher's masks. Only the first opens any mask."""
    pooling: Literal["max", "topk", "lse", "generalised_mean", "cam"] = "max"
    """How the logits of an image become one, where its label is all there is."""
    teacher: str = ""
    """Weights that make the pseudo-masks, or that are distilled, such as a run folder; empty for none."""
    distil: float = 0.0
    """Weight of the loss against the teacher's probabilities, beside that against the masks; 0 for none."""
    refine: Literal["guided", "darkness", "none"] = "guided"
    """Bring the teacher's probabilities to the edges in the image by a guided filter, by its dark pixels, or not."""
    pseudo_share: float = 0.02
    """Largest share of the pixels of an image that its pseudo-mask calls crack."""
    pseudo_band: tuple[float, float] = (0.2, 0.5)
    """Probabilities below which a pixel is no crack and from which it may be crack; what is between teaches nothing."""
    loss: str = "bce+dice"
    """Sum of losses, such as 0.5*bce+dice."""
    aux_weight: float = 0.4
    """Weight of the loss of each auxiliary output; that of the main output is 1."""
    boundary_epochs: int = 0
    """Epochs in which the boundary share of a boundary_combo loss rises from 0 to 1; 0 for all of the run."""
    boundary_cap: float = 0.5
    """Highest boundary share; alone the boundary term can be content with no crack at all."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """Optimiser."""
    lr: float = 1e-3
    """Highest learning rate."""
    weight_decay: float = 0.01
    """Weight decay; on kernels only, never on biases and norms, unless decay_all is set."""
    decay_all: bool = False
    """Decay biases and norms too."""
    momentum: float = 0.9
    """Momentum of SGD; first beta of Adam."""
    schedule: Literal["constant", "cosine", "poly", "step"] = "cosine"
    """How the learning rate falls."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises from 0."""
    poly_power: float = 0.9
    """Exponent of the poly schedule."""
    step_epochs: int = 30
    """Epochs after which the step schedule divides the learning rate by ten, again and again."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0 for no limit."""
    ema: float = 0.0
    """Decay per step of the moving average of the weights that is validated and kept; 0 for none."""

    epochs: int = 50
    """Passes over the data."""
    patience: int = 0
    """Stop after this many epochs without a better score on the validation split; 0 for never."""
    select: Literal["iou", "last"] = "iou"
    """Keep the weights with the best crack IoU on the validation split, or the last."""
    epoch_samples: int = 0
    """Samples of one pass; 0 for as many as there are images."""
    batch_size: int = 8
    """Samples of one batch, of each process where there are several."""
    accumulate: int = 1
    """Batches whose gradients make one step: that of a larger batch, in the memory of a smaller one."""
    compile: bool = False
    """Let torch.compile translate the network: slow to begin, faster afterwards."""
    val_images: int = 0
    """Validate on this many images, evenly spaced in the table; 0 for all."""
    threshold: float = 0.5
    """Probability from which a pixel counts as crack; written into the checkpoint."""
    tile: int = 512
    """Side in px of the tiles in validation and later inference."""

    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the best there is."""
    dtype: str = "auto"
    """float32, bfloat16, float16, or auto for the fastest that the device has."""
    workers: int = -1
    """Processes that load samples; 0 to load in the training process, -1 for one per processor, 8 at most."""
    seed: int = 0
    """Decides weights, order and augmentation."""

    def __post_init__(self) -> None:
        """Refuse values out of range and contradictions."""
        for name in ("size", "epochs", "batch_size", "accumulate", "tile", "step_epochs"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in (
            *("epoch_samples", "val_images", "warmup_steps", "patience", "distil"),
            *("weight_decay", "clip_norm", "aux_weight", "boundary_epochs", "restore_epochs"),
        ):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _check(self.workers >= -1, "workers", self.workers, "-1 or more")
        for name in ("crack_crops", "empty_crops", "boundary_cap", "beta", "mine_share", "unlabelled_share"):
            _check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share from 0 to 1")
        _check(0 <= self.momentum < 1, "momentum", self.momentum, "from 0 to below 1")
        _check(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        _check(self.poly_power > 0, "poly_power", self.poly_power, "more than 0")
        _check(self.lr > 0, "lr", self.lr, "more than 0")
        _check(0 <= self.ema < 1, "ema", self.ema, "0 up to, but not, 1")
        _check(0 < self.threshold < 1, "threshold", self.threshold, "between 0 and 1")
        _check(bool(self.data), "data", self.data, "at least one data set")
        fits = not self.data_weights or len(self.data_weights) == len(self.data)
        _check(fits, "data_weights", self.data_weights, f"one value for each of the {len(self.data)} data sets")
        _check(all(share > 0 for share in self.data_weights), "data_weights", self.data_weights, "positive values")
        if self.degrade and self.size % 4:
            raise UsageError(f"size is {self.size}, but a quarter of it must be whole", remedy="use a multiple of 4")
        if self.sr_weights != "none" and not self.degrade:
            raise UsageError("sr_weights has no effect without degrade", remedy="set degrade=true")
        if self.restore_epochs and not self.degrade:
            raise UsageError("restore_epochs has no effect without degrade", remedy="set degrade=true")
        if self.restore_epochs >= self.epochs:
            raise UsageError(
                f"restore_epochs is {self.restore_epochs} of {self.epochs} epochs, so no crack would be learned",
                remedy="give more --epochs, or set restore_epochs=0 (and beta=0 to learn to restore alone)",
            )
        if self.degrade and self.supervision != "pixels":
            raise UsageError("degrade needs masks to learn from", remedy="set supervision=pixels")
        if self.soft_masks and self.fit != "resize":
            raise UsageError("soft_masks has no effect with fit = crop", remedy="set soft_masks=false or fit=resize")
        if self.supervision == "image" and self.fit != "resize":
            raise UsageError("a cut-out need not have the label of its image", remedy="set fit=resize")
        self._check_pseudo()
        self._check_extra()
        for name in ("crack_crops", "empty_crops", "mine"):
            if self.fit == "resize" and getattr(self, name):
                raise UsageError(f"{name} has no effect with fit = resize", remedy="leave it out, or set fit=crop")
        if self.fit == "resize" and self.augment.zoom != (1.0, 1.0):
            raise UsageError(
                "augment.zoom has no effect with fit = resize", remedy="set augment.zoom=[1, 1] or fit=crop"
            )

    def _check_pseudo(self) -> None:
        _check(0 < self.pseudo_share <= 1, "pseudo_share", self.pseudo_share, "a share above 0 and up to 1")
        low, high = self.pseudo_band
        _check(0 < low <= high < 1, "pseudo_band", self.pseudo_band, "two rising probabilities between 0 and 1")
        if self.supervision != "pseudo":
            if self.teacher and not self.distil:
                reason = f"a teacher has no effect with supervision = {self.supervision}"
                raise UsageError(reason, remedy="set distil=1 or supervision=pseudo")
            return
        if not self.teacher:
            raise UsageError("pseudo-masks need a teacher", remedy="set teacher=runs/weak, or any other weights")
        if self.soft_masks:
            raise UsageError("pseudo-masks are never soft", remedy="set soft_masks=false")
        if self.select != "last":
            raise UsageError("no mask may choose among the epochs, and labels cannot", remedy="set select=last")

    def _check_extra(self) -> None:
        low, high = self.trust
        _check(0 <= low < high <= 1, "trust", self.trust, "two rising probabilities from 0 to 1")
        crops = self.crack_crops + self.empty_crops
        _check(crops <= 1, "crack_crops + empty_crops", crops, "1 at most")
        extra = self.mine_share * bool(self.mine) + self.unlabelled_share * bool(self.unlabelled)
        _check(extra < 1, "mine_share + unlabelled_share", extra, "less than 1, so that masks teach too")
        if self.patience and self.select == "last":
            raise UsageError(
                "patience waits for a better score, but the last weights are kept", remedy="set select=iou"
            )
        if self.distil and not self.teacher:
            raise UsageError("nothing to distil", remedy="set teacher=runs/large, or any other weights")
        for name in ("distil", "unlabelled", "mine"):
            if getattr(self, name) and (self.supervision != "pixels" or self.degrade or self.soft_masks):
                reason = (
                    f"{name} goes with plain masks only: not with image labels, pseudo-masks, degrade or soft_masks"
                )
                raise UsageError(reason, remedy=f"leave {name} out")
        if self.unlabelled and self.distil:
            raise UsageError("unlabelled and distil are two teachers of one batch", remedy="leave one out")
        if self.unlabelled and not self.ema:
            raise UsageError("unlabelled photos are seen by the moving average", remedy="set ema=0.99")
        if self.unlabelled and self.epochs == 1:
            raise UsageError("unlabelled photos teach from the second epoch on", remedy="give more --epochs")

    def to_toml(self) -> str:
        """Return the settings as a recipe file that gives them again."""
        values = asdict(self)
        tables = {key: values.pop(key) for key in ("model_args", "augment")}
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        for name, table in tables.items():
            lines += ["", f"[{name}]", *_toml_pairs(table)]
        return "\n".join(lines) + "\n"


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_recipe(name_or_file: str) -> dict[str, Any]:
    """Read a recipe: one of `recipe_names`, or a TOML file.

    Raises:
        UsageError: There is no such recipe, or it is not TOML.
    """
    path = RECIPES / f"{name_or_file}.toml" if name_or_file in recipe_names() else Path(name_or_file)
    if not path.is_file():
        check_name("recipe", name_or_file, recipe_names(), also="a .toml file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not a recipe: {error}", path=path) from error
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", path=path) from error


def resolve(layers: Sequence[Mapping[str, Any]], assignments: Sequence[str] = ()) -> TrainConfig:
    """Merge settings into one configuration; later layers win, assignments win over all.

    Arguments of a network go with its name: a layer that names another one leaves those below behind.

    Args:
        layers: Nested settings by name, such as a recipe and the options of the command line.
        assignments: Texts ``key=value``, the key dotted for nested settings: ``augment.blur=0.2``.

    Raises:
        UsageError: A key is unknown, a value has the wrong type or is out of range.

    Example:
        >>> resolve([{"model": "unet_resnet18"}], ["lr=0.01", "augment.zoom=[0.5, 2.0]"]).augment.zoom
        (0.5, 2.0)
    """
    merged: dict[str, Any] = {}
    for layer in [*layers, *map(_parse_assignment, assignments)]:
        if "model" in layer and layer["model"] != merged.get("model"):
            merged.pop("model_args", None)  # they are those of the network that is named below
        merged = _merge(merged, layer)
    if "model" not in merged:
        raise UsageError("no model is named", remedy="add --model NAME, such as unet_resnet34")
    typed = _typed(TrainConfig, merged, "")
    augment = replace(Augment(), **typed.pop("augment", {}))
    return TrainConfig(**typed, augment=augment)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _parse_assignment(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text!r} cannot be read", remedy="write key=value, such as --set lr=0.001")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a bare word
    nested: Any = parsed
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def _typed(kind: type, values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    hints = get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    typed = {}
    for key, value in values.items():
        check_name(f"setting of {prefix[:-1]}" if prefix else "setting", key, known)
        typed[key] = _coerce(hints[key], value, prefix + key)
    return typed


def _coerce(hint: Any, value: Any, name: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        _check(isinstance(value, Mapping), name, value, "a table")
        return _typed(hint, value, f"{name}.")
    origin = get_origin(hint)
    if origin is Literal:
        known = get_args(hint)
        _check(value in known, name, value, f"one of {', '.join(known)}", str(value), known)
        return value
    if origin is tuple:
        return _coerce_tuple(get_args(hint), value, name)
    if origin is dict:
        _check(isinstance(value, Mapping), name, value, "a table")
        return dict(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        _check(math.isfinite(value), name, value, "a finite number")
        return float(value)
    matches = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    _check(matches, name, value, {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[hint])
    return value


def _coerce_tuple(items: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    sequence = list(value) if isinstance(value, list | tuple) else [value]
    if items[-1] is Ellipsis:
        items = (items[0],) * len(sequence)
    _check(len(items) == len(sequence), name, value, f"a list of {len(items)} values")
    return tuple(_coerce(hint, item, name) for hint, item in zip(items, sequence, strict=True))


def _check(holds: bool, name: str, value: object, expected: str, word: str = "", known: tuple[str, ...] = ()) -> None:
    if not holds:
        raise UsageError(f"{name} is {value!r}, expected {expected}", remedy=did_you_mean(word, known))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's escapes, but for this one
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(_toml_pairs(value))}}}"
    return repr(value)


def _toml_pairs(table: Mapping[str, object]) -> list[str]:
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return [f"{key if bare.fullmatch(key) else _toml(key)} = {_toml(value)}" for key, value in table.items()]
