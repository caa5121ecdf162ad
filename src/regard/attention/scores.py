"""Scores: how well a query fits a key, before the softmax.

A score holds its tensors and is handed them back when called, cut to the heads of a block where
attention is computed by blocks: they are inputs of the differentiable function like q and k. All
are made of plain torch operations, so that derivatives of any order exist.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regard.errors import ConfigError, ShapeError


class Score(Protocol):
    """What every score answers."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Return what it depends on, each ``[heads, ...]``, or ``[1, ...]`` for all heads."""
        ...

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score every query with every key.

        Args:
            q: ``[..., heads, queries, dim]``.
            k: ``[..., heads or 1, keys, dim]``.
            queries: Integer positions, broadcastable as ``[..., 1, queries, 1]``.
            keys: Integer positions, broadcastable as ``[..., 1, 1, keys]``.
            tensors: As from `tensors`, perhaps of some heads only.

        Returns:
            ``[..., heads, queries, keys]``.
        """
        ...


@dataclass(frozen=True, eq=False)
class DotProduct:
    """``q . k`` times a scale (Vaswani et al. 2017, equation 1), perhaps soft-capped.

    Args:
        scale: Factor; None takes ``1 / sqrt(dim)``, dim being the size of a key (not the length).
        soft_cap: Bound c above 0: ``c tanh(s / c)`` (Gemma 2, Gemma Team 2024, section 2).
    """

    scale: float | None = None
    soft_cap: float | None = None

    def __post_init__(self) -> None:
        _check_soft_cap(self.soft_cap)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return nothing: it has no tensors."""
        return ()

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score ``[..., queries, dim]`` with ``[..., keys, dim]``: ``[..., queries, keys]``."""
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        return _cap(torch.matmul(q * scale, k.transpose(-1, -2)), self.soft_cap)


@dataclass(frozen=True, eq=False)
class Cosine:
    """The cosine of q and k times a learned factor (Henry et al. 2020; Liu et al. 2022).

    A vector x is divided by ``sqrt(|x|^2 + eps)``, never by zero; the cosine of vectors of norm 1
    is low by about eps: 1e-12 in float64, 1e-6 otherwise.

    Args:
        temperature: The factor, ``[heads]`` or ``[1]``.
        soft_cap: As for `DotProduct`.
    """

    temperature: Tensor
    soft_cap: float | None = None

    def __post_init__(self) -> None:
        _check_soft_cap(self.soft_cap)
        _check_axes("temperature", self.temperature, "[heads] or [1]", 1)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the temperature."""
        return (self.temperature,)

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score ``[..., queries, dim]`` with ``[..., keys, dim]``: ``[..., queries, keys]``."""
        cosine = torch.matmul(_unit(q), _unit(k).transpose(-1, -2))
        return _cap(cosine * tensors[0][:, None, None], self.soft_cap)


@dataclass(frozen=True, eq=False)
class Additive:
    """``w . tanh(q + k)``, q and k mapped before (Bahdanau et al. 2015, appendix A.1.2).

    The paper's W and U are the layer's projections of queries and keys. Cost: holds
    ``queries * keys * dim`` numbers of a block.

    Args:
        weight: The paper's v_a, ``[heads, dim]`` or ``[1, dim]``.
    """

    weight: Tensor

    def __post_init__(self) -> None:
        _check_axes("weight", self.weight, "[heads or 1, dim]", 2)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the weight."""
        return (self.weight,)

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score ``[..., queries, dim]`` with ``[..., keys, dim]``: ``[..., queries, keys]``."""
        hidden = (q.unsqueeze(-2) + k.unsqueeze(-3)).tanh()  # [..., heads, queries, keys, dim]
        return (hidden * tensors[0][:, None, None, :]).sum(-1)


@dataclass(frozen=True, eq=False)
class TransformerXL:
    """``((q + u) . k + (q + v) . r_{i-j}) / sqrt(dim)`` (Dai et al. 2019, section 3.3).

    Cost: a product of the queries with the whole table of distances, beside that with the keys.

    Args:
        content_bias: The paper's u, ``[heads, dim]`` or ``[1, dim]``.
        position_bias: The paper's v, the same shape.
        relative: r, ``[heads or 1, distances, dim]``; row t is the distance ``t - offset``.
            Distances beyond either end take its row.
        offset: Number of negative distances (keys after the query) in the table, 0 or more.
    """

    content_bias: Tensor
    position_bias: Tensor
    relative: Tensor
    offset: int = 0

    def __post_init__(self) -> None:
        _check_axes("content_bias", self.content_bias, "[heads or 1, dim]", 2)
        _check_axes("position_bias", self.position_bias, "[heads or 1, dim]", 2)
        _check_axes("relative", self.relative, "[heads or 1, distances, dim]", 3)
        if not 0 <= self.offset < self.relative.shape[1]:
            raise ConfigError(
                f"TransformerXL(offset={self.offset}): must be 0 to {self.relative.shape[1] - 1}, "
                "a row of relative."
            )

    def tensors(self) -> tuple[Tensor, ...]:
        """Return u, v and r."""
        return self.content_bias, self.position_bias, self.relative

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score ``[..., queries, dim]`` with ``[..., keys, dim]``: ``[..., queries, keys]``."""
        content_bias, position_bias, relative = tensors
        content = torch.matmul(q + content_bias[:, None, :], k.transpose(-1, -2))
        by_distance = torch.matmul(q + position_bias[:, None, :], relative.transpose(-1, -2))
        row = (queries - keys + self.offset).clamp(0, relative.shape[1] - 1)
        position = by_distance.gather(-1, row.expand(content.shape))
        return (content + position) * q.shape[-1] ** -0.5


SCORES: dict[str, type[DotProduct] | type[Cosine] | type[Additive] | type[TransformerXL]] = {
    "dot": DotProduct,
    "cosine": Cosine,
    "additive": Additive,
    "transformer_xl": TransformerXL,
}


def _unit(x: Tensor) -> Tensor:
    """Scale ``[..., dim]`` to about norm 1; zero stays zero, with finite derivatives."""
    eps = 1e-12 if x.dtype == torch.float64 else 1e-6
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (wide.square().sum(-1, keepdim=True) + eps).rsqrt()).to(x.dtype)


def _cap(scores: Tensor, soft_cap: float | None) -> Tensor:
    return scores if soft_cap is None else soft_cap * (scores / soft_cap).tanh()


def _check_soft_cap(soft_cap: float | None) -> None:
    if soft_cap is not None and not 0 < soft_cap < math.inf:
        raise ConfigError(f"soft_cap={soft_cap}: must be above 0 and finite, or None.")


def _check_axes(name: str, tensor: Tensor, expected: str, num_axes: int) -> None:
    if tensor.dim() != num_axes:
        raise ShapeError(f"{name} has shape {list(tensor.shape)}; expected {expected}.")
