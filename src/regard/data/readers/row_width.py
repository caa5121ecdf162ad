"""Rows that have more or fewer cells than their table has columns, and what to do about them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from regard.data.languages import is_language_code
from regard.data.listing import spell_number
from regard.data.readers.number_columns import is_like_a_number
from regard.data.readers.table_format import name_of
from regard.data.readers.text_lines import fixed_name


def describe_width(num_cells: int, num_columns: int) -> str:
    """Return that a row has another number of columns than its table.

    >>> describe_width(1, 2)
    'one column, two expected.'
    """
    noun = "column" if num_cells == 1 else "columns"
    return f"{spell_number(num_cells)} {noun}, {spell_number(num_columns)} expected."


def advise_width(name: str, cells: Sequence[str], num_columns: int, separator: str) -> str:
    """Return what to do about a row that has another number of cells than there are columns."""
    if len(cells) < num_columns:
        return f"Separated by spaces? Use a {name_of(separator)}."
    if separator == "\t":
        return _advise_cut(name, cells)
    return _advise_wide_row(name, cells, num_columns, separator)


def _advise_cut(name: str, cells: Sequence[str]) -> str:
    """Return the command that keeps two columns of TSV: the first that are no numbers or codes.

    >>> _advise_cut("a.tsv", ["17", "Good morning", "18", "Guten Morgen"])
    'Keep two of them: cut -f2,4 a.tsv > fixed.tsv'
    """
    texts = [n for n, cell in enumerate(cells, start=1) if not is_like_a_number(cell)]
    long = [n for n in texts if not is_language_code(cells[n - 1].strip())]
    first, second, *_ = long if len(long) > 1 else texts if len(texts) > 1 else (1, 2)
    return f"Keep two of them: cut -f{first},{second} {shlex.quote(name)} > {fixed_name(name)}"


def _advise_wide_row(name: str, cells: Sequence[str], num_columns: int, separator: str) -> str:
    """Return what to do about a row of CSV that has more cells than there are columns."""
    if len(cells) == 1 + num_columns and not cells[-1].strip():
        end = shlex.quote(f"s/{separator}\\r*$//")
        command = f"sed {end} {shlex.quote(name)} > {fixed_name(name)}"
        return f"Drop the {name_of(separator)} at the end: {command}"
    if f'{separator} "' in separator.join(cells):
        return f"No space between a {name_of(separator)} and a quote."
    return f'A {name_of(separator)} within a text? Put the text in quotes: "..."'
