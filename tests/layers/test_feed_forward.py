"""Gated feed-forward networks are the formula of their paper."""

import pytest
import torch
import torch.nn.functional as F

from regard.layers import FeedForward


@pytest.mark.parametrize(("activation", "function"), [("swiglu", F.silu), ("geglu", F.gelu)])
def test_a_gate_multiplies_what_is_activated(activation, function):
    torch.manual_seed(0)
    layer, x = FeedForward(6, 10, activation=activation, bias=False), torch.randn(2, 3, 6)
    first, gate = layer.inner.weight.chunk(2)
    expected = (function(x @ first.T) * (x @ gate.T)) @ layer.outer.weight.T
    torch.testing.assert_close(layer(x), expected)
