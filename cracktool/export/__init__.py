"""Export: a checkpoint as files for other runtimes and QGIS, each proven to give the masks that PyTorch gives.

`form` is what is exported; `onnx_file`, `openvino_file`, `program` and `hub` write a format each; `int8` makes models
small and fast; `parity` is the proof. Everything that is written is read back by `cracktool.inference`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from cracktool.errors import UsageError, check_name
from cracktool.export.form import ExportedForm, ExportOptions
from cracktool.export.hub import export_hub, export_safetensors, require_free
from cracktool.export.int8 import Calibration, Loss, measure_loss, read_calibration, write_int8
from cracktool.export.onnx_file import OPSET, build_onnx, require_onnx
from cracktool.export.openvino_file import write_openvino
from cracktool.export.parity import INT8, Parity, compare, float_limits
from cracktool.export.program import build_program
from cracktool.files import replace_file
from cracktool.inference import Network
from cracktool.inference.runtimes import OnnxNetwork, OpenVinoNetwork, RuntimeNetwork, require_runtime
from cracktool.inference.torch_network import ProgramNetwork
from cracktool.weights import Checkpoint

__all__ = [
    "FORMATS",
    "OPSET",
    "ExportOptions",
    "Exported",
    "Loss",
    "Parity",
    "choose_format",
    "export_hub",
    "export_model",
    "export_safetensors",
]

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2", "safetensors": ".safetensors", "hf": ""}
"""Format -> ending of its file; the last is a folder."""

_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote.

    Args:
        files: The file that is given to a runtime, and what belongs to it.
        size: Bytes of all of them.
        parities: How each installed runtime that reads them compares with PyTorch.
        loss: What 8 bits cost, where they were asked for.
    """

    files: tuple[Path, ...]
    size: int
    parities: tuple[Parity, ...]
    loss: Loss | None

    @property
    def path(self) -> Path:
        """The file that is given to a runtime."""
        return self.files[0]

    @property
    def difference(self) -> float:
        """Largest difference of a logit to PyTorch that was seen in any runtime."""
        return max(parity.logits for parity in self.parities)


def choose_format(path: Path, name: str | None = None) -> str:
    """Return the format that a file's ending or the user means.

    Raises:
        UsageError: There is no such format, or the ending is that of another.

    Example:
        >>> choose_format(Path("crack.xml"))
        'openvino'
    """
    if name is None:
        name = next((key for key, ending in FORMATS.items() if ending and ending == path.suffix), None)
        if name is None:
            endings = ", ".join(ending for ending in FORMATS.values() if ending)
            reason = f"{path.suffix or 'no'} ending is no format to export to"
            raise UsageError(reason, path=path, remedy=f"end it in {endings}, or give --format hf for a folder")
    check_name("format", name, FORMATS)
    if path.suffix != FORMATS[name] and (FORMATS[name] or path.suffix in FORMATS.values()):
        remedy = f"end it in {FORMATS[name]}" if FORMATS[name] else "it is a folder, so leave the ending out"
        raise UsageError(f"the format {name} has another ending", path=path, remedy=remedy)
    return name


def export_model(checkpoint: Checkpoint, path: Path, options: ExportOptions | None = None) -> Exported:
    """Write a checkpoint as one file for other runtimes, and prove that it gives the same masks.

    Unless the options say otherwise, the input ``image`` is float32 (B, 3, H, W), RGB, scaled to 0 to 1 and normalised
    with the card's mean and standard deviation; the output ``probs`` is float32 (B, 1, H, W), 0 to 1. B, H and W are
    free, odd sizes included.

    Args:
        checkpoint: The network and its card; it is left as it was.
        path: The file to write, ending in .onnx, .xml (OpenVINO; a .bin file is written beside it) or .pt2.
        options: What is wanted of it.

    Raises:
        UsageError: Another ending, options that do not fit, an extra that is not installed, or a network too large.
        OutputError: The file exists, or cannot be written.
        CrackError: The format cannot express the network, or the result differs; no file is left.

    Example:
        >>> export_model(load_weights(), Path("crack.onnx")).difference < 1e-3
        True
    """
    options = options or ExportOptions()
    kind = choose_format(path)
    if kind not in _BUILDERS:
        raise UsageError(f"{kind} is written by another function", path=path, remedy="end it in .onnx, .xml or .pt2")
    _check(kind, options)
    files = (path, path.with_suffix(".bin")) if kind == "openvino" else (path,)
    require_free(*files, overwrite=options.overwrite)
    calibration = read_calibration(options.calibrate) if options.int8 else None
    with tempfile.TemporaryDirectory() as folder:
        work = _Work(checkpoint, options, Path(folder), calibration)
        built = _BUILDERS[kind](work)
        limits = INT8 if options.int8 else float_limits(checkpoint.card, half=options.half)
        parities = compare(checkpoint, _open(built), limits)
        loss = work.loss(built)
        for target in reversed(files):  # tensors first: where the disk is full, an older pair stays one
            replace_file(target, built.with_suffix(target.suffix).read_bytes())
    return Exported(files=files, size=sum(file.stat().st_size for file in files), parities=parities, loss=loss)


def _check(kind: str, options: ExportOptions) -> None:
    if options.half and options.int8:
        raise UsageError("a model has 16 bits or 8", remedy="give one of --half and --int8")
    if options.int8 and kind == "pt2":
        raise UsageError("8 bits are for ONNX and OpenVINO", remedy="end the file in .onnx or .xml, or give --half")
    if options.calibrate and not options.int8:
        raise UsageError("--calibrate is for 8 bits", remedy="add --int8, or leave it out")
    if kind != "pt2":
        require_onnx()
    if kind == "openvino":
        require_runtime("openvino", "cpu")


class _Work:
    """An export on its way: files in a folder that will be gone."""

    def __init__(
        self, checkpoint: Checkpoint, options: ExportOptions, folder: Path, calibration: Calibration | None
    ) -> None:
        self.checkpoint, self.options, self.folder, self.calibration = checkpoint, options, folder, calibration

    def onnx(self, *, half: bool) -> Path:
        """Return the ONNX file, in 8 bits where they are wanted."""
        form = ExportedForm(self.checkpoint, replace(self.options, half=half))
        path = self.folder / "float.onnx"
        path.write_bytes(build_onnx(form))
        if self.calibration is None:
            return path
        write_int8(path, self.folder / "int8.onnx", self.calibration)
        return self.folder / "int8.onnx"

    def openvino(self) -> Path:
        """Return the OpenVINO graph, its tensors beside it."""
        path = self.folder / "model.xml"
        write_openvino(self.onnx(half=False), path, half=self.options.half)
        return path

    def program(self) -> Path:
        """Return the program of torch.export."""
        path = self.folder / "model.pt2"
        path.write_bytes(build_program(ExportedForm(self.checkpoint, self.options)))
        return path

    def loss(self, built: Path) -> Loss | None:
        """Return what 8 bits cost, in the runtime that the file is for."""
        if self.calibration is None:
            return None
        before, after = (_runtime(path, built.suffix) for path in (self.folder / "float.onnx", built))
        return measure_loss(before, after, self.calibration)


_BUILDERS: dict[str, Callable[[_Work], Path]] = {
    "onnx": lambda work: work.onnx(half=work.options.half),
    "openvino": _Work.openvino,
    "pt2": _Work.program,
}


def _runtime(path: Path, ending: str) -> RuntimeNetwork:
    return OnnxNetwork(path) if ending == ".onnx" else OpenVinoNetwork(path, dtype="float32")


def _open(path: Path) -> dict[str, Network]:
    """Return a file in every installed runtime that reads it."""
    if path.suffix == ".pt2":
        return {"torch.export": ProgramNetwork(path, _CPU)}
    networks: dict[str, Network] = {}
    if path.suffix == ".onnx":
        networks["ONNX Runtime"] = OnnxNetwork(path)
    if find_spec("openvino") is not None:
        networks["OpenVINO"] = OpenVinoNetwork(path, dtype="float32")
    return networks
