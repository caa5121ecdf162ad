"""Occlusion: what an output loses when the reference token is in a token's place."""

import torch
from tests.explain.tiny_predictions import Linear, classified, tokenizer, translated

from regard.explain.attribution import Budget
from regard.explain.attribution.occlusion import leave_one_out, occlusion
from regard.explain.predictions.reference_tokens import reference_id


def test_scores_are_losses_of_the_text_with_the_reference_token():
    prediction = classified("the cat sat on the mat", dtype=torch.float64)
    scores = occlusion(prediction, Budget()).scores
    words = tokenizer()
    (ids,) = words.encode_truncated(["the cat sat on the mat"], max_length=64)
    index = next(i for i, token in enumerate(ids) if token == words.encode_text("cat")[0])
    replaced = torch.tensor([ids, ids])
    replaced[1, index] = reference_id(words)
    with torch.no_grad():
        label = prediction.model(replaced).log_softmax(-1)[:, prediction.output_classes[0]]
    torch.testing.assert_close(scores[0, index], label[0] - label[1])


def test_special_tokens_have_score_0_and_unread_ones_none():
    prediction = translated()
    result = occlusion(prediction, Budget(memory=1))
    assert (result.scores[:, prediction.is_special].nan_to_num(0.0) == 0).all()
    assert torch.equal(result.scores.isnan(), ~prediction.reads)


def test_a_linear_model_loses_the_effects():
    effects = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 0.25]])
    result = occlusion(Linear(effects, num_special=1), Budget())
    expected = torch.tensor([[1.0, -2.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(result.scores, expected)


def test_without_features_to_leave_out_nothing_is_computed():
    scores = leave_one_out(Linear(torch.ones(1, 2), num_special=2), Budget())
    assert scores.shape == (2, 1)
    assert scores.isnan().all()
