"""Damped least squares for many profiles at once: the model of a crack's profile, and steps towards the best of it.

Arrays in and out; where to start, which noise to count with and what the result means is said in `profiles`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cracktool.measuring.priors import Float32s
from cracktool.measuring.rows import Rows

_DAMPING = 0.001  # more of it shortens steps along the valley of r and w
HUBER = 2.5  # residuals beyond that many standard deviations count linearly: stains, aggregate, other cracks
_TAIL = (np.array([0.4361836, -0.1201676, 0.9372980]) / math.sqrt(2 * math.pi)).astype(np.float32)
_LIMITS = np.array([[0, 255], [-20, 20], [-999, 999], [-4, 9], [-1.6, 3], [-3, 0.2]], np.float32)
B0, B1, C, W, SIGMA, R = range(6)
_DIAGONAL = np.arange(6)


@dataclass(eq=False)
class Place(Rows):
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


@dataclass(eq=False)
class Problem(Rows):
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

    def at(self, theta: Float32s) -> Place:
        """Return what there is to know at `theta`."""
        rows = _model(theta, self.s)  # (7, n, S)
        residual = np.subtract(self.y, rows[6], out=rows[6])
        weight, cost = self._weighed(residual)
        weight /= (self.noise * self.noise)[:, None]
        products = np.asarray((rows[:6] * weight).transpose(1, 0, 2) @ rows.transpose(1, 2, 0), np.float32)
        return Place(theta, residual, products, cost + self._strain(theta)[1])

    def equations(self, place: Place) -> tuple[Float32s, Float32s]:
        """Return normal matrix (n, 6, 6) and downhill gradient (n, 6)."""
        normal = place.products[:, :, :6].copy()
        normal[:, _DIAGONAL, _DIAGONAL] += self.precision
        return normal, place.products[:, :, 6] + self._strain(place.theta)[0]

    def becomes(self, noise: Float32s, place: Place) -> None:
        """Take another noise; which samples count as outliers is looked at anew at the next place."""
        place.products *= ((self.noise / noise) ** 2)[:, None, None]
        self.noise = noise
        place.cost = self._weighed(place.residual)[1] + self._strain(place.theta)[1]

    def _weighed(self, residual: Float32s) -> tuple[Float32s, Float32s]:
        """Return the weights of samples (n, S) and what their residuals cost (n,), both after Huber."""
        normalised = np.abs(residual)
        normalised *= self.use
        normalised /= self.noise[:, None]
        weight = np.asarray(HUBER / np.maximum(normalised, HUBER), np.float32)
        once = weight * normalised
        normalised *= 2
        normalised -= once
        weight *= self.use
        return weight, np.einsum("ns,ns->n", once, normalised)

    def _strain(self, theta: Float32s) -> tuple[Float32s, Float32s]:
        """Return how the prior pulls at the parameters, (n, 6), and what their distance from it costs, (n,)."""
        off = self.mean - theta
        off[:, W] = 0  # its precision only keeps the matrix regular
        pull = self.precision * off
        return pull, np.einsum("np,np->n", pull, off)


def descend(problem: Problem, place: Place, rounds: int, tolerance: float) -> None:
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


def _model(theta: Float32s, s: Float32s) -> Float32s:
    """Return derivatives by the six parameters, and the profile itself as the seventh row, (7, n, S)."""
    b0, b1, c = theta.T[:W, :, None]
    width, sigma, r = np.exp(theta.T[W:])[..., None]
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
    np.multiply(covered, -depth, out=rows[R])
    np.multiply(covered, -r, out=rows[B0])
    rows[B0] += 1
    rows[B1] = s
    np.subtract(density[0], density[1], out=rows[C])
    rows[C] *= slope * inverse
    np.add(density[0], density[1], out=rows[W])
    rows[W] *= -slope * half
    edges *= density
    np.subtract(edges[0], edges[1], out=rows[SIGMA])
    rows[SIGMA] *= slope
    np.multiply(b1, s, out=rows[6])
    rows[6] += b0
    rows[6] += rows[R]
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


def _next_step(normal: Float32s, gradient: Float32s, damping: Float32s) -> Float32s:
    normal[:, _DIAGONAL, _DIAGONAL] *= 1 + damping[:, None]
    step = solve(normal, gradient[:, :, None])[:, :, 0]
    step[:, C] = np.clip(step[:, C], -2, 2)
    step[:, W:] = np.clip(step[:, W:], -0.7, 0.7)
    return step


def solve(normal: Float32s, right: Float32s) -> Float32s:
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
