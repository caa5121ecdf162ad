"""The attention that a model used for a prediction: weights, queries, keys and values by layer.

Layers hand out what they compute (`regard.layers.recorded_attention`); nothing is computed again
for the picture. `check` proves it: weights times values, compared with what the layers gave to the
next ones in a pass that recorded nothing. Sparse weights stay sparse. Cost: one pass, and the
weights of the layers that are held at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention import Hierarchical, Pattern
from regard.errors import ConfigError
from regard.explain.head_outputs import Mixing, replace_head_outputs
from regard.explain.prediction import Prediction, Stack
from regard.layers import AttentionRecord, RecordedAttention, describe_pattern

_MOST_BYTES = 512 * 1024**2  # of the weights that are held at once
_LARGEST_BYTES = 2 * 1024**3  # of the weights of one layer
_SPARSE_BYTES = 4 * 8 + 4  # of a weight in a sparse tensor: four indices and a number


@dataclass(eq=False)
class LayerAttention:
    """The attention of one layer in one prediction.

    Args:
        path: Path of the layer in the model.
        kind: ``cross`` where it reads the source, else the name of its stack, such as encoder.
        depth: Index of its block in the stack.
        stack: Index of the stack of its queries.
        pattern: Which pairs may attend, as it was in that pass: global tokens may differ by input.
        num_heads: Number of heads of queries.
        first_query: Feature of the first query.
        first_key: Feature of the first key.
        records: Records of its calls, each ``[1, heads, ...]``, in the order of the queries.
        refusal: Why it has no weights, in a sentence; empty where it has.
    """

    path: str
    kind: str
    depth: int
    stack: int
    pattern: Pattern
    num_heads: int
    first_query: int
    first_key: int
    records: tuple[AttentionRecord, ...]
    refusal: str = ""

    @property
    def num_queries(self) -> int:
        """Number of queries."""
        return sum(record.output.shape[2] for record in self.records)

    @property
    def num_keys(self) -> int:
        """Number of keys."""
        return self.records[0].keys.shape[2]

    @cached_property
    def weights(self) -> Tensor:
        """The weights, ``[heads, queries, keys]``; sparse where the layer computed sparse ones.

        Raises:
            ConfigError: There are none to show.
        """
        if self.refusal:
            raise ConfigError(self.refusal)
        parts = [record.weights for record in self.records if record.weights is not None]
        if any(part.is_sparse for part in parts):
            parts = [part if part.is_sparse else part.to_sparse() for part in parts]
        weights = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)).detach()
        if not weights.is_sparse:
            return weights[0]
        weights = weights.coalesce()
        return torch.sparse_coo_tensor(
            weights.indices()[1:],
            weights.values(),
            weights.shape[1:],
            is_coalesced=True,
            check_invariants=False,
        )

    @cached_property
    def mean_weights(self) -> Tensor:
        """The mean of the weights over heads, dense, ``[queries, keys]``, float32 at least."""
        return self.sum_tiles(1).sum(0) / self.num_heads

    def sum_tiles(self, tile: int) -> Tensor:
        """Add up the weights in tiles of queries and keys.

        Args:
            tile: Positions of a tile, 1 or more.

        Returns:
            ``[heads, tiles of queries, tiles of keys]``, dense, float32 at least; its size is what
            bounds the memory.
        """
        weights = self.weights
        heads, queries, keys = weights.shape
        dtype = torch.promote_types(weights.dtype, torch.float32)
        if not weights.is_sparse:
            padded = F.pad(weights.to(dtype), (0, -keys % tile, 0, -queries % tile))
            return padded.unflatten(2, (-1, tile)).sum(-1).unflatten(1, (-1, tile)).sum(2)
        rows, columns = -(-queries // tile), -(-keys // tile)
        head, query, key = weights.indices()
        cells = (head * rows + query // tile) * columns + key // tile
        total = torch.zeros(heads * rows * columns, dtype=dtype)
        return total.index_add_(0, cells, weights.values().to(dtype)).view(heads, rows, columns)

    def values_of(self, query: int) -> Tensor:
        """Return the values that a query mixes, ``[heads, keys, value_dim]``.

        Args:
            query: Its index.

        Raises:
            IndexError: The layer has no such query.
        """
        for record in self.records:
            if query < record.output.shape[2]:
                values = record.values[0]
                return values.repeat_interleave(self.num_heads // len(values), dim=0)
            query -= record.output.shape[2]
        raise IndexError(query)


def capture(prediction: Prediction, paths: Collection[str] | None = None) -> list[LayerAttention]:
    """Return the attention of a prediction by layer, encoder first; none without attention.

    Args:
        prediction: Whose model runs once.
        paths: Paths of the layers; None is all of them.
    """
    layers = attention_layers(prediction)
    if paths is not None:
        layers = {path: layer for path, layer in layers.items() if path in paths}
    if not layers:
        return []
    records = record_attention(layers, lambda: prediction.scores(prediction.full_weights()))
    return [
        _locate(prediction, path, layer, tuple(records[path]))
        for path, layer in layers.items()
        if records[path]
    ]


def capture_in_parts(
    prediction: Prediction, *, most_bytes: int = _MOST_BYTES
) -> Iterator[LayerAttention]:
    """Return the attention of a prediction by layer, with a bound on what is held at once.

    Args:
        prediction: Whose model runs once for each part.
        most_bytes: Most bytes of the weights of a part; a part has one layer at least.

    Yields:
        The layers, encoder first. One whose weights alone would take more than 2 GiB is not
        captured and says so in its `LayerAttention.refusal`.
    """
    part: list[str] = []
    total = 0
    for path, layer in attention_layers(prediction).items():
        size = _weight_bytes(prediction, layer)
        is_captured = size <= _LARGEST_BYTES
        if part and (total + size > most_bytes or not is_captured):
            yield from _pop_all(capture(prediction, part))
            part, total = [], 0
        if not is_captured:
            yield _locate(prediction, path, layer, ())
            continue
        part.append(path)
        total += size
    if part:
        yield from _pop_all(capture(prediction, part))


def attention_layers(prediction: Prediction) -> dict[str, RecordedAttention]:
    """Return the layers of attention of a prediction's model by path, encoder first."""
    return {
        path: module
        for path, module in prediction.model.named_modules()
        if isinstance(module, RecordedAttention)
    }


def record_attention(
    layers: Mapping[str, RecordedAttention], run: Callable[[], object]
) -> dict[str, list[AttentionRecord]]:
    """Return the records of layers, by their paths, while a function runs, without gradient.

    They are copied into main memory.

    Args:
        layers: By path.
        run: Runs the model once.
    """
    records: dict[str, list[AttentionRecord]] = {path: [] for path in layers}
    with torch.no_grad(), ExitStack() as stack:
        for path, layer in layers.items():
            stack.callback(setattr, layer, "on_attention", layer.on_attention)
            layer.on_attention = lambda record, path=path: records[path].append(_on_host(record))
        run()
    return records


def _on_host(record: AttentionRecord) -> AttentionRecord:
    """Return a record with its tensors in main memory, where they are those of the layer itself."""
    return record._replace(
        queries=record.queries.cpu(),
        keys=record.keys.cpu(),
        values=record.values.cpu(),
        weights=None if record.weights is None else record.weights.cpu(),
        output=record.output.cpu(),
    )


def check(prediction: Prediction) -> float:
    """Compare the attention shown with the attention used, see `largest_error`.

    Args:
        prediction: Whose model runs twice.

    Returns:
        The largest error.
    """
    layers = attention_layers(prediction)
    return largest_error(layers, lambda: prediction.scores(prediction.full_weights()))


def largest_error(layers: Mapping[str, RecordedAttention], run: Callable[[], object]) -> float:
    """Compare weights times values with what the layers give in a pass without recording.

    Args:
        layers: By path; those without weights are left out.
        run: Runs the model once, with the same result each time.

    Returns:
        The largest difference over all layers, relative to the largest number of each output; 0
        without attention. In float32 it is rounding, below 1e-5.
    """
    records = record_attention(layers, run)
    outputs: dict[str, list[Tensor]] = defaultdict(list)
    mixing = {path: layer for path, layer in layers.items() if isinstance(layer, Mixing)}

    def keep(path: str, output: Tensor) -> Tensor:
        outputs[path].append(output.transpose(1, 2).cpu())
        return output

    replacements: dict[Mixing, Callable[[Tensor], Tensor]] = {
        layer: lambda output, path=path: keep(path, output) for path, layer in mixing.items()
    }
    with torch.no_grad(), replace_head_outputs(replacements):
        run()
    errors = (
        _relative_error(calls, outputs[path])
        for path, calls in records.items()
        if calls and all(record.weights is not None for record in calls)
    )
    return max(errors, default=0.0)


def _relative_error(calls: list[AttentionRecord], outputs: list[Tensor]) -> float:
    """Return the largest difference of weights times values to outputs, relative to these."""
    recomputed, used = torch.cat([*map(recompute, calls)], dim=2), torch.cat(outputs, dim=2)
    largest = used.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    return float(((recomputed - used).abs().amax() / largest).detach())


def recompute(record: AttentionRecord) -> Tensor:
    """Return weights times values, ``[batch, heads, queries, value_dim]``, float32 at least.

    Args:
        record: With weights, dense or sparse.

    Raises:
        ConfigError: The pattern has no weights.
    """
    weights, values = record.weights, record.values
    if weights is None:
        raise ConfigError("the pattern has no weights.")
    dtype = torch.promote_types(values.dtype, torch.float32)
    values = values.to(dtype).repeat_interleave(weights.shape[1] // values.shape[1], dim=1)
    if not weights.is_sparse:
        return weights.to(dtype) @ values
    batch, heads, queries, keys = weights.shape
    index, numbers = weights.coalesce().indices(), weights.coalesce().values()
    block = index[0] * heads + index[1]  # of a block-diagonal matrix of all heads
    matrix = torch.sparse_coo_tensor(
        torch.stack([block * queries + index[2], block * keys + index[3]]),
        numbers.to(dtype),
        (batch * heads * queries, batch * heads * keys),
        is_coalesced=True,
        check_invariants=False,
    )
    return (matrix @ values.flatten(0, 2)).unflatten(0, (batch, heads, queries))


def layer_sizes(prediction: Prediction, layer: RecordedAttention) -> tuple[int, int]:
    """Return the number of queries and of keys of a layer."""
    stack, source = _stacks_of(prediction, layer)
    return stack.stop - stack.start, source.stop - source.start


def _stacks_of(prediction: Prediction, layer: RecordedAttention) -> tuple[Stack, Stack]:
    """Return the stacks of a layer's queries and of its keys."""
    number, _ = find_block(prediction.stacks, layer)
    stack = prediction.stacks[number]
    return stack, prediction.stacks[0] if layer.reads_source else stack


def find_block(stacks: tuple[Stack, ...], layer: nn.Module) -> tuple[int, int]:
    """Return the indices of a layer's stack and of its block; one outside is in the last block."""
    for number, stack in enumerate(stacks):
        for depth, block in enumerate(stack.layers):
            if any(module is layer for module in block.modules()):
                return number, depth
    return len(stacks) - 1, len(stacks[-1].layers) - 1


def pattern_text(pattern: Pattern) -> str:
    """Write a pattern as settings have it, or as Python does."""
    return describe_pattern(pattern).removeprefix("pattern ")


def _locate(
    prediction: Prediction,
    path: str,
    layer: RecordedAttention,
    records: tuple[AttentionRecord, ...],
) -> LayerAttention:
    """Return a layer's records with the features of its queries and keys."""
    number, depth = find_block(prediction.stacks, layer)
    stack, source = _stacks_of(prediction, layer)
    # The pattern of the last call is that of the layer's own; global tokens come before.
    pattern = records[-1].pattern if records else layer.pattern
    refusal = ""
    if not records:
        queries, keys = layer_sizes(prediction, layer)
        refusal = (
            f"{path} has {layer.num_heads} x {queries:,} x {keys:,} weights: too many to show.  "
            "Take a shorter text."
        )
    elif any(record.weights is None for record in records):
        refusal = f"{path} has no weights to show: {pattern!r} averages keys."
    return LayerAttention(
        path=path,
        kind="cross" if layer.reads_source else stack.name,
        depth=depth,
        stack=number,
        pattern=pattern,
        num_heads=layer.num_heads,
        first_query=stack.start,
        first_key=source.start,
        records=records,
        refusal=refusal,
    )


def _weight_bytes(prediction: Prediction, layer: RecordedAttention) -> int:
    """Estimate the bytes of a layer's weights, all heads together."""
    if isinstance(layer.pattern, Hierarchical):
        return 0
    queries, keys = layer_sizes(prediction, layer)
    pairs = layer.pattern.count_pairs(queries, keys).attended
    return layer.num_heads * min(4 * queries * keys, _SPARSE_BYTES * pairs)


def _pop_all(layers: list[LayerAttention]) -> Iterator[LayerAttention]:
    """Yield layers, first to last, without keeping a reference to them."""
    layers.reverse()
    while layers:
        yield layers.pop()
