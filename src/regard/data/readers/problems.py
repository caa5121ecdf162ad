"""What cannot be read in a file: where, why, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_LONGEST_QUOTE = 60  # characters of a faulty line that a message repeats
_SHOWN_LINES = 3
_PARTICULARS = re.compile(r'0x[0-9A-F]+|\d[\d,]*|"[^"]*"')


class RowProblem(NamedTuple):
    """A line that cannot be read.

    Args:
        path: File as named.
        line: From 1; None for what is wrong with the file as a whole.
        reason: What is wrong, a sentence.
        text: The line or the part of it that is meant; None where that says nothing.
        remedy: What to do about it, where that is known; settings are written in backticks.
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


class Parsed(NamedTuple, Generic[T]):
    """What a file holds: its rows, and all that cannot be read.

    Args:
        rows: Of the lines that can be read.
        problems: In the order of the file; where there are any, `rows` must not be trained on.
    """

    rows: T
    problems: list[RowProblem]


class ProblemGroup(NamedTuple):
    """Problems of one kind.

    Args:
        first: The first of them.
        lines: The first three lines.
        num_problems: How many there are.
    """

    first: RowProblem
    lines: tuple[int, ...]
    num_problems: int


def group_problems(problems: Sequence[RowProblem]) -> list[ProblemGroup]:
    """Group problems that differ in numbers and quoted names only, in the order of the first."""
    groups: dict[tuple[str, str], list[RowProblem]] = {}
    for problem in problems:
        kind = (problem.path, _PARTICULARS.sub("", problem.reason))
        groups.setdefault(kind, []).append(problem)
    return [
        ProblemGroup(
            first=group[0],
            lines=tuple(p.line for p in group[:_SHOWN_LINES] if p.line is not None),
            num_problems=len(group),
        )
        for group in groups.values()
    ]


def quote(text: str) -> str:
    """Quote a text for a message: short, and on one line whatever it holds.

    >>> print(quote("a\\tb\\x1b"))
    "a<TAB>b\\x1b"
    """
    text = text.removesuffix("\n").removesuffix("\r")
    if len(text) > _LONGEST_QUOTE:
        text = text[: _LONGEST_QUOTE - 1] + "…"
    shown = (char if char.isprintable() else repr(char)[1:-1] for char in text)
    return f'"{"".join(shown)}"'.replace(r"\t", "<TAB>")
