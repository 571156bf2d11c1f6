"""Width of a crack from a grey profile across it: a dark rectangle, blurred, fitted with what is known of cracks.

Profiles in, widths with standard deviations out; knows nothing about masks, lines or photos.

A profile p(s) is modelled as ``b0 + b1 s - r b0 [Phi((s - c + w/2) / sigma) - Phi((s - c - w/2) / sigma)]``: a straight
background, less a rectangle of width w around c whose relative depth is r, seen through a Gaussian blur sigma. Below
about two sigma a profile shows r w only, not r and w. So r and sigma carry a prior, which a photo's own wide cracks
narrow: the width of a hairline is its missing light over the depth that cracks have. The posterior's curvature gives
the standard deviation (Laplace's approximation); it is that of log w, because the missing light is a product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from cracktool.measuring.priors import Float32s, Priors

_CHUNK = 512  # profiles fitted together: their Jacobian, about 0.5 MB, stays in the cache of a core
_PASSES = ((3, 1.0), (2, 0.05))  # steps at most, and gain of one at which to stop; the noise is estimated after each
_WARM = ((2, 0.05),)  # for fits that go on from others
_EDGE_STD = 0.05  # px of width: edges are ragged, and one profile meets them at one place
_SLOW_NOISE = 0.8  # of the noise: texture as long as a blurred edge moves it as a whole, and leaves no residual
_DAMPING = 0.001  # more of it shortens steps along the valley of r and w
_HUBER = 2.5  # residuals beyond that many standard deviations count linearly: stains, aggregate, other cracks
_TAIL = (np.array([0.4361836, -0.1201676, 0.9372980]) / math.sqrt(2 * math.pi)).astype(np.float32)
_NOISE_FLOOR = 0.7  # grey levels; rounding alone makes 0.3
_LIMITS = np.array([[0, 255], [-20, 20], [-999, 999], [-4, 9], [-1.6, 3], [-3, 0.2]], np.float32)
_B0, _B1, _C, _W, _SIGMA, _R = range(6)
_DIAGONAL = np.arange(6)


@dataclass(frozen=True, eq=False)
class ProfileFit:
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

    def __getitem__(self, chosen: slice | npt.NDArray[np.bool_ | np.int64]) -> ProfileFit:
        """Return the fits of some of the profiles."""
        return ProfileFit(*(each[chosen] for each in vars(self).values()))

    def __setitem__(self, chosen: slice | npt.NDArray[np.bool_ | np.int64], others: ProfileFit) -> None:
        """Replace the fits of some of the profiles."""
        for mine, other in zip(vars(self).values(), vars(others).values(), strict=True):
            mine[chosen] = other


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
    mean[:, _SIGMA], mean[:, _R] = np.log(prior.blur), np.log(prior.depth)
    precision = np.zeros_like(theta)
    precision[:, _B1] = step**2  # a slope of one grey level per sample is already much
    precision[:, _C] = 1 / (0.7 + expected / 4) ** 2
    precision[:, _SIGMA], precision[:, _R] = prior.blur_std**-2, prior.depth_std**-2
    precision[:, _W] = 1e-4
    spread = np.sqrt(np.float32(prior.correlation))
    problem = _Problem(y, s, use, noise * spread, mean, precision)
    place = problem.at(theta)
    for rounds, tolerance in _WARM if known.all() else _PASSES:
        _descend(problem, place, rounds, tolerance)
        noise = _spread(place.residual, use, noise)
        problem.becomes(noise * spread, place)
    theta, residual = place.theta, place.residual
    # A real crack is no rectangle: where its edges and floor fit worse than the background, they set the noise.
    reach = np.exp(theta[:, [_W]]) / 2 + 2 * np.exp(theta[:, [_SIGMA]])
    core = use * (np.abs(s - theta[:, [_C]]) < reach)
    misfit = np.sqrt((residual**2 * core).sum(axis=1) / np.maximum(core.sum(axis=1) - 2, 2))
    problem.becomes(np.maximum(noise, misfit) * spread, place)
    columns = np.broadcast_to(np.eye(6, 3, -_W, np.float32), (len(y), 6, 3))  # the last three of the inverse
    variance = _solve(problem.equations(place)[0], columns)
    std = np.sqrt(np.maximum(variance[:, [_W, _SIGMA, _R], [0, 1, 2]], 0))
    width, blur, depth = np.exp(theta[:, [_W, _SIGMA, _R]]).T
    return ProfileFit(
        width=width,
        log_std=np.hypot(std[:, 0], _edge_std(theta, noise) / width),
        centre=theta[:, _C],
        depth=depth,
        depth_std=std[:, 2],
        blur=blur,
        blur_std=std[:, 1],
        blur_depth=variance[:, _SIGMA, 2],
        background=theta[:, _B0],
        slope=theta[:, _B1],
        noise=noise,
        similarity=_similarity(residual * use),
        contrast=depth * theta[:, _B0] * width / (noise * np.sqrt(2 * step * np.maximum(width, 2 * blur))),
    )


def _parameters(fit: ProfileFit) -> Float32s:
    log_width, log_blur, log_depth = (np.log(each) for each in (fit.width, fit.blur, fit.depth))
    return np.column_stack([fit.background, fit.slope, fit.centre, log_width, log_blur, log_depth])


@dataclass(eq=False)
class _Place:
    """Parameters of n profiles, and what the profiles say of them there.

    Args:
        theta: Parameters (n, 6).
        residual: What the model leaves over, grey levels (n, S).
        products: Of the derivatives with each other and with the residuals, over the variance of the noise, (n, 6, 7).
        cost: Sum of squares over the variance of the noise, outliers as Huber counts them; of profile and prior, (n,).
    """

    theta: Float32s
    residual: Float32s
    products: Float32s
    cost: Float32s

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> _Place:
        return _Place(*(each[chosen] for each in vars(self).values()))

    def __setitem__(self, chosen: npt.NDArray[np.bool_ | np.int64], other: _Place) -> None:
        for mine, new in zip(vars(self).values(), vars(other).values(), strict=True):
            mine[chosen] = new


@dataclass(eq=False)
class _Problem:
    """What n profiles and their priors ask of the parameters theta (n, 6).

    Args:
        y: Grey levels (n, S).
        s: Place of each sample from the middle, px, (n, S).
        use: 1 for samples that are used, 0 for others, (n, S).
        noise: Standard deviation of a sample, grey levels, (n,).
        mean: Of the prior, (n, 6).
        precision: Of the prior, (n, 6).
    """

    y: Float32s
    s: Float32s
    use: Float32s
    noise: Float32s
    mean: Float32s
    precision: Float32s

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> _Problem:
        return _Problem(*(each[chosen] for each in vars(self).values()))

    def at(self, theta: Float32s) -> _Place:
        """Return what there is to know at `theta`."""
        rows = _model(theta, self.s)  # (7, n, S)
        residual = np.subtract(self.y, rows[6], out=rows[6])
        weight, cost = self._weighed(residual)
        weight *= (self.noise**-2)[:, None]
        products = (rows[:6] * weight).transpose(1, 0, 2) @ rows.transpose(1, 2, 0)
        return _Place(theta, residual, products, cost + self._strain(theta)[1])

    def equations(self, place: _Place) -> tuple[Float32s, Float32s]:
        """Return normal matrix (n, 6, 6) and downhill gradient (n, 6)."""
        normal = place.products[:, :, :6].copy()
        normal[:, _DIAGONAL, _DIAGONAL] += self.precision
        return normal, place.products[:, :, 6] + self._strain(place.theta)[0]

    def becomes(self, noise: Float32s, place: _Place) -> None:
        """Take another noise; which samples count as outliers is looked at anew at the next place."""
        place.products *= ((self.noise / noise) ** 2)[:, None, None]
        self.noise = noise
        place.cost = self._weighed(place.residual)[1] + self._strain(place.theta)[1]

    def _weighed(self, residual: Float32s) -> tuple[Float32s, Float32s]:
        """Return the weights of samples (n, S) and what their residuals cost (n,), both after Huber."""
        normalised = np.abs(residual)
        normalised *= self.use
        normalised /= self.noise[:, None]
        weight = _HUBER / np.maximum(normalised, _HUBER)
        once = weight * normalised
        normalised *= 2
        normalised -= once
        weight *= self.use
        return weight, np.einsum("ns,ns->n", once, normalised)

    def _strain(self, theta: Float32s) -> tuple[Float32s, Float32s]:
        """Return how the prior pulls at the parameters, (n, 6), and what their distance from it costs, (n,)."""
        off = self.mean - theta
        off[:, _W] = 0  # its precision only keeps the matrix regular
        pull = self.precision * off
        return pull, np.einsum("np,np->n", pull, off)


def _descend(problem: _Problem, place: _Place, rounds: int, tolerance: float) -> None:
    """Move to better parameters by damped steps; profiles whose next step promises too little are left out on the way.

    What a step promises is its share of the cost (Newton's decrement): a squared distance in standard deviations.
    """
    moving = np.arange(len(place.theta))
    damping = np.full(len(moving), _DAMPING, np.float32)
    here = place
    for _ in range(rounds):
        normal, gradient = problem.equations(here)
        step = _next_step(normal, gradient, damping)
        going = np.einsum("np,np->n", step, gradient) > tolerance
        if not going.any():
            break
        if not going.all():
            problem, here, moving = problem[going], here[going], moving[going]
            damping, step = damping[going], step[going]
        trial = problem.at(np.clip(here.theta + step, _LIMITS[:, 0], _LIMITS[:, 1]))
        better = trial.cost < here.cost
        worse = np.flatnonzero(~better)
        trial[worse] = here[worse]
        here = trial
        place[moving] = here
        damping = np.where(better, damping / 5, damping * 6)


def _edge_std(theta: Float32s, noise: Float32s) -> Float32s:
    """Return what ragged edges and slow texture add to the standard deviation of w, samples: noise over slope."""
    slope = np.exp(theta[:, _R]) * theta[:, _B0] / (np.sqrt(2 * np.pi) * np.exp(theta[:, _SIGMA]))
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
    theta[:, _B0] = background
    theta[:, _C] = s[np.arange(len(y)), deepest] * (expected <= 8)
    theta[:, _W] = np.log(np.clip(missing / (depth * background), 0.2, 2 * expected + 2))
    theta[:, _SIGMA], theta[:, _R] = np.log(prior.blur), np.log(depth)
    return theta, np.maximum(spread, 3).astype(np.float32)


def _median(values: Float32s, chosen: npt.NDArray[np.bool_]) -> Float32s:
    """Return the upper median of the chosen values of each row; 0 where none is."""
    ordered = np.sort(np.where(chosen, values, np.float32(np.inf)), axis=1)
    count = chosen.sum(axis=1)
    middle = ordered[np.arange(len(values)), count // 2]
    return np.asarray(np.where(count > 0, middle, 0), np.float32)


def _model(theta: Float32s, s: Float32s) -> Float32s:
    """Return derivatives by the six parameters, and the profile itself as the seventh row, (7, n, S)."""
    b0, b1, c = theta.T[:_W, :, None]
    width, sigma, r = np.exp(theta.T[_W:])[..., None]
    inverse = np.reciprocal(sigma)
    middle = s - c
    middle *= inverse
    half = np.float32(0.5) * width * inverse
    edges = np.empty((2, *s.shape), np.float32)
    np.add(middle, half, out=edges[0])
    np.subtract(middle, half, out=edges[1])
    density, (left, right) = _gauss(edges)
    depth = r * b0
    slope = depth * np.float32(1 / math.sqrt(2 * math.pi))
    rows = np.empty((7, *s.shape), np.float32)
    covered = np.subtract(left, right, out=left)
    np.multiply(covered, -depth, out=rows[_R])
    np.multiply(covered, -r, out=rows[_B0])
    rows[_B0] += 1
    rows[_B1] = s
    np.subtract(density[0], density[1], out=rows[_C])
    rows[_C] *= slope * inverse
    np.add(density[0], density[1], out=rows[_W])
    rows[_W] *= -slope * half
    edges *= density
    np.subtract(edges[0], edges[1], out=rows[_SIGMA])
    rows[_SIGMA] *= slope
    np.multiply(b1, s, out=rows[6])
    rows[6] += b0
    rows[6] += rows[_R]
    return rows


def _gauss(x: Float32s) -> tuple[Float32s, Float32s]:
    """Return exp(-x^2 / 2), and the normal distribution function to 1e-5 (Abramowitz and Stegun 1964, 26.2.16).

    scipy.special.ndtr takes five times as long, and this is where the time goes.
    """
    density = x * x
    density *= np.float32(-0.5)
    np.exp(density, out=density)
    t = np.abs(x)
    t *= np.float32(0.33267)
    t += 1
    np.reciprocal(t, out=t)
    tail = _TAIL[2] * t
    for factor in _TAIL[1::-1]:
        tail += factor
        tail *= t
    tail *= density
    # 1 - tail to the right of the middle, tail to the left of it, without a branch: 1/2 + sign (1/2 - tail).
    np.subtract(np.float32(0.5), tail, out=tail)
    np.copysign(tail, x, out=tail)
    tail += np.float32(0.5)
    return density, tail


def _similarity(residual: Float32s) -> Float32s:
    """Return the correlation of neighbouring residuals (n, S), (n,)."""
    product = (residual[:, 1:] * residual[:, :-1]).sum(axis=1)
    return np.asarray(product / np.maximum((residual * residual).sum(axis=1), 1e-9), np.float32)


def _next_step(normal: Float32s, gradient: Float32s, damping: Float32s) -> Float32s:
    normal[:, _DIAGONAL, _DIAGONAL] *= 1 + damping[:, None]
    step = _solve(normal, gradient[:, :, None])[:, :, 0]
    step[:, _C] = np.clip(step[:, _C], -2, 2)
    step[:, _W:] = np.clip(step[:, _W:], -0.7, 0.7)
    return step


def _solve(normal: Float32s, right: Float32s) -> Float32s:
    """Return the solutions (n, 6, k) of positive definite equations (n, 6, 6), by Gauss's elimination.

    LAPACK solves one after another, which takes three times as long for some hundred small ones.
    """
    rows = np.ascontiguousarray(np.concatenate([normal, right], axis=2).transpose(1, 2, 0))  # (6, 6 + k, n)
    for at in range(6):
        rows[at, at:] /= rows[at, at].copy()
        rows[at + 1 :, at + 1 :] -= rows[at + 1 :, at, None] * rows[at, at + 1 :]
    for at in range(5, 0, -1):
        rows[:at, 6:] -= rows[:at, at, None] * rows[at, 6:]
    return rows[:, 6:].transpose(2, 0, 1)


def _spread(residual: Float32s, use: Float32s, noise: Float32s) -> Float32s:
    """Return the standard deviation of residuals (n,), outliers cut down to Huber's limit."""
    cut = np.minimum(np.abs(residual), _HUBER * noise[:, None]) * use
    freedom = np.maximum(use.sum(axis=1) - 4, 3)
    return np.asarray(np.maximum(np.sqrt((cut * cut).sum(axis=1) / freedom), _NOISE_FLOOR), np.float32)
