"""Plots of scores and of training, by matplotlib without its global state."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cracktool.errors import InputError, UsageError
from cracktool.files import replace_file
from cracktool.metrics import reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cracktool.evaluation import Report, Spoilt

_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito's


def plot_confusion(report: Report, path: Path) -> None:
    """Draw the pixel confusion matrix: counts, and shares of each row of the truth."""
    from matplotlib.figure import Figure

    counts = report.measured.counts
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
    axes.set_title(_title(report), fontsize=11, parse_math=False)
    _save(figure, path)


def plot_sweep(report: Report, path: Path) -> None:
    """Draw pooled precision against recall, and F1 and IoU against the threshold; not for binary masks."""
    from matplotlib.figure import Figure

    curve = report.curve
    if curve is None:
        raise UsageError("a binary mask has no threshold to vary")
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(curve.recall, curve.precision, color=_LINES[0])
    scores = report.measured.counts.scores()
    left.plot([scores.recall], [scores.precision], "o", color=_LINES[1], label=f"at threshold {report.threshold:g}")
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    left.set_title(f"Pooled, AP {report.scores['ap_0px'].pooled:.3f}")
    for colour, (name, values) in zip(_LINES, (("F1", curve.f1), ("IoU", curve.iou)), strict=False):
        right.plot(curve.thresholds, values, color=colour, label=f"{name}, best {max(values):.3f}")
    right.axvline(report.threshold, color="0.4", linestyle="--", linewidth=1)
    right.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1), title="Pooled by threshold")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def plot_spread(report: Report, path: Path) -> None:
    """Draw how many images have which IoU; images without crack in the truth are counted apart."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    values = [[row.scores["iou"] for row in report.rows if row.positive is kind] for kind in (True, False)]
    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    labels = [f"with crack, {len(values[0])}", f"without crack, {len(values[1])}"]
    axes.hist(values, bins=[n / 20 for n in range(21)], stacked=True, color=_LINES[:2], label=labels)
    axes.set(xlabel="crack IoU of an image", ylabel="images", xlim=(0, 1), title="Images by their IoU")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_reliability(report: Report, path: Path) -> None:
    """Draw the share of crack among pixels of each probability, over all pixels and near cracks; not for masks."""
    from matplotlib.figure import Figure

    if report.curve is None:
        raise UsageError("a binary mask has no probabilities")
    figure = Figure(figsize=(5.4, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="means what it says")
    parts = (("all pixels", "ece", report.levels), ("within 10 px of a crack", "ece_near", report.near))
    for colour, (name, score, histogram) in zip(_LINES, parts, strict=False):
        probability, share, pixels = reliability(histogram)
        known = pixels > 0
        label = f"{name}, ECE {report.scores[score].pooled:.4f}"
        axes.plot(probability[known], share[known], "o-", color=colour, markersize=4, label=label)
    axes.set(xlabel="predicted probability", ylabel="share of crack", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_title("Reliability")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    _save(figure, path)


def plot_robustness(cases: Sequence[Spoilt], score: str, path: Path) -> None:
    """Draw a score against the severity of each kind of corruption; severity 0 is the photos as they are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    clean = [case for case in cases if case.severity == 0]
    for number, kind in enumerate(dict.fromkeys(case.kind for case in cases if case.severity)):
        line = [*clean, *(case for case in cases if case.kind == kind and case.severity)]
        x, y = [case.severity for case in line], [case.cell.value for case in line]
        style = "-" if number < len(_LINES) else "--"
        axes.plot(x, y, style, marker="o", color=_LINES[number % len(_LINES)], label=kind)
    axes.set(xlabel="severity", ylabel=f"pooled {_caption(score)}", ylim=(0, None), xticks=range(6))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_curves(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Draw a run's loss and scores per epoch, or per step where the table has no epochs.

    Args:
        rows: Of the run's ``metrics.csv``: ``epoch`` or ``step``, columns with ``loss`` in their name, and
            with ``iou``, ``dice``, ``f1``, ``precision`` or ``recall`` in theirs. Blank values leave gaps.
        path: The PNG to write.

    Raises:
        InputError: There is no row, no column ``epoch`` or ``step``, or a value is not a number.
        OutputError: The file cannot be written.

    Example:
        >>> plot_curves([{"epoch": 1, "val_iou": 0.3}, {"epoch": 2, "val_iou": 0.5}], Path("runs/first/curves.png"))
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


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    table = list(rows)
    if not table or not {"epoch", "step"} & table[0].keys():
        raise InputError("no training curve: a row with an epoch or a step was expected")
    try:
        return {
            name: [float(row[name]) if row[name] not in ("", None) else math.nan for row in table]
            for name in table[0]
            if name != "best"
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"no training curve: {error}") from error


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
    name = report.manifest.name.encode("utf-8", "replace").decode()  # it draws no others
    return (
        f"{name} {report.split}: pixels of {len(report.rows)} images{cut}\n"
        f"pooled: IoU {pooled['iou']:.3f}, F1 {pooled['dice']:.3f}, "
        f"precision {pooled['precision']:.3f}, recall {pooled['recall']:.3f}"
    )


def _save(figure: Figure, path: Path) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    replace_file(path, file.getvalue())
