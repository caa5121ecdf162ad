"""One vector for a sequence: padding has no part in the mean."""

import pytest
import torch

from regard.layers.pooling import Pooler, mean_of_valid

HIDDEN = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_mean_is_over_what_is_no_padding():
    found = mean_of_valid(HIDDEN, torch.tensor([4, 2, 1]))
    expected = [HIDDEN[row, :length].mean(0) for row, length in enumerate((4, 2, 1))]
    torch.testing.assert_close(found, torch.stack(expected))


def test_without_lengths_all_positions_count():
    torch.testing.assert_close(mean_of_valid(HIDDEN, None), HIDDEN.mean(1))


def test_a_row_of_padding_alone_gives_zeros():
    assert mean_of_valid(HIDDEN, torch.tensor([0, 4, 4]))[0].tolist() == [0.0] * 5


@pytest.mark.parametrize(("activation", "function"), [("tanh", torch.tanh), ("relu", torch.relu)])
def test_a_pooler_is_a_linear_map_and_its_activation(activation, function):
    pooler, vectors = Pooler(5, activation).double(), HIDDEN[:, 0]
    expected = function(vectors @ pooler.weight.T + pooler.bias)
    torch.testing.assert_close(pooler(vectors), expected)
