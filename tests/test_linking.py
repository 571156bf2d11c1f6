"""Linked things: the same groups as SciPy finds, long chains included."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cracktool.linking import lowest_linked, spans


@pytest.mark.parametrize("links", [0, 150, 400])
def test_linked_nodes_have_the_name_of_their_lowest(links):
    one, two = np.random.default_rng(links).integers(0, 300, (2, links))
    _, label = connected_components(coo_array((np.ones(links), (one, two)), shape=(300, 300)), directed=False)
    _, first = np.unique(label, return_index=True)
    assert lowest_linked(300, np.column_stack([one, two])).tolist() == first[label].tolist()


def test_a_long_chain_has_one_name():
    order = np.random.default_rng(0).permutation(10_000)
    assert not lowest_linked(10_000, np.column_stack([order[1:], order[:-1]])).any()


def test_without_things_or_links():
    assert lowest_linked(0, []).tolist() == []
    assert lowest_linked(2, []).tolist() == [0, 1]


def test_spans_are_those_of_ranges():
    first, count = np.random.default_rng(0).integers(0, 9, (2, 50))
    expected = [(span, number) for span in range(50) for number in range(first[span], first[span] + count[span])]
    assert list(zip(*(each.tolist() for each in spans(first, count)), strict=True)) == expected
