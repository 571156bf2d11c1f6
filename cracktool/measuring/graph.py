"""Graph of a skeleton: branches between ends and junctions, without the spurs that thinning leaves.

Pixels in, polylines of pixels out; knows nothing about masks, smoothing or units.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from cracktool.linking import lowest_linked
from cracktool.measuring.components import Floats, Ints
from cracktool.measuring.skeleton import Skeleton

_AHEAD = ((0, 1), (1, 0), (1, -1), (1, 1))  # half of the eight neighbours, those beside and below first


@dataclass(eq=False)
class Branch:
    """A piece of centre line between two nodes.

    Args:
        path: float64 (N, 2), N >= 2, rows (y, x), from the node `start` to the node `end`.
        half_width: (N,), same unit.
        start: Number of the node it starts at; equal to `end` for a closed loop.
        end: Number of the node it ends at.
    """

    path: Floats
    half_width: Floats
    start: int
    end: int

    @property
    def length(self) -> float:
        """Steps of 1 and sqrt 2 added up: for decisions here, not for reports."""
        return float(np.hypot(*np.diff(self.path, axis=0).T).sum())

    def turned(self) -> Branch:
        """Return the same piece from its end to its start."""
        return Branch(self.path[::-1], self.half_width[::-1], self.end, self.start)


@dataclass(eq=False)
class Graph:
    """Branches of one part of the mask; a node is what branches name as their start or end.

    Args:
        branches: In no particular order.
    """

    branches: list[Branch] = field(default_factory=list)

    @property
    def degree(self) -> Counter[int]:
        """How many ends of branches meet at each node: 1 at a free end, 3 or more at a junction."""
        return Counter(node for branch in self.branches for node in (branch.start, branch.end))

    @property
    def junctions(self) -> int:
        """Nodes where three or more ends of branches meet."""
        return sum(count > 2 for count in self.degree.values())

    @property
    def loops(self) -> int:
        """Independent closed ways: branches - nodes + pieces (Euler)."""
        nodes, link = np.unique([(branch.start, branch.end) for branch in self.branches], return_inverse=True)
        pieces = np.unique(lowest_linked(len(nodes), link))
        return len(self.branches) - len(nodes) + len(pieces)


def trace_graphs(skeleton: Skeleton) -> dict[int, Graph]:
    """Return the graph of each part, by the part's number, spurs pruned; coordinates are the skeleton's own.

    A spur is a branch with a free end that is shorter than the crack it comes from is wide: thinning makes one at every
    bump of a rough edge. A branch between two junctions that is shorter than the local width is one junction that
    thinning has torn in two.
    """
    branches = _walk(skeleton)
    parts: dict[int, Graph] = defaultdict(Graph)
    for part, branch in branches:
        parts[part].branches.append(branch)
    for graph in parts.values():
        if len(graph.branches) > 1:
            _prune(graph)
    return dict(parts)


def _links(pixels: Ints) -> tuple[Ints, Ints]:
    """Return the pairs of neighbouring pixels; a diagonal only where no way over a pixel beside them exists."""
    if not len(pixels):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    width = int(pixels[:, 1].max()) + 3
    key = pixels[:, 0] * width + pixels[:, 1] + 1

    def find(dy: int, dx: int) -> Ints:
        wanted = key + dy * width + dx
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        return np.where(key[at] == wanted, at, -1)

    pairs = []
    for dy, dx in _AHEAD:
        other = find(dy, dx)
        linked = other >= 0
        if dy and dx:
            linked &= (find(dy, 0) < 0) & (find(0, dx) < 0)
        pairs.append(np.column_stack([np.flatnonzero(linked), other[linked]]))
    one, two = np.concatenate(pairs).T
    return one, two


def _walk(skeleton: Skeleton) -> list[tuple[int, Branch]]:
    """Follow the chains of pixels from node to node; a node is a cluster of pixels with other than two neighbours."""
    pixels = skeleton.pixels
    one, two = _links(pixels)
    count = len(pixels)
    degree = np.bincount(np.concatenate([one, two]), minlength=count)
    crossing = degree > 2
    inner = crossing[one] & crossing[two]
    cluster = lowest_linked(count, np.column_stack([one[inner], two[inner]]))
    size = np.maximum(np.bincount(cluster), 1)
    place = np.column_stack([np.bincount(cluster, axis) for axis in pixels.T]) / size[:, None]
    steps: list[list[int]] = [[] for _ in range(count)]
    for a, b in zip(one[~inner].tolist(), two[~inner].tolist(), strict=True):
        steps[a].append(b)
        steps[b].append(a)
    is_node = (degree != 2).tolist()
    walks: list[list[int]] = []
    seen = bytearray(count)
    nodes = np.flatnonzero(degree != 2).tolist()
    for node in nodes:
        seen[node] = 1
    for node in nodes:
        for first in steps[node]:
            if not seen[first]:
                walks.append(_follow(node, first, steps, is_node, seen))
            elif is_node[first] and node < first:  # two nodes side by side
                walks.append([node, first])
    for pixel in range(count):  # what is left are closed loops without a node
        if not seen[pixel]:
            seen[pixel] = 1
            is_node[pixel] = True
            walks.append(_follow(pixel, steps[pixel][0], steps, is_node, seen))
    return [_branch(skeleton, walk, cluster, place) for walk in walks] + _lone(skeleton, degree, cluster)


def _follow(node: int, first: int, steps: list[list[int]], is_node: list[bool], seen: bytearray) -> list[int]:
    walk = [node, first]
    before, here = node, first
    while not is_node[here]:
        seen[here] = 1
        one, two = steps[here]
        before, here = here, two if one == before else one
        walk.append(here)
    return walk


def _branch(skeleton: Skeleton, walk: list[int], cluster: Ints, place: Floats) -> tuple[int, Branch]:
    path = skeleton.pixels[walk].astype(np.float64)
    start, end = int(cluster[walk[0]]), int(cluster[walk[-1]])
    path[0], path[-1] = place[start], place[end]  # the middle of the cluster
    return int(skeleton.part[walk[0]]), Branch(path, skeleton.half_width[walk], start, end)


def _lone(skeleton: Skeleton, degree: Ints, cluster: Ints) -> list[tuple[int, Branch]]:
    """Return the pixels without neighbours as branches of no length."""
    return [
        (
            int(skeleton.part[pixel]),
            Branch(
                np.repeat(skeleton.pixels[[pixel]].astype(np.float64), 2, axis=0),
                np.repeat(skeleton.half_width[[pixel]], 2),
                int(cluster[pixel]),
                -1 - int(pixel),  # a node of its own: this is no loop
            ),
        )
        for pixel in np.flatnonzero(degree == 0).tolist()
    ]


def _prune(graph: Graph) -> None:
    """Take spurs away until none is left, then contract torn junctions."""
    while len(graph.branches) > 1:
        degree = graph.degree
        spurs = [branch for branch in graph.branches if _is_spur(branch, degree)]
        if not spurs:
            break
        at_root: dict[int, list[Branch]] = defaultdict(list)
        for branch in sorted(spurs, key=lambda spur: -spur.length):
            at_root[branch.end if degree[branch.start] == 1 else branch.start].append(branch)
        # Where a crack ends like a fish tail, all goes, and its tip is found straight ahead. A star of spurs alone
        # keeps the two longest.
        gone = {
            id(branch)
            for root, found in at_root.items()
            for branch in (found if len(found) < degree[root] else found[2:])
        }
        if not gone:
            break
        graph.branches = [branch for branch in graph.branches if id(branch) not in gone]
        _join(graph)
    _contract(graph)
    _join(graph)


def _is_spur(branch: Branch, degree: Counter[int]) -> bool:
    free = (degree[branch.start] == 1, degree[branch.end] == 1)
    if free[0] == free[1]:
        return False
    root = branch.half_width[-1] if free[0] else branch.half_width[0]
    return bool(branch.length < 2 * root + 1)


def _contract(graph: Graph) -> None:
    """Make one node of two junctions whose link is shorter than the local width."""
    degree = graph.degree
    alias: dict[int, int] = {}

    def name(node: int) -> int:
        while node in alias:
            node = alias[node]
        return node

    kept = []
    for branch in graph.branches:
        torn = degree[branch.start] > 2 and degree[branch.end] > 2
        if torn and name(branch.start) != name(branch.end) and branch.length < 2 * branch.half_width.max() + 1:
            alias[name(branch.end)] = name(branch.start)
        else:
            kept.append(branch)
    for branch in kept:
        branch.start, branch.end = name(branch.start), name(branch.end)
    graph.branches = kept


def _join(graph: Graph) -> None:
    """Make one branch of two that meet where nothing else does."""
    around: dict[int, list[Branch]] = defaultdict(list)
    for branch in graph.branches:
        around[branch.start].append(branch)
        around[branch.end].append(branch)
    gone: set[int] = set()
    for node in list(around):
        pair = around[node]
        if len(pair) != 2 or pair[0] is pair[1]:
            continue
        one, two = pair
        one = one if one.end == node else one.turned()
        two = two if two.start == node else two.turned()
        whole = Branch(
            np.concatenate([one.path, two.path[1:]]),
            np.concatenate([one.half_width, two.half_width[1:]]),
            one.start,
            two.end,
        )
        _replace(around, whole, pair)
        gone |= {id(each) for each in pair}
        graph.branches.append(whole)
    graph.branches = [branch for branch in graph.branches if id(branch) not in gone]


def _replace(around: dict[int, list[Branch]], whole: Branch, pair: Iterable[Branch]) -> None:
    taken = {id(each) for each in pair}
    for node in {whole.start, whole.end}:
        around[node] = [branch for branch in around[node] if id(branch) not in taken]
    around[whole.start].append(whole)
    around[whole.end].append(whole)
