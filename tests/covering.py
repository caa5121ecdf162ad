"""Few combinations of several factors, in which every pair of values occurs.

A fault that one value causes, or two values together, shows in these as it does in the whole
product, whose size is that of all factors multiplied. Source: D. Cohen et al., The AETG system
(1997).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, product
from typing import TypeVar

Value = TypeVar("Value")


def covering_pairs(*factors: Iterable[Value]) -> list[tuple[Value, ...]]:
    """Return rows with one value of each factor, in which every pair of two values occurs.

    The rows depend on the numbers of values alone, so that adding a value to a factor adds rows.

    >>> covering_pairs("ab", (1, 2), (True, False))
    [('a', 1, True), ('a', 2, False), ('b', 1, False), ('b', 2, True)]
    """
    values = [tuple(factor) for factor in factors]
    rows = list(product(*(range(len(factor)) for factor in values)))
    pairs_of = {row: set(combinations(enumerate(row), 2)) for row in rows}
    missing = set().union(*pairs_of.values())
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs_of[row] & missing))  # the first of the best
        missing -= pairs_of[best]
        chosen.append(best)
    return [
        tuple(factor[index] for factor, index in zip(values, row, strict=True))
        for row in sorted(chosen)
    ]
