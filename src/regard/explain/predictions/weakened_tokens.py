"""Tokens that are there in part, for a model that reads ids: differentiable in their weights.

A token of weight w counts as itself with weight w, and as the reference token with 1 - w, so that
two tokens are equal with a probability. What is copied of a token is the mixture of the two:
``log w`` and ``log(1 - w)`` are added to the logarithm of the attention. A position of the source
continues a token of the target by the probability that the token before it equals that one; a word
of a text is in its question by the probability that it equals one of those. For weights of 0 and 1
this is what the model computes for the replaced tokens and for the tokens themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.explain.prediction import replace_outputs
from regard.layers.pointer_generator import CopyDistribution
from regard.models import EncoderDecoder, Transformer

_LEAST_WEIGHT = 1e-30  # so that the logarithm of 0 and its derivative are finite, in float32 too


class WeakenedTokens(NamedTuple):
    """Tokens, and those that replace them.

    Args:
        ids: The tokens and the reference tokens, ``[2, length]``.
        weights: Of both, ``[rows, 2, length]``; they sum to 1.
    """

    ids: Tensor
    weights: Tensor

    @classmethod
    def between(
        cls, ids: Tensor, reference_ids: Tensor, weights: Tensor, template: Tensor
    ) -> WeakenedTokens:
        """Weaken tokens.

        Args:
            ids: ``[1, length]``.
            reference_ids: What replaces them, ``[1, length]``.
            weights: ``[rows, length]``, or ``[rows, length, dim]``, of which the means count.
            template: Of the device and the type of the result; that is float32 at least.

        Returns:
            The tokens and their references, each with its weight.
        """
        weights = weights if weights.dim() == 2 else weights.mean(-1)
        weights = torch.stack([weights, 1 - weights], dim=1)
        exact = torch.promote_types(template.dtype, torch.float32)
        both = torch.cat([ids, reference_ids])
        return cls(both.to(template.device), weights.to(template.device, exact))

    def shifted(self, first: int) -> WeakenedTokens:
        """Return the token before each one; `first` is before the first one."""
        ids = F.pad(self.ids, (1, 0), value=first)[:, :-1]
        return WeakenedTokens(ids, F.pad(self.weights, (1, 0), value=0.5)[..., :-1])  # two halves

    def probabilities(self, num_ids: int) -> Tensor:
        """Return the probabilities of ids below a number, ``[rows, num_ids, length]``."""
        numbers = torch.arange(num_ids, device=self.ids.device)[:, None]
        return (self.weights[:, :, None] * (self.ids[:, None] == numbers)).sum(1)

    def equality(self, other: WeakenedTokens) -> Tensor:
        """Return probabilities that tokens equal others, ``[rows, length, other_length]``."""
        is_equal = self.ids[:, None, :, None] == other.ids[:, None]  # [2, 2, length, other_length]
        equal = is_equal.to(self.weights)
        return torch.einsum("rai,rbj,abij->rij", self.weights, other.weights, equal)


@contextmanager
def weaken_ids(
    model: EncoderDecoder[Any], source: WeakenedTokens, target: WeakenedTokens
) -> Iterator[None]:
    """Let a model continue weakened tokens, and find their roles, while a block of code runs.

    Args:
        model: With a copy head, roles of tokens, or neither.
        source: Its source.
        target: The decoder's inputs.
    """
    with ExitStack() as stack:
        if (head := model.copy_head) is not None:
            continues = target.equality(source.shifted(head.start_id))
            handle = head.register_forward_pre_hook(
                lambda _head, inputs, options: (inputs, {**options, "continues": continues}),
                with_kwargs=True,
            )
            stack.callback(handle.remove)
        embedding = model.source_roles if isinstance(model, Transformer) else None
        separator_id = model.config.separator_id if isinstance(model, Transformer) else None
        if embedding is not None and separator_id is not None:
            mixed = embedding.mix(weaken_roles(source, separator_id))
            stack.enter_context(replace_outputs({embedding: lambda _roles: mixed}))
        yield


def copy_weakened(copies: CopyDistribution, source: WeakenedTokens) -> CopyDistribution:
    """Return what is copied of weakened tokens: each position is two, one for each of its tokens.

    Args:
        copies: What is copied of the positions, ``[rows, length, keys]``.
        source: Their tokens.

    Returns:
        The same with ``2 * keys`` positions.
    """
    log_weights = (source.weights + _LEAST_WEIGHT).log().flatten(1)  # [rows, 2 * keys]
    return copies._replace(
        source_ids=source.ids.flatten().expand(log_weights.shape),
        log_attention=copies.log_attention.repeat(1, 1, 2) + log_weights[:, None],
    )


def weaken_roles(tokens: WeakenedTokens, separator_id: int) -> Tensor:
    """Return the probabilities of the roles that `find_roles` finds, ``[rows, roles, length]``.

    Args:
        tokens: A question, a separator, and a text.
        separator_id: The separator.
    """
    is_separator = (tokens.weights * (tokens.ids == separator_id)).sum(1)  # [rows, length]
    is_question = (1 - is_separator).cumprod(1)
    is_text = (1 - is_question) * (1 - is_separator)
    differs = (1 - tokens.equality(tokens) * is_question[:, None]).prod(2)
    return torch.stack([1 - is_text, is_text * differs, is_text * (1 - differs)], dim=1)
