"""Which column of a table, or key of a record, holds what.

Names are compared without regard to case, outer spaces, and the difference between space, hyphen
and underscore; the usual synonyms are known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from regard.data.languages import is_language_code

SYNONYMS: dict[str, tuple[str, ...]] = {
    "text": (
        *("text", "review", "sentence", "comment", "message", "tweet", "utterance"),
        *("content", "body", "document"),
    ),
    "label": ("label", "sentiment", "category", "class", "rating", "stars", "intent", "topic"),
    "source": ("source", "src", "source text", "source sentence", "source segment"),
    "target": ("target", "tgt", "trg", "target text", "target sentence", "target segment"),
}
"""Names by what a column holds, the plainest first."""


def fold_name(name: str) -> str:
    """Bring names of columns that mean the same into one form.

    >>> fold_name(" Source_Text "), fold_name("label")
    ('source text', 'label')
    """
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def find_column(names: Sequence[str], wanted: str) -> str | None:
    """Find the column that a name means: exactly so, or folded, or as the only synonym there is.

    >>> find_column(["id", "Review", "Sentiment"], "label")
    'Sentiment'
    """
    if wanted in names:
        return wanted
    folded = [name for name in names if fold_name(name) == fold_name(wanted)]
    if not folded and wanted in SYNONYMS:
        folded = [name for name in names if fold_name(name) in SYNONYMS[wanted]]
    return folded[0] if len(folded) == 1 else None


def find_roles(names: Sequence[str]) -> dict[str, str]:
    """Find which columns hold text, label, source and target.

    Returns:
        Names of columns by what they hold, as in `SYNONYMS`; what none or several hold is left out.
    """
    columns = {role: find_column(names, role) for role in ("text", "label")}
    columns |= dict(zip(("source", "target"), find_pair(names) or (None, None), strict=True))
    return {role: name for role, name in columns.items() if name is not None}


def find_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """Find the columns of source and target: by name, else the only two named for languages."""
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
    """Return English names of languages, folded: those with a code of two letters, from CLDR."""
    from babel import Locale

    languages = Locale("en").languages
    return frozenset(fold_name(name) for code, name in languages.items() if len(code) == 2)
