"""The control of an explanation."""

import pytest
import torch
from tests.explain import predictors

from regard.explain.open_prediction import predict
from regard.explain.shuffled_control import shuffle_weights


def test_weights_are_permuted_and_the_trained_model_stays():
    prediction = predict(predictors.text_classifier(), "the cat sat on the mat")
    before = {name: p.clone() for name, p in prediction.model.named_parameters()}
    shuffled = shuffle_weights(prediction)
    for name, parameter in shuffled.model.named_parameters():
        assert torch.equal(parameter.flatten().sort().values, before[name].flatten().sort().values)
        assert parameter.numel() < 4 or not torch.equal(parameter, before[name])
    after = dict(prediction.model.named_parameters())
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("name", ["translator", "text_generator", "text_classifier"])
def test_the_same_outputs_have_other_scores_and_hidden_tokens_are_replaced(name):
    prediction = predict(getattr(predictors, name)(), "the cat sat on the mat")
    shuffled = shuffle_weights(prediction)
    assert shuffled.outputs == prediction.outputs
    weights = prediction.full_weights()
    assert not torch.allclose(shuffled.scores(weights), prediction.scores(weights), rtol=0.01)
    # A hidden token has the embedding of the shuffled model's reference token.
    hidden = torch.where(prediction.is_special, 1.0, 0.0)[None]
    with torch.no_grad():
        before = shuffled.scores(hidden)
        shuffled.refresh()
        assert torch.equal(shuffled.scores(hidden), before)
