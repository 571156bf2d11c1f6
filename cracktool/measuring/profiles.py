"""Width of a crack from a grey profile across it: a dark rectangle, blurred, fitted with what is known of cracks.

Profiles in, widths with standard deviations out; knows nothing about masks, lines or photos.

A profile p(s) is modelled as ``b0 + b1 s - r b0 [Phi((s - c + w/2) / sigma) - Phi((s - c - w/2) / sigma)]``: a straight
background, less a rectangle of width w around c whose relative depth is r, seen through a Gaussian blur sigma. Below
about two sigma a profile shows r w only, not r and w. So r and sigma carry a prior, which a photo's own wide cracks
narrow: the width of a hairline is its missing light over the depth that cracks have. The posterior's curvature gives
the standard deviation (Laplace's approximation); it is that of log w, because the missing light is a product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cracktool.measuring.priors import Float32s, Priors

_CHUNK = 512  # profiles fitted together: their Jacobian, about 0.5 MB, stays in the cache of a core
_ROUNDS = (7, 6)  # steps between which the noise is estimated anew
_EDGE_STD = 0.05  # px of width: edges are ragged, and one profile meets them at one place
_SLOW_NOISE = 0.8  # of the noise: texture as long as a blurred edge moves it as a whole, and leaves no residual
_HUBER = 2.5  # residuals beyond that many standard deviations count linearly: stains, aggregate, other cracks
_STILL = 0.003  # steps of px and logarithms
_TAIL = np.array([0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429], np.float32)
_NOISE_FLOOR = 0.7  # grey levels; rounding alone makes 0.3
_LIMITS = np.array([[0, 255], [-20, 20], [-99, 99], [-4, 6], [-1.6, 1.8], [-3, 0.2]], np.float32)
_B0, _B1, _C, _W, _SIGMA, _R = range(6)


@dataclass(frozen=True, eq=False)
class ProfileFit:
    """Widths of N profiles, each array float32 (N,).

    Args:
        width: w in samples.
        log_std: Standard deviation of log w.
        centre: c in samples from the middle of the profile.
        depth: r, 0 to 1.
        depth_std: Standard deviation of log r; near the prior's where the profile does not show r.
        blur: sigma in samples.
        blur_std: Standard deviation of log sigma.
        background: b0 in grey levels.
        blur_depth: Covariance of log sigma and log r.
        noise: Standard deviation of the residuals in grey levels.
        similarity: Correlation of residuals of neighbouring samples, -1 to 1.
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
    noise: Float32s
    similarity: Float32s

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> ProfileFit:
        """Return the fits of some of the profiles."""
        return ProfileFit(*(each[chosen] for each in vars(self).values()))

    @property
    def contrast(self) -> Float32s:
        """Missing light over its noise: how many standard deviations the dark line stands out."""
        span = np.maximum(self.width, 2 * self.blur)
        return np.asarray(self.depth * self.background * self.width / (self.noise * np.sqrt(2 * span)), np.float32)


def fit_profiles(
    profiles: Float32s,
    valid: npt.NDArray[np.bool_],
    expected_width: Float32s,
    *,
    prior: Priors,
) -> ProfileFit:
    """Fit the model to each profile by damped least squares (Levenberg-Marquardt) with priors and Huber's weights.

    Args:
        profiles: Grey levels 0 to 255, float32 (N, S), S odd; sample S // 2 lies where the crack is expected.
        valid: bool (N, S), False where a sample is outside of the photo or belongs to another crack.
        expected_width: Rough width in samples, (N,), such as the mask's: how far c may lie from the middle.
        prior: What is known of the crack of each profile.

    Example:
        >>> crack = np.float32([[0, 0, 0, 0, 0, 0, 0.5, 1, 1, 1, 0.5, 0, 0, 0, 0, 0, 0]])
        >>> fit = fit_profiles(150 - 120 * crack, crack >= 0, np.float32([6]), prior=Prior().repeated(1))
        >>> round(float(fit.width[0]), 1)
        4.0
    """
    parts = []
    for at in range(0, len(profiles), _CHUNK):
        here = slice(at, at + _CHUNK)
        parts.append(_fit_chunk(profiles[here], valid[here], expected_width[here], prior[here]))
    theta, std, blur_depth, noise, similarity = (
        np.concatenate([empty, *found])
        for empty, *found in zip((*np.zeros((2, 0, 6), np.float32), *np.zeros((3, 0), np.float32)), *parts, strict=True)
    )
    width, blur, depth = np.exp(theta[:, [_W, _SIGMA, _R]]).T
    return ProfileFit(
        width=width,
        log_std=std[:, _W],
        centre=theta[:, _C],
        depth=depth,
        depth_std=std[:, _R],
        blur=blur,
        blur_std=std[:, _SIGMA],
        blur_depth=blur_depth,
        background=theta[:, _B0],
        noise=noise,
        similarity=similarity,
    )


def _fit_chunk(
    y: Float32s, valid: npt.NDArray[np.bool_], expected: Float32s, prior: Priors
) -> tuple[Float32s, Float32s, Float32s, Float32s, Float32s]:
    """Return parameters and their standard deviations (n, 6), covariance of blur and depth, noise, similarity (n,)."""
    s = np.arange(y.shape[1], dtype=np.float32) - y.shape[1] // 2
    use = valid.astype(np.float32)
    theta, noise = _start(y, valid, s, expected, prior)
    mean = np.zeros_like(theta)
    mean[:, _SIGMA], mean[:, _R] = np.log(prior.blur), np.log(prior.depth)
    precision = np.zeros_like(theta)
    precision[:, _B1] = 1.0  # a slope of one grey level per sample is already much
    precision[:, _C] = 1 / (0.7 + expected / 4) ** 2
    precision[:, _SIGMA], precision[:, _R] = prior.blur_std**-2, prior.depth_std**-2
    precision[:, _W] = 1e-4
    for rounds in _ROUNDS:
        scale = use / (noise * np.sqrt(prior.correlation))[:, None]
        theta = _descend(theta, y, s, scale, mean, precision, rounds)
        residual = _linearise(theta, y, s, use, mean, precision)[3]
        noise = _spread(residual, use, noise)
    similarity = _similarity(residual * use)
    # A real crack is no rectangle: where its edges and floor fit worse than the background, they set the noise.
    reach = np.exp(theta[:, [_W]]) / 2 + 2 * np.exp(theta[:, [_SIGMA]])
    core = use * (np.abs(s - theta[:, [_C]]) < reach)
    misfit = np.sqrt((residual**2 * core).sum(axis=1) / np.maximum(core.sum(axis=1) - 2, 2))
    scale = use / (np.maximum(noise, misfit) * np.sqrt(prior.correlation))[:, None]
    _, normal, _, _ = _linearise(theta, y, s, scale, mean, precision)
    variance = np.linalg.inv(normal.astype(np.float64))
    std = np.sqrt(np.maximum(np.einsum("nii->ni", variance), 0))
    std[:, _W] = np.hypot(std[:, _W], _edge_std(theta, noise) * np.exp(-theta[:, _W]))
    return theta, std.astype(np.float32), variance[:, _SIGMA, _R].astype(np.float32), noise, similarity


def _edge_std(theta: Float32s, noise: Float32s) -> Float32s:
    """Return what ragged edges and slow texture add to the standard deviation of w, samples: noise over slope."""
    slope = np.exp(theta[:, _R]) * theta[:, _B0] / (np.sqrt(2 * np.pi) * np.exp(theta[:, _SIGMA]))
    return np.asarray(np.hypot(_EDGE_STD, np.sqrt(2) * _SLOW_NOISE * noise / np.maximum(slope, 1)), np.float32)


def _descend(
    theta: Float32s, y: Float32s, s: Float32s, scale: Float32s, mean: Float32s, precision: Float32s, rounds: int
) -> Float32s:
    """Return parameters after up to `rounds` damped steps; profiles that no longer move are left out on the way."""
    theta = theta.copy()
    damping = np.full(len(y), 0.01, np.float32)
    cost, normal, gradient, _ = _linearise(theta, y, s, scale, mean, precision)
    moving = np.arange(len(y))
    for _ in range(rounds):
        here = theta[moving]
        trial = np.clip(here + _solve(normal, gradient, damping), _LIMITS[:, 0], _LIMITS[:, 1])
        found = _linearise(trial, y[moving], s, scale[moving], mean[moving], precision[moving])
        better = found[0] < cost
        moved = better & (np.abs(trial - here)[:, _C:].max(axis=1) > _STILL) | ~better & (damping < 10)
        theta[moving[better]] = trial[better]
        cost = np.where(better, found[0], cost)[moved]
        normal = np.where(better[:, None, None], found[1], normal)[moved]
        gradient = np.where(better[:, None], found[2], gradient)[moved]
        damping = np.where(better, damping / 5, damping * 6)[moved]
        moving = moving[moved]
        if not len(moving):
            break
    return theta


def _start(
    y: Float32s, valid: npt.NDArray[np.bool_], s: Float32s, expected: Float32s, prior: Priors
) -> tuple[Float32s, Float32s]:
    """Return first parameters and noise: background from the flanks, width from the missing light."""
    flank = valid & (np.abs(s) > expected[:, None] / 2 + 1.5)
    flank[flank.sum(axis=1) < 4] = valid[flank.sum(axis=1) < 4]
    background = _median(y, flank)
    spread = 1.48 * _median(np.abs(y - background[:, None]), flank)
    middle = valid & ~flank
    # Somewhat off the middle costs a little, so that of two dark lines the one in the middle is taken.
    dark = np.where(middle, background[:, None] - y - 0.5 * np.abs(s), 0)
    deepest = np.argmax(dark, axis=1)
    missing = np.where(middle, np.maximum(background[:, None] - y, 0), 0).sum(axis=1)
    background = np.maximum(background, 1)
    seen = np.clip(dark[np.arange(len(y)), deepest] / background, 0.1, 1)
    depth = np.sqrt(seen * prior.depth)
    theta = np.zeros((len(y), 6), np.float32)
    theta[:, _B0] = background
    theta[:, _C] = s[deepest] * np.where(expected > 8, 0, 1)
    theta[:, _W] = np.log(np.clip(missing / (depth * background), 0.2, 2 * expected + 2))
    theta[:, _SIGMA], theta[:, _R] = np.log(prior.blur), np.log(depth)
    return theta, np.maximum(spread, 3).astype(np.float32)


def _median(values: Float32s, chosen: npt.NDArray[np.bool_]) -> Float32s:
    """Return the upper median of the chosen values of each row; 0 where none is."""
    ordered = np.sort(np.where(chosen, values, np.float32(np.inf)), axis=1)
    count = chosen.sum(axis=1)
    middle = ordered[np.arange(len(values)), count // 2]
    return np.asarray(np.where(count > 0, middle, 0), np.float32)


def _linearise(
    theta: Float32s, y: Float32s, s: Float32s, scale: Float32s, mean: Float32s, precision: Float32s
) -> tuple[Float32s, Float32s, Float32s, Float32s]:
    """Return cost (n,), normal matrix (n, 6, 6), downhill gradient (n, 6) and residuals (n, S) at `theta`."""
    b0, b1, c, log_w, log_sigma, log_r = (theta[:, [column]] for column in range(6))
    half, sigma, r = np.exp(log_w) / np.float32(2), np.exp(log_sigma), np.exp(log_r)
    centred = s - c
    u = np.asarray((centred + half) / sigma, np.float32)
    v = np.asarray((centred - half) / sigma, np.float32)
    at_u, at_v = _density(u), _density(v)
    covered = _normal(u, at_u) - _normal(v, at_v)
    depth = r * b0
    residual = y - (b0 + b1 * s - depth * covered)
    jacobian = np.empty((len(y), 6, y.shape[1]), np.float32)
    jacobian[:, _B0] = 1 - r * covered
    jacobian[:, _B1] = s
    jacobian[:, _C] = depth / sigma * (at_u - at_v)
    jacobian[:, _W] = -depth / sigma * half * (at_u + at_v)
    jacobian[:, _SIGMA] = depth * (u * at_u - v * at_v)
    jacobian[:, _R] = -depth * covered
    normalised = np.abs(residual * scale)
    weight = _HUBER / np.maximum(normalised, _HUBER)
    cost = (weight * normalised * (2 * normalised - weight * normalised)).sum(axis=1)
    weighted = jacobian * (weight * scale * scale)[:, None]
    normal = weighted @ jacobian.transpose(0, 2, 1)
    off = mean - theta
    off[:, [_B0, _W]] = 0  # no prior there
    off[:, _C], off[:, _B1] = -theta[:, _C], -theta[:, _B1]
    gradient = (weighted @ residual[..., None])[..., 0] + precision * off
    diagonal = np.arange(6)
    normal[:, diagonal, diagonal] += precision
    return cost + (precision * off * off).sum(axis=1), normal, gradient, residual


def _density(x: Float32s) -> Float32s:
    return np.asarray(np.exp(-0.5 * x * x) * np.float32(0.39894228), np.float32)


def _normal(x: Float32s, density: Float32s) -> Float32s:
    """Return the normal distribution function to 1e-6 from its density (Abramowitz and Stegun 1964, 26.2.17).

    scipy.special.ndtr is ten times as slow, and this is where the time goes.
    """
    t = 1 / (1 + np.float32(0.2316419) * np.abs(x))
    tail = density * t * (_TAIL[0] + t * (_TAIL[1] + t * (_TAIL[2] + t * (_TAIL[3] + t * _TAIL[4]))))
    return np.asarray(np.where(x > 0, 1 - tail, tail), np.float32)


def _similarity(residual: Float32s) -> Float32s:
    """Return the correlation of neighbouring residuals (n, S), (n,)."""
    product = (residual[:, 1:] * residual[:, :-1]).sum(axis=1)
    return np.asarray(product / np.maximum((residual * residual).sum(axis=1), 1e-9), np.float32)


def _solve(normal: Float32s, gradient: Float32s, damping: Float32s) -> Float32s:
    damped = normal.copy()
    diagonal = np.arange(6)
    damped[:, diagonal, diagonal] *= 1 + damping[:, None]
    step = np.linalg.solve(damped, gradient[..., None])[..., 0]
    step[:, _C] = np.clip(step[:, _C], -2, 2)
    step[:, _W:] = np.clip(step[:, _W:], -0.7, 0.7)
    return step


def _spread(residual: Float32s, use: Float32s, noise: Float32s) -> Float32s:
    """Return the standard deviation of residuals (n,), outliers cut down to Huber's limit."""
    cut = np.minimum(np.abs(residual), _HUBER * noise[:, None]) * use
    freedom = np.maximum(use.sum(axis=1) - 4, 3)
    return np.asarray(np.maximum(np.sqrt((cut * cut).sum(axis=1) / freedom), _NOISE_FLOOR), np.float32)
