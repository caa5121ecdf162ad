"""Maps of attention for display: the largest weights of each query, in thousandths.

Long inputs are drawn in tiles of several positions, and every row keeps as many weights as a number
of bytes allows, so that a page of 512 tokens with 12 x 12 heads stays below 2 MB. Cost: one pass
(more where weights would not fit in memory), and a sort of the weights.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import torch

from regard.explain.allowed_pairs import AllowedPairs, allowed_pairs
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

_FEWEST_BYTES, _MOST_BYTES, _BYTES_PER_POSITION = 130_000, 1_600_000, 6_000
_LONGEST_SIDE = 1024  # of a map in rows: more than a screen shows
_FEWEST_KEYS = 3  # of a row
_ROW_BYTES = 14  # brackets, commas and the rest, such as ``[[],[],1000],``
_WEIGHT_BYTES = 5  # a weight with its comma, and the comma of its key
_RUN_BYTES = 12
_PART_OF_RUNS = 0.1  # of all bytes


class AttentionMaps(NamedTuple):
    """The maps of a prediction.

    Args:
        maps: Of the layers with weights, encoder first.
        notes: Sentences about the layers without.
    """

    maps: list[AttentionMap]
    notes: list[str]


class _Scale(NamedTuple):
    """How much detail the maps have.

    Args:
        tile: Positions of a row and of a column.
        num_keys: Of a row that keep their weights, at most.
        num_runs: Of keys that a row has, at most.
    """

    tile: int
    num_keys: int
    num_runs: int


def attention_maps(
    prediction: Prediction,
    *,
    effects: Mapping[str, Sequence[float]] | None = None,
    most_bytes: int | None = None,
) -> AttentionMaps:
    """Build the maps of all layers.

    Args:
        prediction: Whose attention is captured.
        effects: Of each head of a layer, by the layer's path, see `regard.explain.heads`; None
            where they were not measured.
        most_bytes: About the size of all maps as JSON; None is 120 kB for a sentence, and up to 1.6
            MB for long texts.

    Returns:
        The maps; none without attention.
    """
    scale = _choose_scale(prediction, most_bytes)
    maps, notes = [], []
    pairs: dict[Hashable, AllowedPairs] = {}  # of a pattern: most layers share one
    for layer in capture_in_parts(prediction):
        if layer.refusal:
            notes.append(layer.refusal)
            continue
        key = (layer.pattern, layer.num_queries, layer.num_keys)
        if key not in pairs:
            pairs[key] = allowed_pairs(*key, tile=scale.tile)
        allowed = pairs[key]
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
        is_readable = columns <= _LONGEST_SIDE and num_keys >= min(_FEWEST_KEYS, columns)
        if is_readable or columns == 1:
            break
        tile *= 2
    map_rows = sum(-(-queries // tile) for _, queries, _ in sizes)
    num_runs = int(_PART_OF_RUNS * most_bytes / (_RUN_BYTES * max(map_rows, 1)))
    return _Scale(tile, min(max(num_keys, 1), columns), max(num_runs, 1))


def _rows(layer: LayerAttention, scale: _Scale) -> list[list[AttentionRow]]:
    """Return the rows of each head."""
    starts = torch.arange(0, layer.num_queries, scale.tile)
    num_queries = (layer.num_queries - starts).clamp(max=scale.tile)  # the last tile may be short
    weights = layer.sum_tiles(scale.tile) / num_queries[:, None]
    totals = (1000 * weights.sum(-1)).round().long()
    largest = weights.topk(min(scale.num_keys, weights.shape[-1]), dim=-1)
    keys, order = largest.indices.sort(dim=-1)
    thousandths = (1000 * largest.values.gather(-1, order)).round().long()
    rest = (totals - thousandths.sum(-1)).clamp(min=0)
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


def _join_runs(runs: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Join the runs that are nearest to each other until few enough are left.

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
