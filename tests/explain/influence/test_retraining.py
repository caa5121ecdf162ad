"""Training again without rows: the same run but for these rows, and what it says of influence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.conftest import TINY, toy_pairs, write_tsv
from tests.explain.influence.test_training_influence import CLASSIFIER, reviews

import regard
from regard.errors import ConfigError, WeightsError
from regard.explain import predict
from regard.explain.influence import (
    InfluenceOptions,
    Retrainer,
    TrainingObjective,
    influence_document,
    open_training,
    retrain_without,
    row_influence,
    training_length,
)
from regard.explain.influence.retraining import TrainingLength, _WithoutRows
from regard.hub.model_folder import ModelFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "mood"
    settings = (*CLASSIFIER, "training.deterministic=true", "model.dropout=0.1")
    regard.train(reviews(80), path, settings=settings)
    return path


def test_training_again_with_all_rows_gives_the_same_weights(folder):
    predictor = regard.load(folder)
    retrainer = Retrainer(open_training(predictor), training_length(ModelFolder(folder)))
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    weights = retrainer.train_without([])
    assert torch.equal(torch.rand(1), expected)  # the caller's random numbers go on
    for name, parameter in predictor.model.named_parameters():
        assert torch.equal(weights[name], parameter), name


def test_rows_that_are_left_out_are_in_no_batch_and_all_others_stay(folder):
    batches = open_training(regard.load(folder)).batches
    left_out = np.array([0, 3, 11])
    without = _WithoutRows(batches, left_out)
    for epoch in range(2):
        before = [row for rows in batches.order(epoch) for row in rows if row not in left_out]
        assert np.concatenate(without.order(epoch)).tolist() == before
    assert not np.isin(np.concatenate(without.in_sequence()), left_out).any()


@pytest.mark.slow
def test_influential_rows_are_missed_more_than_random_ones(folder):
    predictor = regard.load(folder)
    prediction = predict(predictor, "a lovely film")
    influence = row_influence(prediction, TrainingObjective(open_training(predictor)))
    steps = []
    result = retrain_without(
        influence,
        prediction,
        training_length(ModelFolder(folder)),
        num_left_out=10,
        num_seeds=2,
        on_progress=lambda name, done, total: steps.append((name, done, total)),
    )
    complete, without = np.mean(result.complete), np.mean(result.without_most_influential)
    assert without < np.mean(result.without_random)
    assert complete - without > 0
    assert result.num_left_out == 10
    assert result.estimate == pytest.approx(np.sort(influence.values)[-10:].sum())
    assert len(result.complete) == len(result.without_random) == 2
    assert result.complete[0] == pytest.approx(prediction.outputs[0].score, abs=1e-5)
    assert steps[-1][1] == steps[-1][2] == len(steps)


def test_rows_that_are_left_out_have_to_be_some_and_not_all(folder):
    predictor = regard.load(folder)
    prediction = predict(predictor, "a lovely film")
    influence = row_influence(prediction, TrainingObjective(open_training(predictor)))
    for count in (0, len(influence.values)):
        with pytest.raises(ConfigError, match="rows cannot be left out of 60"):
            retrain_without(influence, prediction, TrainingLength(1, 1), num_left_out=count)


def test_what_cannot_be_left_out_is_refused_before_influence_is_computed(folder):
    predictor = regard.load(folder)
    options = InfluenceOptions(num_rows=60, num_retrainings=1)
    steps = []
    with pytest.raises(ConfigError, match="60 rows cannot be left out of 60"):
        influence_document(
            predictor, predict(predictor, "sad"), options, lambda *step: steps.append(step)
        )
    assert steps == []


def test_the_length_of_a_resumed_run_is_that_of_its_last_session(tmp_path):
    lines = [
        '{"event":"evaluated","step":8,"total_steps":8}',
        '{"event":"finished","step":8,"best_step":8}',
        '{"event":"evaluated","step":8,"total_steps":20}',
        '{"event":"evaluated","step":16,"total_steps":24}',
        '{"event":"finished","step":24,"best_step":16}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert training_length(ModelFolder(tmp_path)) == TrainingLength(16, 24)


@pytest.mark.slow
def test_the_document_has_what_training_again_gave(folder):
    predictor = regard.load(folder)
    options = InfluenceOptions(num_rows=3, num_retrainings=1)
    document = influence_document(predictor, predict(predictor, "sad"), options)
    assert document.retraining.num_left_out == 3  # 1 % of the rows would be less
    assert len(document.retraining.complete) == 1


def test_a_run_without_a_record_cannot_be_repeated(folder, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(WeightsError, match="no record of a finished training"):
        training_length(ModelFolder(tmp_path))
    predictor = regard.load(folder)
    predictor.folder = None
    options = InfluenceOptions(num_retrainings=1)
    with pytest.raises(ConfigError, match="was not opened from a folder"):
        influence_document(predictor, predict(predictor, "sad"), options)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["cg", "adamw"])
def test_a_translator_is_trained_again_by_its_own_method(tmp_path, optimizer):
    path = write_tsv(tmp_path / "pairs.tsv", toy_pairs(60))
    settings = (*TINY, f"optimizer.name={optimizer}", "training.deterministic=true")
    predictor = regard.train(path, tmp_path / "toy", settings=settings)
    length = training_length(ModelFolder(tmp_path / "toy"))
    weights = Retrainer(open_training(predictor), length).train_without([])
    for name, parameter in predictor.model.named_parameters():
        torch.testing.assert_close(weights[name], parameter, rtol=0, atol=1e-6)
