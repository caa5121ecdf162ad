"""Attention sinks: keys that get attention although they say nothing (Xiao et al. 2024).

Softmax makes every query spend its attention, so heads learn to leave what they do not need at a
token that all queries see: a special one (also Clark et al. 2019, section 3.2, of ``[SEP]``) or, in
a decoder, the first one. A key is called the sink of a head where it gets 30 % of all attention or
more (the threshold of Gu et al. 2025, "When Attention Sink Emerges in Language Models") and twice
as much as it would if every query shared its attention equally.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.explain.capture import LayerAttention
from regard.explain.document import AttentionSink
from regard.explain.prediction import Feature

_LEAST_SHARE = 0.3
_LEAST_GAIN = 2.0  # over equal weights


def find_sinks(
    layer: LayerAttention, features: tuple[Feature, ...], equal_shares: Tensor
) -> list[AttentionSink | None]:
    """Return the sink of each head; None where it has none.

    Args:
        layer: With weights.
        features: Features of the prediction.
        equal_shares: What each key would get with equal weights, ``[keys]``.
    """
    keys = features[layer.first_key : layer.first_key + layer.num_keys]
    # In a decoder all queries see the first key, and some nothing else.
    num_first = int(layer.kind == "decoder")
    candidates = [i for i, key in enumerate(keys) if key.is_special or i < num_first]
    if not candidates:
        return [None] * layer.num_heads
    shares = _shares(layer)[:, candidates]  # [heads, candidates]
    is_sink = (shares >= _LEAST_SHARE) & (shares >= _LEAST_GAIN * equal_shares[candidates])
    best = shares.masked_fill(~is_sink, -1.0).argmax(-1)
    return [
        AttentionSink(key=candidates[index], share=round(float(shares[head, index]), 6))
        if bool(is_sink[head, index])
        else None
        for head, index in enumerate(best.tolist())
    ]


def _shares(layer: LayerAttention) -> Tensor:
    """Return the mean weight of each key over all queries, ``[heads, keys]``."""
    weights = layer.weights
    if not weights.is_sparse:
        return weights.float().mean(1)
    head, _, key = weights.indices()
    total = torch.zeros(layer.num_heads * layer.num_keys)
    total.index_add_(0, head * layer.num_keys + key, weights.values().float())
    return total.view(layer.num_heads, layer.num_keys) / layer.num_queries
