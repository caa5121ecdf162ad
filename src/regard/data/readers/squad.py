"""The nested JSON of SQuAD: ``data``, ``paragraphs``, ``qas`` (Rajpurkar et al. 2016, 2018).

The second version has ``is_impossible`` at questions without an answer. Cost: one read; the parsed
file is in memory while its questions are collected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from regard.data.dropped_rows import DroppedRow
from regard.data.readers.json_faults import find_half_character
from regard.data.readers.problems import RowProblem
from regard.data.readers.source import DataSource
from regard.data.readers.text_lines import numbered_lines, open_text
from regard.errors import DataError

_SEARCHED = 1 << 16  # bytes in which the outer keys are
_DATA = re.compile(r'"data"\s*:\s*\[\s*(?:\{|$)')


class RawQuestion(NamedTuple):
    """A question as its file has it.

    Args:
        line: 1-based line, or number of the question in a nested file.
        json_path: Path in a nested file; empty in a file with one question a line.
        context: The text.
        question: The question.
        fields: The other fields, such as ``answers``, ``is_impossible`` and ``id``.
    """

    line: int
    json_path: str
    context: str
    question: str
    fields: dict[str, object]

    def refused(self, path: str, reason: str) -> RowProblem:
        """Return the problem of a question, in a file, that cannot be read."""
        line = None if self.json_path else self.line
        return RowProblem(path, line, reason, self.question, json_path=self.json_path)

    def dropped(self, reason: str) -> DroppedRow:
        """Return the entry of a question that was left out."""
        text = self.question or self.context
        return DroppedRow(line=self.line, reason=reason, text=text, json_path=self.json_path)


class _Damage(NamedTuple):
    """What is not as it should be, and its path in the file."""

    json_path: str
    reason: str


def is_squad(source: DataSource, encoding: str = "utf-8") -> bool:
    """Return whether a file begins as the nested JSON of SQuAD does, by its first 64 KiB."""
    if source.is_folder or source.table is not None:
        return False
    try:
        start = source.content[:_SEARCHED].decode(encoding, errors="replace")
    except (LookupError, UnicodeError):  # the reader says which encodings are known
        return False
    start = start.lstrip("\ufeff \t\r\n")
    is_cut = not source.content.rstrip(b" \r\n\t\0").endswith(b"}")
    has_articles = '"paragraphs"' in start or (source.suffix == ".json" and is_cut)
    return has_articles and start.startswith("{") and _DATA.search(start) is not None


def read_squad(
    source: DataSource, encoding: str = "utf-8", *, needs_answers: bool = True
) -> tuple[list[RawQuestion], list[RowProblem]]:
    """Return the questions of a nested file, and what cannot be read, each with its path.

    Args:
        source: The file.
        encoding: Its encoding.
        needs_answers: Whether a question must say its answers, or that it has none.

    Raises:
        DataError: The file is not JSON, or not of this form; with line and column, or the key.
    """
    file = open_text(source, encoding)
    text = "".join(line for _, line in numbered_lines(file))
    if file.problems:
        return [], file.problems
    articles = _list_of(_parse(text, source.path), "data", "")
    if isinstance(articles, _Damage):
        raise DataError(
            f'{source.path}: no list under the key "data".  Expected the JSON of SQuAD: '
            '{"data": [{"paragraphs": [{"context": "...", "qas": [...]}]}]}'
        )
    rows: list[RawQuestion] = []
    for item in _walk(articles, needs_answers=needs_answers):
        if isinstance(item, _Damage):
            file.refuse(None, item.reason, json_path=item.json_path)
        else:
            rows.append(item._replace(line=len(rows) + 1))
    return rows, file.problems


def _parse(text: str, path: str) -> object:
    """Parse JSON; raise DataError with line and column where that fails."""
    if half := find_half_character(text):
        line = text.count("\n", 0, half.start()) + 1
        raise DataError(f"{path}:{line}: not JSON: half of a character ({half[1]}).")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        is_cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        remedy = "  The file ends within an object: cut short?  Copy it again." if is_cut else ""
        raise DataError(
            f"{path}:{error.lineno}: not JSON at column {error.colno:,} ({error.msg}).{remedy}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from error


def _walk(articles: list[object], *, needs_answers: bool) -> Iterator[RawQuestion | _Damage]:
    """Yield each question with its path, or what is not as it should be."""
    for number, article in enumerate(articles):
        json_path = f"data[{number}]"
        paragraphs = _list_of(article, "paragraphs", json_path)
        if isinstance(paragraphs, _Damage):
            yield paragraphs
            continue
        for index, paragraph in enumerate(paragraphs):
            inner = f"{json_path}.paragraphs[{index}]"
            yield from _questions(paragraph, inner, needs_answers=needs_answers)


def _questions(
    paragraph: object, json_path: str, *, needs_answers: bool
) -> Iterator[RawQuestion | _Damage]:
    """Yield the questions of a paragraph, or what is not as it should be."""
    questions, context = _list_of(paragraph, "qas", json_path), _text_of(paragraph, "context")
    if isinstance(questions, _Damage):
        yield questions
    elif context is None:
        yield _Damage(json_path, 'no text under the key "context".')
    else:
        for index, fields in enumerate(questions):
            path = f"{json_path}.qas[{index}]"
            yield _question_of(fields, context, path, needs_answers=needs_answers)


def _question_of(
    fields: object, context: str, json_path: str, *, needs_answers: bool
) -> RawQuestion | _Damage:
    """Return a question on a text, or what is not as it should be."""
    question = _text_of(fields, "question")
    if question is None or not isinstance(fields, dict):
        return _Damage(json_path, 'no text under the key "question".')
    if needs_answers and "answers" not in fields and not fields.get("is_impossible"):
        return _Damage(json_path, f'no key "answers".  Keys seen: {", ".join(fields)}.')
    return RawQuestion(0, json_path, context, question, fields)


def _text_of(value: object, key: str) -> str | None:
    """Return the text under a key of an object; None where there is none."""
    text = value.get(key) if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def _list_of(value: object, key: str, json_path: str) -> list[object] | _Damage:
    """Return the list under a key of an object, or that there is none."""
    items = value.get(key) if isinstance(value, dict) else None
    if isinstance(items, list):
        return items
    return _Damage(json_path, f'no list under the key "{key}".')
