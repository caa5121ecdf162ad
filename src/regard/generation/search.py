"""Beam search with length penalty; a beam of one is greedy search.

Scores follow Wu et al. 2016, equation 14: log-probability over ``((5 + length) / 6) ** alpha``.
Sentences that are finished leave the batch, so the cost falls as they do. Cost: one decoder step of
``batch * beam`` rows a token.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import msgspec
import torch
from torch import Tensor

from regard.checks import require_at_least
from regard.data.batching import SpecialIds


class State(Protocol):
    """What a model carries from token to token."""

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows by index, ``[new_batch]``."""
        ...


S = TypeVar("S", bound=State)


class Decodes(Protocol[S]):
    """A model that writes one token at a time."""

    def start(self, source_ids: Tensor) -> S:
        """Read the source, ``[batch, source_length]``."""
        ...

    def step(self, ids: Tensor, state: S) -> Tensor:
        """Take the last token of each row, ``[batch]``; return logits ``[batch, vocab]``."""
        ...


class SearchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to search.

    Args:
        beam: Number of hypotheses kept at every step; 1 is greedy.
        length_penalty: alpha, 0 (none) or more; 1 is about the mean log-probability.
        max_length_ratio: Most output tokens for each source token, plus ten.
        max_length: Most output tokens whatever the source, its end counted; none sets no limit.
        min_length: Fewest output tokens, its end counted; a lower `max_length` goes before.
        num_best: Number of hypotheses to return for each sentence, at most `beam`.
        no_repeat_size: Number of tokens in a row that no output has twice (Paulus et al. 2017); 0
            lets them come again.
        forbidden: Ids of tokens that are never written.
        forced_first: Id of the token that every output begins with; none leaves it to the model.
        forces_end: Whether an output that reaches its limit is ended there, as if by itself,
            rather than cut off.
    """

    beam: int = 4
    length_penalty: float = 1.0
    max_length_ratio: float = 2.0
    max_length: int | None = None
    min_length: int = 0
    num_best: int = 1
    no_repeat_size: int = 0
    forbidden: tuple[int, ...] = ()
    forced_first: int | None = None
    forces_end: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, self, "beam", "max_length")
        require_at_least(0, self, "min_length", "no_repeat_size", "forced_first")
        if not 1 <= self.num_best <= self.beam:
            raise ValueError(f"num_best must be 1 to beam ({self.beam}), not {self.num_best}")
        if any(token < 0 for token in self.forbidden):
            raise ValueError(f"forbidden: ids must be 0 or more, not {min(self.forbidden)}")


class Hypothesis(msgspec.Struct, frozen=True, kw_only=True):
    """One output.

    Args:
        ids: Token ids without begin and end.
        score: Length-penalised log-probability, natural logarithm; higher is better.
        log_probability: Of the whole output with its end, natural logarithm.
        is_finished: Whether it ended by itself, not by the length limit.
    """

    ids: list[int]
    score: float
    log_probability: float
    is_finished: bool


def length_normalizer(length: int, alpha: float) -> float:
    """Compute the divisor of Wu et al. 2016, equation 14, for an output of `length` tokens."""
    return ((5.0 + length) / 6.0) ** alpha


@torch.inference_mode()
def search(
    model: Decodes[S],
    source_ids: Tensor,
    config: SearchConfig,
    ids: SpecialIds = SpecialIds(),  # noqa: B008 - an immutable value
) -> list[list[Hypothesis]]:
    """Decode a batch of sources.

    Args:
        model: In evaluation mode.
        source_ids: ``[batch, source_length]``, padded on the right.
        config: Beam and penalty.
        ids: What pads a source, begins the decoder's input and ends an output.

    Returns:
        For each source the best hypotheses, best first, `config.num_best` of them.
    """
    lengths = (source_ids != ids.pad).sum(1)
    limits = (lengths * config.max_length_ratio).long() + 10  # [batch]
    if config.max_length is not None:
        limits = limits.clamp(max=config.max_length)
    if config.beam == 1:
        return _greedy(model, source_ids, limits, config, ids)
    return _Beams(model, source_ids, limits, config, ids).run()


def _without(scores: Tensor, forbidden: tuple[int, ...]) -> Tensor:
    """Make tokens impossible in scores ``[batch, vocab]``; the others keep theirs."""
    if not forbidden:
        return scores
    return scores.index_fill(1, torch.tensor(forbidden, device=scores.device), -torch.inf)


class _Constraints:
    """What is forbidden and forced in a batch of outputs.

    Args:
        config: Tells what.
        limits: Most tokens of each output, ``[batch]``.
        end: Id that ends an output.
    """

    def __init__(self, config: SearchConfig, limits: Tensor, end: int) -> None:
        self.config, self.limits, self.end = config, limits, end

    def __call__(
        self, scores: Tensor, certain: float | Tensor, history: Tensor, at: Tensor
    ) -> Tensor:
        """Make tokens impossible, or certain, which goes before.

        Args:
            scores: Of the next token, ``[rows, vocab]``.
            certain: The score of a token that is sure to come, one number or ``[rows, 1]``.
            history: What stands before that token, the begin counted, ``[rows, length]``.
            at: Which output of the batch each row belongs to, ``[rows]``.
        """
        config, length = self.config, history.shape[1]  # of outputs with the token to come
        scores = _without(scores, config.forbidden)
        if length < config.min_length:
            scores = _without(scores, (self.end,))
        if 0 < config.no_repeat_size <= length:
            scores = _without_repeats(scores, history, config.no_repeat_size)
        if length == 1 and config.forced_first is not None:
            scores = _only(config.forced_first, scores, certain)
        if config.forces_end:
            is_last = (self.limits[at] == length)[:, None]
            scores = torch.where(is_last, _only(self.end, scores, certain), scores)
        return scores


def _without_repeats(scores: Tensor, history: Tensor, size: int) -> Tensor:
    """Make tokens impossible that would repeat `size` in a row of history ``[rows, length]``."""
    windows = history.unfold(1, size, 1)  # [rows, windows, size]
    latest = history[:, history.shape[1] - size + 1 :]
    rows, places = (windows[..., :-1] == latest[:, None]).all(-1).nonzero(as_tuple=True)
    scores = scores.clone()
    scores[rows, windows[rows, places, -1]] = -torch.inf
    return scores


def _only(token: int, scores: Tensor, certain: float | Tensor) -> Tensor:
    """Make all tokens but one impossible in scores ``[rows, vocab]``."""
    is_it = torch.arange(scores.shape[1], device=scores.device) == token
    return torch.where(is_it, certain, -torch.inf).expand_as(scores)


def _greedy(
    model: Decodes[S], source_ids: Tensor, limits: Tensor, config: SearchConfig, ids: SpecialIds
) -> list[list[Hypothesis]]:
    """Take the most probable token of [batch, vocab] at every step."""
    num_rows, device = len(source_ids), source_ids.device
    state = model.start(source_ids)
    last = torch.full((num_rows,), ids.start, device=device)
    alive = torch.arange(num_rows, device=device)
    total = torch.zeros(num_rows, device=device)
    constrained = _Constraints(config, limits, ids.end)
    outputs: list[list[int]] = [[] for _ in range(num_rows)]
    results: list[list[Hypothesis]] = [[] for _ in range(num_rows)]
    history = last[:, None]  # [alive, length]
    while len(alive):
        length = history.shape[1]
        logits = model.step(last, state).float()
        normalizer = logits.logsumexp(-1, keepdim=True)
        best, last = constrained(logits, normalizer, history, alive).max(-1)
        total = total + best - normalizer[:, 0]
        history = torch.cat([history, last[:, None]], dim=1)
        ended = last == ids.end
        done = ended | (limits[alive] <= length)
        for place, (row, token) in enumerate(zip(alive.tolist(), last.tolist(), strict=True)):
            if token != ids.end:
                outputs[row].append(token)
            if done[place]:
                log_probability = float(total[place])
                results[row] = [
                    Hypothesis(
                        ids=outputs[row],
                        score=log_probability / length_normalizer(length, config.length_penalty),
                        log_probability=log_probability,
                        is_finished=bool(ended[place]),
                    )
                ]
        if done.any():
            kept = (~done).nonzero().squeeze(1)
            alive, last, total, history = alive[kept], last[kept], total[kept], history[kept]
            state.select(kept)
    return results


class _Beams(Generic[S]):
    """Beam search over a batch; rows are ``sentence * beam + hypothesis``."""

    def __init__(
        self,
        model: Decodes[S],
        source_ids: Tensor,
        limits: Tensor,
        config: SearchConfig,
        ids: SpecialIds,
    ) -> None:
        self.model, self.config, self.end_id = model, config, ids.end
        self.constrained = _Constraints(config, limits, ids.end)
        num, beam, device = len(source_ids), config.beam, source_ids.device
        self.limits = limits.tolist()
        self.state = model.start(source_ids)
        self.state.select(torch.arange(num, device=device).repeat_interleave(beam))
        self.alive = list(range(num))
        self.ids = torch.full((num, beam, 1), ids.start, device=device)  # [sentences, beam, length]
        # Only the first hypothesis counts at the start: the others are copies of it.
        self.scores = torch.full((num, beam), -torch.inf, device=device)
        self.scores[:, 0] = 0.0
        self.finished: list[list[Hypothesis]] = [[] for _ in range(num)]

    def run(self) -> list[list[Hypothesis]]:
        while self.alive:
            self._advance()
        for found in self.finished:
            found.sort(key=lambda hypothesis: -hypothesis.score)
        return [found[: self.config.num_best] for found in self.finished]

    def _advance(self) -> None:
        """Extend every hypothesis by one token, keep the best, drop sentences that are done."""
        beam, device = self.config.beam, self.ids.device
        num = len(self.alive)
        logits = self.model.step(self.ids[:, :, -1].flatten(), self.state).float()
        vocab = logits.shape[-1]
        at = torch.tensor(self.alive, device=device).repeat_interleave(beam)
        found = self.constrained(logits.log_softmax(-1), 0.0, self.ids.flatten(0, 1), at)
        totals = self.scores[:, :, None] + found.view(num, beam, vocab)
        # Twice the beam: at most `beam` of them end, so `beam` always go on.
        best, places = totals.flatten(1).topk(2 * beam, dim=1)  # [sentences, 2 * beam]
        origins, tokens = places // vocab, places % vocab
        ended = tokens == self.end_id
        self._collect(best, origins, ended)
        going = best.masked_fill(ended, -torch.inf)
        self.scores, chosen = going.topk(beam, dim=1)  # [sentences, beam]
        origins, tokens = origins.gather(1, chosen), tokens.gather(1, chosen)
        history = self.ids.gather(1, origins[:, :, None].expand(-1, -1, self.ids.shape[2]))
        self.ids = torch.cat([history, tokens[:, :, None]], dim=2)
        kept = [place for place in range(num) if not self._is_done(place)]
        rows = origins + torch.arange(num, device=device)[:, None] * beam
        if len(kept) < num:
            index = torch.tensor(kept, dtype=torch.long, device=device)
            self.ids, self.scores, rows = self.ids[index], self.scores[index], rows[index]
            self.alive = [self.alive[place] for place in kept]
        self.state.select(rows.flatten())

    def _collect(self, best: Tensor, origins: Tensor, ended: Tensor) -> None:
        """Store hypotheses that end within the best `beam` of [batch, 2 * beam] candidates."""
        length = self.ids.shape[2]  # begin counts for the end that is added
        normalizer = length_normalizer(length, self.config.length_penalty)
        for place, rank in ended[:, : self.config.beam].nonzero().tolist():
            log_probability = float(best[place, rank])
            if log_probability == -torch.inf:
                continue
            self.finished[self.alive[place]].append(
                Hypothesis(
                    ids=self.ids[place, int(origins[place, rank]), 1:].tolist(),
                    score=log_probability / normalizer,
                    log_probability=log_probability,
                    is_finished=True,
                )
            )

    def _is_done(self, place: int) -> bool:
        """Tell whether no hypothesis going on can still beat those that ended."""
        sentence = self.alive[place]
        found, length = self.finished[sentence], self.ids.shape[2] - 1
        if length >= self.limits[sentence]:
            self._give_up(place)
            return True
        if len(found) < self.config.num_best:
            return False
        # A log-probability only falls; at the length limit its divisor is largest.
        largest = length_normalizer(self.limits[sentence], self.config.length_penalty)
        attainable = float(self.scores[place, 0]) / largest
        ranked = sorted((hypothesis.score for hypothesis in found), reverse=True)
        return ranked[self.config.num_best - 1] >= attainable

    def _give_up(self, place: int) -> None:
        """At the length limit, fill the list up with hypotheses that have not ended."""
        found = self.finished[self.alive[place]]
        length = self.ids.shape[2] - 1
        normalizer = length_normalizer(length, self.config.length_penalty)
        for rank in range(self.config.num_best - len(found)):
            log_probability = float(self.scores[place, rank])
            found.append(
                Hypothesis(
                    ids=self.ids[place, rank, 1:].tolist(),
                    score=log_probability / normalizer,
                    log_probability=log_probability,
                    is_finished=False,
                )
            )
