"""All thresholds at once against a loop over them, and the memory of an evaluation.

    python benchmarks/evaluation.py [MAPS]

Probability maps of 2560x1440 px, uint8, with about 3 % crack. Everything that a sweep gives of a map (ODS, OIS, AP, AIU
and the curves) comes from one histogram. The loop counts true positives, false positives and false negatives at 99
thresholds, as published evaluators do; a second one only what these need when the sum of the truth is known. All are
timed in turn on the same map, on one thread. Then MAPS maps [1119] are summed up, and memory is read after a tenth of
them and at the end.
Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

from cracktool.metrics import SWEEP, Histogram, average_iou, average_precision, best_dice

SHAPE = (1440, 2560)
TURNS = 5


def main() -> None:
    """Time in turn, then pool, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=int, nargs="?", default=1119, help="maps summed up [1119]")
    maps = parser.parse_args().maps
    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    pairs = [made(random) for _ in range(4)]
    ways: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
        "one histogram": swept,
        "loop of tp, fp, fn": looped,
        "loop of tp and predicted": looped_fast,
    }
    seconds = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            begin = time.perf_counter()
            way(*pairs[0])
            seconds[name].append(time.perf_counter() - begin)
    best, ours = looped(*pairs[0]), swept(*pairs[0])[0]
    assert abs(best - ours) < 1e-12, (best, ours)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    memory = {}
    total = Histogram.pool(())
    begin = time.perf_counter()
    for number in range(1, maps + 1):
        total += Histogram.of(*pairs[number % len(pairs)])
        if number in (maps // 10, maps):
            memory[number] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    whole = time.perf_counter() - begin
    print("| way | ms a map | times as fast as |\n|---|--:|--:|")
    for name, value in median.items():
        print(f"| {name} | {1000 * value:.1f} | {value / median['one histogram']:.1f} |")
    print(f"\n{maps} maps pooled in {whole:.1f} s; peak memory in MiB by maps done: {memory}")
    ratios = {name: value / median["one histogram"] for name, value in median.items()}
    print(json.dumps({"maps": maps, "seconds": whole, "ratios": ratios, "peak_mib": memory}))


def made(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth map and a truth that it roughly finds."""
    noise = cv2.GaussianBlur(random.random(SHAPE, np.float32), (0, 0), 6)
    levels = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    shifted = np.roll(levels, 2, axis=1)
    return levels, shifted >= np.quantile(shifted, 0.97)


def swept(levels: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """Return what a sweep gives, from one histogram."""
    histogram = Histogram.of(levels, truth)
    return best_dice(histogram), average_precision(histogram), average_iou(histogram)


def looped(levels: np.ndarray, truth: np.ndarray) -> float:
    """Return the best F1 over 99 thresholds, counted as published evaluators do."""
    best = 0.0
    for threshold in SWEEP:
        mask = levels >= 256 * threshold
        tp, fp, fn = (mask & truth).sum(), (mask & ~truth).sum(), (~mask & truth).sum()
        best = max(best, 2 * tp / max(2 * tp + fp + fn, 1))
    return float(best)


def looped_fast(levels: np.ndarray, truth: np.ndarray) -> float:
    """Return the same from no more counts than it needs."""
    best, whole = 0.0, np.count_nonzero(truth)
    for threshold in SWEEP:
        mask = levels >= 256 * threshold
        best = max(best, 2 * np.count_nonzero(mask & truth) / max(np.count_nonzero(mask) + whole, 1))
    return float(best)


if __name__ == "__main__":
    main()
