"""What every model of answers does, whether it finds or writes them."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import msgspec

from regard.errors import ConfigError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.settings.validation import LARGEST, require_number, require_texts
from regard.setup.base_predictor import BasePredictor

THRESHOLD = "no_answer_threshold"
"""The name of the threshold in ``calibration.json``."""
_STREAMED_QUESTIONS = 64  # that are sorted by length and answered together


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a question.

    Args:
        answer: The text; None where the context has no answer.
        start: First character of it in the context; None where it is not there.
        end: The character after its last.
        probability: Probability of this answer, or of "no answer", 0 to 1: for an answer that is
            found, in its window; for "no answer", in the window where it is the least likely.
        truncated: Tokens of the context that were cut off, and not read; in JSON where there are
            some.
        question_truncated: The same of the question.
    """

    answer: str | None
    start: int | None
    end: int | None
    probability: float
    truncated: int = 0
    question_truncated: int = 0


class Answerer(BasePredictor, ABC):
    """A trained model that answers questions, whether it finds or writes the answers."""

    verb = "answer"
    tokenizer: AnyTokenizer
    """Its vocabulary."""
    _threshold: float | None = None

    @property
    def threshold(self) -> float | None:
        """How much more likely "no answer" must be than the best answer, in nats, to be given.

        None always gives the best answer. A value that is not a finite number raises `ConfigError`.
        """
        return self._threshold

    @threshold.setter
    def threshold(self, value: float | None) -> None:
        require_number("threshold", value)
        if value is not None and not -LARGEST <= value <= LARGEST:
            raise ConfigError(f"`threshold`: a finite number was expected, not {value}.")
        self._threshold = value

    def with_beam(self, beam: int | None) -> Answerer:  # noqa: ARG002 - for models that write
        """Return the same model with another beam; None leaves it as it is."""
        return self

    @abstractmethod
    def answer_rows(self, questions: Sequence[str], contexts: Sequence[str]) -> list[Answer]:
        """Answer questions that are not blank, each by its context."""

    @overload
    def answer(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, question: str, context: str
    ) -> Answer: ...
    @overload
    def answer(self, question: Sequence[str], context: str | Sequence[str]) -> list[Answer]: ...
    def answer(
        self, question: str | Sequence[str], context: str | Sequence[str]
    ) -> Answer | list[Answer]:
        """Answer a question by a text, or several.

        Args:
            question: One or more.
            context: The text of all questions, or one for each.

        Returns:
            The answer to each, in the same order; of one string, one answer.

        Raises:
            ConfigError: There are not as many texts as questions, a question is empty, or one of
                them is not a text.
        """
        if isinstance(question, str):
            if not isinstance(context, str):
                raise ConfigError("one question has one context, a text.  Give one for each.")
            return self.answer([question], [context])[0]
        questions = require_texts(question, "questions")
        require_texts([context] if isinstance(context, str) else context, "contexts")
        texts = contexts_of(questions, context)
        return self.answer_rows(questions, texts)

    def stream(self, rows: Iterable[tuple[str, str]]) -> Iterator[Answer]:
        """Answer questions with their texts in order and in constant memory.

        Args:
            rows: Question and context of each.

        Yields:
            The answer to each; to a blank question none, of probability 0.

        Raises:
            ConfigError: A row is something else.
        """
        checked = _check_rows(rows)
        blank = Answer(answer=None, start=None, end=None, probability=0.0)
        while chunk := list(itertools.islice(checked, _STREAMED_QUESTIONS)):
            asked = [row for row in chunk if row[0].strip()]
            results = iter(self.answer([row[0] for row in asked], [row[1] for row in asked]))
            yield from (next(results) if row[0].strip() else blank for row in chunk)


def contexts_of(questions: Sequence[str], context: str | Sequence[str]) -> list[str]:
    """Return the text of each question.

    Args:
        questions: The questions.
        context: The text of all questions, or one for each.

    Raises:
        ConfigError: There are not as many texts as questions, or a question is empty.
    """
    contexts = [context] * len(questions) if isinstance(context, str) else list(context)
    if len(contexts) != len(questions):
        raise ConfigError(
            f"{len(questions):,} questions and {len(contexts):,} contexts.  Give one context for "
            "all, or one for each."
        )
    for number, text in enumerate(questions, start=1):
        if not text.strip():
            raise ConfigError(f"question {number:,} is empty.")
    return contexts


def _check_rows(rows: Iterable[tuple[str, str]]) -> Iterator[Sequence[str]]:
    """Yield rows, each checked before a model reads it."""
    for index, row in enumerate(rows):
        if not isinstance(row, Sequence) or isinstance(row, str | bytes) or len(row) != 2:
            raise ConfigError(
                f"rows[{index}]: a question and its context were expected, not "
                f"{type(row).__name__}."
            )
        yield require_texts(row, f"rows[{index}]")
