"""Outputs while features are removed in order: rankings, numbers of features, equal rows."""

import pytest
import torch
from tests.explain.tiny_predictions import Linear, classified, translated

from regard.explain.attribution import Budget
from regard.explain.faithfulness.aopc import aopc
from regard.explain.faithfulness.removal import (
    Ranking,
    rank_features,
    remove_in_order,
    scores_of_rows,
)
from regard.explain.faithfulness.removal_curves import removal_curves

EFFECTS = torch.tensor([[4.0, -1.0, 3.0, 2.0, 100.0]])


def ranking(scores, *, num_special=1, effects=EFFECTS, reads=None, positive_only=False):
    prediction = Linear(effects, num_special=num_special, reads=reads)
    return prediction, rank_features(prediction, scores, 0, positive_only=positive_only)


def test_features_are_ordered_by_falling_score_without_special_ones():
    _, result = ranking(torch.tensor([1.0, 2.0, -3.0, 2.0, 9.0]))
    assert result.order.tolist() == [1, 3, 0, 2]
    assert result.num_features == 4


def test_features_without_a_score_come_last_and_unread_ones_not_at_all():
    reads = torch.tensor([[True, True, False, True, True]])
    _, result = ranking(torch.tensor([torch.nan, -2.0, 5.0, 1.0, 0.0]), reads=reads)
    assert result.order.tolist() == [3, 1, 0]


def test_features_whose_score_is_not_above_0_can_be_left_out():
    _, result = ranking(torch.tensor([1.0, 0.0, -3.0, 2.0, 9.0]), positive_only=True)
    assert result.order.tolist() == [3, 0]
    assert result.num_features == 4


def test_outputs_lose_the_effects_of_what_is_removed():
    prediction, result = ranking(EFFECTS[0])
    (effects,) = remove_in_order(prediction, [result], Budget())
    assert effects.counts.tolist() == [1, 2, 3, 4]
    assert effects.full == 108.0
    assert effects.none == 100.0
    assert effects.without.tolist() == [104.0, 101.0, 99.0, 100.0]
    assert effects.only.tolist() == [104.0, 107.0, 109.0, 108.0]
    losses = aopc(effects)
    assert losses.comprehensiveness == pytest.approx((4 + 7 + 9 + 8) / 4)
    assert losses.sufficiency == pytest.approx((4 + 1 - 1 + 0) / 4)


def test_more_features_are_removed_in_tenths_of_their_number():
    prediction = Linear(torch.ones(1, 27))
    (effects,) = remove_in_order(prediction, [Ranking(0, torch.arange(27), 27)], Budget())
    assert effects.counts.tolist() == [2, 5, 8, 10, 13, 16, 18, 21, 24, 27]


def test_without_a_positive_score_nothing_is_lost_and_all_with_them_alone():
    prediction, result = ranking(-torch.ones(5), positive_only=True)
    (effects,) = remove_in_order(prediction, [result], Budget())
    assert aopc(effects) == (0.0, 1.0)


def test_equal_rows_are_computed_once():
    prediction, calls = classified("the cat sat"), []
    budget = Budget(memory=1, on_progress=lambda done, total: calls.append(total))
    weights = [torch.ones(len(prediction.features)), prediction.is_special.float()] * 3
    values = scores_of_rows(prediction, weights, [0] * 6, budget)
    assert calls == [2, 2]
    assert values[0] == values[2] == values[4] != values[1]
    assert values[0] == pytest.approx(max(prediction.outputs[0].alternatives.values()), rel=1e-5)


def test_each_output_is_measured_by_its_own_ranking():
    prediction = translated(dtype=torch.float64)
    order = torch.tensor([0, 3, 1])
    first, last = remove_in_order(
        prediction, [Ranking(0, order, 3), Ranking(2, order.flip(0), 3)], Budget()
    )
    weights = prediction.full_weights()
    weights[0, 1] = 0.0
    with torch.no_grad():
        expected = prediction.scores(weights)[0, 2].exp()
    assert float(last.without[0]) == pytest.approx(float(expected))
    assert first.full != last.full


def test_curves_have_the_area_under_straight_lines():
    prediction = Linear(torch.tensor([[3.0, 1.0]]))
    (effects,) = remove_in_order(prediction, [Ranking(0, torch.arange(2), 2)], Budget())
    curves = removal_curves(effects)
    assert curves.deletion_area == pytest.approx((4 / 2 + 1 + 0 / 2) / 2)
    assert curves.insertion_area == pytest.approx((0 / 2 + 3 + 4 / 2) / 2)
    assert curves.deletion.tolist() == pytest.approx(
        [4.0, 3.4, 2.8, 2.2, 1.6, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    )
    assert curves.insertion[[0, 5, 10]].tolist() == [0.0, 3.0, 4.0]
