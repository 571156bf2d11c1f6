"""Cost of every listed network: parameters, GMACs and CPU time for one mask of 512 x 512 px.

Times are those of float32 on the CPU, each network in turn with unet_resnet18, so that the ratio of the two holds on a
noisy machine. Writes cracktool/models/costs.csv, which `crack train --list-models` prints.

    python benchmarks/models.py [--rounds 3] [NAME ...]
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import time
from dataclasses import asdict
from typing import Any

import torch

from cracktool.files import replace_file
from cracktool.models import LISTED, PaddedModel, build_model
from cracktool.models.costs import MASK_SIDE, TABLE, Cost, count, read_costs
from cracktool.models.encoder import without_memory

REFERENCE = "unet_resnet18"


def main() -> None:
    """Measure the named networks, or all, and put them into the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=LISTED, help="networks to measure [all that are listed]")
    parser.add_argument("--rounds", type=int, default=3, help="times that each pair is measured [3]")
    options = parser.parse_args()
    costs = read_costs() if TABLE.is_file() else {}
    reference = build_model(REFERENCE).eval()
    print(f"{'model':24s}{'parameters':>12s}{'GMACs':>8s}{'ms':>8s}{'times ' + REFERENCE:>22s}")
    for name in options.names:
        parameters, gmacs = count(without_memory(lambda name=name: build_model(name)))
        model = build_model(name).eval()
        ratio, milliseconds = compare(model, reference, rounds=options.rounds)
        costs[name] = Cost(parameters, round(gmacs, 1), model.stride, float(f"{ratio:.3g}"))
        print(f"{name:24s}{parameters / 1e6:10.1f} M{gmacs:8.1f}{milliseconds:8.0f}{ratio:22.2f}", flush=True)
        record(costs)


def compare(model: PaddedModel, reference: PaddedModel, *, rounds: int = 3) -> tuple[float, float]:
    """Return how many times the reference's time a mask takes, and its least milliseconds; both measured in turn."""
    pairs = [(seconds(model), seconds(reference)) for _ in range(rounds + 1)][1:]  # the first warms up
    return statistics.median(mine / theirs for mine, theirs in pairs), 1000 * min(mine for mine, _ in pairs)


def record(costs: dict[str, Cost]) -> None:
    """Write the table, in the order of the listing."""
    rows: list[dict[str, Any]] = [{"model": name} | asdict(costs[name]) for name in LISTED if name in costs]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(TABLE, text.getvalue().encode())


def seconds(model: PaddedModel) -> float:
    """Return how long one mask takes."""
    side = MASK_SIDE // model.scale
    picture = torch.rand(1, 3, side, side)
    started = time.perf_counter()
    with torch.inference_mode():
        model(picture)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
