"""How fast and in how much memory `crack prepare` makes tiles: a table, then one JSON line.

Photos of 2560x1440 px are made up as a raw Crack500, of which each gives 16 tiles of 640x360. Beside `prepare` runs
what no program can leave out: decoding the same photos (JPEG) and masks (PNG) and encoding the same tiles of both, in
plain OpenCV with the same settings, by as many threads, without writing anything; half of it before and half after,
since a machine's speed drifts. The same with OpenCV's own settings tells what smaller files cost. Each measurement is
a process of its own; processor seconds are counted beside wall-clock seconds, so that a busy machine does not falsify
the comparison.

    python benchmarks/prepare.py [--photos 844] [--jobs 2]

844 photos make 13,504 tiles and need 6 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from cracktool.datasets.prepare import prepare
from cracktool.images import encode_png

HEIGHT, WIDTH, TILES = 1440, 2560, 16
MIB = 2**20

_LEVEL_1 = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY)
SETTINGS = {  # of `cracktool.images.encode_png`, for photos and for masks
    "same": (
        (*_LEVEL_1, cv2.IMWRITE_PNG_STRATEGY_DEFAULT, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
        (*_LEVEL_1, cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
    ),
    "opencv": ((), ()),
}


def main() -> None:
    """Make the photos, measure both ways in turn, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=844)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", nargs=4, metavar=("WHAT", "FOLDER", "FIRST", "LAST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as name:
        run("photos", name, 0, options.photos, options.jobs)
        half, few = options.photos // 2, max(options.photos // 8, 1)
        before = run("same", name, 0, half, options.jobs)
        prepared = run("prepare", name, 0, options.photos, options.jobs)
        after = run("same", name, half, options.photos, options.jobs)
        defaults = run("opencv", name, 0, few, options.jobs)
        again = run("prepare", name, 0, options.photos, options.jobs)
    raw = {key: before[key] + after[key] for key in ("tiles", "bytes", "wall_s", "cpu_s")}
    rows = {"raw, same settings": raw, "raw, OpenCV's settings": defaults, "prepare": prepared, "prepare again": again}
    print("what                     tiles/s   tiles/cpu-s   kB per tile")
    for what, row in rows.items():
        rates = (row["tiles"] / row[clock] for clock in ("wall_s", "cpu_s"))
        print("{:22s}{:10.1f}{:14.1f}".format(what, *rates) + f"{row['bytes'] / row['tiles'] / 1000:14.1f}")
    figures = {
        "benchmark": "prepare",
        "tiles": prepared["tiles"],
        "jobs": options.jobs,
        "of_raw_wall": ratio(prepared, raw, "wall_s"),
        "of_raw_cpu": ratio(prepared, raw, "cpu_s"),
        "of_opencv_cpu": ratio(prepared, defaults, "cpu_s"),
        **{key: prepared[key] for key in ("peak_third_mib", "peak_stored_mib", "peak_mib")},
    }
    print(json.dumps(figures))


def ratio(one: dict[str, float], other: dict[str, float], clock: str) -> float:
    """Return how many times as many tiles a second `one` makes as `other`."""
    return round(one["tiles"] / one[clock] * other[clock] / other["tiles"], 3)


def run(what: str, folder: str, first: int, last: int, jobs: int) -> dict[str, float]:
    """Return what a new process measures."""
    command = [sys.executable, __file__, "--jobs", str(jobs), "--one", what, folder, str(first), str(last)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Do one measurement in this process."""
    what, folder, first, last = options.one
    photos = Path(folder) / "raw" / "train"
    if what == "photos":
        return clocked(lambda: make_photos(photos, int(last)), int(last))
    if what == "prepare":
        return measure_prepare(Path(folder), options.jobs)
    return measure_raw(sorted(photos.glob("*.jpg"))[int(first) : int(last)], what, options.jobs)


def measure_raw(photos: Sequence[Path], settings: str, jobs: int) -> dict[str, float]:
    """Decode photos and encode their tiles and masks in plain OpenCV; nothing is written."""
    cv2.setNumThreads(1)
    image_settings, mask_settings = SETTINGS[settings]

    def work(path: Path) -> int:
        photo = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        mask_file = path.with_name(f"{path.stem}_mask.png")
        mask = cv2.imdecode(np.frombuffer(mask_file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        size = sum(len(cv2.imencode(".png", tile, image_settings)[1]) for tile in windows(photo))
        return size + sum(len(cv2.imencode(".png", tile, mask_settings)[1]) for tile in windows(mask))

    def work_all() -> int:
        with ThreadPoolExecutor(jobs) as pool:
            return sum(pool.map(work, photos))

    return clocked(work_all, len(photos) * TILES)


def measure_prepare(folder: Path, jobs: int) -> dict[str, float]:
    """Prepare all photos; peak memory in MiB after a third of the images, after the last, and after the table."""
    peaks: list[tuple[float, float]] = []

    def work_all() -> int:
        prepare("crack500", folder / "raw", folder / "out", jobs=jobs, progress=watch)
        return sum(path.stat().st_size for part in ("images", "masks") for path in (folder / "out" / part).iterdir())

    def watch(done: int, total: int) -> None:
        peaks.append((done / total, peak_mib()))

    found = clocked(work_all, TILES * len(list((folder / "raw" / "train").glob("*.jpg"))))
    third = next(peak for share, peak in peaks if share >= 1 / 3)
    return found | {"peak_third_mib": third, "peak_stored_mib": peaks[-1][1], "peak_mib": peak_mib()}


def peak_mib() -> float:
    """Return the most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB, 1)


def clocked(work: Callable[[], int], tiles: int) -> dict[str, float]:
    """Run `work`, which returns how many bytes it made, and return its rates' parts."""
    wall, cpu = time.perf_counter(), time.process_time()
    size = work()
    return {"tiles": tiles, "bytes": size, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def windows(picture: np.ndarray) -> list[np.ndarray]:
    """Return the 16 tiles of a picture."""
    return [part for rows in np.vsplit(picture, 4) for part in np.hsplit(rows, 4)]


def make_photos(folder: Path, count: int) -> int:
    """Write photos of about 1.3 MB, as grainy as phone photos of pavement, and the mask of each; return their bytes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    stones = cv2.resize(rng.normal(0, 14, (HEIGHT // 4, WIDTH // 4)), (WIDTH, HEIGHT)).astype(np.float32)
    grain = rng.normal(0, 6, (HEIGHT, WIDTH)).astype(np.float32)
    mask = crack_mask()
    data = encode_png(mask)
    for number in range(count):
        light = cv2.resize(
            rng.normal(130, 18, (9, 16)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        shift = tuple(int(part) for part in rng.integers(0, (HEIGHT, WIDTH)))
        grey = light + np.roll(stones, shift, (0, 1)) + np.roll(grain, shift[::-1], (0, 1)) - mask * np.float32(0.2)
        photo = cv2.cvtColor(np.clip(grey, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
        stem = f"2016{number:04d}_120000"
        cv2.imwrite(str(folder / f"{stem}.jpg"), photo, (cv2.IMWRITE_JPEG_QUALITY, 92))
        (folder / f"{stem}_mask.png").write_bytes(data)
    return sum(path.stat().st_size for path in folder.iterdir())


def crack_mask() -> np.ndarray:
    """Return a mask with more than 1000 crack pixels in each tile."""
    rng = np.random.default_rng(1)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for y in range(HEIGHT // 8, HEIGHT, HEIGHT // 4):
        points = np.stack([np.arange(0, WIDTH + 40, 40), y + rng.normal(0, 12, WIDTH // 40 + 1)], axis=1)
        cv2.polylines(mask, [points.astype(np.int32)], False, 255, 9)
    return mask


if __name__ == "__main__":
    main()
