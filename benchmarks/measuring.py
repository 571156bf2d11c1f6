"""How true measured lengths and widths are, and what measuring costs. Tables, then one JSON line.

python benchmarks/measuring.py [PROFILES]: drawn cracks, 48 of each kind (12 angles, four depths each, which vary by
20 %), noise of 4 grey levels and texture of 2; and PROFILES, a folder of measured grey profiles with true widths (Benz
and Rodehorst 2021), CSV files as published.

python benchmarks/measuring.py --cost PHOTOS...: processor seconds of `crack infer` and of measuring, photo by photo in
turn, for each folder of photos.

python benchmarks/measuring.py --memory SIDE...: peak memory of `crack infer --masks` on tiled TIFFs of so many px.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
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
DRAWN = 48
SEED = 1000  # of the first photo: other noise, depths and angles than those that the intervals were calibrated on
DEPTH_ORDER = np.random.default_rng(SEED).permutation(DRAWN)  # evenly over the normal distribution, at any angle
RULER_STEP = 0.05  # mm between the marks of the rulers that true widths were read with


def drawn_row(name: str, width: float, blur: float) -> dict[str, float | str]:
    """Measure one line at 12 angles and 48 depths."""
    errors, covered, mask_errors, lengths, points = [], [], [], [], 0
    for number in range(DRAWN):
        depth = 0.85 * np.exp(0.2 * ndtri((DEPTH_ORDER[number] + 0.5) / DRAWN))
        look = Look(blur=blur, depth=min(depth, 1.0), texture=2.0)
        photo, mask, length = draw(
            turned(LINES[name], 15 * (number % 12) + 4, 75.3), width, (150, 150), look, SEED + number
        )
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


def cost_row(folder: Path, photos: int = 24) -> dict[str, float | str]:
    """Infer and measure photos of a folder in turn, as the command does, and compare processor seconds.

    Both halves read and write their files: photo in and mask out, photo and mask in and measurements out.
    """
    from cracktool import load_predictor
    from cracktool.inference import FolderOptions, infer_folder
    from cracktool.inspection import InspectionOptions, inspect_photo, pair_of

    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in {".jpg", ".png"}]
    paths = paths[:: max(1, len(paths) // photos)][:photos]
    predictor = load_predictor(device="cpu")
    spent = np.zeros((len(paths) + 1, 2))
    with tempfile.TemporaryDirectory() as work:
        for number, path in enumerate([paths[0], *paths]):
            began = time.process_time()
            (done,) = infer_folder(predictor, [path], Path(work), FolderOptions(overwrite=True))
            between = time.process_time()
            inspect_photo(pair_of(path, done.outputs[0], Path(work)), InspectionOptions(), overwrite=True)
            spent[number] = between - began, time.process_time() - between
    infer, measuring = spent[1:].sum(axis=0)  # the first warms up
    return {
        "photos of": folder.parent.name if folder.name == "images" else folder.name,
        "photos": len(paths),
        "infer s": infer,
        "measure s": measuring,
        "ratio": measuring / infer,
    }


def memory_row(side: int) -> dict[str, float | str]:
    """Measure a square photo and mask with a crack of 500 px in every 4 megapixels, and look at the process."""
    import rasterio
    from rasterio.windows import Window

    tile, tile_mask, _ = draw(turned(sinusoid(20, 200, 480), 30, 250), 3.0, (500, 500))
    layout = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": side, "width": side, "BIGTIFF": "IF_SAFER"}
    layout |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    with tempfile.TemporaryDirectory() as work:
        for name, ground, crack in (("photos", 150, tile), ("masks", 0, 255 * tile_mask.astype(np.uint8))):
            (Path(work) / name).mkdir()
            band = np.full((2048, side), ground, np.uint8)
            for left in range(0, side - 500, 2048):
                band[500:1000, left : left + 500] = crack
            with rasterio.open(Path(work) / name / "large.tif", "w", **layout) as file:
                for top in range(0, side, 2048):
                    rows = band[: min(2048, side - top)]
                    file.write(rows, 1, window=Window(0, top, side, len(rows)))
        arguments = ["infer", f"{work}/photos", "--masks", f"{work}/masks", "-o", f"{work}/out", "--report", "-q"]
        command = [sys.executable, "-m", "cracktool", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        own, resident = 0.0, 0.0
        while process.poll() is None:
            now = status_mib(process.pid)
            own, resident = max(own, now.get("RssAnon", 0.0)), max(resident, now.get("VmRSS", 0.0))
            time.sleep(0.02)
        cracks = len((Path(work) / "out" / "cracks.jsonl").read_text().splitlines())
    return {
        "side px": side,
        "megapixels": side * side / 1e6,
        "cracks": cracks,
        "own MiB": own,
        "resident MiB": resident,
    }


def status_mib(process: int) -> dict[str, float]:
    """Return what Linux says of the memory of a process; nothing where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: int(rest.split()[0]) / 1024 for name, rest in (line.split(":") for line in lines) if "kB" in rest}


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


def truths(profiles: Path | None) -> dict[str, list[dict[str, float | str]]]:
    """Measure what is known exactly."""
    plan = [("straight", width, blur) for blur in BLURS for width in WIDTHS]
    plan += [(name, width, 1.0) for name in ("sinusoid", "arc") for width in (1.0, 2.0, 4.0, 8.0)]
    drawn = show(drawn_row(*each) for each in plan)
    if profiles is None:
        return {"drawn": drawn}
    print("published mean absolute errors: rectangle 0.36, intersection 0.71, parabola 1.04 px")
    return {"drawn": drawn, "profiles": show(profile_rows(profiles))}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="?", type=Path)
    parser.add_argument("--cost", nargs="+", type=Path, metavar="PHOTOS")
    parser.add_argument("--memory", nargs="+", type=int, metavar="SIDE")
    options = parser.parse_args()
    if options.cost:
        found = {"cost": show(map(cost_row, options.cost))}
    elif options.memory:
        found = {"memory": show(map(memory_row, options.memory))}
    else:
        found = truths(options.profiles)
    print(json.dumps({"benchmark": "measuring", **found}))


if __name__ == "__main__":
    main()
