"""Outputs without NaN and infinities, which JSON does not have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from regard.serving.problems import Problem


def require_finite(outputs: Sequence[msgspec.Struct]) -> None:
    """Raise Problem where an output has a number that is not finite; `msgspec` would write null."""
    for number, output in enumerate(outputs, start=1):
        if not _is_finite(output):
            raise Problem(
                422,
                f"input {number:,}: the model computes no finite numbers (NaN) for it.",
                hint="Its values are too large, or the weights are broken.",
            )


def _is_finite(value: Any) -> bool:
    """Return whether all numbers within a value are finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.astuple(value)
    elif isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return all(map(_is_finite, value))
