"""`crack export`: weights in, one file for other programs out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cracktool.cli.options import Debug, Model, Quiet, Weights
from cracktool.cli.screen import print_data, tell


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, ending in .onnx or .safetensors.")],
    weights: Weights = None,
    model: Model = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write weights as one file: ONNX for other runtimes and QGIS, or safetensors for this program.

    In ONNX batch, height and width stay free, and the file is kept only when it gives the same probabilities as
    PyTorch. An authors' .pth file becomes safetensors with all that inference needs to know. Prints the file's path.

    Example: crack export -o crack.onnx
    """
    from cracktool.export import export_onnx, export_safetensors
    from cracktool.weights import load_weights

    checkpoint = load_weights(weights, model=model)
    if out.suffix == ".safetensors":
        card = export_safetensors(checkpoint, out, overwrite=overwrite)
        said = f"{card.model}, threshold {card.threshold}, tiles of {card.tile} px, mean {card.mean}, std {card.std}"
    else:
        exported = export_onnx(checkpoint, out, overwrite=overwrite)
        sizes = ", ".join("x".join(map(str, size)) for size in exported.checked)
        said = (
            f"{exported.size / 1e6:.1f} MB, opset {exported.opset}; largest difference in probability "
            f"{exported.difference:.1e} at {sizes}"
        )
    if not quiet:
        tell(said)
    print_data(out)
