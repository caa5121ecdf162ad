"""Leave out the keys that no query reaches: a step of decoding with a window reads its window.

A pattern of bands depends on differences of positions alone, and so do the scores and biases here:
both positions can move by the number of keys left out at the beginning. Those left out at the end,
such as the empty rest of a cache, move nothing.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from regard.attention.biases import ALWAYS_FINITE
from regard.attention.options import AttentionOptions
from regard.attention.patterns.base import MaskPattern, Pattern
from regard.attention.scores import KNOWN_SCORES


def keep_reachable(
    k: Tensor, v: Tensor, pattern: Pattern, options: AttentionOptions, num_queries: int
) -> tuple[Tensor, Tensor, AttentionOptions]:
    """Keep the keys between the first and the last that a band reaches.

    Args:
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.
        pattern: Pattern of the call.
        options: Options of the call.
        num_queries: At positions from ``query_offset`` on.

    Returns:
        Views of k and v, and the options for them; the same where all keys may be reached.
    """
    num_keys, bias = k.shape[2], options.bias
    has_positions = options.key_positions is not None or options.segments_are_documents
    if torch.compiler.is_compiling() or num_queries > num_keys // 2 or has_positions:
        return k, v, options
    first, stop = _bounds(pattern, options, num_queries, num_keys)
    if (first, stop) == (0, num_keys):
        return k, v, options

    def of_pairs(tensor: Tensor) -> Tensor:
        """Cut ``[batch, heads, queries, keys]``, or 1 each."""
        return tensor[..., first:stop] if tensor.shape[3] > 1 else tensor

    lengths, segments = options.lengths, options.segments
    reachable = replace(
        options,
        query_offset=options.query_offset - first,
        mask=None if options.mask is None else of_pairs(options.mask),
        bias=of_pairs(bias) if isinstance(bias, Tensor) else bias,
        lengths=None if lengths is None else (lengths - first).clamp(0, stop - first),
        segments=None if segments is None else (segments[0], segments[1][:, first:stop]),
    )
    return k[:, :, first:stop], v[:, :, first:stop], reachable


def _bounds(
    pattern: Pattern, options: AttentionOptions, num_queries: int, num_keys: int
) -> tuple[int, int]:
    """Return the first key that a band reaches, and the one after the last."""
    offset, (before, after) = options.query_offset, _reach(pattern)
    stop = num_keys if after is None else min(num_keys, offset + num_queries + after)
    if before is None or before >= offset or not _can_move(options):
        return 0, stop
    return min(offset - before, num_keys), stop


def _can_move(options: AttentionOptions) -> bool:
    """Return whether the positions of queries and keys may move by the same number."""
    is_relative = isinstance(options.score, KNOWN_SCORES) and (
        options.bias is None or isinstance(options.bias, (Tensor, *ALWAYS_FINITE))
    )
    return is_relative and options.dropout == 0  # it hashes positions


def _reach(pattern: Pattern) -> tuple[int | None, int | None]:
    """Return how many keys before and after itself a query sees at most; None without a bound."""
    terms = pattern.terms() if isinstance(pattern, MaskPattern) else ()
    if not terms or not all(term.is_band for term in terms):
        return None, None
    before, after = (
        None if None in bounds else max(bound for bound in bounds if bound is not None)
        for bounds in ([term.before for term in terms], [term.after for term in terms])
    )
    return before, after


def sees_all(q: Tensor, k: Tensor, pattern: MaskPattern, options: AttentionOptions) -> bool:
    """Return whether a single query sees all keys, so that the pattern needs no mask.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        pattern: Pattern of the call.
        options: Options of the call.
    """
    if q.shape[2] != 1 or options.key_positions is not None:
        return False
    position, last = options.query_offset, k.shape[2] - 1
    return any(
        term.is_band
        and (term.before is None or term.before >= position)
        and (term.after is None or position + term.after >= last)
        for term in pattern.terms()
    )
