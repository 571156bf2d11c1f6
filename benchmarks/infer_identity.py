"""The same masks whatever the way, and after any number of kills: a table, then one JSON line.

Every way is a `crack infer` of its own. By each engine that is installed, in float32, against that engine's plain run:
batch sizes, threads, another order of photos (so that other tiles share a batch), shards, two Ray workers. The engines'
plain runs against PyTorch's. `resumed` is a run that is killed (SIGKILL) at random moments and started again, until it
ends; after each kill every file that is visible is read.

    python benchmarks/infer_identity.py [--photos 24] [--kills 50] [--engines torch,onnx,openvino]
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
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from commands import crack

from cracktool.files import leftovers
from cracktool.images import encode_jpeg, read_image, read_mask

ROOT = Path(__file__).parents[1]
EXACT = ("--dtype", "float32", "--device", "cpu", "-q")


def main() -> None:
    """Run every way and compare it with the plain one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--engines", default="torch,onnx,openvino")
    options = parser.parse_args()
    engines = options.engines.split(",")
    rows = {}
    print(f"{'way':24s}{'pixels that differ':>20s}{'files equal':>13s}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["CRACKTOOL_CACHE"] = str(work / "cache")
        photos = make_photos(work / "in", options.photos)
        for engine in engines:
            plain = infer(work / engine, photos, "--engine", engine)
            rows[engine] = compare(engine, plain, work / engines[0])
            for way, masks in ways(photos, work, engine).items():
                rows[f"{engine}, {way}"] = compare(f"{engine}, {way}", masks, plain)
        engine = "onnx" if "onnx" in engines else engines[0]  # begins at once, so that more kills hit the work itself
        kills, unwhole = killed(photos, work / "resumed", options.kills, engine)
        for masks in sorted((work / "resumed").iterdir()):
            rows[f"resumed {masks.name}"] = compare(f"resumed {masks.name}", masks, work / engine)
        left = len(leftovers(work / "resumed"))
        print(f"{kills} kills, {unwhole} files that were not whole, {left} hidden parts of files left")
    print(json.dumps({"benchmark": "infer identity", "kills": kills, "unwhole": unwhole, "ways": rows}))


def ways(photos: Path, work: Path, engine: str) -> dict[str, Path]:
    """Run all ways of an engine; return the folders of their masks."""

    def run(way: str, *more: object, inputs: tuple[object, ...] = (photos,)) -> Path:
        return infer(work / f"{engine} {way}", *inputs, "--engine", engine, *more)

    found = {f"batch {size}": run(f"batch {size}", "--batch-size", size) for size in (1, 3, 16)}
    before = os.environ.get("OMP_NUM_THREADS")
    for count in (1, 2):
        os.environ["OMP_NUM_THREADS"] = str(count)
        found[f"threads {count}"] = run(f"threads {count}")
    os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
    found["other order"] = run("other order", inputs=tuple(sorted(photos.iterdir(), reverse=True)))
    for part in (1, 2, 3):
        found["shards"] = run("shards", "--shard", f"{part}/3")
    if find_spec("ray"):
        found["Ray"] = run("Ray", "--ray", 2)
    return found


def infer(masks: Path, *arguments: object) -> Path:
    """Run photos; return the folder of their masks."""
    crack("infer", *arguments, "-o", masks, *EXACT)
    return masks


def compare(way: str, masks: Path, plain: Path) -> dict[str, float]:
    """Print and return how masks differ from those of the plain run."""
    names = sorted(path.name for path in plain.glob("*.png"))
    pairs = [(read_mask(masks / name), read_mask(plain / name)) for name in names]
    differ = sum(int((mine != other).sum()) for mine, other in pairs) / sum(other.size for _, other in pairs)
    equal = all((masks / name).read_bytes() == (plain / name).read_bytes() for name in names)
    print(f"{way:24s}{differ:20.6%}{'yes' if equal else 'no':>13s}", flush=True)
    return {"differ": differ, "files_equal": equal}


def killed(photos: Path, out: Path, kills: int, engine: str) -> tuple[int, int]:
    """Kill runs at random moments, then let one end; return the kills, and the visible files that were not whole.

    A moment lies between the start of a run and the time that one photo takes after the first result; each folder that
    gets finished is followed by another, since work that is done is not done again.
    """
    command = [sys.executable, "-m", "cracktool", "infer", str(photos), *EXACT, "--engine", engine, "--resume"]
    random.seed(0)
    done = unwhole = rounds = 0
    began, start = time.perf_counter(), 0.0
    while done < kills:
        folder = out / str(rounds)
        process = subprocess.Popen([*command, "-o", str(folder)], stdout=subprocess.PIPE)
        if not start:
            process.stdout.readline()
            start = time.perf_counter() - began
        try:
            process.communicate(timeout=start * random.uniform(0.7, 1.3))
            rounds += 1
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            done += 1
        unwhole += sum(not is_whole(path) for path in folder.glob("[!.]*.png"))
    subprocess.run([*command, "-o", str(out / str(rounds))], check=True, stdout=subprocess.DEVNULL)
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
