"""Norms refuse what they would broadcast."""

import pytest
import torch

from regard.errors import ShapeError
from regard.layers import RMSNorm


def test_an_axis_of_one_is_not_broadcast_to_the_weights():
    with pytest.raises(ShapeError) as caught:
        RMSNorm(8)(torch.ones(2, 5, 1))
    assert str(caught.value) == "x has shape [2, 5, 1]; expected [..., 8] to fit the norm."
