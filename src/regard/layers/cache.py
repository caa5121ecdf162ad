"""What self-attention keeps of the positions decoded so far.

`cache_for` chooses: a pattern that looks back without bound needs every key (`KeyValueCache`,
memory linear in the length), one that looks back at most `before` positions needs the last
``before + 1`` (`WindowCache`, a ring buffer of that size). Both give the same results.

Both write in place into memory that is allocated ahead (`KeyValueBuffer`), so that a step copies
neither the keys before it nor, when rows change, those of rows that keep their index. Keys that
need a gradient, which may be part of a graph, are never overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from regard.attention import LengthDependentPattern, Pattern
from regard.errors import ConfigError

_SMALLEST_CAPACITY = 16  # positions


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


class KeyValueBuffer:
    """Keys and values in memory that grows by doubling.

    Args:
        largest: Most positions to allocate memory for; None sets no limit.
    """

    def __init__(self, largest: int | None = None) -> None:
        self.largest = largest
        self._storages: tuple[Tensor, Tensor] | None = None
        # [at least num_rows, heads, at least num_positions, dim] each
        self.num_rows = self.num_positions = 0

    @property
    def content(self) -> tuple[Tensor, Tensor] | None:
        """Keys and values, ``[rows, heads, positions, dim]`` each; None before the first."""
        if self._storages is None:
            return None
        keys, values = self._storages
        rows, positions = self.num_rows, self.num_positions
        return keys[:rows, :, :positions], values[:rows, :, :positions]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, ``[rows, heads, new, dim]`` each, and return all of them.

        Returns:
            Keys and values, ``[rows, heads, positions, dim]``; views that later positions do not
            change.
        """
        old, first = self.content, self.num_positions
        total = first + keys.shape[2]
        if old is not None and not self._may_write(keys, values):
            self.replace(torch.cat([old[0], keys], dim=2), torch.cat([old[1], values], dim=2))
        elif old is None and (keys.requires_grad or values.requires_grad):
            self.replace(keys, values)
        else:
            self._reserve(keys, values, total)
            assert self._storages is not None
            for storage, new in zip(self._storages, (keys, values), strict=True):
                storage[: len(new), :, first:total] = new
            self.num_rows, self.num_positions = len(keys), total
        content = self.content
        assert content is not None
        return content

    def overwrite(self, position: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Replace one position by ``[rows, heads, 1, dim]`` each, and return all of them."""
        content = self.content
        assert content is not None
        if self._may_write(keys, values):
            for old, new in zip(content, (keys, values), strict=True):
                old[:, :, position] = new[:, :, 0]
            return content
        index = torch.tensor([position], device=keys.device)
        keys, values = (
            old.index_copy(2, index, new) for old, new in zip(content, (keys, values), strict=True)
        )
        self.replace(keys, values)
        return keys, values

    def replace(self, keys: Tensor, values: Tensor) -> None:
        """Keep these keys and values, ``[rows, heads, positions, dim]``, alone, without copies."""
        self._storages = keys, values
        self.num_rows, self.num_positions = keys.shape[0], keys.shape[2]

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_rows]``; only rows that move are copied."""
        content = self.content
        if content is None:
            return
        is_writable = self._may_write()
        if is_writable and len(rows) <= self.num_rows and rows.device.type == "cpu":
            moved = (rows != torch.arange(len(rows))).nonzero().squeeze(1)
            if len(moved) <= len(rows) // 2:
                self.num_rows = len(rows)
                if len(moved):
                    sources = rows[moved]
                    for part in content:
                        part.index_copy_(0, moved, part.index_select(0, sources))
                return
        if not is_writable:
            self.replace(*(part.index_select(0, rows) for part in content))
            return
        num_positions = self.num_positions
        assert self._storages is not None
        storages = tuple(
            storage.new_empty(len(rows), *storage.shape[1:]) for storage in self._storages
        )  # [new_rows, heads, capacity, dim] each
        for storage, part in zip(storages, content, strict=True):
            storage[:, :, :num_positions] = part.index_select(0, rows)
        self._storages, self.num_rows = (storages[0], storages[1]), len(rows)

    def _may_write(self, *new: Tensor) -> bool:
        """Return whether the memory may be written in place, with new keys and values."""
        assert self._storages is not None
        keys, values = self._storages
        if keys.requires_grad or values.requires_grad:
            return False
        if keys.is_inference() and not torch.is_inference_mode_enabled():
            return False
        return not any(part.requires_grad or part.dtype != keys.dtype for part in new)

    def _reserve(self, keys: Tensor, values: Tensor, num_positions: int) -> None:
        """Make room for positions of keys and values like these, ``[rows, heads, new, dim]``."""
        num_rows = len(keys)
        if (
            self._storages is not None
            and self._storages[0].shape[0] >= num_rows
            and self._storages[0].shape[2] >= num_positions
        ):
            return
        capacity = max(_SMALLEST_CAPACITY, 1 << (num_positions - 1).bit_length())
        if self.largest is not None:
            capacity = max(num_positions, min(capacity, self.largest))
        old = self.content
        storages = []
        for index, new in enumerate((keys, values)):
            storage = new.new_empty(num_rows, new.shape[1], capacity, new.shape[3])
            if old is not None:
                storage[:, :, : self.num_positions] = old[index]
            storages.append(storage)
        self._storages = storages[0], storages[1]


class KeyValueCache:
    """Keys and values of all positions decoded so far, for one layer.

    Rows are sentences or beams; `select` keeps, repeats and reorders them.
    """

    positions: ClassVar[Tensor | None] = None
    """None: key j is at position j, the default of `attend`."""

    def __init__(self) -> None:
        self._buffer = KeyValueBuffer()

    @property
    def keys(self) -> Tensor | None:
        """Keys, ``[batch, heads, keys, dim]``; None before the first position."""
        return None if self._buffer.content is None else self._buffer.content[0]

    @property
    def values(self) -> Tensor | None:
        """Values, ``[batch, heads, keys, dim]``; None before the first position."""
        return None if self._buffer.content is None else self._buffer.content[1]

    def __len__(self) -> int:
        return self._buffer.num_positions

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, ``[batch, heads, new, dim]`` each, and return all of them."""
        return self._buffer.append(keys, values)

    def select(self, rows: Tensor) -> None:
        """Keep rows of ``[batch, heads, keys, dim]`` by index, ``[new_batch]``, in that order."""
        self._buffer.select(rows)


class WindowCache(PositionCounter):
    """Keys and values of the last positions only: a ring buffer, for one layer.

    Until it is full it grows; then each new position takes the place of the oldest.

    Args:
        size: Most positions kept, 1 or more.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.positions: Tensor | None = None
        """Positions of the keys that `append` returned last, ``[keys]``; None is 0, 1, ..."""
        self._buffer = KeyValueBuffer(size)
        self._oldest = 0  # the slot to be overwritten next

    @property
    def keys(self) -> Tensor | None:
        """Keys by slot, ``[batch, heads, kept, dim]``; None before the first position."""
        return None if self._buffer.content is None else self._buffer.content[0]

    @property
    def values(self) -> Tensor | None:
        """Values by slot, ``[batch, heads, kept, dim]``; None before the first position."""
        return None if self._buffer.content is None else self._buffer.content[1]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, ``[batch, heads, new, dim]`` each.

        Returns:
            The keys and values that the new positions may need, ``[batch, heads, keys, dim]`` each:
            those kept before and all new ones, at `positions`.
        """
        first, num_new = self.length, keys.shape[2]
        self.length += num_new
        if self.length <= self.size:
            return self._buffer.append(keys, values)
        if num_new > 1 or first < self.size:
            return self._exceed(keys, values)
        self.positions = self._positions_of_slots(first, keys.device)
        slot, self._oldest = self._oldest, (self._oldest + 1) % self.size
        return self._buffer.overwrite(slot, keys, values)

    def _positions_of_slots(self, newest: int, device: torch.device) -> Tensor:
        """Return the positions of the slots, ``[size]``, once the oldest has the newest."""
        slots = torch.arange(self.size, device=device)
        age = (self._oldest - slots) % self.size  # 0 in the slot that is written now
        return newest - age

    def _exceed(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, ``[batch, heads, new, dim]`` each, and keep the last of all.

        Returns:
            The keys and values that were kept, oldest first, and the new ones.
        """
        if (content := self._buffer.content) is not None:
            old_keys, old_values = (part.roll(-self._oldest, 2) for part in content)
            keys = torch.cat([old_keys, keys], dim=2)
            values = torch.cat([old_values, values], dim=2)
        self._oldest = 0
        self._buffer.replace(_last(keys, self.size), _last(values, self.size))
        first = self.length - keys.shape[2]
        device = keys.device
        self.positions = None if first == 0 else torch.arange(first, self.length, device=device)
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keep rows of ``[batch, heads, keys, dim]`` by index, ``[new_batch]``, in that order."""
        self._buffer.select(rows)


def _last(x: Tensor, size: int) -> Tensor:
    """Cut ``[batch, heads, keys, dim]`` to the last keys, without holding on to the others."""
    return x[:, :, -size:].clone()


Cache = KeyValueCache | WindowCache


def cache_for(pattern: Pattern) -> Cache:
    """Return an empty cache, the smallest that decoding with a causal pattern needs.

    Raises:
        ConfigError: The pattern depends on the length.

    >>> from regard.attention import Causal, Local
    >>> cache_for(Local(255, 0) & Causal()).size
    256
    """
    if isinstance(pattern, LengthDependentPattern):
        raise ConfigError(
            f"{pattern!r} depends on the length, which decoding does not know.  Take a number, "
            "such as Local(256, 0)."
        )
    reaches = [term.before for term in pattern.terms()]
    bounded = [before for before in reaches if before is not None]
    if len(bounded) < len(reaches):
        return KeyValueCache()
    return WindowCache(max(bounded, default=0) + 1)


def shared_sources(sources: Tensor) -> tuple[Tensor, int]:
    """Return what successive rows share.

    Args:
        sources: The source that each row reads, ``[rows]``.

    Returns:
        The sources without repetitions, and how many rows in succession read each; the sources as
        they are and 1 where these numbers differ.

    >>> shared_sources(torch.tensor([3, 3, 0, 0]))
    (tensor([3, 0]), 2)
    """
    values, counts = sources.unique_consecutive(return_counts=True)
    if len(values) == 0 or len(sources) % len(values) or not bool((counts == counts[0]).all()):
        return sources, 1
    return values, len(sources) // len(values)


def is_identity(rows: Tensor, num_rows: int) -> bool:
    """Return whether an index, ``[new_rows]``, keeps `num_rows` rows as they are."""
    return len(rows) == num_rows and bool(
        (rows == torch.arange(num_rows, device=rows.device)).all()
    )
