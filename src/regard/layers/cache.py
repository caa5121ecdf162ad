"""What self-attention keeps of the positions decoded so far.

`cache_for` chooses: a pattern that looks back without bound needs every key (`KeyValueCache`,
memory linear in the length), one that looks back at most `before` positions needs the last
``before + 1`` (`WindowCache`, a ring buffer of that size). Both give the same results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from regard.attention import LengthDependentPattern, Pattern


class LayerCache(Protocol):
    """What one layer of any family keeps of the positions decoded so far."""

    def __len__(self) -> int:
        """Count the positions seen."""
        ...

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        ...


@dataclass(eq=False)
class PositionCounter:
    """What has seen a number of positions, which is its length."""

    length: int = field(default=0, init=False)

    def __len__(self) -> int:
        return self.length


@dataclass(eq=False)
class KeyValueCache:
    """Keys and values of all positions decoded so far, for one layer.

    Rows are sentences or beams; `select` keeps, repeats and reorders them.
    """

    positions: ClassVar[Tensor | None] = None
    """None: key j is at position j, the default of `attend`."""

    keys: Tensor | None = None  # [batch, heads, keys, dim]
    values: Tensor | None = None  # [batch, heads, keys, dim]

    def __len__(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, ``[batch, heads, new, dim]`` each, and return all of them."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keep rows of ``[batch, heads, keys, dim]`` by index, ``[new_batch]``, in that order."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(0, rows)
            self.values = self.values.index_select(0, rows)


class WindowCache(PositionCounter):
    """Keys and values of the last positions only: a ring buffer, for one layer.

    Until it is full it grows; then each new position takes the place of the oldest.

    Args:
        size: Most positions kept, 1 or more.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.keys: Tensor | None = None  # [batch, heads, kept, dim]
        self.values: Tensor | None = None  # [batch, heads, kept, dim]
        self.positions: Tensor | None = None
        """Positions of the keys that `append` returned last, ``[keys]``; None is 0, 1, ..."""
        self._oldest = 0  # the slot to be overwritten next
        self._in_slots: Tensor | None = None  # [slots], the position in each slot

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, ``[batch, heads, new, dim]`` each.

        Returns:
            The keys and values that the new positions may need, ``[batch, heads, keys, dim]`` each:
            those kept before and all new ones, at `positions`.
        """
        first, self.length = self.length, self.length + keys.shape[2]
        new = torch.arange(first, self.length, device=keys.device)
        if keys.shape[2] == 1 and first >= self.size:
            return self._overwrite(keys, values, new)
        return self._extend(keys, values, new)

    def _overwrite(self, keys: Tensor, values: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        """Put one position into the oldest slot."""
        assert self.keys is not None and self.values is not None and self._in_slots is not None
        slot = torch.full_like(new, self._oldest)
        # Not in place: the keys returned before may be part of a graph.
        self.keys = self.keys.index_copy(2, slot, keys)
        self.values = self.values.index_copy(2, slot, values)
        self.positions = self._in_slots = self._in_slots.index_copy(0, slot, new)
        self._oldest = (self._oldest + 1) % self.size
        return self.keys, self.values

    def _extend(self, keys: Tensor, values: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        """Append new positions to those kept, oldest first, and keep the last of all."""
        if self.keys is not None and self.values is not None and self._in_slots is not None:
            keys = torch.cat([self.keys.roll(-self._oldest, 2), keys], dim=2)
            values = torch.cat([self.values.roll(-self._oldest, 2), values], dim=2)
            new = torch.cat([self._in_slots.roll(-self._oldest), new])
        self._oldest = 0
        self.keys, self.values = _last(keys, self.size), _last(values, self.size)
        self._in_slots = new[-self.size :].clone()
        begins_at_zero = len(new) == self.length
        self.positions = None if begins_at_zero else new
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keep rows of ``[batch, heads, keys, dim]`` by index, ``[new_batch]``, in that order."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(0, rows)
            self.values = self.values.index_select(0, rows)


def _last(x: Tensor, size: int) -> Tensor:
    """Cut ``[batch, heads, keys, dim]`` to the last keys, without holding on to the others."""
    return x if x.shape[2] <= size else x[:, :, -size:].clone()


Cache = KeyValueCache | WindowCache


def cache_for(pattern: Pattern) -> Cache:
    """Return an empty cache, the smallest that decoding with a causal pattern needs.

    >>> from regard.attention import Causal, Local
    >>> cache_for(Local(255, 0) & Causal()).size
    256
    """
    assert not isinstance(pattern, LengthDependentPattern)  # no decoder has one
    reaches = [term.before for term in pattern.terms()]
    bounded = [before for before in reaches if before is not None]
    if len(bounded) < len(reaches):
        return KeyValueCache()
    return WindowCache(max(bounded, default=0) + 1)
