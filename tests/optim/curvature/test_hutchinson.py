"""Trace and diagonal from random probes: exact for diagonal matrices, with their errors."""

import pytest
import torch
from tests.optim.curvature.explicit_matrices import (
    generator,
    symmetric,
)

from regard.errors import ConfigError
from regard.optim.curvature.hutchinson import hutchinson_diagonal, hutchinson_trace


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
