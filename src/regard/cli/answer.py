"""``regard answer``: the answer to a question on a text, and where it is in the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import msgspec

from regard.cli.inputs import TextOptions, input_lines, note_table, page_text
from regard.cli.model_options import WRITING_DEFAULTS, ComputeOptions, WritingOptions
from regard.cli.outputs import as_json, escape, print_note, print_warning
from regard.cli.parameters import AsText, Flag, Name, Text
from regard.cli.predictors import open_predictor
from regard.data.listing import describe_lines, pluralize
from regard.errors import ConfigError

if TYPE_CHECKING:
    from regard.tasks.generative_question_answering.predictor import AnswerWriter
    from regard.tasks.question_answering.answerer import Answer
    from regard.tasks.question_answering.predictor import QuestionAnswerer


def answer(
    model: Annotated[str, Name],
    question: Annotated[str | None, Text] = None,
    /,
    *,
    context: Annotated[str | None, Name] = None,
    threshold: float | None = None,
    compute: WritingOptions = WRITING_DEFAULTS,
    as_text: Annotated[bool, AsText] = False,
    encoding: str = "utf-8",
    json: Annotated[bool, Flag] = False,
) -> None:
    """Answer a question by a text.

    Each line has the answer, its first character and the one after its last in the text, counted
    from 0, and its probability. Where the text has no answer, the line says so, with the
    probability. An answer that is written in other words than the text's has no position.

    Parameters
    ----------
    model
        Folder of a trained model of answers.
    question
        With --context a question, or a file of questions, one a line; - or nothing reads standard
        input. Without --context a file of rows with context and question, in JSONL, CSV, TSV,
        Parquet or SQuAD's JSON; - or nothing reads them from standard input. Text that begins with
        a dash goes behind --.
    context
        File of the text that has the answer; - reads standard input.
    threshold
        How much more likely "no answer" must be than the best answer, in nats, to be given. The
        default is the model's own; a model that saw no question without an answer, and a published
        one, has none and always gives an answer.
    compute
        What computes the answers.
    as_text
        Take QUESTION as a question even where a file of that name exists.
    encoding
        Encoding of all files.
    json
        One JSON object a line; also written for rows of a file.
    """
    from regard.settings.validation import LARGEST, require_range

    require_range("--threshold", threshold, -LARGEST, LARGEST)
    answerer = open_answerer(model, compute)
    if threshold is not None:
        answerer.threshold = threshold
    rows = _read_rows(question, context, TextOptions(as_text, encoding))
    write = _as_json if json or context is None else _plain
    num_cut = {"context": 0, "question": 0}
    blank: list[int] = []
    for row, result in _answer_rows(answerer, rows):
        num_cut["context"] += result.truncated > 0
        num_cut["question"] += result.question_truncated > 0
        blank += [] if row.question.strip() else [row.line]
        print(write(row, result), flush=True)
    _note_what_was_not_read(num_cut, blank)


def _note_what_was_not_read(num_cut: Mapping[str, int], blank: Sequence[int]) -> None:
    """Say on standard error how many texts were cut, and on which lines no question was."""
    for noun, number in num_cut.items():
        if number:
            are = pluralize(number, f"{noun} is", f"{noun}s are")
            print_warning(f"{are} longer than the model reads: the rest was cut off.")
    if blank:
        lines = describe_lines(blank)
        print_note(f"{lines}: the question is empty, so nothing is asked.")


def open_answerer(model: str, compute: ComputeOptions) -> QuestionAnswerer | AnswerWriter:
    """Open a model of answers; a published encoder-decoder writes them."""
    from regard.tasks.question_answering.answerer import Answerer

    answerer = open_predictor(
        model, Answerer, "answer questions", compute, task="question-answering"
    )
    return cast("QuestionAnswerer | AnswerWriter", answerer)


class _Row(NamedTuple):
    """A question on a text, and where it is."""

    line: int
    question: str
    context: str
    id: str = ""


def _read_rows(question: str | None, context: str | None, options: TextOptions) -> Iterator[_Row]:
    """Return questions with their texts: those of a file of rows, or some on one text.

    Raises:
        ConfigError: Both are to be read from standard input.
    """
    if context == "-" and question in (None, "-"):
        raise ConfigError("standard input holds one: the question or the context.  Name a file.")
    if context is None:
        return _rows_of_file("-" if question is None else question, options.encoding)
    text = read_context(context, options.encoding)
    lines = input_lines(question, options, role="question")
    return (_Row(number, line, text) for number, line in enumerate(lines, start=1))


def _answer_rows(
    answerer: QuestionAnswerer | AnswerWriter, rows: Iterable[_Row]
) -> Iterator[tuple[_Row, Answer]]:
    """Yield the rows with their answers, while they are read."""
    buffered: list[_Row] = []

    def remember() -> Iterator[tuple[str, str]]:
        for row in rows:
            buffered.append(row)
            yield row.question, row.context

    for result in answerer.stream(remember()):
        yield buffered.pop(0), result


def _as_json(row: _Row, result: Answer) -> str:
    """Return a result as an object."""
    entry: dict[str, object] = {"line": row.line, "question": row.question}
    entry |= {"id": row.id} if row.id else {}
    return as_json({**entry, **msgspec.to_builtins(result)})


def _plain(_: _Row, result: Answer) -> str:
    """Return a result as a line of cells: answer, position, probability."""
    from regard.data.question_rows import NO_ANSWER

    if result.answer is None:
        return f"{NO_ANSWER}\t\t{result.probability:.3f}"
    span = "" if result.start is None else f"{result.start}-{result.end}"
    return f"{escape(result.answer)}\t{span}\t{result.probability:.3f}"


def _rows_of_file(name: str, encoding: str) -> Iterator[_Row]:
    """Return the questions of a file with their texts.

    Raises:
        ConfigError: The file does not exist, so it is a question without a text.
    """
    from regard.data.readers.questions import read_asked

    try:
        is_missing = name != "-" and not Path(name).exists()
    except (OSError, ValueError):  # too long for the name of a file
        is_missing = True
    if is_missing:
        raise ConfigError(
            "no context.  Name the text that has the answer, `context=FILE`, or in place of the "
            "question a file of rows with context and question."
        )
    return (_Row(*row) for row in read_asked(name, encoding=encoding))


def read_context(name: str, encoding: str) -> str:
    """Return a text as its file has it, without a byte order mark.

    Raises:
        DataError: The file cannot be read, or has no text.
    """
    from regard.data.readers.problems import require_readable
    from regard.data.readers.text_lines import numbered_lines, open_text
    from regard.errors import DataError

    note_table(name)
    if (page := page_text(name, encoding)) is not None:
        return page
    file = open_text(name, encoding)
    text = "".join(line for _, line in numbered_lines(file))
    require_readable(file.problems)
    if not text.strip():
        raise DataError(f"{name}: the file is empty.  Name the text that has the answer.")
    return text
