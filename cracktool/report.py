"""Results as files: scores as JSON and CSV, pictures of right and wrong pixels, training curves.

Draws what it is given and computes no score; matplotlib is used without its global state.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from cracktool.errors import CrackError, InputError
from cracktool.files import replace_file
from cracktool.images import Image, Mask, encode_png, read_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cracktool.evaluation import Report, Row, Summary

TABLE_COLUMNS = ("score", "pooled", "per image, empty/empty = 1", "per image, positives only")
ORIGIN_COLUMNS = ("origin", "images", "with crack", "iou", "precision", "recall", "false alarm area")

# Okabe and Ito's colours: told apart by all common kinds of colour blindness, and by their brightness in print.
FOUND, ALARM, MISSED = (255, 255, 255), (230, 159, 0), (86, 180, 233)
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_OUTLINE = (255, 0, 200)  # as in overlays: magenta is far from asphalt, concrete, brick and rust
_PANEL, _CELL, _GAP, _TEXT, _MOST_CELLS = 640, 224, 8, 18, 32


@dataclass(frozen=True)
class Written:
    """The files of a report, and what the user should know of them."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...]


def write_report(report: Report, folder: Path, *, figures: int | None = 12) -> Written:
    """Write ``report.json``, ``per_image.csv``, ``confusion.png`` and ``figures/NAME.png``.

    Args:
        report: What `cracktool.evaluation.evaluate` returned.
        folder: Where to write; files of these names are replaced.
        figures: Number of images to draw: worst, median and best by IoU in equal parts; None for all.

    Raises:
        OutputError: The folder cannot be written.

    Example:
        >>> write_report(report, Path("runs/first/eval")).files[0].name
        'report.json'
    """
    files = [folder / "report.json", folder / "per_image.csv", folder / "confusion.png"]
    replace_file(files[0], (json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())
    replace_file(files[1], _per_image_csv(report).encode())
    plot_confusion(report, files[2])
    warnings = []
    for row in choose_rows(report.rows, figures):
        path = folder / "figures" / _below_images(row.image).with_suffix(".png")
        try:
            picture = draw_comparison(report, row)
        except CrackError as error:
            warnings.append(f"no figure: {error}")
            continue
        replace_file(path, encode_png(picture))
        files.append(path)
    return Written(tuple(files), tuple(warnings))


def format_table(report: Report) -> list[tuple[str, ...]]:
    """Return the scores as rows of text for `TABLE_COLUMNS`.

    Example:
        >>> format_table(report)[0]
        ('iou', '0.612', '0.541 ± 0.210', '0.538 ± 0.208')
    """
    return [_table_row(name, summary) for name, summary in report.scores.items()]


def format_origins(report: Report) -> list[tuple[str, ...]]:
    """Return the scores by origin as rows of text for `ORIGIN_COLUMNS`; none where all images are of one.

    Example:
        >>> format_origins(report)[0]
        ('like_crack', '17', '0', '-', '-', '-', '0.84%')
    """
    return [
        (
            name or "(none)",
            str(scores.images),
            str(scores.positives),
            *("-" if value is None else f"{value:.3f}" for value in (scores.iou, scores.precision, scores.recall)),
            "-" if scores.false_alarm is None else f"{scores.false_alarm:.2%}",
        )
        for name, scores in report.origins.items()
    ]


def choose_rows(rows: Sequence[Row], count: int | None) -> list[Row]:
    """Return up to `count` rows with the worst, the median and the best IoU, worst first; None for all.

    Images where truth and prediction are both empty show nothing and are left out, unless all are asked for.
    """
    if count is None:
        return list(rows)
    ranked = sorted((row for row in rows if row.counts.tp + row.counts.fp + row.counts.fn), key=_by_iou)
    if len(ranked) <= count:
        return ranked
    best = count // 3
    middle = (count - best) // 2
    worst = count - best - middle
    start = min(max((len(ranked) - middle) // 2, worst), len(ranked) - best - middle)
    return ranked[:worst] + ranked[start : start + middle] + ranked[len(ranked) - best :]


def draw_comparison(report: Report, row: Row) -> Image:
    """Draw photo, truth and prediction side by side; found, missed and false pixels have their own colours.

    A degraded photo is enlarged to the size of its masks, each of its pixels a square. Large pictures are scaled down
    to panels of 640 px; a hairline stays visible, because a pixel of the panel takes the colour of any crack below it.

    Returns:
        RGB uint8 (height, width, 3).

    Raises:
        InputError: The photo or its truth cannot be read, or the photo is not of the size that the table says.
    """
    photo = read_image(report.manifest.image_path(row.entry))
    truth, mask = report.truth(row), row.mask()
    photo = photo.repeat(row.scale, axis=0).repeat(row.scale, axis=1)
    if photo.shape[:2] != mask.shape:
        raise InputError(f"the photo has shape {photo.shape[:2]}, its mask {mask.shape}", path=row.image)
    small = _fit(photo, _PANEL)
    dark = (small * 0.35).astype(np.uint8)
    truth_panel = _paint(np.zeros_like(small), [(truth, FOUND)])
    outcome = _paint(dark, [(truth & mask, FOUND), (mask & ~truth, ALARM), (truth & ~mask, MISSED)])
    return _labelled(row, report.threshold, [small, truth_panel, outcome])


def plot_confusion(report: Report, path: Path) -> None:
    """Draw the pixel confusion matrix: counts, and shares of each row of the truth."""
    from matplotlib.figure import Figure

    counts = report.counts
    table = np.array([[counts.tp, counts.fn], [counts.fp, counts.tn]], np.int64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6, 5.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(table):
        name = (("found", "missed"), ("false alarm", "background kept"))[i][j]
        text = f"{count:,}".replace(",", " ") + f"\n{shares[i, j]:.2%}\n{name}"
        axes.text(j, i, text, ha="center", va="center", fontsize=14, color="white" if shares[i, j] > 0.5 else "black")
    axes.set_xticks([0, 1], ["crack", "background"])
    axes.set_yticks([0, 1], ["crack", "background"], rotation=90, va="center")
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth (percent of its row)", labelpad=10)
    axes.set_title(_title(report), fontsize=11)
    _save(figure, path)


def plot_curves(rows: str | Path | Iterable[Mapping[str, Any]], path: Path) -> None:
    """Draw a run's loss and scores per epoch, or per step where the table has no epochs.

    Args:
        rows: The run's ``metrics.csv``, or its rows: ``epoch`` or ``step``, columns with ``loss`` in their name, and
            with ``iou``, ``dice``, ``f1``, ``precision`` or ``recall`` in theirs. Blank values leave gaps.
        path: The PNG to write.

    Raises:
        InputError: There is no row, no column ``epoch`` or ``step``, or a value is not a number.
        OutputError: The file cannot be written.

    Example:
        >>> plot_curves("runs/first/metrics.csv", Path("runs/first/curves.png"))
    """
    from matplotlib.figure import Figure

    columns = _columns(rows)
    axis = "epoch" if "epoch" in columns else "step"
    losses = {name: values for name, values in columns.items() if "loss" in name}
    kinds = ("iou", "dice", "f1", "precision", "recall")
    scores = {name: values for name, values in columns.items() if any(kind in name for kind in kinds)}
    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    _lines(left, axis, columns[axis], losses)
    _lines(right, axis, columns[axis], scores)
    left.set_title("Loss")
    right.set_title(_best_title(axis, columns[axis], scores))
    right.set_ylim(0, 1)
    _save(figure, path)


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


def _per_image_csv(report: Report) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = list(report.rows[0].scores)
    writer.writerow(["image", "group", "height", "width", "positive", "tp", "fp", "fn", "tn", *names])
    for row in report.rows:
        counts = asdict(row.counts).values()
        scores = [f"{row.scores[name]:.6f}" for name in names]
        writer.writerow([row.image, row.entry.group, *row.shape_hw, int(row.positive), *counts, *scores])
    return text.getvalue()


def _table_row(name: str, summary: Summary) -> tuple[str, ...]:
    pooled = "" if summary.pooled is None else f"{summary.pooled:.3f}"
    spreads = (summary.empty_is_one, summary.positives_only)
    return (name, pooled, *("" if each is None else f"{each.mean:.3f} ± {each.std:.3f}" for each in spreads))


def _by_iou(row: Row) -> tuple[float, str]:
    return row.scores["iou"], row.image


def _below_images(image: str) -> PurePosixPath:
    path = PurePosixPath(image)
    return path.relative_to("images") if path.parts[0] == "images" else path


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
    canvas = np.full((height + 5 * _TEXT, 3 * column + _GAP, 3), 255, np.uint8)
    for number, panel in enumerate(panels):
        left = _GAP + number * column
        canvas[3 * _TEXT : 3 * _TEXT + height, left : left + width] = panel
    scores = "   ".join(f"{name} {value:.3f}" for name, value in row.scores.items() if name in _shown(row))
    cut = "" if threshold is None else f", threshold {threshold:g}"
    texts = [((_GAP, 6), f"{row.image}   {scores}")]
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
    outlined[cv2.dilate(crack.astype(np.uint8), np.ones((3, 3), np.uint8)) > crack] = _OUTLINE
    return np.concatenate([small, outlined], axis=1)


def _columns(rows: str | Path | Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    where = rows if isinstance(rows, str | Path) else None
    table = list(_read_table(rows)) if isinstance(rows, str | Path) else list(rows)
    if not table or not {"epoch", "step"} & table[0].keys():
        raise InputError("no training curve: a row with an epoch or a step was expected", path=where)
    try:
        return {
            name: [float(row[name]) if row[name] not in ("", None) else math.nan for row in table]
            for name in table[0]
            if name != "best"
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"no training curve: {error}", path=where) from error


def _read_table(path: str | Path) -> list[dict[str, str]]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", path=path) from error


def _lines(axes: Axes, axis: str, x: Sequence[float], columns: Mapping[str, Sequence[float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    marker = "o" if len(x) <= 30 else ""
    for colour, (name, values) in zip(_LINES, columns.items(), strict=False):
        axes.plot(x, values, color=colour, marker=marker, markersize=4, label=_caption(name))
    axes.set_xlabel(axis)
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if columns:
        axes.legend()


def _best_title(axis: str, x: Sequence[float], scores: Mapping[str, Sequence[float]]) -> str:
    name = next((name for name in scores if "iou" in name), None)
    if name is None or np.isnan(scores[name]).all():
        return "Scores"
    at = int(np.nanargmax(scores[name]))
    return f"Scores: best {_caption(name)} {scores[name][at]:.3f} at {axis} {x[at]:g}"


def _caption(column: str) -> str:
    return column.replace("_", " ").replace("iou", "IoU")


def _title(report: Report) -> str:
    cut = "" if report.threshold is None else f", threshold {report.threshold:g}"
    pooled = {name: summary.pooled for name, summary in report.scores.items()}
    return (
        f"{Path(report.data).name} {report.split}: pixels of {len(report.rows)} images{cut}\n"
        f"pooled: IoU {pooled['iou']:.3f}, F1 {pooled['dice']:.3f}, "
        f"precision {pooled['precision']:.3f}, recall {pooled['recall']:.3f}"
    )


def _save(figure: Figure, path: Path) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    replace_file(path, file.getvalue())
