"""Faithfulness of one prediction: by ferret's rule, next to floors."""

import sys

import numpy as np
import pytest
import torch
from tests.explain.tiny_predictions import Linear, classified, translated

import regard
from regard.explain.attribution import METHODS, Attribution, Budget
from regard.explain.faithfulness import FaithfulnessMeter, measure_faithfulness
from regard.explain.open_prediction import predict

TEXTS = ["the cat sat on the mat while it was very cold outside", "a dog ran", "dog"]
WORDS = sorted({word for text in TEXTS for word in text.split()})


@pytest.fixture(scope="module")
def published(transformers, tmp_path_factory):
    """A small random BERT of transformers with a vocabulary of words, and its folder."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
    )
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=3,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer, folder


def ferret_aopc(model, tokenizer, text, scores, label, *, only_pos):
    """Compute comprehensiveness and sufficiency by the rule of ferret 0.4.2.

    That of `AOPC_Comprehensiveness_Evaluation` and `AOPC_Sufficiency_Evaluation` with
    ``remove_tokens=False``: the mask token is in place of a removed one.
    """

    def probability(ids):
        with torch.no_grad():
            return float(model(torch.tensor([ids])).logits.softmax(-1)[0, label])

    ids = tokenizer(text)["input_ids"]
    inner, scores = np.array(ids[1:-1]), np.asarray(scores)[1:-1]
    full, last, losses = probability(ids), None, ([], [])
    for fraction in np.arange(0.1, 1.1, 0.1):
        count = int(fraction * len(inner))
        top = [i for i in scores.argsort()[-count:][::-1] if scores[i] > 0 or not only_pos]
        if count == 0 or set(top) == last or not top:
            continue
        last = set(top)
        is_top = np.isin(np.arange(len(inner)), top)
        for kind, hidden in zip(losses, (is_top, ~is_top), strict=True):
            changed = np.where(hidden, tokenizer.mask_token_id, inner)
            kind.append(full - probability([ids[0], *changed.tolist(), ids[-1]]))
    return (np.mean(losses[0]), np.mean(losses[1])) if losses[0] else (0.0, 1.0)


@pytest.mark.slow  # imports transformers
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("only_pos", [False, True])
def test_aopc_is_that_of_ferret_by_a_model_of_transformers(published, text, only_pos):
    model, tokenizer, folder = published
    prediction = predict(regard.load(folder), text)
    attribution = METHODS["gradient_input"].compute(prediction, Budget())
    meter = FaithfulnessMeter(prediction, positive_only=only_pos, is_soft=False)
    measures = meter.measure(attribution)
    (label,) = prediction.output_classes.tolist()
    scores = attribution.scores[0].numpy()
    expected = ferret_aopc(model, tokenizer, text, scores, label, only_pos=only_pos)
    assert measures.comprehensiveness == pytest.approx(expected[0], abs=1e-5)
    assert measures.sufficiency == pytest.approx(expected[1], abs=1e-5)


def test_the_scores_of_a_linear_model_are_perfect_and_random_ones_are_not():
    effects = torch.arange(1.0, 11.0)[None]
    prediction = Linear(effects)
    result = measure_faithfulness(prediction, Attribution(effects.double()))
    assert result.tau == 1.0
    assert result.comprehensiveness == pytest.approx(np.cumsum(np.arange(10, 0, -1)).mean())
    assert result.comprehensiveness > result.random["comprehensiveness"]
    assert result.sufficiency < result.random["sufficiency"]
    assert abs(result.random["tau"]) < 0.4
    reverse = measure_faithfulness(prediction, Attribution(-effects.double()))
    assert reverse.tau == -1.0
    assert reverse.comprehensiveness < result.random["comprehensiveness"]


def test_leave_one_out_agrees_with_itself():
    prediction = translated()
    attribution = METHODS["occlusion"].compute(prediction, Budget())
    assert measure_faithfulness(prediction, attribution).tau == pytest.approx(1.0)


def test_the_random_floor_is_shared_by_all_attributions_of_a_prediction():
    prediction = classified("the cat sat on the mat")
    meter = FaithfulnessMeter(prediction)
    attributions = [METHODS[name].compute(prediction, Budget()) for name in METHODS]
    results = [measure_faithfulness(prediction, each, meter=meter) for each in attributions]
    assert len({tuple(result.random.items()) for result in results}) == 1
    assert all(len(result.deletion) == len(result.insertion) == 11 for result in results)
    assert results[0].deletion[0] == pytest.approx(results[0].insertion[-1])
    assert results[0].deletion[-1] == pytest.approx(results[0].insertion[0])


def test_outputs_that_are_measured_are_spread_over_all_that_read_a_feature():
    reads = torch.ones(9, 3, dtype=torch.bool)
    reads[0] = False
    prediction = Linear(torch.ones(9, 3), reads=reads)
    assert FaithfulnessMeter(prediction, most_outputs=3).outputs == [1, 5, 8]
    assert FaithfulnessMeter(prediction, most_outputs=1).outputs == [1]


def test_where_all_features_are_special_nothing_is_measured():
    prediction = Linear(torch.ones(1, 3), num_special=3)
    assert measure_faithfulness(prediction, Attribution(torch.ones(1, 3))) is None


def test_one_feature_alone_has_no_rank_correlation():
    prediction = Linear(torch.tensor([[2.0, 5.0]]), num_special=1)
    result = measure_faithfulness(prediction, Attribution(torch.ones(1, 2).double()))
    assert result.comprehensiveness == 2.0
    assert result.sufficiency == 0.0
    assert result.tau is None
    assert "tau" not in result.random


def test_with_a_contrast_effects_are_probabilities_of_one_of_the_two():
    prediction = classified(
        "the cat sat", contrast=int(classified("the cat sat").output_classes + 1) % 3
    )
    attribution = METHODS["occlusion"].compute(prediction, Budget())
    result = measure_faithfulness(prediction, attribution)
    with torch.no_grad():
        two = prediction.log_probabilities(prediction.full_weights())[0, 0]
    pair = two[[int(prediction.output_classes), int(prediction.contrast)]].softmax(-1)
    assert result.deletion[0] == pytest.approx(float(pair[0]), rel=1e-5)


@pytest.mark.slow  # imports transformers
def test_an_unknown_word_at_the_end_is_a_feature_and_no_special_token(published):
    prediction = predict(regard.load(published[2]), "the cat slept")
    assert [feature.is_special for feature in prediction.features] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_known_scores_of_occlusion_take_no_passes_of_leave_one_out_again(monkeypatch):
    prediction = translated(dtype=torch.float64)
    attribution = METHODS["gradient_input"].compute(prediction, Budget())
    occlusion = METHODS["occlusion"].compute(prediction, Budget())
    alone = FaithfulnessMeter(prediction, most_outputs=2).measure(attribution)
    module = sys.modules[FaithfulnessMeter.__module__]
    monkeypatch.setattr(module, "leave_one_out", None)
    meter = FaithfulnessMeter(prediction, most_outputs=2, occlusion=occlusion)
    assert meter.measure(attribution).tau == alone.tau
