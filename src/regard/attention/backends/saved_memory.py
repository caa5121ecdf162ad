"""What `attend` saves for its backward pass that grows with the pairs: scores and weights.

It depends on the method. Short texts are computed by the definition, which saves two numbers for
every pair of positions, allowed or not; long ones by kernels or block by block, which save none.
"""

from __future__ import annotations

import math

from regard.attention.backends.cpu_kernels import instructions
from regard.attention.dispatch import AttentionFacts, AttentionMethod, choose_method, dense_below
from regard.attention.patterns.base import Pattern


def saved_bytes(
    pattern: Pattern, queries: int, keys: int, *, itemsize: int = 4, is_plain: bool = True
) -> int:
    """Predict the bytes of scores and weights that one head of one row saves for its gradient.

    Queries, keys, values and output, which grow with the length alone, are not counted, nor what
    the parameters of a score take.

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
    resolved = pattern.resolve(1, 1)  # the kind of pattern is the same for every length
    method = choose_method(resolved, _facts(queries, keys, is_plain))
    if method is AttentionMethod.HIERARCHICAL:
        # Scores and their exponentials of each level, float32 at least, and what they are made of.
        return 4 * max(itemsize, 4) * resolved.cost(queries, keys).pairs
    is_by_all_pairs = method in (AttentionMethod.DENSE, AttentionMethod.TOP_K)
    return 2 * itemsize * queries * keys if is_by_all_pairs else 0


def peak_saved_bytes(
    pattern: Pattern, length: int, *, itemsize: int = 4, is_plain: bool = True
) -> int:
    """Predict the bytes of scores and weights a head saves for a token of self-attention, at most.

    Args:
        pattern: Any.
        length: Longest text, in tokens, 1 or more. Shorter ones may save more: they are computed by
            the definition.
        itemsize: Bytes of a number of the queries.
        is_plain: Whether scores are scaled dot products, without soft cap, bias and dropout.

    Returns:
        Bytes a token.
    """
    below = dense_below(pattern.resolve(1, 1), _facts(length, length, is_plain))
    return max(
        math.ceil(saved_bytes(pattern, n, n, itemsize=itemsize, is_plain=is_plain) / n)
        for n in (length, min(length, math.isqrt(below - 1)))
    )


def _facts(queries: int, keys: int, is_plain: bool) -> AttentionFacts:
    """Return the facts of a call on a CPU."""
    return AttentionFacts(
        num_queries=queries,
        num_keys=keys,
        kernels_apply=instructions() is not None,
        is_plain=is_plain,
    )
