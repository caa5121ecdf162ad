"""What is copied of weakened tokens: the model's own at both ends, differentiable between them."""

import pytest
import torch
from tests.explain.tiny_predictions import copied
from torch.autograd import gradcheck

from regard.explain.predictions.weakened_tokens import WeakenedTokens, weaken_roles
from regard.models.base.question_roles import NUM_ROLES, find_roles


def model_scores(prediction, weights):
    """Compute the scores by the model itself, with the reference token where a weight is 0."""
    ids = torch.cat([prediction._source_ids, prediction._target_ids], dim=1)
    references = torch.cat(prediction._reference_ids, dim=1)
    row = torch.where(weights == 0, references, ids)
    source, target = row.split([part.shape[1] for part in prediction._reference_ids], dim=1)
    log_probabilities = prediction.model(source, target)[0, prediction._positions]
    return log_probabilities.log_softmax(-1).gather(-1, prediction.output_classes[:, None])[:, 0]


@pytest.mark.parametrize("separator", [None, "sat"])
@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_with_weights_of_0_and_1_scores_are_those_of_the_replaced_tokens(probability, separator):
    prediction = copied(separator=separator, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(8, len(prediction.features), generator=generator).lt(probability).double()
    expected = torch.stack([model_scores(prediction, row) for row in weights])
    torch.testing.assert_close(prediction.scores(weights), expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("separator", [None, "sat"])
def test_scores_are_differentiable_in_every_weight(separator):
    prediction = copied(separator=separator, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    shape = 2, len(prediction.features)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    assert gradcheck(prediction.scores, weights)


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_derivatives_at_both_ends_are_the_slopes_there(end):
    prediction = copied(separator="sat", dtype=torch.float64)
    weights = torch.full((1, len(prediction.features)), end, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(prediction.scores(weights)[0, 1], weights)
    small = 1e-8 if end == 0.0 else -1e-8
    moved = end + small * torch.eye(len(prediction.features), dtype=torch.float64)
    with torch.no_grad():
        slopes = (prediction.scores(moved)[:, 1] - prediction.scores(weights)[0, 1]) / small
    torch.testing.assert_close(gradient[0], slopes, rtol=1e-3, atol=1e-4)
    assert float(gradient[0, 1]) > 0.1  # " cat" is copied from there


def test_weights_of_every_number_of_an_embedding_count_as_their_mean():
    prediction = copied()
    half = (torch.arange(16) % 2).float().expand(1, len(prediction.features), 16)
    tokens = WeakenedTokens.between(
        prediction._source_ids, prediction._reference_ids[0], half[:, :7], half
    )
    torch.testing.assert_close(tokens.weights, torch.full((1, 2, 7), 0.5))


def test_equality_is_the_probability_that_two_weakened_tokens_are_the_same():
    ids, references = torch.tensor([[5, 6]]), torch.tensor([[3, 3]])
    first = WeakenedTokens.between(ids, references, torch.tensor([[0.8, 1.0]]), torch.zeros(1))
    second = WeakenedTokens.between(ids, references, torch.tensor([[0.5, 0.25]]), torch.zeros(1))
    expected = torch.tensor([[[0.8 * 0.5 + 0.2 * 0.5, 0.2 * 0.75], [0.0, 0.25]]])
    torch.testing.assert_close(first.equality(second), expected)
    assert first.shifted(1).ids.tolist() == [[1, 5], [1, 3]]


@pytest.mark.parametrize("probability", [0.0, 0.5, 0.9, 1.0])
def test_with_weights_of_0_and_1_roles_are_those_of_the_replaced_tokens(probability):
    ids = torch.tensor([[5, 6, 2, 7, 5, 6, 2, 9, 5, 2]])
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(16, 10, generator=generator).lt(probability).float()
    tokens = WeakenedTokens.between(ids, torch.zeros_like(ids), weights, weights)
    roles = find_roles(torch.where(weights == 0, 0, ids), 2, None)
    expected = torch.nn.functional.one_hot(roles, NUM_ROLES).mT.float()
    torch.testing.assert_close(weaken_roles(tokens, 2), expected)


def test_roles_are_differentiable_in_every_weight():
    ids = torch.tensor([[5, 6, 2, 7, 5, 6, 2]])
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(2, 7, generator=generator, dtype=torch.float64).requires_grad_()

    def roles(weights):
        return weaken_roles(WeakenedTokens.between(ids, torch.zeros_like(ids), weights, weights), 2)

    assert gradcheck(roles, weights)
    torch.testing.assert_close(roles(weights).sum(1), torch.ones(2, 7, dtype=torch.float64))
