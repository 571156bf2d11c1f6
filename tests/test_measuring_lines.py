"""Parts, skeletons, graphs and lines of masks: exact shapes, and the same result whatever the tile or band."""

import cv2
import numpy as np
import pytest
from skimage.measure import label

from cracktool.measuring import skeleton as skeleton_module
from cracktool.measuring.components import find_components
from cracktool.measuring.graph import trace_graphs
from cracktool.measuring.instances import Ends, Kind, facing_ends, group_parts, main_way, name_kind
from cracktool.measuring.polylines import length, orientation, resample, smooth, tangents
from cracktool.measuring.skeleton import thin
from cracktool.thinning import thin_pixels


def scribble(seed, shape=(300, 420), count=12, thickness=7):
    rng = np.random.default_rng(seed)
    canvas = np.zeros(shape, np.uint8)
    for _ in range(count):
        points = rng.uniform(0, 1, (4, 2)) * shape[::-1]
        cv2.polylines(canvas, [points.astype(np.int32)], False, 1, int(rng.integers(1, thickness)))
    return canvas > 0


def mask_of(rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def graph_of(mask):
    components = find_components(mask)
    (skeleton,) = thin(mask, components, np.ones(components.count, bool))
    (graph,) = trace_graphs(skeleton).values()
    return graph


def test_parts_are_those_of_a_label_image():
    mask = np.random.default_rng(0).random((700, 90)) < 0.3  # over the border of a band of 512 rows
    components = find_components(mask)
    expected = label(mask, connectivity=2)
    pixels = np.argwhere(mask)
    assert components.count == expected.max()
    assert (components.part_at(pixels) == expected[mask] - 1).all()  # both in reading order
    assert (components.area == np.bincount(expected[mask])[1:]).all()
    for number in range(0, components.count, 50):
        at = np.argwhere(expected == number + 1)
        assert components.boxes[number].tolist() == [*at.min(axis=0), *(at.max(axis=0) + 1)]
        assert components.anchors[number].tolist() == at[0].tolist()


def test_places_without_a_part():
    components = find_components(mask_of(["##..", "...#"]))
    outside = np.array([[0, 2], [0, -1], [0, 4], [-1, 0], [2, 0], [1, 2]])
    assert components.part_at(outside).tolist() == [-1] * 6
    assert components.part_at(np.array([[0, 1], [1, 3]])).tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(0, 0), (3, 4)])
def test_no_crack_no_parts(shape):
    components = find_components(np.zeros(shape, bool))
    assert components.count == 0
    assert components.part_at(np.array([[0, 0]])).tolist() == [-1]


def test_a_shrunk_part_keeps_its_hairlines():
    mask = np.zeros((64, 64), bool)
    mask[10, 5:60] = True
    mask[0, 0] = True
    cells = find_components(mask).coarse(1, 8)
    assert cells.shape == (1, 7)
    assert cells.all()


def thinned_pixel_by_pixel(mask):
    """Guo and Hall's algorithm A1 as their paper states it, on all pixels in every turn."""
    pixels = np.pad(mask, 1)
    still = turn = 0
    while still < 2:
        gone = []
        for y, x in np.argwhere(pixels):
            p2, p3, p4 = pixels[y - 1, x], pixels[y - 1, x + 1], pixels[y, x + 1]
            p5, p6, p7 = pixels[y + 1, x + 1], pixels[y + 1, x], pixels[y + 1, x - 1]
            p8, p9 = pixels[y, x - 1], pixels[y - 1, x - 1]
            ways = sum((not a and (b or c)) for a, b, c in ((p2, p3, p4), (p4, p5, p6), (p6, p7, p8), (p8, p9, p2)))
            one = sum((p9 or p2, p3 or p4, p5 or p6, p7 or p8))
            two = sum((p2 or p3, p4 or p5, p6 or p7, p8 or p9))
            barred = ((p6 or p7 or not p9) and p8) if turn else ((p2 or p3 or not p5) and p4)
            if ways == 1 and 2 <= min(one, two) <= 3 and not barred:
                gone.append((y, x))
        for place in gone:
            pixels[place] = False
        turn, still = 1 - turn, 0 if gone else still + 1
    return pixels[1:-1, 1:-1]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_thinning_follows_its_paper_and_keeps_what_hangs_together(share):
    mask = np.random.default_rng(0).random((40, 53)) < share
    line = thin_pixels(mask)
    assert np.array_equal(line, thinned_pixel_by_pixel(mask))
    assert label(line, connectivity=2).max() == label(mask, connectivity=2).max()
    assert label(~np.pad(line, 1), connectivity=1).max() == label(~np.pad(mask, 1), connectivity=1).max()


def test_thinning_leaves_lines_and_makes_a_diagonal_of_two_pixels_one():
    line = np.eye(20, dtype=bool)
    assert np.array_equal(thin_pixels(line), line)
    assert thin_pixels(line | np.eye(20, k=1, dtype=bool)).sum() == 20
    assert not thin_pixels(np.zeros((3, 4), bool)).any()


def test_tiles_give_the_skeleton_of_the_whole(monkeypatch):
    mask = scribble(1)
    monkeypatch.setattr(skeleton_module, "_TILE", 64)
    monkeypatch.setattr(skeleton_module, "_HALO", 24)
    components = find_components(mask)
    (skeleton,) = thin(mask, components, np.ones(components.count, bool))
    found = np.zeros_like(mask)
    found[tuple(skeleton.pixels.T)] = True
    filled = mask.copy().astype(np.uint8)
    skeleton_module._fill_holes(filled)
    assert np.array_equal(found, thin_pixels(filled > 0))


def test_pinholes_make_no_loops():
    mask = np.zeros((30, 80), bool)
    mask[10:21, 5:75] = True
    mask[14:17, 30:32] = False
    graph = graph_of(mask)
    assert len(graph.branches) == 1
    assert graph.branches[0].length > 55
    mask[13:18, 30:40] = False  # but this is no pinhole
    assert graph_of(mask).loops == 1


def test_very_wide_parts_are_thinned_shrunk():
    mask = np.zeros((500, 900), bool)
    mask[100:400, 50:850] = True
    components = find_components(mask)
    usual, wide = thin(mask, components, np.ones(1, bool))
    assert len(usual.pixels) == 0
    assert wide.factor >= 4
    middle = wide.to_photo(wide.pixels.astype(float))
    central = (middle[:, 1] > 250) & (middle[:, 1] < 650)
    assert middle[central, 0] == pytest.approx(249.5, abs=wide.factor)
    assert wide.half_width[central] == pytest.approx(150, abs=wide.factor)


def y_junction(angle=40):
    canvas = np.zeros((200, 200), np.uint8)
    for turn in (0, 90 + angle, 270 - angle):
        t = np.radians(turn)
        cv2.line(canvas, (100, 100), (round(100 + 80 * np.cos(t)), round(100 + 80 * np.sin(t))), 1, 5)
    return canvas > 0


def test_three_arms_meet_once():
    graph = graph_of(y_junction())
    assert len(graph.branches) == 3
    assert graph.junctions == 1
    assert graph.loops == 0
    (centre,) = [node for node, count in graph.degree.items() if count == 3]
    for branch in graph.branches:
        path = branch.path if branch.start == centre else branch.turned().path
        assert np.hypot(*(path[0] - 100)) < 3
        assert branch.length == pytest.approx(80, abs=6)


def test_a_crossing_is_one_junction():
    canvas = np.zeros((200, 200), np.uint8)
    cv2.line(canvas, (20, 60), (180, 140), 1, 7)
    cv2.line(canvas, (20, 140), (180, 60), 1, 7)
    graph = graph_of(canvas > 0)
    assert len(graph.branches) == 4
    assert sorted(graph.degree.values()) == [1, 1, 1, 1, 4]


def test_a_ring_is_one_closed_branch():
    canvas = np.zeros((100, 100), np.uint8)
    cv2.circle(canvas, (50, 50), 30, 1, 3)
    graph = graph_of(canvas > 0)
    (branch,) = graph.branches
    assert branch.start == branch.end
    assert graph.loops == 1
    assert graph.junctions == 0


def test_bumps_are_no_branches():
    mask = np.zeros((60, 200), bool)
    mask[25:34, 10:190] = True
    mask[22:25, 60:64] = mask[34:38, 120:123] = True
    assert len(graph_of(mask).branches) == 1
    mask[5:25, 90:93] = True  # but this is longer than the crack is wide
    assert len(graph_of(mask).branches) == 3


def test_each_skeleton_pixel_is_on_a_branch():
    mask = scribble(3)
    components = find_components(mask)
    (skeleton,) = thin(mask, components, np.ones(components.count, bool))
    graphs = trace_graphs(skeleton)
    assert set(graphs) == set(range(components.count))
    walked = sum(branch.length for graph in graphs.values() for branch in graph.branches)
    assert walked == pytest.approx(1.15 * len(skeleton.pixels), rel=0.15)


def test_lines_keep_their_ends_and_length():
    line = np.array([[0.0, 0], [3, 4], [3, 10]])
    even = resample(line, 1.0)
    assert len(even) == 12
    assert np.array_equal(even[[0, -1]], line[[0, -1]])
    assert length(line) == 11
    straight = resample(np.array([[0.0, 0], [40, 30]]), 1.0)
    assert smooth(straight, 2.0) == pytest.approx(straight)


@pytest.mark.parametrize("angle", range(0, 95, 5))
def test_staircases_become_straight(angle):
    t = np.radians(angle)
    exact = np.arange(0, 100, 0.1)[:, None] * [np.sin(t), np.cos(t)]
    stairs = np.rint(exact)[np.r_[True, np.any(np.diff(np.rint(exact), axis=0), axis=1)]]
    line = smooth(resample(stairs, 1.0), 2.0)
    assert length(line) == pytest.approx(np.hypot(*(stairs[-1] - stairs[0])), rel=0.006)


def test_closed_lines_stay_closed():
    t = np.linspace(0, 2 * np.pi, 200)
    ring = 30 * np.column_stack([np.sin(t), np.cos(t)])
    ring[-1] = ring[0]
    after = smooth(ring, 2.0)
    assert after[0] == pytest.approx(after[-1])
    assert length(after) == pytest.approx(2 * np.pi * 30, rel=0.005)
    assert tangents(after)[0] == pytest.approx([1, 0], abs=0.02)


@pytest.mark.parametrize(("step", "degrees"), [((0, 1), 0), ((-1, 1), 45), ((1, -1), 45), ((1, 0), 90), ((1, 1), 135)])
def test_directions_have_no_head(step, degrees):
    line = np.array([[0.0, 0.0], step])
    assert orientation([line]) == (pytest.approx(degrees), pytest.approx(1))


def test_opposed_directions_cancel():
    cross = [np.array([[0.0, 0], [0, 9]]), np.array([[0.0, 0], [9, 0]])]
    assert orientation(cross)[1] == pytest.approx(0)
    assert orientation([np.zeros((2, 2))])[1] == 0
    east = [np.array([[0.0, 0], [1, 10]]), np.array([[0.0, 0], [-1, 10]])]  # 174 and 6 degrees: 0, not 90
    assert min(orientation(east)[0], 180 - orientation(east)[0]) == pytest.approx(0, abs=1e-6)


def ends(*rows):
    points, outward = np.array([row[:2] for row in rows], float), np.array([row[2:4] for row in rows], float)
    return Ends(points, outward, np.array([row[4] for row in rows]))


def test_ends_that_face_each_other_are_paired():
    facing = ends((0, 0, 0, 1, 0), (0, 8, 0, -1, 1))
    assert facing_ends(facing, reach=8.5) == [(0, 1)]
    assert facing_ends(facing, reach=7.5) == []
    assert facing_ends(facing, reach=0) == []


@pytest.mark.parametrize(
    "other",
    [(0, 8, 0, 1, 1), (0, 8, 1, 0, 1), (8, 0, -1, 0, 1), (0, 8, 0, -1, 0)],
    ids=["away", "aside", "beside", "own"],
)
def test_ends_that_do_not_face_each_other(other):
    assert facing_ends(ends((0, 0, 0, 1, 0), other), reach=10) == []


def test_an_end_is_bridged_once_to_the_nearest():
    three = ends((0, 0, 0, 1, 0), (0, 9, 0, -1, 1), (0.5, 5, 0, -1, 2))
    assert facing_ends(three, reach=20) == [(0, 2)]


def test_pairs_are_the_nearest_of_many():
    # Ends in couples, each pointing at the other, spread over more rows than are looked at together.
    rng = np.random.default_rng(0)
    left = np.column_stack([np.arange(3000) * 7.0, rng.uniform(0, 90, 3000)])[rng.permutation(3000)]
    points = np.concatenate([left, left + np.array([0, 5])])
    outward = np.repeat([[0.0, 1.0], [0.0, -1.0]], 3000, axis=0)
    found = facing_ends(Ends(points, outward, np.arange(6000)), reach=6)
    assert {tuple(sorted(pair)) for pair in found} == {(number, number + 3000) for number in range(3000)}


def test_groups_follow_the_bridges():
    assert group_parts(5, [(3, 1), (1, 4)]) == [[0], [1, 3, 4], [2]]
    assert group_parts(0, []) == []


def test_the_main_way_is_the_longest():
    assert main_way([(0, 1, 5.0), (1, 2, 7.0), (1, 3, 1.0)])[0] == 12
    assert set(main_way([(0, 1, 5.0), (1, 2, 7.0), (1, 3, 1.0)])[1:]) == {0, 2}
    assert main_way([(0, 1, 9.0), (0, 1, 4.0)])[0] == 4  # of two ways between two nodes the shorter one


NAMED = {"length": 100.0, "main_length": 100.0, "width": 3.0, "junctions": 0, "loops": 0, "ring": False, "angle": 90,
         "reference": 90}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Kind.LONGITUDINAL),
        ({"angle": 70}, Kind.LONGITUDINAL),
        ({"angle": 69}, Kind.DIAGONAL),
        ({"angle": 21}, Kind.DIAGONAL),
        ({"angle": 20}, Kind.TRANSVERSE),
        ({"angle": 175}, Kind.TRANSVERSE),
        ({"angle": 175, "reference": 0}, Kind.LONGITUDINAL),
        ({"junctions": 1, "main_length": 79}, Kind.BRANCHED),
        ({"junctions": 1, "main_length": 80}, Kind.LONGITUDINAL),
        ({"loops": 2, "junctions": 4, "main_length": 50}, Kind.NETWORK),
        ({"loops": 1, "junctions": 1}, Kind.LONGITUDINAL),
        ({"width": 51.0}, Kind.PATCH),
        ({"angle": float("nan")}, Kind.PATCH),
        ({"loops": 1, "ring": True, "angle": float("nan")}, Kind.RING),
        ({"loops": 1, "ring": True, "width": 51.0}, Kind.PATCH),
    ],
)
def test_types_follow_their_rules(changes, kind):
    assert name_kind(**(NAMED | changes)) is kind
