"""Where tiles start and how they are weighted."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cracktool.errors import UsageError
from cracktool.tiles import plan_axis, plan_even

axes = st.builds(
    lambda length, tile, overlap, power: (length, tile, overlap, 2**power),
    length=st.integers(1, 3000),
    tile=st.integers(1, 700),
    overlap=st.floats(0, 0.9),
    power=st.integers(0, 6),
)


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "stride", "side", "starts"),
    [
        (1, 512, 0.25, 32, 32, (0,)),
        (512, 512, 0.25, 32, 512, (0,)),
        (500, 512, 0.25, 32, 512, (0,)),  # one padded tile, not two
        (513, 512, 0.25, 32, 512, (0, 32)),
        (1000, 512, 0.25, 32, 512, (0, 256, 512)),
        (1000, 500, 0.25, 32, 512, (0, 256, 512)),  # rounded up to the stride
        (100, 50, 0.0, 1, 50, (0, 50)),
        (101, 50, 0.0, 1, 50, (0, 25, 51)),
        (60, 20, 0.5, 10, 20, (0, 10, 20, 30, 40)),
        (96, 32, 0.9, 32, 32, (0, 32, 64)),  # a tile of one stride cannot overlap
    ],
)
def test_places(length, tile, overlap, stride, side, starts):
    axis = plan_axis(length, tile=tile, overlap=overlap, stride=stride)
    assert (axis.tile, axis.starts) == (side, starts)


@given(axes)
@settings(max_examples=200, deadline=None)
def test_tiles_cover_the_side_with_the_overlap_asked_for(case):
    length, tile, overlap, stride = case
    axis = plan_axis(length, tile=tile, overlap=overlap, stride=stride)
    steps = [right - left for left, right in pairwise(axis.starts)]
    assert axis.starts[0] == 0
    assert length <= axis.padded < length + stride
    assert axis.tile <= max(tile + stride - 1, stride)
    assert all(start % stride == 0 for start in (*axis.starts, axis.tile))
    assert all(0 < step <= max(axis.tile * (1 - overlap) + 1e-6, stride) for step in steps)
    assert not steps or max(steps) - min(steps) <= stride


@given(axes)
@settings(max_examples=100, deadline=None)
def test_weights_sum_to_one_and_switch_once(case):
    length, tile, overlap, stride = case
    axis = plan_axis(length, tile=tile, overlap=overlap, stride=stride)
    weights = axis.weights()
    total = np.zeros(axis.padded)
    for start, row in zip(axis.starts, weights, strict=True):
        total[start : start + axis.tile] += row
    assert np.abs(total - 1).max() < 1e-6
    assert weights.min() >= 0
    assert weights[0, 0] == 1
    assert weights[-1, -1] == 1
    for row in weights:  # up, then down: never two humps
        peak = row.argmax()
        assert (np.diff(row[: peak + 1]) >= 0).all()
        assert (np.diff(row[peak:]) <= 0).all()


@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.75])
def test_the_quarter_at_an_inner_edge_counts_nothing(overlap):
    axis = plan_axis(4000, tile=128, overlap=overlap, stride=4)
    weights = axis.weights()
    for index in range(1, len(axis.starts)):
        shared = axis.starts[index - 1] + axis.tile - axis.starts[index]
        margin = int(shared / 4)
        assert margin >= 128 * overlap / 4
        assert not weights[index, :margin].any()
        assert not weights[index - 1, axis.tile - margin :].any()


def test_weights_between_two_tiles():
    weights = plan_axis(24, tile=16, overlap=0.5, stride=1).weights()  # they share pixels 8 to 16
    assert weights[0, :10].tolist() == [1] * 10
    assert weights[0, 14:].tolist() == [0, 0]
    assert weights[0, 10:14] == pytest.approx([0.96194, 0.69134, 0.30866, 0.03806], abs=1e-5)
    assert weights[1] == pytest.approx(weights[0, ::-1])


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0.25), (-5, 0.25), (64, -0.1), (64, 0.95), (64, float("nan"))])
def test_refuses(tile, overlap):
    with pytest.raises(UsageError):
        plan_axis(100, tile=tile, overlap=overlap, stride=8)


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(1, 20_000),
    most=st.integers(64, 2048),
    halo=st.integers(0, 300),
    stride=st.sampled_from([1, 4, 32]),
)
def test_even_tiles_share_the_halo_and_little_more(length, most, halo, stride):
    axis = plan_even(length, most=most, halo=halo, stride=stride)
    assert axis.starts[0] == 0
    assert axis.padded == -(-length // stride) * stride
    assert axis.tile <= max(most // stride, 2) * stride
    assert all(start % stride == 0 for start in axis.starts)
    shared = [left + axis.tile - right for left, right in zip(axis.starts, axis.starts[1:], strict=False)]
    wanted = min(-(-halo // stride), max(most // stride, 2) - 1) * stride
    assert all(wanted <= each <= wanted + 2 * stride + axis.tile / len(axis.starts) for each in shared)
    assert np.allclose(sum_of_weights(axis), 1)


def sum_of_weights(axis):
    total = np.zeros(axis.padded)
    for start, weights in zip(axis.starts, axis.weights(), strict=True):
        total[start : start + axis.tile] += weights
    return total


def test_even_tiles_cost_the_same_per_pixel_in_small_and_large_photos():
    costs = []
    for side in (1000, 3000, 10_000, 31_600):
        axis = plan_even(side, most=1024, halo=128, stride=32)
        costs.append((len(axis.starts) * axis.tile / side) ** 2)
    assert max(costs) < 1.4  # of which (1024 / 896)^2 are owed to the halo
    fixed = plan_axis(1000, tile=512, overlap=0.25, stride=32)
    assert (len(fixed.starts) * fixed.tile / 1000) ** 2 > 2
