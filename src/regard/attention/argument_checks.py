"""Checks and conversions of the arguments of `attend`; errors name the argument."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import torch
from torch import Tensor

from regard.attention.biases import ALWAYS_FINITE, Bias
from regard.attention.nan_propagation import may_read
from regard.attention.options import AttendOptions, Lengths, broadcast_pairs, check_integers
from regard.attention.patterns.base import Pattern
from regard.attention.patterns.text import parse_pattern
from regard.attention.scores import KNOWN_SCORES, ScoreFunction
from regard.errors import ConfigError, ShapeError


def cast_to_autocast(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cast to the type of an autocast region; as in PyTorch's attention float64 stays.

    Args:
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.
        v: ``[batch, kv_heads, keys, value_dim]``.

    Returns:
        The same shapes.
    """
    if not all(isinstance(x, Tensor) for x in (q, k, v)) or q.device.type == "meta":
        return q, k, v
    if not torch.is_autocast_enabled(q.device.type):
        return q, k, v
    dtype = torch.get_autocast_dtype(q.device.type)

    def cast(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x

    return cast(q), cast(k), cast(v)


def check_names(names: Iterable[str]) -> None:
    """Check the names of the options of `attend`; raise TypeError, as Python does."""
    for name in names:
        if name not in AttendOptions.__annotations__:
            close = difflib.get_close_matches(name, _NAMES, n=1)
            hint = f"  Did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"attend() got an unexpected keyword argument {name!r}.{hint}")


_NAMES = (
    "pattern",
    "score",
    "mask",
    "bias",
    "lengths",
    "generator",
    "return_weights",
    "return_lse",
    *AttendOptions.__annotations__,
)


def read_dropout(dropout: float | str | None) -> float:
    """Return a rate whose range is checked later; raise ConfigError for what is no number."""
    if dropout is None or isinstance(dropout, str):
        raise ConfigError(f"dropout={dropout!r}: must be a number, at least 0 and below 1.")
    return dropout


def read_pattern(pattern: Pattern | str) -> Pattern:
    """Return a pattern, read from its text form where it is text; else raise ConfigError."""
    if isinstance(pattern, str):
        return parse_pattern(pattern)
    if not isinstance(pattern, Pattern):
        hint = ""
        if isinstance(pattern, Tensor):
            hint = "  A boolean tensor of the allowed pairs is a `mask`."
        raise ConfigError(
            f"pattern is {_kind(pattern)}; expected a pattern such as Local(64, 0), or its text "
            f'form such as "local:64,0".{hint}'
        )
    return pattern


def check_score(score: ScoreFunction) -> None:
    """Raise ConfigError where the value is not a score."""
    if isinstance(score, type) or not hasattr(score, "tensors"):
        raise ConfigError(
            f"score is {_kind(score)}; expected a score such as DotProduct() or Cosine(10.0)."
        )
    _refuse_subclasses("score", score, KNOWN_SCORES)


def read_bias(bias: Bias | Tensor | None, q: Tensor, k: Tensor) -> Bias | Tensor | None:
    """Return a bias, a tensor with 4 axes that broadcast to ``[batch, heads, queries, keys]``.

    Args:
        bias: A bias by position, or numbers for pairs.
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.

    Returns:
        The bias.

    Raises:
        ShapeError: A tensor does not fit.
        ConfigError: It is neither a bias nor a tensor.
    """
    if isinstance(bias, Tensor):
        return broadcast_pairs("bias", bias, q, k)
    if bias is not None and (isinstance(bias, type) or not hasattr(bias, "tensors")):
        raise ConfigError(
            f"bias is {_kind(bias)}; expected a tensor that broadcasts to [batch, heads, queries, "
            "keys], or a bias by position such as Alibi(alibi_slopes(heads))."
        )
    _refuse_subclasses("bias", bias, ALWAYS_FINITE)
    return bias


def _refuse_subclasses(name: str, value: object, classes: tuple[type, ...]) -> None:
    """Raise ConfigError for a subclass of a class whose `__call__` kernels do not call."""
    bases = [cls for cls in classes if isinstance(value, cls)]
    if bases and type(value) not in classes:
        raise ConfigError(
            f"{name} is {_kind(value)}, a subclass of {bases[0].__name__}, which kernels would "
            f"compute as {bases[0].__name__}; write a class of its own with tensors(), check() and "
            "__call__()."
        )


def split_lengths(lengths: Lengths, q: Tensor, k: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the valid queries and the valid keys of each row; one tensor means the keys.

    Args:
        lengths: Lengths of the keys, ``[batch]``, or a pair of those of the queries and of the
            keys.
        q: ``[batch, heads, queries, dim]``.
        k: ``[batch, kv_heads, keys, dim]``.

    Returns:
        ``[batch]`` each; None where all are valid.

    Raises:
        ShapeError: They are other tensors, or a length is below 0 or above the number of positions.
    """
    pair = lengths if isinstance(lengths, tuple) else (None, lengths)
    if len(pair) != 2:
        raise ShapeError(
            f"lengths is a tuple of {len(pair)}; expected a pair (query_lengths, key_lengths), "
            "or one tensor [batch] for the keys."
        )
    of_queries, of_keys = pair
    if of_queries is not of_keys or q.shape[2] != k.shape[2]:
        _check_lengths("query lengths", of_queries, q, "queries")
    _check_lengths("lengths", of_keys, k, "keys")
    return of_queries, of_keys


def _check_lengths(name: str, lengths: Tensor | None, x: Tensor, what: str) -> None:
    """Check the lengths of ``[batch, heads, length, dim]``; raise ShapeError."""
    if lengths is None:
        return
    check_integers(name, lengths, (x.shape[0],), "one a row")
    if not may_read(x) or lengths.numel() == 0:
        return
    lowest, highest = (int(bound) for bound in lengths.aminmax())
    if lowest < 0 or highest > x.shape[2]:
        wrong = lowest if lowest < 0 else highest
        raise ShapeError(f"{name} has a {wrong}; expected 0 to {x.shape[2]}, the number of {what}.")


def _kind(value: object) -> str:
    """Return the type of a value in words."""
    return (
        f"the class {value.__name__}"
        if isinstance(value, type)
        else f"of type {type(value).__name__}"
    )
