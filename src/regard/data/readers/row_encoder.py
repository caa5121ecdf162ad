"""Rows of data frames and tables as lines of JSON, with the values that NumPy and pandas have."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np


def name_infinite(value: Any) -> Any:
    """Return a value with names for infinite numbers, which JSON would have as missing ones.

    Where numbers are read, the name is refused as in a cell of CSV.

    >>> name_infinite({"a": float("-inf"), "b": [1.5, float("inf")]})
    {'a': '-inf', 'b': [1.5, 'inf']}
    """
    if isinstance(value, float | np.floating):
        return str(float(value)) if math.isinf(value) else value
    if isinstance(value, np.ndarray):
        return name_infinite(value.tolist())
    if isinstance(value, Mapping):
        return {key: name_infinite(inner) for key, inner in value.items()}
    return list(map(name_infinite, value)) if isinstance(value, list | tuple) else value


def _plain_value(value: object) -> str | float | None:
    """Return a value of NumPy or pandas as text, number or nothing, for JSON.

    Raises:
        TypeError: It is of another kind.
    """
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime.date):  # also a subclass, such as a time of pandas
        return value.isoformat()
    if hasattr(value, "to_timestamp"):  # a period of pandas
        return str(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


ROW_ENCODER = msgspec.json.Encoder(enc_hook=_plain_value, decimal_format="number")
"""Writes a row as JSON: dates and times as ISO 8601, numbers that are missing as null."""
