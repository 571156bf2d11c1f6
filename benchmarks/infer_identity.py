"""The same masks whatever the way, and after any number of kills: a table, then one JSON line.

Every way is a `crack infer` of its own: batch sizes, threads, the order of photos and the tiles that share a batch with
them, shards, and, where they are installed, ONNX Runtime and OpenVINO in float32. `resumed` is a run that is killed
(SIGKILL) at random moments and started again, until it ends; after each kill every file that is visible is read.

    python benchmarks/infer_identity.py [--photos 24] [--kills 50]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from commands import crack

from cracktool.files import leftovers
from cracktool.images import encode_jpeg, read_image, read_mask

ROOT = Path(__file__).parents[1]
EXACT = ("--dtype", "float32", "--device", "cpu", "-q")


def main() -> None:
    """Run every way and compare it with the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        photos = make_photos(work / "in", options.photos)
        crack("infer", photos, "-o", work / "plain", *EXACT)
        rows = {}
        print(f"{'way':16s}{'pixels that differ':>20s}{'files equal':>13s}")
        for way, run in ways(photos, work).items():
            run()
            rows[way] = compare(way, work / way, work / "plain")
        kills, unwhole = killed(photos, work / "resumed", options.kills)
        rows["resumed"] = compare("resumed", work / "resumed", work / "plain")
        left = len(leftovers(work / "resumed"))
        print(f"{kills} kills, {unwhole} files that were not whole, {left} hidden parts of files left")
    print(json.dumps({"benchmark": "infer identity", "kills": kills, "unwhole": unwhole, "ways": rows}))


def ways(photos: Path, work: Path) -> dict[str, Callable[[], object]]:
    """Return what to run for each way; its masks come to a folder of its name."""

    def infer(way: str, *more: object, inputs: tuple[object, ...] = (photos,)) -> Callable[[], object]:
        return lambda: crack("infer", *inputs, "-o", work / way, *EXACT, *more)

    found = {f"batch {size}": infer(f"batch {size}", "--batch-size", size) for size in (1, 3, 16)}
    found |= {f"threads {count}": threads(infer(f"threads {count}"), count) for count in (1, 2)}
    found["other order"] = infer("other order", inputs=tuple(sorted(photos.iterdir(), reverse=True)))
    found["shards"] = lambda: [infer("shards", "--shard", f"{part}/3")() for part in (1, 2, 3)]
    for format_, ending, runtime in (("onnx", "onnx", "onnxruntime"), ("openvino", "xml", "openvino")):
        if find_spec(runtime) and find_spec("onnxscript"):
            found[format_] = exported(infer(format_, "--weights", work / f"c.{ending}"), work / f"c.{ending}", format_)
    return found


def threads(run: Callable[[], object], count: int) -> Callable[[], object]:
    """Run with so many threads of PyTorch."""

    def with_threads() -> None:
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(count)
        run()
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)

    return with_threads


def exported(run: Callable[[], object], path: Path, format_: str) -> Callable[[], object]:
    """Run after the weights that ship were exported."""

    def export_and_run() -> None:
        crack("export", "-o", path, "--format", format_)
        run()

    return export_and_run


def compare(way: str, masks: Path, plain: Path) -> dict[str, float]:
    """Print and return how masks differ from those of the plain run."""
    names = sorted(path.name for path in plain.glob("*.png"))
    pairs = [(read_mask(masks / name), read_mask(plain / name)) for name in names]
    differ = sum(int((mine != other).sum()) for mine, other in pairs) / sum(other.size for _, other in pairs)
    equal = all((masks / name).read_bytes() == (plain / name).read_bytes() for name in names)
    print(f"{way:16s}{differ:20.6%}{'yes' if equal else 'no':>13s}", flush=True)
    return {"differ": differ, "files_equal": equal}


def killed(photos: Path, out: Path, kills: int) -> tuple[int, int]:
    """Kill runs at random moments, then let one end; return the kills, and the visible files that were not whole."""
    command = [sys.executable, "-m", "cracktool", "infer", str(photos), "-o", str(out), *EXACT, "--resume"]
    wall = time.perf_counter()
    subprocess.run([*command[:-2], "-q", "--dry-run"], check=True, stdout=subprocess.DEVNULL)
    start = time.perf_counter() - wall  # most of a run this short; kills before it hit nothing
    random.seed(0)
    done = unwhole = 0
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=start * random.uniform(0.7, 1.3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
        unwhole += sum(not is_whole(path) for path in out.glob("[!.]*.png"))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return done, unwhole


def is_whole(path: Path) -> bool:
    """Return whether a mask can be read to its end."""
    return path.read_bytes().endswith(b"IEND\xaeB`\x82")


def make_photos(folder: Path, count: int) -> Path:
    """Write cut-outs of an example photo, of mixed sizes."""
    folder.mkdir()
    photo = read_image(ROOT / "examples" / "photos" / "pavement.jpg")
    rng = np.random.default_rng(0)
    for number in range(count):
        height, width = rng.integers(120, 520, 2)
        top, left = rng.integers(0, 600, 2)
        (folder / f"{number:03}.jpg").write_bytes(encode_jpeg(photo[top : top + height, left : left + width].copy()))
    return folder


if __name__ == "__main__":
    main()
