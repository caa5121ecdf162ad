"""Many cotangents at once give what calls one by one give, on both sides of the thresholds."""

import pytest
import torch
from tests.attention.test_readable import LONG, PATTERNS, draw, draw_inputs

from regard.attention import Local, T5Relative, attend
from regard.attention.mesa.layer_function import mesa


def assert_many_cotangents_give_what_each_gives(out, inputs):
    cotangents = draw(2, *out.shape, seed=5)
    many = torch.autograd.grad(out, inputs, cotangents, is_grads_batched=True, retain_graph=True)
    for i, cotangent in enumerate(cotangents):
        expected = torch.autograd.grad(out, inputs, cotangent, retain_graph=True)
        torch.testing.assert_close(tuple(x[i] for x in many), expected)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"bias": T5Relative(draw(2, 32))}], ids=["plain", "bias"])
@pytest.mark.parametrize("length", [130, LONG])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_many_cotangents_at_once_give_what_each_gives(pattern, length, options):
    q, k, v = (x.requires_grad_() for x in draw_inputs(length))
    out = attend(q, k, v, pattern=pattern, **options)
    assert_many_cotangents_give_what_each_gives(out, (q, k, v))


def test_many_directions_of_a_second_derivative_give_what_each_gives():
    q, k, v = (x.requires_grad_() for x in draw_inputs(130))
    value = attend(q, k, v, pattern=Local(5, 0)).square().sum()
    (gradient,) = torch.autograd.grad(value, q, create_graph=True)
    assert_many_cotangents_give_what_each_gives(gradient, (q, k, v))


def test_many_cotangents_of_the_mesa_layer_give_what_each_gives():
    q, k, v = (x.requires_grad_() for x in draw_inputs(5))
    out = mesa(q, k, v, regularization=torch.ones(2, 2, dtype=torch.float64))
    assert_many_cotangents_give_what_each_gives(out, (q, k, v))
