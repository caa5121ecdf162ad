"""Columns of numbers as people write them: missing cells, decimal commas, groups of thousands.

How the numbers of a column are written follows from all of its cells, since ``1,234`` is a decimal
number in one country and a thousand in another. Cost: one pass where the cells are plain numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import filterfalse
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

NumberStyle = Literal["point", "comma", "thousands", "unclear", "dotted"]
"""Decimal point; decimal comma; commas between thousands; commas, or points, that may be either."""

_NO_VALUE = "na nan n/a #n/a <na> nat null none missing - -- – — ? . .. ... : #wert! #value! #nv"
_MISSING = frozenset(["", *_NO_VALUE.split()])
_NUM_SAMPLED = 1000  # cells by which a column is taken for numbers
_LARGEST = 1e30  # squares of larger numbers are not finite in float32
_GROUPED = re.compile(r"[-+]?\d{1,3}([ \u00a0\u202f'’])\d{3}(?:\1\d{3})*(?:[.,]\d+)?")
_GROUP_SPACE = re.compile(r"[ \u00a0\u202f'’]")
_SURE_COMMA = re.compile(  # not 1,234, which may be a thousand
    r"[-+]?(?:0+,\d+|\d*,(?!\d{3}$)\d+|\d{4,},\d+|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,})"
)
_EITHER_POINT = re.compile(r"[-+]?[1-9]\d{0,2}\.\d{3}")
_SURE_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:(?:,\d{3}){2,}(?:\.\d+)?|(?:,\d{3})+\.\d+)")
_EITHER = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_THOUSANDS = re.compile(f"{_EITHER.pattern}|{_SURE_THOUSANDS.pattern}")
_DOTTED = re.compile(r"[-+]?\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})")
_SIGNS = re.compile(r"([-+−]?)([$€£¥₹]?) ?(.*?) ?([%€£¥₹$]?)")
_BOOLEANS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


class CellFault(NamedTuple):
    """A cell that cannot be read.

    Args:
        row: 0-based index of the row.
        reason: Why, a part of a sentence: ``holds no number``.
        remedy: What to do about it; empty if that is clear.
    """

    row: int
    reason: str
    remedy: str = ""


class NumberColumn(NamedTuple):
    """The numbers of a column.

    Args:
        values: float64 ``[rows]``, NaN where a cell is missing or cannot be read.
        faults: Cells that cannot be read.
        style: How the numbers are written.
        sign: Sign of a currency or of percent that all numbers have, and that is left out.
    """

    values: NDArray[np.float64]
    faults: tuple[CellFault, ...]
    style: NumberStyle = "point"
    sign: str = ""


def is_missing(cell: str) -> bool:
    """Return whether a cell marks a missing value.

    >>> is_missing(" NaN "), is_missing(".."), is_missing("0")
    (True, True, False)
    """
    return cell.strip().casefold() in _MISSING


def read_number_column(cells: Sequence[str], style: NumberStyle | None = None) -> NumberColumn:
    """Return the numbers of the cells of a column.

    Args:
        cells: Text of each cell.
        style: How the numbers are written; None to find it.
    """
    cells, sign = _without_sign(cells)
    style = style or find_number_style(cells)
    values = np.full(len(cells), np.nan)
    if style == "point":
        values[:] = list(map(_plain_number, cells))
    faults = []
    for row in np.flatnonzero(np.isnan(values)).tolist():
        if is_missing(cells[row]):
            continue
        number = _number_of(cells[row].strip(), style)
        fault = _find_fault(row, cells[row], number, style)
        if fault is None:
            values[row] = number
        else:
            faults.append(fault)
    return NumberColumn(values, tuple(faults), style, sign)


def _plain_number(cell: str) -> float:
    """Return a number that is written as in Python; NaN for one that needs a closer look."""
    try:
        number = math.nan if "_" in cell else float(cell)  # Python allows _ between digits
    except ValueError:
        return math.nan
    return number if abs(number) <= _LARGEST else math.nan


def read_boolean_column(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """Return 1 for true and 0 for false, NaN for missing; None if another text is in a column."""
    texts = [cell.strip().casefold() for cell in cells]
    if not all(text in _BOOLEANS or is_missing(text) for text in texts):
        return None
    return np.array([_BOOLEANS.get(text, math.nan) for text in texts])


def are_mostly_numbers(cells: Sequence[str]) -> bool:
    """Return whether a column is one of numbers: at least half of the cells that are not missing.

    >>> are_mostly_numbers(["1", "NA", "2,5", "x"]), are_mostly_numbers(["", "x", "1"])
    (True, True)
    >>> are_mostly_numbers(["", "NA"]), are_mostly_numbers(["x", "y", "1"])
    (False, False)
    """
    sample = cells[:: max(1, len(cells) // _NUM_SAMPLED)]
    filled = [cell for cell in sample if not is_missing(cell)]
    filled = filled or [cell for cell in cells if not is_missing(cell)]
    numbers = sum(is_like_a_number(cell) for cell in filled)
    return numbers > 0 and 2 * numbers >= len(filled)


def is_like_a_number(cell: str) -> bool:
    """Return whether a cell is a number in some style, with or without a sign of a currency."""
    cell = _split_sign(cell)[0]
    styles: tuple[NumberStyle, ...] = ("point", "comma", "thousands")
    return any(_number_of(cell.strip(), style) is not None for style in styles)


def find_number_style(cells: Sequence[str]) -> NumberStyle:
    """Return how the numbers of a column are written, by all of its cells.

    >>> find_number_style(["1,5", "2"]), find_number_style(["1,234", "12.5"])
    ('comma', 'thousands')
    >>> find_number_style(["1,234", "2,345"]), find_number_style(["1,234", "999"])
    ('unclear', 'thousands')
    """
    cells, _ = _without_sign(cells)
    texts = [_without_spaces(cell.strip()) for cell in cells if "," in cell or cell.count(".") > 1]
    if any(map(_SURE_COMMA.fullmatch, texts)):
        return "comma"
    if any(map(_SURE_THOUSANDS.fullmatch, texts)):
        return "thousands"
    return _style_by_others(cells) if any(map(_EITHER.fullmatch, texts)) else "point"


def have_points_of_thousands(cells: Sequence[str]) -> bool:
    """Return whether the points of a column may all be between thousands, as in 1.234.

    >>> have_points_of_thousands(["1.234", "12"]), have_points_of_thousands(["1.234", "0.123"])
    (True, False)
    """
    texts = [cell.strip() for cell in _without_sign(cells)[0] if "." in cell]
    texts = [text for text in texts if not is_missing(text)]
    return bool(texts) and all(map(_EITHER_POINT.fullmatch, texts))


def _style_by_others(cells: Sequence[str]) -> NumberStyle:
    """Return what commas as in 1,234 are, by the other numbers: with points, or all below 1000."""
    texts = [cell.strip() for cell in cells if "," not in cell]
    numbers = [text for text in texts if _number_of(text, "point") is not None]
    if not numbers:
        return "unclear"
    is_small = bool(np.abs(list(map(float, numbers))).max() < 1000)
    return "thousands" if is_small or "." in "".join(numbers) else "unclear"


def _split_sign(cell: str) -> tuple[str, str]:
    """Return a cell without the sign of a currency or of percent, and the sign.

    >>> _split_sign("-$5"), _split_sign("5 %"), _split_sign("5")
    (('-5', '$'), ('5', '%'), ('5', ''))
    """
    match = _SIGNS.fullmatch(cell.strip())
    if match is None:
        return cell, ""
    return match[1] + match[3], match[2] or match[4]


def _without_sign(cells: Sequence[str]) -> tuple[Sequence[str], str]:
    """Return cells without a sign that all of them have, and the sign; empty where some lack it."""
    first = next(filterfalse(is_missing, cells), "")
    if not _split_sign(first)[1]:  # the usual case costs nothing
        return cells, ""
    pairs = [_split_sign(cell) for cell in cells]
    signs = {sign for (_, sign), cell in zip(pairs, cells, strict=True) if not is_missing(cell)}
    if len(signs) > 1:
        return cells, ""
    return [text for text, _ in pairs], next(iter(signs))


def _without_spaces(text: str) -> str:
    """Return a number without spaces or apostrophes between thousands, and with an ASCII minus."""
    text = text.replace("−", "-")
    return _GROUP_SPACE.sub("", text) if _GROUPED.fullmatch(text) else text


def _number_of(text: str, style: NumberStyle) -> float | None:
    """Return the number of a cell in a style; None where it is not a number."""
    text = _without_spaces(text)
    if style == "comma":
        is_clear = "." not in text or _DOTTED.fullmatch(text)  # 1.234 may have a decimal point
        text = text.replace(".", "").replace(",", ".") if is_clear else ""
    elif style == "dotted" and _EITHER_POINT.fullmatch(text):
        return None
    elif style == "thousands" and _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    with suppress(ValueError):
        return float(text.replace("_", "?"))  # Python allows _ between digits
    return None


def _find_fault(row: int, cell: str, number: float | None, style: NumberStyle) -> CellFault | None:
    """Return why a cell of a column is not a number; None where it is one."""
    if number is not None:
        is_usual = abs(number) <= _LARGEST
        return None if is_usual else CellFault(row, "is too large, or not finite")
    text = cell.strip()
    match style:
        case "comma" if _number_of(text, "point") is not None:
            return CellFault(
                row, "has a decimal point, others have commas", "Write all in one way."
            )
        case "thousands" if _number_of(text, "comma") is not None:
            reason = "has a decimal comma, others have commas between thousands"
            return CellFault(row, reason, "Write all in one way.")
        case "unclear" if _EITHER.fullmatch(text):
            point, whole = text.replace(",", "."), text.replace(",", "")
            return CellFault(row, f"may be {point} or {whole}", f"Write {point} or {whole}.")
        case "dotted":
            comma, whole = text.replace(".", ","), text.replace(".", "")
            if _EITHER_POINT.fullmatch(text):
                return CellFault(row, f"may be {text} or {whole}", f"Write {comma} or {whole}.")
    return CellFault(row, "holds no number")
