"""Sizes of cracks: summaries of their points in px, and the same in mm on the surface.

Knows nothing about pixels of masks and photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cracktool.images import Mask
from cracktool.measuring.components import Floats
from cracktool.measuring.cracks import Crack, CrackLine, Size, WidthSummary
from cracktool.measuring.polylines import length
from cracktool.measuring.scale import Scale, scale_across
from cracktool.measuring.severity import Severity, SeverityProfile
from cracktool.measuring.widths import Z95, Verdict


def size_px(lines: list[CrackLine], lengths: list[float], gaps: list[Floats], main_length: float, area: float) -> Size:
    """Return the size of a crack in px.

    Args:
        lines: Its branches.
        lengths: Their lengths.
        gaps: Bridged gaps, (2, 2) each.
        main_length: Length of its main way.
        area: Pixels of its mask.
    """
    return _size(
        lines,
        [1.0] * len(lines),
        0.0,
        along=sum(lengths),
        gaps=sum(length(gap) for gap in gaps),
        main_length=main_length,
        area=area,
    )


def in_mm(crack: Crack, scale: Scale, severity: SeverityProfile | None) -> Crack:
    """Return the crack with its size in mm, and its severity; as it was where it reaches beyond the surface."""
    points = np.concatenate([line.points for line in crack.lines])
    if not scale.holds(points):
        return crack
    along = sum(length(scale.to_mm(line.points)) for line in crack.lines)
    size = _size(
        crack.lines,
        [scale_across(line.points, scale) for line in crack.lines],
        float(scale.relative_std_at(points).mean()),
        along=along,
        gaps=sum(length(scale.to_mm(gap)) for gap in crack.gaps),
        main_length=crack.px.main_length * (along / max(crack.px.length, 1e-9)),
        area=crack.px.area * float((scale.mm_per_px(points) ** 2).mean()),
    )
    return replace(crack, mm=size, severity=_severity(size.width, severity))


def _size(
    lines: Sequence[CrackLine],
    across: Sequence[float | Floats],
    relative_std: float,
    *,
    along: float,
    gaps: float,
    main_length: float,
    area: float,
) -> Size:
    """Return a size in a unit of which there are `across` in a px at the points of each line."""
    points = np.concatenate([line.points for line in lines])
    widths = [line.widths.width * each for line, each in zip(lines, across, strict=True)]
    width = np.concatenate(widths).astype(np.float64)
    steady = np.concatenate([_steady(each) for each in widths])
    mask_widths = [line.widths.mask_width * each for line, each in zip(lines, across, strict=True)]
    mask_width = np.concatenate(mask_widths).astype(np.float64)
    scale_std = np.full(len(points), relative_std)
    log_std = np.hypot(np.concatenate([line.widths.log_std for line in lines]), scale_std)
    good, whole = np.isfinite(width), _whole(lines)
    return Size(
        length=along,
        gaps=gaps,
        main_length=main_length,
        area=area,
        mask_width=_summary(mask_width[whole], scale_std[whole], points[whole], mask_width[whole]),
        width=_summary(width[good], log_std[good], points[good], steady[good]) if good.any() else None,
        relative_std=relative_std,
    )


def _whole(lines: Sequence[CrackLine]) -> Mask:
    """Return which points count for the mask's width: all but tips and junctions, unless there is nothing else."""
    verdict = np.concatenate([line.widths.verdict for line in lines])
    whole = (verdict != Verdict.AT_TIP) & (verdict != Verdict.AT_JUNCTION)
    return np.asarray(whole if whole.any() else np.ones_like(whole), np.bool_)


def _steady(width: npt.NDArray[np.floating[Any]]) -> Floats:
    """Return the middle one of each width along a line and its two neighbours; nan where not all three are known."""
    result = np.full(len(width), np.nan)
    if len(width) > 2:
        three = np.stack([width[:-2], width[1:-1], width[2:]])
        result[1:-1] = np.where(np.isfinite(three).all(axis=0), np.sort(three, axis=0)[1], np.nan)
    return result


def _summary(width: Floats, log_std: Floats, points: Floats, steady: Floats) -> WidthSummary:
    mean = float(width.mean())
    # np.median and np.percentile take ten times as long, and cracks are many.
    median, p95 = np.interp([0.5 * (len(width) - 1), 0.95 * (len(width) - 1)], np.arange(len(width)), np.sort(width))
    highest = np.where(np.isfinite(steady), steady, 0)
    borne_out = bool(highest.max() >= (1 - 1e-9) * median)  # or those three lie where the crack is narrow
    highest = highest if borne_out else width
    most = int(highest.argmax())
    largest = float(highest[most])
    typical = float((width * log_std).mean()) / max(mean, 1e-9)
    spread, at_most = np.exp(Z95 * typical), np.exp(Z95 * log_std[most])
    return WidthSummary(
        mean=mean,
        median=float(median),
        p95=float(p95),
        max=largest,
        borne_out=borne_out,
        max_at=(float(points[most, 0]), float(points[most, 1])),
        mean_low=mean / float(spread),
        mean_high=mean * float(spread),
        max_low=float(largest / at_most),
        max_high=float(largest * at_most),
        points=len(width),
    )


def _severity(width: WidthSummary | None, profile: SeverityProfile | None) -> Severity | None:
    if profile is None or width is None:
        return None
    if profile.statistic == "max":
        return profile.classify(width.max, width.max_low, width.max_high)
    value = {"mean": width.mean, "median": width.median, "p95": width.p95}[profile.statistic]
    return profile.classify(value, value * width.mean_low / width.mean, value * width.mean_high / width.mean)


def polygon_area(points: Floats) -> float:
    """Return the area within corners (N, 2) that follow each other around it."""
    following = np.roll(points, -1, axis=0)
    return abs(float((points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]).sum())) / 2
