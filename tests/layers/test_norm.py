"""Norms refuse what they would broadcast, and may have no bias."""

import pytest
import torch

from regard.errors import ShapeError
from regard.layers import LayerNorm, RMSNorm


def test_an_axis_of_one_is_not_broadcast_to_the_weights():
    with pytest.raises(ShapeError) as caught:
        RMSNorm(8)(torch.ones(2, 5, 1))
    assert str(caught.value) == "x has shape [2, 5, 1]; expected [..., 8] to fit the norm."


def test_a_norm_may_have_no_bias():
    norm, x = LayerNorm(8, bias=False), torch.randn(2, 8)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]
    torch.testing.assert_close(norm(x), LayerNorm(8)(x), rtol=0, atol=0)
