"""Tokens and numbers as a reader sees them, outside a browser."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

from regard.explain.document import Explanation, MethodResult
from regard.explain.unseen_text import name_unseen

MOST_ERROR_OF_CONVERGED = 0.1
"""Error of a method that has converged, as a fraction of the change that it shares out."""

_TIME = re.compile(r"(\d{4}-)(\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d.*)?)?$")
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
    >>> token_label("extraordinarily", 8), token_label("\u200b"), token_label("")
    ('extraor…', 'U+200B', '∅')
    """
    visible = printable(text.replace("\n", "⏎").replace("\t", "⇥"))
    word = name_unseen(_CONTINUED.sub("", visible.strip()))
    if not word:
        word = "␣" if visible and text.isspace() else name_unseen(text.strip(" ")) or "∅"
    return word if most is None or len(word) <= most else word[: most - 1] + "…"


def printable(text: str) -> str:
    """Return a text without characters that a line, or a file of XML, cannot have."""
    return "".join(char for char in text if not _is_control(char))


def _is_control(char: str) -> bool:
    """Return whether a character breaks the line, orders the text around it, or is none."""
    breaks_line = unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in "\ufffe\uffff"
    return breaks_line or unicodedata.bidirectional(char) in _ORDERING


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
    >>> [number_text(value) for value in (-8.34e-7, 1.3e-11, 250_000.0)]
    ['−8.3e−7', '1.3e−11', '2.5e5']
    """
    if value is None or value != value:
        return "–"
    size = abs(value)
    if size and not 0.001 <= size < 100_000:
        digits, _, exponent = f"{value:.1e}".partition("e")
        return f"{digits}e{int(exponent)}".replace("-", "−")
    num_digits = sum(size < bound for bound in (100, 10, 0.1))
    text = f"{value:.{num_digits}f}".replace("-", "−")
    return text.removesuffix("0" * (num_digits == 3))


def probability_of(score: float, unit: str) -> float | None:
    """Return the probability of an output, or None where it has none.

    Args:
        score: Score of the output, in `unit`.
        unit: Unit of scores; those in nats are logarithms of probabilities.
    """
    return min(1.0, math.exp(score)) if unit == "nats" else None


def short_times(texts: Sequence[str]) -> list[str]:
    """Return times without the year or the day that all of them have; other texts as they are.

    >>> short_times(["2024-02-06T18:00:00", "2024-02-07T00:00:00"])
    ['02-06 18:00', '02-07 00:00']
    >>> short_times(["2024-02-06T18:00:00", "2024-02-06T19:00:00"]), short_times(["+1", "+2"])
    (['18:00', '19:00'], ['+1', '+2'])
    """
    times = [match.groups("") for text in texts if (match := _TIME.match(text.strip()))]
    if len(times) < max(1, len(texts)):
        return list(texts)
    years, days, minutes, seconds = zip(*times, strict=True)
    has_year, has_second = len(set(years)) > 1, len(set(seconds)) > 1
    has_day = has_year or len(set(days)) > 1 or not all(minutes)
    return [
        f"{year * has_year}{day * has_day} {minute}{second * has_second}".strip()
        for year, day, minute, second in times
    ]


def short_texts(explanation: Explanation) -> tuple[list[str], list[str]]:
    """Return the texts of features and of outputs, of a forecast with short times."""
    inputs = [feature.text for feature in explanation.input]
    outputs = [output.text for output in explanation.output]
    if explanation.unit == "nats":
        return inputs, outputs
    features = enumerate(explanation.input)
    past = {index: feature.text for index, feature in features if feature.part == "history"}
    short = short_times([*past.values(), *outputs])
    for index, text in zip(past, short, strict=False):
        inputs[index] = text
    return inputs, short[len(past) :]


def has_converged(method: MethodResult) -> bool:
    """Return whether the scores of a method sum to about the change that they share out."""
    return method.error is None or method.error <= MOST_ERROR_OF_CONVERGED


def measure_text(value: float | None) -> str:
    """Return a measure whose size is about 1, without the rounding of sums that cancel.

    >>> measure_text(-1.7e-18), measure_text(0.0708), measure_text(None)
    ('0.00', '0.071', '–')
    """
    return number_text(0.0 if value is not None and abs(value) < 0.0005 else value)


def count_with_unit(number: int) -> str:
    """Return a number of parameters, short.

    >>> count_with_unit(12_104_704), count_with_unit(950)
    ('12.1 M', '950')
    """
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)
