"""What the profiles of a photo say together of its cracks: a prior for the photo, a narrower one for each crack.

Fits in, priors out. One profile of a narrow crack hardly tells its depth from its width; many of the same crack do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cracktool.measuring.priors import Float32s, Prior, Priors
from cracktool.measuring.profiles import ProfileFit

_TELLING = 25  # profiles of a photo; fewer that show depth or blur by themselves leave its prior as it is
_LEAST = 8  # profiles of one crack that are worth a prior of their own
_DECIDED = 0.5  # of the prior's standard deviation of log depth
_SHARED = 7.0  # profiles that count as one: neighbours share noise, and no crack is as even as the model has it
_WITHIN = (0.15, 0.1)  # standard deviations of log blur and log depth along one crack, at least


def learn_prior(fit: ProfileFit, prior: Prior) -> Prior:
    """Return the prior narrowed by the profiles of the same photo that show depth and blur by themselves.

    How far the texture's noise hangs together is learnt from what all fits leave over.

    Args:
        fit: Fits under `prior`.
        prior: What was known before.
    """
    strong = fit.contrast > 8

    def narrowed(value: Float32s, std: Float32s, before: tuple[float, float], floor: float) -> tuple[float, float]:
        telling = np.log(value[strong & (std < before[1] / 2)])
        if len(telling) < _TELLING:
            return before
        middle = float(np.median(telling))
        spread = 1.48 * float(np.median(np.abs(telling - middle)))
        return float(np.exp(middle)), min(float(np.hypot(spread, floor)), before[1])

    correlation = prior.correlation
    if len(fit.similarity) >= _TELLING:
        # Noise of which each sample resembles the one before it, AR(1). The fit has taken a part of the likeness away:
        # about the number of parameters over twice the number of samples.
        alike = float(np.clip(fit.similarity.mean() + 0.12, 0.0, 0.75))
        correlation = (1 + alike) / (1 - alike)
    return Prior(
        depth=narrowed(fit.depth, fit.depth_std, prior.depth, _WITHIN[1]),
        blur=narrowed(fit.blur, fit.blur_std, prior.blur, _WITHIN[0]),
        correlation=correlation,
    )


def undecided(fit: ProfileFit, prior: Prior, group: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which profiles are of cracks that are too narrow to show their depth in one profile, (N,)."""
    _, member = np.unique(group, return_inverse=True)
    mean = np.bincount(member, fit.depth_std) / np.maximum(np.bincount(member), 1)
    return np.asarray(mean[member] > _DECIDED * prior.depth[1], np.bool_)


def learn_priors(
    fit: ProfileFit, fitted: Priors, prior: Prior, group: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], Priors]:
    """Return the cracks, ascending, and what is known of each: the photo's prior, and what its own profiles say.

    Each fit's posterior of log blur and log depth is a normal distribution (Laplace). Divided by the prior it was made
    under, it is what the profile itself says; these are multiplied with the photo's prior.

    Args:
        fit: Fits of some profiles.
        fitted: What they were made under.
        prior: What is known of the photo; all that is known of cracks with too few profiles.
        group: Number of the crack of each of these profiles.
    """
    cracks, crack = np.unique(group, return_inverse=True)
    good = fit.contrast > 3 * np.sqrt(prior.correlation)
    precision, placed = (np.zeros((len(cracks), *shape)) for shape in ((2, 2), (2,)))
    for result, said in zip((precision, placed), _said(fit, fitted), strict=True):
        for column in np.ndindex(*said.shape[1:]):
            result[(..., *column)] = np.bincount(crack[good], said[(good, *column)], len(cracks)) / _SHARED
    before = np.diag([prior.blur[1] ** -2, prior.depth[1] ** -2])
    precision += before
    placed += before @ np.log([prior.blur[0], prior.depth[0]])
    mean = np.exp(np.linalg.solve(precision, placed[..., None])[..., 0]).astype(np.float32)
    std = np.sqrt(np.einsum("nii->ni", np.linalg.inv(precision)))
    std = np.minimum(np.hypot(std, _WITHIN), [prior.blur[1], prior.depth[1]]).astype(np.float32)
    learnt = prior.repeated(len(cracks))
    enough = np.bincount(crack[good], minlength=len(cracks)) >= _LEAST
    learnt[enough] = Priors(mean[enough, 1], std[enough, 1], mean[enough, 0], std[enough, 0], prior.correlation)
    return cracks, learnt


def _said(fit: ProfileFit, prior: Priors) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return what profiles say of (log blur, log depth) without their priors: precisions and precisions times means."""
    blur, depth, both = (each.astype(np.float64) for each in (fit.blur_std**2, fit.depth_std**2, fit.blur_depth))
    precision = np.empty((len(blur), 2, 2))
    precision[:, 0, 0], precision[:, 1, 1], precision[:, 0, 1] = depth, blur, -both
    precision[:, 1, 0] = -both
    precision /= (blur * depth - both * both)[:, None, None]
    mean = np.log(np.column_stack([fit.blur, fit.depth]).astype(np.float64))
    centre = np.log(np.column_stack([prior.blur, prior.depth]).astype(np.float64))
    before = np.column_stack([prior.blur_std, prior.depth_std]).astype(np.float64) ** -2
    placed = (precision * mean[:, None]).sum(axis=2) - before * centre
    precision[:, [0, 1], [0, 1]] -= before
    return precision, placed
