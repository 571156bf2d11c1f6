"""A network as a program of ``torch.export``, which PyTorch and ExecuTorch take without this package.

Writes the archive; reads none.
"""

from __future__ import annotations

import io
import warnings
from contextlib import AbstractContextManager
from textwrap import shorten

import torch
from torch.export import Dim

from cracktool.errors import CrackError
from cracktool.export.form import ExportedForm


def build_program(form: ExportedForm) -> bytes:
    """Return the .pt2 file of a network, not yet compared; its metadata are a text file each in the archive.

    Raises:
        CrackError: PyTorch cannot trace the network for any size.
    """
    sizes = dict.fromkeys(form.free_axes(), Dim.DYNAMIC)
    archive = io.BytesIO()
    try:
        with warnings.catch_warnings(), _sizes_of_one_are_no_special_case():
            warnings.simplefilter("ignore")  # about the exporter's own code, nothing that a user could mend
            program = torch.export.export(form, (form.example(),), dynamic_shapes=(sizes,))
            for node in program.graph.nodes:
                node.meta.pop("stack_trace", None)  # with the folders of this machine
            torch.export.save(program, archive, extra_files=form.metadata())
    except (RuntimeError, ValueError, torch._dynamo.exc.TorchDynamoException) as error:
        reason = shorten(str(error), 200)
        raise CrackError(f"{form.card.model} cannot be traced for any input size: {reason}") from error
    return archive.getvalue()


def _sizes_of_one_are_no_special_case() -> AbstractContextManager[None]:
    # Otherwise the program refuses sizes of whose maps one has 1 px; the exporter of ONNX has it so, too.
    from torch.fx.experimental import _config

    patch: AbstractContextManager[None] = _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    return patch
