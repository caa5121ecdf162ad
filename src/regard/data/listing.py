"""Lists and numbers in messages."""

from __future__ import annotations

from collections.abc import Sequence

_NAMED_LINES = 3
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def list_first(names: Sequence[str], limit: int) -> str:
    """Return the first names of a list, and the number of the others.

    >>> list_first(["a", "b", "c"], 3), list_first(["a", "b", "c"], 1)
    ('a, b, c', 'a and 2 more')
    """
    first = ", ".join(names[:limit])
    return first if len(names) <= limit else f"{first} and {len(names) - limit:,} more"


def shorten_line(text: str, most: int) -> str:
    """Return a text on one line of at most `most` characters, with an ellipsis where it is cut.

    >>> shorten_line("A crisply\\nmade movie", 80), shorten_line("A crisply made movie", 11)
    ('A crisply made movie', 'A crisply…')
    """
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def describe_lines(lines: Sequence[int], noun: str = "line") -> str:
    """Return line numbers as a range where they are adjacent, else the first three of them.

    >>> describe_lines([12_882, 12_881, 12_883]), describe_lines([1204, 12, 881, 5000, 7000])
    ('lines 12,881-12,883', 'lines 12, 881, 1,204 and 2 more')
    """
    lines = sorted(lines)
    noun = noun if len(lines) == 1 else f"{noun}s"
    if len(lines) > 1 and lines == list(range(lines[0], lines[-1] + 1)):
        return f"{noun} {lines[0]:,}-{lines[-1]:,}"
    return f"{noun} {list_first([f'{line:,}' for line in lines], _NAMED_LINES)}"


def pluralize(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun, and perhaps its verb.

    Args:
        count: The count, 0 or more.
        singular: What follows 1.
        plural: What follows other counts; by default `singular` with an s.

    >>> pluralize(1, "row"), pluralize(1200, "row"), pluralize(2, "row is", "rows are")
    ('1 row', '1,200 rows', '2 rows are')
    """
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def spell_number(number: int) -> str:
    """Return a count in words up to nine, and in digits above.

    >>> spell_number(0), spell_number(2), spell_number(1200)
    ('no', 'two', '1,200')
    """
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number:,}"
