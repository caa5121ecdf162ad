"""Patterns that are no masks, `TopK` and `Hierarchical`, with what a call of `attend` adds."""

from __future__ import annotations

import torch
from torch import Tensor

from regard.attention.dense import dense_scores, drop_weights, repeat_heads
from regard.attention.nan_propagation import propagate_nan
from regard.attention.options import AttentionOptions
from regard.attention.patterns import Causal, Hierarchical, TopK
from regard.attention.patterns.base import ScoreDependentPattern
from regard.attention.patterns.hierarchical import hierarchical_attention
from regard.attention.patterns.top_k import top_k_attention
from regard.attention.scores import DotProduct
from regard.errors import ConfigError


def attend_unmasked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: ScoreDependentPattern,
    options: AttentionOptions,
    *,
    return_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """Compute attention by a pattern that is no mask.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: `TopK`, or `Hierarchical`, which takes dot products and lengths only.
        options: All else.
        return_weights: Whether the weights are wanted.

    Returns:
        ``[batch, heads, queries, value_dim]``, and the weights ``[batch, heads, queries, keys]``.

    Raises:
        ConfigError: The pattern does not go with a term.
    """
    if isinstance(pattern, TopK):
        return _top_k(q, k, v, pattern, options)
    assert isinstance(pattern, Hierarchical)
    _refuse_others(pattern, q, k, options, return_weights)
    assert isinstance(options.score, DotProduct)
    scale = options.score.scale
    k, v = (repeat_heads(tensor, q.shape[1]) for tensor in (k, v))
    out = hierarchical_attention(
        propagate_nan(q, k),
        k,
        v,
        block=pattern.block,
        causal=pattern.causal,
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
        lengths=options.lengths,
    )
    return out, None


def _top_k(
    q: Tensor, k: Tensor, v: Tensor, pattern: TopK, options: AttentionOptions
) -> tuple[Tensor, Tensor]:
    queries, keys = options.positions(q, k)
    allowed = None
    if pattern.causal:
        allowed = Causal().allowed(queries[:, None], keys[..., None, None, :])
    v = repeat_heads(v, q.shape[1])
    out, weights = top_k_attention(
        dense_scores(q, k, options), v, pattern.k, options.mask(allowed, k)
    )
    if options.dropout > 0:
        weights = drop_weights(weights, q, k, options)
        out = torch.matmul(weights.to(v.dtype), v)
    return out, weights


def _refuse_others(
    pattern: Hierarchical, q: Tensor, k: Tensor, options: AttentionOptions, return_weights: bool
) -> None:
    is_plain = isinstance(options.score, DotProduct) and options.score.soft_cap is None
    refused = {
        "another score than DotProduct() without soft_cap": not is_plain,
        "bias": options.bias is not None,
        "segments": options.segments is not None,
        "query_offset": options.query_offset != 0,
        "key_positions": options.key_positions is not None,
        "dropout": options.dropout > 0,
        "return_weights": return_weights,
        f"{q.shape[2]} queries with {k.shape[2]} keys": q.shape[2] != k.shape[2],
    }
    for what, is_given in refused.items():
        if is_given:
            raise ConfigError(
                f"{pattern!r} averages keys and does not go with {what}.  "
                "Every mask pattern does, such as Local(...)."
            )
