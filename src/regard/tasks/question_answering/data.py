"""Questions on texts: read, split, and checked against each other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from regard.data.listing import describe_lines, list_first, pluralize
from regard.data.question_rows import QUESTION_COLUMNS, Questions, drop_unfound
from regard.data.readers.questions import (
    ReadQuestions,
    describe_swapped,
    inspect_questions,
    read_questions,
)
from regard.data.readers.shape import DataShape
from regard.data.readers.source import DataSource
from regard.data.tokenizer import suggest_vocab_size
from regard.errors import ConfigError, DataError
from regard.setup.config import DataConfig
from regard.setup.dataset import Dataset, ReadOptions, TrainingRow
from regard.setup.facts import DataDetails, DataFacts
from regard.setup.held_out import split_rows

_CHARS_OF_TEXT = 500  # that count of a text: a long one does not need a larger model
_SMALLEST_VOCABULARY, _LARGEST_VOCABULARY = 3_000, 16_000
_EXAMPLE = "questions.jsonl"  # in messages
_NUM_LOCATED = 3  # questions of a nested file in a message


Q = TypeVar("Q", bound=Questions)
"""Questions, maybe with what a model reads and writes."""


class QuestionData(Dataset[Q], Generic[Q], kw_only=True):
    """Questions on texts, with their answers.

    Args:
        notes: What was done about answers that are not where the file says.
    """

    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What is counted."""
        return "questions"

    @property
    def contents(self) -> str:
        """How many questions have no answer, in words; empty where all have one."""
        parts = (self.train, self.valid, self.test)
        number = sum(part.num_unanswerable for part in parts)
        return f"{number:,} without an answer" if number else ""

    def warnings(self) -> list[str]:
        """Return what was done about answers that are not where the file says."""
        return list(self.notes)

    def facts(self) -> DataFacts:
        """Return the characters to learn from: a part of each text, since one position answers."""
        train = self.train
        texts = sum(min(len(text), _CHARS_OF_TEXT) for text in train.contexts)
        return DataFacts(num_chars=texts + sum(map(len, train.questions)))

    def details(self) -> DataDetails:
        """Return lengths of texts and answers, and the number of questions without an answer."""
        parts = (self.train, self.valid, self.test)
        contexts = [len(text) for part in parts for text in dict.fromkeys(part.contexts)]
        answers = [len(row[0]) for part in parts for row in part.answers if row]
        fields: dict[str, Any] = {
            "num_unanswerable": sum(part.num_unanswerable for part in parts),
            "num_contexts": len(contexts),
            "longest_context": max(contexts, default=0),
            "longest_answer": max(answers, default=0),
        }
        line = (
            f"{len(contexts):,} contexts of {max(contexts, default=0):,} characters at most, "
            f"answers of {max(answers, default=0):,}; {fields['num_unanswerable']:,} questions "
            "without an answer"
        )
        return DataDetails(fields=fields, lines=[("Length", line)])

    def texts(self) -> list[str]:
        """Return the distinct training texts, and the questions."""
        return [*dict.fromkeys(self.train.contexts), *self.train.questions]

    @property
    def vocab_size(self) -> int:
        """Twice the usual size: answers are not written, and a window then holds more text."""
        return min(
            _LARGEST_VOCABULARY, max(_SMALLEST_VOCABULARY, 2 * suggest_vocab_size(self.texts()))
        )

    def training_row(self, row: int) -> TrainingRow:
        """Return a training question, its text, and its first answer."""
        train = self.train
        text = f"{train.questions[row]}\n{train.contexts[row]}"
        answer = train.answers[row][0] if train.answers[row] else ""
        location = QuestionData.locate(self, [row])  # of the question, not of a window
        return TrainingRow(location, text, answer)

    def locate(self, rows: Sequence[int]) -> str:
        """Describe where training questions are in the file."""
        questions = sorted(set(rows))
        if self.train.json_paths[questions[0]]:
            json_paths = [self.train.json_paths[row] for row in questions]
            return f"questions {list_first(json_paths, _NUM_LOCATED)}"
        return describe_lines([self.train.lines[row] for row in questions])

    def example(self) -> str:
        """Return a validation question as an argument of a command."""
        return self.valid.questions[0].replace('"', "")


class WindowedQuestionData(QuestionData[Questions], kw_only=True):
    """Questions on texts that are read in windows.

    Args:
        rows_of_windows: Training question of each window, once there are windows.
    """

    rows_of_windows: Sequence[int] = ()

    def locate(self, rows: Sequence[int]) -> str:
        """Describe where the questions of training windows are in the file."""
        return super().locate([self.rows_of_windows[row] for row in rows])

    def numbers_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the question of each window, ``[rows]``."""
        return np.asarray(self.rows_of_windows)[rows]

    def training_row(self, row: int) -> TrainingRow:
        """Return the question of a training window with its answer."""
        return super().training_row(self.rows_of_windows[row])


def is_for_questions(shape: DataShape) -> bool:
    """Return whether data is SQuAD's JSON, or has columns of context and question, and answers.

    Without answers and labels, the reader reports that answers are missing.
    """
    roles = shape.columns.keys()
    has_questions = {"context", "question"} <= roles
    return shape.kind == "squad" or (has_questions and ("answers" in roles or "label" not in roles))


def read_question_data(options: ReadOptions) -> WindowedQuestionData:
    """Return the questions of a run, read and split; named files stay whole.

    Questions whose answers are not in their texts are left out: there is nothing to be found.

    Raises:
        DataError: There are no questions, or they cannot be used.
    """
    all_questions, dropped, notes = read_training_questions(options)
    questions, unfound = drop_unfound(all_questions)
    if questions.num_unanswerable == len(questions):
        columns = options.data.columns
        advice = describe_swapped(all_questions, columns) if columns else ""
        if unfound and not advice:
            advice = (
                f"  Not in their contexts: {len(unfound):,} answers.  A model that writes answers "
                "learns them: `qa.kind=generative`"
            )
        raise DataError(
            f"{questions.path}: no question has an answer in its context, so there is nothing to "
            f"learn.{advice}"
        )
    if number := all_questions.num_unfound:
        answers = pluralize(number, "answer is not in its", "answers are not in their")
        note = f"{answers} context, and cannot be learned."
        notes = [*notes, f"{note}  A model that writes answers can: `qa.kind=generative`"]
    data, source = options.data, options.training_source(_EXAMPLE)
    parts = split_rows(options, questions, lambda source: read_questions_of(source, data))
    return WindowedQuestionData(
        path=all_questions.path,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        dropped=[*dropped, *unfound, *parts.dropped],
        notes=tuple(notes),
        read_as=inspect_questions(source, encoding=data.encoding, columns=question_columns(data)),
    )


def read_training_questions(options: ReadOptions) -> ReadQuestions:
    """Return the questions of a run before they are split.

    Raises:
        DataError: There are none, or the file cannot be read.
    """
    data = options.data
    source = options.training_source(_EXAMPLE)
    return read_questions(source, encoding=data.encoding, columns=question_columns(data))


def read_questions_of(source: DataSource | str, data: DataConfig) -> Questions:
    """Return questions with their answers, read with the encoding and columns of the settings.

    Answers that are not in their texts stay: a test counts them as well.

    Raises:
        DataError: The file cannot be read.
    """
    columns = question_columns(data)
    return read_questions(source, encoding=data.encoding, columns=columns).questions


def question_columns(data: DataConfig) -> tuple[str, ...]:
    """Return the names of the columns of context, question and answers.

    Raises:
        ConfigError: The settings name one or two.
    """
    if data.columns and len(data.columns) != len(QUESTION_COLUMNS):
        names = ",".join(data.columns)
        raise ConfigError(
            f"data.columns={names}: {len(QUESTION_COLUMNS)} columns are expected, those of "
            f"context, question and answers: `data.columns={shlex.quote(names)},NAME`"
        )
    return data.columns or QUESTION_COLUMNS
