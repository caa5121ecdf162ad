"""Random scores: the same for the same text, others for another."""

import torch
from tests.explain.tiny_predictions import classified, translated

from regard.explain.attribution import Budget
from regard.explain.attribution.random_scores import random_scores


def test_the_same_text_has_the_same_scores_and_another_has_others():
    first, second = (random_scores(classified("the cat sat"), Budget()).scores for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, random_scores(classified("the old cat"), Budget()).scores)
    assert ((first >= 0) & (first < 1)).all()


def test_features_that_an_output_does_not_read_have_no_score():
    prediction = translated()
    assert torch.equal(random_scores(prediction, Budget()).scores.isnan(), ~prediction.reads)
