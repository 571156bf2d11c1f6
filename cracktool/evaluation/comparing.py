"""Reports side by side: paired differences of two, and a matrix of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError
from cracktool.evaluation.results import Report
from cracktool.evaluation.rows import Row
from cracktool.evaluation.summaries import check_pooled
from cracktool.metrics import Interval, Measured, Resampling, Score, scores_of

_SURE = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One pooled score of two sets of predictions of the same images.

    Args:
        score: Its name.
        first: Score of the first.
        second: Score of the second.
        ci95: 95 % interval of second - first, by the bootstrap over groups, in pairs; None with fewer than two groups.
        p: How often groups that the two exchange at random differ as much (the two-sided paired randomisation test,
            Noreen 1989). n groups can give no less than about 2^(1 - n).
        images: Images that both have.
    """

    score: str
    first: float
    second: float
    ci95: Interval | None
    p: float
    images: int

    @property
    def verdict(self) -> str:
        """What may be said at the level of 5 %."""
        if self.p >= _SURE:
            return "no difference shown"
        return "second is higher" if self.second > self.first else "first is higher"


@dataclass(frozen=True)
class Cell:
    """A value of a matrix and its interval."""

    value: float
    ci95: Interval | None


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """One pooled score of each set of predictions (rows) on each data set (columns); None where it could not be had."""

    score: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]


def compare(first: Report, second: Report) -> list[Difference]:
    """Compare two sets of predictions on the images that both have, score by score.

    The same groups of images are drawn for both, so that what makes a photo hard for both does not blur the difference.

    Raises:
        InputError: There is no image that both have, or their tolerances differ.
    """
    both = _pairs(first, second)
    if not both or first.tolerances != second.tolerances:
        raise InputError("no image that both have, with the same tolerances", path=first.data)
    resampling = Resampling([one.entry.group for one, _ in both])
    sides = [np.stack([row.measured.numbers() for row in side]) for side in zip(*both, strict=True)]
    draws = _measured(*(resampling.sums(side) for side in sides))
    swaps = _measured(*resampling.swaps(*sides))
    totals = [Measured.of_numbers(side.sum(axis=0)) for side in sides]
    return [_difference(score, totals, draws, swaps, resampling, len(both)) for score in scores_of(first.tolerances)]


def matrix(
    reports: Sequence[Sequence[Report | None]], score: str, rows: Sequence[str], columns: Sequence[str]
) -> Matrix:
    """Set one pooled score of many reports in rows and columns.

    Args:
        reports: For each set of predictions its report on each data set, None where there is none.
        score: Name of a score with a pooled form.
        rows: Names of the sets of predictions.
        columns: Names of the data sets.

    Raises:
        UsageError: There is no pooled score of that name.
    """
    check_pooled(score)
    cells = tuple(tuple(cell_of(report, score) for report in row) for row in reports)
    return Matrix(score=score, rows=tuple(rows), columns=tuple(columns), cells=cells)


def cell_of(report: Report | None, score: str) -> Cell | None:
    """Return a pooled score of a report with its interval; None where there is none, or its images do not give it."""
    summary = None if report is None else report.scores.get(score)
    return None if summary is None or summary.pooled is None else Cell(summary.pooled, summary.pooled_ci95)


def _pairs(first: Report, second: Report) -> list[tuple[Row, Row]]:
    others = {row.image: row for row in second.rows}
    return [(row, others[row.image]) for row in first.rows if row.image in others]


def _measured(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> list[tuple[Measured, Measured]]:
    return [(Measured.of_numbers(one), Measured.of_numbers(other)) for one, other in zip(first, second, strict=True)]


def _difference(
    score: Score,
    totals: Sequence[Measured],
    draws: Sequence[tuple[Measured, Measured]],
    swaps: Sequence[tuple[Measured, Measured]],
    resampling: Resampling,
    images: int,
) -> Difference:
    interval = resampling.interval([score.of(second) - score.of(first) for first, second in draws])
    first, second = (score.of(total) for total in totals)
    by_chance = np.abs([score.of(other) - score.of(one) for one, other in swaps])
    as_much = np.count_nonzero(by_chance >= abs(second - first) * (1 - 1e-9))  # sums differ by their last bits
    p = (as_much + 1) / (len(swaps) + 1)  # no number of draws could show that it is 0
    return Difference(score=score.name, first=first, second=second, ci95=interval, p=p, images=images)
