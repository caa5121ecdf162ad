"""Packed documents: several texts in one row, each attended to as if it were alone.

Patterns and biases count from the start of each document. The documents of all rows are gathered as
rows of their own, those of similar length together, so that pairs of two documents cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from regard.attention.dense import AttentionOutput
from regard.attention.options import AttentionOptions, number_segments
from regard.attention.patterns import Full
from regard.attention.patterns.base import LengthDependentPattern, Pattern
from regard.attention.readable import is_readable
from regard.errors import ConfigError

Attend = Callable[[Tensor, Tensor, Tensor, Pattern, AttentionOptions], AttentionOutput]
"""Maps queries, keys, values, a pattern and options without documents to the output."""


def attend_documents(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    options: AttentionOptions,
    *,
    returns_weights: bool,
) -> AttentionOutput:
    """Compute attention within documents.

    Args:
        attend: Computes rows without documents.
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: Counts from the start of each document.
        options: Their segments are the documents.
        returns_weights: Whether the weights are asked for.

    Returns:
        What `attend` returns, for the rows of q. With the weights, with an offset, and where
        numbers cannot be read (`torch.func`, ``torch.compile``) it takes all pairs of a row.

    Raises:
        ConfigError: There are no segments, the keys have positions of their own, or the pattern
            depends on the lengths of documents that are not computed one by one.
    """
    if options.segments is None or options.key_positions is not None:
        problem = "needs segments" if options.segments is None else "does not go with key_positions"
        raise ConfigError(f"segments_are_documents {problem}.")
    reasons = {
        "return_weights": returns_weights,
        "query_offset": options.query_offset > 0,
        "torch.func, torch.compile and tensors without numbers": not _has_numbers(q, k),
    }
    if (reason := next((name for name, holds in reasons.items() if holds), None)) is not None:
        _require_fixed(pattern, reason)
        return attend(q, k, v, pattern, _count_from_starts(options))
    outputs, rows_of_outputs, num_done = [], [], 0
    for group in _groups(options, q.shape[2], k.shape[2]):
        rows = (_take(q, group.queries), _take(k, group.keys), _take(v, group.keys))
        result = attend(*rows, pattern, _options_of(options, group, q, k, num_done))
        is_valid = (
            torch.arange(group.queries.shape[1], device=q.device) < group.num_queries[:, None]
        )
        outputs.append((result, is_valid))
        rows_of_outputs.append(group.queries[is_valid])
        num_done += len(group.queries) * q.shape[1]
    shape = (q.shape[0] * q.shape[2], q.shape[1])

    def put(parts: list[tuple[Tensor, Tensor]], fill: float) -> Tensor:
        """Put ``[documents, heads, queries, dim]`` back: ``[batch, heads, queries, dim]``."""
        rows = torch.cat([part.transpose(1, 2)[is_valid] for part, is_valid in parts])
        total = rows.new_full((*shape, rows.shape[-1]), fill).index_copy(
            0, torch.cat(rows_of_outputs), rows
        )
        return total.unflatten(0, (q.shape[0], q.shape[2])).transpose(1, 2)

    if not outputs:  # no document has both queries and keys: all are zeros, whatever the pattern
        return attend(q, k, v, Full(), _count_from_starts(options))
    lse = [(x.lse[..., None], is_valid) for x, is_valid in outputs if x.lse is not None]
    return AttentionOutput(
        out=put([(x.out, is_valid) for x, is_valid in outputs], 0.0),
        lse=put(lse, -torch.inf).squeeze(-1) if lse else None,
    )


def _require_fixed(pattern: Pattern, reason: str) -> None:
    """Raise ConfigError for a pattern that depends on the length of each document."""
    if isinstance(pattern, LengthDependentPattern):
        raise ConfigError(
            f"{pattern!r} depends on the length of each document and does not go with {reason}.  "
            "Resolve it first: .resolve(num_queries, num_keys)."
        )


def _has_numbers(q: Tensor, k: Tensor) -> bool:
    """Return whether tensors have numbers, which can be read outside of transforms and graphs."""
    is_transformed = torch._C._are_functorch_transforms_active()
    return is_readable(q) and not is_transformed and 0 not in q.shape + k.shape


class _Group(NamedTuple):
    """Documents of similar numbers of queries and of keys.

    Args:
        queries: Rows of ``batch * queries``, ``[documents, queries]``; the last one repeats.
        num_queries: Number of queries of each, ``[documents]``.
        keys: Rows of ``batch * keys``, ``[documents, keys]``, the same.
        num_keys: Number of valid keys of each, which come before its padding.
    """

    queries: Tensor
    num_queries: Tensor
    keys: Tensor
    num_keys: Tensor


def _groups(options: AttentionOptions, queries: int, keys: int) -> Iterator[_Group]:
    """Sort the documents by size: within a group sizes differ by less than a factor of 2."""
    assert options.segments is not None
    of_queries, of_keys = number_segments(*options.segments)
    device = of_keys.device
    first = torch.arange(len(of_keys), device=device)[:, None] * (queries + keys)
    of_queries, of_keys = of_queries + first, of_keys + first  # distinct in all rows
    is_valid = torch.ones_like(of_keys, dtype=torch.bool)
    if options.lengths is not None:
        is_valid = torch.arange(keys, device=device) < options.lengths[:, None]
    document_numbers = torch.cat([of_queries.flatten(), of_keys.flatten()]).unique()
    orders, counts = [], []
    for numbers in (of_queries.flatten(), of_keys.flatten()):
        index = torch.searchsorted(document_numbers, numbers)
        orders.append(index.argsort(stable=True))
        counts.append(index.bincount(minlength=len(document_numbers)))
    valid_index = torch.searchsorted(document_numbers, of_keys[is_valid])
    num_valid = valid_index.bincount(minlength=len(document_numbers))
    has_both = (counts[0] > 0) & (num_valid > 0)
    # The bits of a size: sizes of as many are within a factor of 2.
    sizes = [torch.frexp(count.double()).exponent for count in counts]
    kinds = (sizes[0] * 64 + sizes[1]).masked_fill(~has_both, -1)
    for kind in kinds.unique().tolist():
        if kind < 0:
            continue
        documents = (kinds == kind).nonzero().squeeze(1)
        indices = []
        for order, count in zip(orders, counts, strict=True):
            num, start = count[documents], (count.cumsum(0) - count)[documents]
            offset = torch.arange(int(num.max()), device=device).expand(len(num), -1)
            offset = torch.minimum(offset, num[:, None] - 1)
            indices.append(order[start[:, None] + offset])
        yield _Group(indices[0], counts[0][documents], indices[1], num_valid[documents])


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Gather ``[batch, heads, length, dim]`` as ``[documents, heads, index, dim]``."""
    rows = x.transpose(1, 2).flatten(0, 1).index_select(0, index.flatten())
    return rows.unflatten(0, index.shape).transpose(1, 2)


def _options_of(
    options: AttentionOptions, group: _Group, q: Tensor, k: Tensor, num_done: int
) -> AttentionOptions:
    """Return the options of the documents of a group; `num_done` heads precede them in dropout."""
    rows = group.queries[:, :1] // q.shape[2]
    queries, keys = group.queries % q.shape[2], group.keys % k.shape[2]

    def of_pairs(tensor: Tensor) -> Tensor:
        """Gather ``[batch, heads, queries, keys]``, or 1 each, by document."""
        heads = torch.arange(tensor.shape[1], device=tensor.device)[:, None, None]
        index = (rows[:, :, None, None], heads, queries[:, None, :, None], keys[:, None, None, :])
        sizes = zip(index, tensor.shape, strict=True)
        index = tuple(i if size > 1 else torch.zeros_like(i) for i, size in sizes)
        return tensor[index]  # [documents, heads, queries, keys]

    bias = options.bias
    is_padded = bool((group.num_keys < keys.shape[1]).any())
    return replace(
        options,
        segments_are_documents=False,
        segments=None,
        lengths=group.num_keys if is_padded else None,
        mask=None if options.mask is None else of_pairs(options.mask),
        bias=of_pairs(bias) if isinstance(bias, Tensor) else bias,
        seed=None if options.seed is None else options.seed + num_done,
    )


def _count_from_starts(options: AttentionOptions) -> AttentionOptions:
    """Return the options with the positions of queries and keys within their documents."""
    assert options.segments is not None
    of_queries, of_keys = options.segments  # [batch, queries], [batch, keys]

    def count_before(numbers: Tensor, other_numbers: Tensor, first: int) -> Tensor:
        """Count the other numbers equal to each before it, which begin at a position."""
        same = numbers[:, :, None] == other_numbers[:, None, :]  # [rows, length, other_length]
        positions = torch.arange(numbers.shape[1], device=numbers.device) + first
        other_positions = torch.arange(other_numbers.shape[1], device=numbers.device)
        return (same & (other_positions < positions[:, None])).sum(2)

    offset = options.query_offset
    return replace(
        options,
        segments_are_documents=False,
        query_positions=count_before(of_queries, of_keys if offset else of_queries, offset),
        key_positions=count_before(of_keys, of_keys, 0),
    )
