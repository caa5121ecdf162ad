"""The shards of a batch: parts of its rows that do not depend on the number of processes.

A batch of several processes has a fixed number of shards, 12 by default, which 1, 2, 3, 4, 6 and 12
processes share evenly. The masks of dropout follow from the step and the row, and a process
computes its shards at once; where a model cannot draw by row, they follow from the step and the
shard, and shards are computed one by one. So the gradient of a batch is the same for any number of
processes, up to the order of its sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regard.data.masking import MaskedBatches
from regard.layers.dropout import Dropout, RowRange
from regard.layers.embedding import SegmentedEmbedding, TokenEmbedding
from regard.layers.transformer_block import ResidualConnection
from regard.models.base.classifier import Classifier
from regard.models.base.span_model import SpanModel
from regard.training.distribution import World

_DRAWS = 128  # random numbers set apart for a shard: a layer of dropout takes one on a CPU
_DROP_ROWS = (TokenEmbedding, SegmentedEmbedding, ResidualConnection, Classifier, SpanModel)
_SHARD_BITS = 40  # of a seed on a GPU, above those of the step


class RowBatches(Protocol):
    """Batches of chosen rows, in the order of an epoch."""

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch, the same for the same epoch."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Build the batch of some rows."""
        ...


@dataclass(frozen=True, eq=False)
class Shard:
    """A part of a batch that is computed at once.

    Args:
        index: In the batch, from 0.
        batch: The batch of its rows.
        is_counted: False for a copy of the first row, computed with weight 0 by a process without
            rows, which has to take part in what all processes exchange.
        rows: Its rows in the whole batch, where dropout follows from the row, not from the shard.
    """

    index: int
    batch: Any
    is_counted: bool = True
    rows: RowRange | None = None


@dataclass(frozen=True, eq=False)
class ShardedBatch:
    """The shards of a batch that a process computes, one at least, in their order."""

    shards: list[Shard]


def shard_bounds(num_items: int, num_shards: int) -> list[int]:
    """Return where each shard of a list begins, and the end of the last, ``[num_shards + 1]``.

    >>> shard_bounds(7, 3)
    [0, 2, 4, 7]
    """
    return [index * num_items // num_shards for index in range(num_shards + 1)]


def own_shards(num_shards: int, world: World) -> range:
    """Return the indices of the shards of a process: neighbours.

    >>> own_shards(12, World(rank=1, size=3))
    range(4, 8)
    """
    bounds = shard_bounds(num_shards, world.size)
    return range(bounds[world.rank], bounds[world.rank + 1])


def largest_fraction(num_shards: int, num_processes: int) -> float:
    """Return the largest part of a batch that one of several processes computes.

    >>> largest_fraction(12, 3), largest_fraction(12, 5), largest_fraction(2, 3)
    (0.3333333333333333, 0.25, 0.5)
    """
    bounds = shard_bounds(num_shards, num_processes)
    return int(np.diff(bounds).max()) / num_shards


@dataclass(frozen=True, eq=False)
class ShardedBatches:
    """This process's shards of every batch.

    Args:
        batches: Of the whole run.
        world: The processes.
        num_shards: Shards of a batch.
        is_even: Whether all processes compute the same number of shards, some of them not counted;
            else a process computes one at least.
        drops_by_row: Whether dropout follows from the row, not from the shard (`is_joinable`).
        is_joined: Whether the shards of a process are computed at once; dropout is by row then.
    """

    batches: RowBatches
    world: World
    num_shards: int
    is_even: bool = False
    drops_by_row: bool = False
    is_joined: bool = False

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of every batch of an epoch, of all processes together."""
        return self.batches.order(epoch)

    def batch(self, rows: NDArray[np.int64]) -> ShardedBatch:
        """Build this process's shards of a batch."""
        bounds = shard_bounds(len(rows), self.num_shards)
        filled = [index for index in range(self.num_shards) if bounds[index] < bounds[index + 1]]
        own = own_shards(self.num_shards, self.world)
        if self.is_joined:
            start, end = bounds[own.start], bounds[own.stop]
            if end == start:
                return ShardedBatch([self._shard(0, rows, 0, 1, is_counted=False)])
            return ShardedBatch([self._shard(0, rows, start, end)])
        shards = []
        for index in filled:
            if index in own:
                start, end = bounds[index], bounds[index + 1]
                shards.append(self._shard(index, rows, start, end))
        num_passes = 1
        if self.is_even:
            ends = shard_bounds(self.num_shards, self.world.size)
            num_passes = int(np.histogram(filled, ends)[0].max())
        if len(shards) < num_passes:
            spare = self._shard(0, rows, 0, 1, is_counted=False)
            shards = [spare] * (num_passes - len(shards)) + shards
        return ShardedBatch(shards)

    def _shard(
        self,
        index: int,
        rows: NDArray[np.int64],
        start: int,
        end: int,
        *,
        is_counted: bool = True,
    ) -> Shard:
        """Build a shard of the rows from `start` to `end` of a batch."""
        row_range = RowRange(start, end - start, len(rows)) if self.drops_by_row else None
        return Shard(index, self.batches.batch(rows[start:end]), is_counted, row_range)


def is_joinable(model: nn.Module, batches: RowBatches) -> bool:
    """Return whether a row is computed in the same way whatever rows are computed with it.

    Args:
        model: To be trained.
        batches: Of the training data.

    Returns:
        True for models without dropout, and for Transformers of texts on a CPU, whose layers drop
        elements of ``[rows, ...]``; other models, and masked tokens, which are drawn for all rows
        of a batch, need shards.
    """
    if isinstance(batches, MaskedBatches):
        return False
    is_on_cpu = next(model.parameters()).device.type == "cpu"
    return all(
        is_on_cpu and _drops_by_row(owner, module)
        for owner in model.modules()
        for module in owner.children()
        if isinstance(module, nn.Dropout) and module.p > 0
    )


def _drops_by_row(owner: nn.Module, module: nn.Dropout) -> bool:
    """Return whether a layer, a part of another, drops elements of ``[rows, ...]`` on a CPU."""
    is_own = isinstance(owner, _DROP_ROWS) and isinstance(module, Dropout)
    return is_own and module.generator is None


def seed_shard(seed: int, shard: Shard | None = None) -> None:
    """Seed PyTorch's generators for a shard; None seeds them for the step.

    On a CPU the shards of a step draw from one sequence of random numbers, each from a place of its
    own: layers of dropout keep numbers by the seed (`regard.layers.dropout`).

    Args:
        seed: Of the step.
        shard: To be computed; all have the seed of the step where dropout is by row.
    """
    index = 0 if shard is None or shard.rows is not None else shard.index
    torch.default_generator.manual_seed(seed)
    if index:
        torch.randint(2, (_DRAWS * index,))
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed + (index << _SHARD_BITS))
