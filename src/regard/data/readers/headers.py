"""Headers of tables: recognized by their names and by the rows below them.

A header whose names are not known is still a header and never a row of data: its names are short
and differ, and the texts or labels below are of another form.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from regard.data.languages import is_language_code
from regard.data.readers.columns import find_pair, find_roles, is_column_name

_NAME = re.compile(r"(?!.{41})[^\W\d](?:[\w .()/-]*[\w)])?")  # of a column: 40 characters at most
_MAX_LABEL_WORDS = 2  # of a label, and of a name of a column that is not known
_MIN_TEXT_ROWS = 5  # rows of texts below a header of two unknown names


def looks_like_header(
    names: Sequence[str], below: Sequence[Sequence[str]], *, is_csv: bool
) -> bool:
    """Return whether names are a header that does not say which columns are source and target.

    Names are short and differ. Usual names of columns are a header: one of them in CSV, all in TSV,
    which has no header as a rule. Below two other names are texts of two words or more each, or
    labels next to texts; below more names are rows of as many cells.
    """
    if {"text", "label"} <= find_roles(names).keys():
        return True
    if len(names) < 2 or len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
        return False
    as_wide = [cells for cells in below if len(cells) == len(names)]
    holds_labels = any(_holds_labels(index, names, below) for index in range(len(names)))
    is_short = all(len(name.split()) <= _MAX_LABEL_WORDS for name in names)
    if len(names) > 2:
        return 2 * len(as_wide) > len(below) and (is_csv or (is_short and holds_labels))
    is_usual = any if is_csv else all
    if is_short and (holds_labels or is_usual(map(is_column_name, names))):
        return True
    if len(as_wide) < _MIN_TEXT_ROWS or any(len(name.split()) > 1 for name in names):
        return False
    return all(len(cell.split()) > 1 for cells in as_wide for cell in cells)


def find_header(names: Sequence[str], *, is_csv: bool) -> tuple[str, str] | None:
    """Return the columns of source and target, if the first record is a header with their names.

    TSV has no header as a rule, and a word list may begin with "so" and "da".
    """
    pair = find_pair(names)
    is_text = pair is not None and not is_csv and all(map(_is_short_word, pair))
    return None if is_text else pair


def _is_short_word(name: str) -> bool:
    """Return whether a code of a language is written as a word is: ``so``, not ``SO``."""
    return name.islower() and name.isalpha() and is_language_code(name)


def advise_columns(names: Sequence[str], below: Sequence[Sequence[str]]) -> str:
    """Return how the columns are named in the settings: those of labelled text, or of pairs."""
    if {"text", "label"} <= find_roles(names).keys():
        return "Texts with labels are for `task=classification`"
    source, target = _longest_columns(names, below)
    label = next((name for name in names if _holds_labels(names.index(name), names, below)), None)
    if label is None:
        return f"Name source and target: `data.columns={shlex.quote(f'{source},{target}')}`"
    text = source if source != label else target
    return (
        f"Texts with labels? `data.columns={shlex.quote(f'{text},{label}')}` "
        f"`task=classification`.  Pairs? `data.columns={shlex.quote(f'{source},{target}')}`"
    )


def _longest_columns(names: Sequence[str], below: Sequence[Sequence[str]]) -> tuple[str, str]:
    """Return the two columns with the longest texts, in their order."""
    widths = [
        sum(len(cells[index]) for cells in below if index < len(cells))
        for index in range(len(names))
    ]
    longest = sorted(range(len(names)), key=lambda index: -widths[index])[:2]
    first, second = sorted(longest)
    return names[first], names[second]


def _holds_labels(index: int, names: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Return whether a column holds a few short values, none of them its name, next to texts."""
    rows = [cells for cells in below if len(cells) == len(names)]
    values = {cells[index].strip() for cells in rows}
    if len(rows) < _MIN_TEXT_ROWS or 2 * len(values) > len(rows) or names[index] in values:
        return False
    is_short = all(len(value.split()) <= _MAX_LABEL_WORDS for value in values)
    others = [max(len(cell.split()) for i, cell in enumerate(row) if i != index) for row in rows]
    return is_short and sum(others) > _MAX_LABEL_WORDS * len(rows)
