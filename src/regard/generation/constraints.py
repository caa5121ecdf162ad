"""What a search may not write, what it must, and what costs more: over the scores of a next token.

The names and the order are those of ``transformers``' processors of logits, so that folders of its
layout get the outputs that it writes. Cost: O(rows x vocab) a step for each rule that is set, and
O(rows x length) for what depends on the tokens before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.generation.beam_search_config import BeamSearchConfig


def _without(scores: Tensor, forbidden: tuple[int, ...]) -> Tensor:
    """Make tokens impossible in scores ``[batch, vocab]``; the others keep theirs."""
    if not forbidden:
        return scores
    return scores.index_fill(1, torch.tensor(forbidden, device=scores.device), -torch.inf)


class Constraints:
    """What is forbidden and forced in a batch of outputs.

    Args:
        config: Tells what.
        limits: Most tokens of each output, ``[batch]``.
        end: Id that ends an output.
    """

    def __init__(self, config: BeamSearchConfig, limits: Tensor, end: int) -> None:
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
        if config.repetition_penalty != 1.0:
            scores = _dearer(scores, history, config.repetition_penalty)
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
        return scores.log_softmax(-1) if config.is_renormalized else scores


def _dearer(scores: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Lower the scores ``[rows, vocab]`` of tokens of the history ``[rows, length]``, once each."""
    found = scores.gather(1, history)
    return scores.scatter(1, history, torch.where(found < 0, found * penalty, found / penalty))


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
