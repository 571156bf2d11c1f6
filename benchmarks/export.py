"""Every network in every format: bytes, difference to PyTorch, and time per tile relative to PyTorch in the same run.

Times are seconds of the processor, so that a busy machine tells the same; run it with OMP_NUM_THREADS=1, for threads
that wait for each other take them too.

    python benchmarks/export.py ROWS.jsonl [NAME or WEIGHTS...]

Without names, the weights that ship and all of `crack train --list-models`, the light ones first; a name stands for
random weights. Those of CrackFormer tell little: name a run folder that has learnt a bit.
First ONNX and what is made of it (OpenVINO, 16 and 8 bits), then programs of torch.export. What is finished is in
ROWS.jsonl and not done again, so the run can be stopped and continued. Prints the table of all rows, and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from cracktool.card import Card
from cracktool.errors import CrackError
from cracktool.export.form import ExportedForm, ExportOptions
from cracktool.export.int8 import read_calibration, write_int8
from cracktool.export.onnx_file import build_onnx
from cracktool.export.openvino_file import write_openvino
from cracktool.export.parity import INT8, Limits, Proof, float_limits, measure_times
from cracktool.export.program import build_program
from cracktool.inference import Network
from cracktool.inference.runtimes import OnnxNetwork, OpenVinoNetwork
from cracktool.inference.torch_network import ProgramNetwork
from cracktool.models import LISTED, build_model, model_statistics
from cracktool.models.costs import read_costs
from cracktool.registry import read_card, weights_path
from cracktool.weights import Checkpoint, load_weights

SHIPPED = "weights that ship"
SIDE = 512  # px of the result of a tile whose time is taken
PROVEN = 256  # and of the tiles of the proof
CPU = torch.device("cpu")
PHOTOS = Path(__file__).parents[1] / "examples" / "photos"

Made = tuple[str, Path, Limits]
Row = dict[str, Any]


def main() -> None:
    """Do what is missing, then print all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="file of the rows that are finished")
    parser.add_argument("names", nargs="*", help="networks or weights")
    options = parser.parse_args()
    rows = options.rows
    names = options.names or [SHIPPED, *sorted(LISTED, key=lambda name: read_costs()[name].time)]
    for source, name in product(("onnx", "pt2"), names):
        model = read_card(weights_path(name)).model if Path(name).exists() else name
        if (model, source) not in {(row["model"], row["format"]) for row in read_rows(rows)}:
            print(name, source, file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                found = [{"model": model} | row for row in measure(name, source, Path(folder))]
            with rows.open("a", encoding="utf-8") as file:  # all of them at once: they are done or not
                file.writelines(json.dumps(row) + "\n" for row in found)
    print_table(read_rows(rows))


def read_rows(path: Path) -> list[Row]:
    """Return the rows that are finished."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def make_checkpoint(name: str) -> Checkpoint:
    """Return a network; random weights are spread, so that half of the pixels are crack and a wrong graph shows.

    Not those of a network that unpools: what float32 rounds there would be spread as well.
    """
    if name == SHIPPED:
        return load_weights()
    if Path(name).exists():
        learnt = load_weights(name)
        return replace(learnt, card=replace(learnt.card, tile=PROVEN // learnt.card.scale))
    torch.manual_seed(0)
    model = build_model(name).eval()
    mean, std = model_statistics(name)
    tile = PROVEN // model.scale
    card = Card(model=name, mean=mean, std=std, tile=tile, stride=model.stride, scale=model.scale)
    with torch.inference_mode():
        logits = model(torch.randn(1, 3, 96, 96))
    if not float_limits(card, half=False).rounding:
        spread(model, float(logits.mean()), float(logits.std()))
    return Checkpoint(model, card, "")


def spread(model: torch.nn.Module, mean: float, std: float) -> None:
    """Scale the last layer that gives one channel, so that logits have mean 0 and deviation 1."""
    last = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == 1 and m.bias is not None]
    with torch.no_grad():
        if last and math.isfinite(mean) and std > 0:
            last[-1].weight /= std
            last[-1].bias.sub_(mean).div_(std)


def make_files(checkpoint: Checkpoint, source: str, folder: Path) -> Iterator[Made]:
    """Write the network in one format after the other: those made of ONNX, or the program."""
    whole, exact = ExportedForm(checkpoint, ExportOptions()), float_limits(checkpoint.card, half=False)
    first = folder / f"model.{source}"
    if source == "pt2":
        first.write_bytes(build_program(whole))
        yield "pt2", first, exact
        return
    first.write_bytes(build_onnx(whole))
    yield "onnx", first, exact
    for form, half in (("openvino", False), ("openvino --half", True)):
        write_openvino(first, folder / f"{form}.xml", half=half)
        yield form, folder / f"{form}.xml", float_limits(checkpoint.card, half=half)
    write_int8(first, folder / "int8.onnx", read_calibration(PHOTOS))
    yield "onnx --int8", folder / "int8.onnx", INT8
    write_openvino(folder / "int8.onnx", folder / "int8.xml", half=False)
    yield "openvino --int8", folder / "int8.xml", INT8


def open_file(path: Path) -> Network:
    """Return an exported file in the runtime that it is for."""
    if path.suffix == ".pt2":
        return ProgramNetwork(path, CPU)
    return OnnxNetwork(path) if path.suffix == ".onnx" else OpenVinoNetwork(path, dtype="float32")


def measure(name: str, source: str, folder: Path) -> list[Row]:
    """Write, prove and time a network in all formats that come of a source; one of them is open at a time."""
    checkpoint = make_checkpoint(name)
    proof = Proof(checkpoint)
    rows: list[Row] = []
    for form, path, limits in make_files(checkpoint, source, folder):
        try:
            found = measure_file(form, path, limits, proof)
        except CrackError as error:
            found = {"error": str(error)}
        rows.append({"format": form} | found)
    return rows


def measure_file(form: str, path: Path, limits: Limits, proof: Proof) -> Row:
    """Return bytes, differences and time of a file; the time is taken in turn with PyTorch's."""
    network = open_file(path)
    found = proof.check(form, network, limits)
    reference = proof.reference
    times = measure_times({"torch": reference, "file": network}, SIDE // reference.card.scale, time.process_time)
    files = (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)
    return {
        "bytes": sum(file.stat().st_size for file in files),
        "logits": found.logits,
        "further": found.further,
        "pixels": found.pixels,
        "ms": times["file"],
        "of_torch": times["file"] / times["torch"],
    }


def print_table(rows: list[Row]) -> None:
    """Print a row for each model with a cell for each format, and a JSON line of them all."""
    found = {(row["model"], row["format"]): row for row in rows}
    formats = ("onnx", "openvino", "openvino --half", "onnx --int8", "openvino --int8", "pt2")
    print(f"| network | {' | '.join(formats)} |")
    print(f"|---|{'---|' * len(formats)}")
    for name in dict.fromkeys(row["model"] for row in rows):
        print(f"| `{name}` | {' | '.join(cell(found.get((name, form))) for form in formats)} |")
    print(json.dumps(rows))


def cell(row: Row | None) -> str:
    """Return what is told of a network in a format."""
    if row is None:
        return "-"
    if "error" in row:
        return str(row["error"])
    size, proof = f"{row['bytes'] / 1e6:.1f} MB", f"{row['logits']:.0e}, {row['pixels']:.3%}"
    return f"{size}; {proof}; **{row['of_torch']:.2f}**"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
