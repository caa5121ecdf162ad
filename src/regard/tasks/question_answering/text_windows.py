"""Windows of a question and a part of its text, batches of them, and the best span over them.

A text that does not fit behind its question is read in overlapping windows (Devlin et al. 2019,
appendix of the released code for SQuAD). In each window, start and end have a softmax over its
tokens of the text and the first token, which is "no answer"; so spans of different windows can be
compared, as Clark & Gardner 2018 ask for. Cost: one pass of the model over all windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import LengthBatches
from regard.data.question_rows import NOT_FOUND, Questions
from regard.errors import ConfigError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.metrics.words import word_spans
from regard.models import SpanModel
from regard.models.base.question_roles import IN_BOTH, OF_CONTEXT, OF_QUESTION
from regard.training.device import move_batch
from regard.training.distribution import ALONE, World

_FEWEST_TOKENS = 8  # of a context in a window


class EncodedContext(NamedTuple):
    """The tokens of a text.

    Args:
        ids: ``[tokens]``.
        offsets: First character of each token, and the one after its last, ``[tokens, 2]``.
        words: Where each word of the text is, by its case-folded form.
    """

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    words: dict[str, list[tuple[int, int]]]


class EncodedQuestion(NamedTuple):
    """A question with its text.

    Args:
        ids: Tokens of the question, ``[tokens]``.
        context: The text.
        is_match: Whether the word of a token of the text is in the question, ``[tokens]``.
        answer: First and last token of the first answer that is in the text; None without one.
        truncated: Tokens of the question that were cut off.
    """

    ids: NDArray[np.int64]
    context: EncodedContext
    is_match: NDArray[np.bool_]
    answer: tuple[int, int] | None
    truncated: int


class Window(NamedTuple):
    """A part of the text of a question.

    Args:
        row: Row of the question.
        first: Index of the first token of the text.
        size: Number of tokens of the text.
    """

    row: int
    first: int
    size: int


class TextWindowBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of windows.

    Args:
        ids: ``[batch, length]``, padded on the right.
        lengths: Tokens of each window, ``[batch]``.
        segments: Segment numbers, ``[batch, length]``; None for a model without them.
        roles: Roles of the tokens, ``[batch, length]``, -1 for padding; None for a model without
            them.
        is_context: Which tokens are of the text, ``[batch, length]``.
        starts: Position of the first token of the answer, ``[batch]``; 0 where it is not there.
        ends: Position of the last one.
        rows: Index of each window, ``[batch]``.
    """

    on_host: ClassVar = frozenset({"lengths"})
    ids: Tensor
    lengths: Tensor
    segments: Tensor | None
    roles: Tensor | None
    is_context: Tensor
    starts: Tensor
    ends: Tensor
    rows: NDArray[np.int64]


class Span(NamedTuple):
    """The best span of a question over all windows, and how likely the text has no answer.

    Args:
        start: First character.
        end: The character after the last.
        log_probability: Log-probability of the span in its window.
        log_null: Log-probability of "no answer", in the window where it is least likely.
    """

    start: int
    end: int
    log_probability: float
    log_null: float

    @property
    def margin(self) -> float:
        """How much more likely "no answer" is than the span, in nats."""
        return self.log_null - self.log_probability


def encode_questions(
    questions: Questions, tokenizer: AnyTokenizer, *, max_question: int
) -> list[EncodedQuestion]:
    """Return questions with their texts, encoded; a text that several have is encoded once.

    Args:
        questions: The rows.
        tokenizer: The vocabulary.
        max_question: Maximum number of tokens of a question, whose end is cut off.
    """
    distinct = list(dict.fromkeys(questions.contexts))
    contexts = dict(zip(distinct, _encode_contexts(distinct, tokenizer), strict=True))
    rows = []
    encoded = tokenizer.encode_with_offsets(questions.questions)
    for row, tokens in enumerate(encoded):
        question, context = questions.questions[row], contexts[questions.contexts[row]]
        answer = _first_answer(context, questions.answers[row], questions.starts[row])
        ids = np.array(tokens.ids[:max_question], dtype=np.int64)
        matches, truncated = _find_matches(context, question), len(tokens.ids) - len(ids)
        rows.append(EncodedQuestion(ids, context, matches, answer, truncated))
    return rows


def _encode_contexts(texts: Sequence[str], tokenizer: AnyTokenizer) -> Iterable[EncodedContext]:
    """Encode texts, one after the other: the offsets of all at once would take much memory."""
    for text in texts:
        (tokens,) = tokenizer.encode_with_offsets([text])
        words: dict[str, list[tuple[int, int]]] = {}
        for start, end in word_spans(text):
            words.setdefault(text[start:end].casefold(), []).append((start, end))
        yield EncodedContext(
            np.array(tokens.ids, dtype=np.int64),
            np.array(tokens.offsets, dtype=np.int64).reshape(-1, 2),
            words,
        )


def _find_matches(context: EncodedContext, question: str) -> NDArray[np.bool_]:
    """Return which tokens of a text belong to a word of the question, ``[tokens]``."""
    is_match = np.zeros(len(context.ids), dtype=bool)
    words = {question[start:end].casefold() for start, end in word_spans(question)}
    for start, end in (span for word in words for span in context.words.get(word, ())):
        first, last = _tokens_of(context, start, end)
        is_match[first : last + 1] = True
    return is_match


def _tokens_of(context: EncodedContext, start: int, end: int) -> tuple[int, int]:
    """Return the first and the last token that have some of the characters of a span."""
    first = int(np.searchsorted(context.offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(context.offsets[:, 0], end, side="left")) - 1
    return first, last


def _first_answer(
    context: EncodedContext, answers: Sequence[str], starts: Sequence[int]
) -> tuple[int, int] | None:
    """Return first and last token of the first answer that is in the text."""
    for answer, start in zip(answers, starts, strict=True):
        if start != NOT_FOUND:
            first, last = _tokens_of(context, start, start + len(answer))
            if first <= last:
                return first, last
    return None


class WindowBatches(LengthBatches):
    """Batches of windows of about equal length, in a fresh order every epoch.

    Args:
        questions: The questions.
        tokenizer: Gives the special tokens around question and text.
        model: Decides which inputs there are.
        max_length: Maximum number of tokens of a window.
        overlap: Tokens that two neighbouring windows share.
        batch_tokens: Maximum number of tokens in a batch, padding counted.
        negatives: Maximum number of windows without the answer that a question has; None keeps all.
        seed: Seed of the order, and of the choice of these windows.
    """

    def __init__(
        self,
        questions: Sequence[EncodedQuestion],
        tokenizer: AnyTokenizer,
        model: SpanModel,
        *,
        max_length: int,
        overlap: int,
        batch_tokens: int,
        negatives: int | None = None,
        seed: int = 0,
    ) -> None:
        self.questions, self.template = questions, tokenizer.pair_template
        self.pad_id = model.encoder.config.pad_id
        self.has_segments = model.encoder.config.num_segments > 1
        self.has_roles = model.roles is not None
        self.windows: list[Window] = []
        rng = np.random.default_rng(seed)
        for row in range(len(questions)):
            windows = self._windows_of(row, max_length, overlap)
            if negatives is not None and len(windows) > negatives:
                has_answer = [self._answer(window) != (0, 0) for window in windows]
                without = np.flatnonzero(~np.array(has_answer))
                sampled = set(rng.permutation(without)[:negatives].tolist())
                windows = [w for i, w in enumerate(windows) if has_answer[i] or i in sampled]
            self.windows += windows
        lengths = [self._num_before(window.row) + window.size for window in self.windows]
        num_end = len(self.template.end)
        super().__init__(
            np.array(lengths, dtype=np.int64) + num_end, batch_tokens=batch_tokens, seed=seed
        )

    def batch(self, rows: NDArray[np.int64]) -> TextWindowBatch:
        """Build the batch of some windows, ``[batch]``: its ids are ``[batch, length]``."""
        lengths = self.lengths[rows]
        shape = (len(rows), int(lengths.max()))
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        segments, roles = np.zeros(shape, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
        is_context = np.zeros(shape, dtype=bool)
        answers = np.zeros((len(rows), 2), dtype=np.int64)
        begin, between, end, numbers = self.template
        for index, row in enumerate(rows):
            window = self.windows[row]
            question, context, is_match, *_ = self.questions[window.row]
            first, stop = window.first, window.first + window.size
            parts = (begin, question, between, context.ids[first:stop], end)
            sizes = [len(part) for part in parts]
            ids[index, : sum(sizes)] = np.concatenate(parts)
            segments[index, : sum(sizes)] = np.repeat(numbers, sizes)
            before = sum(sizes[:3])
            inside = slice(before, before + window.size)
            roles[index, : sum(sizes)] = OF_QUESTION
            roles[index, inside] = np.where(is_match[first:stop], IN_BOTH, OF_CONTEXT)
            is_context[index, inside] = True
            answers[index] = self._answer(window)
        return TextWindowBatch(
            ids=torch.from_numpy(ids),
            lengths=torch.from_numpy(lengths),
            segments=torch.from_numpy(segments) if self.has_segments else None,
            roles=torch.from_numpy(roles) if self.has_roles else None,
            is_context=torch.from_numpy(is_context),
            starts=torch.from_numpy(answers[:, 0].copy()),
            ends=torch.from_numpy(answers[:, 1].copy()),
            rows=rows,
        )

    def characters(self, window: int, first: int, last: int) -> tuple[int, int]:
        """Return the characters of two positions of a window: the first, and the one after."""
        row, start, _ = self.windows[window]
        shift = start - self._num_before(row)
        offsets = self.questions[row].context.offsets
        return int(offsets[first + shift, 0]), int(offsets[last + shift, 1])

    def _num_before(self, row: int) -> int:
        """Return the number of tokens before the text."""
        template = self.template
        return len(template.begin) + len(self.questions[row].ids) + len(template.between)

    def _windows_of(self, row: int, max_length: int, overlap: int) -> list[Window]:
        """Cut the text of a question into windows; an empty text has one."""
        room = max_length - self._num_before(row) - len(self.template.end)
        size = len(self.questions[row].context.ids)
        step = room - min(overlap, room // 2)
        num_windows = 1 + max(0, math.ceil((size - room) / step))
        return [
            Window(row, first, min(room, size - first))
            for first in range(0, num_windows * step, step)
        ]

    def _answer(self, window: Window) -> tuple[int, int]:
        """Return the positions of the answer in a window; 0 twice where it is not whole."""
        answer = self.questions[window.row].answer
        if answer is None:
            return 0, 0
        first, last = answer[0] - window.first, answer[1] - window.first
        if first < 0 or last >= window.size:
            return 0, 0
        before = self._num_before(window.row)
        return before + first, before + last


def max_question_tokens(max_length: int, tokenizer: AnyTokenizer) -> int:
    """Return the maximum number of tokens of a question: as many as are left for its text.

    Raises:
        ConfigError: The window is too small for any.
    """
    room = (max_length - tokenizer.pair_template.num_special) // 2
    if room < _FEWEST_TOKENS:
        least = 2 * _FEWEST_TOKENS + tokenizer.pair_template.num_special
        raise ConfigError(
            f"data.max_length={max_length}: no room for a question and a text.  "
            f"The least is `data.max_length={least}`."
        )
    return room


def window_logits(model: SpanModel, batch: TextWindowBatch) -> Tensor:
    """Return the logits of start and end, ``[batch, length, 2]``, minus infinity outside the text.

    The first token, "no answer", has its logits, too.
    """
    batch = move_batch(batch, model)
    logits = model(
        batch.ids, segments=batch.segments, roles=batch.roles, lengths=batch.lengths
    )  # [batch, length, 2]
    is_possible = batch.is_context.clone()
    is_possible[:, 0] = True
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.masked_fill(~is_possible[..., None], -math.inf)


@torch.no_grad()
def best_spans(
    model: SpanModel, batches: WindowBatches, *, max_answer_tokens: int, world: World = ALONE
) -> list[Span | None]:
    """Find the best span of each question over all windows.

    Args:
        model: Model in evaluation mode.
        batches: All windows of the questions.
        max_answer_tokens: Maximum number of tokens of a span.
        world: The processes that share the batches.

    Returns:
        The span of each question; None where the text has no token.
    """

    def score(rows: NDArray[np.int64]) -> list[tuple[int, float, int, int, float]]:
        """Return index, best span with its log-probability, and "no answer" of each window."""
        batch = move_batch(batches.batch(rows), model)
        starts, ends = window_logits(model, batch).log_softmax(1).unbind(2)  # [batch, length]
        nulls = starts[:, 0] + ends[:, 0]
        starts, ends = (part.masked_fill(~batch.is_context, -math.inf) for part in (starts, ends))
        longest = min(max_answer_tokens, ends.shape[1])
        padded = torch.nn.functional.pad(ends, (0, longest - 1), value=-math.inf)
        # The best end of each start, among the tokens from the start on.
        of_start, distance = padded.unfold(1, longest, 1).max(2)  # [batch, length]
        scores, firsts = (starts + of_start).max(1)
        lasts = firsts + distance.gather(1, firsts[:, None])[:, 0]
        columns = (scores, firsts, lasts, nulls)
        return list(zip(rows.tolist(), *(column.tolist() for column in columns), strict=True))

    best: list[Span | None] = [None] * len(batches.questions)
    for windows in world.map(score, batches.in_sequence()):
        for window, log_probability, first, last, null in windows:
            row = batches.windows[window].row
            before = best[row]
            if before is not None:
                null = min(null, before.log_null)  # noqa: PLW2901
            if before is not None and not log_probability > before.log_probability:
                best[row] = before._replace(log_null=null)
            elif math.isfinite(log_probability):
                characters = batches.characters(window, first, last)
                best[row] = Span(*characters, log_probability, null)
    return best
