"""Tokens and numbers as a reader sees them, outside a browser."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable

from regard.explain.document import MethodResult

MOST_ERROR = 0.1
"""Error of a method that has converged, as a fraction of the change that it shares out."""

_CONTINUED = re.compile(r"^##(?=.)")
_ORDERING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
_MARK = re.compile(r"<[^>]*>|\[[A-Z]+\]")


def token_label(text: str, most: int | None = None) -> str:
    """Return a token without the marks of its tokenizer.

    Args:
        text: The token.
        most: Characters that are kept; of a longer token the end is cut off.

    >>> token_label(" river"), token_label("##ing"), token_label("\\n"), token_label("  ")
    ('river', 'ing', '⏎', '␣')
    >>> token_label("extraordinarily", 8)
    'extraor…'
    """
    shown = text.replace("\n", "⏎").replace("\t", "⇥")
    # Characters of control would break the line, or order the text around them.
    shown = "".join(
        char
        for char in shown
        if unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        and unicodedata.bidirectional(char) not in _ORDERING
    )
    word = _CONTINUED.sub("", shown.strip()) or ("␣" if shown else "∅")
    return word if most is None or len(word) <= most else word[: most - 1] + "…"


def is_right_to_left(texts: Iterable[str]) -> bool:
    """Return whether a text is read from right to left, by its first letter.

    >>> is_right_to_left(["<s>", "שלום"]), is_right_to_left(["the", "שלום"])
    (True, False)
    """
    for text in texts:
        for char in _MARK.sub("", text):
            direction = unicodedata.bidirectional(char)
            if direction in ("L", "R", "AL"):
                return direction != "L"
    return False


def number_text(value: float | None) -> str:
    """Return a number with about three digits.

    >>> [number_text(value) for value in (0.4321, 0.0708, -12.34, 4567.0, None)]
    ['0.43', '0.071', '−12.3', '4567', '–']
    """
    if value is None or value != value:
        return "–"
    size = abs(value)
    if size and (size < 0.001 or size >= 100_000):
        return f"{value:.1e}".replace("-", "−")
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 3
    text = f"{value:.{places}f}".replace("-", "−")
    return text.removesuffix("0") if places == 3 else text


def probability_of(
    text: str, score: float, alternatives: dict[str, float], unit: str
) -> float | None:
    """Return the probability of an output, or None where it has none.

    Args:
        text: Of the output.
        score: Of the output, in `unit`.
        alternatives: See `Output`.
        unit: Of scores; those in nats are logarithms of probabilities.
    """
    if text in alternatives:
        return alternatives[text]
    return min(1.0, math.exp(score)) if unit == "nats" else None


def has_converged(method: MethodResult) -> bool:
    """Return whether the scores of a method sum to about the change that they share out."""
    return method.error is None or method.error <= MOST_ERROR


def count_with_unit(number: int) -> str:
    """Return a number of parameters, short.

    >>> count_with_unit(12_104_704), count_with_unit(950)
    ('12.1 M', '950')
    """
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)
