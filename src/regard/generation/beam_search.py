"""Beam search with a length penalty; a beam of one is greedy search.

Outputs are ranked by Wu et al. 2016 or by the rule of ``transformers``: see `BeamSearchConfig`.
Where constraints leave an output no token it ends as it is, incomplete, and counts only if too few
others end.
Sentences that are complete leave the batch, so the cost of a step falls. Cost: one decoder step of
``batch * beam`` rows a token.
"""

from __future__ import annotations

from typing import Generic

import msgspec
import torch
from torch import Tensor

from regard.data.batching import SpecialIds
from regard.generation.beam_search_config import BeamSearchConfig, length_normalizer
from regard.generation.constraints import Constraints, check_logits
from regard.generation.decoding import S, Seq2SeqDecoder


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
    # Padding is on the right; before the last other token its id may be part of the text.
    positions = torch.arange(1, source_ids.shape[1] + 1, device=source_ids.device)
    lengths = ((source_ids != ids.pad) * positions).amax(1)  # [batch]
    if config.max_length_ratio is None:
        limits = torch.full_like(lengths, torch.iinfo(lengths.dtype).max)
    else:
        limits = (lengths * config.max_length_ratio).long() + 10
    if config.max_length is not None:
        limits = limits.clamp(max=config.max_length)
    if config.beam == 1:
        return _greedy(model, source_ids, limits, config, ids)
    return _Beams(model, source_ids, limits, config, ids).run()


def _hypothesis(
    ids: list[int],
    log_probability: float,
    length: int,
    config: BeamSearchConfig,
    *,
    is_complete: bool,
) -> Hypothesis:
    """Score an output of `length` tokens, its end counted."""
    normalizer = length_normalizer(max(1, length), config.length_penalty, config.ranking)
    return Hypothesis(
        ids=ids,
        score=log_probability / normalizer,
        log_probability=log_probability,
        is_complete=is_complete,
    )


def _best(outputs: list[Hypothesis]) -> list[Hypothesis]:
    return sorted(outputs, key=lambda output: -output.score)


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
    constraints = Constraints(config, limits, ids.end)
    # A penalty changes the logits' sum, so that the scores need a normalizer of their own.
    is_rescaled = config.is_renormalized or config.repetition_penalty != 1.0
    outputs: list[list[int]] = [[] for _ in range(num_rows)]
    results: list[list[Hypothesis]] = [[] for _ in range(num_rows)]
    history = last[:, None]  # [alive, length]
    while len(alive):
        length = history.shape[1]
        logits = model.decode_step(last, state).float()
        check_logits(logits)
        normalizer = logits.logsumexp(-1, keepdim=True)
        scores = constraints(logits, normalizer, history, alive)
        best, last = scores.max(-1)
        is_dead = best == -torch.inf
        gain = best - (scores.logsumexp(-1) if is_rescaled else normalizer[:, 0])
        total = torch.where(is_dead, total, total + gain)
        history = torch.cat([history, last[:, None]], dim=1)
        has_ended = (last == ids.end) & ~is_dead
        is_done = has_ended | is_dead | (limits[alive] <= length)
        for index, (row, token) in enumerate(zip(alive.tolist(), last.tolist(), strict=True)):
            if not (has_ended[index] or is_dead[index]):
                outputs[row].append(token)
            if is_done[index]:
                log_probability, is_complete = float(total[index]), bool(has_ended[index])
                num_tokens = length - int(is_dead[index])
                results[row] = [
                    _hypothesis(
                        outputs[row], log_probability, num_tokens, config, is_complete=is_complete
                    )
                ]
        if is_done.any():
            active = (~is_done).nonzero().squeeze(1)
            alive, last, total, history = (
                alive[active],
                last[active],
                total[active],
                history[active],
            )
            state.select(active)
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
        self.constraints = Constraints(config, limits, ids.end)
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
        self.dead: list[list[Hypothesis]] = [[] for _ in range(num)]
        """Outputs of each sentence to which the constraints left no token."""

    def run(self) -> list[list[Hypothesis]]:
        while self.alive:
            self._advance()
        num_best = self.config.num_best
        results = []
        for finished, dead in zip(self.finished, self.dead, strict=True):
            outputs = finished + _best(dead)[: max(0, num_best - len(finished))]
            results.append(_best(outputs)[:num_best])
        return results

    def _advance(self) -> None:
        """Extend every hypothesis by one token, keep the best, drop sentences that are done."""
        config, beam, device = self.config, self.config.beam, self.ids.device
        num, length = len(self.alive), self.ids.shape[2]  # the begin counts for the new token
        logits = self.model.decode_step(self.ids[:, :, -1].flatten(), self.state).float()
        check_logits(logits)
        vocab = logits.shape[-1]
        sentences = torch.tensor(self.alive, device=device).repeat_interleave(beam)
        scores = self.constraints(logits.log_softmax(-1), 0.0, self.ids.flatten(0, 1), sentences)
        totals = self.scores[:, :, None] + scores.view(num, beam, vocab)
        if config.no_repeat_size or config.min_length:  # no other constraint depends on the output
            self._collect_dead(totals)
        # Twice the beam: at most `beam` of them end, so that `beam` always continue.
        num_candidates = min(2, vocab) * beam
        best, candidates = totals.flatten(1).topk(num_candidates, dim=1)  # [sentences, 2 * beam]
        origins, tokens = candidates // vocab, candidates % vocab
        is_closed = tokens == self.end_id
        if config.ranking == "transformers":  # outputs at their limit are ranked with the others
            at_limit = [length >= self.limits[sentence] for sentence in self.alive]
            is_closed = is_closed | torch.tensor(at_limit, device=device)[:, None]
        self._collect(best, origins, tokens, is_closed)
        self.scores, ranks = best.masked_fill(is_closed, -torch.inf).topk(beam, dim=1)
        origins, tokens = origins.gather(1, ranks), tokens.gather(1, ranks)  # [sentences, beam]
        history = self.ids.gather(1, origins[:, :, None].expand(-1, -1, length))
        self.ids = torch.cat([history, tokens[:, :, None]], dim=2)
        active = [index for index in range(num) if not self._is_done(index)]
        rows = origins + torch.arange(num, device=device)[:, None] * beam
        if len(active) < num:
            selected = torch.tensor(active, dtype=torch.long, device=device)
            self.ids, self.scores, rows = self.ids[selected], self.scores[selected], rows[selected]
            self.alive = [self.alive[index] for index in active]
        self.state.select(rows.flatten())

    def _collect(self, best: Tensor, origins: Tensor, tokens: Tensor, is_closed: Tensor) -> None:
        """Store hypotheses that close within the best `beam` of [batch, 2 * beam] candidates."""
        length = self.ids.shape[2]
        for index, rank in is_closed[:, : self.config.beam].nonzero().tolist():
            log_probability, token = float(best[index, rank]), int(tokens[index, rank])
            if log_probability == -torch.inf:
                continue
            ids = self.ids[index, int(origins[index, rank]), 1:].tolist()
            has_ended = token == self.end_id
            output = ids if has_ended else [*ids, token]
            self.finished[self.alive[index]].append(
                _hypothesis(output, log_probability, length, self.config, is_complete=has_ended)
            )

    def _collect_dead(self, totals: Tensor) -> None:
        """Store hypotheses whose continuations, [batch, beam, vocab], are all forbidden."""
        is_dead = (self.scores > -torch.inf) & (totals == -torch.inf).all(-1)
        for index, rank in is_dead.nonzero().tolist():
            ids, log_probability = self.ids[index, rank, 1:].tolist(), self.scores[index, rank]
            self.dead[self.alive[index]].append(
                _hypothesis(ids, float(log_probability), len(ids), self.config, is_complete=False)
            )

    def _is_done(self, index: int) -> bool:
        """Return whether no hypothesis that continues can still beat those that ended."""
        config, limit = self.config, self.limits[self.alive[index]]
        outputs, length = self.finished[self.alive[index]], self.ids.shape[2] - 1
        scores = self.scores[index].tolist()  # the highest first
        if scores[0] == -torch.inf:
            return True
        if length >= limit:  # fill the list up with hypotheses that have not ended
            for rank in range(config.num_best - len(outputs)):
                if scores[rank] > -torch.inf:
                    ids = self.ids[index, rank, 1:].tolist()
                    outputs.append(
                        _hypothesis(ids, scores[rank], length, config, is_complete=False)
                    )
            return True
        num_needed = config.num_best if config.stopping == "certain" else config.beam
        if len(outputs) < num_needed or config.stopping == "first":
            return len(outputs) >= num_needed
        # A log-probability only falls; with a penalty its divisor is largest at the limit.
        is_bound = config.stopping == "certain" and config.length_penalty > 0
        normalizer = length_normalizer(
            limit if is_bound else length, config.length_penalty, config.ranking
        )
        ranked = sorted((output.score for output in outputs), reverse=True)
        return ranked[num_needed - 1] >= scores[0] / normalizer
