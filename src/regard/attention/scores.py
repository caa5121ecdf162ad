"""Scores: how well a query fits a key, before the softmax.

A score returns its tensors and takes them back when called, cut to the heads of a block where
attention is computed by blocks: they are inputs of the differentiable function like q and k. All
consist of plain torch operations, so that derivatives of any order exist. Tensors that enter a
matrix product with queries or keys are cast to the type of these, like the weights of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regard.errors import ConfigError, ShapeError
from regard.option_checks import require_number


class HeadTensors(Protocol):
    """What scores and biases have in common: tensors with an axis of heads."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Return its tensors, each ``[heads, ...]``, or ``[1, ...]`` for all heads."""
        ...

    def check(self, q: Tensor) -> None:
        """Check that its tensors fit queries ``[batch, heads, queries, dim]``.

        Raises:
            ShapeError: With the name of the tensor that does not fit.
        """
        ...


class ScoreFunction(HeadTensors, Protocol):
    """A score of queries and keys."""

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score every query with every key.

        Args:
            q: ``[..., heads, queries, dim]``.
            k: ``[..., heads or 1, keys, dim]``.
            queries: Integer positions, broadcastable as ``[..., 1, queries, 1]``.
            keys: Integer positions, broadcastable as ``[..., 1, 1, keys]``.
            tensors: What `tensors` returns, perhaps of some heads only.

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
        if self.scale is not None:
            require_number("scale", self.scale, "a finite number")

    def tensors(self) -> tuple[Tensor, ...]:
        """Return an empty tuple: it has no tensors."""
        return ()

    def check(self, q: Tensor) -> None:
        """Accept all queries."""

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score ``[..., queries, dim]`` with ``[..., keys, dim]``: ``[..., queries, keys]``."""
        return self.multiply(q, k)

    def multiply(self, q: Tensor, k: Tensor) -> Tensor:
        """Do the same without positions, ``[..., queries, keys]``."""
        scale = dim_scale(q) if self.scale is None else self.scale
        scores = torch.matmul(q * scale, k.transpose(-1, -2))  # [..., queries, keys]
        return scores if self.soft_cap is None else self.soft_cap * (scores / self.soft_cap).tanh()


@dataclass(frozen=True, eq=False)
class Cosine:
    """The cosine of q and k times a learned factor (Henry et al. 2020; Liu et al. 2022).

    Vectors are divided by their largest entry before they are squared, so that no finite vector is
    too long or too short. The cosine with a zero vector and its derivatives are 0.

    Args:
        temperature: The factor, ``[heads]`` or ``[1]``, or one fixed number.
        soft_cap: Bound c above 0: ``c tanh(s / c)``.
    """

    temperature: Tensor | float
    soft_cap: float | None = None

    def __post_init__(self) -> None:
        _check_soft_cap(self.soft_cap)
        if isinstance(self.temperature, Tensor):
            _check_axes("temperature", self.temperature, "[heads] or [1]", 1)
        else:
            require_number("temperature", self.temperature, "a finite number or a tensor")

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the temperature ``[heads]``; an empty tuple where it is a number."""
        return (self.temperature,) if isinstance(self.temperature, Tensor) else ()

    def check(self, q: Tensor) -> None:
        """Check that queries ``[batch, heads, queries, dim]`` have the heads of the temperature."""
        if isinstance(self.temperature, Tensor):
            require_fit("temperature", self.temperature, q)

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score ``[..., queries, dim]`` with ``[..., keys, dim]``: ``[..., queries, keys]``."""
        cosine = torch.matmul(unit(q), unit(k).transpose(-1, -2))
        temperature = tensors[0][:, None, None] if tensors else self.temperature
        scores = cosine * temperature
        return scores if self.soft_cap is None else self.soft_cap * (scores / self.soft_cap).tanh()


@dataclass(frozen=True, eq=False)
class Additive:
    """``w . tanh(q W + k U)`` (Bahdanau et al. 2015, appendix A.1.2).

    Without maps, the paper's W and U are the layer's projections of queries and keys. Cost: holds
    ``queries * keys * hidden`` numbers of a block.

    Args:
        weight: The paper's v_a, ``[heads, hidden]`` or ``[1, hidden]``.
        query_map: W, ``[heads or 1, dim, hidden]``; None leaves queries as they are.
        key_map: U, the same for keys.
    """

    weight: Tensor
    query_map: Tensor | None = None
    key_map: Tensor | None = None

    def __post_init__(self) -> None:
        _check_axes("weight", self.weight, "[heads or 1, hidden]", 2)
        hidden = self.weight.shape[1]
        for name, weights in (("query_map", self.query_map), ("key_map", self.key_map)):
            if weights is not None:
                expected = f"[heads or 1, dim, {hidden}], its last axis as of weight"
                _check_axes(name, weights, expected, 3, last=hidden)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the weight, and the maps that are not None."""
        tensors = (self.weight, self.query_map, self.key_map)
        return tuple(tensor for tensor in tensors if tensor is not None)

    def check(self, q: Tensor) -> None:
        """Check that weight and maps fit queries ``[batch, heads, queries, dim]``."""
        dim, hidden = q.shape[-1], self.weight.shape[1]
        for name, weights in (("query_map", self.query_map), ("key_map", self.key_map)):
            if weights is not None:
                require_fit(name, weights, q, dim, hidden)
        is_mapped = self.query_map is not None and self.key_map is not None
        require_fit("weight", self.weight, q, hidden if is_mapped else dim)

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score ``[..., queries, dim]`` with ``[..., keys, dim]``: ``[..., queries, keys]``."""
        if self.query_map is not None:
            q = torch.matmul(q, tensors[1].to(q.dtype))  # [..., heads, queries, hidden]
        if self.key_map is not None:
            k = torch.matmul(k, tensors[-1].to(k.dtype))  # [..., heads, keys, hidden]
        hidden = (q.unsqueeze(-2) + k.unsqueeze(-3)).tanh()  # [..., heads, queries, keys, hidden]
        return (hidden * tensors[0][:, None, None, :]).sum(-1)


@dataclass(frozen=True, eq=False)
class TransformerXL:
    """``((q + u) . k + (q + v) . r_{i-j}) / sqrt(dim)`` (Dai et al. 2019, section 3.3).

    Cost: a product of the queries with the whole table of distances, next to that with the keys.

    Args:
        content_bias: The paper's u, ``[heads, dim]`` or ``[1, dim]``.
        position_bias: The paper's v, the same shape.
        relative: r, ``[heads or 1, distances, dim]``; row t is the distance ``t - offset``.
            Distances beyond either end take the row of that end.
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
        if self.relative.shape[1] == 0:
            raise ShapeError(
                f"relative has shape {list(self.relative.shape)}; expected one distance or more, "
                "[heads or 1, distances, dim]."
            )
        if not 0 <= self.offset < self.relative.shape[1]:
            raise ConfigError(
                f"TransformerXL(offset={self.offset}): must be 0 to {self.relative.shape[1] - 1}, "
                "a row of relative."
            )

    def tensors(self) -> tuple[Tensor, ...]:
        """Return u, v and r."""
        return self.content_bias, self.position_bias, self.relative

    def check(self, q: Tensor) -> None:
        """Check that u, v and r fit queries ``[batch, heads, queries, dim]``."""
        dim = q.shape[-1]
        require_fit("content_bias", self.content_bias, q, dim)
        require_fit("position_bias", self.position_bias, q, dim)
        require_fit("relative", self.relative, q, self.relative.shape[1], dim)

    def __call__(
        self, q: Tensor, k: Tensor, queries: Tensor, keys: Tensor, tensors: tuple[Tensor, ...]
    ) -> Tensor:
        """Score ``[..., queries, dim]`` with ``[..., keys, dim]``: ``[..., queries, keys]``."""
        content_bias, position_bias, relative = (tensor.to(q.dtype) for tensor in tensors)
        content = torch.matmul(q + content_bias[:, None, :], k.transpose(-1, -2))
        by_distance = torch.matmul(q + position_bias[:, None, :], relative.transpose(-1, -2))
        row = (queries - keys + self.offset).clamp(0, relative.shape[1] - 1)
        position = by_distance.gather(-1, row.expand(content.shape))
        return (content + position) * dim_scale(q)


KNOWN_SCORES = (DotProduct, Cosine, Additive, TransformerXL)
"""Scores that methods compute without calling them; they depend on differences of positions."""


def dim_scale(q: Tensor) -> float:
    """Return ``1 / sqrt(dim)`` for queries ``[..., dim]``; 1 where dim is 0: all scores are 0."""
    return max(q.shape[-1], 1) ** -0.5


def require_fit(name: str, tensor: Tensor, q: Tensor, *last: int) -> None:
    """Check a tensor that a score or a bias holds.

    Args:
        name: Name of the argument.
        tensor: Expected to be ``[heads or 1, *last]``, floating point, on the device of `q`.
        q: Queries, ``[batch, heads, queries, dim]``.
        last: The axes after the heads.

    Raises:
        ShapeError: It is not.
    """
    heads = q.shape[1]
    if not broadcasts(tensor.shape[0], heads) or tensor.shape[1:] != last:
        expected = ", ".join(map(str, (f"{heads} or 1", *last)))
        raise ShapeError(
            f"{name} has shape {list(tensor.shape)}; expected [{expected}] to fit q "
            f"{list(q.shape)}."
        )
    if not tensor.is_floating_point() or tensor.device != q.device:
        raise ShapeError(
            f"{name} is {tensor.dtype} on {tensor.device}; expected floating point on {q.device}."
        )


def broadcasts(size: int, full: int) -> bool:
    """Return whether an axis is 1 or full; Dynamo reads ``in (1, full)`` of symbols wrongly."""
    return size == 1 or size == full


def unit(x: Tensor) -> Tensor:
    """Scale ``[..., dim]`` to norm 1; zero stays zero, and its derivatives are zero."""
    if x.shape[-1] == 0:
        return x
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    # The direction does not depend on the scale, so the scale needs no derivative.
    largest = wide.detach().abs().amax(-1, keepdim=True)
    is_zero = largest == 0
    wide = wide / largest.masked_fill(is_zero, 1.0)
    norm = wide.square().sum(-1, keepdim=True).masked_fill(is_zero, 1.0).sqrt()
    return (wide / norm).masked_fill(is_zero, 0.0).to(x.dtype)


def _check_soft_cap(soft_cap: float | None) -> None:
    if soft_cap is not None:
        require_number("soft_cap", soft_cap, "above 0 and finite, or None", lambda cap: cap > 0)


def _check_axes(
    name: str, tensor: Tensor, expected: str, num_axes: int, *, last: int | None = None
) -> None:
    """Check the number of axes, and the size of the last one, as in `expected` ``[...]``."""
    if tensor.dim() != num_axes or last not in (None, tensor.shape[-1]):
        raise ShapeError(f"{name} has shape {list(tensor.shape)}; expected {expected}.")
