"""Run `crack` as a user would, for the scripts beside this one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def crack(*args: object) -> str:
    """Run one command and return what it prints; it is shown on stderr first."""
    print("$ crack", *args, file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "cracktool", *map(str, args)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def train(run: Path, *settings: object) -> None:
    """Train, or go on with a run that was stopped."""
    crack("train", *settings, "-o", run, "--resume")


def score(data: Path, split: str, weights: Path, report: Path, *options: object) -> dict[str, Any]:
    """Return the report of `crack eval`, kept in a file so that it is made once."""
    if not report.is_file():
        report.write_text(crack("eval", data, "--split", split, "--weights", weights, *options, "--json"))
    return dict(json.loads(report.read_text()))
