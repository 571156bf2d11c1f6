"""Lines as rows of points: smoothing, even spacing, length, tangents, orientation.

Pure geometry: knows nothing about pixels, masks or cracks. Points are (y, x), y pointing down.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cracktool.measuring.components import Floats


def steps(line: Floats) -> Floats:
    """Return the distances (N - 1,) between the points of a line that follow each other."""
    step = line[1:] - line[:-1]
    return np.asarray(np.hypot(step[:, 0], step[:, 1]), np.float64)


def length(line: Floats) -> float:
    """Return the length of a line (N, 2) in the unit of its points."""
    return float(steps(line).sum())


def resample(line: Floats, step: float) -> Floats:
    """Return points of a line at even distances nearest to `step`, the first and last point kept; two at least.

    Further columns, such as a width at each point, are interpolated with the first two.
    """
    at = np.zeros(len(line))
    np.cumsum(steps(line), out=at[1:])
    count = max(1, round(at[-1] / step))
    even = np.arange(count + 1) * (at[-1] / count)
    points = np.column_stack([np.interp(even, at, column) for column in line.T])
    points[-1] = line[-1]
    return points


def smooth(line: Floats, sigma: float) -> Floats:
    """Return an evenly spaced line smoothed by a Gaussian; its ends stay, a closed line stays closed.

    Beyond its ends the line goes on as its own mirror image through the end point, which keeps straight lines straight.

    Args:
        line: (N, 2); closed where the first point is the last one.
        sigma: Standard deviation in points.
    """
    if len(line) < 3:
        return line
    reach = min(len(line) - 1, int(4 * sigma) + 1)
    if len(line) > 3 and np.array_equal(line[0], line[-1]):
        before, behind = line[-1 - reach : -1], line[1 : reach + 1]
    else:
        before = 2 * line[0] - line[reach:0:-1]
        behind = 2 * line[-1] - line[-2 : -2 - reach : -1]
    padded = np.concatenate([before, line, behind])
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    result = np.empty_like(line)  # scipy's filter takes three times as long for lines as short as these
    for axis in (0, 1):
        result[:, axis] = np.convolve(padded[:, axis], kernel, "valid")
    return result


def tangents(line: Floats) -> Floats:
    """Return unit vectors (N, 2) along the line at its points, by central differences."""
    step = np.empty_like(line)
    step[1:-1] = line[2:] - line[:-2]
    if np.array_equal(line[0], line[-1]) and len(line) > 3:
        step[0] = step[-1] = line[1] - line[-2]
    else:
        step[0], step[-1] = line[1] - line[0], line[-1] - line[-2]
    norm = np.hypot(step[:, 0], step[:, 1])
    still = norm == 0
    step[still], norm[still] = (0.0, 1.0), 1.0
    step /= norm[:, None]
    return step


def orientation(lines: Sequence[Floats]) -> tuple[float, float]:
    """Return the mean direction of lines in degrees, and how strongly they agree, 0 to 1.

    A line has no head: its pieces are averaged as doubled angles, weighted by their lengths (axial statistics: Mardia
    and Jupp 2000, Directional Statistics, section 1.1).

    Returns:
        Degrees in [0, 180): 0 along the picture's rows, 90 up its columns, counted anticlockwise as one looks at it;
        and the length of the mean vector: 1 for a straight line, near 0 where all directions are equally frequent.
        (nan, 0) for lines of no length.

    Example:
        >>> orientation([np.array([[5.0, 0.0], [0.0, 5.0]])])
        (45.0, 1.0)
    """
    pieces = np.concatenate([np.zeros((0, 2)), *(np.diff(line, axis=0) for line in lines)])
    weight = np.hypot(pieces[:, 0], pieces[:, 1])
    if not weight.sum():
        return float("nan"), 0.0
    doubled = 2 * np.arctan2(-pieces[:, 0], pieces[:, 1])
    mean = (weight * np.exp(1j * doubled)).sum() / weight.sum()
    return round(float(np.degrees(np.angle(mean)) / 2 % 180), 9) % 180, float(min(abs(mean), 1.0))
