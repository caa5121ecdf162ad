"""Rows that were left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec


class DroppedRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row that was left out.

    Args:
        line: 1-based line in the file.
        reason: Why, in the same words for all rows with the same reason.
        text: The source, or the target if the source is empty.
    """

    line: int
    reason: str
    text: str


def count_reasons(dropped: Iterable[DroppedRow]) -> dict[str, int]:
    """Return the number of rows for each reason, in the order in which the reasons appear."""
    return dict(Counter(drop.reason for drop in dropped))
