"""The benchmark of a classifier's head: the minimum is one, and every method arrives there."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks import head

PENALTY = 0.1


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(60, generator=generator, dtype=torch.float64)
    return head.Rows(features, (features[:, 0] + noise > 0).long())


def test_the_least_loss_is_where_the_gradient_is_zero(rows):
    least = head.least_loss(rows, PENALTY)
    found = head.new_head(rows)
    optimizer = torch.optim.LBFGS(
        found.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=0
    )

    def closure():
        optimizer.zero_grad()
        loss = head.loss_of(found, rows, PENALTY)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert least == pytest.approx(float(closure().detach()), rel=1e-10)


@pytest.fixture(scope="module")
def goal(rows):
    return (1 + 1e-6) * head.least_loss(rows, PENALTY)


@pytest.fixture(scope="module")
def adam(rows, goal):
    return min(
        head.adam_to_minimum(rows, PENALTY, rate, goal, math.inf) for rate in head.ADAM_RATES
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", head.SOLVERS)
def test_every_method_comes_to_the_minimum_in_fewer_passes_than_adam(rows, goal, adam, name):
    found = head.new_head(rows)
    objective = head.objective_of(found, rows, PENALTY)
    passes = head.passes_to_minimum(head.SOLVERS[name](list(found.parameters())), objective, goal)
    assert float(head.loss_of(found, rows, PENALTY).detach()) <= goal
    assert passes < adam < head.LIMIT
