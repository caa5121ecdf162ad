"""Columns of a table, or keys of a record, by what they hold.

Names are compared without case and outer spaces; spaces, hyphens and underscores are equal. A
column may have one of the usual synonyms as its name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from regard.data.languages import english_names, is_language_code

SYNONYMS: dict[str, tuple[str, ...]] = {
    "text": (
        *("text", "review", "sentence", "comment", "message", "tweet", "utterance"),
        *("content", "body", "document"),
    ),
    "label": ("label", "sentiment", "category", "class", "rating", "stars", "intent", "topic"),
    "source": ("source", "src", "source text", "source sentence", "source segment"),
    "target": ("target", "tgt", "trg", "target text", "target sentence", "target segment"),
}
"""Names of columns by what they hold."""


def fold_name(name: str) -> str:
    """Return one form for the names of columns that mean the same.

    >>> fold_name(" Source_Text "), fold_name("label")
    ('source text', 'label')
    """
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def find_column(names: Sequence[str], column: str) -> str | None:
    """Return the name that is a column's: the same, or the same when folded, or its only synonym.

    >>> find_column(["id", "Review", "Sentiment"], "label")
    'Sentiment'
    """
    if column in names:
        return column
    matches = [name for name in names if fold_name(name) == fold_name(column)]
    if not matches and column in SYNONYMS:
        matches = [name for name in names if fold_name(name) in SYNONYMS[column]]
    return matches[0] if len(matches) == 1 else None


def find_roles(names: Sequence[str]) -> dict[str, str]:
    """Return the names of columns by what they hold, with the keys of `SYNONYMS`.

    Keys without a column, or with several, are left out.
    """
    columns = {role: find_column(names, role) for role in ("text", "label")}
    columns |= dict(zip(("source", "target"), find_pair(names) or (None, None), strict=True))
    return {role: name for role, name in columns.items() if name is not None}


def find_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the columns of source and target: by name, else the only two named for languages."""
    source, target = (find_column(names, role) for role in ("source", "target"))
    if source is not None and target is not None:
        return source, target
    codes = [name for name in names if is_language_code(name)]
    if len(codes) > 2:  # then "id" is a number, not Indonesian
        codes = [name for name in codes if fold_name(name) != "id"]
    if len(codes) != 2:
        codes = [name for name in names if fold_name(name) in _language_names()]
    return (codes[0], codes[1]) if len(codes) == 2 else None


@cache
def _language_names() -> frozenset[str]:
    """Return the English names of languages, folded."""
    return frozenset(map(fold_name, english_names().values()))
