"""Alignment of output tokens with source tokens, from cross-attention.

In a Transformer the weights of the last-but-one decoder layer, averaged over heads, align best
(Garg et al. 2019, "Jointly Learning to Align and Translate with Transformer Models", section 4.1);
each family names its own layer. Attention shows where information may flow, not why a word was
chosen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.layers.recorded_attention import AttentionRecord
from regard.models import EncoderDecoder


@torch.no_grad()
def cross_attention(model: EncoderDecoder[Any], source_ids: Tensor, target_ids: Tensor) -> Tensor:
    """Compute the alignment weights of outputs.

    Args:
        model: Model in evaluation mode.
        source_ids: ``[batch, source_length]``, padded on the right.
        target_ids: Decoder inputs, ``[batch, length]``, beginning with ``<s>``.

    Returns:
        ``[batch, length, source_length]``; row t belongs to the token that follows decoder input
        t, and sums to 1, or to 0 where the attention pattern allows it nothing.

    Raises:
        ConfigError: The model has no attention.
    """
    attention = model.alignment_attention
    if attention is None:
        raise ConfigError(
            "the model has no attention over its source to align by.  "
            "Train one with `model.attention=luong` or `model.attention=bahdanau`."
        )
    records: list[AttentionRecord] = []
    attention.on_attention = records.append
    try:
        model.hidden_states(source_ids, target_ids)
    finally:
        attention.on_attention = None
    # A recurrent decoder attends once for each position.
    parts = [record.weights.to_dense() for record in records if record.weights is not None]
    weights = torch.cat(parts, dim=2)
    return weights.float().mean(1)  # [batch, length, source_length]
