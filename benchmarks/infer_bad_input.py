"""Forty kinds of bad input in one folder, among good photos: each with its line of error; a table, then one JSON line.

python benchmarks/infer_bad_input.py
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)


def encoded(kind: str, **options: object) -> bytes:
    """Return a picture's bytes."""
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def cut(kind: str, share: float) -> bytes:
    """Return the first part of a picture's bytes."""
    data = encoded(kind)
    return data[: int(share * len(data))]


def spoilt(kind: str, start: float, value: int = 0) -> bytes:
    """Return a picture's bytes, a quarter of them overwritten from a place on."""
    data = bytearray(encoded(kind))
    at = int(start * len(data))
    data[at : at + len(data) // 4] = bytes([value]) * len(data[at : at + len(data) // 4])
    return bytes(data)


def header_of(width: int, height: int) -> bytes:
    """Return a BMP that claims a size and has no pixels."""
    words = [40, width, height, 1 | 24 << 16, 0, 0, 0, 0, 0, 0]
    return b"BM" + b"".join(n.to_bytes(4, "little") for n in (10**6, 0, 54, *words))


def apart(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files with a number in front of each name, since results of one stem would be one file."""
    return {f"{number:02}_{name}": data for number, (name, data) in enumerate(files.items())}


_FILES = {
    **{f"empty.{end}": b"" for end in ("jpg", "png", "tif", "bmp", "webp", "gif", "mp4", "heic")},
    **{f"half.{end}": cut(kind, 0.5) for end, kind in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF"))},
    **{f"half.{end}": cut(kind, 0.5) for end, kind in (("bmp", "BMP"), ("webp", "WEBP"), ("jp2", "JPEG2000"))},
    "half.gif": cut("GIF", 0.02),
    **{f"header.{end}": cut(kind, 0.001) for end, kind in (("jpg", "JPEG"), ("png", "PNG"), ("tiff", "TIFF"))},
    **{f"zeros.{end}": b"\0" * 5000 for end in ("jpg", "png", "tif", "mov", "pgm")},
    **{f"text.{end}": b"this is no picture\n" * 50 for end in ("jpg", "png", "tif", "avi", "ppm", "heif")},
    "checksum.png": spoilt("PNG", 0.4),
    "pdf.jpg": b"%PDF-1.7 " + b"x" * 200,
    "page.html.png": b"<!doctype html><title>404</title>",
    "archive.jpeg": b"PK\x03\x04" + b"\0" * 300,
    "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "huge.bmp": header_of(60_000, 60_000),
    "last_byte.jpg": encoded("JPEG")[:-2],
    "last_bytes.png": encoded("PNG")[:-12],
}

FILES = apart(_FILES)

MADE: dict[str, Callable[[Path], object]] = {
    "nowhere.jpg": lambda path: path.symlink_to(path.with_name("gone.jpg")),
    "loop.png": lambda path: path.symlink_to(path),
    "pipe.jpg": os.mkfifo,
}


def main() -> None:
    """Make the files, run them, print what was said of each."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        for number in range(3):
            (folder / f"good{number}.jpg").write_bytes(encoded("JPEG"))
        for file, data in FILES.items():
            (folder / file).write_bytes(data)
        for file, make in MADE.items():
            make(folder / file)
        command = [sys.executable, "-m", "cracktool", "infer", str(folder), "-o", f"{name}/out", "-q", "--timeout", "5"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        kinds = sorted([*FILES, *MADE])
        lines = run.stderr.splitlines()
        said = {kind: [line.replace(f"{folder}/", "") for line in lines if f"/{kind}: " in line] for kind in kinds}
        listed = (Path(name) / "out" / "crack-failures.jsonl").read_text().splitlines()
    for kind in kinds:
        print(f"{kind:18s}{' '.join(said[kind]).removeprefix('crack: ') or 'NOTHING WAS SAID'}")
    figures = {
        "kinds": len(kinds),
        "with_one_line": sum(len(found) == 1 for found in said.values()),
        "good_photos_done": len(run.stdout.splitlines()),
        "exit_code": run.returncode,
        "in_the_list_of_failures": len(listed),
        "other_lines": len(lines) - sum(map(len, said.values())),
    }
    print(json.dumps({"benchmark": "infer bad input"} | figures))


if __name__ == "__main__":
    main()
