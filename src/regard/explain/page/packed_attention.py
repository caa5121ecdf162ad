"""Attention maps in the form that the page reads: few bytes, and quick to open.

The columns of all rows follow each other: how many keys each row names, the keys (each as its
distance from the one before), their weights, and what the rest of each row sums to; then, for every
query, the runs of keys that were computed. Numbers of 16 bits are split into a plane of low bytes
and one of high bytes, which zlib then finds easy; the browser inflates them by itself.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.explain.document import AttentionMap

Integers = NDArray[np.int64]

MOST_BYTES = 1_400_000
"""Of the packed maps of a page, together."""

_FEWER_KEYS = (256, 128, 64, 48, 32, 24, 16, 12, 8, 6, 5, 4, 3, 2, 1)


class PackedMap(msgspec.Struct, frozen=True, kw_only=True):
    """One layer's weights in base64.

    Args:
        layer: See `AttentionMap`.
        kind: See `AttentionMap`.
        pattern: See `AttentionMap`.
        queries: Number of rows.
        keys: Number of columns.
        tile: See `AttentionMap`.
        heads: Number of heads.
        effects: See `AttentionMap`.
        sinks: Key and fraction for each head; None where there is none.
        rows: The rows of all heads, packed.
        runs: The computed keys of all queries, packed; shared by layers with the same pattern, of
            which the later ones have the index of the first.
        most: Keys that a row names at most.
    """

    layer: str
    kind: str
    pattern: str
    queries: int
    keys: int
    tile: int
    heads: int
    effects: list[float | None]
    sinks: list[tuple[int, float] | None]
    rows: str
    runs: str | int
    most: int


class _Rows(NamedTuple):
    """The rows of all heads of a layer.

    Args:
        counts: Keys that each row names, ``[rows]``.
        keys: Keys of all rows, rising within each.
        weights: Theirs, in thousandths.
        rest: Remainder of each row, in thousandths.
    """

    counts: Integers
    keys: Integers
    weights: Integers
    rest: Integers


def pack_attention(maps: Sequence[AttentionMap], most_bytes: int = MOST_BYTES) -> list[PackedMap]:
    """Pack the attention of all layers.

    Args:
        maps: Maps of all layers.
        most_bytes: Most bytes of the result. Where all keys need more, each row keeps its largest
            weights, and the rest of them joins the rest of the row.

    Returns:
        One packed map a layer; equal runs are stored once.
    """
    all_runs = [pack_runs(attention.computed) for attention in maps]
    left = most_bytes - sum(map(len, set(all_runs)))
    most, all_rows = _fit([_flatten(attention) for attention in maps], left)
    packed = []
    for attention, rows, runs in zip(maps, all_rows, all_runs, strict=True):
        first = all_runs.index(runs)
        packed.append(
            PackedMap(
                layer=attention.layer,
                kind=attention.kind,
                pattern=attention.pattern,
                queries=attention.num_queries,
                keys=attention.num_keys,
                tile=attention.tile,
                heads=len(attention.heads),
                effects=attention.effects,
                sinks=[
                    None if sink is None else (sink.key, sink.share) for sink in attention.sinks
                ],
                rows=rows,
                runs=runs if first == len(packed) else first,
                most=most,
            )
        )
    return packed


def pack_runs(computed: Sequence[Sequence[tuple[int, int]]]) -> str:
    """Pack the runs of keys of all queries: first keys and lengths.

    Args:
        computed: For every query its runs: first key, and the one after the last.

    Returns:
        Base64 text.
    """
    counts = _integers(map(len, computed))
    ends = _integers(chain.from_iterable(chain.from_iterable(computed))).reshape(-1, 2)
    return _encode(_planes(counts), _planes(ends[:, 0]), _planes(ends[:, 1] - ends[:, 0]))


def keep_largest(rows: _Rows, most: int) -> _Rows:
    """Keep the largest weights of each row; what the others had joins its rest.

    Args:
        rows: Rows of all heads of a layer.
        most: Keys that a row names.

    Returns:
        The rows, each with at most `most` keys.
    """
    if not len(rows.keys) or int(rows.counts.max()) <= most:
        return rows
    row = np.repeat(np.arange(len(rows.counts)), rows.counts)
    order = np.lexsort((rows.keys, -rows.weights, row))
    first = np.repeat(np.cumsum(rows.counts) - rows.counts, rows.counts)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - first
    stays = rank < most
    dropped = np.bincount(row[~stays], rows.weights[~stays], minlength=len(rows.counts))
    return _Rows(
        np.minimum(rows.counts, most),
        rows.keys[stays],
        rows.weights[stays],
        rows.rest + dropped.astype(np.int64),
    )


def _fit(all_rows: Sequence[_Rows], most_bytes: int) -> tuple[int, list[str]]:
    """Pack the rows of all layers; return how many keys a row names at most, and the layers."""
    most = max((int(rows.counts.max(initial=0)) for rows in all_rows), default=0)
    packed = [_pack_rows(rows) for rows in all_rows]
    for fewer in (step for step in _FEWER_KEYS if step < most):
        if sum(map(len, packed)) <= most_bytes:
            break
        most, packed = fewer, [_pack_rows(keep_largest(rows, fewer)) for rows in all_rows]
    return most, packed


def _flatten(attention: AttentionMap) -> _Rows:
    """Return the rows of all heads one after the other, without keys of weight 0."""
    rows = list(chain.from_iterable(attention.heads))
    counts = _integers(len(row.keys) for row in rows)
    keys = _integers(chain.from_iterable(row.keys for row in rows))
    weights = _integers(chain.from_iterable(row.weights for row in rows))
    index = np.repeat(np.arange(len(rows)), counts)
    has_weight = weights > 0
    return _Rows(
        np.bincount(index[has_weight], minlength=len(rows)),
        keys[has_weight],
        weights[has_weight],
        _integers(row.rest for row in rows),
    )


def _pack_rows(rows: _Rows) -> str:
    steps = np.diff(rows.keys, prepend=0)
    starts = (np.cumsum(rows.counts) - rows.counts)[rows.counts > 0]
    steps[starts] = rows.keys[starts]
    return _encode(_planes(rows.counts), _planes(steps), _planes(rows.weights), _planes(rows.rest))


def _integers(values: Iterable[int]) -> Integers:
    return np.fromiter(values, dtype=np.int64)


def _planes(values: Integers) -> bytes:
    """Return numbers below 65,536 as their low bytes, then their high bytes."""
    values = np.clip(values, 0, 65_535)
    return (values & 255).astype(np.uint8).tobytes() + (values >> 8).astype(np.uint8).tobytes()


def _encode(*columns: bytes) -> str:
    return base64.b64encode(zlib.compress(b"".join(columns), 6)).decode()
