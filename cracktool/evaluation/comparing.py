"""Reports side by side: paired differences of two, and a matrix of many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cracktool.errors import InputError
from cracktool.evaluation.results import Report
from cracktool.evaluation.rows import Row
from cracktool.evaluation.summaries import OF_ALL_PIXELS, OF_NEAR_PIXELS, check_pooled
from cracktool.metrics import Histogram, Interval, Measured, Resampling, scores_of

_SURE = 0.05
_Numbers = npt.NDArray[Any]
_Pooled = TypeVar("_Pooled")


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
    of_integers = {score.name: score.of for score in scores_of(first.tolerances)}
    found = _differences(both, lambda row: row.measured.numbers(), Measured.of_numbers, of_integers, resampling)
    if not (first.origin.binary or second.origin.binary):
        found += _differences(both, lambda row: row.levels.numbers(), Histogram.of_numbers, OF_ALL_PIXELS, resampling)
        found += _differences(both, lambda row: row.near.numbers(), Histogram.of_numbers, OF_NEAR_PIXELS, resampling)
    return found


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


def _differences(
    both: Sequence[tuple[Row, Row]],
    numbers: Callable[[Row], _Numbers],
    pooled: Callable[[_Numbers], _Pooled],
    scores: Mapping[str, Callable[[_Pooled], float]],
    resampling: Resampling,
) -> list[Difference]:
    """Return the differences of scores of what adds up over images: of `numbers`, whose sums `pooled` reads."""
    sides = [np.stack([numbers(row) for row in side]) for side in zip(*both, strict=True)]
    draws = [[pooled(each) for each in resampling.sums(side)] for side in sides]
    swaps = [[pooled(each) for each in side] for side in resampling.swaps(*sides)]
    totals = [pooled(side.sum(axis=0)) for side in sides]
    found = []
    for name, score in scores.items():
        first, second = (score(total) for total in totals)
        drawn, by_chance = (
            np.array([score(other) - score(one) for one, other in zip(*pairs, strict=True)]) for pairs in (draws, swaps)
        )
        least = abs(second - first) * (1 - 1e-9)  # sums differ by their last bits
        as_much = np.count_nonzero(np.abs(by_chance) >= least)
        found.append(
            Difference(
                score=name,
                first=first,
                second=second,
                ci95=resampling.interval(drawn),
                p=(as_much + 1) / (len(by_chance) + 1),  # no number of draws could show that it is 0
                images=len(both),
            )
        )
    return found
