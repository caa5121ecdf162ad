"""Scores of long inputs in the form that the page reads: one or two bytes a number."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

import msgspec
import numpy as np

MOST_PLAIN = 6_000
"""Numbers of a method that are written as JSON; more are packed."""

MOST_PRECISE = 250_000
"""Numbers of a method that are packed with two bytes each; more get one."""

Scores = Sequence[Sequence[float | None]]


class PackedScores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores as signed integers, each row by its largest magnitude.

    Args:
        rows: Number of outputs.
        largest: Magnitude of each row that the largest integer is.
        bits: Bits of an integer, 16 or 8; with 8 the integer is the square root of the score. The
            smallest one is None.
        data: zlib, then base64; of 16 bits the low bytes of all, then the high bytes.
    """

    rows: int
    largest: list[float]
    bits: int
    data: str


def is_large(scores: Scores) -> bool:
    """Whether scores take less room packed."""
    return sum(map(len, scores)) > MOST_PLAIN


def pack_scores(scores: Scores) -> PackedScores:
    """Pack scores.

    Args:
        scores: ``[outputs, features]``.

    Returns:
        Integers of 16 bits, or of 8 where there are many, with the largest score of each output.
    """
    table = np.array(scores, dtype=np.float64)  # None is NaN
    table[~np.isfinite(table)] = np.nan
    largest = np.nan_to_num(np.nanmax(np.abs(table), axis=1, initial=0.0))
    fractions = table / np.where(largest > 0, largest, 1.0)[:, None]
    bits = 16 if table.size <= MOST_PRECISE else 8
    if bits == 8:
        fractions = np.sign(fractions) * np.sqrt(np.abs(fractions))
    top = 2 ** (bits - 1) - 1
    integers = np.where(np.isnan(fractions), -top - 1, np.round(np.nan_to_num(fractions) * top))
    unsigned = integers.astype(np.int64) & (2**bits - 1)
    planes = [(unsigned >> shift & 255).astype(np.uint8).tobytes() for shift in range(0, bits, 8)]
    return PackedScores(
        rows=len(table),
        largest=[float(f"{value:.6g}") for value in largest],
        bits=bits,
        data=base64.b64encode(zlib.compress(b"".join(planes), 6)).decode(),
    )
