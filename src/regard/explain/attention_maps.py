"""Maps of attention for display: the largest weights of each query, in thousandths.

Every row keeps as many weights as a number of bytes allows; where that would be fewer than three,
a row represents several positions. So a page of 512 tokens with 12 x 12 heads stays below 2 MB
packed. Cost: one pass
(more where weights would not fit in memory), and a sort of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from regard.explain.allowed_pairs import allowed_pairs
from regard.explain.capture import (
    LayerAttention,
    attention_layers,
    capture_in_parts,
    layer_sizes,
    pattern_text,
)
from regard.explain.document import AttentionMap, AttentionRow, AttentionSink
from regard.explain.prediction import Prediction
from regard.explain.sinks import find_sinks

_FEWEST_BYTES, _MOST_BYTES, _BYTES_PER_POSITION = 130_000, 5_000_000, 10_000
_FEWEST_KEYS = 3  # of a row
_FEWEST_RUNS = 4
_ROW_BYTES = 14  # brackets, commas and the rest, such as ``[[],[],1000],``
_WEIGHT_BYTES = 5  # a weight with its comma, and the comma of its key
_RUN_BYTES = 12
_PART_OF_RUNS = 0.1  # of all bytes


class AttentionMaps(NamedTuple):
    """The maps of a prediction.

    Args:
        maps: Maps of the layers with weights, encoder first.
        notes: Sentences about the layers without.
    """

    maps: list[AttentionMap]
    notes: list[str]


class _Scale(NamedTuple):
    """How much detail the maps have.

    Args:
        tile: Positions of a row and of a column.
        num_keys: Most keys of a row that keep their weights.
        num_runs: Most runs of keys that a row has.
    """

    tile: int
    num_keys: int
    num_runs: int


def attention_maps(
    prediction: Prediction,
    *,
    effects: Mapping[str, Sequence[float]] | None = None,
    most_bytes: int | None = None,
    memory: int | None = None,
) -> AttentionMaps:
    """Build the maps of all layers.

    Args:
        prediction: Whose attention is captured.
        effects: Effect of each head of a layer, by the layer's path, see `regard.explain.heads`;
            None where they were not measured.
        most_bytes: About the size of all maps as JSON, at most; None is 130 kB for a sentence, and
            up to 5 MB for long texts, of which a page packs a third.
        memory: Bytes of weights that are held at once; None is the default of `capture_in_parts`.

    Returns:
        The maps; none without attention.
    """
    scale = _choose_scale(prediction, most_bytes)
    maps, notes = [], []
    find_pairs = cache(partial(allowed_pairs, tile=scale.tile))  # most layers share a pattern
    limits = {} if memory is None else {"most_bytes": memory}
    for layer in capture_in_parts(prediction, **limits):
        if layer.refusal:
            notes.append(layer.refusal)
            continue
        allowed = find_pairs(layer.pattern, layer.num_queries, layer.num_keys)
        measured = None if effects is None else effects.get(layer.path)
        sinks = find_sinks(layer, prediction.features, allowed.equal_shares)
        maps.append(
            AttentionMap(
                layer=layer.path,
                kind=layer.kind,
                pattern=pattern_text(layer.pattern),
                num_queries=-(-layer.num_queries // scale.tile),
                num_keys=-(-layer.num_keys // scale.tile),
                tile=scale.tile,
                heads=_rows(layer, scale),
                effects=[None] * layer.num_heads if measured is None else list(measured),
                sinks=[
                    None if sink is None else AttentionSink(sink.key // scale.tile, sink.share)
                    for sink in sinks
                ],
                computed=[_join_runs(row, scale.num_runs) for row in allowed.runs],
            )
        )
    return AttentionMaps(maps, notes)


def _choose_scale(prediction: Prediction, most_bytes: int | None) -> _Scale:
    """Choose tiles and weights of a row so that all maps have about a number of bytes."""
    sizes = [
        (layer.num_heads, *layer_sizes(prediction, layer))
        for layer in attention_layers(prediction).values()
    ]
    longest = max((max(queries, keys) for _, queries, keys in sizes), default=1)
    if most_bytes is None:
        most_bytes = min(max(_FEWEST_BYTES, _BYTES_PER_POSITION * longest), _MOST_BYTES)
    tile = 1
    while True:
        num_rows = sum(heads * -(-queries // tile) for heads, queries, _ in sizes)
        columns = -(-longest // tile)
        budget = (1 - _PART_OF_RUNS) * most_bytes / max(num_rows, 1) - _ROW_BYTES
        num_keys = int(budget / (_WEIGHT_BYTES + len(str(columns))))
        if num_keys >= min(_FEWEST_KEYS, columns) or columns == 1:
            break
        tile *= 2
    map_rows = sum(-(-queries // tile) for _, queries, _ in sizes)
    num_runs = int(_PART_OF_RUNS * most_bytes / (_RUN_BYTES * max(map_rows, 1)))
    return _Scale(tile, min(max(num_keys, 1), columns), max(num_runs, _FEWEST_RUNS))


def _rows(layer: LayerAttention, scale: _Scale) -> list[list[AttentionRow]]:
    """Return the rows of each head."""
    weights = layer.weights
    if scale.tile == 1 and weights.is_sparse:
        keys, weights, totals = _largest_of_sparse(weights, scale.num_keys)
    else:
        starts = torch.arange(0, layer.num_queries, scale.tile)
        num_queries = (layer.num_queries - starts).clamp(max=scale.tile)  # the last may be short
        tiles = layer.sum_tiles(scale.tile) / num_queries[:, None]
        totals = tiles.sum(-1)
        weights, keys = tiles.topk(min(scale.num_keys, tiles.shape[-1]), dim=-1)
    keys, order = keys.sort(dim=-1)
    thousandths = (1000 * weights.gather(-1, order)).round().long()
    rest = ((1000 * totals).round().long() - thousandths.sum(-1)).clamp(min=0)
    return [
        [
            AttentionRow(
                keys=[key for key, weight in zip(row_keys, row, strict=True) if weight],
                weights=[weight for weight in row if weight],
                rest=row_rest,
            )
            for row_keys, row, row_rest in zip(*head, strict=True)
        ]
        for head in zip(keys.tolist(), thousandths.tolist(), rest.tolist(), strict=True)
    ]


def _largest_of_sparse(weights: Tensor, num_keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys and weights of the largest, and the sums of the rows, of sparse weights.

    Args:
        weights: ``[heads, queries, keys]``, coalesced.
        num_keys: Number of keys of a row.

    Returns:
        ``[heads, queries, num_keys]`` twice, with weights of 0 where a row has fewer, and
        ``[heads, queries]``.
    """
    heads, queries, _ = weights.shape
    head, query, key = weights.indices()
    row, values = head * queries + query, weights.values().float()
    counts = torch.bincount(row, minlength=heads * queries)
    rank = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]  # within its row
    best = torch.zeros(heads * queries, num_keys)
    keys = torch.zeros(heads * queries, num_keys, dtype=torch.long)
    # Rows of global tokens are far longer than those of a window: each kind has its own table.
    is_long = counts > 2 * counts.float().mean()
    for kind in (~is_long, is_long):
        (rows,) = kind.nonzero(as_tuple=True)
        width = int(counts[rows].amax()) if len(rows) else 0
        if not width:
            continue
        index = kind.cumsum(0) - 1  # of a row in the table
        pairs = kind[row]
        table, columns = torch.zeros(len(rows), width), torch.zeros(len(rows), width).long()
        table[index[row[pairs]], rank[pairs]] = values[pairs]
        columns[index[row[pairs]], rank[pairs]] = key[pairs]
        largest = table.topk(min(num_keys, width), dim=-1)
        best[rows, : largest.values.shape[1]] = largest.values
        keys[rows, : largest.values.shape[1]] = columns.gather(-1, largest.indices)
    totals = torch.zeros(heads * queries).index_add_(0, row, values)
    parts = (part.unflatten(0, (heads, queries)) for part in (keys, best, totals))
    keys, best, totals = parts
    return keys, best, totals


def _join_runs(runs: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Join the runs that are nearest to each other until few enough are left.

    Returns:
        At most `most` runs, with all keys of the given ones.

    >>> _join_runs([(0, 1), (2, 3), (9, 10)], 2)
    [(0, 3), (9, 10)]
    """
    if len(runs) <= most:
        return runs
    gaps = [runs[index + 1][0] - runs[index][1] for index in range(len(runs) - 1)]
    widest = sorted(sorted(range(len(gaps)), key=gaps.__getitem__)[len(gaps) - most + 1 :])
    first = [0, *(index + 1 for index in widest)]
    last = [*widest, len(runs) - 1]
    return [(runs[start][0], runs[stop][1]) for start, stop in zip(first, last, strict=True)]
