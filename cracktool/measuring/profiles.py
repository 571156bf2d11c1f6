"""Width of a crack from a grey profile across it: a dark rectangle, blurred, fitted with what is known of cracks.

Profiles in, widths with standard deviations out; knows nothing about masks, lines or photos.

A profile p(s) is modelled as ``b0 + b1 s - r b0 [Phi((s - c + w/2) / sigma) - Phi((s - c - w/2) / sigma)]``: a straight
background, less a rectangle of width w around c whose relative depth is r, seen through a Gaussian blur sigma. Below
about two sigma a profile shows r w only, not r and w. So r and sigma carry a prior, which a photo's own wide cracks
narrow: the width of a hairline is its missing light over the depth that cracks have. The posterior's curvature gives
the standard deviation (Laplace's approximation); it is that of log w, because the missing light is a product.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from cracktool.measuring.descent import B0, B1, HUBER, SIGMA, C, Problem, R, W, descend, solve
from cracktool.measuring.priors import Float32s, Priors
from cracktool.measuring.rows import Rows

_CHUNK = 512  # profiles fitted together: their Jacobian, about 0.5 MB, stays in the cache of a core
_PASSES = ((3, 1.0), (2, 0.05))  # steps at most, and gain of one at which to stop; the noise is estimated after each
_WARM = ((2, 0.05),)  # for fits that go on from others
_EDGE_STD = 0.05  # px of width: edges are ragged, and one profile meets them at one place
_SLOW_NOISE = 0.8  # of the noise: texture as long as a blurred edge moves it as a whole, and leaves no residual
# The noise that an edge meets, over that of the samples: a at least, b sigma^c for a blur of sigma px, for the wider an
# edge, the more of the texture lies along it. Fitted to drawn cracks: 95 % of them lie in intervals of 95 %.
_EDGE_NOISE = (0.78, 0.7, 0.95)
_NOISE_FLOOR = 0.7  # grey levels; rounding alone makes 0.3


@dataclass(frozen=True, eq=False)
class ProfileFit(Rows):
    """Widths of N profiles, each array float32 (N,).

    Args:
        width: w in px.
        log_std: Standard deviation of log w.
        centre: c in px from the middle of the profile.
        depth: r, 0 to 1.
        depth_std: Standard deviation of log r; near the prior's where the profile does not show r.
        blur: sigma in px.
        blur_std: Standard deviation of log sigma.
        blur_depth: Covariance of log sigma and log r.
        background: b0 in grey levels.
        slope: b1 in grey levels per px.
        noise: Standard deviation of the residuals in grey levels.
        similarity: Correlation of residuals of neighbouring samples, -1 to 1.
        contrast: Missing light over its noise: how many standard deviations the dark line stands out.
    """

    width: Float32s
    log_std: Float32s
    centre: Float32s
    depth: Float32s
    depth_std: Float32s
    blur: Float32s
    blur_std: Float32s
    blur_depth: Float32s
    background: Float32s
    slope: Float32s
    noise: Float32s
    similarity: Float32s
    contrast: Float32s

    @classmethod
    def unknown(cls, count: int) -> ProfileFit:
        """Return as many fits that are not made yet: nan."""
        return cls(*(np.full(count, np.nan, np.float32) for _ in fields(cls)))


def fit_profiles(
    profiles: Float32s,
    valid: npt.NDArray[np.bool_],
    expected_width: Float32s,
    *,
    prior: Priors,
    step: Float32s | None = None,
    start: ProfileFit | None = None,
) -> ProfileFit:
    """Fit the model to each profile by damped least squares (Levenberg-Marquardt) with priors and Huber's weights.

    Args:
        profiles: Grey levels 0 to 255, float32 (N, S), S odd; sample S // 2 lies where the crack is expected.
        valid: bool (N, S), False where a sample is outside of the photo or belongs to another crack.
        expected_width: Rough width in px, (N,), such as the mask's: how far c may lie from the middle.
        prior: What is known of the crack of each profile.
        step: px from sample to sample, (N,); none for 1.
        start: Fits of the same profiles under other priors, to go on from; nan where there is none.

    Example:
        >>> crack = np.float32([[0, 0, 0, 0, 0, 0, 0.5, 1, 1, 1, 0.5, 0, 0, 0, 0, 0, 0]])
        >>> fit = fit_profiles(150 - 120 * crack, crack >= 0, np.float32([6]), prior=Prior().repeated(1))
        >>> round(float(fit.width[0]), 1)
        4.0
    """
    count = len(profiles)
    step = np.ones(count, np.float32) if step is None else step
    fits = ProfileFit.unknown(count)
    if start is not None:
        fits[:] = start
    for at in range(0, len(profiles), _CHUNK):
        here = slice(at, at + _CHUNK)
        fits[here] = _fit_chunk(profiles[here], valid[here], expected_width[here], prior[here], step[here], fits[here])
    return fits


def _fit_chunk(
    y: Float32s, valid: npt.NDArray[np.bool_], expected: Float32s, prior: Priors, step: Float32s, start: ProfileFit
) -> ProfileFit:
    s = step[:, None] * (np.arange(y.shape[1], dtype=np.float32) - y.shape[1] // 2)
    use = valid.astype(np.float32)
    known = np.isfinite(start.noise)
    theta, noise = _parameters(start), start.noise.copy()
    if not known.all():
        new = ~known
        theta[new], noise[new] = _start(y[new], valid[new], s[new], expected[new], prior[np.flatnonzero(new)])
    mean = np.zeros_like(theta)
    mean[:, SIGMA], mean[:, R] = np.log(prior.blur), np.log(prior.depth)
    precision = np.zeros_like(theta)
    precision[:, B1] = step**2  # a slope of one grey level per sample is already much
    precision[:, C] = 1 / (0.7 + expected / 4) ** 2
    precision[:, SIGMA], precision[:, R] = prior.blur_std**-2, prior.depth_std**-2
    precision[:, W] = 1e-4
    spread = np.sqrt(np.float32(prior.correlation))
    problem = Problem(y, s, use, noise * spread, mean, precision)
    place = problem.at(theta)
    for rounds, tolerance in _WARM if known.all() else _PASSES:
        descend(problem, place, rounds, tolerance)
        noise = _spread(place.residual, use, noise)
        problem.becomes(noise * spread, place)
    theta, residual = place.theta, place.residual
    # A real crack is no rectangle: where its edges and floor fit worse than the background, they set the noise.
    reach = np.exp(theta[:, [W]]) / 2 + 2 * np.exp(theta[:, [SIGMA]])
    core = use * (np.abs(s - theta[:, [C]]) < reach)
    misfit = np.sqrt((residual**2 * core).sum(axis=1) / np.maximum(core.sum(axis=1) - 2, 2))
    least, factor, power = _EDGE_NOISE
    met = np.maximum(least, factor * np.exp(power * theta[:, SIGMA])) * spread
    problem.becomes(np.maximum(noise, misfit) * met, place)
    columns = np.broadcast_to(np.eye(6, 3, -W, np.float32), (len(y), 6, 3))  # the last three of the inverse
    variance = solve(problem.equations(place)[0], columns)
    std = np.sqrt(np.maximum(variance[:, [W, SIGMA, R], [0, 1, 2]], 0))
    width, blur, depth = np.exp(theta[:, [W, SIGMA, R]]).T
    return ProfileFit(
        width=width,
        log_std=np.hypot(std[:, 0], _edge_std(theta, noise) / width),
        centre=theta[:, C],
        depth=depth,
        depth_std=std[:, 2],
        blur=blur,
        blur_std=std[:, 1],
        blur_depth=variance[:, SIGMA, 2],
        background=theta[:, B0],
        slope=theta[:, B1],
        noise=noise,
        similarity=_similarity(residual * use),
        contrast=depth * theta[:, B0] * width / (noise * np.sqrt(2 * step * np.maximum(width, 2 * blur))),
    )


def _parameters(fit: ProfileFit) -> Float32s:
    log_width, log_blur, log_depth = (np.log(each) for each in (fit.width, fit.blur, fit.depth))
    return np.column_stack([fit.background, fit.slope, fit.centre, log_width, log_blur, log_depth])


def _edge_std(theta: Float32s, noise: Float32s) -> Float32s:
    """Return what ragged edges and slow texture add to the standard deviation of w, samples: noise over slope."""
    slope = np.exp(theta[:, R]) * theta[:, B0] / (np.sqrt(2 * np.pi) * np.exp(theta[:, SIGMA]))
    return np.asarray(np.hypot(_EDGE_STD, np.sqrt(2) * _SLOW_NOISE * noise / np.maximum(slope, 1)), np.float32)


def _start(
    y: Float32s, valid: npt.NDArray[np.bool_], s: Float32s, expected: Float32s, prior: Priors
) -> tuple[Float32s, Float32s]:
    """Return first parameters and noise: background from the flanks, width from the missing light."""
    step = s[:, -1] - s[:, -2]
    flank = valid & (np.abs(s) > (expected / 2 + 1.5 * step)[:, None])
    flank[flank.sum(axis=1) < 4] = valid[flank.sum(axis=1) < 4]
    background = _median(y, flank)
    spread = 1.48 * _median(np.abs(y - background[:, None]), flank)
    middle = valid & ~flank
    # Somewhat off the middle costs a little, so that of two dark lines the one in the middle is taken.
    dark = np.where(middle, background[:, None] - y - 0.5 * np.abs(s), 0)
    deepest = np.argmax(dark, axis=1)
    missing = np.where(middle, np.maximum(background[:, None] - y, 0), 0).sum(axis=1) * step
    background = np.maximum(background, 1)
    seen = np.clip(dark[np.arange(len(y)), deepest] / background, 0.1, 1)
    depth = np.sqrt(seen * prior.depth)
    theta = np.zeros((len(y), 6), np.float32)
    theta[:, B0] = background
    theta[:, C] = s[np.arange(len(y)), deepest] * (expected <= 8)
    theta[:, W] = np.log(np.clip(missing / (depth * background), 0.2, 2 * expected + 2))
    theta[:, SIGMA], theta[:, R] = np.log(prior.blur), np.log(depth)
    return theta, np.maximum(spread, 3).astype(np.float32)


def _median(values: Float32s, chosen: npt.NDArray[np.bool_]) -> Float32s:
    """Return the upper median of the chosen values of each row; 0 where none is."""
    ordered = np.sort(np.where(chosen, values, np.float32(np.inf)), axis=1)
    count = chosen.sum(axis=1)
    middle = ordered[np.arange(len(values)), count // 2]
    return np.asarray(np.where(count > 0, middle, 0), np.float32)


def _similarity(residual: Float32s) -> Float32s:
    """Return the correlation of neighbouring residuals (n, S), (n,)."""
    product = (residual[:, 1:] * residual[:, :-1]).sum(axis=1)
    return np.asarray(product / np.maximum((residual * residual).sum(axis=1), 1e-9), np.float32)


def _spread(residual: Float32s, use: Float32s, noise: Float32s) -> Float32s:
    """Return the standard deviation of residuals (n,), outliers cut down to Huber's limit."""
    cut = np.minimum(np.abs(residual), HUBER * noise[:, None]) * use
    freedom = np.maximum(use.sum(axis=1) - 4, 3)
    return np.asarray(np.maximum(np.sqrt((cut * cut).sum(axis=1) / freedom), _NOISE_FLOOR), np.float32)
