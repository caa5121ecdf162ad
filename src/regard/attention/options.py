"""The options of a call of `attend`, all but q, k, v and the pattern, and the checks of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TypedDict

import torch
from torch import Tensor

from regard.attention.biases import ALWAYS_FINITE, Alibi, Bias, T5Relative
from regard.attention.scores import (
    Cosine,
    DotProduct,
    ScoreFunction,
    TransformerXL,
    broadcasts,
)
from regard.errors import ConfigError, ShapeError

Lengths = Tensor | tuple[Tensor | None, Tensor | None] | None


class AttendOptions(TypedDict, total=False):
    """The keyword arguments of `attend` that it hands on; its docstring has their meaning."""

    segments: tuple[Tensor, Tensor] | None
    segments_are_documents: bool
    query_offset: int
    key_positions: Tensor | None
    dropout: float


@dataclass(frozen=True, eq=False)
class AttentionOptions:
    """What else decides the weights.

    Args:
        score: Score of queries and keys.
        bias: Added to the scores: by position, or a tensor of 4 axes, each of
            ``[batch, heads, queries, keys]`` or 1. One of minus infinity forbids its pair.
        mask: Boolean, the same axes; True where attention is allowed.
        lengths: Valid keys of each row, ``[batch]``.
        segments: Segment numbers of queries ``[batch, queries]`` and keys ``[batch, keys]``.
        segments_are_documents: Whether positions count from the start of each segment.
        query_offset: Position of the first query.
        query_positions: Positions of the queries, ``[batch, queries]``; None counts from
            `query_offset`.
        key_positions: Positions of the keys, ``[keys]`` or ``[batch, keys]``; None counts from 0.
        dropout: Rate on the weights, 0 to below 1.
        seed: ``[1]`` integer, where the rate is above 0.
    """

    # PyTorch 2.11's compiler takes no object for the default of an argument.
    score: ScoreFunction = field(default_factory=DotProduct)
    bias: Bias | Tensor | None = None
    mask: Tensor | None = None
    lengths: Tensor | None = None
    segments: tuple[Tensor, Tensor] | None = None
    segments_are_documents: bool = False
    query_offset: int = 0
    query_positions: Tensor | None = None
    key_positions: Tensor | None = None
    dropout: float = 0.0
    seed: Tensor | None = None

    def positions(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return query ``[queries, 1]`` and key ``[1, 1, keys]`` positions; both may have rows."""
        first, device = self.query_offset, q.device
        queries, keys = self.query_positions, self.key_positions
        keys = torch.arange(k.shape[2], device=device) if keys is None else keys
        keys = keys[..., None, None, :]
        if queries is not None:
            return queries[:, None, :, None], keys
        return torch.arange(first, first + q.shape[2], device=device)[:, None], keys

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the tensors of the score and of the bias, or the bias itself."""
        bias = self.bias
        of_bias = (bias,) if isinstance(bias, Tensor) else () if bias is None else bias.tensors()
        return *self.score.tensors(), *of_bias

    def with_tensors(self, tensors: Sequence[Tensor]) -> AttentionOptions:
        """Return the options with other tensors in the place of what `tensors` returns.

        The score and the bias must be of this package.
        """
        count = len(self.score.tensors())
        return replace(
            self,
            score=_replace_score_tensors(self.score, *tensors[:count]),
            bias=_replace_bias_tensors(self.bias, *tensors[count:]),
        )

    @property
    def is_plain(self) -> bool:
        """Whether scores are scaled dot products, without soft cap, bias and dropout."""
        is_dot_product = isinstance(self.score, DotProduct) and self.score.soft_cap is None
        return is_dot_product and self.bias is None and self.dropout == 0

    def allowed(self, allowed: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Intersect what a pattern allows with mask, lengths, segments, empty slots and bias.

        Args:
            allowed: ``[queries, keys]``, or with leading axes; None allows all.
            q: Queries, ``[batch, heads, queries, dim]``.
            k: Keys, ``[batch, kv_heads, keys, dim]``.

        Returns:
            Boolean, broadcastable to ``[batch, heads, queries, keys]``; None allows all.
        """
        masks = [mask for mask in (allowed, self.mask) if mask is not None]
        if self.lengths is not None:
            valid = torch.arange(k.shape[2], device=k.device) < self.lengths[:, None]
            masks.append(valid[:, None, None, :])
        if self.segments is not None:
            query_segments, key_segments = self.segments
            masks.append(query_segments[:, None, :, None] == key_segments[:, None, None, :])
        if self.key_positions is not None:
            masks.append((self.key_positions >= 0)[..., None, None, :])
        if isinstance(self.bias, Tensor):
            masks.append(self.bias != -torch.inf)
        elif self.bias is not None and not isinstance(self.bias, ALWAYS_FINITE):
            masks.append(self.bias(*self.positions(q, k), self.bias.tensors()) != -torch.inf)
        return reduce(torch.logical_and, masks) if masks else None

    def fold_key_mask(self, q: Tensor, k: Tensor) -> AttentionOptions:
        """Return the options with a mask ``[batch or 1, 1, 1, keys]`` as segments, for kernels."""
        if self.mask is None or self.mask.shape[1:3] != (1, 1):
            return self
        allowed = self.mask.expand(q.shape[0], 1, 1, k.shape[2])[:, 0, 0]  # [batch, keys]
        if self.segments is None:
            query_segments = torch.zeros(q.shape[0], q.shape[2], dtype=torch.long, device=q.device)
            key_segments = (~allowed).long()
        else:
            query_segments, key_segments = number_segments(*self.segments)
            key_segments = key_segments.masked_fill(~allowed, -1)
        return replace(self, mask=None, segments=(query_segments, key_segments))

    def check(self, q: Tensor, k: Tensor) -> None:
        """Check the options but pattern, mask, tensor bias and lengths against q and k.

        Args:
            q: ``[batch, heads, queries, dim]``.
            k: ``[batch, kv_heads, keys, dim]``.

        Raises:
            ShapeError: With the name of the one that does not fit.
            ConfigError: A number is out of range.
        """
        batch, queries, keys = q.shape[0], q.shape[2], k.shape[2]
        if self.segments is not None:
            if not isinstance(self.segments, tuple | list) or len(self.segments) != 2:
                raise ShapeError(
                    "segments must be a pair of tensors, those of the queries [batch, queries] and "
                    "of the keys [batch, keys]; in self-attention (numbers, numbers)."
                )
            of_queries, of_keys = self.segments
            check_integers("segments of queries", of_queries, (batch, queries), "[batch, queries]")
            check_integers("segments of keys", of_keys, (batch, keys), "[batch, keys]")
        if isinstance(self.key_positions, Tensor) and self.key_positions.dim() == 1:
            check_integers("key_positions", self.key_positions, (keys,), "[keys]")
        else:
            check_integers("key_positions", self.key_positions, (batch, keys), "[batch, keys]")
        if self.bias is not None and not isinstance(self.bias, Tensor):
            self.bias.check(q)
        self.score.check(q)
        if not isinstance(self.query_offset, int | torch.SymInt):
            raise ConfigError(f"query_offset={self.query_offset!r}: must be a whole number.")
        if self.query_offset < 0:
            raise ConfigError(f"query_offset={self.query_offset}: must be 0 or more.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout}: must be at least 0 and below 1.")


def _replace_score_tensors(score: ScoreFunction, *tensors: Tensor) -> ScoreFunction:
    if isinstance(score, Cosine) and tensors:
        return Cosine(tensors[0], score.soft_cap)
    if isinstance(score, TransformerXL):
        content_bias, position_bias, relative = tensors
        return TransformerXL(content_bias, position_bias, relative, score.offset)
    return score


def _replace_bias_tensors(bias: Bias | Tensor | None, *tensors: Tensor) -> Bias | Tensor | None:
    if isinstance(bias, Alibi):
        return Alibi(*tensors)
    if isinstance(bias, T5Relative):
        return replace(bias, table=tensors[0])
    return None if bias is None else tensors[0]


def number_segments(query_segments: Tensor, key_segments: Tensor) -> tuple[Tensor, Tensor]:
    """Replace segment numbers of any size by small ones, equal where those of a row are equal.

    Args:
        query_segments: Integers, ``[batch, queries]``.
        key_segments: Integers, ``[batch, keys]``.

    Returns:
        The same shapes, 0 to queries + keys - 1. Cost: a sort of each row.
    """
    both = torch.cat([query_segments.long(), key_segments.long()], dim=1)
    first = torch.searchsorted(both.sort(dim=1).values, both)  # of the numbers equal to each
    queries, keys = first.split([query_segments.shape[1], key_segments.shape[1]], dim=1)
    return queries, keys


def check_integers(name: str, tensor: Tensor | None, shape: tuple[int, ...], meaning: str) -> None:
    """Check that a tensor, if there is one, has a shape and holds integers; raise ShapeError."""
    if tensor is None:
        return
    if not isinstance(tensor, Tensor):
        raise ShapeError(
            f"{name} is of type {type(tensor).__name__}; expected a tensor of integers "
            f"{list(shape)}, {meaning}, as torch.tensor(...) makes it."
        )
    if tensor.dtype == torch.bool:
        raise ShapeError(
            f"{name} is torch.bool; expected integers {list(shape)}, {meaning}.  A boolean choice "
            "of keys is a `mask`, such as mask=is_valid[:, None, None, :]."
        )
    if tensor.shape != shape:
        raise ShapeError(
            f"{name} has shape {list(tensor.shape)}; expected {list(shape)}, {meaning}."
        )
    if tensor.is_floating_point():
        raise ShapeError(f"{name} is {tensor.dtype}; expected integers.")


def check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Check that q, k and v fit each other, ``[batch, heads or kv_heads, length, dim]``."""
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        _check_tensor(name, tensor, q)
    fits = k.shape[0] == q.shape[0] and k.shape[3] == q.shape[3]
    if not fits or (q.shape[1] % k.shape[1] if k.shape[1] else q.shape[1]):
        raise ShapeError(
            f"k has shape {list(k.shape)}; expected "
            f"[{q.shape[0]}, {q.shape[1]} or a divisor, keys, {q.shape[3]}] "
            f"to fit q {list(q.shape)}."
        )
    if v.shape[:3] != k.shape[:3]:
        raise ShapeError(
            f"v has shape {list(v.shape)}; expected [{', '.join(map(str, k.shape[:3]))}, "
            f"value_dim] to fit k {list(k.shape)}."
        )


def _check_tensor(name: str, tensor: Tensor, q: Tensor) -> None:
    """Check that a tensor is ``[batch, heads, length, dim]``, of numbers of the kind of q."""
    if not isinstance(tensor, Tensor):
        raise ShapeError(
            f"{name} is of type {type(tensor).__name__}; expected a tensor, such as "
            f"torch.as_tensor({name})."
        )
    if tensor.is_nested or tensor.layout != torch.strided:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise ShapeError(
            f"{name} is {layout}; expected a dense tensor [batch, heads, length, dim].  Rows "
            "of different lengths are padded on the right, with lengths=."
        )
    if tensor.dim() != 4:
        raise ShapeError(
            f"{name} has shape {list(tensor.shape)}; expected 4 axes, [batch, heads, length, dim]."
        )
    if tensor.dtype != q.dtype or tensor.device != q.device:
        raise ShapeError(
            f"{name} is {tensor.dtype} on {tensor.device}; expected {q.dtype} on {q.device}, as q."
        )
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
        raise ShapeError(
            f"{name} is {tensor.dtype}; expected a floating-point type"
            f"{' of 16 bits or more' if tensor.is_floating_point() else ''}."
        )


def broadcast_pairs(name: str, tensor: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Reshape a mask or a bias to 4 axes, each of ``[batch, heads, queries, keys]`` or 1.

    Args:
        name: ``mask`` or ``bias``.
        tensor: The tensor, of up to 4 axes that broadcast, aligned on the right.
        q: Queries, ``[batch, heads, queries, dim]``.
        k: Keys, ``[batch, kv_heads, keys, dim]``.

    Returns:
        A view of the tensor with 4 axes.

    Raises:
        ShapeError: It does not broadcast, or has another type or device.
    """
    is_mask = name == "mask"
    if not isinstance(tensor, Tensor):
        raise ShapeError(
            f"{name} is of type {type(tensor).__name__}; expected a tensor, such as "
            f"torch.as_tensor({name})."
        )
    if is_mask and tensor.dtype != torch.bool:
        raise ShapeError(
            f"mask is {tensor.dtype}; expected torch.bool, True where attention is allowed.  "
            "Numbers that are added to the scores are a `bias`."
        )
    if not is_mask and tensor.dtype == torch.bool:
        raise ShapeError(
            "bias is torch.bool; expected floating point.  A boolean choice of pairs is a `mask`, "
            "True where attention is allowed."
        )
    shape = (*q.shape[:3], k.shape[2])
    axes = (1,) * (4 - tensor.dim()) + tuple(tensor.shape)
    if len(axes) != 4 or not all(map(broadcasts, axes, shape)):
        hint = ""
        if tuple(tensor.shape) == (shape[0], shape[3]):
            hint = f"  One row of keys for each of the batch is {name}[:, None, None, :]."
        raise ShapeError(
            f"{name} has shape {list(tensor.shape)}; expected one that broadcasts to "
            f"{list(shape)}, [batch, heads, queries, keys].{hint}"
        )
    if tensor.device != q.device or not (is_mask or tensor.is_floating_point()):
        expected = "torch.bool" if is_mask else "floating point"
        raise ShapeError(
            f"{name} is {tensor.dtype} on {tensor.device}; expected {expected} on {q.device}."
        )
    return tensor.reshape(axes)
