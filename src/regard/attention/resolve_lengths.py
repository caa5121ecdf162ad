"""Patterns that depend on the length, within `attend`: rows of a batch that differ go apart.

The length is that of a row's valid keys, not of the padded batch, so that what a row sees does not
depend on the rows beside it. Rows whose pattern is the same are computed together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from regard.attention.dense import AttentionOutput
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import LengthDependentPattern, Pattern, ResolvedPattern
from regard.errors import ConfigError

Compute = Callable[[Tensor, Tensor, Tensor, ResolvedPattern, AttentionOptions], AttentionOutput]
"""Maps queries, keys, values, a settled pattern and options to output and weights."""


def resolve_by_length(
    compute: Compute,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    options: AttentionOptions,
) -> AttentionOutput:
    """Settle a pattern for the lengths at hand and compute attention.

    Args:
        compute: Computes it by a settled pattern.
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: Any.
        options: All else.

    Returns:
        What `compute` does, for the whole batch.

    Raises:
        ConfigError: The pattern depends on the length, and ``key_positions`` hide it.
    """
    if not isinstance(pattern, LengthDependentPattern):
        return compute(q, k, v, pattern, options)
    if options.key_positions is not None:
        raise ConfigError(
            f"{pattern!r} depends on the length and does not go with key_positions, which do not "
            "tell it.  Settle it first: .resolve(num_queries, num_keys)."
        )
    queries = options.query_offset + q.shape[2]
    if options.lengths is None:
        return compute(q, k, v, pattern.resolve(queries, k.shape[2]), options)
    groups: dict[ResolvedPattern, list[int]] = {}
    for row, length in enumerate(options.lengths.tolist()):
        groups.setdefault(pattern.resolve(queries, length), []).append(row)
    if len(groups) == 1:
        return compute(q, k, v, next(iter(groups)), options)
    results, done = [], 0
    for settled, rows in groups.items():
        some = torch.tensor(rows, device=q.device)
        of_some = _of_rows(options, some, done * q.shape[1])
        results.append(compute(q[some], k[some], v[some], settled, of_some))
        done += len(rows)
    order = torch.tensor([row for rows in groups.values() for row in rows], device=q.device)
    return _gather(results, order.argsort())


def _of_rows(options: AttentionOptions, rows: Tensor, num_done: int) -> AttentionOptions:
    """Cut the options to some rows; `num_done` heads have had their numbers in dropout's hash."""
    bias, mask, segments = options.bias, options.mask, options.segments
    if isinstance(bias, Tensor) and bias.shape[0] > 1:
        bias = bias[rows]
    return replace(
        options,
        bias=bias,
        mask=mask[rows] if mask is not None and mask.shape[0] > 1 else mask,
        lengths=None if options.lengths is None else options.lengths[rows],
        segments=None if segments is None else (segments[0][rows], segments[1][rows]),
        seed=None if options.seed is None else options.seed + num_done,
    )


def _gather(results: list[AttentionOutput], order: Tensor) -> AttentionOutput:
    """Put the rows of several results together in an order."""
    weights = [result.weights for result in results if result.weights is not None]
    if not all(part.is_sparse for part in weights):
        weights = [part.to_dense() for part in weights]
    joined = torch.cat(weights).index_select(0, order) if weights else None
    lse = [result.lse for result in results if result.lse is not None]
    return AttentionOutput(
        out=torch.cat([result.out for result in results]).index_select(0, order),
        weights=joined.coalesce() if joined is not None and joined.is_sparse else joined,
        lse=torch.cat(lse).index_select(0, order) if lse else None,
    )
