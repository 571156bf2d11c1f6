"""The family of errors: one line each, an exit code, and safe passage between processes."""

import copy
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cracktool import errors
from cracktool.errors import (
    CrackError,
    InputError,
    OutputError,
    UsageError,
    WeightsError,
    check_name,
    choose_names,
    did_you_mean,
)

KINDS = (CrackError, InputError, OutputError, UsageError, WeightsError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CrackError("is empty"), "is empty"),
        (CrackError("is empty", path="a.jpg"), "a.jpg: is empty"),
        (CrackError("is empty", path=Path("b") / "a.jpg"), "b/a.jpg: is empty"),
        (CrackError("is empty", remedy="try b"), "is empty (try b)"),
        (CrackError("is empty", path="a.jpg", remedy="try b"), "a.jpg: is empty (try b)"),
        (CrackError("two\n  lines", remedy="and\ttabs"), "two lines (and tabs)"),
        (CrackError("is empty", path="two  spaces.jpg"), "two  spaces.jpg: is empty"),  # a name is not touched
        (CrackError("is empty", path="two\nlines.jpg"), "two lines.jpg: is empty"),
        (CrackError("is empty", path=""), ": is empty"),
    ],
)
def test_text(error, text):
    assert str(error) == text


@given(reason=st.text(), path=st.none() | st.text(), remedy=st.text())
def test_always_one_line(reason, path, remedy):
    assert len(str(CrackError(reason, path=path, remedy=remedy)).splitlines()) <= 1


def test_every_class_is_tested_and_drawn_in_the_docstring():
    found = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CrackError)}
    assert found == set(KINDS)
    assert all(kind.__name__ in errors.__doc__ for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_exit_code(kind):
    assert kind("x").exit_code == (2 if kind is UsageError else 1)
    assert issubclass(kind, CrackError)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_everything(kind, protocol):
    error = kind("is empty", path=Path("a b.jpg"), remedy="try c")
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is kind
    assert (back.reason, back.path, back.remedy) == ("is empty", Path("a b.jpg"), "try c")
    assert str(back) == str(error) == str(copy.deepcopy(error))


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("unet_resnet81", "did you mean unet_resnet18, unet_resnet34?"),
        ("hrnet", "did you mean hrnet?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_did_you_mean(word, answer):
    assert did_you_mean(word, ["unet_resnet18", "unet_resnet34", "hrnet"]) == answer


def test_did_you_mean_takes_any_iterable_and_names_three_at_most():
    assert did_you_mean("abc1", (f"abc{number}" for number in range(2, 9))).count(",") == 2
    assert did_you_mean("a", []) == ""


def test_names_that_are_not_known_are_refused_with_the_nearest_or_all():
    check_name("loss", "dice", ["bce", "dice"])
    with pytest.raises(UsageError, match=r"^no loss 'dicce' \(did you mean dice\?\)$"):
        check_name("loss", "dicce", ["bce", "dice"])
    with pytest.raises(UsageError, match=r"^no loss 'hinge' \(use auto, bce, dice\)$"):
        check_name("loss", "hinge", ["bce", "dice"], also="auto")


def test_chosen_names_come_once_in_their_order():
    assert choose_names("fruit", ["pear", "all", "pear"], ["apple", "pear"]) == ("pear", "apple")
    assert choose_names("fruit", [], ["apple"]) == ()
    with pytest.raises(UsageError, match=r"^no fruit 'kiwi' \(use all, apple\)$"):
        choose_names("fruit", ["all", "kiwi"], ["apple"])
