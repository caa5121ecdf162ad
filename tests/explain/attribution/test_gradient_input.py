"""Gradient times input: compared with the gradient by the embeddings themselves."""

import torch
from tests.explain.tiny_predictions import Linear, continued, translated

from regard.explain.attribution import Budget
from regard.explain.attribution.gradient_input import gradient_input
from regard.explain.prediction import replace_outputs


def test_scores_are_sums_of_gradient_times_embedding():
    prediction = continued(dtype=torch.float64)
    model, leaves = prediction.model, []

    def keep(embeddings):
        leaves.append(embeddings.detach().requires_grad_())
        return leaves[0]

    with replace_outputs({model.embedding: keep}):
        hidden = model.hidden_states(prediction._ids)[0, prediction._positions[2]]
    logits = model.logits(hidden).index_fill(-1, prediction._unused, -torch.inf)
    (gradient,) = torch.autograd.grad(
        logits.log_softmax(-1)[prediction.output_classes[2]], leaves[0]
    )
    scores = gradient_input(prediction, Budget()).scores
    torch.testing.assert_close(scores[2], (leaves[0] * gradient).sum(-1)[0].detach())


def test_a_linear_model_gives_its_effects_to_special_tokens_too():
    effects = torch.tensor([[1.0, -2.0, 0.5]])
    result = gradient_input(Linear(effects, num_special=1), Budget())
    torch.testing.assert_close(result.scores, effects.double())
    assert result.error is None


def test_features_that_an_output_does_not_read_have_no_score():
    prediction = translated()
    scores = gradient_input(prediction, Budget(memory=1)).scores
    assert torch.equal(scores.isnan(), ~prediction.reads)
