"""The crack drawn over its photo."""

import numpy as np
import pytest

from cracktool.overlay import COLOUR, draw_overlay


def test_line_around_and_tint_inside():
    photo = np.full((60, 80, 3), 120, np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[20:30, 10:70] = True
    drawn = draw_overlay(photo, mask)
    assert tuple(drawn[19, 40]) == tuple(drawn[30, 40]) == COLOUR
    assert drawn[25, 40].tolist() == [167, 78, 148]
    assert (drawn[:15] == 120).all()
    assert (photo == 120).all()


@pytest.mark.parametrize("side", [50, 3000])
def test_a_hairline_is_seen_at_any_size(side):
    photo = np.full((side, 60, 3), 120, np.uint8)
    mask = np.zeros((side, 60), bool)
    mask[:, 30] = True
    coloured = (draw_overlay(photo, mask) != 120).any(axis=2).sum(axis=1)
    assert (coloured >= max(3, side / 400)).all()


def test_no_crack_no_change():
    photo = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(draw_overlay(photo, np.zeros((4, 5), bool)), photo)


def test_the_photo_grows_to_the_mask():
    photo = np.full((30, 40, 3), 120, np.uint8)
    mask = np.zeros((120, 160), bool)
    mask[40:60, 20:140] = True
    drawn = draw_overlay(photo, mask)
    assert drawn.shape == (120, 160, 3)
    assert tuple(drawn[39, 80]) == COLOUR
    assert drawn[50, 80].tolist() == [167, 78, 148]
