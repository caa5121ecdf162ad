"""What `attend` keeps for its backward pass that grows with the pairs: scores and weights.

It follows from the method. Short texts are computed by the definition, which keeps two numbers for
every pair of positions, allowed or not; long ones block by block, which keeps none.
"""

from __future__ import annotations

import math

from regard.attention.attend import DENSE_BELOW
from regard.attention.pattern import NoMask, Pattern
from regard.attention.patterns import Hierarchical


def kept_bytes(pattern: Pattern | NoMask, queries: int, keys: int, *, itemsize: int = 4) -> int:
    """Predict the bytes that one head of one row keeps by pair until its gradient is taken.

    Queries, keys, values and output, which grow with the length alone, are not counted. Scores are
    taken to be scaled dot products without bias and dropout.

    Args:
        pattern: Any.
        queries: Number of queries.
        keys: Number of keys.
        itemsize: Bytes of a number of the queries, 4 for float32.

    Returns:
        Bytes, about the most.

    >>> from regard.attention import Local, TopK
    >>> kept_bytes(Local(64, 0), 256, 256), kept_bytes(Local(64, 0), 4096, 4096)
    (524288, 0)
    >>> kept_bytes(TopK(16), 4096, 4096)
    134217728
    """
    if isinstance(pattern, Hierarchical):
        # Scores and their exponentials of each level, float32 at least, and what they are made of.
        return 4 * max(itemsize, 4) * pattern.cost(queries, keys).pairs
    is_dense = isinstance(pattern, NoMask) or queries * keys < DENSE_BELOW
    return 2 * itemsize * queries * keys if is_dense else 0


def most_kept_bytes(pattern: Pattern | NoMask, length: int, *, itemsize: int = 4) -> int:
    """Predict what a head keeps by pair for a token of self-attention, at the worst.

    Args:
        pattern: Any.
        length: Longest text, in tokens, 1 or more. Shorter ones may keep more: they are computed by
            the definition.
        itemsize: Bytes of a number of the queries.

    Returns:
        Bytes a token.
    """
    lengths = (length, min(length, math.isqrt(DENSE_BELOW - 1)))
    return max(math.ceil(kept_bytes(pattern, n, n, itemsize=itemsize) / n) for n in lengths)
