"""What `attend` keeps for its backward pass that grows with the pairs: scores and weights.

It follows from the method. Short texts are computed by the definition, which keeps two numbers for
every pair of positions, allowed or not; long ones by kernels or block by block, which keep none.
"""

from __future__ import annotations

import math

from regard.attention.attend import DENSE_BELOW, DENSE_BELOW_FUSED
from regard.attention.backends.cpu_kernels import instructions
from regard.attention.patterns import Hierarchical
from regard.attention.patterns.base import Pattern, ScoreDependentPattern, resolve


def saved_bytes(
    pattern: Pattern,
    queries: int,
    keys: int,
    *,
    itemsize: int = 4,
    is_plain: bool = True,
) -> int:
    """Predict the bytes that one head of one row keeps by pair until its gradient is taken.

    Queries, keys, values and output, which grow with the length alone, are not counted, nor what a
    score holds of its own.

    Args:
        pattern: Any.
        queries: Number of queries.
        keys: Number of keys.
        itemsize: Bytes of a number of the queries, 4 for float32.
        is_plain: Whether scores are scaled dot products, without soft cap, bias and dropout.

    Returns:
        Bytes, about the most.

    >>> from regard.attention import Local, TopK
    >>> saved_bytes(Local(64, 0), 100, 100), saved_bytes(Local(64, 0), 4096, 4096)
    (80000, 0)
    >>> saved_bytes(TopK(16), 4096, 4096)
    134217728
    """
    if isinstance(pattern, Hierarchical):
        # Scores and their exponentials of each level, float32 at least, and what they are made of.
        return 4 * max(itemsize, 4) * pattern.cost(queries, keys).pairs
    is_dense = isinstance(pattern, ScoreDependentPattern) or queries * keys < _dense_below(
        pattern, is_plain
    )
    return 2 * itemsize * queries * keys if is_dense else 0


def _dense_below(pattern: Pattern, is_plain: bool) -> int:
    """Tell from how many pairs on the definition is not used; as `attend` does on a CPU."""
    is_fused = (
        is_plain
        and instructions() is not None
        and all(term.is_band for term in resolve(pattern, 1, 1).terms())
    )
    return DENSE_BELOW_FUSED if is_fused else DENSE_BELOW


def peak_saved_bytes(
    pattern: Pattern,
    length: int,
    *,
    itemsize: int = 4,
    is_plain: bool = True,
) -> int:
    """Predict what a head keeps by pair for a token of self-attention, at the worst.

    Args:
        pattern: Any.
        length: Longest text, in tokens, 1 or more. Shorter ones may keep more: they are computed by
            the definition.
        itemsize: Bytes of a number of the queries.
        is_plain: As for `saved_bytes`.

    Returns:
        Bytes a token.
    """
    below = (
        DENSE_BELOW
        if isinstance(pattern, ScoreDependentPattern)
        else _dense_below(pattern, is_plain)
    )
    kept = (
        math.ceil(saved_bytes(pattern, n, n, itemsize=itemsize, is_plain=is_plain) / n)
        for n in (length, min(length, math.isqrt(below - 1)))
    )
    return max(kept)
