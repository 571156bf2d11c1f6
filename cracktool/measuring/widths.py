"""Widths along lines: profiles of mask and photo across them, and whether each can be measured.

Joins lines, pixels and the fit of `profiles`; knows nothing about cracks as wholes or millimetres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum

import cv2
import numpy as np
import numpy.typing as npt

from cracktool.images import Image, Mask
from cracktool.measuring.components import Floats, Ints
from cracktool.measuring.learning import learn_prior, learn_priors, undecided
from cracktool.measuring.priors import Float32s, Prior, Priors
from cracktool.measuring.profiles import ProfileFit, fit_profiles

_TILE = 1024  # px; points of a tile are sampled together
_BATCH = 4096  # points measured together; their profiles are 3 MB
_REACH = (11, 14)  # samples to either side, at least and at most; longer profiles have wider steps
_FLANK = 6.0  # px of background wanted on either side of the mask
_TURNS = 2  # in which priors of cracks are learnt; a third changes nothing
_SMOOTHING = 0.5  # px of Gaussian blur, added to that of the lens
_LEARN = 240  # profiles that the photo's own prior is learnt from, at most
_LOG_STD_LIMIT = 0.55  # about 0.6 to 1.7 times the width at one standard deviation: no measurement any more
_Z95 = 1.959964


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
class Widths:
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
        return np.asarray(self.width * np.exp(-_Z95 * self.log_std), np.float32)

    @property
    def high(self) -> Float32s:
        """Upper end of the 95 % interval."""
        return np.asarray(self.width * np.exp(_Z95 * self.log_std), np.float32)

    def __getitem__(self, chosen: slice | npt.NDArray[np.bool_] | Ints) -> Widths:
        """Return the widths at some of the points."""
        return Widths(
            mask_width=self.mask_width[chosen],
            width=self.width[chosen],
            log_std=self.log_std[chosen],
            verdict=self.verdict[chosen],
            offset=self.offset[chosen],
        )


@dataclass(frozen=True, eq=False)
class _Profiles:
    """Profiles across n points, of S samples each.

    Args:
        share: Share of crack in the mask, float32 (n, S), -1 outside of the picture.
        grey: Grey levels, float32 (n, S); empty (n, 0) without a photo.
        step: px from sample to sample, float32 (n,).
    """

    share: Float32s
    grey: Float32s
    step: Float32s

    @property
    def place(self) -> Float32s:
        """Where the samples lie along the normals, px, (n, S)."""
        size = self.share.shape[1]
        return np.asarray(self.step[:, None] * (np.arange(size) - size // 2), np.float32)

    def __getitem__(self, chosen: Ints) -> _Profiles:
        return _Profiles(self.share[chosen], self.grey[chosen], self.step[chosen])


def measure_widths(
    photo: Image | None,
    mask: Mask,
    points: Floats,
    normals: Floats,
    half_width: Floats,
    unsuited: npt.NDArray[np.uint8],
    group: Ints,
    *,
    prior: Prior | None = None,
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
        prior: What is known of cracks before this photo is looked at.
    """
    prior = prior or Prior()
    prior = replace(prior, blur=(math.hypot(prior.blur[0], _SMOOTHING), prior.blur[1]))
    whole = _sample(photo, mask, points, normals, half_width) if 0 < len(points) <= _BATCH else None
    result = _empty(len(points))
    result.verdict[:] = np.where(unsuited == Verdict.MEASURED, Verdict.NO_PHOTO, unsuited)
    suited = np.flatnonzero(unsuited == Verdict.MEASURED)
    priors, known = prior.repeated(len(points)), ProfileFit.unknown(len(points))
    if photo is not None and len(suited):
        few = suited[np.unique(np.linspace(0, len(suited) - 1, min(_LEARN, len(suited))).astype(np.int64))]
        profiles = whole[few] if whole else _sample(photo, mask, points[few], normals[few], half_width[few])
        prior = _learn(profiles, prior, few, group, priors, known)
    least_contrast = 3 * math.sqrt(prior.correlation)
    order = np.concatenate([*_by_tile(points), suited[:0]])
    for first in range(0, len(order), _BATCH):
        here = order[first : first + _BATCH]
        profiles = whole[here] if whole else _sample(photo, mask, points[here], normals[here], half_width[here])
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


def _learn(profiles: _Profiles, prior: Prior, few: Ints, group: Ints, priors: Priors, known: ProfileFit) -> Prior:
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
    open_ = np.arange(len(few))
    for turn in range(_TURNS):
        fit = _fit(profiles[open_], section[open_], fitted[open_], known[few[open_]])
        known[few[open_]] = fit
        if not turn:
            prior = learn_prior(fit, prior)
            priors[:] = prior.repeated(len(group))
        unsure = undecided(fit, prior, group[few[open_]])
        fit, open_ = fit[unsure], open_[unsure]
        if not len(open_):
            break
        cracks, learnt = learn_priors(fit, fitted[open_], prior, group[few[open_]])
        for each, of in ((priors, group), (fitted, group[few])):
            at = np.searchsorted(cracks, of).clip(max=len(cracks) - 1)
            there = cracks[at] == of
            each[there] = learnt[at[there]]
    return prior


def _fit(profiles: _Profiles, section: _Section, priors: Priors, start: ProfileFit) -> ProfileFit:
    return fit_profiles(profiles.grey, section.usable, section.width, prior=priors, step=profiles.step, start=start)


def _empty(count: int) -> Widths:
    mask_width, width, log_std, offset = np.zeros((4, count), np.float32)
    return Widths(mask_width=mask_width, width=width, log_std=log_std, verdict=np.zeros(count, np.uint8), offset=offset)


def _by_tile(points: Floats) -> list[Ints]:
    """Return the numbers of the points of each tile."""
    tile = np.maximum(points // _TILE, 0)  # tips reach half a pixel out of the picture
    order = np.lexsort((tile[:, 1], tile[:, 0]))
    return np.split(order, np.flatnonzero(np.any(np.diff(tile[order], axis=0), axis=1)) + 1)


def _sample(photo: Image | None, mask: Mask, points: Floats, normals: Floats, half_width: Floats) -> _Profiles:
    """Return the profiles across points, each as long as its crack needs."""
    wanted = 1.4 * half_width + _FLANK + 2
    reach = math.ceil(np.clip(wanted.max(), *_REACH))
    step = np.maximum(wanted / reach, 1).astype(np.float32)
    size = 2 * reach + 1
    profiles = _Profiles(
        share=np.empty((len(points), size), np.float32),
        grey=np.empty((len(points), size if photo is not None else 0), np.float32),
        step=step,
    )
    offsets = profiles.place
    for members in _by_tile(points):
        profiles.share[members], profiles.grey[members] = _sample_tile(
            photo, mask, points[members], normals[members], offsets[members]
        )
    return profiles


def _sample_tile(
    photo: Image | None, mask: Mask, points: Floats, normals: Floats, offsets: Float32s
) -> tuple[Float32s, Float32s]:
    """Return shares of crack and grey levels (n, S) across points that lie near each other."""
    beside = normals[:, ::-1] * [1, -1]
    reach = float(offsets.max()) + 10  # the filter below looks 8 px far
    low = np.maximum(np.floor(points.min(axis=0) - reach).astype(int), 0)
    high = np.ceil(points.max(axis=0) + reach).astype(int) + 1
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    shifts = np.float32([-1, 0, 1])[:, None, None]  # px along the line
    places = [  # y and x in the window, (3, n, S)
        ((points[:, axis] - low[axis]).astype(np.float32)[:, None] + offsets * normal[:, None]) + shifts * along[:, None]
        for axis, normal, along in zip((0, 1), normals.astype(np.float32).T, beside.astype(np.float32).T, strict=True)
    ]
    flat = [each.reshape(3 * len(points), -1) for each in places]

    lines = cv2.remap(mask[window].astype(np.float32), flat[1], flat[0], cv2.INTER_LINEAR)
    share = np.asarray(lines.reshape(places[0].shape).mean(axis=0), np.float32)
    for place, first, size in zip(places, low, mask.shape, strict=True):
        share[(place[1] < -0.5 - first) | (place[1] > size - 0.5 - first)] = -1
    if photo is None:
        return share, np.zeros((len(points), 0), np.float32)
    piece = photo[window]
    grey = np.asarray(piece if piece.ndim == 2 else cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY), np.float32)
    # A line through pixels meets them at all phases. Linear and cubic interpolation blur by the phase, which no one
    # blur can describe: 2 px come out as 2.2. Splines hardly do, once the photo is smooth enough not to ring.
    spline = cv2.sepFilter2D(grey, cv2.CV_32F, _SPLINE, _SPLINE, borderType=cv2.BORDER_REFLECT_101)
    return share, np.asarray(_spline_at(spline, *places).mean(axis=0), np.float32)


def _spline_at(coefficients: Float32s, y: Float32s, x: Float32s) -> Float32s:
    """Return a cubic spline at places within its picture; beyond its border it is that of the border.

    `scipy.ndimage.map_coordinates` does the same in twice the time.
    """
    framed = cv2.copyMakeBorder(coefficients, 1, 2, 1, 2, cv2.BORDER_REFLECT_101)
    place, weights = [], []
    for value, size in zip((y, x), coefficients.shape, strict=True):
        inside = np.clip(value, 0, size - 1)
        whole = np.floor(inside)
        place.append(whole.astype(np.intp))
        weights.append(_spline_weights(inside - whole))
    stride = framed.shape[1]
    first = place[0] * stride + place[1]
    levels = framed.ravel()
    result = np.zeros(y.shape, np.float32)
    for row, weight in enumerate(weights[0]):
        across = [levels.take(first + (row * stride + column)) for column in range(4)]
        for each, beside in zip(across, weights[1], strict=True):
            each *= beside
        result += weight * (across[0] + across[1] + across[2] + across[3])
    return result


def _spline_weights(part: Float32s) -> list[Float32s]:
    """Return the weights of the four pixels around a place `part` of a pixel behind the second one (cubic B-spline)."""
    rest = 1 - part
    square, rest_square = part * part, rest * rest
    third = np.float32(1 / 6)
    inner = [np.float32(2 / 3) - each * (1 - other / 2) for each, other in ((square, part), (rest_square, rest))]
    return [rest_square * rest * third, *inner, square * part * third]


def _spline_filter() -> Float32s:
    """Return what turns pixels of a row into coefficients of a cubic spline through them (Unser 1999), smoothed."""
    pole = math.sqrt(3) - 2
    through = math.sqrt(3) * pole ** np.abs(np.arange(-6, 7))
    smoothing = np.exp(-0.5 * (np.arange(-2, 3) / _SMOOTHING) ** 2)
    return np.convolve(through, smoothing / smoothing.sum()).astype(np.float32)


_SPLINE = _spline_filter()


@dataclass(frozen=True, eq=False)
class _Section:
    """The mask across points.

    Args:
        width: Area per length in px, (n,).
        offset: Of its middle from the point, px, (n,).
        usable: Samples (n, S) of the photo that show this crack or background.
    """

    width: Float32s
    offset: Float32s
    usable: npt.NDArray[np.bool_]

    def __getitem__(self, chosen: Ints) -> _Section:
        return _Section(self.width[chosen], self.offset[chosen], self.usable[chosen])


def _section(sampled: _Profiles) -> _Section:
    share, step = sampled.share, sampled.step
    middle = share.shape[1] // 2
    here = share > 0.15
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
    near = np.abs(s) <= (width / 2 + np.abs(offset) + _FLANK + 2)[:, None]
    usable = (own | (share < 0.5)) & (share >= 0) & near
    return _Section(width, offset, usable)


def _judged(profiles: _Profiles, section: _Section, fit: ProfileFit, least_contrast: float) -> npt.NDArray[np.uint8]:
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
