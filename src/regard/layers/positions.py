"""Vectors of positions: sinusoidal (Vaswani et al. 2017, section 3.5) and learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

import torch
from torch import Tensor, nn

from regard.attention.exporting import is_exporting
from regard.errors import ConfigError
from regard.layers.exported_angles import exported_angles
from regard.layers.initialization import fill_normal
from regard.settings.binding import check_type

_BASE = 10000.0  # Vaswani et al. 2017, section 3.5
SinusoidOrder = Literal["interleaved", "halves", "fairseq"]


def sinusoids(
    num_positions: int,
    dim: int,
    order: SinusoidOrder = "interleaved",
    *,
    start: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Compute the sinusoidal position table.

    ``PE[pos, 2i] = sin(pos / 10000^(2i / dim))`` and ``PE[pos, 2i+1] = cos`` of the same angle. In
    fairseq, which follows tensor2tensor, the exponent is ``i / (dim / 2 - 1)``: the last is 1.

    Args:
        num_positions: Rows of the table.
        dim: Columns, even.
        order: Order of the columns: interleaved (the paper's), or halves, all sines before all
            cosines; fairseq has halves, too, with its own angles.
        start: Position of the first row.
        dtype: Type of the result.
        device: Device of the result.

    Returns:
        ``[num_positions, dim]``.

    >>> [round(value, 3) for value in sinusoids(2, 4)[1].tolist()]  # sin 1, cos 1, sin .01, cos .01
    [0.841, 0.54, 0.01, 1.0]
    >>> [round(value, 3) for value in sinusoids(2, 4, "halves")[1].tolist()]
    [0.841, 0.01, 0.54, 1.0]
    """
    positions = torch.arange(start, start + num_positions, device=device).double()
    steps = torch.arange(0, dim, 2, device=device).double()
    frequencies = _BASE ** (-steps / _period(dim, order))
    angles = positions[:, None] * frequencies
    axis = 2 if order == "interleaved" else 1
    wide = torch.promote_types(dtype, torch.float32)
    return torch.stack([angles.sin(), angles.cos()], dim=axis).flatten(1).to(wide).to(dtype)


def _period(dim: int, order: SinusoidOrder) -> int:
    """Return what twice the index of a frequency is divided by in its exponent."""
    return max(1, dim - 2) if order == "fairseq" else dim


class SinusoidalPositions(nn.Module):
    """A fixed table that grows with the longest input seen.

    Args:
        dim: Size of the embedding, even.
        order: Order of its columns: interleaved, halves or fairseq (see `sinusoids`).
        offset: Position of the first token; fairseq counts from that after the padding's.

    Raises:
        ConfigError: The size is odd, or the order is unknown.
    """

    table: Tensor

    def __init__(self, dim: int, order: SinusoidOrder = "interleaved", offset: int = 0) -> None:
        super().__init__()
        check_type(order, SinusoidOrder, "order")
        if dim % 2:
            raise ConfigError(f"dim={dim}: sinusoids need an even size.")
        self.dim, self.offset = dim, offset
        self.order: SinusoidOrder = order
        table = torch.empty(256, dim, dtype=torch.float32)
        if not table.is_meta:  # there are no values there, and PyTorch would load its compiler
            table = sinusoids(256, dim, order, start=offset)
        self.register_buffer("table", table, persistent=False)

    def forward(self, start: int, length: int) -> Tensor:
        """Return the rows of positions `start` to ``start + length - 1``, ``[length, dim]``."""
        if is_exporting():
            return self.rows(torch.arange(start, start + length))
        if torch.compiler.is_compiling():  # for all lengths
            return self._rows(length, start)
        self.reserve(start + length)
        return self.table[start : start + length]

    def reserve(self, num_positions: int) -> None:
        """Let the table have this many rows at least."""
        while num_positions > len(self.table):
            self.table = self._rows(2 * len(self.table))

    def rows(self, positions: Tensor) -> Tensor:
        """Return the rows of positions of any shape, which the table has, ``[..., dim]``."""
        if not is_exporting():
            return self.table[positions]
        period = _period(self.dim, self.order)
        angles = exported_angles(
            self.offset + positions, self.dim, _BASE, self.table.dtype, period=period
        )
        axis = -1 if self.order == "interleaved" else -2
        return torch.stack(angles[::-1], dim=axis).flatten(-2)  # sines first

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Cast or move; the table is computed again, for it has no values from the meta device."""
        super()._apply(fn, recurse)
        self.table = self._rows(len(self.table))
        return self

    def _rows(self, number: int, start: int = 0) -> Tensor:
        like = {"dtype": self.table.dtype, "device": self.table.device}
        start += self.offset
        return sinusoids(number, self.dim, self.order, start=start, **like)


class LearnedPositions(nn.Module):
    """A trained table; positions past its end take its last row.

    Args:
        dim: Size of the embedding.
        num_positions: Positions with a row of their own.
        offset: Unused rows of the table before that of the first position.
    """

    def __init__(self, dim: int, num_positions: int, offset: int = 0) -> None:
        super().__init__()
        self.offset = offset
        self.weight = nn.Parameter(torch.empty(offset + num_positions, dim))
        fill_normal(self.weight, dim**-0.5)

    @property
    def num_positions(self) -> int:
        """Positions with a row of their own."""
        return len(self.weight) - self.offset

    def forward(self, start: int, length: int) -> Tensor:
        """Return the rows of positions `start` to ``start + length - 1``, ``[length, dim]``."""
        return self.rows(torch.arange(start, start + length, device=self.weight.device))

    def rows(self, positions: Tensor) -> Tensor:
        """Return the rows of positions of any shape, ``[..., dim]``."""
        return self.weight[(self.offset + positions).clamp(max=len(self.weight) - 1)]
