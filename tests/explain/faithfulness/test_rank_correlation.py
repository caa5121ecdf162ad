"""Kendall's tau: equal to SciPy's."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from regard.explain.faithfulness.rank_correlation import kendall_tau


@pytest.mark.parametrize("seed", range(5))
def test_tau_is_that_of_scipy_also_with_ties(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 6, (2, 12)).astype(float)
    assert kendall_tau(first, second) == pytest.approx(kendalltau(first, second).statistic)


def test_tau_is_not_defined_for_equal_numbers_or_less_than_two():
    assert math.isnan(kendall_tau(np.ones(3), np.arange(3.0)))
    assert math.isnan(kendall_tau(np.ones(1), np.ones(1)))
    assert math.isnan(kendall_tau(np.ones(0), np.ones(0)))
