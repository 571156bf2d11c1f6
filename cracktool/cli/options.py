"""Options that several commands share, and the predictor that they describe."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cracktool.cli.screen import tell
from cracktool.errors import UsageError

if TYPE_CHECKING:
    from cracktool.inference import Predictor
    from cracktool.weights import Checkpoint

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only data and errors, no talk.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]  # read by `_fail`
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", "-w", help="Weights file, run folder, published name, or accurate; none for fast."),
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Network of an authors' .pth file; refuses weights of another.")
]
Tile = Annotated[str, typer.Option(metavar="PX|auto", help="Side of the tiles; auto for what suits each photo.")]
Overlap = Annotated[float, typer.Option(help="Share of a tile that it shares with the next.")]
Tta = Annotated[bool, typer.Option("--tta", help="Average over four flips: four times the work.")]
Threshold = Annotated[float | None, typer.Option(help="Crack from this probability on; none for what the weights say.")]


def refuse(context: typer.Context, names: Container[str | None], reason: str) -> None:
    """Raise UsageError where options were given that would do nothing; `names` are those of the parameters."""
    given = [
        option if option.startswith("-") else str(param.metavar)
        for param in context.command.params
        for option, source in [(param.opts[0], context.get_parameter_source(str(param.name)))]
        if param.name in names and source is not None and source.name == "COMMANDLINE"
    ]
    if given:
        raise UsageError(reason, remedy=f"leave {', '.join(given)} out")


def refuse_others(context: typer.Context, names: Iterable[str], reason: str) -> None:
    """Raise UsageError where other options than these, and those of talk, were given."""
    refuse(context, context.params.keys() - {*names, "quiet", "debug"}, reason)


def convert(checkpoint: Checkpoint, path: Path) -> None:
    """Make the ONNX file that other engines than PyTorch run, and say so."""
    from cracktool.export import ExportOptions, export_model

    tell("converting the weights for this engine: half a minute, and only once")
    export_model(checkpoint, path, ExportOptions(overwrite=True))


def build_predictor(
    weights: Path | None, device: str, quiet: bool, *, engine: str, dtype: str, **settings: Any
) -> Predictor:
    """Return the predictor that the options describe, and say which network runs where."""
    from cracktool.inference import load_predictor

    predictor = load_predictor(weights, device=device, dtype=dtype, engine=engine, convert=convert, **settings)
    if dtype not in ("auto", predictor.network.dtype):
        raise UsageError(f"an exported file keeps its number format, whatever --dtype {dtype} says", path=weights)
    if not quiet:
        tell(f"{predictor.network.card.model} on {predictor.network.place}")
    return predictor


def tile_side(tile: str) -> int | None:
    """Return the side of the tiles in px, None for what suits each photo."""
    if tile == "auto":
        return None
    if tile.isdecimal():
        return int(tile)
    raise UsageError(f"--tile is {tile!r}, but must be px or auto", remedy="leave it out")
