"""Trained models of answers in use: a question and a text go in, the answer and its place out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import msgspec
import torch

from regard.data.question_rows import Questions
from regard.errors import ConfigError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import SpanModel
from regard.settings.validation import require_texts
from regard.setup.config import RunConfig
from regard.tasks.question_answering.loss import is_null, span_text
from regard.tasks.question_answering.windows import (
    Span,
    WindowBatches,
    best_spans,
    encode_questions,
    max_question_tokens,
)

ANSWERED_TOKENS = 8192  # in a batch
_STREAMED_QUESTIONS = 64  # that are sorted by length and answered together


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a question.

    Args:
        answer: As it is in the text; None where the text has none.
        start: First character of it; None without an answer.
        end: The character after its last.
        probability: Of this span in its window, or of "no answer" where that is the least likely, 0
            to 1.
    """

    answer: str | None
    start: int | None
    end: int | None
    probability: float


class QuestionAnswerer:
    """A model of answers in use.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings of its run.
        threshold: How much more likely "no answer" must be than the best span, in nats, to be the
            answer; None always gives the best span.
    """

    def __init__(
        self,
        model: SpanModel,
        tokenizer: AnyTokenizer,
        config: RunConfig,
        threshold: float | None = None,
    ) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.threshold = threshold

    @property
    def max_length(self) -> int:
        """Most tokens of a window, the question included."""
        limits = [self.config.data.max_length, self.model.encoder.config.max_positions]
        if self.tokenizer.max_length is not None:
            limits.append(self.tokenizer.max_length)
        return min(limits)

    @overload
    def answer(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, question: str, context: str
    ) -> Answer: ...
    @overload
    def answer(self, question: Sequence[str], context: str | Sequence[str]) -> list[Answer]: ...
    def answer(
        self, question: str | Sequence[str], context: str | Sequence[str]
    ) -> Answer | list[Answer]:
        """Find the answer to a question in a text, or to several.

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
        texts = require_texts([context] if isinstance(context, str) else context, "contexts")
        if isinstance(context, str):
            texts *= len(questions)
        if len(texts) != len(questions):
            raise ConfigError(
                f"{len(questions):,} questions and {len(texts):,} contexts.  Give one context for "
                "all, or one for each."
            )
        for number, text in enumerate(questions, start=1):
            if not text.strip():
                raise ConfigError(f"question {number:,} is empty.")
        spans = self.spans(unanswered(questions, texts))
        return [self._result(span, text) for span, text in zip(spans, texts, strict=True)]

    def stream(self, rows: Iterable[tuple[str, str]]) -> Iterator[Answer]:
        """Answer questions with their texts in order and in constant memory.

        Yields:
            The answer to each; to a blank question none, of probability 0.
        """
        rows = iter(rows)
        blank = Answer(answer=None, start=None, end=None, probability=0.0)
        while chunk := list(itertools.islice(rows, _STREAMED_QUESTIONS)):
            asked = [row for row in chunk if row[0].strip()]
            results = iter(self.answer([row[0] for row in asked], [row[1] for row in asked]))
            yield from (next(results) if row[0].strip() else blank for row in chunk)

    def batches(
        self,
        questions: Questions,
        *,
        batch_tokens: int = ANSWERED_TOKENS,
        negatives: int | None = None,
        seed: int = 0,
    ) -> tuple[WindowBatches, int]:
        """Arrange the windows of questions in batches, and count the questions that are cut.

        Args:
            questions: The questions.
            batch_tokens: Most tokens in a batch.
            negatives: Most windows without the answer that a question has; None keeps all.
            seed: Of the order, and of the choice of these.
        """
        limit = max_question_tokens(self.max_length, self.tokenizer)
        encoded, num_cut = encode_questions(questions, self.tokenizer, max_question=limit)
        batches = WindowBatches(
            encoded,
            self.tokenizer,
            self.model,
            max_length=self.max_length,
            overlap=self.config.qa.overlap,
            batch_tokens=batch_tokens,
            negatives=negatives,
            seed=seed,
        )
        return batches, num_cut

    @torch.inference_mode()
    def spans(self, questions: Questions) -> list[Span | None]:
        """Find the best span of each question in its text."""
        if not len(questions):
            return []
        batches, _ = self.batches(questions)
        most = self.config.qa.max_answer_tokens
        return best_spans(self.model, batches, max_answer_tokens=most)

    def _result(self, span: Span | None, context: str) -> Answer:
        text, start, end = span_text(span, context)
        if span is None or not text or is_null(span, self.threshold):
            probability = 1.0 if span is None else math.exp(span.log_null)
            return Answer(answer=None, start=None, end=None, probability=probability)
        return Answer(answer=text, start=start, end=end, probability=math.exp(span.log_probability))


def unanswered(questions: Sequence[str], contexts: Sequence[str]) -> Questions:
    """Return questions whose answers are not known."""
    count = len(questions)
    return Questions(
        path="",
        contexts=list(contexts),
        questions=list(questions),
        answers=[()] * count,
        starts=[()] * count,
        ids=[""] * count,
        lines=list(range(1, count + 1)),
        places=[""] * count,
    )
