"""Constraints on the next token's scores: forbidden and forced tokens, penalties for repetition.

The names and the order are those of the logits processors of ``transformers``, so that its folders
give the same outputs here. Cost: O(rows x vocab) a step for each rule that is set, and
O(rows x length) for those that depend on the tokens before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from regard.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from regard.generation.beam_search_config import BeamSearchConfig


@dataclass(frozen=True, eq=False)
class Constraints:
    """The constraints of a batch of outputs.

    Args:
        config: Sets them.
        limits: Maximum number of tokens of each output, ``[batch]``.
        end: Id that ends an output.
    """

    config: BeamSearchConfig
    limits: Tensor
    end: int

    def __call__(
        self, scores: Tensor, certain_score: float | Tensor, history: Tensor, outputs: Tensor
    ) -> Tensor:
        """Apply the constraints; forced tokens have precedence over forbidden ones.

        Args:
            scores: Scores of the next token, ``[rows, vocab]``.
            certain_score: Score of a token of probability 1, a number or ``[rows, 1]``.
            history: Tokens so far, the begin included, ``[rows, length]``.
            outputs: Index of each row's output in the batch, ``[rows]``.

        Returns:
            The new scores, ``[rows, vocab]``; forbidden tokens have minus infinity, all of them
            where the constraints allow none.

        Raises:
            ConfigError: `forbidden` names every token.
        """
        config, length = self.config, history.shape[1]  # of outputs with the next token
        penalty, ngram_size = config.repetition_penalty, config.no_repeat_size
        if penalty != 1.0:
            scores = penalize_repetition(scores, history, penalty)
        check_forbidden(config.forbidden, scores.shape[1])
        scores = _mask_tokens(scores, config.forbidden)
        if length < config.min_length:
            scores = _mask_tokens(scores, (self.end,))
        if 0 < ngram_size <= length:
            scores = forbid_repeated_ngrams(scores, history, ngram_size)
        if length == 1 and config.forced_first is not None:
            scores = _force_token(config.forced_first, scores, certain_score)
        last = self.end if config.forces_end else config.forced_last
        if last is not None:
            is_last = (self.limits[outputs] == length)[:, None]
            scores = torch.where(is_last, _force_token(last, scores, certain_score), scores)
        if not config.is_renormalized:
            return scores
        is_dead = (scores == -torch.inf).all(-1, keepdim=True)
        return scores.log_softmax(-1).masked_fill(is_dead, -torch.inf)


def check_logits(logits: Tensor) -> None:
    """Check that a model gives numbers for the next token, ``[batch, vocab]``.

    Raises:
        WeightsError: One is NaN.
    """
    check_numbers(not bool(logits.isnan().any()))


def check_numbers(are_numbers: bool) -> None:
    """Check that a model gives numbers for the next token.

    Args:
        are_numbers: Whether it does.

    Raises:
        WeightsError: It gives NaN.
    """
    if not are_numbers:
        raise WeightsError(
            "the model gives NaN for the next token.  Check its weights, and that training ended "
            "with a finite loss."
        )


def check_forbidden(forbidden: tuple[int, ...], vocab_size: int) -> None:
    """Check that a token is left.

    Raises:
        ConfigError: Every id of the vocabulary is forbidden.
    """
    if len(forbidden) >= vocab_size and set(range(vocab_size)) <= set(forbidden):
        raise ConfigError(
            f"`forbidden` names all {vocab_size:,} tokens, so that nothing can be written.  "
            "Leave out one or more."
        )


def penalize_repetition(scores: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Compute the scores with a penalty on each token that is in the history (Keskar et al. 2019).

    Args:
        scores: Scores of the next token, ``[rows, vocab]``.
        history: Tokens so far, ``[rows, length]``.
        penalty: Factor on a score below 0, divisor of one above; more than 0.

    Returns:
        The new scores, ``[rows, vocab]``.
    """
    used = scores.gather(1, history)  # [rows, length]
    used = torch.where(used < 0, used * penalty, used / penalty)
    return scores.scatter(1, history, used)  # once for each token


def forbid_repeated_ngrams(scores: Tensor, history: Tensor, size: int) -> Tensor:
    """Set the scores of tokens that would repeat an n-gram of the history to minus infinity.

    Args:
        scores: Scores of the next token, ``[rows, vocab]``.
        history: Tokens so far, ``[rows, length]``, `size` or more.
        size: Tokens of an n-gram, 1 or more.

    Returns:
        The new scores, ``[rows, vocab]``.
    """
    ngrams = history.unfold(1, size, 1)  # [rows, ngrams, size]
    latest = history[:, None, history.shape[1] - size + 1 :]
    is_repeated = (ngrams[..., :-1] == latest).all(-1)  # [rows, ngrams]
    # A minimum with infinity changes nothing; indices of what is repeated would wait for a GPU.
    bounds = torch.where(is_repeated, -torch.inf, torch.inf).to(scores.dtype)
    return scores.scatter_reduce(1, ngrams[..., -1], bounds, "amin")


def _mask_tokens(scores: Tensor, forbidden: tuple[int, ...]) -> Tensor:
    """Set some scores, of shape ``[rows, vocab]``, to minus infinity."""
    if not forbidden:
        return scores
    ids = torch.tensor(forbidden).to(scores.device, non_blocking=True)
    return scores.index_fill(1, ids, -torch.inf)


def _force_token(token: int, scores: Tensor, certain_score: float | Tensor) -> Tensor:
    """Set all scores but a token's, of shape ``[rows, vocab]``, to minus infinity."""
    is_forced = torch.arange(scores.shape[1], device=scores.device) == token
    return torch.where(is_forced, certain_score, -torch.inf).expand_as(scores)
