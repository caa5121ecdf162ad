"""Rotary positions (Su et al. 2021, "RoFormer", section 3.2): queries and keys are rotated.

Coordinates form pairs, and pair i of a vector at position p is rotated by the angle
``p base^(-2i / dim)`` (equation 34). The dot product of a rotated query and a rotated key depends
on their positions through the distance alone. Cost: about three operations a number, no weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regard.attention.exporting import is_exporting
from regard.errors import ShapeError
from regard.layers.exported_angles import exported_angles
from regard.layers.rotary_scaling import PlainAngles, RotaryScaling, scaling_of
from regard.option_checks import require_number


def rotate(
    x: Tensor,
    positions: Tensor,
    *,
    base: float = 10000.0,
    interleaved: bool = False,
    scaling: RotaryScaling = PlainAngles(),  # noqa: B008 - an immutable value
) -> Tensor:
    """Rotate every vector by its position.

    Args:
        x: Queries or keys, ``[batch, heads, length, dim]``; dim is even.
        positions: Positions of the vectors, ``[length]`` or ``[batch, length]``, in tokens.
        base: Sets the slowest angle, about ``1 / base`` a token; above 0.
        interleaved: Pair coordinate 2i with 2i + 1, as the paper and GPT-J do; else i with
            ``i + dim / 2``, as Llama and GPT-NeoX do. Weights work only with the pairs that they
            were trained with.
        scaling: How angles are changed for long texts.

    Returns:
        Same shape and type as `x`.

    Raises:
        ShapeError: There is not one position for each vector, or dim is odd.

    >>> x = torch.tensor([[[[1.0, 0.0]]]])
    >>> [round(value, 3) for value in rotate(x, torch.tensor([1])).flatten().tolist()]
    [0.54, 0.841]
    """
    if x.shape[-1] % 2 or positions.shape[-1] != x.shape[-2]:
        raise ShapeError(
            f"x has shape {list(x.shape)}, positions {list(positions.shape)}; expected "
            "[batch, heads, length, dim], dim even, and [length] or [batch, length]."
        )
    wide = torch.promote_types(x.dtype, torch.float32)
    dim = x.shape[-1]
    # Cosines and sines are [1 or batch, 1, length, dim / 2].
    if is_exporting():  # without float64
        cos, sin = exported_angles(positions[..., None, :], dim, base, wide, scaling)
    elif torch.compiler.is_compiling():
        cos, sin = _table_of_graph(positions, dim, base, wide, scaling.numbers())
    else:
        cos, sin = _compute_table(positions, dim, base, wide, scaling)
    sizes, axis = ((-1, 2), -1) if interleaved else ((2, -1), -2)
    first, second = x.to(wide).unflatten(-1, sizes).unbind(axis)
    rotated = (first * cos - second * sin, first * sin + second * cos)
    return torch.stack([part.to(x.dtype) for part in rotated], dim=axis).flatten(-2)


def rotary_frequencies(
    dim: int, base: float, scaling: RotaryScaling, device: torch.device | None = None
) -> Tensor:
    """Compute the angle of a token of each pair, ``[dim / 2]``.

    Args:
        dim: Twice the number of pairs.
        base: Above 0.
        scaling: How they are changed.
        device: Where it is computed.

    Returns:
        In float64: far positions need its digits.
    """
    pairs = torch.arange(0, dim, 2, dtype=torch.float64, device=device)
    return scaling.slow_down(base ** (-pairs / dim), base)


def _compute_table(
    positions: Tensor, dim: int, base: float, dtype: torch.dtype, scaling: RotaryScaling
) -> tuple[Tensor, Tensor]:
    """Compute the cosine and the sine of all angles, each ``[1 or batch, 1, length, dim / 2]``."""
    frequencies = rotary_frequencies(dim, base, scaling, positions.device)
    angles = positions[..., None, :, None].double() * frequencies
    cos, sin = angles.cos(), angles.sin()
    if scaling.amplitude != 1:
        cos, sin = scaling.amplitude * cos, scaling.amplitude * sin
    return cos.to(dtype), sin.to(dtype)


@torch.library.custom_op("regard::rotary_table", mutates_args=())
def _table_of_graph(
    positions: Tensor, dim: int, base: float, dtype: torch.dtype, scaling: list[float]
) -> tuple[Tensor, Tensor]:
    # A compiler that sees the formula computes it again for every number of a query or a key, in
    # float64, which takes longer than all else that is done with the number.
    return _compute_table(positions, dim, base, dtype, scaling_of(scaling))


@_table_of_graph.register_fake
def _(
    positions: Tensor,
    dim: int,
    base: float,  # noqa: ARG001
    dtype: torch.dtype,
    scaling: list[float],  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    shape = (*positions.shape[:-1], 1, positions.shape[-1], dim // 2)
    return positions.new_empty(shape, dtype=dtype), positions.new_empty(shape, dtype=dtype)


@_table_of_graph.register_vmap
def _(
    _: Any, axes: tuple[int | None, ...], positions: Tensor, *settings: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    # Positions ``[mapped, ..., length]`` are the rows of a larger batch.
    return _table_of_graph(positions.movedim(axes[0] or 0, 0), *settings), (0, 0)


class Rotary(nn.Module):
    """`rotate` as a layer. It holds no tensors, so a cast of the model does not round the angles.

    Args:
        base: Sets the slowest angle, about ``1 / base`` a token; above 0.
        interleaved: Pair coordinate 2i with 2i + 1; else i with ``i + dim / 2``.
        scaling: How angles are changed for long texts.
        fraction: Part of the coordinates of a head that are rotated, the first ones (GPT-NeoX,
            Black et al. 2022, section 2.1.1), above 0, 1 at most.

    Raises:
        ConfigError: `base` or `fraction` is out of range.
    """

    def __init__(
        self,
        *,
        base: float = 10000.0,
        interleaved: bool = False,
        scaling: RotaryScaling = PlainAngles(),  # noqa: B008 - an immutable value
        fraction: float = 1.0,
    ) -> None:
        super().__init__()
        require_number("base", base, "above 0", lambda base: base > 0)
        require_number("fraction", fraction, "above 0, 1 at most", lambda part: 0 < part <= 1)
        self.base = base
        self.interleaved = interleaved
        self.scaling = scaling
        self.fraction = fraction

    def num_rotated(self, dim: int) -> int:
        """Return how many coordinates of a head of `dim` are rotated, the first ones."""
        return int(dim * self.fraction)

    def frequencies(self, dim: int) -> Tensor:
        """Compute the angle of a token of each rotated pair of a head of `dim`, in float64.

        Returns:
            ``[num_rotated / 2]``.
        """
        return rotary_frequencies(self.num_rotated(dim), self.base, self.scaling)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate ``[batch, heads, length, dim]`` by ``[length]`` or ``[batch, length]``."""
        num_rotated = self.num_rotated(x.shape[-1])
        rotated = rotate(
            x[..., :num_rotated],
            positions,
            base=self.base,
            interleaved=self.interleaved,
            scaling=self.scaling,
        )
        if num_rotated == x.shape[-1]:
            return rotated
        return torch.cat([rotated, x[..., num_rotated:]], dim=-1)

    def extra_repr(self) -> str:
        """Return the settings."""
        is_plain = isinstance(self.scaling, PlainAngles)
        scaling = "" if is_plain else f", scaling={self.scaling}"
        fraction = "" if self.fraction == 1 else f", fraction={self.fraction}"
        return f"base={self.base}, interleaved={self.interleaved}{scaling}{fraction}"
