"""Rows that were left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec


class DroppedRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row that was left out.

    Args:
        line: 1-based line in the file, or number of the row in a nested file.
        reason: Why, in the same words for all rows with the same reason.
        text: The source, or the target if the source is empty.
        json_path: Path of the row in a nested file, such as ``data[3].paragraphs[0].qas[2]``; empty
            in a file with one row a line.
    """

    line: int
    reason: str
    text: str
    json_path: str = ""

    def locate(self, path: str) -> str:
        """Return where the row is in the file at a path, for messages."""
        return f"{path}: {self.json_path}" if self.json_path else f"{path}:{self.line}"


def count_reasons(dropped: Iterable[DroppedRow]) -> dict[str, int]:
    """Return the number of rows for each reason, in the order in which the reasons appear."""
    return dict(Counter(drop.reason for drop in dropped))
