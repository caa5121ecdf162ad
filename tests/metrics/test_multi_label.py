"""F1 of any number of labels a row, and its best threshold."""

import numpy as np
import pytest

from regard.errors import DataError, ShapeError
from regard.metrics.multi_label import best_threshold, label_f1, micro_f1


def f1(predicted, truth):
    """Count hits, wrong labels and missing labels one by one."""
    pairs = list(zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True))
    num_hits, num_wrong = pairs.count((True, True)), len(pairs) - pairs.count((False, False))
    return 200 * num_hits / (num_wrong + num_hits) if num_wrong else 100.0


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_has_a_higher_f1(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 8, (12, 3)) / 8  # with equal ones
    truth = rng.random((12, 3)) < 0.3
    threshold, score = best_threshold(values, truth)
    assert score == pytest.approx(f1(values > threshold, truth))
    others = [f1(values > other, truth) for other in np.arange(17) / 16]
    assert score == pytest.approx(max(others))


def test_f1_of_each_label_is_that_of_its_column():
    rng = np.random.default_rng(0)
    predicted, truth = rng.random((2, 40, 4)) < 0.4
    columns = [f1(predicted[:, [label]], truth[:, [label]]) for label in range(4)]
    assert label_f1(predicted, truth) == pytest.approx(np.array(columns))


def test_the_interval_of_micro_f1_holds_it():
    rng = np.random.default_rng(0)
    predicted, truth = rng.random((2, 40, 4)) < 0.4
    score = micro_f1(predicted, truth)
    assert score.value == pytest.approx(f1(predicted, truth))
    assert score.low < score.value < score.high


def test_rows_without_labels_that_are_given_none_are_right():
    nothing = np.zeros((3, 2), bool)
    assert micro_f1(nothing, nothing).value == 100.0
    assert best_threshold(np.full((3, 2), 0.4), nothing) == (0.5, 0.0)


def test_shapes_that_differ_and_no_rows_are_refused():
    with pytest.raises(ShapeError, match=r"\[2, 1\] and \[1, 2\]"):
        micro_f1(np.zeros((2, 1), bool), np.zeros((1, 2), bool))
    with pytest.raises(DataError, match="nothing to score"):
        label_f1(np.zeros((0, 2), bool), np.zeros((0, 2), bool))
