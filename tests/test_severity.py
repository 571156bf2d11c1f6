"""Severity: the limits of the standards, inclusive or not, the user's own files, and their mistakes."""

import pytest

from cracktool.errors import UsageError
from cracktool.measuring import list_severities, read_severity

OWN = """
name = "ours"
version = "3"
standard = "Handbook 2026"
statistic = "p95"

[[classes]]
label = "fine"
below = 1

[[classes]]
label = "wide"
"""


def test_the_profiles_that_ship():
    assert list_severities() == ("aci224r", "astm-d6433-asphalt", "astm-d6433-concrete", "en1992-1-1")
    for name in list_severities():
        profile = read_severity(name)
        assert profile.version
        assert "Check against your edition" in profile.note
        assert profile.classes[-1].limit == float("inf")


@pytest.mark.parametrize(
    ("name", "width", "label"),
    [
        ("astm-d6433-asphalt", 9.99, "low"),
        ("astm-d6433-asphalt", 10, "medium"),
        ("astm-d6433-asphalt", 75, "medium"),
        ("astm-d6433-asphalt", 75.1, "high"),
        ("astm-d6433-concrete", 12.9, "low"),
        ("astm-d6433-concrete", 13, "medium"),
        ("astm-d6433-concrete", 50.1, "high"),
        ("en1992-1-1", 0.2, "up to 0.2 mm"),
        ("en1992-1-1", 0.21, "up to 0.3 mm"),
        ("en1992-1-1", 0.4, "up to 0.4 mm"),
        ("en1992-1-1", 0.41, "above 0.4 mm"),
        ("aci224r", 0.1, "up to 0.10 mm"),
        ("aci224r", 0.17, "up to 0.18 mm"),
        ("aci224r", 0.41, "up to 0.41 mm"),
        ("aci224r", 0.5, "above 0.41 mm"),
    ],
)
def test_limits(name, width, label):
    assert read_severity(name).classify(width).label == label


def test_an_interval_over_a_limit_is_uncertain():
    profile = read_severity("en1992-1-1")
    unsure = profile.classify(0.29, 0.19, 0.42)
    assert unsure.label == "up to 0.3 mm"
    assert unsure.possible == ("up to 0.2 mm", "up to 0.3 mm", "up to 0.4 mm", "above 0.4 mm")
    assert profile.classify(0.29, 0.25, 0.30).possible == (profile.classify(0.29).label,)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "ours.toml"
    path.write_text(OWN)
    profile = read_severity(path)
    assert (profile.name, profile.version, profile.statistic) == ("ours", "3", "p95")
    assert profile.classify(1).label == "wide"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("below = 1", "below = -1", "the limit of class 1 is -1"),
        ("below = 1", "under = 1", "class 1 takes a label and below or up_to"),
        ("below = 1", "below = 1\nup_to = 2", "class 1 needs one of below and up_to"),
        ('"wide"', '"wide"\nbelow = 9', "class 2 needs no limit"),
        ('"p95"', '"p90"', "statistic is 'p90'"),
        ('version = "3"', "version = 3", "'version' is missing or not a text"),
        ("standard", "standrad", "did you mean standard"),
        ('[[classes]]\nlabel = "wide"', "", "two [[classes]]"),
        ("name =", "name", "not valid TOML"),
        (
            '[[classes]]\nlabel = "wide"',
            '[[classes]]\nlabel = "mid"\nbelow = 1\n[[classes]]\nlabel = "wide"',
            "do not grow",
        ),
    ],
)
def test_mistakes_in_a_file(tmp_path, old, new, reason):
    path = tmp_path / "ours.toml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(UsageError) as caught:
        read_severity(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


def test_unknown_names(tmp_path):
    with pytest.raises(UsageError, match="did you mean en1992-1-1"):
        read_severity("en1992")
    with pytest.raises(UsageError, match="cannot be read"):
        read_severity(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_severity(tmp_path / "latin.toml")
