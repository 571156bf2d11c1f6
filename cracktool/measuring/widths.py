"""Widths along lines: profiles of mask and photo across them, and whether each can be measured.

Joins lines, pixels and the fit of `profiles`; knows nothing about cracks as wholes or millimetres.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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

_TILE = 256  # px; points of a tile are sampled together
_REACHES = (11, 16, 20)  # samples to either side; longer profiles have wider steps
_TOGETHER = 300  # profiles that are worth a reach of their own
_FLANK = 6.0  # px of background wanted on either side of the mask
_TURNS = 3
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
    """Profiles of some points, all of one reach.

    Args:
        chosen: Which points, (n,).
        mask: Share of crack, float32 (n, S), -1 outside of the picture.
        grey: Grey levels, float32 (n, S); empty (n, 0) without a photo.
        step: px from sample to sample.
    """

    chosen: Ints
    mask: Float32s
    grey: Float32s
    step: float


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
    priors = prior.repeated(len(points))
    if photo is not None:
        few = np.unique(np.linspace(0, len(points) - 1, min(_LEARN, len(points))).astype(np.int64))
        few = few[unsuited[few] == Verdict.MEASURED]
        prior, priors = _learnt(photo, mask, points[few], normals[few], half_width[few], prior, group[few], group)
    result = _empty(len(points))
    result.verdict[:] = unsuited
    for sampled, section, fit in _fits(photo, mask, points, normals, half_width, priors):
        result.mask_width[sampled.chosen], result.offset[sampled.chosen] = section.width, section.offset
        if fit:
            _judge(result, sampled, section, fit, 3 * math.sqrt(prior.correlation))
    if photo is None:
        result.verdict[unsuited == Verdict.MEASURED] = Verdict.NO_PHOTO
    untrue = result.verdict != Verdict.MEASURED
    result.width[untrue] = result.log_std[untrue] = np.nan
    return result


def _learnt(
    photo: Image,
    mask: Mask,
    points: Floats,
    normals: Floats,
    half_width: Floats,
    prior: Prior,
    group: Ints,
    groups: Ints,
) -> tuple[Prior, Priors]:
    """Return what some profiles say of the photo and of each crack; `groups` are the cracks of all its points."""
    priors = prior.repeated(len(groups))
    fitted = prior.repeated(len(points))
    open_ = np.arange(len(points))
    for turn in range(_TURNS):
        found = list(_fits(photo, mask, points[open_], normals[open_], half_width[open_], fitted[open_]))
        fits = [fit for _, _, fit in found if fit]
        if not fits:
            break
        fit, order = _joined(fits), open_[np.concatenate([each.chosen for each, _, _ in found])]
        if not turn:
            prior = learn_prior(fit, prior)
            priors = prior.repeated(len(groups))
        unsure = undecided(fit, prior, group[order])
        fit, order = fit[unsure], order[unsure]
        learn_priors(fit, fitted[order], prior, group[order], priors, groups)
        learn_priors(fit, fitted[order], prior, group[order], fitted, group)
        open_ = np.sort(order)
    return prior, priors


def _empty(count: int) -> Widths:
    mask_width, width, log_std, offset = np.zeros((4, count), np.float32)
    return Widths(mask_width=mask_width, width=width, log_std=log_std, verdict=np.zeros(count, np.uint8), offset=offset)


def _joined(fits: list[ProfileFit]) -> ProfileFit:
    return ProfileFit(*(np.concatenate(each) for each in zip(*(vars(fit).values() for fit in fits), strict=True)))


def _fits(
    photo: Image | None, mask: Mask, points: Floats, normals: Floats, half_width: Floats, priors: Priors
) -> Iterator[tuple[_Profiles, _Section, ProfileFit | None]]:
    for sampled in _sample(photo, mask, points, normals, half_width):
        section = _section(sampled)
        fit = None
        if photo is not None:
            own = priors[sampled.chosen].in_samples(sampled.step)
            fit = fit_profiles(sampled.grey, section.usable, section.width / sampled.step, prior=own)
        yield sampled, section, fit


def _sample(
    photo: Image | None, mask: Mask, points: Floats, normals: Floats, half_width: Floats
) -> Iterator[_Profiles]:
    """Yield the profiles of all points, those of similar reach together."""
    wanted = 1.4 * half_width + _FLANK + 2
    left = np.argsort(wanted, kind="stable")
    for limit in (*_REACHES, np.inf):
        count = int(np.searchsorted(wanted[left], limit, "right"))
        if not count or (count < min(_TOGETHER, len(left)) and limit < _REACHES[-1]):
            continue  # a call costs as much as some hundred profiles that are longer than they need be
        chosen, left = left[:count], left[count:]
        reach = int(min(limit, _REACHES[-1]))
        step = max(1.0, float(wanted[chosen].max()) / reach)
        size = 2 * reach + 1
        share = np.empty((len(chosen), size), np.float32)
        grey = np.empty((len(chosen), size if photo is not None else 0), np.float32)
        tile = points[chosen] // _TILE
        order = np.lexsort((tile[:, 1], tile[:, 0]))
        cuts = np.flatnonzero(np.any(np.diff(tile[order], axis=0), axis=1)) + 1
        offsets = step * np.arange(-reach, reach + 1, dtype=np.float64)
        for members in np.split(order, cuts):
            at, across = points[chosen[members]], normals[chosen[members]]
            share[members], levels = _sample_tile(photo, mask, at, across, offsets)
            grey[members] = levels
        yield _Profiles(chosen, share, grey, step)


def _sample_tile(
    photo: Image | None, mask: Mask, points: Floats, normals: Floats, offsets: Floats
) -> tuple[Float32s, Float32s]:
    """Return shares of crack and grey levels (n, S) across points that lie near each other."""
    centre = points[:, None] + offsets[:, None] * normals[:, None]  # (n, S, 2)
    beside = normals[:, ::-1] * [1, -1]  # 1 px along the line
    reach = abs(offsets[0]) + 2.5
    low = np.maximum(np.floor(points.min(axis=0) - reach).astype(int), 0)
    high = np.ceil(points.max(axis=0) + reach).astype(int) + 1
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    shifts = np.array([-1.0, 0.0, 1.0])[:, None, None, None] * beside[:, None]  # (3, n, 1, 2)
    maps = (centre - low + shifts).astype(np.float32).reshape(3 * len(points), -1, 2)
    shape = (3, len(points), len(offsets))

    def sampled(crop: npt.NDArray[np.float32], interpolation: int) -> Float32s:
        values = cv2.remap(crop, maps[..., 1], maps[..., 0], interpolation, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(values.reshape(shape).mean(axis=0), np.float32)

    share = sampled(mask[window].astype(np.float32), cv2.INTER_LINEAR)
    y, x = centre[..., 0], centre[..., 1]
    share[(y < -0.5) | (x < -0.5) | (y > mask.shape[0] - 0.5) | (x > mask.shape[1] - 0.5)] = -1
    if photo is None:
        return share, np.zeros((len(points), 0), np.float32)
    piece = photo[window]
    grey = np.asarray(piece if piece.ndim == 2 else cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY), np.float32)
    # A line through pixels meets them at all phases. Linear interpolation blurs by the phase, which no one blur can
    # describe; cubic does not, once the photo is smooth enough not to ring.
    return share, sampled(np.asarray(cv2.GaussianBlur(grey, (5, 5), _SMOOTHING), np.float32), cv2.INTER_CUBIC)


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


def _section(sampled: _Profiles) -> _Section:
    share = sampled.mask
    middle = share.shape[1] // 2
    here = share > 0.15
    # A hairline's mask is a staircase: its line may pass beside the pixels by one sample.
    here[:, middle - 1 : middle + 2] |= share[:, middle - 1 : middle + 2] > 0.05
    here[:, middle] = True
    left = np.cumprod(here[:, middle::-1], axis=1)[:, ::-1].astype(np.bool_)
    right = np.cumprod(here[:, middle:], axis=1).astype(np.bool_)
    own = np.concatenate([left, right[:, 1:]], axis=1)
    mass = np.where(own, np.maximum(share, 0), 0)
    width = mass.sum(axis=1)
    s = np.arange(share.shape[1], dtype=np.float32) - middle
    offset = (mass * s).sum(axis=1) / np.maximum(width, 0.5)
    near = np.abs(s) * sampled.step <= (width * sampled.step / 2 + np.abs(offset) * sampled.step + _FLANK + 2)[:, None]
    usable = (own | (share < 0.5)) & (share >= 0) & near
    return _Section(width * np.float32(sampled.step), offset * np.float32(sampled.step), usable)


def _judge(result: Widths, sampled: _Profiles, section: _Section, fit: ProfileFit, least_contrast: float) -> None:
    """Write widths and verdicts of the sampled points into the result."""
    chosen, s = sampled.chosen, np.arange(sampled.mask.shape[1]) - sampled.mask.shape[1] // 2
    result.width[chosen] = fit.width * sampled.step
    result.log_std[chosen] = fit.log_std
    edge = (fit.width / 2 + 2 * fit.blur)[:, None]
    beside = section.usable & (np.abs(s - fit.centre[:, None]) > edge)
    flanks = np.minimum((beside & (s < 0)).sum(axis=1), (beside & (s > 0)).sum(axis=1))
    size = section.width / sampled.step
    strange = (np.abs(fit.centre - section.offset / sampled.step) > size / 2 + 2) | (
        fit.noise > 0.35 * fit.depth * fit.background
    )
    verdict = np.full(len(chosen), Verdict.MEASURED, np.uint8)
    verdict[strange | (fit.blur * sampled.step > np.maximum(4, section.width))] = Verdict.POOR_FIT
    verdict[(fit.contrast < least_contrast) | (fit.log_std > _LOG_STD_LIMIT) | (fit.depth < 0.06)] = Verdict.NO_CONTRAST
    verdict[flanks < 2] = Verdict.AT_BORDER
    free = result.verdict[chosen] == Verdict.MEASURED
    result.verdict[chosen[free]] = verdict[free]
