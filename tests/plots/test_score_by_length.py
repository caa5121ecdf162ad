"""Scores by the length of what a model read."""

import math

import pytest

from regard.plots.score_by_length import ScoreByLengthPicture


def picture(lengths, *scores, names=("chrF",)):
    return ScoreByLengthPicture.from_rows(
        lengths, scores, unit="words of the source", row="sentence", names=names
    )


def test_bins_hold_about_equal_numbers_of_rows():
    bins = picture(range(1, 161), range(160)).bins
    assert [each.num_rows for each in bins] == [20] * 8
    assert (bins[0].shortest, bins[0].longest, bins[7].longest) == (1, 20, 160)
    assert bins[0].means == [9.5]


def test_rows_of_one_length_stay_together():
    bins = picture([3] * 90 + [7] * 5 + [9] * 5, [50.0] * 100).bins
    assert [(each.shortest, each.longest, each.num_rows) for each in bins] == [
        (3, 3, 90),
        (7, 9, 10),
    ]


def test_the_margin_is_that_of_a_mean():
    (each,) = picture([1, 2, 3, 4], [0.0, 0.0, 100.0, 100.0]).bins
    assert each.margins == [pytest.approx(1.96 * math.sqrt(4 * 2500 / 3 / 4))]
    assert picture([5], [30.0]).bins[0].margins == [0.0]


def test_each_bin_is_labelled_with_its_lengths_and_rows(drawn):
    svg = drawn(picture([*range(1, 41)], [*range(40)], [*range(40)], names=("F1", "exact")).draw)
    assert {"1–10", "31–40", "10", "F1", "exact"} <= set(svg.texts)
    assert "words of the source, and number of sentences" in svg.texts


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows_are_drawn(drawn, count):
    svg = drawn(picture([7] * count, [40.0] * count).draw)
    assert ("7" in svg.texts) == (count > 0)
