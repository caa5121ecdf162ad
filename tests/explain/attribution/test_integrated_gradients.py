"""Integrated gradients: equal to captum's, complete, exact where the model is linear."""

import sys

import numpy as np
import pytest
import torch
from tests.explain import predictors
from tests.explain.tiny_predictions import (
    Linear,
    classified,
    continued,
    copied,
    tokenizer,
    translated,
)

from regard.explain.attribution import Budget
from regard.explain.attribution import integrated_gradients as integrated_gradients_module
from regard.explain.attribution.integrated_gradients import (
    completeness_error,
    gauss_legendre,
    integrate,
    integrated_gradients,
    total_changes,
)
from regard.explain.open_prediction import predict
from regard.explain.predictions.reference_tokens import reference_id

PREDICTIONS = {"translation": translated, "classification": classified, "generation": continued}
STEPS = 16


def captum_scores(prediction):
    """Compute integrated gradients of every output with captum, by the same embedding layers."""
    layer_attribution = pytest.importorskip("captum.attr", reason="captum is the oracle")
    names = list(prediction.model.embedded_inputs())
    layers = [prediction.model.embedded_inputs()[name] for name in names]
    ids, references = token_ids(prediction)

    def forward(*inputs):
        return model_log_probabilities(prediction, inputs)

    # captum takes several layers in the order in which the model runs them
    method = layer_attribution.LayerIntegratedGradients(
        forward, layers if len(layers) > 1 else layers[0]
    )
    rows = []
    for index, chosen in enumerate(prediction.output_classes.tolist()):
        result = method.attribute(
            tuple(ids),
            tuple(references),
            target=(index, chosen),
            n_steps=STEPS,
            method="gausslegendre",
        )
        parts = result if isinstance(result, (list, tuple)) else [result]
        rows.append(torch.cat([part.sum(-1)[0] for part in parts]))
    return torch.stack(rows).detach()


def token_ids(prediction):
    """Return the token ids of the inputs, and those of the baselines."""
    if hasattr(prediction, "_source_ids"):
        return [prediction._source_ids, prediction._target_ids], prediction._reference_ids
    reference = reference_id(tokenizer())
    return [prediction._ids], [torch.where(prediction.is_special, prediction._ids, reference)]


def model_log_probabilities(prediction, inputs):
    """Compute log-probabilities by the model's public functions, ``[rows, outputs, classes]``."""
    model = prediction.model
    if len(inputs) == 2:
        logits = model(*inputs)[:, prediction._positions]
    elif hasattr(prediction, "_positions"):
        logits = model.logits(model.hidden_states(inputs[0]))[:, prediction._positions]
    else:
        logits = model(inputs[0])[:, None]
    if hasattr(prediction, "_unused"):
        logits = logits.index_fill(-1, prediction._unused, -torch.inf)
    return logits.log_softmax(-1)


@pytest.mark.filterwarnings("ignore:Multiple layers provided")  # neither reads the other
@pytest.mark.parametrize("name", PREDICTIONS)
def test_scores_are_those_of_captum(name):
    prediction = PREDICTIONS[name]()
    outputs = torch.arange(len(prediction.outputs))
    ours = integrate(prediction, outputs, STEPS, budget=Budget())
    expected = captum_scores(prediction).double()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert expected.abs().max() > 0.05


@pytest.mark.slow
def test_scores_of_a_model_that_copies_are_those_of_captum():
    captum_attr = pytest.importorskip("captum.attr", reason="captum is the oracle")
    prediction = copied(dtype=torch.float64)
    outputs = torch.arange(len(prediction.outputs))
    method = captum_attr.IntegratedGradients(prediction.scores)
    weights = prediction.full_weights().double()
    expected = [method.attribute(weights, target=index, n_steps=200)[0] for index in outputs]
    ours = integrate(prediction, outputs, 80, budget=Budget())
    torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-4, atol=1e-4)
    assert float(ours[1, 1]) > 1.0  # " cat" is copied


def written_answer(dtype):
    """Return the prediction of an answer by a model that reads which words are in the question."""
    return copied(separator="sat", dtype=dtype)


def answer_span(dtype):
    """Return the prediction of an answer in a text, by a model that reads the same."""
    answerer = predictors.question_answerer()
    answerer.model.to(dtype)
    return predict(answerer, "who sat ?", context="the cat sat on the mat", output="cat")


@pytest.mark.parametrize(
    "prediction", [translated, classified, continued, copied, written_answer, answer_span]
)
def test_scores_sum_to_the_change_from_the_baseline(prediction):
    prediction = prediction(dtype=torch.float64)
    outputs = torch.arange(len(prediction.outputs))
    scores = integrate(prediction, outputs, 200, budget=Budget())
    torch.testing.assert_close(scores.sum(-1), total_changes(prediction), rtol=1e-6, atol=1e-8)


def test_a_linear_model_is_explained_exactly():
    effects = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    result = integrated_gradients(Linear(effects), Budget())
    torch.testing.assert_close(result.scores, effects.double())
    torch.testing.assert_close(result.error, torch.zeros(2, dtype=torch.float64))
    assert result.steps == 20


def test_points_are_added_until_the_error_is_below_one_percent_or_said():
    result = integrated_gradients(translated(), Budget())
    assert (result.error <= 0.01).all() or result.steps > 20


def test_chunks_change_nothing():
    prediction = translated()
    outputs = torch.arange(len(prediction.outputs))
    whole = integrate(prediction, outputs, 5, budget=Budget())
    progress = []
    small = Budget(memory=1, on_progress=lambda done, total: progress.append((done, total)))
    torch.testing.assert_close(
        integrate(prediction, outputs, 5, budget=small), whole, rtol=1e-4, atol=1e-5
    )
    assert progress == [(point, 5) for point in range(1, 6)]


def test_features_that_an_output_does_not_read_have_no_score():
    result = integrated_gradients(translated(), Budget())
    reads = translated().reads
    assert torch.equal(result.scores.isnan(), ~reads)
    assert not reads.all()


def test_special_tokens_which_the_baseline_keeps_have_score_0():
    prediction = classified()
    scores = integrated_gradients(prediction, Budget()).scores
    assert (scores[:, prediction.is_special] == 0).all()
    assert (scores[:, ~prediction.is_special] != 0).all()


def test_with_a_contrast_the_difference_of_two_labels_is_shared_out():
    outputs = torch.tensor([0])
    both = classified(dtype=torch.float64)
    (chosen,) = both.output_classes.tolist()
    other = (chosen + 1) % 3
    contrast = classified(contrast=other, dtype=torch.float64)
    scores = integrate(contrast, outputs, 50, budget=Budget())
    both.output_classes = torch.tensor([other])
    expected = integrate(classified(dtype=torch.float64), outputs, 50, budget=Budget())
    torch.testing.assert_close(scores, expected - integrate(both, outputs, 50, budget=Budget()))


def test_an_error_is_a_fraction_of_the_change_unless_that_is_small_by_chance():
    scores = torch.tensor([[1.0, 1.0], [0.0, 0.0], [100.0, -100.0]], dtype=torch.float64)
    change = torch.tensor([2.5, 0.0, 0.1], dtype=torch.float64)
    expected = torch.tensor([0.2, 0.0, 0.05], dtype=torch.float64)
    torch.testing.assert_close(completeness_error(scores, change), expected)


def test_quadrature_integrates_a_polynomial_exactly():
    nodes, weights = gauss_legendre(3)
    assert float((weights * nodes**5).sum()) == pytest.approx(1 / 6, rel=1e-14)
    assert np.all((nodes.numpy() > 0) & (nodes.numpy() < 1))


def test_points_of_a_power_are_those_of_its_root():
    nodes, weights = gauss_legendre(3, power=2)
    assert float((weights * nodes**-0.5).sum()) == pytest.approx(2.0, rel=1e-14)
    torch.testing.assert_close(nodes, gauss_legendre(3)[0] ** 2)


def test_a_model_that_copies_has_errors_of_one_percent_at_most():
    prediction = copied()
    result = integrated_gradients(prediction, Budget())
    assert (result.error <= 0.01).all()
    torch.testing.assert_close(
        result.scores.nansum(-1), total_changes(prediction), rtol=0.01, atol=0.01
    )


def test_gradients_are_computed_where_the_caller_computes_none():
    prediction = classified()
    parameters = list(prediction.model.parameters())
    with torch.inference_mode():
        scores = integrated_gradients(prediction, Budget()).scores
    assert scores.abs().max() > 0
    assert all(parameter.requires_grad and parameter.grad is None for parameter in parameters)


def test_where_many_outputs_need_more_points_those_with_the_largest_errors_get_them(monkeypatch):
    module = sys.modules[integrated_gradients.__module__]
    monkeypatch.setattr(module, "_MAX_REFINED_ROWS", 40)  # one output with 40 points
    monkeypatch.setattr(module, "MOST_ERROR", 1e-5)
    totals = []
    budget = Budget(on_progress=lambda done, total: totals.append(total))
    prediction = translated(dtype=torch.float64)
    first = completeness_error(
        integrate(prediction, torch.arange(4), 20, budget=Budget()), total_changes(prediction)
    )
    result = integrated_gradients(prediction, budget)
    assert (first > 1e-5).sum() > 1
    assert totals[:2] == [20, 60]
    assert result.error[first.argmax()] < first.max()
    assert (result.error != first).sum() < 4


def test_a_budget_bounds_the_points_of_the_integral(monkeypatch):
    monkeypatch.setattr(integrated_gradients_module, "MOST_ERROR", 0.0)  # never good enough
    prediction = translated()
    assert integrated_gradients(prediction, Budget()).steps > 20
    assert integrated_gradients(prediction, Budget(max_steps=20)).steps == 20


def test_two_equal_errors_of_few_points_do_not_end_the_search(monkeypatch):
    errors = iter([0.74, 0.74, 0.16, 0.15])  # of 20, 40, 80 and 160 points
    monkeypatch.setattr(
        integrated_gradients_module,
        "completeness_error",
        lambda scores, change: torch.full_like(change, next(errors)),
    )
    result = integrated_gradients(translated(), Budget())
    assert result.steps == 160
    assert result.error.unique().tolist() == [0.15]
