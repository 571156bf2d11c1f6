"""How true measured lengths and widths are: python benchmarks/measuring.py [PROFILES]. Tables, then one JSON line.

PROFILES is a folder of measured grey profiles with true widths (Benz and Rodehorst 2021), CSV files as published.
Drawn cracks: 12 angles each, depth varied by 20 %, noise of 4 grey levels and texture of 2.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.special import ndtri

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works from a checkout that is not installed

from drawn import Look, arc, draw, sinusoid, straight, turned

from cracktool.measuring import measure
from cracktool.measuring.priors import Prior
from cracktool.measuring.profiles import fit_profiles

WIDTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
BLURS = (0.0, 0.5, 1.0, 2.0)
LINES = {"straight": straight(110), "sinusoid": sinusoid(10, 60, 110), "arc": arc(40, 150)}
DEPTH_ORDER = (6, 1, 10, 4, 8, 0, 11, 3, 7, 2, 9, 5)  # evenly over the normal distribution, out of step with angles
RULER_STEP = 0.05  # mm between the marks of the rulers that true widths were read with


def drawn_row(name: str, width: float, blur: float) -> dict[str, float | str]:
    """Measure one line at 12 angles."""
    errors, covered, mask_errors, lengths, points = [], [], [], [], 0
    for seed, angle in enumerate(range(0, 180, 15)):
        depth = 0.85 * np.exp(0.2 * ndtri((DEPTH_ORDER[seed] + 0.5) / 12))
        look = Look(blur=blur, depth=min(depth, 1.0), texture=2.0)
        photo, mask, length = draw(turned(LINES[name], angle, 75.3), width, (150, 150), look, seed)
        (crack,) = measure(photo, mask).cracks
        lengths.append(crack.px.length / length - 1)
        for line in crack.lines:
            good = np.isfinite(line.widths.width)
            points += len(good)
            errors.append(line.widths.width[good] - width)
            covered.append((line.widths.low[good] <= width) & (width <= line.widths.high[good]))
            mask_errors.append(line.widths.mask_width[2:-2] - width)
    error, inside, mask_error = (np.concatenate(each) for each in (errors, covered, mask_errors))
    return {
        "line": name,
        "width": width,
        "blur": blur,
        "mae": float(np.abs(error).mean()),
        "bias": float(error.mean()),
        "covered": float(inside.mean()),
        "measured": len(error) / points,
        "mask_mae": float(np.abs(mask_error).mean()),
        "length_error": float(np.mean(lengths)),
        "length_worst": float(np.abs(lengths).max()),
    }


def read_profiles(folder: Path) -> list[tuple[str, float, float, np.ndarray]]:
    """Return structure, true width in px, mm per px and grey profile of each file but the outlier."""
    found = []
    for path in sorted(folder.rglob("*.csv")):
        if path.stem == "DSC07202":
            continue
        _, values, _, *rest = path.read_text().splitlines()
        cells = [float(cell) for cell in values.split(",")]
        profile = np.array([float(cell) for cell in ",".join(rest).split(",") if cell.strip()])
        found.append((path.parent.name, cells[14], cells[13], profile))
    return found


def profile_windows(profiles: list[tuple[str, float, float, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return windows around the darkest place near the middle, which samples are real, and a rough width.

    Where a mask would say where the crack is and how wide at most, the profile's own missing light has to.
    """
    reach = 13
    windows = np.zeros((len(profiles), 2 * reach + 1), np.float32)
    valid = np.zeros(windows.shape, bool)
    rough = np.zeros(len(profiles), np.float32)
    for row, (_, _, _, grey) in enumerate(profiles):
        away = np.abs(np.arange(len(grey)) - 15)
        level = np.median(grey)
        middle = int(np.argmin(np.where(away <= 7, grey + 0.02 * level * away, np.inf)))
        at = np.arange(middle - reach, middle + reach + 1)
        valid[row] = (at >= 0) & (at < len(grey))
        windows[row] = grey[at.clip(0, len(grey) - 1)]
        near = grey[max(middle - 8, 0) : middle + 9]
        rough[row] = np.clip((level - near).clip(min=0).sum() / (0.85 * level) + 2, 3, 14)
    return windows, valid, rough


def profile_rows(folder: Path) -> list[dict[str, float | str]]:
    """Fit all measured profiles; an error counts as covered where interval and reading of the ruler allow it."""
    profiles = read_profiles(folder)
    fit = fit_profiles(*profile_windows(profiles), prior=Prior().repeated(len(profiles)))
    place = np.array([each[0] for each in profiles])
    truth, mm_per_px = np.array([each[1:3] for each in profiles]).T
    std = np.hypot(fit.log_std, RULER_STEP / np.sqrt(12) / mm_per_px / truth)
    inside = np.abs(np.log(fit.width / truth)) <= 1.96 * std
    groups = {name: place == name for name in np.unique(place)} | {
        "below 1 px": truth < 1,
        "1 to 3 px": (truth >= 1) & (truth <= 3),
        "above 3 px": truth > 3,
        "all": truth > 0,
    }
    return [
        {
            "group": name,
            "profiles": int(chosen.sum()),
            "mae": float(np.abs(fit.width - truth)[chosen].mean()),
            "bias": float((fit.width - truth)[chosen].mean()),
            "covered": float(inside[chosen].mean()),
        }
        for name, chosen in groups.items()
    ]


def speed() -> dict[str, float]:
    """Measure a 12-megapixel photo with 20,000 px of cracks."""
    tile, tile_mask, _ = draw(turned(sinusoid(20, 200, 480), 30, 250), 3.0, (500, 500))
    photo, mask = np.tile(tile, (6, 8)), np.tile(tile_mask, (6, 8))
    began = time.process_time()
    found = measure(photo, mask)
    with_photo = time.process_time() - began
    began = time.process_time()
    measure(None, mask)
    return {
        "megapixels": mask.size / 1e6,
        "crack_px": found.length_px,
        "seconds": with_photo,
        "seconds_mask_only": time.process_time() - began,
    }


def show(rows: Iterable[dict[str, float | str]]) -> list[dict[str, float | str]]:
    """Print rows as a table while they come, and return them."""
    shown: list[dict[str, float | str]] = []
    for row in rows:
        if not shown:
            print("  ".join(f"{key:>12}" for key in row))
        cells = [f"{cell:>12}" if isinstance(cell, str | int) else f"{cell:>12.3f}" for cell in row.values()]
        print("  ".join(cells), flush=True)
        shown.append(row)
    return shown


def main() -> None:
    """Measure and print."""
    plan = [("straight", width, blur) for blur in BLURS for width in WIDTHS]
    plan += [(name, width, 1.0) for name in ("sinusoid", "arc") for width in (1.0, 2.0, 4.0, 8.0)]
    drawn = show(drawn_row(*each) for each in plan)
    real = []
    if len(sys.argv) > 1:
        print("published mean absolute errors: rectangle 0.36, intersection 0.71, parabola 1.04 px")
        real = show(profile_rows(Path(sys.argv[1])))
    (taken,) = show([speed()])
    print(json.dumps({"benchmark": "measuring", "drawn": drawn, "profiles": real, "speed": taken}))


if __name__ == "__main__":
    main()
