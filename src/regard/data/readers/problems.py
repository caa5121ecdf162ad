"""Problems of a file: where something cannot be read, why, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from regard.errors import DataError, NextStep

_LONGEST_QUOTE = 60  # characters of a faulty line that a message repeats
_NUM_LINES = 3  # that are named of problems of one kind
_PARTICULARS = re.compile(r'0x[0-9A-F]+|\d[\d,]*|"[^"]*"')


class RowProblem(NamedTuple):
    """A line that cannot be read.

    Args:
        path: File as named.
        line: 1-based line; None for a problem of the file as a whole.
        reason: Cause of the problem, a sentence.
        text: The line or a part of it, if that helps.
        remedy: What to do about it, if that is known; settings are written in backticks.
    """

    path: str
    line: int | None
    reason: str
    text: str | None = None
    remedy: str = ""

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        quoted = "" if self.text is None else quote(self.text)
        return "  ".join(filter(None, (f"{where}: {self.reason}", quoted, self.remedy)))


class UnreadableRowsError(DataError):
    """Rows of a file that cannot be read; the message is about the first of them.

    Args:
        message: What is wrong, and what to do about it.
        next_steps: Commands that help.
        problems: All of them, at least one.
        num_rows: Number of rows that can be read.
    """

    def __init__(
        self,
        message: str,
        *next_steps: NextStep,
        problems: Sequence[RowProblem],
        num_rows: int = 0,
    ) -> None:
        super().__init__(message, *next_steps)
        self.problems, self.num_rows = problems, num_rows


class ProblemGroup(NamedTuple):
    """The first of some problems of one kind, the lines of the first three, and their number."""

    first: RowProblem
    lines: tuple[int, ...]
    num_problems: int


def group_problems(problems: Sequence[RowProblem]) -> list[ProblemGroup]:
    """Group problems that differ only in numbers and quoted names, in the order of the first."""
    groups: dict[tuple[str, str], list[RowProblem]] = {}
    for problem in problems:
        groups.setdefault(_kind(problem), []).append(problem)
    return [
        ProblemGroup(
            first=group[0],
            lines=tuple(p.line for p in group[:_NUM_LINES] if p.line is not None),
            num_problems=len(group),
        )
        for group in groups.values()
    ]


def list_problems(problems: Sequence[RowProblem]) -> list[str]:
    """Return a line for each problem; more than three of one kind share the line of the first."""
    lines = []
    for group in group_problems(problems):
        if group.num_problems > _NUM_LINES:
            named = ", ".join(f"{line:,}" for line in group.lines)
            named += f" and {group.num_problems - len(group.lines):,} more"
            lines.append(f"{group.first}  {group.num_problems:,} rows like this: lines {named}.")
        else:
            lines += [str(problem) for problem in problems if _kind(problem) == _kind(group.first)]
    return lines


def _kind(problem: RowProblem) -> tuple[str, str]:
    """Return the file of a problem and its reason without numbers and quoted names."""
    return problem.path, _PARTICULARS.sub("", problem.reason)


def quote(text: str) -> str:
    """Return a text in quotes for a message, shortened and on one line.

    >>> print(quote("a\\tb\\x1b"))
    "a<TAB>b\\x1b"
    """
    text = text.removesuffix("\n").removesuffix("\r")
    if len(text) > _LONGEST_QUOTE:
        text = text[: _LONGEST_QUOTE - 1] + "…"
    chars = (char if char.isprintable() else repr(char)[1:-1] for char in text)
    return f'"{"".join(chars)}"'.replace(r"\t", "<TAB>")
