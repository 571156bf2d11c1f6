"""`crack export`: weights in, files for other programs out."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cracktool.cli.options import Debug, Model, Quiet, Weights
from cracktool.cli.screen import print_data, print_table, tell
from cracktool.errors import UsageError

if TYPE_CHECKING:
    from cracktool.export import Exported


def export(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file: .onnx, .xml (OpenVINO), .pt2 or .safetensors; hf: a folder.")
    ],
    weights: Weights = None,
    model: Model = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="onnx, openvino, pt2, safetensors or hf; none for the ending's.")
    ] = None,
    embed_normalisation: Annotated[
        bool, typer.Option("--embed-normalisation", help="Take RGB bytes (B, H, W, 3), not normalised floats.")
    ] = False,
    embed_sigmoid: Annotated[
        bool, typer.Option("--embed-sigmoid/--no-embed-sigmoid", help="Give probabilities, or logits.")
    ] = True,
    views: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Look at photos so many times enlarged, and average: 0.75,1,1.5, slowly."),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Weights of 16 bits: half the file.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Compute in 8 bits; says what that costs in crack IoU.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="For --int8: a prepared data set, or a folder of typical photos.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write weights for other programs: ONNX for most runtimes and QGIS, OpenVINO, torch.export, or safetensors.

    Batch, height and width stay free. A file is kept only when every installed runtime that reads it gives the logits
    and masks of PyTorch, from photos of odd sizes and from tiles. safetensors keep all that inference needs to know of
    an authors' .pth file; hf is a folder as the Hugging Face Hub has them. Prints the path.

    Example: crack export -o crack.onnx
    """
    from cracktool.export import ExportOptions, choose_format, export_hub, export_model, export_safetensors
    from cracktool.weights import load_weights, with_views

    kind = choose_format(out, format_)
    options = ExportOptions(
        embed_normalisation=embed_normalisation, embed_sigmoid=embed_sigmoid, half=half, int8=int8,
        calibrate=calibrate, overwrite=overwrite,
    )  # fmt: skip
    checkpoint = load_weights(weights, model=model)
    if views is not None:
        checkpoint = with_views(checkpoint, _numbers(views))
    if kind in ("safetensors", "hf"):
        options.refuse_all(kind)
        card = (export_hub if kind == "hf" else export_safetensors)(checkpoint, out, overwrite=overwrite)
        said = [f"{card.model}, threshold {card.threshold}, tiles of {card.tile} px, mean {card.mean}, std {card.std}"]
    else:
        exported = export_model(checkpoint, out, options)
        said = _said(exported, kind)
        if not quiet:
            print_table(_rows(exported, checkpoint.card.tile), sys.stderr)
        elif exported.loss is not None:  # never kept back
            tell(said[-1])
    if not quiet:
        for line in (*said, f"next: crack infer photos/ -o masks/ --weights {shlex.quote(str(out))}"):
            tell(line)
    print_data(out)


def _numbers(text: str) -> list[float]:
    try:
        return [int(part) if part.isdecimal() else float(part) for part in text.split(",")]
    except ValueError as error:
        remedy = "write numbers, such as --views 0.75,1,1.5"
        raise UsageError(f"--views {text!r} cannot be read", remedy=remedy) from error


def _said(exported: Exported, kind: str) -> list[str]:
    from cracktool.export import OPSET

    said = [f"{exported.size / 1e6:.1f} MB, {f'opset {OPSET}' if kind == 'onnx' else kind}"]
    if (loss := exported.loss) is not None:
        measure = "the masks of" if loss.truth else "float32's own masks of"
        said.append(
            f"what 8 bits cost is not known: {loss.photos} photos, and no crack in any"
            if math.isnan(loss.points)
            else f"8 bits cost {loss.points:.2f} points of crack IoU: {100 * loss.before:.2f} in float32, "
            f"{100 * loss.after:.2f} in 8 bits, against {measure} {loss.photos} photos"
        )
    return said


def _rows(exported: Exported, tile: int) -> list[list[str]]:
    rows = [["runtime", f"ms per tile of {tile} px", "of PyTorch's time", "logits differ by", "pixels of masks differ"]]
    rows.append(["PyTorch", f"{exported.parities[0].torch_milliseconds:.0f}", "1.00", "", ""])
    for each in exported.parities:
        share = each.milliseconds / each.torch_milliseconds
        differ = [f"{each.logits:.1e}", f"{each.pixels:.4%}"]
        rows.append([each.runtime, f"{each.milliseconds:.0f}", f"{share:.2f}", *differ])
    return rows
