"""Measures of classification: what they are, and what they refuse."""

import math

import numpy as np
import pytest

from regard.errors import DataError, ShapeError
from regard.metrics.classification import (
    accuracy,
    confusion_matrix,
    macro_f1,
    reliability,
    wilson_interval,
)


@pytest.mark.parametrize("measure", [accuracy, macro_f1])
def test_lists_of_other_lengths_are_not_broadcast(measure):
    with pytest.raises(ShapeError) as caught:
        measure([1], [1, 2])
    assert str(caught.value) == (
        "the numbers of predictions (1) and references (2) differ.  Give one reference for each."
    )


@pytest.mark.parametrize("measure", [accuracy, macro_f1])
def test_nothing_has_no_score(measure):
    with pytest.raises(DataError, match=r"^nothing to score: there are no predictions\."):
        measure(np.array([]), np.array([]))


@pytest.mark.parametrize(
    ("percent", "num_rows"), [(-1.0, 10), (101.0, 10), (math.nan, 10), (50, 0)]
)
def test_an_interval_of_no_fraction_is_refused(percent, num_rows):
    with pytest.raises(DataError) as caught:
        wilson_interval(percent, num_rows)
    assert str(caught.value) == (
        f"{percent} % of {num_rows} rows: 0 to 100 % of 1 or more was expected."
    )


def test_a_label_beyond_the_matrix_is_refused():
    assert confusion_matrix([0, 2, 2], [0, 2, 1], 3) == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    with pytest.raises(DataError) as caught:
        confusion_matrix([0, 2], [0, 1], 2)
    assert str(caught.value) == "labels are 0 to 2; expected 0 to 1."


def test_bins_hold_probabilities_alone():
    bins = reliability([1.0, 1.0 + 1e-7, 0.0], [True, False, False])
    assert (bins.counts[0], bins.counts[-1], bins.accuracy[-1]) == (1, 2, 0.5)
    with pytest.raises(DataError) as caught:
        reliability([0.5, 1.5], [True, False])
    assert str(caught.value) == "probabilities are 0.5 to 1.5; expected 0 to 1."
    assert sum(reliability([], []).counts) == 0
    with pytest.raises(ShapeError, match=r"^there are 2 probabilities and 1 answers of whether"):
        reliability([0.5, 0.5], [True])
