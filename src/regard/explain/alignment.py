"""Which source token each output token looked at, from cross-attention.

The weights of the last-but-one decoder layer, averaged over heads, align best (Garg et al. 2019,
"Jointly Learning to Align and Translate with Transformer Models", section 4.1). Attention tells
where information may flow from, not why a word was chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.models.transformer import Transformer


@torch.no_grad()
def cross_attention(model: Transformer, source_ids: Tensor, target_ids: Tensor) -> Tensor:
    """Compute the alignment weights of given outputs.

    Args:
        model: In evaluation mode.
        source_ids: ``[batch, source_length]``, padded on the right with 0.
        target_ids: Decoder inputs, ``[batch, length]``, beginning with ``<s>``.

    Returns:
        ``[batch, length, source_length]``; row t belongs to the token that follows decoder input
        t, and sums to 1, or to 0 where the pattern of attention allows it nothing.
    """
    blocks = model.decoder_blocks
    attention = blocks[max(0, len(blocks) - 2)].cross_attention
    found: list[Tensor] = []
    attention.on_weights = found.append
    try:
        model.hidden(source_ids, target_ids)
    finally:
        attention.on_weights = None
    return found[0].to_dense().float().mean(1)  # [batch, length, source_length]
