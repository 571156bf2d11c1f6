"""Exported models run without PyTorch: ONNX Runtime for ``.onnx`` files, OpenVINO for ``.xml`` and ``.onnx`` files.

Each runtime is imported when its first network is opened. Knows nothing about photos and tiles.
"""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from cracktool.card import METADATA_KEY, Card, file_digest
from cracktool.device import cpu_has_bfloat16
from cracktool.errors import UsageError, WeightsError, check_name
from cracktool.inference.memory import Floats, MainMemory, Memory, Pixels

IMAGE, PIXELS = "image", "pixels"
"""Names of an exported model's input: normalised float32 (B, 3, H, W), or RGB uint8 (B, H, W, 3)."""

PROBS, LOGITS = "probs", "logits"
"""Names of its output, float32 (B, 1, H, W)."""

# From 1.29 on ONNX Runtime tells its maker over the network which models are run, unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_FORMATS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_FOREIGN = "use one from crack export"
_AGAIN = "export it again"


class RuntimeNetwork(ABC):
    """What the networks of all runtimes share: preparing tiles, and making probabilities of what comes out."""

    card: Card
    digest: str
    place: str
    dtype = "float32"
    device: Any = "cpu"
    memory: Memory = MainMemory()
    takes: str
    gives: str
    failures: tuple[type[Exception], ...]

    def __call__(self, tiles: npt.ArrayLike) -> Floats:
        """Return probabilities float32 (B, h, w) of RGB tiles uint8 (B, h, w, 3)."""
        pixels = np.ascontiguousarray(tiles, np.uint8)
        try:
            values = self.run(self.prepared(pixels))
        except self.failures as error:
            raise self._unfit(pixels, shorten(str(error), 120)) from error
        batch, height, width, _ = pixels.shape
        if values.shape != (batch, 1, self.card.scale * height, self.card.scale * width):
            raise self._unfit(pixels, f"it gives shape {values.shape}")  # as OpenVINO may, in place of an error
        values = values[:, 0]
        if self.gives == LOGITS:
            values = 0.5 + 0.5 * np.tanh(0.5 * values)  # the sigmoid, without overflow
        return np.asarray(values, np.float32)

    def _unfit(self, pixels: Pixels, why: str) -> WeightsError:
        height, width = pixels.shape[1:3]
        reason = f"it cannot be run on tiles of {height} x {width} px: {why}"
        return WeightsError(reason, path=self._path, remedy=_AGAIN)

    @abstractmethod
    def run(self, batch: npt.NDArray[Any]) -> Floats:
        """Return what the model gives, float32 (B, 1, H, W), for a batch as it takes it."""

    def prepared(self, pixels: Pixels) -> npt.NDArray[Any]:
        """Return a batch as the model takes it, of RGB tiles uint8 (B, h, w, 3)."""
        if self.takes == PIXELS:
            return pixels
        scale, shift = self._normalisation
        x = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)  # (B, 3, h, w)
        x *= scale
        x += shift
        return x

    @cached_property
    def _normalisation(self) -> tuple[Floats, Floats]:
        return self.card.normalisation()

    def _describe(self, card: str, path: Path, takes: str, gives: str) -> None:
        if takes not in (IMAGE, PIXELS) or gives not in (PROBS, LOGITS):
            reason = f"its input {takes} and output {gives} are not those of an exported model"
            raise WeightsError(reason, path=path, remedy=_FOREIGN)
        self.card = Card.from_json(card, path=path)
        self._path, self.digest = path, _digest(path)
        self.takes, self.gives = takes, gives


class OnnxNetwork(RuntimeNetwork):
    """A model exported by ``crack export``, run by ONNX Runtime in the number format it was written in.

    Args:
        path: The .onnx file, with the card in its metadata.
        device: auto, cpu, or cuda or cuda:1 where ONNX Runtime has it. Tiles lie in main memory either way.

    Raises:
        WeightsError: The file is damaged, or was not exported by this package.
        UsageError: ONNX Runtime is not installed, or cannot use the device.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        provider, settings = _provider(device)
        self.failures = _onnx_errors()
        self._session = _open_session(path, provider, settings)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise WeightsError("an ONNX file without a cracktool card", path=path, remedy=_FOREIGN)
        (source,), (result,) = self._session.get_inputs(), self._session.get_outputs()
        self._describe(metadata[METADATA_KEY], path, source.name, result.name)
        self.place = f"{provider.removesuffix('ExecutionProvider')} (ONNX Runtime)"

    def run(self, batch: npt.NDArray[Any]) -> Floats:
        """Return what the model gives, float32 (B, 1, H, W), for a batch as it takes it."""
        (values,) = self._session.run([self.gives], {self.takes: batch})
        return np.asarray(values)


class OpenVinoNetwork(RuntimeNetwork):
    """A model exported by ``crack export``, run by OpenVINO on the CPU.

    Args:
        path: The .xml file with its .bin beside it, or an .onnx file; the card is in the first.
        device: auto or cpu.
        dtype: Number format of the heavy operations: float32, bfloat16, float16, or auto for bfloat16 where the CPU
            has units for it. A model in int8 stays so.

    Raises:
        WeightsError: The file is damaged, or was not exported by this package.
        UsageError: OpenVINO is not installed, or cannot use the device.
    """

    failures = (RuntimeError,)

    def __init__(self, path: Path, device: str = "cpu", dtype: str = "auto") -> None:
        core = _openvino_core(device)
        model = _read_openvino(core, path)
        card = _openvino_card(model, path)
        (source,), (result,) = model.inputs, model.outputs
        self._describe(card, path, source.any_name, result.any_name)
        self.dtype, why = _openvino_format(dtype)
        options = {"INFERENCE_PRECISION_HINT": _FORMATS[self.dtype], "PERFORMANCE_HINT": "LATENCY"}
        if _threads():
            options["INFERENCE_NUM_THREADS"] = str(_threads())
        self._request = core.compile_model(model, "CPU", options).create_infer_request()
        self.place = f"CPU (OpenVINO) in {self.dtype} ({why})"

    def run(self, batch: npt.NDArray[Any]) -> Floats:
        """Return what the model gives, float32 (B, 1, H, W), for a batch as it takes it."""
        return np.array(self._request.infer([batch], share_inputs=True)[0], np.float32)


def require_runtime(engine: str, device: str) -> None:
    """Refuse to go on where a runtime, onnx or openvino, is not installed or cannot use the device.

    Raises:
        UsageError: It is not, or cannot.
    """
    (_provider if engine == "onnx" else _openvino_core)(device)


def _provider(device: str) -> tuple[str, dict[str, str]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError("ONNX Runtime is not installed", remedy="pip install onnxruntime") from error
    if device in ("auto", "cpu"):
        return "CPUExecutionProvider", {}
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdecimal():
        raise UsageError(f"ONNX Runtime runs on cpu or cuda here, not on {device}", remedy="use --device cpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        reason = "this ONNX Runtime cannot use CUDA"
        raise UsageError(reason, remedy="use --device cpu, or pip install onnxruntime-gpu")
    return "CUDAExecutionProvider", {"device_id": index or "0"}


def _open_session(path: Path, provider: str, settings: dict[str, str]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it would talk on stderr besides raising
    options.intra_op_num_threads = _threads()
    try:
        providers = [(provider, settings)]
        session = onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except _onnx_errors() as error:
        if "opset" in str(error).lower() or "ir version" in str(error).lower():
            found = re.search(r"(opset|IR version):? ?(\d+)", str(error), re.IGNORECASE)
            what = f"{found[1].lower()} {found[2]}" if found else "a later version"
            reason = f"ONNX Runtime {onnxruntime.__version__} cannot read its {what}"
            raise WeightsError(reason, path=path, remedy="pip install --upgrade onnxruntime") from error
        raise WeightsError("not a whole ONNX file", path=path, remedy=_AGAIN) from error
    if provider not in session.get_providers():  # it would go on by the CPU, and say nothing
        reason = "ONNX Runtime cannot use this CUDA device, or finds no library for it"
        raise UsageError(reason, remedy="use --device cpu")
    return session


def _onnx_errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises about a file or a run, which has no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    classes = (getattr(errors, name) for name in dir(errors))
    return tuple(each for each in classes if isinstance(each, type) and issubclass(each, Exception))


def _openvino_core(device: str) -> Any:
    try:
        import openvino
    except ImportError as error:
        reason = "OpenVINO needs openvino, which is not installed"
        raise UsageError(reason, remedy='pip install "cracktool[openvino]"') from error
    if device not in ("auto", "cpu"):
        raise UsageError(f"OpenVINO runs on the CPU here, not on {device}", remedy="use --device cpu")
    return openvino.Core()


def _read_openvino(core: Any, path: Path) -> Any:
    if path.suffix == ".xml":
        _check_xml(path)  # on a file of another kind OpenVINO would try all its readers, which talk on stderr
    try:
        return core.read_model(path)
    except RuntimeError as error:
        what = f"not a whole {'OpenVINO' if path.suffix == '.xml' else 'ONNX'} model"
        raise WeightsError(what, path=path, remedy=_AGAIN) from error


def _check_xml(path: Path) -> None:
    if not path.with_suffix(".bin").is_file():
        reason = f"{path.with_suffix('.bin').name} with its tensors is not beside it"
        raise WeightsError(reason, path=path, remedy="keep the two files together")
    try:
        root = next(ElementTree.iterparse(path, events=("start",)))[1]
    except (ElementTree.ParseError, StopIteration, OSError) as error:
        raise WeightsError("not a whole OpenVINO model", path=path, remedy=_AGAIN) from error
    if root.tag != "net":
        raise WeightsError(f"an XML file of {root.tag}, not an OpenVINO model", path=path, remedy=_FOREIGN)


def _openvino_card(model: Any, path: Path) -> str:
    place = ["framework", METADATA_KEY]  # where OpenVINO keeps the metadata of the ONNX file that it was made from
    if not model.has_rt_info(place):
        raise WeightsError("an OpenVINO model without a cracktool card", path=path, remedy=_FOREIGN)
    return str(model.get_rt_info(place).astype(str))


def _digest(path: Path) -> str:
    if path.suffix != ".xml":
        return file_digest(path)
    both = f"{file_digest(path)} {file_digest(path.with_suffix('.bin'))}"
    return hashlib.sha256(both.encode()).hexdigest()


def _openvino_format(dtype: str) -> tuple[str, str]:
    if dtype == "auto":
        return ("bfloat16", "which it has units for") if cpu_has_bfloat16() else ("float32", "safe everywhere")
    check_name("dtype", dtype, _FORMATS, also="auto")
    return dtype, "as asked"


def _threads() -> int:
    """Return the threads that the environment allows; 0 for as many as the runtime likes."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() else 0
