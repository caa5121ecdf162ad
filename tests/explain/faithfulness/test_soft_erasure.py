"""Soft measures: 1 for the right scores, 0 for the reverse, undefined where nothing is lost."""

import math

import pytest
import torch
from tests.explain.tiny_predictions import Linear, classified

from regard.explain.attribution import Budget
from regard.explain.faithfulness.soft_erasure import soft_erasure
from regard.explain.prediction import Prediction


def measure(prediction: Prediction, scores):
    return soft_erasure(prediction, torch.tensor(scores), 0, Budget())


def test_scores_of_the_features_that_matter_keep_all_and_take_all():
    prediction = Linear(torch.tensor([[5.0, 0.0, 0.0, 7.0]]), num_special=1)
    assert measure(prediction, [1.0, 0.0, 0.0, 0.0]) == (1.0, 1.0)


def test_scores_of_the_features_that_do_not_matter_keep_nothing_and_take_nothing():
    prediction = Linear(torch.tensor([[5.0, 0.0, 0.0, 7.0]]), num_special=1)
    assert measure(prediction, [0.0, 1.0, 1.0, 9.0]) == (0.0, 0.0)


def test_equal_scores_are_half_of_the_numbers_of_an_embedding():
    result = measure(Linear(torch.tensor([[5.0, 5.0]])), [2.0, 2.0])
    assert result.comprehensiveness == pytest.approx(0.5, abs=0.15)
    assert result.sufficiency == pytest.approx(0.5, abs=0.15)


def test_where_the_output_rises_without_features_nothing_is_defined():
    result = measure(Linear(torch.tensor([[-5.0, 1.0]])), [1.0, 2.0])
    assert math.isnan(result.comprehensiveness)
    assert math.isnan(result.sufficiency)


def test_features_without_a_score_are_unimportant():
    prediction = Linear(torch.tensor([[5.0, 0.0, 0.0]]))
    assert measure(prediction, [1.0, math.nan, -1.0]) == (1.0, 1.0)


def test_the_measures_of_a_model_are_between_0_and_1_and_the_same_again():
    prediction = classified()
    scores = torch.linspace(-1, 1, len(prediction.features)).tolist()
    first, second = measure(prediction, scores), measure(prediction, scores)
    assert first == second or math.isnan(first.sufficiency)
    assert all(0 <= value <= 1 for value in first if not math.isnan(value))
