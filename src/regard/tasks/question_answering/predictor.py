"""Inference with a trained model that finds answers: question and text in, a position out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from regard.data.question_rows import Questions
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import SpanModel
from regard.setup.config import RunConfig
from regard.tasks.question_answering.answerer import Answer, Answerer
from regard.tasks.question_answering.loss import is_null, span_text
from regard.tasks.question_answering.text_windows import (
    Span,
    WindowBatches,
    best_spans,
    encode_questions,
    max_question_tokens,
)
from regard.training.distribution import ALONE, World

ANSWERED_TOKENS = 8192  # in a batch


class QuestionAnswerer(Answerer):
    """A trained model that finds answers.

    Args:
        model: Model in evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings of its run.
    """

    world: World = ALONE
    """The processes that share its batches; all of them call the same methods."""

    def __init__(self, model: SpanModel, tokenizer: AnyTokenizer, config: RunConfig) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config

    @property
    def max_length(self) -> int:
        """Maximum number of tokens of a window, the question included."""
        limits = [self.config.data.max_length, self.model.encoder.config.max_positions]
        if self.tokenizer.max_length is not None:
            limits.append(self.tokenizer.max_length)
        return min(limits)

    def answer_rows(self, questions: Sequence[str], contexts: Sequence[str]) -> list[Answer]:
        """Find the answer to each question in its context; each says how much of it was cut off."""
        if not questions:
            return []
        batches = self.batches(unanswered(questions, contexts))
        truncated = [question.truncated for question in batches.questions]
        rows = zip(self._best_spans(batches), contexts, truncated, strict=True)
        return [self._result(*row) for row in rows]

    def batches(
        self,
        questions: Questions,
        *,
        batch_tokens: int = ANSWERED_TOKENS,
        negatives: int | None = None,
        seed: int = 0,
    ) -> WindowBatches:
        """Return the windows of questions in batches, which know what of a question was cut off.

        Args:
            questions: The questions.
            batch_tokens: Maximum number of tokens in a batch.
            negatives: Maximum number of windows without the answer that a question has; None keeps
                all.
            seed: Seed of the order, and of the choice of these.
        """
        limit = max_question_tokens(self.max_length, self.tokenizer)
        return WindowBatches(
            encode_questions(questions, self.tokenizer, max_question=limit),
            self.tokenizer,
            self.model,
            max_length=self.max_length,
            overlap=self.config.qa.overlap,
            batch_tokens=batch_tokens,
            negatives=negatives,
            seed=seed,
        )

    def spans(self, questions: Questions) -> list[Span | None]:
        """Find the best span of each question in its text."""
        return self._best_spans(self.batches(questions)) if len(questions) else []

    @torch.inference_mode()
    def _best_spans(self, batches: WindowBatches) -> list[Span | None]:
        most = self.config.qa.max_answer_tokens
        return best_spans(self.model, batches, max_answer_tokens=most, world=self.world)

    def _result(self, span: Span | None, context: str, question_truncated: int) -> Answer:
        text, start, end = span_text(span, context)
        if span is None or not text or is_null(span, self.threshold):
            return Answer(
                answer=None,
                start=None,
                end=None,
                probability=1.0 if span is None else math.exp(span.log_null),
                question_truncated=question_truncated,
            )
        return Answer(
            answer=text,
            start=start,
            end=end,
            probability=math.exp(span.log_probability),
            question_truncated=question_truncated,
        )


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
        json_paths=[""] * count,
    )
