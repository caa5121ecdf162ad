"""Lanczos: an orthonormal basis in which the matrix is tridiagonal."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.optim.curvature.explicit_matrices import (
    generator,
    symmetric,
)

from regard.errors import ConfigError, ShapeError
from regard.optim.curvature.lanczos import lanczos


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
