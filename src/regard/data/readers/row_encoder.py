"""Rows of data frames and tables as lines of JSON, with the values that NumPy and pandas have."""

from __future__ import annotations

import datetime

import msgspec
import numpy as np


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
