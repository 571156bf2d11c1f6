"""Where predictions come from: a network, a folder of masks, or a folder of probability maps.

Reads files and writes none; folders are read without PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.errors import CrackError, InputError
from cracktool.files import is_by_product
from cracktool.images import EXTENSIONS, Image, read_grey, read_image
from cracktool.manifest import Entry, Manifest
from cracktool.metrics import Levels, quantise

if TYPE_CHECKING:
    from cracktool.inference import Predictor

Prediction = tuple[Entry, Levels | CrackError]
"""An image of the data set with its levels uint8 (H, W), or with why there are none."""

_MAPS = (".npy", ".tif", ".tiff", ".png")
_CRACK = 128  # grey values of masks from here on: they may have been through JPEG
_ROUNDING = 1e-6  # by which a mean of probabilities may miss the range from 0 to 1


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where predictions come from.

    Args:
        kind: A network's weights, a folder of binary masks, or a folder of probability maps.
        name: The weights or the folder, as the user knows them.
        digest: SHA-256 of the weights; empty for a folder.
        settings: What else decides the predicted pixels: tile, overlap, flips, number format.
    """

    kind: Literal["weights", "masks", "probs"]
    name: str
    digest: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def binary(self) -> bool:
        """Whether there is no threshold to vary."""
        return self.kind == "masks"


def masks_origin(folder: str | Path) -> Origin:
    """Describe a folder of masks."""
    return Origin(kind="masks", name=str(folder))


def probs_origin(folder: str | Path) -> Origin:
    """Describe a folder of probability maps."""
    return Origin(kind="probs", name=str(folder))


def model_origin(predictor: Predictor, name: str) -> Origin:
    """Describe a predictor whose weights the user calls `name`."""
    settings = {key: value for key, value in predictor.settings().items() if key != "threshold"}
    return Origin(kind="weights", name=name, digest=predictor.network.digest, settings=settings)


def predictions_from_model(
    manifest: Manifest, predictor: Predictor, change: Callable[[Entry, Image], Image] | None = None
) -> Iterator[Prediction]:
    """Run a predictor over the images that have a truth.

    Args:
        manifest: The images.
        predictor: Finds the crack.
        change: Applied to each photo before, such as a corruption; keeps its size.

    Example:
        >>> predictions = predictions_from_model(part, predictor)
        >>> report = evaluate(part, predictions, origin=model_origin(predictor, "default"))
    """
    entries = [entry for entry in manifest.entries if entry.has_truth]

    def read(entry: Entry) -> Image:
        image = read_image(manifest.image_path(entry))
        return image if change is None else change(entry, image)

    return predictor.stream(entries, read)


def predictions_from_masks(manifest: Manifest, folder: str | Path) -> Iterator[Prediction]:
    """Read predicted masks, 0 and 255, from a folder.

    The image ``images/a/x.jpg`` has its mask in ``FOLDER/a/x.png`` or ``FOLDER/images/a/x.png``; any picture format is
    taken, PNG first; probabilities and overlays that `crack infer` wrote beside masks are not. A mask that is missing
    or damaged, or of other values, gives an error for its image.

    Raises:
        InputError: There is no such folder, or no mask in it.

    Example:
        >>> entry, levels = next(predictions_from_masks(read_manifest("data/crack500"), "masks"))
    """
    found = _files(Path(folder), tuple(EXTENSIONS), what="mask", option="", wanted=lambda path: not is_by_product(path))
    found.sort(key=lambda path: path.suffix.lower() == ".png")  # PNG last: it replaces a lossy picture of the same name
    return _read_all(manifest, Path(folder), found, _mask_levels, "mask", ".png")


def predictions_from_probs(manifest: Manifest, folder: str | Path) -> Iterator[Prediction]:
    """Read probability maps from a folder, named as masks are, or ``x.probs.png`` as `crack infer --probs` writes them.

    A map is a grey PNG or TIFF of 8 or 16 bits, whose largest value stands for 1, or a TIFF or ``.npy`` of floats
    between 0 and 1. Maps from `crack infer` give the very scores of the network that made them.

    Raises:
        InputError: There is no such folder, or no map in it.
    """
    found = _files(Path(folder), _MAPS, what="probability map", option=" --probs")
    found.sort(key=lambda path: (path.name.lower().endswith(".probs.png"), -_MAPS.index(path.suffix.lower())))
    return _read_all(manifest, Path(folder), found, read_levels, "probability map", ".probs.png")


def read_levels(path: Path) -> Levels:
    """Read a probability map as levels uint8 (H, W): probability p is level min(floor(256 p), 255).

    Raises:
        InputError: It cannot be read, is no map, or holds values that are no probabilities.
    """
    if path.suffix.lower() == ".png" and (eight := _eight_bits(path)) is not None:
        return eight
    values = _values(path)
    if values.ndim != 2:
        raise InputError(f"shape {values.shape}, expected one probability for each pixel (H, W)", path=path)
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    if values.dtype == np.uint16:
        return np.asarray(values >> 8, np.uint8)
    if not np.issubdtype(values.dtype, np.floating):
        raise InputError(f"numbers of type {values.dtype}, expected uint8, uint16 or floats from 0 to 1", path=path)
    return _quantised(values, path)


def _quantised(values: npt.NDArray[np.floating], path: Path) -> Levels:
    unknown = int(np.count_nonzero(np.isnan(values)))
    if unknown:
        raise InputError(f"{unknown} of {values.size} probabilities are not a number (NaN)", path=path)
    if values.size and not (values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING):
        reason = f"values from {values.min():g} to {values.max():g}, expected probabilities from 0 to 1"
        raise InputError(reason, path=path, remedy="apply the sigmoid before saving")
    return quantise(values.clip(0, 1))


def _eight_bits(path: Path) -> Levels | None:
    """Return an 8-bit PNG as it is, by the reader of all pictures; None for one of more bits."""
    try:
        with path.open("rb") as file:
            header = file.read(26)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error
    if header[24:25] == b"\x10":
        return None
    coloured = header[25:] in (b"\2", b"\3", b"\6")  # or with a palette; these may hold greys alone
    if coloured and np.ptp(read_image(path), axis=2).any():
        raise InputError("a picture in colours, expected one probability for each pixel", path=path)
    return read_grey(path)


def _values(path: Path) -> npt.NDArray[Any]:
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        values = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError, EOFError, cv2.error) as error:
        raise InputError(f"cannot be read: {error}", path=path) from error
    if values is None:
        raise InputError("cannot be read as a probability map", path=path, remedy="save it as PNG or .npy")
    return np.asarray(values)


def _files(
    folder: Path, endings: tuple[str, ...], *, what: str, option: str, wanted: Callable[[Path], bool] = lambda _: True
) -> list[Path]:
    there = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings)
    found = [path for path in there if wanted(path.relative_to(folder))]
    if not found:
        reason = f"no {what} in this folder" if folder.is_dir() else "no such folder"
        raise InputError(reason, path=folder, remedy=f"make some with: crack infer PHOTOS -o FOLDER{option}")
    return found


def _read_all(
    manifest: Manifest,
    folder: Path,
    found: list[Path],
    read: Callable[[Path], Levels],
    what: str,
    ending: str,
) -> Iterator[Prediction]:
    by_stem = {_stem(path.relative_to(folder)): path for path in found}  # of several of one stem, the last
    for entry in manifest.entries:
        if not entry.has_truth:
            continue
        stem = PurePosixPath(entry.image).with_suffix("")
        names = [stem.as_posix(), PurePosixPath(*stem.parts[1:]).as_posix()]
        path = next((by_stem[name] for name in names if name in by_stem), None)
        if path is None:
            remedy = f"expected {folder / names[-1]}{ending}"
            yield entry, InputError(f"no {what} for this image", path=manifest.image_path(entry), remedy=remedy)
            continue
        try:
            yield entry, read(path)
        except CrackError as error:
            yield entry, error


def _stem(path: Path) -> str:
    return path.with_suffix("").as_posix().removesuffix(".probs")


def _mask_levels(path: Path) -> Levels:
    grey = read_grey(path)
    highest = int(grey.max(initial=0))
    if 0 < highest < _CRACK:  # labels, or dark red: an empty mask would score 0 or, on a clean image, 1
        remedy = "make its crack white, which is 255; probabilities are for --probs"
        raise InputError(f"a mask without a value above {highest}, expected 0 and 255", path=path, remedy=remedy)
    if np.count_nonzero((grey >= 32) & (grey < 224)) > grey.size / 2:
        reason = "most of its pixels are neither black nor white: a photo or a map, expected a mask of 0 and 255"
        raise InputError(reason, path=path, remedy="name the folder of masks; probabilities are for --probs")
    return (grey >= _CRACK).astype(np.uint8) * 255
