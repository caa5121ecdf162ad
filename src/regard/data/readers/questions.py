"""Questions on texts: SQuAD's nested JSON, JSONL, and CSV or TSV with a header.

An answer is a text, with or without the character at which it begins. Where it is not there, the
nearest occurrence of the text is taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import permutations, starmap
from typing import NamedTuple, TypeGuard

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.question_rows import NOT_FOUND, QUESTION_COLUMNS, Questions, find_answer
from regard.data.readers.annotation_marks import find_marks, keep_row
from regard.data.readers.columns import describe_missing, find_columns
from regard.data.readers.json_lines import read_objects
from regard.data.readers.json_lists import holds_objects
from regard.data.readers.printed_values import parse_printed
from regard.data.readers.problems import RowProblem, require_readable
from regard.data.readers.read_as import ReadAs
from regard.data.readers.source import DataSource, SourceLike, as_path, as_source
from regard.data.readers.squad import RawQuestion, is_squad, read_squad
from regard.data.readers.table_inspection import inspect_records
from regard.data.readers.tables import read_records
from regard.data.readers.text_lines import open_text
from regard.errors import DataError

_CONTENTS = "questions on texts"
_ORDER = "The columns are those of context, question and answers, in this order."
_OPTIONAL = ("answer_start", "is_impossible", "id")
_LONGEST_VALUE = 40  # characters of a wrong value that a message repeats
_UNKNOWN = ("nan", "none", "null", "na", "n/a")
_TRUE = ("true", "1", "1.0", "yes", "t", "y")
_FALSE = ("false", "0", "0.0", "no", "f", "n", "", *_UNKNOWN)


class ReadQuestions(NamedTuple):
    """The questions of a file.

    Args:
        questions: Those with a text and a question.
        dropped: The others.
        notes: What was done about answers that are elsewhere than the file says, in sentences.
    """

    questions: Questions
    dropped: list[DroppedRow]
    notes: list[str]


def read_questions(
    data: SourceLike, *, encoding: str = "utf-8", columns: Sequence[str] = QUESTION_COLUMNS
) -> ReadQuestions:
    """Return the questions of a file, with their answers found in the texts.

    Args:
        data: SQuAD's JSON, JSONL, or CSV or TSV with a header; ``-`` is standard input.
        encoding: Encoding of the file.
        columns: Names of the columns, or keys, of text, question and answers; they may have
            synonyms. SQuAD's JSON has fixed keys.

    Raises:
        DataError: The file is missing, empty, or has rows that cannot be read.
    """
    source = as_source(data)
    dropped: list[DroppedRow] = []
    rows, problems = _read(source, encoding, columns, rejected=dropped)
    questions = Questions.empty(as_path(data))
    num_moved = 0
    for row in rows:
        try:
            answers = _answers(row.fields)
        except DataError as error:
            problems.append(row.refused(source.path, str(error)))
            continue
        if reason := _reason_to_drop(row):
            dropped.append(row.dropped(reason))
            continue
        texts, starts, num_elsewhere = _locate(row.context, answers)
        num_moved += num_elsewhere
        questions.contexts.append(row.context)
        questions.questions.append(row.question.strip())
        questions.answers.append(texts)
        questions.starts.append(starts)
        questions.ids.append(_id_of(row.fields))
        questions.lines.append(row.line)
        questions.json_paths.append(row.json_path)
    require_readable(problems)
    if not questions:
        reasons = ", ".join(count_reasons(dropped))
        cause = f"no usable question ({reasons})." if dropped else "the file has no questions."
        raise DataError(f"{questions.path}: {cause}  Expected rows with {', '.join(columns)}.")
    return ReadQuestions(questions, dropped, _notes(num_moved))


def _locate(
    context: str, answers: Sequence[tuple[str, int | None]]
) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """Return the texts of answers, where they begin, and how many are not where they should be."""
    texts = tuple(text for text, _ in answers)
    starts = tuple(find_answer(context, text, start) for text, start in answers)
    num_moved = sum(
        start is not None and nearest not in (start, NOT_FOUND)
        for (_, start), nearest in zip(answers, starts, strict=True)
    )
    return texts, starts, num_moved


def _parse_start(value: object) -> object:
    """Return a start, as a number where it is the text of one; None where it is unknown."""
    if isinstance(value, str):
        if value.strip().lower() in ("", *_UNKNOWN):
            return None
        with suppress(ValueError):
            value = float(value)
    is_nan = isinstance(value, float) and math.isnan(value)
    return None if is_nan else value


def _is_whole(number: object) -> TypeGuard[int | float]:
    """Return whether a value is a number without a fraction; a truth value is none."""
    return type(number) is int or (isinstance(number, float) and number.is_integer())


def _is_true(value: object, key: str) -> bool:
    """Return whether a field is true, which may be written as a number or a text.

    Raises:
        DataError: It is another value than true or false.
    """
    text = str(value).strip().lower()
    if text not in _TRUE and text not in _FALSE:
        raise DataError(f"{key}={value!r} is neither true nor false.")
    return text in _TRUE


def read_asked(data: SourceLike, *, encoding: str = "utf-8") -> Iterator[tuple[int, str, str, str]]:
    """Read line, question, context and id of the questions of a file; answers are not needed.

    Args:
        data: As for `read_questions`.
        encoding: Encoding of the file.

    Returns:
        An iterator over these four of each question, in the order of the file.

    Raises:
        DataError: The file is missing, empty, or has rows that cannot be read; before the first.
    """
    source = as_source(data)
    rows, problems = _read(source, encoding, QUESTION_COLUMNS[:2], rejected=None)
    require_readable(problems)
    if not rows:
        raise DataError(f"{source.path}: the file has no questions.")
    return ((row.line, row.question, row.context, _id_of(row.fields)) for row in rows)


def inspect_questions(
    source: DataSource, *, encoding: str = "utf-8", columns: Sequence[str] = QUESTION_COLUMNS
) -> ReadAs:
    """Return what `read_questions` reads a file as."""
    if is_squad(source, encoding):
        return ReadAs.of(_CONTENTS, notes=["SQuAD's JSON"])
    read_as = inspect_records(source, columns, _CONTENTS, encoding=encoding)
    used = [name for name in map(read_as.unused_name, _OPTIONAL) if name is not None]
    if not used:
        return read_as
    unused = [name for name in read_as.unused if name not in used]
    return ReadAs.of(_CONTENTS, [*read_as.columns, *used], unused, read_as.notes)


def _read(
    source: DataSource,
    encoding: str,
    columns: Sequence[str],
    *,
    rejected: list[DroppedRow] | None,
) -> tuple[list[RawQuestion], list[RowProblem]]:
    """Return the rows of a file in whichever format, and what cannot be read.

    `rejected` receives the rows that their annotators rejected; None keeps them.
    """
    if not source.is_folder and not source.content.strip():
        return [], []
    if is_squad(source, encoding):
        return read_squad(source, encoding, needs_answers=len(columns) > 2)
    if holds_objects(open_text(source, encoding), source.suffix):
        return _read_objects(source, encoding, columns, rejected)
    return list(_table_rows(source, encoding, columns, rejected)), []


def _read_objects(
    source: DataSource, encoding: str, columns: Sequence[str], rejected: list[DroppedRow] | None
) -> tuple[list[RawQuestion], list[RowProblem]]:
    """Return the questions of JSONL, and what cannot be read: the first line of another file."""
    file = open_text(source, encoding)
    rows: list[RawQuestion] = []
    for line, fields in read_objects(file):
        names = find_columns(columns, list(fields))
        problem = _problem_of(fields, names, "key" if file.table is None else "column")
        if problem is not None and columns not in (QUESTION_COLUMNS, QUESTION_COLUMNS[:2]):
            problem += f"  {_ORDER}"
        if problem is None:
            context, question, *answers = (fields[name] for name in names)
            marks = {name: fields[name] for name in find_marks(fields, names)}
            if keep_row(line, str(question), marks, rejected):
                fields |= dict(zip(["answers"], answers, strict=False))
                rows.append(RawQuestion(line, "", str(context), str(question), fields))
            continue
        file.refuse(line, problem)
        if not rows and len(file.problems) == 1:  # a file of another kind
            break
    return rows, file.problems


def describe_swapped(questions: Questions, columns: Sequence[str]) -> str:
    """Return the order of columns in which most answers are in their texts; empty if there is none.

    Args:
        questions: As they were read, none with an answer in its text.
        columns: Columns of text, question and answers, as they were named.
    """
    rows = [
        (context, question, answers[0])
        for context, question, answers in zip(
            questions.contexts, questions.questions, questions.answers, strict=True
        )
        if answers
    ]

    def num_found(order: tuple[int, ...]) -> int:
        text, _, answer = order
        return sum(len(row[answer]) < len(row[text]) and row[answer] in row[text] for row in rows)

    best = max(permutations(range(len(QUESTION_COLUMNS))), key=num_found)
    if not rows or 2 * num_found(best) < len(rows):
        return ""
    names = ",".join(columns[index] for index in best)
    return f"  The columns look swapped: the answers are in other texts.  `data.columns={names}`"


def _problem_of(fields: dict[str, object], names: Sequence[str], noun: str) -> str | None:
    """Return why an object is not a question on a text; None if it is."""
    missing = [name for name in names if name not in fields]
    if missing:
        return describe_missing(noun, missing[0], list(fields))
    wrong = [name for name in names[:2] if not isinstance(fields[name], str)]
    return f'"{wrong[0]}" is not a text.' if wrong else None


def _table_rows(
    source: DataSource, encoding: str, columns: Sequence[str], rejected: list[DroppedRow] | None
) -> Iterator[RawQuestion]:
    """Yield the rows of CSV or TSV; an empty cell of answers is a question without one."""
    read_as = inspect_records(source, columns, _CONTENTS, encoding=encoding)
    optional = {name: column for name in _OPTIONAL if (column := read_as.unused_name(name))}
    names = [*columns, *optional.values()]
    records = read_records(source, names, encoding=encoding, rejected=rejected)
    for line, (context, question, *cells) in records:
        names = ["answers"] * (len(columns) - 2) + list(optional)
        fields: dict[str, object] = dict(zip(names, cells, strict=True))
        fields["answers"] = _parse_cell(str(fields.get("answers", "")), context)
        start = str(fields.get("answer_start", ""))
        if start.lstrip().startswith("["):
            fields["answer_start"] = parse_printed(start)
        yield RawQuestion(line, "", context, question, fields)


def _parse_cell(cell: str, context: str) -> object:
    """Return the texts or the object that a cell holds, as JSON, Python or NumPy print it.

    Any other cell is a text, also one that is part of the context, such as ``[5]``.
    """
    if not cell.lstrip().startswith(("[", "{")) or cell.strip() in context:
        return cell
    value = parse_printed(cell)
    return value if _are_answers(value) else cell


def _are_answers(value: object) -> bool:
    """Return whether a value is an object, or a list of texts or objects."""
    if isinstance(value, list):
        return all(isinstance(item, str | dict) for item in value)
    return isinstance(value, dict)


def _answers(fields: dict[str, object]) -> list[tuple[str, int | None]]:
    """Return the texts of answers, each with the character at which it begins, if that is known.

    Raises:
        DataError: They are not in one of the known forms.
    """
    answers = []
    for value, start in _answer_pairs(fields.get("answers"), fields.get("answer_start")):
        text = _as_text(value)
        if not isinstance(text, str):
            raise DataError('an answer in "answers" is not a text.')
        position = _start_of(start)
        if text.strip():
            lead = len(text) - len(text.lstrip())
            answers.append((text.strip(), None if position is None else position + lead))
    if answers and _is_true(fields.get("is_impossible"), "is_impossible"):
        raise DataError("is_impossible is true, and there are answers.")
    return answers


def _answer_pairs(value: object, starts: object) -> list[tuple[object, object]]:
    """Return pairs of a text and a start from one of the forms in which answers are written.

    Args:
        value: A text or number, a list of them or of objects, or an object of lists; None for no
            answer.
        starts: The start of the text, or a list of those of the texts.

    Raises:
        DataError: The answers have another form, or another number than the starts.
    """
    if value is None:
        return []
    if isinstance(_as_text(value), str):
        return _with_starts([value], starts if isinstance(starts, list) else [starts])
    if isinstance(value, dict):
        return _pairs_of_lists(value)
    if not isinstance(value, list):
        raise DataError('"answers" is not a text, a list of texts, or {"text", "answer_start"}.')
    pairs = _with_starts(value, starts if isinstance(starts, list) else None)
    return list(starmap(_as_pair, pairs))


def _as_text(value: object) -> object:
    """Return a number as the text that it is in a context, ``31`` for 31.0; others unchanged."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(int(value)) if float(value).is_integer() else str(value)


def _start_of(value: object) -> int | None:
    """Return a start as a number; None if it is not known: none, empty, negative or not a number.

    Tables often hold it as text or as a floating-point number, ``15.0``.

    Raises:
        DataError: It is not a whole number.
    """
    number = _parse_start(value)
    if number is None:
        return None
    if not _is_whole(number):
        text = repr(value)
        text = f"{text[:_LONGEST_VALUE]}…" if len(text) > _LONGEST_VALUE else text
        raise DataError(f"answer_start={text} is not a whole number.")
    return int(number) if number >= 0 else None


def _pairs_of_lists(value: dict[object, object]) -> list[tuple[object, object]]:
    """Return texts and starts of ``{"text": [...], "answer_start": [...]}``; or of one of each."""
    texts, starts = _as_pair(value, None)
    if isinstance(_as_text(texts), str):
        return [(texts, starts)]
    if not isinstance(texts, list):
        raise DataError('no list of texts under "text" in "answers".')
    return _with_starts(texts, starts if isinstance(starts, list | None) else [starts])


def _as_pair(answer: object, start: object) -> tuple[object, object]:
    """Return the text of an answer with its start, which an object has itself."""
    if isinstance(answer, dict):
        return answer.get("text"), answer.get("answer_start")
    return answer, start


def _with_starts(
    texts: Sequence[object], starts: Sequence[object] | None
) -> list[tuple[object, object]]:
    """Return each text with its start; None without starts."""
    starts = [None] * len(texts) if starts is None else starts
    if len(starts) != len(texts):
        raise DataError(f"{len(texts)} answers, but {len(starts)} answer_start.")
    return list(zip(texts, starts, strict=True))


def _reason_to_drop(row: RawQuestion) -> str:
    """Return why a row cannot be used; empty if it can."""
    if not row.context.strip():
        return "empty context"
    return "" if row.question.strip() else "empty question"


def _id_of(fields: dict[str, object]) -> str:
    value = fields.get("id")
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _notes(num_moved: int) -> list[str]:
    if not num_moved:
        return []
    one = num_moved == 1
    noun = "answer is" if one else "answers are"
    return [
        f"{num_moved:,} {noun} not at {'its' if one else 'their'} answer_start; the nearest "
        "occurrence of the text was taken."
    ]
