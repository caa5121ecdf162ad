"""Beam search with a length penalty; a beam of one is greedy search.

Outputs are ranked by Wu et al. 2016 or by the rule of ``transformers``: see `BeamSearchConfig`.
Where constraints leave an output no token it ends as it is, incomplete, and counts only if too few
others end.

The model gives the best tokens of each row; all else is arithmetic on a few numbers a sentence,
done by NumPy for all sentences at once. Sentences that are complete leave the batch, and others may
take their places (`Search.add`). Cost: one decoder step of ``batch * beam`` rows a token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, cast

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import SpecialIds
from regard.generation.beam_search_config import BeamSearchConfig, length_normalizer
from regard.generation.constraints import Constraints, check_forbidden, check_numbers
from regard.generation.decoding import (
    Beams,
    Candidates,
    JoiningDecoder,
    S,
    SearchingDecoder,
    Seq2SeqDecoder,
    TopDecoder,
)
from regard.generation.top_tokens import TopTokens, top_tokens

_ROWS_AT_ONCE = 128  # of all steps that the compiled decoder takes in one call


class Hypothesis(msgspec.Struct, frozen=True, kw_only=True):
    """One output.

    Args:
        ids: Token ids without begin and end.
        score: Length-penalised log-probability, natural logarithm; higher is better.
        log_probability: Log-probability of the whole output with its end, natural logarithm.
        is_complete: Whether it ended by itself, not by the length limit or for want of a token that
            the constraints allow.
    """

    ids: list[int]
    score: float
    log_probability: float
    is_complete: bool


@torch.inference_mode()
def beam_search(
    model: Seq2SeqDecoder[S],
    source_ids: Tensor,
    config: BeamSearchConfig,
    ids: SpecialIds = SpecialIds(),  # noqa: B008 - an immutable value
) -> list[list[Hypothesis]]:
    """Decode a batch of sources.

    Args:
        model: Model in evaluation mode.
        source_ids: ``[batch, source_length]``, padded on the right.
        config: Beam and penalty.
        ids: What pads a source, begins the decoder's input and ends an output.

    Returns:
        For each source the best hypotheses, best first: `config.num_best` of them, or fewer, but
        one at least, where the constraints allow no more.

    Raises:
        ConfigError: The constraints forbid every token.
        WeightsError: The model gives NaN.
    """
    results: list[list[Hypothesis]] = [[] for _ in range(len(source_ids))]
    search = make_search(model, config, ids, results.__setitem__)
    search.add(source_ids, range(len(source_ids)))
    while search.num_sentences:
        search.advance()
    return results


def make_search(
    model: Seq2SeqDecoder[S],
    config: BeamSearchConfig,
    ids: SpecialIds,
    finish: Callable[[int, list[Hypothesis]], None],
) -> Search[S]:
    """Return a search without sentences.

    Args:
        model: Model in evaluation mode.
        config: Beam and penalty.
        ids: What pads a source, begins the decoder's input and ends an output.
        finish: Called with the index and the hypotheses, best first, of each sentence that is done.
    """
    return (_Greedy if config.beam == 1 else _Beams)(model, config, ids, finish)


@dataclass(eq=False)
class Search(ABC, Generic[S]):
    """A search over a batch of sentences, which leave it when they are done.

    What is known of hypotheses is ``[batch, beam]``, of their tokens ``[batch, beam, length]``; the
    rows of the model are ``[batch * beam]``.

    Args:
        model: Model in evaluation mode.
        config: Beam and penalty.
        ids: What pads a source, begins the decoder's input and ends an output.
        finish: Called with the index and the hypotheses of each sentence that is done.
    """

    model: Seq2SeqDecoder[S]
    config: BeamSearchConfig
    ids: SpecialIds
    finish: Callable[[int, list[Hypothesis]], None]

    def __post_init__(self) -> None:
        model, config = self.model, self.config
        self.top_decoder = model if isinstance(model, TopDecoder) else None
        self.joining_decoder = model if isinstance(model, JoiningDecoder) else None
        self.state: S | None = None
        self.device = torch.device("cpu")
        self.indices = np.empty(0, dtype=np.int64)  # [batch]
        self.limits = np.empty(0, dtype=np.int64)  # [batch], most tokens of each output
        self.lengths = np.empty(0, dtype=np.int64)  # [batch], tokens with the begin
        self.tokens = np.empty((0, config.beam, 32), dtype=np.int64)
        """Tokens so far with the begin, ``[batch, beam, at least the longest]``."""
        self.scores: NDArray[np.float32] = np.empty((0, config.beam), dtype=np.float32)
        """Log-probabilities, ``[batch, beam]``."""
        self.bars = np.empty(0, dtype=np.float64)
        """Score that a hypothesis must exceed to be among the outputs, ``[batch]``."""
        self.divisors = np.empty(0, dtype=np.float64)
        """What log-probabilities at the limits are divided by, ``[batch]``."""
        self.reads_logits = config.reads_logits
        is_plain = not self.reads_logits and not config.forbidden
        has_enough = getattr(model, "vocab_size", 0) > 2 * config.beam
        is_able = is_plain and has_enough and isinstance(model, SearchingDecoder)
        self.searching_decoder = cast("SearchingDecoder[S]", model) if is_able else None

    @property
    def num_sentences(self) -> int:
        """Number of sentences that are not done."""
        return len(self.indices)

    @property
    def may_join(self) -> bool:
        """Whether sentences may be added while others are decoded."""
        return self.joining_decoder is not None and not self.reads_logits

    def add(self, source_ids: Tensor, indices: Sequence[int]) -> None:
        """Begin sentences.

        Args:
            source_ids: ``[batch, source_length]``, padded on the right.
            indices: Index of each, for `finish`.
        """
        num_new, num_old, beam = len(source_ids), self.num_sentences, self.config.beam
        if not num_new:
            return
        if self.top_decoder is None:  # which reads tokens and rows in main memory
            self.device = source_ids.device
        if self.state is None or not num_old:
            self.state = self.model.init_state(source_ids)
        else:
            assert self.joining_decoder is not None
            self.joining_decoder.add_sources(source_ids, self.state)
        if beam > 1:
            old = torch.arange(num_old * beam, device=self.device)
            new = torch.arange(num_old * beam, num_old * beam + num_new, device=self.device)
            self.state.select(torch.cat([old, new.repeat_interleave(beam)]))
        self.indices = np.concatenate([self.indices, np.asarray(indices, dtype=np.int64)])
        self.limits = np.concatenate([self.limits, self._limits_of(source_ids)])
        self.bars = np.concatenate([self.bars, np.full(num_new, -np.inf)])
        self.divisors = self._divisors_of(self.limits)
        self.lengths = np.concatenate([self.lengths, np.ones(num_new, dtype=np.int64)])
        tokens = np.full((num_new, *self.tokens.shape[1:]), self.ids.start)
        self.tokens = np.concatenate([self.tokens, tokens])
        # Only the first hypothesis counts at the start: the others are copies of it.
        scores = np.full((num_new, beam), -np.inf, dtype=np.float32)
        scores[:, 0] = 0.0
        self.scores = np.concatenate([self.scores, scores])

    def _search(self) -> Candidates | NDArray[np.int64] | None:
        """Let the model take steps; see `SearchingDecoder`."""
        decoder, state, longest = self.searching_decoder, self.state, int(self.lengths.max())
        assert decoder is not None
        assert state is not None
        if longest == self.tokens.shape[2]:
            self._make_room()
        # Few rows take many steps at once, many rows one: an interrupt waits for them.
        most = max(1, _ROWS_AT_ONCE // self.scores.size)
        room = self.tokens.shape[2]
        most = min(most, room - longest)
        beams = Beams(
            self.scores,
            self.tokens,
            self.lengths,
            self.limits,
            self.bars,
            self.divisors,
            None if self._has_bounds else self._divisors_of(np.arange(1, room + 1)),
            end_id=self.ids.end,
            closes_at_limit=self.config.ranking == "transformers" and self.config.beam > 1,
            min_length=self.config.min_length,
        )
        return decoder.search(beams, state, most)

    def drop(self, indices: Sequence[int]) -> None:
        """Let sentences go without outputs.

        Args:
            indices: Of sentences that are not done.
        """
        remaining = self._remain(np.isin(self.indices, indices))
        beams = np.arange(self.config.beam)
        self._select((remaining[:, None] * self.config.beam + beams).reshape(-1))

    @abstractmethod
    def advance(self) -> None:
        """Extend every hypothesis by one token, and let sentences go that are done."""

    @property
    def _has_bounds(self) -> bool:
        """Whether a hypothesis is judged by what its score may become until the limit."""
        return self.config.stopping == "certain" and self.config.length_penalty > 0

    def _divisors_of(self, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what log-probabilities of outputs of some lengths are divided by."""
        config = self.config
        with np.errstate(over="ignore"):  # a quotient is then 0, as it should be
            return length_normalizer(
                lengths.astype(np.float64), config.length_penalty, config.ranking
            )

    def _limits_of(self, source_ids: Tensor) -> NDArray[np.int64]:
        """Return the maximum number of tokens of each output, ``[batch]``."""
        # Padding is on the right; before the last other token its id may be part of the text.
        positions = torch.arange(1, source_ids.shape[1] + 1, device=source_ids.device)
        lengths = ((source_ids != self.ids.pad) * positions).amax(1)  # [batch]
        return self.config.output_limits(lengths.cpu().numpy())

    def _last_tokens(self) -> Tensor:
        """Return the last token of each row, ``[batch * beam]``."""
        last = self.tokens[np.arange(self.num_sentences), :, self.lengths - 1]
        return torch.from_numpy(last.reshape(-1)).to(self.device)

    def _best_tokens(self, num: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Take a step of the model.

        Args:
            num: Number of tokens of each row.

        Returns:
            Log-probabilities of the best next tokens, highest first, and their ids,
            ``[batch, beam, num]``, or fewer where the vocabulary has no more.

        Raises:
            ConfigError: The constraints forbid every token.
            WeightsError: The model gives NaN.
        """
        last, state, model = self._last_tokens(), self.state, self.model
        assert state is not None
        forbidden = self.config.forbidden
        # Tokens that are left out may be among the best.
        num_out = len(forbidden) + bool((self.lengths < self.config.min_length).any())
        if (decoder := self.top_decoder) is not None and not self.reads_logits:
            check_forbidden(forbidden, decoder.vocab_size)
            top = decoder.decode_top(last, state, min(num + num_out, decoder.vocab_size))
        else:
            logits = model.decode_step(last, state).float()
            check_forbidden(forbidden, logits.shape[1])
            if self.reads_logits:
                top = self._constrained(logits, num)
            else:
                top = top_tokens(logits, num + num_out)
        values, tokens, log_sum = (part.numpy() for part in top.cpu())
        scores = values - log_sum[:, None]
        check_numbers(not np.isnan(scores).any())
        shape = (self.num_sentences, self.config.beam, -1)
        scores, tokens = scores.reshape(shape), tokens.reshape(shape)
        return (scores, tokens) if self.reads_logits else self._leave_out(scores, tokens, num)

    def _leave_out(
        self, scores: NDArray[np.float32], tokens: NDArray[np.int64], num: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Set what is forbidden to minus infinity, and return the `num` best tokens that remain.

        Args:
            scores: Log-probabilities, highest first, ``[batch, beam, k]``.
            tokens: Their ids.
            num: Number of tokens.

        Returns:
            Scores and ids, ``[batch, beam, num or fewer]``.
        """
        is_too_short = self.lengths < self.config.min_length  # [batch]
        if not self.config.forbidden and not is_too_short.any():
            return scores[:, :, :num], tokens[:, :, :num]
        is_out = (tokens == self.ids.end) & is_too_short[:, None, None]
        if self.config.forbidden:
            is_out |= np.isin(tokens, self.config.forbidden)
        order = np.argsort(is_out, axis=2, kind="stable")[:, :, :num]
        scores = np.where(is_out, -np.inf, scores).astype(np.float32)
        return np.take_along_axis(scores, order, 2), np.take_along_axis(tokens, order, 2)

    def _constrained(self, logits: Tensor, num: int) -> TopTokens:
        """Apply constraints that depend on the tokens before to ``[rows, vocab]``."""
        device = logits.device
        length, beam = int(self.lengths[0]), self.config.beam  # no sentence joins others here
        tokens = self.tokens[:, :, :length].reshape(-1, length)
        parts = self.limits, tokens, np.arange(self.num_sentences).repeat(beam)
        limits, history, sentences = (
            torch.from_numpy(part).to(device, non_blocking=True) for part in parts
        )
        constraints = Constraints(self.config, limits, self.ids.end)
        if beam > 1:
            scores = constraints(logits.log_softmax(-1), 0.0, history, sentences)
            best, ids = scores.topk(min(num, scores.shape[1]), dim=1)
            return TopTokens(best, ids, torch.zeros_like(best[:, 0]))
        log_sum = logits.logsumexp(-1, keepdim=True)
        scores = constraints(logits, log_sum, history, sentences)
        # A penalty changes the logits' sum, so that the scores need a normalizer of their own.
        if self.config.is_renormalized or self.config.repetition_penalty != 1.0:
            log_sum = scores.logsumexp(-1, keepdim=True)
        best, ids = scores.max(-1, keepdim=True)
        return TopTokens(best, ids, log_sum.masked_fill(best == -torch.inf, 0.0)[:, 0])

    def _write(self, tokens: NDArray[np.int64]) -> None:
        """Append a token to each hypothesis, ``[batch, beam]``."""
        if self.lengths.max() == self.tokens.shape[2]:
            self._make_room()
        sentences = np.arange(self.num_sentences)[:, None]
        beams = np.arange(self.config.beam)
        self.tokens[sentences, beams, self.lengths[:, None]] = tokens
        self.lengths += 1

    def _make_room(self) -> None:
        """Double the number of tokens that there is room for."""
        self.tokens = np.concatenate([self.tokens, np.zeros_like(self.tokens)], axis=2)

    def _remain(self, is_done: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the sentences that remain, ``[remaining]``; those that are done, ``[batch]``, go.

        Those at the end take the places of the ones that leave, so that few rows move.
        """
        active = np.flatnonzero(~is_done)
        remaining = np.arange(len(active))
        remaining[is_done[: len(active)]] = active[active >= len(active)]
        self.indices, self.limits = self.indices[remaining], self.limits[remaining]
        self.lengths, self.tokens = self.lengths[remaining], self.tokens[remaining]
        self.scores, self.bars = self.scores[remaining], self.bars[remaining]
        self.divisors = self.divisors[remaining]
        return remaining

    def _select(self, rows: NDArray[np.int64]) -> None:
        """Keep, repeat or reorder the rows of the model's state, ``[batch * beam]``."""
        assert self.state is not None
        self.state.select(torch.from_numpy(rows).to(self.device))

    def _hypothesis(
        self, ids: NDArray[np.int64], log_probability: float, length: int, *, is_complete: bool
    ) -> Hypothesis:
        """Score an output of `length` tokens, its end counted."""
        config = self.config
        normalizer = length_normalizer(max(1, length), config.length_penalty, config.ranking)
        return Hypothesis(
            ids=ids.tolist(),
            score=log_probability / normalizer,
            log_probability=log_probability,
            is_complete=is_complete,
        )


class _Greedy(Search[S]):
    """Takes the most probable token at every step: its scores are ``[batch, 1]``."""

    def advance(self) -> None:
        if self.searching_decoder is None:
            best, ids = self._best_tokens(1)
            scores, tokens = best[:, 0, 0], ids[:, 0, 0]  # [batch]
            is_dead = scores == -np.inf
            self.scores[:, 0] += np.where(is_dead, np.float32(0.0), scores)
            self._write(tokens[:, None])
            self._let_go(is_dead)
            return
        result = self._search()
        if result is None:
            return
        if isinstance(result, Candidates):
            self.scores = result.scores[:, :1].copy()
            self._write(result.tokens[:, :1])
        self._let_go(np.zeros(self.num_sentences, dtype=np.bool_))

    def _let_go(self, is_dead: NDArray[np.bool_]) -> None:
        """Let sentences go whose last token ends them, or that are at their limit or dead."""
        lengths = self.lengths - 1  # with the new token, without the begin
        tokens = self.tokens[np.arange(self.num_sentences), 0, lengths]
        has_ended = (tokens == self.ids.end) & ~is_dead
        is_done = has_ended | is_dead | (self.limits <= lengths)
        if not is_done.any():
            return
        for sentence in np.flatnonzero(is_done).tolist():
            length, is_complete = int(lengths[sentence]), bool(has_ended[sentence])
            num_tokens = length - int(is_dead[sentence])
            ids = self.tokens[sentence, 0, 1 : num_tokens + 1 - is_complete]
            log_probability = float(self.scores[sentence, 0])
            output = self._hypothesis(ids, log_probability, num_tokens, is_complete=is_complete)
            self.finish(int(self.indices[sentence]), [output])
        self._select(self._remain(is_done))


@dataclass(eq=False)
class _Beams(Search[S]):
    """Keeps the best hypotheses of each sentence, ``[batch, beam]``.

    The row of one is ``sentence * beam + hypothesis``.
    """

    finished: dict[int, list[Hypothesis]] = field(default_factory=dict, init=False)
    """Outputs of each sentence that count, by its index."""
    dead: dict[int, list[Hypothesis]] = field(default_factory=dict, init=False)
    """Outputs of each sentence to which the constraints left no token."""

    def add(self, source_ids: Tensor, indices: Sequence[int]) -> None:
        super().add(source_ids, indices)
        self.finished.update({int(index): [] for index in indices})

    def drop(self, indices: Sequence[int]) -> None:
        super().drop(indices)
        for index in indices:
            del self.finished[index]
            self.dead.pop(index, None)

    def advance(self) -> None:
        candidates = self._candidates() if self.searching_decoder is None else self._search()
        if isinstance(candidates, Candidates):
            self._let_go(self._keep(candidates))
        elif candidates is not None:
            self._let_go(candidates)

    def _candidates(self) -> Candidates:
        """Take a step of the model; return what may continue the hypotheses."""
        beam, num = self.config.beam, self.num_sentences
        scores, tokens = self._best_tokens(2 * beam)  # [batch, beam, k]
        self._collect_dead(scores)
        # Twice the beam: at most `beam` of them end, so that `beam` always continue.
        totals = (self.scores[:, :, None] + scores).reshape(num, -1)
        order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beam]
        sentences = np.arange(num)[:, None]
        return Candidates(
            totals[sentences, order],
            order // scores.shape[2],
            tokens.reshape(num, -1)[sentences, order],
        )

    def _keep(self, candidates: Candidates) -> NDArray[np.int64]:
        """Store outputs, and keep the best candidates that continue.

        Returns:
            The hypothesis that each continues, ``[batch, beam]``.
        """
        beam, sentences = self.config.beam, np.arange(self.num_sentences)[:, None]
        best, origins, tokens = candidates
        is_closed = tokens == self.ids.end
        if self.config.ranking == "transformers":  # outputs at their limit are ranked with others
            is_closed |= (self.lengths >= self.limits)[:, None]
        self._collect(best, origins, tokens, is_closed)
        best = np.where(is_closed, np.float32(-np.inf), best)
        ranks = np.argsort(is_closed, axis=1, kind="stable")[:, :beam]
        origins, tokens, best = (part[sentences, ranks] for part in (origins, tokens, best))
        if self.top_decoder is None:  # the state moves rows by copying them
            children = _keep_in_place(origins)
            origins, tokens, best = (part[sentences, children] for part in (origins, tokens, best))
        self.tokens = self.tokens[sentences, origins]
        self.scores = best.astype(np.float32, copy=False)
        self._write(tokens)
        return origins

    def _let_go(self, origins: NDArray[np.int64]) -> None:
        """Let sentences go that are done; bring rows in the order of the hypotheses."""
        beam, sentences = self.config.beam, np.arange(self.num_sentences)[:, None]
        is_done = self._are_done()
        if is_done.any():
            self._finish(is_done)
            remaining = self._remain(is_done)
            sentences, origins = remaining[:, None], origins[remaining]
        self._select((sentences * beam + origins).reshape(-1))

    def _collect(
        self,
        best: NDArray[np.float32],
        origins: NDArray[np.int64],
        tokens: NDArray[np.int64],
        is_closed: NDArray[np.bool_],
    ) -> None:
        """Store hypotheses that close within the best `beam` of [batch, 2 * beam]."""
        is_output = is_closed[:, : self.config.beam] & (best[:, : self.config.beam] > -np.inf)
        if not is_output.any():
            return
        for sentence, rank in np.argwhere(is_output).tolist():
            length = int(self.lengths[sentence])  # the begin counts for the new token
            ids = self.tokens[sentence, origins[sentence, rank], 1:length]
            has_ended = bool(tokens[sentence, rank] == self.ids.end)
            output = self._hypothesis(
                ids if has_ended else np.append(ids, tokens[sentence, rank]),
                float(best[sentence, rank]),
                length,
                is_complete=has_ended,
            )
            self._store(sentence, output)

    def _store(self, sentence: int, output: Hypothesis) -> None:
        """Add an output that counts, and raise the bar for others."""
        outputs = self.finished[int(self.indices[sentence])]
        outputs.append(output)
        if len(outputs) >= self._num_needed:
            scores = sorted((output.score for output in outputs), reverse=True)
            self.bars[sentence] = scores[self._num_needed - 1]

    @property
    def _num_needed(self) -> int:
        """Number of outputs without which no sentence is done before its limit."""
        config = self.config
        return config.num_best if config.stopping == "certain" else config.beam

    def _collect_dead(self, scores: NDArray[np.float32]) -> None:
        """Store hypotheses whose continuations, [batch, beam, k], are all forbidden."""
        is_dead = (self.scores > -np.inf) & (scores[:, :, 0] == -np.inf)
        if not is_dead.any():
            return
        for sentence, rank in np.argwhere(is_dead).tolist():
            ids = self.tokens[sentence, rank, 1 : self.lengths[sentence]]
            score = float(self.scores[sentence, rank])
            output = self._hypothesis(ids, score, len(ids), is_complete=False)
            self.dead.setdefault(int(self.indices[sentence]), []).append(output)

    def _are_done(self) -> NDArray[np.bool_]:
        """Return where no hypothesis that continues can still beat those that ended."""
        config, lengths = self.config, self.lengths - 1
        best = self.scores.max(axis=1)
        is_done = (best == -np.inf) | (lengths >= self.limits)
        if config.stopping == "first":
            return is_done | (self.bars > -np.inf)
        # A log-probability only falls; with a penalty its divisor is largest at the limit.
        divisors = self.divisors if self._has_bounds else self._divisors_of(lengths)
        return is_done | ((self.bars > -np.inf) & (self.bars >= best / divisors))

    def _finish(self, is_done: NDArray[np.bool_]) -> None:
        """Hand out the outputs of sentences that are done, ``[batch]``."""
        num_best = self.config.num_best
        for sentence in np.flatnonzero(is_done).tolist():
            index, length = int(self.indices[sentence]), int(self.lengths[sentence]) - 1
            outputs = self.finished.pop(index)
            if length >= self.limits[sentence]:  # fill up with hypotheses that have not ended
                ranked = np.argsort(-self.scores[sentence], kind="stable").tolist()
                for rank in ranked[: max(0, num_best - len(outputs))]:
                    score = float(self.scores[sentence, rank])
                    if score > -np.inf:
                        ids = self.tokens[sentence, rank, 1 : length + 1]
                        outputs.append(self._hypothesis(ids, score, length, is_complete=False))
            dead = _best(self.dead.pop(index, []))
            outputs += dead[: max(0, num_best - len(outputs))]
            self.finish(index, _best(outputs)[:num_best])


def _best(outputs: list[Hypothesis]) -> list[Hypothesis]:
    return sorted(outputs, key=lambda output: -output.score)


def _keep_in_place(origins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an order of the hypotheses in which one continues each row where it is.

    Args:
        origins: The row of the sentence that each continues, ``[batch, beam]``.

    Returns:
        The hypothesis for each row, ``[batch, beam]``: the first that continues it, and in rows
        that none continues one of the others.
    """
    num, beam = origins.shape
    sentences, ranks = np.arange(num)[:, None], np.arange(beam)
    children = np.full((num, beam), -1)
    children[sentences, origins[:, ::-1]] = ranks[::-1]  # the last that is written is the first
    is_first = children[sentences, origins] == ranks
    free, unassigned = children < 0, ~is_first  # as many in each sentence
    children[free] = np.broadcast_to(ranks, (num, beam))[unassigned]
    return children
