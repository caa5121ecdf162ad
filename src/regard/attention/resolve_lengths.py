"""Patterns that depend on the length, within `attend`: each row has its own.

The length is that of a row's valid keys, not of the padded batch, so that what a row sees does not
depend on the other rows. Rows whose pattern is the same are computed together. Python must know
the lengths for this: those that were copied to a device by `lengths_on_device` are read in main
memory, without waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_gradtrackingtensor

from regard.attention.dense import AttentionOutput
from regard.attention.exporting import is_recording
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import LengthDependentPattern, Pattern, ResolvedPattern
from regard.attention.readable import has_data
from regard.errors import ConfigError

Compute = Callable[[Tensor, Tensor, Tensor, ResolvedPattern, AttentionOptions], AttentionOutput]
"""Maps queries, keys, values, a resolved pattern and options to output and weights."""
_IN_MAIN_MEMORY = "lengths_in_main_memory"  # attribute of lengths on a device


def lengths_on_device(lengths: Tensor, device: torch.device) -> Tensor:
    """Copy lengths in main memory to a device; they stay readable without waiting for it.

    Args:
        lengths: ``[batch]``, in main memory; not to be changed later.
        device: Where attention is computed.

    Returns:
        ``[batch]``, on the device.
    """
    if lengths.device == device:
        return lengths
    there = lengths.to(device, non_blocking=True)
    if there is not lengths:
        vars(there)[_IN_MAIN_MEMORY] = lengths
    return there


def _read(lengths: Tensor) -> list[int]:
    """Return lengths as numbers of Python."""
    if torch.compiler.is_compiling():
        return lengths.tolist()
    return vars(lengths).get(_IN_MAIN_MEMORY, lengths).tolist()


def _who_cannot_read(lengths: Tensor) -> str:
    """Return where the numbers of lengths ``[batch]`` are unknown; empty where they are known."""
    if is_recording():
        return "an exported program"
    if torch.compiler.is_compiling():
        return ""
    while is_gradtrackingtensor(lengths):
        lengths = get_unwrapped(lengths)
    return "torch.vmap over them" if is_batchedtensor(lengths) else ""


def resolve_by_length(
    compute: Compute,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    options: AttentionOptions,
) -> AttentionOutput:
    """Resolve a pattern for every row; compute q, k, v ``[batch, heads, length, dim]`` by it."""
    if not isinstance(pattern, LengthDependentPattern):
        return compute(q, k, v, pattern, options)
    if options.key_positions is not None:
        raise ConfigError(
            f"{pattern!r} depends on the length and does not go with key_positions.  "
            "Resolve it first: .resolve(num_queries, num_keys)."
        )
    queries = options.query_offset + q.shape[2]
    if options.lengths is not None and (reader := _who_cannot_read(options.lengths)):
        raise ConfigError(
            f"{pattern!r} depends on the lengths of the rows, which {reader} cannot "
            "read.  Resolve it first: .resolve(num_queries, num_keys)."
        )
    is_known = torch.compiler.is_compiling() or (has_data(q) and q.shape[0] > 0)
    if options.lengths is None or not is_known:
        return compute(q, k, v, pattern.resolve(queries, k.shape[2]), options)
    groups: dict[ResolvedPattern, list[int]] = {}
    for row, length in enumerate(_read(options.lengths)):
        groups.setdefault(pattern.resolve(queries, length), []).append(row)
    if len(groups) == 1:
        return compute(q, k, v, next(iter(groups)), options)
    results, num_done = [], 0
    for resolved, rows in groups.items():
        index = torch.tensor(rows).to(q.device, non_blocking=True)
        row_options = _select_rows(options, index, num_done * q.shape[1])
        results.append(compute(q[index], k[index], v[index], resolved, row_options))
        num_done += len(rows)
    order = torch.tensor([row for rows in groups.values() for row in rows]).argsort()
    return _concatenate(results, order.to(q.device, non_blocking=True))


def _select_rows(options: AttentionOptions, rows: Tensor, num_done: int) -> AttentionOptions:
    """Return the options of rows ``[rows]``; `num_done` heads precede them in dropout's hash."""
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


def _concatenate(results: list[AttentionOutput], order: Tensor) -> AttentionOutput:
    """Concatenate the rows of several results, in an order ``[batch]``."""
    weights = [result.weights for result in results if result.weights is not None]
    if not all(part.is_sparse for part in weights):
        weights = [part.to_dense() for part in weights]
    lse = [result.lse for result in results if result.lse is not None]
    ordered = torch.cat(weights).index_select(0, order) if weights else None
    return AttentionOutput(
        out=torch.cat([result.out for result in results]).index_select(0, order),
        weights=ordered.coalesce() if ordered is not None and ordered.is_sparse else ordered,
        lse=torch.cat(lse).index_select(0, order) if lse else None,
    )
