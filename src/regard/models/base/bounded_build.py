"""Models of foreign files, built only if they are not larger than the weights of the file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from regard.errors import WeightsError

T = TypeVar("T")
_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full)
_FILLS = (torch.Tensor.normal_, nn.init.normal_, nn.init.uniform_)
_SPARE_NUMBERS = 4_000_000  # for tables that are computed, such as those of positions


class TooLargeError(ValueError):
    """A model has more numbers than it may have."""


class _Bounded(TorchFunctionMode):
    """Counts the numbers of new tensors, and raises before there are too many."""

    def __init__(self, most: int, *, draws: bool) -> None:
        super().__init__()
        self._left, self._draws = most, draws

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _FILLS and not self._draws:
            return args[0] if args else (kwargs or {})["tensor"]
        if func in _FACTORIES:
            self._left -= math.prod(_sizes(args))
        elif func is torch.arange:
            self._left -= int(max(abs(value) for value in args if isinstance(value, int | float)))
        if self._left < 0:
            raise TooLargeError
        return func(*args, **(kwargs or {}))


def require_tensors_for_layers(config: msgspec.Struct, num_tensors: int, name: str) -> None:
    """Check that a configuration has no more layers than a file has tensors.

    Args:
        config: Sizes of a model.
        num_tensors: Tensors in the file.
        name: Name of the file, for the message.

    Raises:
        WeightsError: It has more.
    """
    num_layers = _count_layers(config)
    if num_layers > num_tensors:
        raise WeightsError(
            f"{name}: {num_tensors:,} tensors are too few for the {num_layers:,} layers that the "
            "configuration says."
        )


def build_bounded(build: Callable[[], T], num_weights: int, *, draws: bool = True) -> T:
    """Build a model which may have as many numbers as its file of weights, and tables.

    What is computed from the sizes alone has room for four million numbers, and for those of the
    weights a second time.

    Args:
        build: Builds the model.
        num_weights: Numbers in the file.
        draws: Whether weights are drawn at random; else they are not filled, for a model all of
            whose weights are read from the file.

    Returns:
        The model.

    Raises:
        TooLargeError: It would be larger; nothing that large has been allocated.
    """
    with _Bounded(2 * num_weights + _SPARE_NUMBERS, draws=draws):
        return build()


def _count_layers(config: msgspec.Struct) -> int:
    """Return the largest number of layers in a configuration and the configurations within it."""
    most = 0
    for name in config.__struct_fields__:
        value = getattr(config, name)
        if isinstance(value, msgspec.Struct):
            most = max(most, _count_layers(value))
        elif isinstance(value, int) and name.startswith("num_") and name.endswith("layers"):
            most = max(most, value)
    return most


def _sizes(args: tuple[Any, ...]) -> list[int]:
    """Return the sizes that the arguments of a factory name, in one sequence or each alone."""
    first = args[0] if args else ()
    return [size for size in (args if isinstance(first, int) else first) if isinstance(size, int)]
