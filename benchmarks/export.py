"""Every network in every format: bytes, difference to PyTorch, and time per tile relative to PyTorch in the same run.

    python benchmarks/export.py ROWS.jsonl [NAME...]

Without names, the weights that ship and all of `crack train --list-models`, the light ones first; networks without
weights that ship have random ones. Each finished row is a line of ROWS.jsonl; what is there already is not done again,
so the run can be stopped and continued. Prints the table of all rows, and one JSON line.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from cracktool.card import Card
from cracktool.errors import CrackError
from cracktool.export.form import ExportedForm, ExportOptions, metadata
from cracktool.export.int8 import read_calibration, write_int8
from cracktool.export.onnx_file import build_onnx
from cracktool.export.openvino_file import write_openvino
from cracktool.export.parity import FLOAT32, HALF, INT8, Limits, compare, measure_times
from cracktool.export.program import build_program
from cracktool.inference import Network
from cracktool.inference.runtimes import OnnxNetwork, OpenVinoNetwork
from cracktool.inference.torch_network import ProgramNetwork, TorchNetwork
from cracktool.models import LISTED, build_model, model_statistics
from cracktool.models.costs import read_costs
from cracktool.weights import Checkpoint, load_weights

SHIPPED = "weights that ship"
SIDE = 512
CPU = torch.device("cpu")
PHOTOS = Path(__file__).parents[1] / "examples" / "photos"

Made = tuple[str, Path, Limits]


def main() -> None:
    """Do what is missing, then print all rows."""
    rows = Path(sys.argv[1])
    names = sys.argv[2:] or [SHIPPED, *sorted(LISTED, key=lambda name: read_costs()[name].time)]
    for name in names:
        if name not in {row["model"] for row in read_rows(rows)}:
            with tempfile.TemporaryDirectory() as folder:
                found = list(measure(name, Path(folder)))
            with rows.open("a", encoding="utf-8") as file:  # a model's rows at once: it is either done or not
                file.writelines(json.dumps(row) + "\n" for row in found)
    print_table(read_rows(rows))


def read_rows(path: Path) -> list[dict[str, object]]:
    """Return the rows that are finished."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def make_checkpoint(name: str) -> Checkpoint:
    """Return a network; random weights are spread, so that half of the pixels are crack and a wrong graph shows."""
    if name == SHIPPED:
        return load_weights()
    torch.manual_seed(0)
    model = build_model(name).eval()
    mean, std = model_statistics(name)
    tile = 64 if name.startswith("csbsr") else 256  # of the proof; the time is taken at SIDE
    card = Card(model=name, mean=mean, std=std, tile=tile, stride=model.stride, scale=model.scale)
    with torch.inference_mode():
        logits = model(torch.randn(1, 3, 96, 96))
    spread(model, float(logits.mean()), float(logits.std()))
    return Checkpoint(model, card, "")


def spread(model: torch.nn.Module, mean: float, std: float) -> None:
    """Scale the last layer that gives one channel, so that logits have mean 0 and deviation 1."""
    last = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == 1 and m.bias is not None]
    with torch.no_grad():
        if last and math.isfinite(mean) and std > 0:
            last[-1].weight /= std
            last[-1].bias.sub_(mean).div_(std)


def make_files(checkpoint: Checkpoint, folder: Path) -> Iterator[Made | tuple[str, CrackError]]:
    """Write the network in one format after the other."""
    options, card = ExportOptions(), checkpoint.card
    facts = metadata(card, options)
    try:
        source = folder / "float.onnx"
        source.write_bytes(build_onnx(ExportedForm(checkpoint, options), card, "image", "probs", facts))
        yield "onnx", source, FLOAT32
        for half, limits in ((False, FLOAT32), (True, HALF)):
            path = folder / f"half{half}.xml"
            write_openvino(source, path, half=half)
            yield "openvino --half" if half else "openvino", path, limits
        write_int8(source, folder / "int8.onnx", read_calibration(PHOTOS))
        yield "onnx --int8", folder / "int8.onnx", INT8
        write_openvino(folder / "int8.onnx", folder / "int8.xml", half=False)
        yield "openvino --int8", folder / "int8.xml", INT8
    except CrackError as error:
        yield "onnx", error
    try:
        path = folder / "program.pt2"
        path.write_bytes(build_program(ExportedForm(checkpoint, options), card, facts))
        yield "pt2", path, FLOAT32
    except CrackError as error:
        yield "pt2", error


def open_file(path: Path) -> Network:
    """Return an exported file in the runtime that it is for."""
    if path.suffix == ".pt2":
        return ProgramNetwork(path, CPU)
    return OnnxNetwork(path) if path.suffix == ".onnx" else OpenVinoNetwork(path, dtype="float32")


def measure(name: str, folder: Path) -> Iterator[dict[str, object]]:
    """Write, prove and time a network in all formats."""
    checkpoint = make_checkpoint(name)
    made = list(make_files(checkpoint, folder))
    reference = TorchNetwork(checkpoint, CPU)
    networks = {}
    for form, what, *limits in made:
        row: dict[str, object] = {"model": name, "format": form}
        try:
            if isinstance(what, CrackError):
                raise what
            networks[form] = open_file(what)
            (parity,) = compare(reference, {form: networks[form]}, *limits)
            size = sum(file.stat().st_size for file in (what, what.with_suffix(".bin")) if file.is_file())
            row |= {"bytes": size, "logits": parity.logits, "pixels": parity.pixels}
        except CrackError as error:
            row["error"] = str(error)
        yield row
    times = measure_times({"torch": reference, **networks}, SIDE)
    for form, milliseconds in times.items():
        yield {"model": name, "format": form, "ms": milliseconds, "of_torch": milliseconds / times["torch"]}


def print_table(rows: list[dict[str, object]]) -> None:
    """Print a row for each model and format, and a JSON line of them all."""
    joined: dict[tuple[object, object], dict[str, object]] = {}
    for row in rows:
        joined.setdefault((row["model"], row["format"]), {}).update(row)
    print("| network | format | MB | logits differ by | pixels of masks | ms per tile of 512 px | of PyTorch's |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for (model, form), row in joined.items():
        if "error" in row:
            print(f"| `{model}` | {form} | {row['error']} | | | | |")
            continue
        size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else ""
        differ = f"{row['logits']:.0e} | {row['pixels']:.3%}" if "bytes" in row else " | "
        print(f"| `{model}` | {form} | {size} | {differ} | {row['ms']:.0f} | {row['of_torch']:.2f} |")
    print(json.dumps(list(joined.values())))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
