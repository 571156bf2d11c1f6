"""Measure on real photos what the synthetic generator imitates: a table in Markdown, then one JSON line.

    python benchmarks/crack_statistics.py DATA [DATA ...] [--split train] [--images 120]

DATA are prepared sets. The constants of `cracktool.datasets.synthetic` (widths, bends, tones, spectra) were read off
this table for the train splits of DeepCrack, Crack500, SUT-Crack, canal concrete, walls and masonry, 60 pictures each;
run on a prepared synthetic set it tells how near the generator comes. A width is twice the distance of a skeleton
pixel from the nearest pixel without crack, less half a pixel, which is right on average for bars of 1, 2, 3, ... px.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from skimage.morphology import skeletonize

from cracktool.images import Image, Mask, read_image, read_mask
from cracktool.manifest import Manifest, read_manifest

LAGS = (2, 4, 8, 16, 32, 64)  # px along a crack
WINDOW = 64  # px: side of the crack-free pieces of which spectra are taken
COLUMNS = {
    "width": "median of the pictures' median widths, px",
    "between": "deviation of the logarithm of a picture's median width",
    "within": "deviation of the logarithm of the width along the cracks of a picture",
    "length": "distance along a crack in px at which the correlation of the logarithm of its width is 1/e",
    "bend": "deviation sideways of the middle of 32 px pieces, as a share of their length",
    "hurst": "how the bend of pieces of 16 px and of 64 px differ: 1 for equal shares",
    "core": "tone of the middle of a crack relative to the surface around it",
    "edge": "tone at the edge of the mask likewise",
    "rim": "tone 2 to 4 px outside of it likewise",
    "slope": "exponent of the power spectrum of crack-free surface, 1/32 to 1/3 cycles per px",
    "contrast": "deviation of the tone of crack-free surface in pieces of 64 px, relative to their mean",
}


def main() -> None:
    """Measure each set and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="prepared sets")
    parser.add_argument("--split", default="train", help="train, val or test [train]")
    parser.add_argument("--images", type=int, default=120, help="pictures of each set, evenly spaced [120]")
    options = parser.parse_args()
    rows = {path.name: measure(read_manifest(path).split(options.split), options.images) for path in options.data}
    print("\n".join(f"- {name}: {meaning}" for name, meaning in COLUMNS.items()), end="\n\n")
    print(f"| data | {' | '.join(COLUMNS)} |\n|---|{'--:|' * len(COLUMNS)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{row[column]:.3g}' for column in COLUMNS)} |")
    print(json.dumps({"benchmark": "crack_statistics", "split": options.split, "rows": rows}))


def measure(manifest: Manifest, images: int) -> dict[str, float]:
    """Return the columns of one set."""
    cracked = [entry for entry in manifest.entries if entry.label == "cracked" and entry.mask]
    chosen = [cracked[i] for i in np.unique(np.linspace(0, len(cracked) - 1, images).astype(int))]
    medians, within, bends, tones, surfaces = [], [], [], [], []
    products = np.zeros((len(LAGS), 2))
    for entry in chosen:
        image, mask = read_image(manifest.image_path(entry)), read_mask(manifest.folder / entry.mask)
        lines = list(traced(mask))
        if not lines:
            continue
        logs = [np.log(line[:, 2]) for line in lines]
        middle = float(np.median(np.concatenate(logs)))
        medians.append(middle)
        within.append(np.concatenate(logs).std())
        products += sum(correlation(log - middle) for log in logs)
        bends.append([np.concatenate([bend(line[:, :2], span) for line in lines]) for span in (16, 32, 64)])
        tones.append(profile(image, mask))
        surfaces += list(spectra(image, mask))
    bent = [np.sqrt(np.mean(np.concatenate([b[i] for b in bends]) ** 2)) for i in range(3)]
    core, edge, rim = np.nanmedian(tones, axis=0)
    slope, contrast = np.median(surfaces, axis=0) if surfaces else (np.nan, np.nan)
    values = (
        *(np.exp(np.median(medians)), np.std(medians), np.mean(within), fall(products[:, 0] / products[:, 1])),
        *(bent[1], 1 + np.log2(bent[2] / bent[0]) / 2, core, edge, rim, slope, contrast),
    )
    return {name: float(value) for name, value in zip(COLUMNS, values, strict=True)}


def traced(mask: Mask) -> Iterator[np.ndarray]:
    """Yield the pieces of the skeleton between junctions, 24 px or longer, as rows (y, x, width) in order."""
    inner = cv2.distanceTransform(np.pad(mask, 1, "edge").astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    skeleton = skeletonize(mask).astype(np.uint8)
    neighbours = cv2.filter2D(skeleton, -1, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT) - skeleton
    pieces = cv2.connectedComponents(skeleton * (neighbours < 3), connectivity=8)[1]
    for label in range(1, pieces.max() + 1):
        points = ordered(np.argwhere(pieces == label))
        if len(points) >= 24:
            width = 2 * inner[1 + points[:, 0], 1 + points[:, 1]] - 0.5
            yield np.column_stack([points, np.maximum(width, 0.5)])


def ordered(points: np.ndarray) -> np.ndarray:
    """Return the pixels of a line without junctions from one end to the other."""
    left = {(int(y), int(x)) for y, x in points}
    near = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    ends = [p for p in left if sum((p[0] + y, p[1] + x) in left for y, x in near) == 1]
    place: tuple[int, int] | None = min(ends or left)
    line = []
    while place:
        line.append(place)
        left.discard(place)
        place = next(((place[0] + y, place[1] + x) for y, x in near if (place[0] + y, place[1] + x) in left), None)
    return np.array(line)


def correlation(log: np.ndarray) -> np.ndarray:
    """Return for each lag the sums of products and of squares of a line's deviations."""
    sums = np.zeros((len(LAGS), 2))
    for row, lag in enumerate(LAGS):
        if len(log) > lag:
            a, b = log[:-lag], log[lag:]
            sums[row] = (a * b).sum(), (a * a + b * b).sum() / 2
    return sums


def fall(correlations: np.ndarray) -> float:
    """Return the lag at which the correlation falls below 1/e, interpolated; the longest lag where it never does."""
    below = np.flatnonzero(correlations < np.exp(-1))
    if not len(below):
        return LAGS[-1]
    i = int(below[0])
    if i == 0:
        return LAGS[0]
    share = (correlations[i - 1] - np.exp(-1)) / (correlations[i - 1] - correlations[i])
    return LAGS[i - 1] + share * (LAGS[i] - LAGS[i - 1])


def bend(points: np.ndarray, span: int) -> np.ndarray:
    """Return the sideways displacements of the middles of pieces of `span` pixels, as shares of their length."""
    soft = cv2.blur(points.astype(np.float32), (1, 5), borderType=cv2.BORDER_REPLICATE)  # less of the pixel grid
    a, m, b = soft[: -span or None : span], soft[span // 2 :: span], soft[span::span]
    n = min(len(a), len(m), len(b))
    chord = b[:n] - a[:n]
    off = m[:n] - a[:n]
    length = np.hypot(*chord.T)
    return (off[:, 0] * chord[:, 1] - off[:, 1] * chord[:, 0]) / np.maximum(length, 1) ** 2


def profile(image: Image, mask: Mask) -> tuple[float, float, float]:
    """Return the tones in the middle of the crack, at the mask's edge and just outside, relative to 8 to 16 px away."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    far = (outside >= 8) & (outside < 16)
    if not far.any():
        return np.nan, np.nan, np.nan
    core = inside >= 0.6 * np.median(inside[skeletonize(mask)])
    edge = (inside == 1) | (outside == 1)
    rim = (outside >= 2) & (outside < 4)
    around = float(grey[far].mean())
    return grey[core].mean() / around, grey[edge].mean() / around, grey[rim].mean() / around


def spectra(image: Image, mask: Mask) -> Iterator[tuple[float, float]]:
    """Yield exponent and contrast of each piece of surface that is far from any crack."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    window = np.outer(np.hanning(WINDOW), np.hanning(WINDOW))
    fy, fx = np.fft.fftfreq(WINDOW)[:, None], np.fft.rfftfreq(WINDOW)[None]
    frequency = np.hypot(fy, fx)
    band = (frequency > 1 / 32) & (frequency < 1 / 3)
    for y in range(0, grey.shape[0] - WINDOW + 1, 2 * WINDOW):
        for x in range(0, grey.shape[1] - WINDOW + 1, 2 * WINDOW):
            piece = grey[y : y + WINDOW, x : x + WINDOW]
            if not mask[y : y + WINDOW, x : x + WINDOW].any() and piece.std() > 1:
                tone = piece / piece.mean() - 1
                power = np.abs(np.fft.rfft2(tone * window)) ** 2
                yield -np.polyfit(np.log(frequency[band]), np.log(power[band] + 1e-9), 1)[0], tone.std()


if __name__ == "__main__":
    main()
