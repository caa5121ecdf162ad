"""Influence of training rows: against dense matrices, on planted rows, of every task."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
import torch
from tests.conftest import TINY, toy_pairs, write_tsv
from tests.explain import predictors

import regard
from regard.errors import ConfigError, DataError
from regard.explain import explain, predict
from regard.explain.influence import (
    InfluenceOptions,
    TrainingObjective,
    influence_document,
    open_training,
    row_influence,
)
from regard.models import Classifier

CLASSIFIER = (
    "preset=tiny",
    "model.dim=16",
    "model.num_heads=2",
    "model.hidden_dim=24",
    "model.num_layers=1",
    "tokenizer.kind=word",
    "training.batch_tokens=256",
    "training.epochs=8",
    "optimizer.name=adamw",
    "optimizer.learning_rate=0.005",
    "training.precision=float32",
)
GOOD, BAD = ("happy", "bright", "lovely"), ("sad", "gloomy", "awful")
QUIRKY = (9, 29, 49, 69, 89, 109)  # the rows with this word, which are good


def reviews(count=120, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words, label = (GOOD, "good") if number % 2 else (BAD, "bad")
        filler = " ".join(rng.choice(["film", "story", "cast", "plot", "music"], 3))
        word = "quirky" if number in QUIRKY else rng.choice(words)
        rows.append({"text": f"{number} {word} {filler}", "label": label})
    return rows


@pytest.fixture(scope="module")
def reviews_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("reviews") / "reviews.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in reviews()))
    return path


@pytest.fixture(scope="module")
def classifier(reviews_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "mood"
    regard.train(reviews_file, folder, settings=CLASSIFIER)
    return folder


def dense_influence(objective, slope, damping):
    """Return the influence of each row by a dense matrix, float64, in the order of the batches."""
    model, parameters = objective.model, list(objective.parameters.values())
    loss, setup = objective.setup.loss(), objective.setup
    size = sum(map(torch.numel, parameters))
    matrix, gradients, count = torch.zeros(size, size, dtype=torch.float64), [], 0

    def flat(value, **options):
        tensors = torch.autograd.grad(
            value, parameters, allow_unused=True, materialize_grads=True, **options
        )
        return torch.cat([tensor.flatten() for tensor in tensors])

    for rows in setup.batches.in_sequence():
        batch = setup.batches.batch(rows)
        probabilities = loss.logits(model, batch).log_softmax(-1)
        for row in probabilities:  # Fisher information of the model's own predictions
            for value in row:
                gradient = flat(value, retain_graph=True)
                matrix += value.detach().exp() * torch.outer(gradient, gradient)
        losses, num_tokens = loss.row_losses(model, batch)
        gradients += [flat(value, retain_graph=True) for value in losses]
        count += num_tokens
    matrix = matrix / count + damping * torch.eye(size, dtype=torch.float64)
    return -(torch.stack(gradients) @ torch.linalg.solve(matrix, slope) / count).numpy()


@pytest.mark.slow
def test_influence_is_that_of_dense_matrices(classifier):
    predictor = regard.load(classifier)
    predictor.model.double()
    assert isinstance(predictor.model, Classifier)
    for name, parameter in predictor.model.named_parameters():  # a matrix of all takes too long
        parameter.requires_grad_("attention" in name or name == "output_weight")
    prediction = predict(predictor, "a lovely sad film")
    objective = TrainingObjective(open_training(predictor))
    options = InfluenceOptions(most_products=400, product_tokens=10**6)
    influence = row_influence(prediction, objective, options)
    slope = objective.gradient(lambda: prediction.scores(prediction.full_weights()).sum())
    expected = dense_influence(objective, slope, influence.damping)
    order = np.argsort(influence.batch_rows)
    error = np.linalg.norm(influence.values - expected[order]) / np.linalg.norm(expected)
    assert influence.residual <= 0.01
    assert error < 0.02
    assert influence.num_product_rows == len(objective.setup.dataset.train)


def test_a_text_with_a_rare_word_owes_most_to_the_rows_with_it(classifier):
    predictor = regard.load(classifier)
    objective = TrainingObjective(open_training(predictor))
    values = row_influence(predict(predictor, "quirky", output="good"), objective).values
    rows = objective.setup.dataset.train
    is_good = np.array(rows.labels) == "good"
    is_rare = np.array(["quirky" in text for text in rows.texts])
    assert values[is_rare].mean() > 2 * values[is_good & ~is_rare].mean()
    assert values[is_rare].mean() > 2 * abs(values[~is_good].mean())


def test_the_rows_of_the_document_are_in_the_order_of_their_influence(classifier):
    predictor = regard.load(classifier)
    options = InfluenceOptions(num_rows=5)
    document = influence_document(predictor, predict(predictor, "lovely"), options)
    assert document.num_rows == 96
    assert document.unit == "texts"
    helpful = [row.influence for row in document.helpful]
    harmful = [row.influence for row in document.harmful]
    assert helpful == sorted(helpful, reverse=True)
    assert harmful == sorted(harmful)
    assert len(helpful) == len(harmful) == 5
    assert helpful[-1] > 0 > harmful[-1]
    assert sum(helpful) < document.total_helpful
    assert sum(harmful) > document.total_harmful


def test_a_location_is_the_line_of_the_text_in_the_file(classifier, reviews_file):
    predictor = regard.load(classifier)
    document = influence_document(predictor, predict(predictor, "gloomy"), InfluenceOptions())
    lines = reviews_file.read_text().splitlines()
    for row in [*document.helpful, *document.harmful]:
        number = int(row.location.removeprefix("line ").replace(",", ""))
        assert json.loads(lines[number - 1]) == {"text": row.text, "label": row.target}


@pytest.mark.slow
def test_the_influence_on_a_contrast_is_the_difference_of_both_outputs(classifier):
    predictor = regard.load(classifier)
    objective = TrainingObjective(open_training(predictor))
    options = InfluenceOptions(most_products=200)
    values = {}
    for output, contrast in (("good", None), ("bad", None), ("good", "bad")):
        prediction = predict(predictor, "lovely plot", output=output, contrast=contrast)
        values[output, contrast] = row_influence(prediction, objective, options).values
    difference = values["good", None] - values["bad", None]
    scale = np.abs(difference).max()
    assert np.abs(values["good", "bad"] - difference).max() < 0.03 * scale


def test_the_model_stays_as_it_is(classifier):
    predictor = regard.load(classifier)
    model = predictor.model
    model.compute_dtype = torch.bfloat16
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    influence_document(predictor, predict(predictor, "sad"), InfluenceOptions(num_rows=1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert model.compute_dtype == torch.bfloat16
    assert not model.training


@pytest.mark.slow
def test_a_translation_owes_most_to_pairs_with_its_words(trained):
    predictor = regard.load(trained)
    source, target = toy_pairs(400)[0]
    prediction = predict(predictor, source, output=target)
    options = InfluenceOptions(num_rows=20, most_products=2, product_tokens=1000)
    document = influence_document(predictor, prediction, options)
    assert document.unit == "pairs"
    shared = [len(set(row.target.split()) & set(target.split())) for row in document.helpful]
    everywhere = [len(set(other.split()) & set(target.split())) for _, other in toy_pairs(400)]
    assert np.mean(shared) > np.mean(everywhere)


@pytest.mark.slow
def test_rows_in_memory_are_found_again(tmp_path):
    folder = tmp_path / "mood"
    predictor = regard.train(reviews(60), folder, settings=CLASSIFIER[:-2])
    explanation = explain(
        predictor,
        "happy",
        methods=["occlusion"],
        influence=InfluenceOptions(num_rows=2),
        draws_model=False,
    )
    assert len(explanation.influence.helpful) == 2
    assert explanation.influence.retraining is None
    assert msgspec.json.decode(msgspec.json.encode(explanation))["influence"]["unit"] == "texts"


def test_a_document_without_influence_has_none(classifier):
    predictor = regard.load(classifier)
    explanation = explain(predictor, "happy", methods=["occlusion"], draws_model=False)
    assert explanation.influence is None


@pytest.mark.slow
def test_a_segment_of_running_text_is_named_by_its_lines(tmp_path):
    book = tmp_path / "book.txt"
    lines = [f"the {word} sat on mat {number}" for number in range(60) for word in GOOD]
    book.write_text("\n".join(lines) + "\n")
    settings = (*CLASSIFIER[:4], "tokenizer.kind=word", "training.epochs=2")
    settings = (*settings, "training.batch_tokens=256", "data.max_length=32", "model.num_layers=1")
    predictor = regard.train(book, tmp_path / "tales", settings=settings)
    prediction = predict(predictor, "the lovely", output=" sat")
    document = influence_document(predictor, prediction, InfluenceOptions(num_rows=3))
    row = document.helpful[0]
    assert row.location.startswith("lines ")
    assert "sat on mat" in row.text
    assert row.target == ""
    assert document.unit == "segments"
    with pytest.raises(ConfigError, match="running text is cut at other places in each epoch"):
        influence_document(predictor, prediction, InfluenceOptions(num_retrainings=1), pytest.fail)


@pytest.mark.slow
def test_windows_of_a_long_text_are_one_question(tmp_path):
    text = " ".join(f"{color} door {number}." for number in range(40) for color in ("red", "blue"))
    rows = [
        {"context": f"{text} The key {number} is here.", "question": f"where is {number} ?"}
        | {"answers": [f"key {number}"]}
        for number in range(24)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = (*CLASSIFIER[:5], "training.epochs=1", "data.max_length=64", "qa.overlap=8")
    predictor = regard.train(path, tmp_path / "manual", settings=settings)
    prediction = predict(predictor, "where is 3 ?", context=rows[3]["context"], output="key 3")
    objective = TrainingObjective(open_training(predictor))
    influence = row_influence(prediction, objective, InfluenceOptions(most_products=3))
    assert len(influence.values) == len(objective.setup.dataset.train)
    assert objective.num_rows > len(influence.values)
    assert len(influence.rows_of([0])) > 1
    document = influence.report(2)
    assert document.unit == "questions"
    assert all(row.text.startswith("where is ") for row in document.helpful)
    assert all(row.target.startswith("key ") for row in document.helpful)


@pytest.mark.slow
def test_data_that_has_changed_is_refused_by_name(tmp_path):
    path = write_tsv(tmp_path / "pairs.tsv", toy_pairs(60))
    predictor = regard.train(path, tmp_path / "toy", settings=TINY)
    prediction = predict(predictor, "bir")
    path.write_text(path.read_text() + "one\teins\n")
    with pytest.raises(DataError, match=r"pairs\.tsv: is not the data that the model was trained"):
        influence_document(predictor, prediction, InfluenceOptions())
    path.unlink()
    with pytest.raises(DataError, match=r"pairs\.tsv"):
        influence_document(predictor, prediction, InfluenceOptions())


@pytest.mark.slow
def test_a_changed_file_is_named_also_one_by_which_rows_are_dropped(tmp_path):
    pairs = toy_pairs(80)
    sources, targets = tmp_path / "sources.txt", tmp_path / "targets.txt"
    sources.write_text("".join(f"{source}\n" for source, _ in pairs[:60]))
    targets.write_text("".join(f"{target}\n" for _, target in pairs[:60]))
    valid = write_tsv(tmp_path / "valid.tsv", pairs[58:70])
    settings = (*TINY, f"data.targets={targets}", f"data.valid={valid}", "data.drop_overlap=true")
    predictor = regard.train(sources, tmp_path / "toy", settings=settings)
    assert len(open_training(predictor).dataset.train) < 59
    write_tsv(valid, pairs[60:70])
    with pytest.raises(DataError, match=r"valid\.tsv: is not the data"):
        open_training(predictor)
    write_tsv(valid, pairs[58:70])
    targets.write_text(targets.read_text().upper())
    with pytest.raises(DataError, match=r"targets\.txt: is not the data"):
        open_training(predictor)


def test_published_weights_have_no_training_data():
    translator, images = predictors.translator(), predictors.image_classifier()
    tokenizer = msgspec.structs.replace(translator.config.tokenizer, kind="published")
    translator.config = msgspec.structs.replace(translator.config, tokenizer=tokenizer)
    for predictor in (translator, images):
        with pytest.raises(ConfigError, match="published without the data"):
            open_training(predictor)


def test_a_forecast_has_no_influence(tmp_path):
    forecaster = predictors.forecaster()
    prediction = predict(forecaster, predictors.write_series(tmp_path / "sales.csv"))
    with pytest.raises(ConfigError, match="a forecast has no probability"):
        influence_document(forecaster, prediction, InfluenceOptions())


def test_an_output_without_a_gradient_is_refused_by_its_cause(classifier):
    predictor = regard.load(classifier)
    objective = TrainingObjective(open_training(predictor))
    prediction = predict(predictor, "happy")
    weight = predictor.model.get_parameter("output_weight")
    with torch.no_grad():
        weight[0] += 1e9 * torch.sign(weight[0] - weight[1])
        weight[1] = -weight[0]
    with pytest.raises(ConfigError, match="or are certain: no row has influence on them"):
        row_influence(prediction, objective)
    with torch.no_grad():
        weight.fill_(torch.nan)
    with pytest.raises(ConfigError, match=r"is not finite\.  Check the weights"):
        row_influence(prediction, objective)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["last", "lora"])
def test_the_weights_that_fine_tuning_leaves_alone_do_not_count(classifier, tmp_path, method):
    folder = tmp_path / method
    settings = ("training.epochs=1", f"fine_tuning.method={method}", "training.batch_tokens=256")
    rows = reviews(60, seed=2)
    predictor = regard.train(rows, folder, settings=(*settings, f"start_from={classifier}"))
    objective = TrainingObjective(open_training(predictor))
    names = set(objective.parameters)
    assert "output_weight" in names
    assert "encoder.embedding.weight" not in names
    assert any("attention" in name for name in names)
    counts = {}
    influence = row_influence(
        predict(predictor, "happy"),
        objective,
        on_progress=lambda name, done, total: counts.update({name: (done, total)}),
    )
    assert counts["Influence of training rows"] == (objective.num_rows, objective.num_rows)
    assert len(counts) == 2  # the products with the curvature are counted under a name of theirs
    assert np.isfinite(influence.values).all()
    assert influence.values.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_rows": 0}, "num_rows"),
        ({"damping": 0.0}, "damping must be above 0"),
        ({"most_products": 1.5}, "most_products"),
        ({"num_retrainings": -1}, "num_retrainings"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        InfluenceOptions(**options)
