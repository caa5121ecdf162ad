"""Rows that were left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec


class DroppedRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row that was left out.

    Args:
        line: Its 1-based line in the file.
        reason: Why, in words that rows left out for the same reason share.
        text: The source, or the target where the source is empty.
    """

    line: int
    reason: str
    text: str


def count_reasons(dropped: Iterable[DroppedRow]) -> dict[str, int]:
    """Count the rows left out by reason, in the order in which the reasons first appear."""
    return dict(Counter(drop.reason for drop in dropped))
