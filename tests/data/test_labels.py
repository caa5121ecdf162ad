"""Labels that may not be what they seem."""

import pytest

from regard.data.labels import describe_alike, describe_scale


@pytest.mark.parametrize(
    ("one", "other"),
    [("pos", "pos\u200b"), ("caf\u00e9", "cafe\u0301"), ("very good", "very  good"), ("1", "01")],
)
def test_labels_that_look_the_same_are_named_so_that_they_differ(one, other):
    (sentence,) = describe_alike([one, "x", other, "y"])
    first, second = sorted([one, other])
    assert f"look the same: {first!a} and {second!a}.  Each is one label." in sentence


def test_labels_of_different_looks_are_not_alike():
    assert describe_alike(["a", "b", "0", "10", "1", "-1", "1.5", "01x"]) == []


def test_many_numbers_with_fractions_and_many_dates_are_hardly_classes():
    assert "20 different numbers" in describe_scale(f"-0.{n}5" for n in range(20))[0]
    assert "20 different dates" in describe_scale(f"2024-01-{n}" for n in range(10, 30))[0]
    assert describe_scale(map(str, range(40))) == []  # codes, as of products
    assert describe_scale(["0.5", "1.5", "-1"]) == []
