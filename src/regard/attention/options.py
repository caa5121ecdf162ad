"""The options of a call of `attend`, all but q, k, v and the pattern, and the checks of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regard.attention.biases import ALWAYS_FINITE, Bias
from regard.attention.scores import DotProduct, ScoreFunction
from regard.errors import ConfigError, ShapeError

Lengths = Tensor | tuple[Tensor | None, Tensor | None] | None


@dataclass(frozen=True, eq=False)
class AttentionOptions:
    """What else decides the weights.

    Args:
        score: Of queries and keys.
        bias: Added to the scores: by position, or a tensor of 4 axes, each of
            ``[batch, heads, queries, keys]`` or 1. One of minus infinity forbids its pair.
        mask: Boolean, the same axes; True where attention is allowed.
        lengths: Valid keys of each row, ``[batch]``.
        segments: Segment numbers of queries ``[batch, queries]`` and keys ``[batch, keys]``.
        query_offset: Position of the first query.
        key_positions: Of the keys, ``[keys]`` or ``[batch, keys]``; None counts from 0.
        dropout: Rate on the weights, 0 to below 1.
        seed: ``[1]`` integer, where the rate is above 0.
    """

    score: ScoreFunction = DotProduct()  # noqa: RUF009 - an immutable value
    bias: Bias | Tensor | None = None
    mask: Tensor | None = None
    lengths: Tensor | None = None
    segments: tuple[Tensor, Tensor] | None = None
    query_offset: int = 0
    key_positions: Tensor | None = None
    dropout: float = 0.0
    seed: Tensor | None = None

    def positions(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the queries ``[queries]`` and keys ``[keys]``, perhaps a row, stand."""
        first, device = self.query_offset, q.device
        queries = torch.arange(first, first + q.shape[2], device=device)
        if self.key_positions is not None:
            return queries, self.key_positions
        return queries, torch.arange(k.shape[2], device=device)

    @property
    def is_plain(self) -> bool:
        """Whether scores are scaled dot products, without soft cap, bias and dropout."""
        is_dot_product = isinstance(self.score, DotProduct) and self.score.soft_cap is None
        return is_dot_product and self.bias is None and self.dropout == 0

    def allowed(self, allowed: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Join what a pattern allows with mask, lengths, segments, empty places and bias.

        Args:
            allowed: ``[queries, keys]``, or with leading axes; None allows all.
            q: Queries, ``[batch, heads, queries, dim]``.
            k: Keys, ``[batch, kv_heads, keys, dim]``.

        Returns:
            Boolean, broadcastable to ``[batch, heads, queries, keys]``; None allows all.
        """
        masks = [allowed, self.mask]
        if self.lengths is not None:
            valid = torch.arange(k.shape[2], device=k.device) < self.lengths[:, None]
            masks.append(valid[:, None, None, :])
        if self.segments is not None:
            of_queries, of_keys = self.segments
            masks.append(of_queries[:, None, :, None] == of_keys[:, None, None, :])
        if self.key_positions is not None:
            masks.append((self.key_positions >= 0)[..., None, None, :])
        if isinstance(self.bias, Tensor):
            masks.append(self.bias != -torch.inf)
        elif self.bias is not None and not isinstance(self.bias, ALWAYS_FINITE):
            queries, keys = self.positions(q, k)
            bias = self.bias(queries[:, None], keys[..., None, None, :], self.bias.tensors())
            masks.append(bias != -torch.inf)
        joined = None
        for mask in masks:
            if mask is not None:
                joined = mask if joined is None else joined & mask
        return joined

    def fold_key_mask(self, q: Tensor, k: Tensor) -> AttentionOptions:
        """Write a mask of keys alone, ``[batch or 1, 1, 1, keys]``, as segments, for the kernels.

        Args:
            q: Queries, ``[batch, heads, queries, dim]``.
            k: Keys, ``[batch, kv_heads, keys, dim]``.
        """
        if self.mask is None or self.mask.shape[1:3] != (1, 1):
            return self
        allowed = self.mask.expand(q.shape[0], 1, 1, k.shape[2])[:, 0, 0]  # [batch, keys]
        if self.segments is None:
            of_queries = torch.zeros(q.shape[0], q.shape[2], dtype=torch.long, device=q.device)
            of_keys = (~allowed).long()
        else:
            of_queries, of_keys = self.segments
            of_keys = torch.where(allowed, of_keys, of_queries.amin() - 1)
        return replace(self, mask=None, segments=(of_queries, of_keys))


def split_lengths(
    lengths: Lengths, q: Tensor, k: Tensor, query_offset: int
) -> tuple[Tensor | None, Tensor | None]:
    """Tell the valid queries and the valid keys of each row, ``[batch]`` each, None for all."""
    if isinstance(lengths, tuple):
        return lengths
    is_self_attention = q.shape[2] == k.shape[2] and query_offset == 0
    return lengths if is_self_attention else None, lengths


def check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Check that queries, keys and values fit each other.

    Raises:
        ShapeError: With the name of the one that does not.
    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dim() != 4:
            raise ShapeError(
                f"{name} has shape {list(tensor.shape)}; expected 4 axes, "
                "[batch, heads, length, dim]."
            )
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise ShapeError(
                f"{name} is {tensor.dtype} on {tensor.device}; "
                f"expected {q.dtype} on {q.device}, as q."
            )
        if not tensor.is_floating_point():
            raise ShapeError(f"{name} is {tensor.dtype}; expected a floating-point type.")
    fits = k.shape[0] == q.shape[0] and k.shape[3] == q.shape[3]
    if not fits or k.shape[1] == 0 or q.shape[1] % k.shape[1]:
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


def check_options(options: AttentionOptions, q: Tensor, k: Tensor, lengths: Lengths) -> None:
    """Check that the other options fit queries and keys.

    Raises:
        ShapeError: With the name of the one that does not.
        ConfigError: A number is out of range.
    """
    batch, queries, keys = q.shape[0], q.shape[2], k.shape[2]
    both = lengths if isinstance(lengths, tuple) else (None, lengths)
    for name, given in zip(("query lengths", "lengths"), both, strict=True):
        if given is not None:
            _require_shape(name, given, (batch,), "one a row")
    if options.segments is not None:
        for of, given, count in zip(
            ("queries", "keys"), options.segments, (queries, keys), strict=True
        ):
            _require_shape(f"segments of {of}", given, (batch, count), f"[batch, {of}]")
    if options.key_positions is not None and options.key_positions.dim() != 1:
        _require_shape("key_positions", options.key_positions, (batch, keys), "[batch, keys]")
    elif options.key_positions is not None:
        _require_shape("key_positions", options.key_positions, (keys,), "[keys]")
    if options.bias is not None and not isinstance(options.bias, Tensor):
        options.bias.check(q)
    options.score.check(q)
    if options.query_offset < 0:
        raise ConfigError(f"query_offset={options.query_offset}: must be 0 or more.")
    if not 0 <= options.dropout < 1:
        raise ConfigError(f"dropout={options.dropout}: must be at least 0 and below 1.")


def _require_shape(name: str, tensor: Tensor, shape: tuple[int, ...], meaning: str) -> None:
    if tensor.shape != shape:
        raise ShapeError(
            f"{name} has shape {list(tensor.shape)}; expected {list(shape)}, {meaning}."
        )
    if tensor.is_floating_point():
        raise ShapeError(f"{name} is {tensor.dtype}; expected integers.")


def broadcast_pairs(name: str, tensor: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Give a mask or a bias 4 axes, each of ``[batch, heads, queries, keys]`` or 1.

    Args:
        name: ``mask`` or ``bias``.
        tensor: Of up to 4 axes that broadcast, aligned on the right.
        q: Queries, ``[batch, heads, queries, dim]``.
        k: Keys, ``[batch, kv_heads, keys, dim]``.

    Raises:
        ShapeError: It does not broadcast, or has another type or device.
    """
    is_mask = name == "mask"
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
    if len(axes) != 4 or any(n not in (1, full) for n, full in zip(axes, shape, strict=True)):
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
