"""A network as one ONNX file.

Translates and checks the graph; whether it gives the same values is for `cracktool.export.parity` to say.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from textwrap import shorten
from typing import Any

import torch

from cracktool.errors import CrackError, UsageError
from cracktool.export.form import ExportedForm

OPSET = 18
"""Version of the ONNX operators: the lowest that the exporter writes, read by ONNX Runtime from 1.14 (2023) on."""

SIZE_LIMIT = 2**31 - 2**20
"""Bytes of weights that fit one file: protobuf ends at 2 GiB, and the graph itself needs a little."""


def require_onnx() -> None:
    """Refuse to go on where the extra is not installed.

    Raises:
        UsageError: It is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"export needs {error.name}, which is not installed", remedy='pip install "cracktool[export]"'
        ) from error


def build_onnx(form: ExportedForm) -> bytes:
    """Return the ONNX file of a network, sound but not yet compared.

    Raises:
        UsageError: The network is too large for one file.
        CrackError: ONNX cannot express it.
    """
    import onnx

    weights = sum(tensor.nbytes for tensor in form.state_dict().values())
    if weights > SIZE_LIMIT:
        raise UsageError(f"{form.card.model} has {weights / 2**30:.1f} GiB of weights, and one ONNX file holds 2 GiB")
    try:
        model = _translate(form)
        onnx.checker.check_model(model, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = shorten(str(error.__cause__ or error), 200)  # the exporter says the rest on many lines
        raise CrackError(f"{form.card.model} cannot be expressed in ONNX for any input size: {reason}") from error
    return bytes(model.SerializeToString())


def _translate(form: ExportedForm) -> Any:
    """Return the network as an ``onnx.ModelProto`` with free batch, height and width."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with warnings.catch_warnings():  # about the exporter's own code, nothing that a user could mend
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            form,
            (form.example(),),
            input_names=[form.options.takes],
            output_names=[form.options.gives],
            dynamic_shapes={"image": form.free_axes()},
            opset_version=OPSET,
            custom_translation_table={operator.floordiv: _floor_division()},
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # it is None only without dynamo
        ClearMetadataAndDocStringPass()(program.model)  # stack traces with the folders of this machine
    program.model.metadata_props.update(form.metadata())
    return program.model_proto


def _floor_division() -> Callable[[Any, Any], Any]:
    """Return how sizes are divided in the graph: rounded down, where the exporter rounds towards 0.

    They differ below 0, which a part of a size may be: that of a map behind a stride, once its multiples are taken out.
    """
    from onnxscript import INT64, opset18

    def floor_division(size: Any, by: Any) -> Any:
        return opset18.Div(opset18.Sub(size, opset18.Mod(size, by)), by)

    # The exporter reads types here, and those written above would be text to it.
    floor_division.__annotations__ = {"size": INT64, "by": INT64, "return": INT64}
    return floor_division
