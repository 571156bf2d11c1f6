"""Widths along lines: profiles of mask and photo across them, and whether each can be measured.

Joins lines, pixels and the fit of `profiles`; knows nothing about cracks as wholes or millimetres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from cracktool.images import Image, Mask
from cracktool.measuring.components import Floats, Ints
from cracktool.measuring.learning import learn_prior, learn_priors, undecided
from cracktool.measuring.priors import Float32s, Prior, Priors
from cracktool.measuring.profiles import ProfileFit, fit_profiles
from cracktool.measuring.rows import Rows
from cracktool.measuring.sampling import FLANK, SMOOTHING, Profiles, by_tile, sample

_BATCH = 4096  # points measured together; their profiles are 1 MB, of the widest cracks 6 MB
_LEARN = 240  # profiles that the photo's own prior is learnt from, at most
_LOG_STD_LIMIT = 0.55  # about 0.6 to 1.7 times the width at one standard deviation: no measurement any more
_PRIOR = Prior(blur=(math.hypot(Prior.blur[0], SMOOTHING), Prior.blur[1]))  # before this photo is looked at
Z95 = 1.959964
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""


class Verdict(IntEnum):
    """Whether the photo's grey profile gave a width at a point, or why not."""

    MEASURED = 0
    NO_PHOTO = 1
    AT_BORDER = 2
    AT_JUNCTION = 3
    AT_TIP = 4
    NO_CONTRAST = 5
    POOR_FIT = 6

    @property
    def text(self) -> str:
        """The verdict in words, for tables."""
        return {0: "measured"}.get(self.value, f"not measurable: {self.name.lower().replace('_', ' ')}")


@dataclass(frozen=True, eq=False)
class Widths(Rows):
    """Widths at N points of a line, perpendicular to it, in px; each array (N,).

    Args:
        mask_width: Of the mask, float32: its area per length there.
        width: From the photo, float32; nan where not measured.
        log_std: Standard deviation of the logarithm of `width`, float32; nan where not measured.
        verdict: Codes of `Verdict`, uint8.
        offset: How far the middle of the mask lies from the point along the normal, float32.
    """

    mask_width: Float32s
    width: Float32s
    log_std: Float32s
    verdict: npt.NDArray[np.uint8]
    offset: Float32s

    @property
    def std(self) -> Float32s:
        """Standard deviation of `width`."""
        return self.width * self.log_std

    @property
    def low(self) -> Float32s:
        """Lower end of the 95 % interval."""
        return np.asarray(self.width * np.exp(-Z95 * self.log_std), np.float32)

    @property
    def high(self) -> Float32s:
        """Upper end of the 95 % interval."""
        return np.asarray(self.width * np.exp(Z95 * self.log_std), np.float32)


def measure_widths(
    photo: Image | None,
    mask: Mask,
    points: Floats,
    normals: Floats,
    half_width: Floats,
    unsuited: npt.NDArray[np.uint8],
    group: Ints,
) -> Widths:
    """Measure widths at points of centre lines.

    A profile is the mean of three lines side by side, 1 px apart. Some are fitted first: what they say together of
    depth and blur, of the photo and of each crack, is the prior under which all are fitted.

    Args:
        photo: uint8 (H, W, 3) RGB or (H, W) grey; None for widths of the mask only. A memory map will do.
        mask: bool (H, W), True on crack.
        points: (N, 2), rows (y, x) in px.
        normals: Unit vectors across the line, (N, 2).
        half_width: Of the mask around the points, px, (N,); how far profiles must reach.
        unsuited: `Verdict` codes of points that are not to be measured, uint8 (N,); 0 elsewhere.
        group: Number of the crack that each point is of: its points tell its depth and blur together.
    """
    prior = _PRIOR
    whole = sample(photo, mask, points, normals, half_width) if 0 < len(points) <= _BATCH else None
    result = _empty(len(points))
    result.verdict[:] = np.where(unsuited == Verdict.MEASURED, Verdict.NO_PHOTO, unsuited)
    suited = np.flatnonzero(unsuited == Verdict.MEASURED)
    priors, known = prior.repeated(len(points)), ProfileFit.unknown(len(points))
    if photo is not None and len(suited):
        few = suited[np.unique(np.linspace(0, len(suited) - 1, min(_LEARN, len(suited))).astype(np.int64))]
        profiles = whole[few] if whole else sample(photo, mask, points[few], normals[few], half_width[few])
        prior = _learn(profiles, prior, few, group, priors, known)
    least_contrast = 3 * math.sqrt(prior.correlation)
    order = np.concatenate([*by_tile(points), suited[:0]])
    for first in range(0, len(order), _BATCH):
        here = order[first : first + _BATCH]
        profiles = whole[here] if whole else sample(photo, mask, points[here], normals[here], half_width[here])
        section = _section(profiles)
        result.mask_width[here], result.offset[here] = section.width, section.offset
        free = np.flatnonzero(unsuited[here] == Verdict.MEASURED)
        if photo is not None and len(free):
            here, profiles, section = here[free], profiles[free], section[free]
            fit = _fit(profiles, section, priors[here], known[here])
            result.verdict[here] = _judged(profiles, section, fit, least_contrast)
            result.width[here], result.log_std[here] = fit.width, fit.log_std
    untrue = result.verdict != Verdict.MEASURED
    result.width[untrue] = result.log_std[untrue] = np.nan
    return result


def _learn(profiles: Profiles, prior: Prior, few: Ints, group: Ints, priors: Priors, known: ProfileFit) -> Prior:
    """Fit some profiles, and return the prior of the photo that they give.

    Args:
        profiles: Of the points `few`.
        prior: What is known of any photo.
        few: Points of the photo.
        group: Number of the crack of each point of the photo, (N,).
        priors: Where the priors of all N points are written.
        known: Where the fits of these points are written.
    """
    section = _section(profiles)
    fitted = prior.repeated(len(few))
    fit = known[few] = _fit(profiles, section, fitted, known[few])
    prior = learn_prior(fit, prior)
    priors[:] = prior.repeated(len(group))
    unsure = undecided(fit, prior, group[few])
    if unsure.any():
        cracks, learnt = learn_priors(fit[unsure], fitted[np.flatnonzero(unsure)], prior, group[few[unsure]])
        at = np.searchsorted(cracks, group).clip(max=len(cracks) - 1)
        there = cracks[at] == group
        priors[there] = learnt[at[there]]
    return prior


def _fit(profiles: Profiles, section: _Section, priors: Priors, start: ProfileFit) -> ProfileFit:
    return fit_profiles(profiles.grey, section.usable, section.width, prior=priors, step=profiles.step, start=start)


def _empty(count: int) -> Widths:
    mask_width, width, log_std, offset = np.zeros((4, count), np.float32)
    return Widths(mask_width=mask_width, width=width, log_std=log_std, verdict=np.zeros(count, np.uint8), offset=offset)


@dataclass(frozen=True, eq=False)
class _Section(Rows):
    """The mask across points.

    Args:
        width: Area per length in px, (n,).
        offset: Of its middle from the point, px, (n,).
        usable: Samples (n, S) of the photo that show this crack or background.
    """

    width: Float32s
    offset: Float32s
    usable: npt.NDArray[np.bool_]


def _section(sampled: Profiles) -> _Section:
    share, step = sampled.share, sampled.step
    middle = share.shape[1] // 2
    here = share > 0.15 / step[:, None]
    # A hairline's mask is a staircase: its line may pass beside the pixels by one sample.
    here[:, middle - 1 : middle + 2] |= share[:, middle - 1 : middle + 2] > 0.05
    here[:, middle] = True
    left = np.cumprod(here[:, middle::-1], axis=1)[:, ::-1].astype(np.bool_)
    right = np.cumprod(here[:, middle:], axis=1).astype(np.bool_)
    own = np.concatenate([left, right[:, 1:]], axis=1)
    mass = np.where(own, np.maximum(share, 0), 0)
    width = mass.sum(axis=1) * step
    s = sampled.place
    offset = (mass * s).sum(axis=1) / np.maximum(width / step, 0.5)
    flank = np.maximum(FLANK + 2, 4 * step)
    near = np.abs(s) <= (width / 2 + np.abs(offset) + flank)[:, None]
    usable = (own | (share < 0.5)) & (share >= 0) & near
    return _Section(width, offset, usable)


def _judged(profiles: Profiles, section: _Section, fit: ProfileFit, least_contrast: float) -> npt.NDArray[np.uint8]:
    """Return the verdicts on fits."""
    s = profiles.place
    edge = (fit.width / 2 + 2 * fit.blur)[:, None]
    beside = section.usable & (np.abs(s - fit.centre[:, None]) > edge)
    flanks = np.minimum((beside & (s < 0)).sum(axis=1), (beside & (s > 0)).sum(axis=1))
    strange = (np.abs(fit.centre - section.offset) > section.width / 2 + 2 * profiles.step) | (
        fit.noise > 0.35 * fit.depth * fit.background
    )
    verdict = np.full(len(s), Verdict.MEASURED, np.uint8)
    verdict[strange | (fit.blur > np.maximum(4, section.width))] = Verdict.POOR_FIT
    verdict[(fit.contrast < least_contrast) | (fit.log_std > _LOG_STD_LIMIT) | (fit.depth < 0.06)] = Verdict.NO_CONTRAST
    verdict[flanks < 2] = Verdict.AT_BORDER
    return verdict
