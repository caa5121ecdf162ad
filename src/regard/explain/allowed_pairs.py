"""Which pairs of a query and a key a pattern allows, for maps and what they are compared with."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.attention import Pattern

_PAIRS = 1 << 22  # that are looked at together


class AllowedPairs(NamedTuple):
    """The pairs that a pattern allows.

    Args:
        runs: Runs of keys that each row allows: first, and the one after the last.
        equal_shares: What each key gets of all attention where every query shares its own equally,
            ``[keys]``.
    """

    runs: list[list[tuple[int, int]]]
    equal_shares: Tensor


def allowed_pairs(
    pattern: Pattern, num_queries: int, num_keys: int, *, tile: int = 1
) -> AllowedPairs:
    """Find the pairs that a pattern allows, some queries at a time.

    Args:
        pattern: Which pairs may attend.
        num_queries: At positions 0, 1, ...
        num_keys: At positions 0, 1, ...
        tile: Positions of a row and of a column of the runs; a tile is allowed where one of its
            pairs is.

    Returns:
        The runs of keys of each row, and the mean weight of each key under even attention,
        ``[keys]``.

    >>> from regard.attention import Local
    >>> allowed_pairs(Local(1, 0), 3, 3).runs
    [[(0, 1)], [(0, 2)], [(1, 3)]]
    """
    resolved = pattern.resolve(num_queries, num_keys)
    keys = torch.arange(num_keys)[None]
    runs: list[list[tuple[int, int]]] = []
    shares = torch.zeros(num_keys)
    size = max(_PAIRS // max(num_keys, 1) // tile, 1) * tile
    for start in range(0, num_queries, size):
        queries = torch.arange(start, min(start + size, num_queries))[:, None]
        allowed = resolved.allowed(queries, keys).expand(len(queries), num_keys)
        shares += (1 / allowed.sum(-1).clamp(min=1)) @ allowed.float()
        if tile > 1:
            padded = F.pad(allowed, (0, -num_keys % tile, 0, -len(queries) % tile))
            allowed = padded.unflatten(1, (-1, tile)).any(-1).unflatten(0, (-1, tile)).any(1)
        runs += _runs(allowed)
    return AllowedPairs(runs, shares / max(num_queries, 1))


def _runs(allowed: Tensor) -> list[list[tuple[int, int]]]:
    """Return the runs of True of each row of ``[rows, keys]``."""
    changes = F.pad(allowed.to(torch.int8), (1, 1)).diff(dim=-1)
    starts, stops = (changes == 1).nonzero(), (changes == -1).nonzero()
    runs: list[list[tuple[int, int]]] = [[] for _ in range(len(allowed))]
    for (row, start), (_, stop) in zip(starts.tolist(), stops.tolist(), strict=True):
        runs[row].append((start, stop))
    return runs
