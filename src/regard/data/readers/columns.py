"""Columns of a table, or keys of a record, by what they hold.

Names are compared without case and outer spaces; spaces, hyphens and underscores are equal. A
column may have one of the usual synonyms as its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import chain

from regard.data.languages import is_language_code, language_names
from regard.data.listing import list_first
from regard.data.question_rows import QUESTION_COLUMNS
from regard.errors import did_you_mean

_NUM_NAMED = 10  # columns in a message
_NAME_CHARS = 40  # of a column; a file without a header has sentences as names

SYNONYMS: dict[str, tuple[str, ...]] = {
    "text": (
        *("text", "review", "sentence", "comment", "message", "tweet", "utterance"),
        *("content", "body", "document"),
    ),
    "label": (
        "label",
        "labels",
        "sentiment",
        "category",
        "class",
        "rating",
        "stars",
        "intent",
        "topic",
    ),
    "source": ("source", "src", "source text", "source sentence", "source segment"),
    "target": ("target", "tgt", "trg", "target text", "target sentence", "target segment"),
    "document": ("document", "article", "dialogue", "dialog", "report"),
    "summary": ("summary", "highlights", "synopsis", "tldr", "tl;dr"),
    "context": ("context", "passage", "paragraph"),
    "question": ("question",),
    "answers": ("answers", "answer"),
}
"""Names of columns by what they hold."""

LESS_COMMON: dict[str, tuple[str, ...]] = {
    "text": (
        *("headline", "title", "description", "question", "query", "email", "sms", "post"),
        *("feedback", "phrase", "article", "news", "review text", "comment text"),
    ),
    "label": (
        *("genre", "section", "emotion", "polarity", "tag", "type", "label text", "label name"),
        *("class name", "class label", "star rating"),
        *("tags", "genres", "topics", "categories", "emotions", "label names"),
    ),
    "source": ("original", "original text", "source language"),
    "target": ("translation", "translated text", "target language"),
    "document": ("text", "content", "body", "transcript", "story", "email body", "passage"),
    "summary": ("abstract",),
}
"""Names that count where no column has one of `SYNONYMS`."""

PAIR_ROLES = ("source", "target")
"""The two roles of sentence pairs."""
SUMMARY_ROLES = ("document", "summary")
"""The two roles of documents with summaries."""
_MAX_NAME_LENGTH = 200  # characters; what is longer is a text, which may have millions
_NAMING = ("de", "fr", "es", "it", "pt", "nl", "pl", "cs", "sv", "tr", "ru", "uk", "ja", "zh")
_QUALIFIER = re.compile(r" ?\([^()]*\)$| (?:text|sentence|segment|string)s?$|^(?:text|sentence) ")


def fold_name(name: str) -> str:
    """Return one form for the names of columns that mean the same; a long text stays as it is.

    A header that begins with ``#``, as NumPy writes it, has it before its first name.

    >>> fold_name(" Source_Text "), fold_name("# label")
    ('source text', 'label')
    """
    if len(name) > _MAX_NAME_LENGTH:
        return name
    return re.sub(r"[\s_-]+", " ", name.strip().removeprefix("#").strip().casefold())


def find_column(names: Sequence[str], column: str) -> str | None:
    """Return the name that is a column's: the same, or the same when folded, or its only synonym.

    A synonym of `LESS_COMMON` counts where no name is one of `SYNONYMS`.

    >>> find_column(["id", "Review", "Sentiment"], "label")
    'Sentiment'
    """
    if column in names:
        return column
    folded = list(map(fold_name, names))
    for accepted in ((fold_name(column),), SYNONYMS.get(column, ()), LESS_COMMON.get(column, ())):
        matches = [name for name, form in zip(names, folded, strict=True) if form in accepted]
        if matches:
            return matches[0] if len(matches) == 1 else None
    return None


def find_columns(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the name of each of some columns; a column without one keeps its own.

    >>> find_columns(["label", "shade"], ["id", "Sentiment"])
    ['Sentiment', 'shade']
    """
    return [find_column(names, column) or column for column in columns]


def describe_missing(noun: str, name: str, names: Sequence[str]) -> str:
    """Return in words that a column or key is missing, with those that there are.

    >>> describe_missing("column", "sumary", ["document", "summary"])
    'no column "sumary".  Did you mean summary?  Columns seen: document, summary.'
    """
    cut = [name if len(name) <= _NAME_CHARS else f"{name[:_NAME_CHARS]}…" for name in names]
    seen = list_first(cut, _NUM_NAMED) or "none"
    return f'no {noun} "{name}".{did_you_mean(name, names)}  {noun.capitalize()}s seen: {seen}.'


def find_roles(names: Sequence[str], *, is_table: bool = True) -> dict[str, str]:
    """Return the names of columns by what they hold, with the keys of `SYNONYMS`.

    Keys without a column, or with several, are left out, and context, question and answers, too,
    unless there are the first two. Records often have a text and fields that describe it, such as a
    type: there (`is_table` is false) a label has one of `SYNONYMS`. Next to a text with a label, a
    summary is one more field, unless the text is named as what is summarized.
    """
    columns = {
        role: name for role in ("text", "label") if (name := find_column(names, role)) is not None
    }
    if not is_table and fold_name(columns.get("label", "")) in LESS_COMMON["label"]:
        del columns["label"]
    columns_of = {
        PAIR_ROLES: find_pair(names),
        SUMMARY_ROLES: _find_summaries(names, has_label="label" in columns),
        QUESTION_COLUMNS: _find_questions(names),
    }
    for roles, columns_read in columns_of.items():
        columns |= dict(zip(roles, columns_read or (), strict=False))
    return columns


def _find_summaries(names: Sequence[str], *, has_label: bool) -> tuple[str, str] | None:
    """Return the columns of documents and summaries where their names are usual for that."""
    pair = find_pair(names, SUMMARY_ROLES)
    if pair is None:
        return None
    is_document, is_summary = (
        fold_name(name) in SYNONYMS[role] for role, name in zip(SUMMARY_ROLES, pair, strict=True)
    )
    return pair if is_document or (is_summary and not has_label) else None


def _find_questions(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the columns of context, question and, if there is one, answers."""
    context, question, answers = (find_column(names, role) for role in QUESTION_COLUMNS)
    if context is None or question is None:
        return None
    return (context, question) if answers is None else (context, question, answers)


def find_pair(names: Sequence[str], roles: tuple[str, str] = PAIR_ROLES) -> tuple[str, str] | None:
    """Return the columns of two roles by their names.

    Source and target are else the only two columns that are named for languages.
    """
    first, second = (find_column(names, role) for role in roles)
    if first is not None and second is not None:
        return first, second
    return _find_languages(names) if roles == PAIR_ROLES else None


def _find_languages(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the only two columns that are named for languages in one way, which differ."""
    codes = list(filter(is_language_code, names))
    if len(codes) > 2:  # then "id" is a number, not Indonesian
        codes = [name for name in codes if fold_name(name) != "id"]
    tests = (_is_language, _is_qualified_language, _is_language_elsewhere)
    for languages in chain([codes], (list(filter(test, names)) for test in tests)):
        if len(languages) == 2 and fold_name(languages[0]) != fold_name(languages[1]):
            return languages[0], languages[1]
    return None


def find_pair_or_usual(names: Sequence[str], roles: tuple[str, str]) -> tuple[str, str] | None:
    """Return the columns of two roles, else those of source and target.

    >>> find_pair_or_usual(["source", "target"], SUMMARY_ROLES)
    ('source', 'target')
    """
    return find_pair(names, roles) or find_pair(names)


def pair_finder(
    columns: tuple[str, str] | None, roles: tuple[str, str]
) -> Callable[[list[str]], Sequence[str] | None]:
    """Return what finds the two keys of an object: as set, else by what they hold."""
    return partial(find_columns, columns) if columns else partial(find_pair_or_usual, roles=roles)


def is_column_name(name: str) -> bool:
    """Return whether a text is one of the usual names of columns of texts, labels and pairs.

    >>> is_column_name("Review"), is_column_name("Good morning")
    (True, False)
    """
    folded = fold_name(name)
    return any(
        folded in synonyms[role]
        for synonyms in (SYNONYMS, LESS_COMMON)
        for role in ("text", "label", *PAIR_ROLES)
    )


def language_of_column(name: str) -> str | None:
    """Return the code of the language that a column is named for; None for another name.

    >>> [language_of_column(name) for name in ("pt-BR", "German", "text_en", "Englisch", "source")]
    ['pt', 'de', 'en', 'en', None]
    """
    folded = fold_name(name)
    stem = _QUALIFIER.sub("", folded)
    for text in (name.strip(), stem):
        if is_language_code(text):
            return re.split("[-_]", text.lower())[0]
    codes = (_language_names(language).get(stem) for language in ("en", *_NAMING))
    return next(filter(None, codes), None)


def _is_language(name: str) -> bool:
    """Return whether a name is that of a language in English."""
    return fold_name(name) in _language_names("en")


def _is_qualified_language(name: str) -> bool:
    """Return whether a name is a language or its code with more: ``English (US)``, ``text_en``."""
    stem = _QUALIFIER.sub("", fold_name(name))
    return stem in _language_names("en") or (stem != fold_name(name) and is_language_code(stem))


def _is_language_elsewhere(name: str) -> bool:
    """Return whether a name is that of a language in one of some other languages."""
    folded = fold_name(name)
    return " " not in folded and any(folded in _language_names(code) for code in _NAMING)


@cache
def _language_names(language: str) -> dict[str, str]:
    """Return the codes of languages by their names in a language, folded."""
    return {fold_name(name): code for code, name in language_names(language).items()}
