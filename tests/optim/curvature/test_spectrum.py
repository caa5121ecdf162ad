"""Top eigenvalues and spectral densities against explicit matrices and a peer."""

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.optim.curvature.explicit_matrices import (
    generator,
    loss_of,
    regression,
    symmetric,
)
from torch import nn

from regard.errors import ConfigError
from regard.optim.curvature.hutchinson import hutchinson_trace
from regard.optim.curvature.operators import (
    hessian_operator,
)
from regard.optim.curvature.spectrum import spectral_density, top_eigenvalues


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
def test_fractions_away_from_zero_are_those_of_the_explicit_matrix():
    generator_ = generator()
    near = 1e-5 * torch.randn(800, dtype=torch.float64, generator=generator_)
    away = torch.cat([torch.linspace(-9, -1, 60), torch.linspace(1, 9, 140)]).double()
    eigenvalues = torch.cat([near, away])
    found = spectral_density(
        lambda vector: eigenvalues * vector,
        1000,
        generator=generator_,
        num_probes=16,
        num_iterations=40,
        dtype=torch.float64,
    )
    assert float(found.weights[found.nodes < -0.09].sum()) == pytest.approx(0.06, abs=0.01)
    assert float(found.weights[found.nodes > 0.09].sum()) == pytest.approx(0.14, abs=0.015)


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
