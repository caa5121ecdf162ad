"""A model with low-rank adapters is explained as the model into which they are merged."""

import pytest
import torch
from tests.explain import predictors

from regard.explain.attribution import METHODS, Budget
from regard.explain.open_prediction import predict
from regard.layers.lora import add_low_rank, merge_low_rank

CONTEXT = "the cat sat on the mat . a dog ran to the door"
ALPHA = 4.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "text", "options"),
    [
        (predictors.translator, "the cat sat on", {"output": "a dog ran"}),
        (predictors.text_generator, "the cat sat on", {"output": " a dog ran"}),
        (predictors.text_classifier, "the cat sat on", {}),
        (predictors.question_answerer, "who sat on the mat ?", {"context": CONTEXT}),
    ],
    ids=["translator", "text_generator", "text_classifier", "question_answerer"],
)
def test_scores_of_adapters_are_those_of_the_merged_weights(make, text, options):
    adapted, merged = make(), make()
    adapted.model.double()
    add_low_rank(adapted.model, rank=2, alpha=ALPHA)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.3 * noise)
    merged.model.double()
    merged.model.load_state_dict(merge_low_rank(adapted.model.state_dict(), alpha=ALPHA))
    predictions = [predict(p, text, **options) for p in (adapted, merged)]
    plain = predict(make(), text, **options)
    for name in ("integrated_gradients", "gradient_input", "occlusion", "rollout", "flow"):
        ours, expected = (METHODS[name].compute(p, Budget()).scores for p in predictions)
        tolerance = 1e-10 if ours.dtype == torch.float64 else 1e-6  # attention is kept in float32
        torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0, equal_nan=True)
    before = METHODS["occlusion"].compute(plain, Budget()).scores
    after = METHODS["occlusion"].compute(predictions[0], Budget()).scores
    assert float((before - after).nan_to_num().abs().max()) > 1e-3
