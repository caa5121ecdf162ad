"""Beam search with length penalty; a beam of one is greedy search.

Outputs rank as Wu et al. 2016 rank them, or as ``transformers`` does: see `BeamSearchConfig`.
Sentences that are complete leave the batch, so the cost falls as they do. Cost: one decoder step of
``batch * beam`` rows a token.
"""

from __future__ import annotations

from typing import Generic

import msgspec
import torch
from torch import Tensor

from regard.data.batching import SpecialIds
from regard.generation.beam_search_config import BeamSearchConfig, length_normalizer
from regard.generation.constraints import Constraints
from regard.generation.decoding import S, Seq2SeqDecoder


class Hypothesis(msgspec.Struct, frozen=True, kw_only=True):
    """One output.

    Args:
        ids: Token ids without begin and end.
        score: Length-penalised log-probability, natural logarithm; higher is better.
        log_probability: Of the whole output with its end, natural logarithm.
        is_complete: Whether it ended by itself, not by the length limit.
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
        model: In evaluation mode.
        source_ids: ``[batch, source_length]``, padded on the right.
        config: Beam and penalty.
        ids: What pads a source, begins the decoder's input and ends an output.

    Returns:
        For each source the best hypotheses, best first, `config.num_best` of them.
    """
    # Padding stands on the right; its token may stand for text before that.
    places = torch.arange(1, source_ids.shape[1] + 1, device=source_ids.device)
    limits = _limits(((source_ids != ids.pad) * places).amax(1), config)
    if config.beam == 1:
        return _greedy(model, source_ids, limits, config, ids)
    return _Beams(model, source_ids, limits, config, ids).run()


def _limits(lengths: Tensor, config: BeamSearchConfig) -> Tensor:
    """Tell the most output tokens for sources of some lengths, both ``[batch]``."""
    if config.max_length_ratio is None:
        assert config.max_length is not None
        return torch.full_like(lengths, config.max_length)
    limits = (lengths * config.max_length_ratio).long() + 10
    return limits if config.max_length is None else limits.clamp(max=config.max_length)


def _score(log_probability: float, length: int, config: BeamSearchConfig) -> float:
    """Rank an output of `length` tokens, its end counted."""
    return log_probability / length_normalizer(length, config.length_penalty, config.ranking)


def _greedy(
    model: Seq2SeqDecoder[S],
    source_ids: Tensor,
    limits: Tensor,
    config: BeamSearchConfig,
    ids: SpecialIds,
) -> list[list[Hypothesis]]:
    """Take the most probable token of [batch, vocab] at every step."""
    num_rows, device = len(source_ids), source_ids.device
    state = model.init_state(source_ids)
    last = torch.full((num_rows,), ids.start, device=device)
    alive = torch.arange(num_rows, device=device)
    total = torch.zeros(num_rows, device=device)
    constrained = Constraints(config, limits, ids.end)
    # Scores that were divided belong to another distribution, and have a sum of their own.
    rescaled = config.is_renormalized or config.repetition_penalty != 1.0
    outputs: list[list[int]] = [[] for _ in range(num_rows)]
    results: list[list[Hypothesis]] = [[] for _ in range(num_rows)]
    history = last[:, None]  # [alive, length]
    while len(alive):
        length = history.shape[1]
        logits = model.decode_step(last, state).float()
        normalizer = logits.logsumexp(-1, keepdim=True)
        scores = constrained(logits, normalizer, history, alive)
        best, last = scores.max(-1)
        total = total + best - (scores.logsumexp(-1) if rescaled else normalizer[:, 0])
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
                        score=_score(log_probability, length, config),
                        log_probability=log_probability,
                        is_complete=bool(ended[place]),
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
        model: Seq2SeqDecoder[S],
        source_ids: Tensor,
        limits: Tensor,
        config: BeamSearchConfig,
        ids: SpecialIds,
    ) -> None:
        self.model, self.config, self.end_id = model, config, ids.end
        self.constrained = Constraints(config, limits, ids.end)
        num, beam, device = len(source_ids), config.beam, source_ids.device
        self.limits = limits.tolist()
        self.state = model.init_state(source_ids)
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
        logits = self.model.decode_step(self.ids[:, :, -1].flatten(), self.state).float()
        vocab = logits.shape[-1]
        at = torch.tensor(self.alive, device=device).repeat_interleave(beam)
        found = self.constrained(logits.log_softmax(-1), 0.0, self.ids.flatten(0, 1), at)
        totals = self.scores[:, :, None] + found.view(num, beam, vocab)
        # Twice the beam: at most `beam` of them end, so `beam` always go on.
        best, places = totals.flatten(1).topk(2 * beam, dim=1)  # [sentences, 2 * beam]
        origins, tokens = places // vocab, places % vocab
        closed = (tokens == self.end_id) | self._cut_off()
        self._collect(best, origins, tokens, closed)
        going = best.masked_fill(closed, -torch.inf)
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

    def _cut_off(self) -> Tensor:
        """Tell whose outputs are at their limit and rank as they are, ``[sentences, 1]``."""
        at_limit = [self.ids.shape[2] >= self.limits[sentence] for sentence in self.alive]
        ranks = self.config.ranking == "transformers"
        return torch.tensor(at_limit, device=self.ids.device)[:, None] & ranks

    def _collect(self, best: Tensor, origins: Tensor, tokens: Tensor, closed: Tensor) -> None:
        """Store hypotheses that close within the best `beam` of [batch, 2 * beam] candidates."""
        length = self.ids.shape[2]  # begin counts for the token that is added
        for place, rank in closed[:, : self.config.beam].nonzero().tolist():
            log_probability, token = float(best[place, rank]), int(tokens[place, rank])
            if log_probability == -torch.inf:
                continue
            ids = self.ids[place, int(origins[place, rank]), 1:].tolist()
            has_ended = token == self.end_id
            self.finished[self.alive[place]].append(
                Hypothesis(
                    ids=ids if has_ended else [*ids, token],
                    score=_score(log_probability, length, self.config),
                    log_probability=log_probability,
                    is_complete=has_ended,
                )
            )

    def _is_done(self, place: int) -> bool:
        """Tell whether no hypothesis going on can still beat those that ended."""
        config, sentence = self.config, self.alive[place]
        found, length = self.finished[sentence], self.ids.shape[2] - 1
        if length >= self.limits[sentence]:
            self._give_up(place)
            return True
        wanted = config.num_best if config.stopping == "certain" else config.beam
        if len(found) < wanted or config.stopping == "first":
            return len(found) >= wanted
        # A log-probability only falls; with a penalty its divisor is largest at the limit.
        is_bound = config.stopping == "certain" and config.length_penalty > 0
        longest = self.limits[sentence] if is_bound else length
        attainable = _score(float(self.scores[place, 0]), longest, config)
        ranked = sorted((hypothesis.score for hypothesis in found), reverse=True)
        return ranked[wanted - 1] >= attainable

    def _give_up(self, place: int) -> None:
        """At the length limit, fill the list up with hypotheses that have not ended."""
        found = self.finished[self.alive[place]]
        length = self.ids.shape[2] - 1
        for rank in range(self.config.num_best - len(found)):
            log_probability = float(self.scores[place, rank])
            found.append(
                Hypothesis(
                    ids=self.ids[place, rank, 1:].tolist(),
                    score=_score(log_probability, length, self.config),
                    log_probability=log_probability,
                    is_complete=False,
                )
            )
