"""Headers of tables: recognized by their names and by the rows below them.

A header whose names are not known is still a header and never a row of data: its names are short
and differ, and the texts or labels below are of another form.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import chain, filterfalse

from regard.data.languages import is_language_code
from regard.data.listing import list_first
from regard.data.readers.columns import (
    PAIR_ROLES,
    SUMMARY_ROLES,
    find_pair_or_usual,
    find_roles,
    is_column_name,
)
from regard.data.readers.number_columns import is_like_a_number, is_missing

_NAME = re.compile(r"(?!.{41})[^\W\d](?:[\w .()/-]*[\w)])?")  # of a column: 40 characters at most
_MAX_LABEL_WORDS = 2  # of a label, and of a name of a column that is not known
_MIN_TEXT_ROWS = 5  # rows of texts below a header of two unknown names
_FLAGS = ({"0", "1"}, {"0.0", "1.0"}, {"false", "true"})
_LICENSE = re.compile(r"CC[- ](?:BY|0)|CC0|Public Domain", re.IGNORECASE)
_NUM_NAMED = 3  # columns of 0 and 1 in a message
_TASKS = {  # by the roles of columns that are for it alone
    ("text", "label"): "Texts with labels are for `task=classification`",
    SUMMARY_ROLES: "Documents with summaries are for `task=summarization`",
}


def looks_like_header(
    names: Sequence[str], below: Sequence[Sequence[str]], *, is_csv: bool
) -> bool:
    """Return whether names are a header that does not say which columns are read.

    Names are short and differ. Usual names of columns are a header: one of them in CSV, all in TSV,
    which has no header as a rule. Below two other names are texts of two words or more each, or
    labels next to texts; below more names are rows of as many cells.
    """
    if _advice_for_roles(names):
        return True
    if not _are_names(names):
        return False
    if len(names) == 2:
        return _is_above_two_columns(names, below, is_csv=is_csv)
    has_rows = 2 * len(_rows_below(names, below)) > len(below)
    return has_rows and (is_csv or _is_above_labels(names, below))


def are_names_of_columns(
    names: Sequence[str], below: Sequence[Sequence[str]], *, is_csv: bool
) -> bool:
    """Return whether a first row is a header, of texts or of numbers, by the rows below it."""
    if looks_like_header(names, below, is_csv=is_csv) or find_header(names, is_csv=is_csv):
        return True
    has_roles = not {"text", "label"}.isdisjoint(find_roles(names))
    are_above_numbers = hold_only_numbers(below) and not hold_only_numbers([names])
    return bool(names) and (has_roles or are_above_numbers)


def _are_names(names: Sequence[str]) -> bool:
    """Return whether there are several names that differ, each in the form of a name.

    The index of pandas, which is the first column, has none.
    """
    names = names if names[0] else names[1:]
    return 1 < len(names) == len(set(names)) and all(map(_NAME.fullmatch, names))


def _is_above_two_columns(
    names: Sequence[str], below: Sequence[Sequence[str]], *, is_csv: bool
) -> bool:
    """Return whether two names are a header: usual names, or above labels or long texts."""
    are_usual = any if is_csv else all
    longest = max(map(_num_words, names))
    if longest <= _MAX_LABEL_WORDS and are_usual(map(is_column_name, names)):
        return True
    has_texts = longest == 1 and _are_texts(_rows_below(names, below))
    return has_texts or _is_above_labels(names, below)


def _is_above_labels(names: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Return whether names have few words, and a column below them holds labels."""
    is_short = max(map(_num_words, names)) <= _MAX_LABEL_WORDS
    return is_short and find_label(names, below) is not None


def _rows_below(names: Sequence[str], below: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return the rows with as many cells as there are names."""
    return [cells for cells in below if len(cells) == len(names)]


def _are_texts(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether there are enough rows, and every cell has two words or more."""
    return len(rows) >= _MIN_TEXT_ROWS and min(map(_num_words, chain(*rows))) > 1


def find_header(
    names: Sequence[str], *, is_csv: bool, roles: tuple[str, str] = PAIR_ROLES
) -> tuple[str, str] | None:
    """Return the columns of two roles, if the first record is a header with their names.

    TSV has no header as a rule, and a word list may begin with "so" and "da".
    """
    pair = find_pair_or_usual(names, roles)
    is_text = pair is not None and not is_csv and all(map(_is_short_word, pair))
    return None if is_text else pair


def _is_short_word(name: str) -> bool:
    """Return whether a code of a language is written as a word is: ``so``, not ``SO``."""
    return name.islower() and name.isalpha() and is_language_code(name)


def advise_columns(
    names: Sequence[str],
    below: Sequence[Sequence[str]],
    roles: tuple[str, str] = PAIR_ROLES,
) -> str:
    """Return how the columns of two roles, or of labelled text, are named in the settings."""
    if advice := _advice_for_roles(names) or advise_flags(names, below):
        return advice
    longest = _longest_columns(names, below)
    pair, label = f"`data.columns={shlex.quote(','.join(longest))}`", find_label(names, below)
    has_text = "text" in names
    if roles == SUMMARY_ROLES or (label is None and not has_text):
        return f"Name {' and '.join(roles)}: {pair}"
    advice = [
        _advise_label(names, below, label),
        f"Pairs? {pair}" * (not has_text or _may_be_pair(names, below, longest, label)),
        "Running text? `task=language-modeling`" * has_text,
    ]
    return "  ".join(filter(None, advice))


def advise_labels(names: Sequence[str], below: Sequence[Sequence[str]]) -> str:
    """Return how text and label are named in the settings, where their columns are not found.

    Columns of a table without a header are named by their numbers. It is empty where no column
    holds labels.
    """
    numbers = [str(1 + index) for index in range(len(names))]
    for header, rows in ((names, below), (numbers, [names, *below])):
        label = find_label(header, rows)
        if advice := advise_flags(header, rows) or _advise_label(header, rows, label):
            return advice
    return ""


def advise_flags(names: Sequence[str], below: Sequence[Sequence[str]]) -> str:
    """Return what to do about labels with a column each, of 0 and 1; empty where there are none."""
    flags = _find_flags(names, below)
    if not flags:
        return ""
    listed = list_first(flags, _NUM_NAMED)
    columns = shlex.quote(",".join([_longest_column(names, below, flags), *flags]))
    return (
        f"Labels in columns of their own, 0 and 1 ({listed})?  For a classifier that gives a text "
        f"any number of them: `data.columns={columns}` `task=classification`"
    )


def _find_flags(names: Sequence[str], below: Sequence[Sequence[str]]) -> list[str]:
    """Return the columns of nothing but 0 and 1 next to texts: labels in a column each.

    One is not enough, nor are columns that are all 0.
    """
    rows = _rows_below(names, below)
    if len(rows) < _MIN_TEXT_ROWS:
        return []
    values = {name: {cells[i].strip().lower() for cells in rows} for i, name in enumerate(names)}
    if len(values) < len(names):  # a row, not names
        return []
    flags = [name for name in names if any(values[name] <= form for form in _FLAGS)]
    num_set = sum(len(values[name]) > 1 for name in flags)
    num_words = [max(map(_num_words, cells), default=0) for cells in rows]
    has_texts = sum(num_words) > _MAX_LABEL_WORDS * len(rows)
    return flags if num_set > 1 and has_texts else []


def _advise_label(names: Sequence[str], below: Sequence[Sequence[str]], label: str | None) -> str:
    """Return how texts with labels are named; empty without a column of labels."""
    if label is None:
        return ""
    columns = shlex.quote(f"{_longest_column(names, below, [label])},{label}")
    return f"Texts with labels? `data.columns={columns}` `task=classification`."


def _may_be_pair(
    names: Sequence[str],
    below: Sequence[Sequence[str]],
    columns: Sequence[str],
    label: str | None,
) -> bool:
    """Return whether two columns may be translations: neither holds labels or numbers alone."""
    indices = [names.index(column) for column in columns]
    rows = ([cells[i : i + 1] for cells in below] for i in indices)
    return label is None and not any(map(hold_only_numbers, rows))


def hold_only_numbers(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether rows have numbers in all cells that are not empty, and there are some."""
    filled = list(filterfalse(is_missing, chain(*rows)))
    return bool(filled) and all(map(is_like_a_number, filled))


def advise_numbers(names: Sequence[str]) -> str:
    """Return what numbers are read as when their columns are named; without names there is none."""
    if not names:
        return (
            "Name the columns in a first line: time,value for a series, label next to numbers for "
            "rows to classify, source,target for pairs."
        )
    if len(names) == 1:
        return f"A series? Add a column of times, dates or 1, 2, 3: time,{names[0]}."
    if not names[0]:
        return f"A series?  Name its times in the first line: {','.join(['time', *names[1:3]])}"
    columns = shlex.quote(",".join(names[:2]))
    return (
        f"A series? Name its times and values: `data.columns={columns}` `task=forecasting`.  "
        "Rows with labels? `data.columns=LABEL` `task=series-classification`.  Pairs? Call the "
        "columns source and target."
    )


def _advice_for_roles(names: Sequence[str]) -> str:
    """Return which task has the roles of some columns; empty where none of `_TASKS` has."""
    roles = find_roles(names).keys()
    return next((advice for task, advice in _TASKS.items() if roles >= {*task}), "")


def _longest_columns(names: Sequence[str], below: Sequence[Sequence[str]]) -> tuple[str, str]:
    """Return the two columns with the longest texts, in their order."""
    first, second = sorted(_by_length(names, below)[:2])
    return names[first], names[second]


def _longest_column(
    names: Sequence[str], below: Sequence[Sequence[str]], excluded: Sequence[str]
) -> str:
    """Return the column with the longest texts of those that are not excluded."""
    columns = [names[index] for index in _by_length(names, below)]
    return next(name for name in columns if name not in excluded)


def _by_length(names: Sequence[str], below: Sequence[Sequence[str]]) -> list[int]:
    """Return the indices of columns, those with the longest texts first."""
    columns = [[cells[i] for cells in below if i < len(cells)] for i in range(len(names))]
    widths = [sum(map(len, column)) for column in columns]
    # The index of pandas has no name, by which it could be read.
    return sorted(
        range(len(names)), key=lambda i: (not names[i], _are_licenses(columns[i]), -widths[i])
    )


def _are_licenses(cells: Sequence[str]) -> bool:
    """Return whether a column says who wrote the texts and under which license, as Tatoeba's."""
    filled = list(filter(None, cells))
    return bool(filled) and all(map(_LICENSE.match, filled))


def find_label(names: Sequence[str], below: Sequence[Sequence[str]]) -> str | None:
    """Return the first column of a few short values, without its own name, next to texts.

    One value counts where no column has several: rows may be sorted by their labels.
    """
    rows = _rows_below(names, below)
    if len(rows) < _MIN_TEXT_ROWS:
        return None
    indices = [i for i, name in enumerate(names) if _holds_labels(i, name, rows)]
    several = [i for i in indices if len({cells[i] for cells in rows}) > 1]
    return next((names[i] for i in [*several, *indices]), None)


def _holds_labels(index: int, name: str, rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a column of rows has a few short values, and texts are next to it."""
    values = {cells[index].strip() for cells in rows}
    is_row = name in values and not name.isdecimal()  # which may be the number of a column
    if 2 * len(values) > len(rows) or is_row or values == {""}:
        return False
    texts = ([*row[:index], *row[index + 1 :]] for row in rows)
    num_words = sum(max(map(_num_words, cells), default=0) for cells in texts)
    longest = max(map(_num_words, values))
    return longest <= _MAX_LABEL_WORDS < num_words / len(rows)


def _num_words(text: str) -> int:
    return len(text.split())
