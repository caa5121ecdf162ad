"""The loss of a model of spans, the threshold of "no answer", and evaluation by F1.

Start and end are two classifications of positions (Devlin et al. 2019, section 4.2); where the
answer is not in a window, both are the first token (section 4.3). The threshold is how much more
likely "no answer" must be than the best span, in nats; it is chosen on validation data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regard.data.question_rows import NO_ANSWER, Questions
from regard.metrics.answers import question_scores
from regard.models import Model, SpanModel
from regard.tasks.question_answering.text_windows import (
    Span,
    TextWindowBatch,
    WindowBatches,
    best_spans,
    window_logits,
)
from regard.training.distribution import ALONE, World
from regard.training.ema import ExponentialMovingAverage
from regard.training.evaluation_loop import AveragedModel, total_loss
from regard.training.events import OutputExample
from regard.training.loop import Evaluation
from regard.training.output_examples import choose_examples, output_example
from regard.training.train_step import Loss


@dataclass(frozen=True)
class SpanLoss:
    """Cross-entropy of the first and the last token of the answer, their mean.

    Args:
        label_smoothing: Fraction of the target probability spread over the text.
    """

    label_smoothing: float

    def __call__(self, model: SpanModel, batch: TextWindowBatch) -> Loss:
        """Compute the loss of a batch of windows."""
        return self.of_outputs(self.outputs(model, batch), batch)

    @staticmethod
    def outputs(model: SpanModel, batch: TextWindowBatch) -> Tensor:
        """Compute logits, ``[batch, length, 2]``, minus infinity where no answer can be."""
        return window_logits(model, batch)

    def logits(self, model: SpanModel, batch: TextWindowBatch) -> Tensor:
        """Compute the logits of starts and ends, ``[2 batch, length]``."""
        return self.outputs(model, batch).transpose(1, 2).flatten(0, 1)

    def row_losses(self, model: SpanModel, batch: TextWindowBatch) -> tuple[Tensor, int]:
        """Compute the loss of each window, ``[batch]``, and the number of windows."""
        return self._losses(self.outputs(model, batch), batch)[0], len(batch.starts)

    def of_outputs(self, outputs: Tensor, batch: TextWindowBatch) -> Loss:
        """Compute the loss from logits, ``[batch, length, 2]``."""
        losses, nll = self._losses(outputs, batch)
        return Loss(loss=losses.mean(), nll=nll.detach().mean(), num_tokens=len(batch.starts))

    def _losses(self, outputs: Tensor, batch: TextWindowBatch) -> tuple[Tensor, Tensor]:
        """Compute the loss of each window, and without smoothing, ``[batch]`` each."""
        log_probabilities = outputs.log_softmax(1)
        targets = torch.stack([batch.starts, batch.ends], dim=1)[:, None]  # [batch, 1, 2]
        targets = targets.to(outputs.device, non_blocking=True)
        nll = -log_probabilities.gather(1, targets)[:, 0].mean(-1)
        if not self.label_smoothing:
            return nll, nll
        is_possible = outputs > -math.inf
        spread = log_probabilities.masked_fill(~is_possible, 0.0).sum(1) / is_possible.sum(1)
        return (1 - self.label_smoothing) * nll - self.label_smoothing * spread.mean(-1), nll


def given_answers(
    spans: Sequence[Span | None], contexts: Sequence[str], threshold: float | None
) -> list[str]:
    """Return the answer to each question; empty for "no answer".

    Args:
        spans: The best span of each question.
        contexts: Its text.
        threshold: Threshold of "no answer", in nats; None gives an answer where there is a span.
    """
    return [
        "" if is_null(span, threshold) else span_text(span, context)[0]
        for span, context in zip(spans, contexts, strict=True)
    ]


def is_null(span: Span | None, threshold: float | None) -> bool:
    """Return whether a question has no answer, by its best span and a threshold in nats."""
    return span is None or (threshold is not None and span.margin > threshold)


def span_text(span: Span | None, context: str) -> tuple[str, int, int]:
    """Return the text of a span without the space around it, and where it begins and ends."""
    if span is None:
        return "", 0, 0
    text = context[span.start : span.end]
    start = span.start + len(text) - len(text.lstrip())
    return text.strip(), start, start + len(text.strip())


def choose_threshold(spans: Sequence[Span | None], questions: Questions) -> float | None:
    """Return the threshold of "no answer" with the highest mean F1, in nats.

    Args:
        spans: The best span of each question.
        questions: Questions with their answers.
    """
    margins = [math.inf if span is None else span.margin for span in spans]
    return best_threshold(margins, given_answers(spans, questions.contexts, None), questions)


def best_threshold(
    margins: Sequence[float], answers: Sequence[str], questions: Questions
) -> float | None:
    """Return the threshold of "no answer" with the highest mean F1, in nats.

    Args:
        margins: How much more likely "no answer" is than the best answer to each question.
        answers: The best answers.
        questions: Questions with their true answers.

    Returns:
        In the middle between two questions, the largest of equally good ones; None where all
        questions have an answer.
    """
    if not questions.num_unanswerable:
        return None
    f1 = question_scores(answers, questions.answers)[1]
    has_none = np.array([not texts for texts in questions.answers])
    order = np.argsort(margins, kind="stable")
    gains = (has_none - f1)[order]  # of "no answer" over the answer
    ordered = np.array(margins)[order]
    # With the threshold before question k, it and all after it have no answer.
    totals = np.append(np.cumsum(gains[::-1])[::-1], 0.0).round(9)
    is_cut = np.append(True, ordered[1:] > ordered[:-1])  # equal margins have one decision
    best = max(np.flatnonzero(np.append(is_cut, True)), key=lambda k: (totals[k], k))
    below = ordered[best - 1] if best else ordered[0] - 2.0
    above = ordered[best] if best < len(ordered) else below + 2.0
    if not math.isfinite(above):
        above = below + 2.0
    return float(below + above) / 2 if math.isfinite(below) else 0.0


def answer_measures(answers: Sequence[str], questions: Questions) -> dict[str, float]:
    """Return ``exact_match`` and ``f1`` of the answers to questions, in percent.

    Args:
        answers: One for each question; empty for "no answer".
        questions: Questions with their true answers.
    """
    exact, overlap = 100 * question_scores(answers, questions.answers).mean(axis=1)
    return {"exact_match": float(exact), "f1": float(overlap)}


class SpanEvaluator:
    """Evaluates averaged weights on validation questions: loss, exact match and F1.

    Where questions have no answer, F1 is that of the best threshold.

    Args:
        model: The model; a copy of it is evaluated in its compute type.
        batches: All windows of the questions.
        questions: The validation questions.
        max_answer_tokens: Longest answer, in tokens.
        world: The processes that share the windows.
    """

    def __init__(
        self,
        model: Model,
        batches: WindowBatches,
        questions: Questions,
        *,
        max_answer_tokens: int,
        world: World = ALONE,
    ) -> None:
        self._averaged, self._batches, self._questions = AveragedModel(model), batches, questions
        self._max_answer_tokens, self._world = max_answer_tokens, world

    def __call__(self, average: ExponentialMovingAverage) -> Evaluation:
        """Evaluate the averaged weights."""
        self._averaged.load(average)
        model = self._averaged.model
        total, number = total_loss(SpanLoss(0.0), model, self._batches, self._world)
        spans = best_spans(
            model,
            self._batches,
            max_answer_tokens=self._max_answer_tokens,
            world=self._world,
        )
        threshold = choose_threshold(spans, self._questions)
        answers = given_answers(spans, self._questions.contexts, threshold)
        measures = answer_measures(answers, self._questions)
        return Evaluation(
            measures={"loss": total / number, **measures},
            score_name="f1",
            examples=self._examples(answers),
        )

    def _examples(self, answers: Sequence[str]) -> list[OutputExample]:
        """Return a few questions with their answers; an empty one is "no answer"."""
        questions = self._questions
        return [
            output_example(
                questions.questions[row],
                answers[row] or NO_ANSWER,
                next(iter(questions.answers[row]), NO_ANSWER),
            )
            for row in choose_examples(len(questions))
        ]
