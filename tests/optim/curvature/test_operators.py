"""Operators, Lanczos, spectra, trace and diagonal against explicit matrices and a peer."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from regard.errors import ConfigError, ShapeError
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.optim.curvature.hutchinson import hutchinson_diagonal, hutchinson_trace
from regard.optim.curvature.lanczos import lanczos
from regard.optim.curvature.linear_cg import conjugate_gradient_solve
from regard.optim.curvature.operators import (
    CurvatureOperator,
    gauss_newton_operator,
    hessian_operator,
)
from regard.optim.curvature.spectrum import spectral_density, top_eigenvalues
from regard.optim.objectives.full_batch import FullBatch

VOCAB = 5


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def symmetric(values, seed=1):
    """Draw a matrix of given eigenvalues."""
    values = torch.as_tensor(values, dtype=torch.float64)
    size = len(values)
    noise = torch.randn(size, size, generator=generator(seed), dtype=torch.float64)
    basis, _ = torch.linalg.qr(noise)
    return basis @ torch.diag(values) @ basis.mT


def dense(operator):
    """Build the matrix of an operator, column by column."""
    return torch.stack(
        [operator.matvec(unit) for unit in torch.eye(operator.size, dtype=torch.float64)]
    )


def regression(rows=(5, 2, 4)):
    """Make a small classifier with micro-batches of different size."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    draw = generator(2)
    batches = [
        (
            torch.randn(count, 3, generator=draw, dtype=torch.float64),
            torch.randint(3, (count,), generator=draw),
        )
        for count in rows
    ]
    return model, batches


def loss_of(outputs, batch):
    return F.cross_entropy(outputs, batch[1])


@pytest.fixture
def classifier():
    model, batches = regression()
    parameters = list(model.parameters())
    operator = hessian_operator(lambda b: loss_of(model(b[0]), b), batches, parameters)
    together = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    return operator, explicit(loss_of(model(together[0]), together), parameters)


def explicit(loss, parameters):
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    rows = [
        torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True)
        for slope in gradient
        for entry in slope.reshape(-1)
    ]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


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


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 25), st.integers(1, 30), st.integers(0, 1000))
def test_lanczos_leaves_an_orthonormal_basis_in_which_the_matrix_is_tridiagonal(size, steps, seed):
    matrix = symmetric(torch.randn(size, generator=generator(seed)), seed)
    found = lanczos(
        matrix.mv, size, num_iterations=steps, generator=generator(seed), dtype=torch.float64
    )
    steps = min(steps, size)
    basis = found.basis
    assert basis.shape == (steps, size) and len(found.off_diagonal) == steps - 1
    identity = torch.eye(steps, dtype=torch.float64)
    torch.testing.assert_close(basis @ basis.mT, identity, atol=1e-13, rtol=0)
    inside = basis @ matrix @ basis.mT
    expected = torch.diag(found.diagonal)
    if steps > 1:
        expected += torch.diag(found.off_diagonal, 1) + torch.diag(found.off_diagonal, -1)
    torch.testing.assert_close(inside, expected, atol=1e-12, rtol=0)


def test_orthogonality_survives_converged_eigenvalues():
    # Without reorthogonalisation a far eigenvalue comes back again and again (Paige 1972).
    values = torch.linspace(0, 1, 100, dtype=torch.float64)
    values[-1] = 1e4
    found = lanczos(values.mul, 100, num_iterations=80, generator=generator(), dtype=torch.float64)
    gram = found.basis @ found.basis.mT
    torch.testing.assert_close(gram, torch.eye(80, dtype=torch.float64), atol=1e-13, rtol=0)
    assert (found.eigen()[0] > 2).sum() == 1


def test_after_all_steps_the_eigenvalues_are_all_found_also_repeated_ones():
    values = [3.0, 3.0, 3.0, 1.0, 0.0, 0.0, -2.0]
    found = lanczos(
        symmetric(values).mv, 7, num_iterations=7, generator=generator(), dtype=torch.float64
    )
    expected = torch.tensor(sorted(values), dtype=torch.float64)
    torch.testing.assert_close(found.eigen()[0], expected, atol=1e-13, rtol=0)
    assert found.remainder == 0


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_multiples_of_the_identity_are_no_special_case(factor):
    found = lanczos(
        lambda v: factor * v, 6, num_iterations=4, generator=generator(), dtype=torch.float64
    )
    torch.testing.assert_close(
        found.eigen()[0], torch.full((4,), factor, dtype=torch.float64), atol=1e-14, rtol=0
    )


def test_the_same_generator_gives_the_same_result():
    matrix = symmetric([1.0, 2.0, 4.0])
    first, second = (
        lanczos(matrix.mv, 3, num_iterations=2, generator=generator(5), dtype=torch.float64)
        for _ in range(2)
    )
    assert torch.equal(first.basis, second.basis)


def test_a_product_that_is_not_finite_is_reported_with_its_number():
    def broken(vector):
        return vector * float("nan")

    with pytest.raises(ConfigError) as caught:
        lanczos(broken, 3, num_iterations=2, generator=generator())
    assert str(caught.value) == (
        "product 1 with the matrix is not finite.  Check the parameters and the data."
    )


def test_an_operator_of_another_size_is_reported():
    with pytest.raises(ShapeError, match=r"returned shape \[2\] for \[3\]"):
        lanczos(lambda v: v[:2], 3, num_iterations=2, generator=generator())


def test_a_start_of_another_size_or_of_zeros_is_refused():
    with pytest.raises(ShapeError) as shape:
        lanczos(torch.neg, 3, num_iterations=2, generator=generator(), start=torch.ones(2))
    assert str(shape.value) == "start has shape [2]; [3] is expected"
    with pytest.raises(ConfigError, match="start is zero"):
        lanczos(torch.neg, 3, num_iterations=2, generator=generator(), start=torch.zeros(3))


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("largest", [9.0, 5.0, 2.0]),
        ("smallest", [-7.0, -1.0, 0.0]),
        ("magnitude", [9.0, -7.0, 5.0]),
    ],
)
def test_the_wanted_end_of_the_spectrum_is_found_and_in_order(which, expected):
    matrix = symmetric([5.0, 0.0, -7.0, 9.0, 2.0, -1.0])
    found = top_eigenvalues(
        matrix.mv, 6, 3, generator=generator(), which=which, dtype=torch.float64
    )
    torch.testing.assert_close(
        found.values, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert found.converged


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(6, 40), st.sampled_from([1e-1, 1e-3, 1e-6]))
def test_a_true_eigenvalue_lies_within_the_bound_of_every_value(seed, most, tolerance):
    matrix = symmetric(torch.randn(60, generator=generator(seed)), seed)
    found = top_eigenvalues(
        matrix.mv,
        60,
        4,
        generator=generator(seed),
        rtol=tolerance,
        max_iterations=most,
        dtype=torch.float64,
    )
    exact = torch.linalg.eigvalsh(matrix)
    gaps = (found.values[:, None] - exact).abs().amin(1)
    assert (gaps <= found.bounds + 1e-13).all()
    residuals = (matrix @ found.vectors - found.vectors * found.values).norm(dim=0)
    torch.testing.assert_close(residuals, found.bounds, atol=1e-13, rtol=1e-6)


def test_few_products_suffice_where_the_top_stands_apart():
    values = torch.linspace(0, 1, 1000, dtype=torch.float64)
    values[-3:] = torch.tensor([20.0, 40.0, 60.0], dtype=torch.float64)
    calls = []
    found = top_eigenvalues(
        lambda v: calls.append(1) or values * v,
        1000,
        3,
        generator=generator(),
        dtype=torch.float64,
    )
    assert found.converged and len(calls) == found.num_products <= 25
    torch.testing.assert_close(
        found.values, torch.tensor([60.0, 40.0, 20.0], dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_too_few_iterations_are_not_called_converged():
    values = torch.linspace(0, 1, 500, dtype=torch.float64)
    found = top_eigenvalues(
        values.mul, 500, 3, generator=generator(), max_iterations=8, dtype=torch.float64
    )
    assert not found.converged and found.num_products == 11


def test_a_matrix_of_low_rank_has_zeros_after_its_rank():
    factor = torch.randn(30, 2, generator=generator(), dtype=torch.float64)
    found = top_eigenvalues(
        lambda v: factor @ (factor.mT @ v), 30, 4, generator=generator(), dtype=torch.float64
    )
    exact = torch.linalg.svdvals(factor) ** 2
    expected = torch.cat([exact, torch.zeros(2, dtype=torch.float64)])
    torch.testing.assert_close(found.values, expected, atol=1e-12, rtol=0)


def test_arguments_of_top_eigenvalues_are_checked():
    with pytest.raises(ConfigError) as caught:
        top_eigenvalues(torch.neg, 4, 5, generator=generator())
    assert str(caught.value) == "num must be 1 to 4, the size of the matrix, not 5"
    with pytest.raises(ConfigError) as caught:
        top_eigenvalues(torch.neg, 9, 5, generator=generator(), max_iterations=3)
    assert str(caught.value) == (
        "max_iterations must be a whole number, 5 or more, not 3: every one of num=5 values takes "
        "a vector"
    )
    with pytest.raises(ConfigError) as caught:
        top_eigenvalues(torch.neg, 9, which="biggest", generator=generator())  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == "unknown which 'biggest'.  One of: largest, smallest, magnitude"


def test_the_top_of_a_hessian_is_the_explicit_ones(classifier):
    operator, matrix = classifier
    found = top_eigenvalues(operator, operator.size, generator=generator(), rtol=1e-10)
    values, vectors = torch.linalg.eigh(matrix)
    torch.testing.assert_close(found.values, values.flip(0)[:5], atol=1e-12, rtol=1e-10)
    overlap = (vectors.flip(1)[:, 0] @ found.vectors[:, 0]).abs()
    assert overlap == pytest.approx(1, abs=1e-10)


def integral(found):
    return float(found.density.mean() * (found.grid[-1] - found.grid[0])) * (
        len(found.grid) / (len(found.grid) - 1)
    )


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 25),
    st.integers(2, 300),
    st.sampled_from([None, 1e-4, 0.1, 10.0]),
)
def test_the_density_integrates_to_one(size, iterations, points, width):
    matrix = symmetric(torch.randn(size, generator=generator(size)))
    found = spectral_density(
        matrix.mv,
        size,
        3,
        iterations,
        generator=generator(),
        num_points=points,
        width=width,
        dtype=torch.float64,
    )
    assert found.grid.shape == found.density.shape == (points,)
    assert (found.density >= 0).all()
    # rounding of a grid at 1 whose cells are of 1e-6 or more
    assert integral(found) == pytest.approx(1, abs=1e-9)
    assert float(found.weights.sum()) == pytest.approx(1, abs=1e-12)


def test_the_density_of_a_diagonal_matrix_is_the_exact_one():
    # Random signs weigh every eigenvector of a diagonal matrix alike.
    values = torch.tensor([0.0, 0.0, 1.0, 4.0], dtype=torch.float64)
    found = spectral_density(values.mul, 4, 2, 4, generator=generator(), dtype=torch.float64)
    cell = found.grid[1] - found.grid[0]
    shares = [float(found.density[(found.grid - at).abs() < 0.3].sum() * cell) for at in (0, 1, 4)]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=1e-8)


def test_the_density_of_the_semicircle_law_is_found():
    # A symmetric matrix of independent entries (Wigner 1958).
    noise = torch.randn(400, 400, generator=generator(), dtype=torch.float64)
    matrix = (noise + noise.mT) / (2 * 400) ** 0.5
    found = spectral_density(
        matrix.mv, 400, 10, 40, generator=generator(), width=0.1, dtype=torch.float64
    )
    exact = (4 - found.grid**2).clamp_min(0).sqrt() / (2 * torch.pi)
    # ten probes of 400 entries: about one part in 60; the width blurs the ends
    inside = found.grid.abs() < 1.7
    assert (found.density - exact)[inside].abs().max() < 0.03


@pytest.mark.slow
def test_the_quadrature_is_exact_for_moments_of_the_probes():
    # k nodes integrate polynomials to degree 2 k - 1 (Golub & Meurant 2010).
    matrix = symmetric(torch.linspace(-1, 2, 30))
    found = spectral_density(matrix.mv, 30, 400, 4, generator=generator(), dtype=torch.float64)
    exact = hutchinson_trace(
        lambda v: torch.linalg.matrix_power(matrix, 7) @ v,
        30,
        400,
        generator=generator(),
        dtype=torch.float64,
    )
    assert 30 * float((found.weights * found.nodes**7).sum()) == pytest.approx(
        float(exact.value), rel=1e-10
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"num_probes": 0}, "num_probes must be a whole number, 1 or more, not 0"),
        ({"num_iterations": 0}, "num_iterations must be a whole number, 1 or more, not 0"),
        ({"num_points": 1}, "num_points must be a whole number, 2 or more, not 1"),
        ({"width": 0.0}, "width must be above 0, not 0.0"),
    ],
)
def test_arguments_of_the_density_are_checked(settings, text):
    with pytest.raises(ConfigError) as caught:
        spectral_density(torch.neg, 4, generator=generator(), **settings)
    assert str(caught.value) == text


@pytest.mark.slow
def test_trace_and_diagonal_lie_within_a_few_standard_errors(classifier):
    operator, matrix = classifier
    found = hutchinson_trace(operator, operator.size, 100, generator=generator())
    assert (found.value - matrix.trace()).abs() < 4 * found.standard_error
    entries = hutchinson_diagonal(operator, operator.size, 100, generator=generator())
    # of 24 entries one in 700 would lie outside of four standard errors by chance
    assert ((entries.value - matrix.diagonal()).abs() <= 4 * entries.standard_error).all()
    assert entries.value.dtype == torch.float64


def test_the_standard_error_of_the_trace_is_that_of_theory():
    matrix = symmetric(torch.linspace(-1, 3, 20))
    found = hutchinson_trace(matrix.mv, 20, 4000, generator=generator(), dtype=torch.float64)
    off = matrix - torch.diag(matrix.diagonal())
    theory = (2 * off.square().sum() / 4000).sqrt()
    # a standard deviation over 4,000 probes is known to about 1 in 80
    assert float(found.standard_error / theory) == pytest.approx(1, abs=0.06)


def test_trace_and_diagonal_of_a_diagonal_matrix_are_exact():
    values = torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)
    found = hutchinson_trace(values.mul, 3, 2, generator=generator(), dtype=torch.float64)
    assert (float(found.value), float(found.standard_error)) == (4.0, 0.0)
    entries = hutchinson_diagonal(values.mul, 3, 2, generator=generator(), dtype=torch.float64)
    assert entries.value.tolist() == [1, -2, 5] and entries.standard_error.tolist() == [0, 0, 0]


def test_the_mean_and_error_of_the_diagonal_are_those_of_the_probes():
    matrix = symmetric([1.0, 2.0, 5.0, 7.0])
    seen = []

    def watched(vector):
        seen.append(vector * (matrix @ vector))
        return matrix @ vector

    found = hutchinson_diagonal(watched, 4, 10, generator=generator(), dtype=torch.float64)
    samples = torch.stack(seen)
    torch.testing.assert_close(found.value, samples.mean(0))
    torch.testing.assert_close(found.standard_error, samples.std(0) / 10**0.5)


def test_one_probe_is_refused_because_it_has_no_standard_error():
    for estimate in (hutchinson_trace, hutchinson_diagonal):
        with pytest.raises(ConfigError) as caught:
            estimate(torch.neg, 3, 1, generator=generator())
        assert str(caught.value) == (
            "num_probes must be a whole number, 2 or more, not 1: the standard error needs two"
        )


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


def test_eigenvalues_and_density_agree_with_those_through_curvlinops():
    pytest.importorskip("curvlinops")
    curvlinops = importlib.import_module("curvlinops")
    eigsh = importlib.import_module("scipy.sparse.linalg").eigsh
    model, batches = regression()
    parameters = list(model.parameters())
    peer = curvlinops.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), parameters, batches, check_deterministic=False
    )
    operator = hessian_operator(lambda b: loss_of(model(b[0]), b), batches, parameters)
    found = top_eigenvalues(operator, 24, 3, generator=generator(), rtol=1e-10)
    low = top_eigenvalues(operator, 24, 1, generator=generator(), which="smallest")
    values = torch.as_tensor(eigsh(peer.to_scipy(), k=3, which="LA")[0].copy())
    torch.testing.assert_close(found.values, values.flip(0), atol=1e-10, rtol=1e-10)

    torch.manual_seed(1)
    grid, theirs = curvlinops.lanczos_approximate_spectrum(
        peer, 8, num_repeats=6, boundaries=(float(low.values), float(values[-1]))
    )
    ours = spectral_density(operator, 24, 20, 24, generator=generator())
    share = float(ours.density[ours.grid < 0.1].mean() * (0.1 - ours.grid[0]))
    peers = float(theirs[grid < 0.1].mean() * (0.1 - grid[0]))
    # six random vectors of 24 entries: a share of 2/3 has a standard deviation of 0.05
    assert share == pytest.approx(peers, abs=0.15)


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
