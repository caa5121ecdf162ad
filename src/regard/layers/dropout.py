"""Dropout (Srivastava et al. 2014) with masks cut from a pool of random numbers on a CPU.

Drawing one random number for every activation costs a CPU as much as all matrix products of a
small Transformer together. Here a pool of masked numbers follows from the seed of the generator,
and every call takes a slice of it that begins at an offset drawn from the generator: each number is
independent of the others within a slice. Cost: one multiplication an element.

The rules are those of `torch.nn.Dropout`. A mask is a function of the generator's state alone, so
`torch.manual_seed` decides, and activation checkpointing and ``torch.random.fork_rng`` restore it.
On other devices, in a compiled or exported graph, within ``torch.func.vmap`` and for subclasses of
tensors PyTorch's own kernel draws the mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from regard.attention.readable import is_vmapped
from regard.errors import ConfigError

_POOL_SIZE = 1 << 21
_LONGEST_SLICE = _POOL_SIZE // 2
_BYTE_LEVELS = 256
_POOL_SEED = 0x5D4F_3C2B_1A09_7E61  # keeps a pool apart from what its generator draws


@dataclass
class _Pools:
    """The pools of one generator; another seed needs others.

    Args:
        seed: Seed of the generator.
        pools: Zeros and ``1 / (1 - rate)``, ``[pool size]``, by rate and type.
    """

    seed: int
    pools: dict[tuple[float, torch.dtype], Tensor] = field(default_factory=dict)


class RowRange(NamedTuple):
    """Neighbouring rows of a batch that are computed together.

    Args:
        start: Index of the first of them in the whole batch.
        num_rows: Their number.
        total: Rows of the whole batch.
    """

    start: int
    num_rows: int
    total: int


_ROWS: ContextVar[RowRange | None] = ContextVar("rows", default=None)
_STRIDE = 0x9E3779B1  # odd: between the offsets in the pool of the parts of a long row
# Generators of PyTorch 2.11 take no weak references.
_POOLS: MutableMapping[torch.Generator, _Pools] = (
    WeakKeyDictionary() if torch.Generator.__weakrefoffset__ else {}
)


class Dropout(nn.Dropout):
    """Zero a fraction of activations, such as ``[batch, length, dim]``, and scale up the others.

    In evaluation it returns them unchanged.

    Args:
        p: Probability of dropping an element, 0 to 1.
        generator: Draws the masks, on the device of the activations; None takes PyTorch's default,
            which activation checkpointing needs.

    Raises:
        ValueError: `p` is out of range.

    >>> dropout = Dropout(0.5)
    >>> _ = torch.manual_seed(3)
    >>> first = dropout(torch.ones(4, 4))
    >>> _ = torch.manual_seed(3)
    >>> torch.equal(dropout(torch.ones(4, 4)), first)
    True
    """

    def __init__(self, p: float = 0.5, *, generator: torch.Generator | None = None) -> None:
        super().__init__(p)
        self.generator = generator

    @property
    def is_active(self) -> bool:
        """Whether a call drops anything."""
        return self.training and self.p > 0

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch.nn.Dropout
        """Drop elements of a tensor of any shape, such as ``[batch, length, dim]``.

        Args:
            input: Floating point.

        Returns:
            Same shape and type.

        Raises:
            ConfigError: A passed generator would draw another mask for the same activations.
        """
        if not self.is_active:
            return input
        if self._is_native(input):
            return F.dropout(input, self.p)
        return input * self._mask(input)

    def add(self, residual: Tensor, x: Tensor) -> Tensor:
        """Compute ``residual + dropout(x)``, in one pass where nothing observes this layer.

        Args:
            residual: Same shape as `x`.
            x: Floating point.

        Returns:
            Same shape.
        """
        is_observed = self._forward_hooks or self._forward_pre_hooks or self._backward_hooks
        if not self.is_active or self._is_native(x) or is_observed:
            return residual + self(x)
        return torch.addcmul(residual, x, self._mask(x))

    def _is_native(self, x: Tensor) -> bool:
        """Return whether PyTorch's own kernel draws the mask."""
        if torch.compiler.is_compiling() or is_tracing() or self.p == 1:
            return True
        is_plain = x.device.type == "cpu" and type(x) is Tensor and not is_vmapped()
        return self.generator is None and not is_plain

    def _mask(self, x: Tensor) -> Tensor:
        generator = self.generator
        if generator is None:
            generator = torch.default_generator
        elif torch._C._current_graph_task_id() != -1:  # within a backward pass
            raise ConfigError(
                "activation checkpointing computes dropout again and restores PyTorch's default "
                "generator alone, not one that is passed.  Leave generator out and call "
                "torch.manual_seed, or do not checkpoint these layers."
            )
        if x.device.type != "cpu":
            return torch.empty_like(x).bernoulli_(1 - self.p, generator=generator).div_(1 - self.p)
        rows = _ROWS.get()
        if rows is not None:
            return _rows_of_pool(x, self.p, generator, rows)
        return _slice_of_pool(x, self.p, generator)


@contextmanager
def masks_by_row(rows: RowRange | None) -> Iterator[None]:
    """Let the masks within ``with`` follow from a row's place in its batch, on a CPU.

    A row's mask is then the same whatever rows are computed with it, and however long they are. The
    first axis of every tensor that drops elements must be the rows, in a fixed order of layers.

    Args:
        rows: The rows that are computed; None leaves the masks as they are.
    """
    if rows is None:
        yield
        return
    token = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(token)


def add_dropped(residual: Tensor, x: Tensor, dropout: nn.Module) -> Tensor:
    """Compute ``residual + dropout(x)``; both are ``[..., dim]``, and `dropout` is any module."""
    return dropout.add(residual, x) if isinstance(dropout, Dropout) else residual + dropout(x)


def set_dropout_generator(model: nn.Module, generator: torch.Generator | None) -> None:
    """Set what draws the masks of all `Dropout` layers of a model; None is PyTorch's default."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = generator


def _slice_of_pool(template: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Return zeros and ``1 / (1 - rate)``, of the shape and type of a tensor on the CPU."""
    pool = _pool(rate, template.dtype, generator)
    size = template.numel()
    if size <= _LONGEST_SLICE:
        options = {"generator": generator, "device": "cpu"}
        start = int(torch.randint(_POOL_SIZE - size + 1, (), **options))
        return pool[start : start + size].view(template.shape)
    num_slices = -(-size // _LONGEST_SLICE)
    starts = torch.randint(_LONGEST_SLICE + 1, (num_slices,), generator=generator, device="cpu")
    slices = [pool[start : start + _LONGEST_SLICE] for start in starts.tolist()]
    return torch.cat(slices)[:size].view(template.shape)


def _rows_of_pool(
    template: Tensor, rate: float, generator: torch.Generator, rows: RowRange
) -> Tensor:
    """Return zeros and ``1 / (1 - rate)`` from an offset of the pool for each row of a tensor."""
    if len(template) != rows.num_rows:
        raise ConfigError(
            f"dropout by rows: a tensor of {len(template)} rows in a batch of {rows.num_rows}."
        )
    pool = _pool(rate, template.dtype, generator)
    size = template.numel() // max(1, rows.num_rows)
    options = {"generator": generator, "device": "cpu"}
    starts = torch.randint(_LONGEST_SLICE + 1, (rows.total,), **options)
    slices = []
    for start in starts[rows.start : rows.start + rows.num_rows].tolist():
        for number, begin in enumerate(range(0, size, _LONGEST_SLICE)):
            offset = (start + number * _STRIDE) % (_LONGEST_SLICE + 1)
            slices.append(pool[offset : offset + min(size - begin, _LONGEST_SLICE)])
    return torch.cat(slices).view(template.shape)


def _pool(rate: float, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    seed = generator.initial_seed()
    pools = _POOLS.get(generator)
    if pools is None or pools.seed != seed:
        pools = _POOLS[generator] = _Pools(seed)
    if (rate, dtype) not in pools.pools:
        pools.pools[rate, dtype] = _draw_pool(seed, rate, dtype)
    return pools.pools[rate, dtype]


@torch.inference_mode(False)  # a pool outlives the region in which it is first asked for
@torch.no_grad()
def _draw_pool(seed: int, rate: float, dtype: torch.dtype) -> Tensor:
    """Draw zeros, each with probability `rate`, and ``1 / (1 - rate)``."""
    generator = torch.Generator().manual_seed(seed ^ _POOL_SEED)

    def draw_indices(probability: float) -> Tensor:
        number = round(-_POOL_SIZE * math.log1p(-probability))  # some indices are drawn twice
        return torch.randint(_POOL_SIZE, (number,), generator=generator, device="cpu")

    threshold, scale = int(rate * _BYTE_LEVELS), 1 / (1 - rate)
    if threshold == _BYTE_LEVELS - 1:
        pool = torch.zeros(_POOL_SIZE, dtype=dtype, device="cpu")
        return pool.index_fill_(0, draw_indices(1 - rate), scale)
    words = torch.empty(_POOL_SIZE // 8, dtype=torch.int64, device="cpu")
    words.random_(-(2**63), None, generator=generator)
    numbers = words.view(torch.uint8)  # one byte an element
    pool = (numbers >= threshold).to(dtype).mul_(scale)
    # Bytes drop a multiple of 1/256; the rest of the rate is dropped of what they keep.
    rest = (rate * _BYTE_LEVELS - threshold) / (_BYTE_LEVELS - threshold)
    return pool.index_fill_(0, draw_indices(rest), 0.0)
