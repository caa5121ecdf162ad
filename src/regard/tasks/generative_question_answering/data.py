"""Questions on texts as sources, and their answers as targets."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import pluralize
from regard.data.question_rows import AnswerPairs, Questions
from regard.data.readers.questions import inspect_questions
from regard.errors import DataError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.facts import DataFacts, LongSources
from regard.setup.held_out import split_rows
from regard.tasks.question_answering.data import (
    QuestionData,
    question_columns,
    read_questions_of,
    read_training_questions,
)


class WrittenAnswerData(QuestionData[AnswerPairs], kw_only=True):
    """Questions on texts, whose answers are written.

    Args:
        truncated: Training questions of whose texts the end is cut off.
    """

    truncated: list[DroppedRow] = msgspec.field(default_factory=list)

    def facts(self) -> DataFacts:
        """Return the characters to learn from, and the mean of both sides, see `DataFacts`."""
        facts, train = super().facts(), self.train
        num_written, num_read = (sum(map(len, texts)) for texts in (train.targets, train.sources))
        return msgspec.structs.replace(
            facts,
            num_chars=facts.num_chars + num_written,
            num_read_chars=(num_written + num_read) // 2,
        )

    def texts(self) -> list[str]:
        """Return the distinct training texts, the questions, and the answers."""
        train = self.train
        return [
            *dict.fromkeys(train.contexts),
            *train.questions,
            *filter(None, train.targets),
        ]

    def long_sources(self) -> LongSources:
        """Return the training questions with their texts, which all see the questions."""
        return LongSources(self.train.sources, self.train.targets, self.train.questions)

    def reported_rows(self) -> list[DroppedRow]:
        """Return the questions that are left out, or whose texts are cut."""
        return [*self.dropped, *self.truncated]


def encode_sources(
    questions: Sequence[str],
    contexts: Sequence[str],
    tokenizer: AnyTokenizer,
    separator: int,
    config: RunConfig,
) -> list[list[int]]:
    """Return what a model reads: the tokens of a question, a separator, and those of its text.

    Args:
        questions: The questions.
        contexts: The texts that have the answers.
        tokenizer: The vocabulary of sources.
        separator: Token between the two, where the settings have no words.
        config: The settings, with what a question and its text begin with.
    """
    questions, between = config.data.with_prefix(questions), config.qa.context_prefix
    if between:
        pairs = zip(questions, contexts, strict=True)
        return tokenizer.encode([f"{question}{between}{context}" for question, context in pairs])
    pairs = zip(tokenizer.encode(questions), tokenizer.encode(contexts), strict=True)
    return [[*question, separator, *context] for question, context in pairs]


def read_written_answers(options: ReadOptions) -> WrittenAnswerData:
    """Return the questions of a run, read and split; named files stay whole.

    An answer need not be in its text.

    Raises:
        DataError: There are no questions, or none has an answer.
    """
    questions, dropped, notes = read_training_questions(options)
    if questions.num_unanswerable == len(questions):
        raise DataError(f"{questions.path}: no question has an answer: there is nothing to learn.")
    if number := questions.num_unfound:
        answers = pluralize(number, "answer is not in its", "answers are not in their")
        notes = [*notes, f"{answers} context, and learned as written."]
    data, source = options.data, options.training_source("questions.jsonl")
    parts = split_rows(options, questions, lambda source: read_questions_of(source, data))
    return WrittenAnswerData(
        path=questions.path,
        train=_pairs(parts.train),
        valid=_pairs(parts.valid),
        test=_pairs(parts.test),
        dropped=[*dropped, *parts.dropped],
        notes=tuple(notes),
        read_as=inspect_questions(source, encoding=data.encoding, columns=question_columns(data)),
    )


def _pairs(questions: Questions) -> AnswerPairs:
    return AnswerPairs(
        **msgspec.structs.asdict(questions),
        sources=list(map("{} {}".format, questions.questions, questions.contexts)),
        targets=[next(iter(answers), "") for answers in questions.answers],
    )
