"""Degradation: kernels of the stated law, blur and bicubic at the stated places, the same for the same seed."""

import numpy as np
import pytest

from cracktool import degradation
from cracktool.degradation import KERNEL_SIDE, degrade, degrade_randomly, random_kernel
from cracktool.errors import UsageError


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tap(dy=0, dx=0):
    kernel = np.zeros((KERNEL_SIDE, KERNEL_SIDE), np.float32)
    kernel[10 + dy, 10 + dx] = 1
    return kernel


class Drawn:
    """A generator that draws what it is told to."""

    def __init__(self, *values):
        self.values = list(values)

    def uniform(self, low, high, size=None):
        return self.values.pop(0)


def covariance(kernel):
    y, x = np.mgrid[-10:11, -10:11]
    return np.array([[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)])


def bicubic_by_hand(image):
    taps = np.array([-3, 19, 19, -3]) / 32  # Keys' cubic with a = -0.75, half a pixel from the middle two
    height, width = image.shape[0] // 4, image.shape[1] // 4
    blocks = image[: 4 * height, : 4 * width].reshape(height, 4, width, 4, 3).astype(float)
    return np.einsum("iajbc,a,b->ijc", blocks, taps, taps)


def test_kernels_sum_to_one_and_follow_the_seed():
    first, again, other = (random_kernel(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.shape == (21, 21)
    assert first.dtype == np.float32
    assert first.sum() == pytest.approx(1, abs=1e-6)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.allclose(first, first[::-1, ::-1])


def test_a_generator_goes_on_from_kernel_to_kernel():
    rng = np.random.default_rng(5)
    assert not np.array_equal(random_kernel(rng), random_kernel(rng))


def test_sigma_is_in_pixels():
    assert covariance(random_kernel(Drawn((2.0, 2.0), 1.0))) == pytest.approx(4 * np.eye(2), abs=0.01)


@pytest.mark.parametrize(
    ("angle", "expected"), [(0, [[4, 0], [0, 1]]), (np.pi / 2, [[1, 0], [0, 4]]), (np.pi / 4, [[2.5, 1.5], [1.5, 2.5]])]
)
def test_axes_turn_by_the_angle(angle, expected):
    assert covariance(random_kernel(Drawn((2.0, 1.0), angle))) == pytest.approx(np.array(expected), abs=0.02)


def test_kernels_fill_their_range(monkeypatch):
    monkeypatch.setattr(degradation, "SIGMA", (0.5, 2))
    rng = np.random.default_rng(1)
    shapes = np.array([covariance(random_kernel(rng)) for _ in range(300)])
    sigma = np.sqrt(np.linalg.eigvalsh(shapes))
    assert sigma.min() > 0.4
    assert sigma.max() < 2.01
    assert sigma[:, 0].min() < 0.6
    assert sigma[:, 1].max() > 1.9
    assert (sigma[:, 1] - sigma[:, 0]).max() > 1
    assert shapes[:, 0, 1].min() < -0.5
    assert shapes[:, 0, 1].max() > 0.5


def test_without_blur_it_is_bicubic_in_the_middle_of_four_by_four_pixels():
    image = noise(15, 22)  # the last three rows and two columns are left out
    before = image.copy()
    small = degrade(image, tap())
    assert small.shape == (3, 5, 3)
    assert small.dtype == np.uint8
    assert np.abs(small - np.clip(bicubic_by_hand(image), 0, 255)).max() <= 0.51
    assert np.array_equal(image, before)


def test_what_overshoots_is_clipped():
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, 1::4] = stripes[:, 2::4] = 255
    assert (degrade(stripes, tap()) == 255).all()
    assert (degrade(255 - stripes, tap()) == 0).all()


def test_the_kernel_is_not_turned():
    image = noise(40, 40)
    moved = degrade(image, tap(dy=4, dx=-8))
    assert np.array_equal(moved[:-1, 2:], degrade(image, tap())[1:, :-2])


def test_borders_are_mirrored():
    grey = np.full((64, 64, 3), 200, np.uint8)
    assert (degrade(grey, random_kernel(Drawn((3.0, 3.0), 0.0))) == 200).all()


def test_a_degradation_is_its_two_steps():
    image = noise(64, 48)
    small, kernel = degrade_randomly(image, np.random.default_rng(7))
    assert np.array_equal(kernel, random_kernel(np.random.default_rng(7)))
    assert np.array_equal(small, degrade(image, kernel))


@pytest.mark.parametrize("shape", [(3, 40), (40, 3)])
def test_photos_too_small_to_shrink(shape):
    with pytest.raises(UsageError, match=f"a photo of {shape[1]} x {shape[0]} px cannot be shrunk"):
        degrade(noise(*shape), tap())
