"""What has changed between two inspections of one place: which cracks are new, longer, wider or gone, as CSV.

    crack infer 2025/ -o before --mm-per-px 0.2
    crack infer 2026/ -o after --mm-per-px 0.2
    python examples/compare_inspections.py before after [TOLERANCE] > changes.csv

Photos are paired by their path in the folders, and must show the same place pixel by pixel: a fixed camera, or
orthophotos cut alike; those of one folder alone are named on stderr. What lies within TOLERANCE px [10] of a line of
before is that crack; lengths are new from twice that on. A width has changed when the mean difference along the common
line leaves its 95 % interval, for which the errors of neighbouring points count as one and the same. Lengths and widths
are in mm where the scale was known.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

ENDING = ".cracks.json"
HEAD = ("photo", "id", "before", "change", "length", "new_length", "width_change", "low", "high", "unit")
Row = tuple[object, ...]


@dataclass
class Points:
    """The centre-line points of cracks: place in px, widths with their deviation, number of the crack."""

    places: np.ndarray  # (N, 2)
    steps: np.ndarray  # (N,) length of line that each stands for
    widths: np.ndarray  # (N,) not a number where not measurable
    deviations: np.ndarray  # (N,)
    crack: np.ndarray  # (N,)


def main(before: Path, after: Path, tolerance: float = 10.0) -> None:
    """Print a row for each crack of after, and for those of before that are gone."""
    old, new = ({path.relative_to(folder): path for path in folder.rglob(f"*{ENDING}")} for folder in (before, after))
    for name in sorted(old.keys() ^ new.keys()):
        print(f"{name}: is in {before if name in old else after} alone", file=sys.stderr)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(HEAD)
    for name in sorted(old.keys() & new.keys()):
        pair = [json.loads(each[name].read_text(encoding="utf-8"))["cracks"] for each in (old, new)]
        table.writerows(compare(str(name).removesuffix(ENDING), *pair, tolerance=tolerance))


def compare(photo: str, old: list[Any], new: list[Any], *, tolerance: float) -> list[Row]:
    """Return the rows of one photo."""
    earlier, later = points_of(old), points_of(new)
    rows = []
    for number, crack in enumerate(new):
        mine = later.crack == number
        distances, nearest = find_nearest(earlier, later.places[mine])
        known = distances <= tolerance
        ids = dict.fromkeys(old[earlier.crack[place]]["row"]["id"] for place in nearest[known])
        added = float(later.steps[mine][~known].sum())
        low, middle, high = width_change(earlier, later, nearest[known], np.flatnonzero(mine)[known])
        words = ["longer"] * (added > 2 * tolerance) + ["wider"] * (low > 0) + ["narrower"] * (high < 0)
        change = " and ".join(words) or "none"
        scale, unit = (crack["row"].get("mm_per_px"), "mm") if crack["row"].get("mm_per_px") else (1.0, "px")
        values = (crack["row"]["length_px"], added, middle, low, high)
        shown = ["" if np.isnan(value) else f"{scale * value:.2f}" for value in values]
        rows.append((photo, crack["row"]["id"], " ".join(ids), change if ids else "new", *shown, unit))
    for number, crack in enumerate(old):
        distances, _ = find_nearest(later, earlier.places[earlier.crack == number])
        if not (distances <= tolerance).any():
            rows.append((photo, "", crack["row"]["id"], "gone", *[""] * (len(HEAD) - 4)))
    return rows


def points_of(cracks: list[Any]) -> Points:
    """Return the points of all lines of a photo's cracks."""
    parts: list[list[np.ndarray]] = [[np.empty((0, 2))], *[[np.empty(0)] for _ in range(4)]]
    for number, crack in enumerate(cracks):
        for line in crack["lines"]:
            places = np.column_stack([line["x"], line["y"]])
            lengths = np.hypot(*np.diff(places, axis=0).T)
            widths, low, high = (np.array(line[name], dtype=float) for name in ("width", "low", "high"))
            steps = (np.append(lengths, 0) + np.append(0, lengths)) / 2
            values = (places, steps, widths, (high - low) / 3.92, np.full(len(places), number))
            for part, value in zip(parts, values, strict=True):
                part.append(value)
    *numbers, crack_numbers = (np.concatenate(part) for part in parts)
    return Points(*numbers, crack_numbers.astype(int))


def find_nearest(points: Points, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each place is from the nearest point, and which that is; without points, infinitely far."""
    if not len(points.places):
        return np.full(len(places), np.inf), np.zeros(len(places), dtype=int)
    return cKDTree(points.places).query(places)


def width_change(old: Points, new: Points, there: np.ndarray, here: np.ndarray) -> tuple[float, float, float]:
    """Return the mean change of the width at pairs of points with its 95 % interval; not a number without any."""
    changes = new.widths[here] - old.widths[there]
    measured = np.isfinite(changes)
    if not measured.any():
        return (float("nan"),) * 3
    deviations = [points.deviations[which][measured].mean() for points, which in ((old, there), (new, here))]
    middle, half = float(changes[measured].mean()), 1.96 * float(np.hypot(*deviations))
    return middle - half, middle, middle + half


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or not all(Path(folder).is_dir() for folder in sys.argv[1:3]):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:]))
