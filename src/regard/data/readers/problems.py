"""Problems of a file: where something cannot be read, why, and what to do about it."""

from __future__ import annotations

import re
import shlex
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
        json_path: Path in a nested file, such as ``data[3].paragraphs[0]``; empty elsewhere.
        file_row: File and row, such as ``part-1.parquet:12``, of a line in a folder of tables.
    """

    path: str
    line: int | None
    reason: str
    text: str | None = None
    remedy: str = ""
    json_path: str = ""
    file_row: str = ""

    @property
    def is_of_file(self) -> bool:
        """Whether the file is wrong as a whole."""
        return self.line is None and not self.json_path

    @property
    def location(self) -> str:
        """The line, the path in a nested file, or the name of a file that is wrong as a whole."""
        row = self.path if self.line is None else self.file_row or f"{self.line:,}"
        return self.json_path or row

    def __str__(self) -> str:
        where = self.path if self.line is None else self.file_row or f"{self.path}:{self.line}"
        where += f": {self.json_path}" if self.json_path else ""
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
    """Problems of one kind: the first, where the first three are, and how many there are.

    Args:
        first: The first problem.
        locations: Lines of the first three, paths in a nested file, or names of files that are
            wrong as a whole.
        num_problems: Number of all.
    """

    first: RowProblem
    locations: tuple[str, ...]
    num_problems: int


def group_problems(problems: Sequence[RowProblem]) -> list[ProblemGroup]:
    """Group problems that differ only in numbers and quoted names, in the order of the first.

    Files that are wrong as a whole are grouped by the reason.

    Returns:
        The groups, each with its first problem, the locations of the first few, and their number.
    """
    groups: dict[tuple[str, str], list[RowProblem]] = {}
    for problem in problems:
        groups.setdefault(_kind(problem), []).append(problem)
    return [
        ProblemGroup(
            first=group[0],
            locations=tuple(problem.location for problem in group[:_NUM_LINES]),
            num_problems=len(group),
        )
        for group in groups.values()
    ]


def require_readable(problems: Sequence[RowProblem]) -> None:
    """Raise `DataError` with the first of some problems and the number of the others."""
    if problems:
        more, noun = len(problems) - 1, "like it"
        if len(group_problems(problems)) > 1:
            noun = "problem" if more == 1 else "problems"
        text = f"{problems[0]}  And {more:,} more {noun}." if more else str(problems[0])
        raise UnreadableRowsError(text, problems=problems)


def list_problems(problems: Sequence[RowProblem]) -> list[str]:
    """Return a line for each problem; more than three of one kind share the line of the first."""
    lines = []
    for group in group_problems(problems):
        if group.num_problems > _NUM_LINES:
            named = ", ".join(group.locations)
            named += f" and {group.num_problems - len(group.locations):,} more"
            what = "files like this:" if group.first.is_of_file else "rows like this:"
            what += " lines" if group.first.line is not None else ""
            lines.append(f"{group.first}  {group.num_problems:,} {what} {named}.")
        else:
            lines += [str(problem) for problem in problems if _kind(problem) == _kind(group.first)]
    return lines


def _kind(problem: RowProblem) -> tuple[str, str]:
    """Return the file of a problem of a row, and the reason without numbers and names."""
    if not problem.is_of_file:
        return problem.path, _PARTICULARS.sub("", problem.reason)
    reason = problem.reason.replace(shlex.quote(problem.path), "").replace(problem.path, "")
    return "", _PARTICULARS.sub("", reason)


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
