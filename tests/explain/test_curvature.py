"""The curvature of a trained model against a dense Hessian, as text, and as a picture."""

from __future__ import annotations

import msgspec
import pytest
import torch
from tests.explain import predictors
from tests.explain.influence.test_training_influence import CLASSIFIER, reviews

import regard
from regard.errors import ConfigError
from regard.explain import Curvature, curvature
from regard.explain.influence import TrainingObjective, open_training
from regard.training.stability_monitor import layer_of


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "mood"
    regard.train(reviews(60), folder, settings=CLASSIFIER)
    return folder


@pytest.fixture(scope="module")
def small(classifier):
    """The model in float64, of whose weights few count, so that a dense matrix is quick."""
    predictor = regard.load(classifier)
    predictor.model.double()
    for name, parameter in predictor.model.named_parameters():
        parameter.requires_grad_("norm" in name or name.startswith("output"))
    return predictor


@pytest.fixture(scope="module")
def result(small):
    return curvature(small)


def dense_hessian(predictor):
    """Return the Hessian of the training loss, ``[n, n]``, by rows, and its parameters by name."""
    objective = TrainingObjective(open_training(predictor))
    setup, parameters = objective.setup, list(objective.parameters.values())
    total, count = 0.0, 0
    for rows in setup.batches.in_sequence():
        loss = setup.loss()(predictor.model, setup.batches.batch(rows))
        total, count = total + loss.loss * loss.num_tokens, count + loss.num_tokens
    gradient = torch.autograd.grad(total / count, parameters, create_graph=True)
    flat = torch.cat([part.flatten() for part in gradient])
    rows = [
        torch.autograd.grad(
            entry, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for entry in flat
    ]
    matrix = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    return matrix, objective.parameters, float(total.detach() / count), float(flat.detach().norm())


def test_eigenvalues_and_traces_are_those_of_the_dense_hessian(small, result):
    matrix, parameters, loss, gradient_norm = dense_hessian(small)
    values = torch.linalg.eigvalsh(matrix).flip(0)
    for value, bound, exact in zip(result.largest, result.bounds, values.tolist(), strict=False):
        assert abs(value - exact) <= bound + 1e-9
    assert result.smallest == pytest.approx(float(values[-1]), abs=0.02 * float(values[0]))
    assert result.loss == pytest.approx(loss, rel=1e-9)
    assert result.gradient_norm == pytest.approx(gradient_norm, rel=1e-9)
    assert result.num_parameters == len(matrix)
    assert abs(result.trace - float(matrix.trace())) <= 4 * result.trace_error
    diagonal = matrix.diagonal().split([parameter.numel() for parameter in parameters.values()])
    for layer in result.layers:
        blocks = zip(parameters, diagonal, strict=True)
        exact = sum(float(part.sum()) for name, part in blocks if layer_of(name) == layer.name)
        assert abs(layer.trace - exact) <= 4 * layer.trace_error + 1e-9
    magnitude = 0.01 * float(values.abs().max())
    near_zero = float((values.abs() <= magnitude).double().mean())
    assert result.near_zero == pytest.approx(near_zero, abs=0.1)


def test_the_density_has_an_area_of_one(result):
    width = result.grid[1] - result.grid[0]
    assert sum(result.density) * width == pytest.approx(1.0)
    assert result.grid[0] < result.smallest
    assert result.grid[-1] > result.largest[0]


def test_the_text_has_the_figures_and_a_row_for_each_layer(result):
    lines = [*result.lines()]
    assert lines[0].startswith(f"Curvature   training loss {result.loss:.4g} (gradient norm ")
    assert any(line.startswith("Largest     ") for line in lines)
    names = [line.split()[0] for line in lines[lines.index("") + 2 :]]
    assert names == [layer.name for layer in result.layers]


def test_the_record_survives_json(result):
    encoded = msgspec.json.encode(result)
    assert msgspec.json.decode(encoded, type=Curvature) == result


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spectrum.svg", "spectrum.png"])
def test_the_spectrum_is_drawn(result, tmp_path, name):
    result.picture("mood").draw(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert len(content) > 5000
    if name.endswith("svg"):
        text = content.decode()
        assert "mood: eigenvalues of the Hessian of the training loss" in text
        assert "encoder.blocks.0" in text


def test_progress_counts_up_to_all_rows_of_all_products(small):
    heard = []
    result = curvature(small, lambda *progress: heard.append(progress))
    done, total = heard[-1][1:]
    assert {name for name, _, _ in heard} == {"Curvature"}
    assert 0 < done <= total
    assert result.num_products * result.num_rows <= total


def test_weights_without_their_data_have_no_curvature():
    with pytest.raises(ConfigError, match="published without the data"):
        curvature(predictors.image_classifier())
