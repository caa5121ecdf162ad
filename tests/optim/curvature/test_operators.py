"""Operators of curvature against explicit matrices and a peer."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from tests.optim.curvature.explicit_matrices import (
    dense,
    explicit,
    generator,
    loss_of,
    regression,
)
from torch import nn

from regard.errors import ConfigError, ShapeError
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.optim.curvature.hutchinson import hutchinson_diagonal, hutchinson_trace
from regard.optim.curvature.linear_cg import conjugate_gradient_solve
from regard.optim.curvature.operators import (
    CurvatureOperator,
    gauss_newton_operator,
    hessian_operator,
)
from regard.optim.curvature.spectrum import top_eigenvalues
from regard.optim.objectives.full_batch import FullBatch

VOCAB = 5


def test_an_operator_over_micro_batches_is_the_hessian_of_the_mean_over_all_rows(classifier):
    operator, matrix = classifier
    torch.testing.assert_close(dense(operator), matrix, atol=1e-13, rtol=1e-12)


def test_the_gauss_newton_operator_is_the_hessian_where_the_model_is_linear():
    torch.manual_seed(1)
    model = nn.Linear(3, 3).double()
    _, batches = regression()
    kind = [model.weight, model.bias]
    found = gauss_newton_operator(lambda b: model(b[0]), loss_of, batches, kind)
    full = hessian_operator(lambda b: loss_of(model(b[0]), b), batches, kind)
    torch.testing.assert_close(dense(found), dense(full), atol=1e-13, rtol=1e-12)


def test_dropout_is_off_while_the_operator_multiplies():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).double()
    _, batches = regression()
    operator = hessian_operator(
        lambda b: loss_of(model(b[0]), b), batches, model.parameters(), model=model
    )
    vector = torch.ones(operator.size, dtype=torch.float64)
    assert torch.equal(operator.matvec(vector), operator.matvec(vector))
    assert model.training


def test_an_operator_knows_size_and_type_and_takes_the_parameters_in_order():
    first = torch.zeros(2, 2, requires_grad=True)
    second = torch.zeros(3, requires_grad=True)
    operator = CurvatureOperator(lambda v: [2 * v[0], 3 * v[1]], iter([first, second]))
    assert operator.size == 7 and operator.dtype == torch.float32
    assert operator.matvec(torch.ones(7)).tolist() == [2, 2, 2, 2, 3, 3, 3]
    parts = operator.unflatten(torch.arange(7.0))
    assert [part.shape for part in parts] == [first.shape, second.shape]
    assert operator.flatten(parts).tolist() == list(range(7))


def test_a_vector_of_another_type_comes_back_in_its_own():
    weight = torch.zeros(2, requires_grad=True)
    operator = CurvatureOperator(lambda v: [2 * v[0]], [weight])
    assert operator.matvec(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


def test_a_vector_of_another_size_is_refused():
    operator = CurvatureOperator(lambda v: list(v), [torch.zeros(2, 2, requires_grad=True)])
    with pytest.raises(ShapeError) as caught:
        operator.matvec(torch.ones(3))
    assert str(caught.value) == (
        "the vector has shape [3]; [4] is expected, an entry for every entry of the parameters"
    )


def test_an_operator_without_parameters_is_refused():
    with pytest.raises(ConfigError, match="there are no parameters"):
        CurvatureOperator(lambda v: list(v), [])


def test_damped_newton_equations_are_solved_with_an_operator(classifier):
    operator, matrix = classifier
    right = torch.randn(operator.size, generator=generator(), dtype=torch.float64)
    found = conjugate_gradient_solve(lambda v: operator.matvec(v) + v, right, rtol=1e-12)
    exact = torch.linalg.solve(matrix + torch.eye(operator.size, dtype=torch.float64), right)
    torch.testing.assert_close(found.x, exact, atol=1e-10, rtol=1e-10)


@pytest.fixture(scope="module")
def translation():
    """Operators of a Transformer of 1 + 1 layers over micro-batches of different size."""
    torch.manual_seed(2)
    config = TransformerConfig(
        num_encoder_layers=1,
        num_decoder_layers=1,
        dim=8,
        num_heads=2,
        hidden_dim=4,
        dropout=0.1,
        activation="gelu",
    )
    model = Transformer(config, VOCAB).double()
    model.compute_dtype = torch.float64
    draw = generator(3)
    batches = [
        (
            torch.randint(3, VOCAB, (rows, keys), generator=draw),
            torch.randint(3, VOCAB, (rows, length), generator=draw),
        )
        for rows, keys, length in ((3, 4, 3), (1, 5, 4), (2, 3, 2))
    ]
    parameters = [p for n, p in model.named_parameters() if "cross_attention.query.bias" in n]
    parameters += [model.output_weight]

    def outputs(batch):
        return model(batch[0], batch[1]).flatten(0, 1)

    def loss(logits, batch):
        return F.cross_entropy(logits, batch[1].flatten(), reduction="sum"), batch[1].numel()

    full = hessian_operator(lambda b: loss(outputs(b), b), batches, parameters, model=model)
    part = gauss_newton_operator(outputs, loss, batches, parameters, model=model)
    model.eval()
    total = torch.stack([loss(outputs(b), b)[0] for b in batches]).sum()
    matrix = explicit(total / sum(b[1].numel() for b in batches), parameters)
    return full, part, matrix


@pytest.mark.slow
def test_the_hessian_operator_of_a_transformer_is_the_explicit_matrix(translation):
    operator, _, matrix = translation
    torch.testing.assert_close(dense(operator), matrix, atol=1e-13, rtol=1e-11)


@pytest.mark.slow
def test_the_spectrum_of_a_transformer_is_that_of_the_explicit_matrix(translation):
    operator, _, matrix = translation
    exact = torch.linalg.eigvalsh(matrix)
    top = top_eigenvalues(operator, operator.size, generator=generator(), rtol=1e-8)
    torch.testing.assert_close(top.values, exact.flip(0)[:5], atol=1e-10, rtol=1e-8)
    low = top_eigenvalues(operator, operator.size, 1, generator=generator(), which="smallest")
    assert (low.values - exact[0]).abs() <= low.bounds
    found = hutchinson_trace(operator, operator.size, 30, generator=generator())
    assert (found.value - matrix.trace()).abs() < 4 * found.standard_error


@pytest.mark.slow
def test_the_gauss_newton_spectrum_of_a_transformer_is_not_negative(translation):
    _, operator, _ = translation
    found = top_eigenvalues(operator, operator.size, 1, generator=generator(), which="smallest")
    assert float(found.values[0]) > -1e-12


@pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
def test_matrix_trace_and_spectrum_agree_with_curvlinops(curvature):
    pytest.importorskip("curvlinops")
    curvlinops = importlib.import_module("curvlinops")
    model, batches = regression()
    parameters = list(model.parameters())
    objective = FullBatch(batches, loss_of, outputs=lambda b: model(b[0]), parameters=parameters)
    operator = CurvatureOperator(getattr(objective, curvature), parameters)
    peers = {
        "hessian": curvlinops.HessianLinearOperator,
        "gauss_newton": curvlinops.GGNLinearOperator,
    }
    peer = peers[curvature](model, nn.CrossEntropyLoss(), parameters, batches)
    size = operator.size
    matrix = peer @ torch.eye(size, dtype=torch.float64)
    torch.testing.assert_close(dense(operator), matrix, atol=1e-13, rtol=1e-11)

    torch.manual_seed(1)
    ours = hutchinson_trace(operator, size, 60, generator=generator())
    # curvlinops takes fewer probes than there are rows
    theirs = torch.stack([curvlinops.hutchinson_trace(matrix, 20) for _ in range(3)]).mean()
    assert (ours.value - theirs).abs() < 4 * 2**0.5 * ours.standard_error
    theirs = torch.stack([curvlinops.hutchinson_diag(matrix, 20) for _ in range(3)]).mean(0)
    entries = hutchinson_diagonal(operator, size, 60, generator=generator())
    assert ((entries.value - theirs).abs() <= 4 * 2**0.5 * entries.standard_error).all()


def test_an_operator_multiplies_a_vector_or_the_columns_of_a_matrix(classifier):
    operator, matrix = classifier
    vectors = torch.randn(operator.size, 3, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(operator @ vectors, matrix @ vectors, atol=1e-13, rtol=1e-12)
    assert torch.equal(operator @ vectors[:, 0], operator.matvec(vectors[:, 0]))
    assert (operator @ vectors[:, :0]).shape == (operator.size, 0)
    assert operator.shape == tuple(matrix.shape)


def test_a_matrix_of_another_height_is_refused_by_name(classifier):
    operator, _ = classifier
    with pytest.raises(ShapeError, match=r"^the vector has shape \[2\]; \["):
        operator @ torch.ones(2, 3)


def test_tensors_operators_and_functions_are_taken_alike(classifier):
    operator, matrix = classifier
    b = torch.ones(operator.size, dtype=torch.float64)
    for estimate in (hutchinson_trace, hutchinson_diagonal):
        found = [
            estimate(kind, operator.size, 4, generator=generator(), dtype=torch.float64).value
            for kind in (matrix, matrix.mv, operator)
        ]
        torch.testing.assert_close(found[0], found[1], atol=0, rtol=0)
        torch.testing.assert_close(found[0], found[2], atol=1e-12, rtol=1e-10)
    shifted = matrix + torch.eye(operator.size, dtype=torch.float64)
    solutions = [
        conjugate_gradient_solve(kind, b, rtol=1e-12).x
        for kind in (shifted, lambda v: operator @ v + v)
    ]
    torch.testing.assert_close(*solutions, atol=1e-10, rtol=1e-9)


def test_a_vector_whose_type_cannot_hold_the_product_is_refused(classifier):
    operator, _ = classifier
    for vector in (torch.ones(operator.size).long(), torch.ones(operator.size, 2).cfloat()):
        with pytest.raises(ShapeError, match=r"^the vector is torch\.\w+; floating point is exp"):
            operator @ vector
    with pytest.raises(ShapeError, match=r"^the vector is of type list; a tensor is expected"):
        operator @ [1.0] * operator.size


def test_products_are_computed_in_inference_mode_too(classifier):
    operator, matrix = classifier
    with torch.inference_mode():
        vector = torch.ones(operator.size, dtype=torch.float64)
        product = operator @ vector
    torch.testing.assert_close(product, matrix @ torch.ones_like(matrix[0]))


def test_a_tensor_is_multiplied_with_a_vector_of_another_type_too():
    matrix = 2 * torch.eye(3, dtype=torch.float64)
    solution = conjugate_gradient_solve(matrix, torch.ones(3))
    assert torch.equal(solution.x, torch.full((3,), 0.5))
