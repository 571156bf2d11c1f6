"""Pictures of right and wrong pixels, and of what a network learns from.

Draws what it is given and computes no score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from cracktool.errors import InputError
from cracktool.files import replace_file
from cracktool.images import Image, Mask, encode_png, read_image
from cracktool.overlay import COLOUR

if TYPE_CHECKING:
    from cracktool.evaluation import Report, Row

# Okabe and Ito's colours: told apart by all common kinds of colour blindness, and by their brightness in print.
FOUND, ALARM, MISSED = (255, 255, 255), (230, 159, 0), (86, 180, 233)
_PANEL, _CELL, _GAP, _TEXT, _MOST_CELLS = 640, 224, 8, 18, 32


def choose_rows(rows: Sequence[Row], count: int) -> list[Row]:
    """Return up to `count` rows with the worst, the median and the best IoU, worst first.

    Images where truth and prediction are both empty show nothing and are left out.
    """
    ranked = sorted((row for row in rows if _shows_something(row)), key=_by_iou)
    if len(ranked) <= count:
        return ranked
    best = count // 3
    middle = (count - best) // 2
    worst = count - best - middle
    start = min(max((len(ranked) - middle) // 2, worst), len(ranked) - best - middle)
    return ranked[:worst] + ranked[start : start + middle] + ranked[len(ranked) - best :]


def draw_comparison(report: Report, row: Row) -> Image:
    """Draw photo, truth and errors side by side; found, missed and false pixels have their own colours.

    A degraded photo is enlarged to the size of its masks, each of its pixels a square. Large pictures are scaled down
    to panels of 640 px; a hairline stays visible, because a pixel of the panel takes the colour of any crack below it.

    Returns:
        RGB uint8 (height, width, 3).

    Raises:
        InputError: The photo or its truth cannot be read, or the photo is not of the size that the table says.
    """
    photo = read_image(report.manifest.image_path(row.entry))
    truth, mask = report.truth(row), report.mask(row)
    photo = photo.repeat(row.scale, axis=0).repeat(row.scale, axis=1)
    if photo.shape[:2] != mask.shape:
        raise InputError(f"the photo has shape {photo.shape[:2]}, its mask {mask.shape}", path=row.image)
    small = _fit(photo, _PANEL)
    dark = (small * 0.35).astype(np.uint8)
    truth_panel = _paint(np.zeros_like(small), [(truth, FOUND)])
    outcome = _paint(dark, [(truth & mask, FOUND), (mask & ~truth, ALARM), (truth & ~mask, MISSED)])
    return _labelled(row, report.threshold, [small, truth_panel, outcome])


def plot_batch(images: npt.NDArray[np.uint8], masks: Mask, path: Path) -> None:
    """Draw a training batch: each sample as the network sees it, and beside it again with its mask outlined.

    Args:
        images: RGB uint8 (B, H, W, 3).
        masks: bool (B, H, W).
        path: The PNG to write.

    Raises:
        OutputError: The file cannot be written.
    """
    cells = [_sample(image, mask) for image, mask in zip(images[:_MOST_CELLS], masks, strict=False)]
    height, width = (side + _GAP for side in cells[0].shape[:2])
    columns = max(round(math.sqrt(len(cells) * height / width)), 1)
    lines = math.ceil(len(cells) / columns)
    canvas = np.full((lines * height + _GAP + 2 * _TEXT, columns * width + _GAP, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        y, x = 2 * _TEXT + number // columns * height, _GAP + number % columns * width
        canvas[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
    shown = f"{len(cells)} of {len(images)}" if len(cells) < len(images) else str(len(images))
    text = f"{shown} samples, {images.shape[2]} x {images.shape[1]} px; magenta: mask"
    replace_file(path, encode_png(_write(canvas, [((_GAP, _TEXT // 2), text)])))


def _shows_something(row: Row) -> bool:
    counts = row.measured.counts
    return counts.tp + counts.fp + counts.fn > 0


def _by_iou(row: Row) -> tuple[float, str]:
    return row.scores["iou"], row.image


def _fit(picture: Image, side: int) -> Image:
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:  # small photos grow by whole steps, so that their pixels stay square and countable
        return picture.repeat(int(scale), axis=0).repeat(int(scale), axis=1)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _paint(panel: Image, layers: Sequence[tuple[Mask, tuple[int, int, int]]]) -> Image:
    """Colour each pixel of the panel with the layer that covers most of it, if any does at all."""
    size = panel.shape[1], panel.shape[0]
    enlarged = panel.shape[0] >= layers[0][0].shape[0]
    method = cv2.INTER_NEAREST if enlarged else cv2.INTER_AREA
    shares = np.stack([cv2.resize(mask.astype(np.float32), size, interpolation=method) for mask, _ in layers])
    colours = np.array([colour for _, colour in layers], np.uint8)
    return np.where(shares.max(axis=0)[..., None] > 0, colours[shares.argmax(axis=0)], panel)


def _labelled(row: Row, threshold: float | None, panels: Sequence[Image]) -> Image:
    height, width = panels[0].shape[:2]
    column = max(width, 330) + _GAP  # room for the legend below a narrow photo
    scores = "   ".join(f"{name} {value:.3f}" for name, value in row.scores.items() if name in _shown(row))
    title = f"{' '.join(row.image.splitlines())}   {scores}"
    room = max(3 * column, math.ceil(ImageFont.load_default(_TEXT).getlength(title)) + _GAP)  # a long name needs more
    canvas = np.full((height + 5 * _TEXT, room + _GAP, 3), 255, np.uint8)
    for number, panel in enumerate(panels):
        left = _GAP + number * column
        canvas[3 * _TEXT : 3 * _TEXT + height, left : left + width] = panel
    cut = "" if threshold is None else f", threshold {threshold:g}"
    texts = [((_GAP, 6), title)]
    for number, name in enumerate(("photo", "truth", f"prediction{cut}")):
        texts.append(((_GAP + number * column, 3 * _TEXT - 24), name))
    return _legend(_write(canvas, texts), (_GAP + 2 * column, 3 * _TEXT + height + 8))


def _shown(row: Row) -> list[str]:
    tolerant = [name for name in row.scores if name.startswith("f1_")]
    return ["iou", "dice", "precision", "recall", *tolerant, "cldice"]


def _legend(canvas: Image, corner: tuple[int, int]) -> Image:
    x, y = corner
    texts = []
    for text, colour in (("found", FOUND), ("false alarm", ALARM), ("missed", MISSED)):
        cv2.rectangle(canvas, (x, y), (x + _TEXT, y + _TEXT), colour, cv2.FILLED)
        cv2.rectangle(canvas, (x, y), (x + _TEXT, y + _TEXT), (0, 0, 0), 1)
        texts.append(((x + _TEXT + 6, y - 2), text))
        x += 3 * _TEXT + round(ImageFont.load_default(_TEXT).getlength(text))
    return _write(canvas, texts)


def _write(canvas: Image, texts: Sequence[tuple[tuple[int, int], str]]) -> Image:
    picture = PillowImage.fromarray(canvas)
    font = ImageFont.load_default(_TEXT)
    draw = ImageDraw.Draw(picture)
    for place, text in texts:
        draw.text(place, text, fill=(0, 0, 0), font=font)
    return np.array(picture)


def _sample(image: Image, mask: Mask) -> Image:
    small = _fit(image, _CELL)
    size = small.shape[1], small.shape[0]
    crack = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    outlined = small.copy()
    outlined[cv2.dilate(crack.astype(np.uint8), np.ones((3, 3), np.uint8)) > crack] = COLOUR
    return np.concatenate([small, outlined], axis=1)
