"""Alignment from cross-attention, with every layout of the weights."""

import pytest
import torch

from regard.generation.alignment import cross_attention
from regard.layers.attention_config import AttentionConfig
from regard.models.transformer.model import Transformer, TransformerConfig


def build(cross):
    torch.manual_seed(0)
    config = TransformerConfig(
        num_encoder_layers=1,
        num_decoder_layers=2,
        dim=8,
        num_heads=2,
        hidden_dim=8,
    )
    return Transformer(config, 12, AttentionConfig(pattern="local:2", cross=cross)).eval()


@pytest.mark.parametrize("cross", ["full", "local:9", "local:1|global:0", "top_k:2"])
def test_rows_of_the_alignment_sum_to_one(cross):
    source, target = torch.randint(3, 12, (2, 6)), torch.randint(3, 12, (2, 5))
    weights = cross_attention(build(cross), source, target)
    assert weights.shape == (2, 5, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5))


def test_the_sparse_weights_of_long_sequences_come_back_dense():
    source, target = torch.randint(3, 12, (1, 600)), torch.randint(3, 12, (1, 600))
    weights = cross_attention(build("local:2"), source, target)
    assert weights.shape == (1, 600, 600)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 600))
    assert int((weights[0, 300] > 0).sum()) == 5


def test_the_hook_is_removed_after_use():
    model = build("full")
    cross_attention(model, torch.tensor([[3, 4]]), torch.tensor([[1, 5]]))
    assert all(block.cross_attention.on_attention is None for block in model.decoder_blocks)
