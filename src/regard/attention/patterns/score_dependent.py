"""Score-dependent patterns, `TopK` and `Hierarchical`, with the options of a call of `attend`."""

from __future__ import annotations

import torch
from torch import Tensor

from regard.attention.dense import AttentionOutput, dense_scores, drop_weights, repeat_heads
from regard.attention.options import AttentionOptions
from regard.attention.patterns import Causal, Hierarchical, TopK
from regard.attention.patterns.hierarchical import hierarchical_attention
from regard.attention.patterns.top_k import top_k_attention
from regard.attention.scores import DotProduct
from regard.errors import ConfigError


def attend_top_k(
    q: Tensor, k: Tensor, v: Tensor, pattern: TopK, options: AttentionOptions
) -> AttentionOutput:
    """Compute top-k attention.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: How many keys a query keeps.
        options: All else.

    Returns:
        Output and weights.
    """
    queries, keys = options.positions(q, k)
    allowed = None
    if pattern.causal:
        allowed = Causal().allowed(queries[:, None], keys[..., None, None, :])
    v = repeat_heads(v, q.shape[1])
    scores = dense_scores(q, k, options)
    out, weights = top_k_attention(scores, v, pattern.k, options.allowed(allowed, q, k))
    if options.dropout > 0:
        weights = drop_weights(weights, q, k, options)
        out = torch.matmul(weights.to(v.dtype), v)
    return AttentionOutput(out, weights)


def attend_hierarchical(
    q: Tensor, k: Tensor, v: Tensor, pattern: Hierarchical, options: AttentionOptions
) -> AttentionOutput:
    """Compute hierarchical attention.

    Args:
        q: ``[batch, heads, length, dim]``.
        k: ``[batch, kv_heads, length, dim]``.
        v: ``[batch, kv_heads, length, value_dim]``.
        pattern: Size of a block.
        options: Dot products, lengths and mask only.

    Returns:
        The output.

    Raises:
        ConfigError: The pattern does not go with an option.
    """
    _refuse_others(pattern, q, k, options)
    assert isinstance(options.score, DotProduct)
    scale = options.score.scale
    k, v = (repeat_heads(tensor, q.shape[1]) for tensor in (k, v))
    out = hierarchical_attention(
        q,
        k,
        v,
        block=pattern.block,
        causal=pattern.causal,
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
        lengths=options.lengths,
        mask=options.mask,
    )
    return AttentionOutput(out)


def _refuse_others(pattern: Hierarchical, q: Tensor, k: Tensor, options: AttentionOptions) -> None:
    is_plain = isinstance(options.score, DotProduct) and options.score.soft_cap is None
    refused = {
        "another score than DotProduct() without soft_cap": not is_plain,
        "bias": options.bias is not None,
        "segments": options.segments is not None,
        "query_offset": options.query_offset != 0,
        "key_positions": options.key_positions is not None,
        "dropout": options.dropout > 0,
        f"{q.shape[2]} queries with {k.shape[2]} keys": q.shape[2] != k.shape[2],
    }
    for what, is_given in refused.items():
        if is_given:
            raise ConfigError(
                f"{pattern!r} averages keys and does not go with {what}.  "
                "Every mask pattern does, such as Local(...)."
            )
