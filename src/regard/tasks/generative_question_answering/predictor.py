"""Inference with a trained model that writes answers: question and text in, the answer out."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from regard.data.batching import TokenRows
from regard.data.question_rows import find_answer
from regard.hub.any_tokenizer import prepend_special_tokens, split_tokenizer
from regard.tasks.generative_question_answering.data import encode_sources
from regard.tasks.question_answering.answerer import Answer, Answerer
from regard.tasks.sequence_to_sequence.decode_rows import special_ids, target_log_probabilities
from regard.tasks.sequence_to_sequence.predictor import TargetWriter

if TYPE_CHECKING:
    from regard.generation.beam_search_config import BeamSearchConfig


class WrittenAnswer(NamedTuple):
    """The best answer that a model writes, and how likely the text has none.

    Args:
        text: The answer, of one token at least.
        log_probability: Log-probability of the answer with its end, in nats.
        log_null: Log-probability of an empty output, which means that the text has no answer.
        truncated: Tokens of the context that were cut off, and not read.
    """

    text: str
    log_probability: float
    log_null: float
    truncated: int

    @property
    def margin(self) -> float:
        """How much more likely "no answer" is than the answer, in nats."""
        return self.log_null - self.log_probability

    def is_null(self, threshold: float | None) -> bool:
        """Return whether the text has no answer, by a threshold in nats."""
        return not self.text or (threshold is not None and self.margin > threshold)


class AnswerWriter(Answerer, TargetWriter):
    """A trained model that writes answers."""

    def with_beam(self, beam: int | None) -> AnswerWriter:
        """Return the same model with another beam; None leaves it as it is."""
        if beam is None:
            return self
        writer = copy.copy(self)
        writer.config = replace(self.config, search=self.search_config(beam=beam))
        return writer

    def answer_rows(self, questions: Sequence[str], contexts: Sequence[str]) -> list[Answer]:
        """Write the answer to each question; each says how much of its context was cut off."""
        blank = WrittenAnswer(text="", log_probability=-math.inf, log_null=0.0, truncated=0)
        rows = [row for row, text in enumerate(contexts) if text.strip()]
        outputs = [blank] * len(contexts)  # a blank context has no answer
        written = self.write_answers([questions[i] for i in rows], [contexts[i] for i in rows])
        for row, output in zip(rows, written, strict=True):
            outputs[row] = output
        return [self._result(output, text) for output, text in zip(outputs, contexts, strict=True)]

    def write_answers(
        self, questions: Sequence[str], contexts: Sequence[str]
    ) -> list[WrittenAnswer]:
        """Write the best answer to each question that is not empty."""
        if not questions:
            return []
        limit, ids = self.max_source_length, special_ids(self.model, self.tokenizer)
        source_tokenizer, target_tokenizer = split_tokenizer(self.tokenizer)
        encoded = encode_sources(
            questions, contexts, self.tokenizer, ids.end_of_source, self.config
        )
        sources = prepend_special_tokens(source_tokenizer, (row[:limit] for row in encoded))
        rows, begin = TokenRows(sources), target_tokenizer.begin_ids
        best = [hypotheses[0] for hypotheses in self.decode(rows, self.answer_search())]
        nulls = target_log_probabilities(self.model, rows, begin, ids, self.world)
        texts = self.tokenizer.decode([hypothesis.ids for hypothesis in best])
        return [
            WrittenAnswer(
                text=text.strip(),
                log_probability=hypothesis.log_probability,
                log_null=null,
                truncated=max(0, len(row) - limit),
            )
            for text, hypothesis, null, row in zip(texts, best, nulls, encoded, strict=True)
        ]

    def answer_search(self) -> BeamSearchConfig:
        """Return the search of answers of one token or more: no answer is compared with them."""
        _, tokenizer = split_tokenizer(self.tokenizer)
        search = self.search_config()
        return replace(search, min_length=max(len(tokenizer.begin_ids) + 2, search.min_length))

    def _result(self, output: WrittenAnswer, context: str) -> Answer:
        if output.is_null(self.threshold):
            return Answer(
                answer=None,
                start=None,
                end=None,
                probability=math.exp(output.log_null),
                truncated=output.truncated,
            )
        start = find_answer(context, output.text)
        is_found = start >= 0
        return Answer(
            answer=output.text,
            start=start if is_found else None,
            end=start + len(output.text) if is_found else None,
            probability=math.exp(output.log_probability),
            truncated=output.truncated,
        )
