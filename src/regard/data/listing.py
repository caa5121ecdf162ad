"""Lists in messages: the first few are named, the others counted."""

from __future__ import annotations

from collections.abc import Sequence

_NAMED_LINES = 3


def describe_lines(lines: Sequence[int]) -> str:
    """Write line numbers as people read them: all where they are few or adjacent, else the first.

    >>> describe_lines([12_882, 12_881, 12_883]), describe_lines([1204, 12, 881, 5000, 7000])
    ('12,881-12,883', '12, 881, 1,204 and 2 more')
    """
    ordered = sorted(lines)
    if len(ordered) > 1 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]:,}-{ordered[-1]:,}"
    shown = ", ".join(f"{line:,}" for line in ordered[:_NAMED_LINES])
    more = len(ordered) - _NAMED_LINES
    return f"{shown} and {more:,} more" if more > 0 else shown
