"""Marks with which tools for annotation say that a row is not to be used.

They are the field ``answer`` of Prodigy, ``was_cancelled`` of Label Studio, ``status`` of Argilla
and ``AssignmentStatus`` of Mechanical Turk. Such rows are in the export, next to the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from regard.data.dropped_rows import DroppedRow

_REJECTED: dict[str, tuple[str, ...]] = {
    "answer": ("reject", "ignore"),
    "was_cancelled": ("true", "1"),
    "status": ("discarded",),
    "AssignmentStatus": ("rejected",),
}
"""Values, in lower case, that say so, by the name of the column."""
_KEPT = {"answer": ("accept",)}
"""Other values of a column that nothing else has as its name."""


def find_marks(names: Collection[str], columns: Collection[str]) -> list[str]:
    """Return which of the names of columns are those of marks, without columns that are read.

    >>> find_marks(["text", "label", "answer"], ["text", "label"])
    ['answer']
    """
    return [name for name in _REJECTED if name in names and name not in columns]


def describe_marks(names: Iterable[str]) -> list[str]:
    """Return notes on the rows that marks leave out.

    >>> describe_marks(["answer"])
    ['without rows whose answer is reject or ignore']
    """
    return [f"without rows whose {name} is {' or '.join(_REJECTED[name])}" for name in names]


def are_marks(name: str, values: Iterable[str]) -> bool:
    """Return whether a column with some values holds marks and nothing else, by its name too."""
    return {*values} <= {*_REJECTED.get(name, ()), *_KEPT.get(name, ())}


def find_rejection(marks: Mapping[str, object]) -> str | None:
    """Return why a row is left out, by its marks; None where no mark says so.

    >>> find_rejection({"answer": "reject"}), find_rejection({"answer": "accept"})
    ('marked as answer: reject', None)
    """
    for name, mark in marks.items():
        value = str(mark).strip().lower()
        if value in _REJECTED[name]:
            return f"marked as {name}: {value}"
    return None


def keep_row(
    line: int, text: str, marks: Mapping[str, object], rejected: list[DroppedRow] | None
) -> bool:
    """Return whether a row is read; one that its marks reject is appended to `rejected`.

    Args:
        line: 1-based line of the row.
        text: Its text, for messages.
        marks: Its values under the names of marks.
        rejected: Receives it; None keeps all rows.
    """
    reason = None if rejected is None else find_rejection(marks)
    if rejected is not None and reason is not None:
        rejected.append(DroppedRow(line=line, reason=reason, text=text))
    return reason is None
