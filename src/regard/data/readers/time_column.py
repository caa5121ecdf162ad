"""The times of a column, and what a name of a column says about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regard.data.readers.columns import fold_name
from regard.data.readers.number_columns import CellFault

MICROSECONDS = 1_000_000


class TimeColumn(NamedTuple):
    """The times of a column.

    Args:
        times: Seconds since 1970 in the zone of the column, or the numbers of a column that
            counts, int64 ``[rows]``; 0 where a cell cannot be read.
        faults: Cells that cannot be read.
        is_count: Whether the column holds numbers that count.
        form: How times are written, as in `TimeIndex`; empty for ISO form.
        zone: UTC offset, such as ``+01:00``; empty for none.
        notes: What was decided where the text leaves a choice.
    """

    times: NDArray[np.int64]
    faults: tuple[CellFault, ...] = ()
    is_count: bool = False
    form: str = ""
    zone: str = ""
    notes: tuple[str, ...] = ()


def to_seconds(
    microseconds: NDArray[np.int64], form: str, zone: str, notes: Sequence[str] = ()
) -> TimeColumn:
    """Return times to the second; those that are closer than that are counted."""
    seconds = (microseconds + MICROSECONDS // 2) // MICROSECONDS
    if len(np.unique(seconds)) == len(np.unique(microseconds)):
        return TimeColumn(seconds, form=form, zone=zone, notes=tuple(notes))
    counts = microseconds - microseconds.min()
    unit = "microseconds"
    if not np.any(counts % 1000):
        counts, unit = counts // 1000, "milliseconds"
    note = f"times are closer than a second: counted in {unit} from the first"
    return TimeColumn(counts, is_count=True, notes=(*notes, note))


def has_word(name: str, words: frozenset[str]) -> bool:
    """Return whether the first or the last word of a name is one of some words."""
    parts = re.findall(r"\w+", fold_name(name))
    return bool(parts) and (parts[0] in words or parts[-1] in words)
