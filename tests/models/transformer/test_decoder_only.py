"""The decoder of the Transformer alone, as a language model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from regard.layers.attention_config import AttentionConfig
from regard.models import TransformerConfig, TransformerDecoder

VOCAB = 20
IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 10, 11], [1, 12, 13, 4, 4, 14, 3, 9]])
CLOSE = {"rtol": 0, "atol": 1e-12}


def transformer(kind: Any, attention=AttentionConfig(), **changes):  # noqa: B008
    torch.manual_seed(0)
    sizes = {"num_encoder_layers": 2, "num_decoder_layers": 2, "dim": 16, "num_heads": 2}
    config = TransformerConfig(**sizes | {"hidden_dim": 24} | changes)
    model = kind(config, VOCAB, attention).double().eval()
    model.compute_dtype = torch.float64
    return model


VARIANTS = [
    {},
    {"norm": "post"},
    {"positions": "learned", "has_embedding_scale": False},
    {"positions": "learned", "position_offset": 2, "has_embedding_norm": True},
    {"positions": "sinusoidal_halves", "activation": "swiglu", "tied": "none"},
]


@pytest.mark.parametrize("changes", [*VARIANTS, {"has_output_bias": True}], ids=str)
def test_a_decoder_reads_on_as_it_reads(changes):
    model = transformer(TransformerDecoder, **changes)
    if model.output_bias is not None:
        torch.nn.init.normal_(model.output_bias)
    whole, state = model(IDS), model.init_state()
    for place in range(IDS.shape[1]):
        found = model.decode_step(IDS[:, place : place + 1], state)
        torch.testing.assert_close(found, whole[:, place], **CLOSE)


def test_a_bias_of_the_output_is_added_to_the_logits():
    plain, biased = (transformer(TransformerDecoder, has_output_bias=has) for has in (False, True))
    assert (plain.has_plain_logits, biased.has_plain_logits) == (True, False)
    with torch.no_grad():
        biased.output_bias += torch.arange(VOCAB)
    torch.testing.assert_close(biased(IDS), plain(IDS) + torch.arange(VOCAB), **CLOSE)
