"""Keys and values at fixed addresses, for steps of decoding that a GPU repeats as one graph.

A step of this kind has no number of Python's in it: positions and the order of hypotheses are
tensors, and every tensor has the shape and the address that it had in the step before. Memory is
allocated for a number of positions (`StaticRows.capacity`); a mask leaves out what is not written.

Beams are reordered by index. The keys of a hypothesis stay where they were written; `holders` says
for each of its positions in the memory of which hypothesis that is, and the hypotheses of a source
read one memory through a mask. Nothing is copied but indices, and every key is read once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from regard.layers.decoding_attention import attend_allowed, attend_with_bias
from regard.layers.positioned_cache import PositionedCache

if TYPE_CHECKING:
    from regard.attention import DotProduct
    from regard.layers.relative_bias import RelativeBias


class StaticRows:
    """The rows of a step, and what each of them may read: shared by the caches of all layers.

    Args:
        num_sources: Groups of rows that read one source.
        num_readers: Rows of each, the hypotheses of a beam search.
        capacity: Positions that there is memory for.
        device: Where the memory is.
    """

    def __init__(
        self, num_sources: int, num_readers: int, capacity: int, device: torch.device
    ) -> None:
        self.num_sources, self.num_readers, self.capacity = num_sources, num_readers, capacity
        self.positions = torch.zeros(num_sources, dtype=torch.long, device=device)
        """Position of the token that the step reads, ``[sources]``."""
        self.holders = torch.zeros(
            num_sources, num_readers, capacity, dtype=torch.long, device=device
        )
        """The reader in whose memory a position of a row is, ``[sources, readers, capacity]``."""
        self.sources = torch.arange(num_sources, device=device)[:, None]
        self.readers = torch.arange(num_readers, device=device)[None]
        self._masks: dict[int | None, Tensor] = {}
        self._biases: dict[tuple[int | None, int], Tensor] = {}

    @property
    def of_rows(self) -> Tensor:
        """Position of each row's token, ``[sources * readers, 1]``."""
        return self.positions[:, None].expand(-1, self.num_readers).reshape(-1, 1)

    def begin_step(self, positions: Tensor, origins: Tensor) -> None:
        """Begin a step, all on the device.

        Args:
            positions: Of the tokens that it reads, ``[sources]``, below `capacity`.
            origins: The row of its source that each row continues, ``[sources, readers]``.
        """
        self.positions.copy_(positions)
        holders = self.holders.gather(1, origins[:, :, None].expand(-1, -1, self.capacity))
        index = positions[:, None, None].expand(-1, self.num_readers, 1)
        holders.scatter_(2, index, self.readers.expand(self.num_sources, -1)[:, :, None])
        self.holders.copy_(holders)
        self._masks.clear()
        self._biases.clear()

    def mask(self, reach: int | None) -> Tensor:
        """Return which keys of its source each row may read.

        Args:
            reach: Keys before its own that a row sees; None is all.

        Returns:
            ``[sources, 1, readers, readers * capacity]``.
        """
        if reach not in self._masks:
            slots = torch.arange(self.capacity, device=self.positions.device)
            newest = self.positions[:, None]
            is_seen = slots <= newest  # [sources, capacity]
            if reach is not None:
                is_seen &= slots >= newest - reach
            is_own = self.holders[:, :, None] == self.readers[0][:, None]
            self._masks[reach] = (is_own & is_seen[:, None, None]).flatten(2)[:, None]
        return self._masks[reach]

    def bias(self, reach: int | None, position_bias: RelativeBias, dtype: torch.dtype) -> Tensor:
        """Return what is added to the scores of each row, once for all layers that share a table.

        Args:
            reach: Keys before its own that a row sees; None is all.
            position_bias: Of the distance of a key.
            dtype: Of the scores.

        Returns:
            ``[sources, heads, readers, readers * capacity]``, minus infinity where a row may not
            read.
        """
        key = reach, id(position_bias)
        if key not in self._biases:
            slots = torch.arange(self.capacity, device=self.positions.device)
            bias = position_bias.of_queries(self.positions, slots).to(dtype)
            bias = bias.repeat(1, 1, 1, self.num_readers)
            self._biases[key] = bias.masked_fill(~self.mask(reach), float("-inf"))
        return self._biases[key]


class StaticCache(PositionedCache):
    """Keys and values of one layer, for a step that reads one token a row.

    Args:
        rows: Of the step.
        reach: Keys before its own that a row sees; None is all.
        num_heads: Heads of keys and values.
        head_dim: Size of a head.
        dtype: Of keys and values.
    """

    def __init__(
        self,
        rows: StaticRows,
        *,
        reach: int | None,
        num_heads: int,
        head_dim: int,
        dtype: torch.dtype,
    ) -> None:
        self.rows, self.reach = rows, reach
        shape = rows.num_sources, num_heads, rows.num_readers, rows.capacity, head_dim
        # Zeros, since what is masked may not be NaN.
        self.keys = torch.zeros(shape, dtype=dtype, device=rows.positions.device)
        self.values = torch.zeros_like(self.keys)

    @property
    def positions(self) -> Tensor:
        """Position of each row's token, ``[sources * readers, 1]``."""
        return self.rows.of_rows

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        score: DotProduct,
        position_bias: RelativeBias | None = None,
    ) -> Tensor:
        """Add a position of each row, and attend from it, ``[rows, heads, 1, dim]``."""
        rows = self.rows
        sizes = rows.num_sources, rows.num_readers
        position = rows.positions[:, None]
        for storage, new in ((self.keys, k), (self.values, v)):
            storage[rows.sources, :, rows.readers, position] = new.squeeze(2).unflatten(0, sizes)
        queries = q.squeeze(2).unflatten(0, sizes).transpose(1, 2)  # [sources, heads, readers, dim]
        keys, values = self.keys.flatten(2, 3), self.values.flatten(2, 3)
        if position_bias is None:
            out = attend_allowed(queries, keys, values, rows.mask(self.reach), score=score)
        else:
            bias = rows.bias(self.reach, position_bias, q.dtype)
            out = attend_with_bias(queries, keys, values, bias, score=score)
        return out.transpose(1, 2).flatten(0, 1)[:, :, None]
