"""Sampling from a language model: temperature, top-k (Fan et al. 2018), top-p (Holtzman 2020).

They are applied in this order, as in ``transformers``: top-p is of the distribution that top-k
leaves. Cost: one pass over the prompt, then one position a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import torch
from torch import Tensor

from regard.generation.constraints import check_forbidden
from regard.generation.decoding import CausalDecoder, S
from regard.settings.validation import (
    require_at_least,
    require_at_most,
    require_finite,
    require_fraction,
)

_LARGEST_COUNT = 10**9  # tokens
_COLDEST = 1e-4  # at a lower temperature the most probable token is certain


class SamplingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to choose the next token.

    Args:
        temperature: Divides the logits, 0.0001 to 10,000; 0 takes the most probable token, 1
            samples from the model's own distribution, more is more random.
        top_k: Number of the most probable tokens that may be chosen; 0 sets no limit.
        top_p: Only the most probable tokens that together reach this probability, among the `top_k`
            alone, may be chosen, above 0 to 1.
        max_tokens: Most tokens to write.
        forbidden: Ids of tokens that are never written.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 200
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_at_least(0, self, "temperature", "top_k")
        require_finite(self, "temperature")
        require_at_most(_LARGEST_COUNT, self, "top_k", "max_tokens")
        if self.temperature and not _COLDEST <= self.temperature <= 1 / _COLDEST:
            raise ValueError(
                f"temperature must be 0, or {_COLDEST} to {1 / _COLDEST:g}, not {self.temperature}"
            )
        require_fraction(self, "top_p")
        require_at_least(1, self, "max_tokens")


def next_probabilities(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Compute the distribution that the next token is drawn from.

    Args:
        logits: ``[batch, vocab]``.
        config: Temperature and limits; at temperature 0 all probability is on one token.

    Returns:
        Probabilities, ``[batch, vocab]`` float32; rows sum to 1.

    Raises:
        ConfigError: Every token is forbidden.

    >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> next_probabilities(logits, SamplingConfig(top_p=0.6)).tolist()
    [[0.625, 0.375, 0.0]]
    """
    logits = logits.float()
    if config.forbidden:
        check_forbidden(config.forbidden, logits.shape[-1])
        forbidden = torch.tensor(config.forbidden, device=logits.device)
        logits = logits.index_fill(-1, forbidden, -torch.inf)
    if config.temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    ordered, tokens = (logits / config.temperature).sort(dim=-1, descending=True, stable=True)
    if config.top_k:
        ordered[:, config.top_k :] = -torch.inf
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    is_cut = before >= config.top_p
    is_cut[:, 0] = False
    probabilities = probabilities.masked_fill(is_cut, 0.0)
    probabilities /= probabilities.sum(-1, keepdim=True)
    return torch.zeros_like(logits).scatter(-1, tokens, probabilities)  # [batch, vocab]


@torch.inference_mode()
def sample(
    model: CausalDecoder[S],
    prompt: Sequence[int],
    config: SamplingConfig,
    *,
    num: int = 1,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Continue a prompt.

    Args:
        model: In evaluation mode.
        prompt: Token ids, one or more.
        config: How to choose the next token.
        num: Number of continuations, 1 or more, computed as one batch. Each has random numbers of
            its own, so that the first ones are the same however many there are.
        generator: Draws the tokens of the first, and seeds the others.

    Yields:
        The next token of each continuation, ``[num]``, `config.max_tokens` times; the caller may
        stop earlier.

    Raises:
        ConfigError: Every token is forbidden.
    """
    generators = _generators(num, torch.default_generator if generator is None else generator)
    state = model.init_state()
    logits = model.decode_step(torch.tensor([list(prompt)]), state).expand(num, -1)
    state.select(torch.zeros(num, dtype=torch.long))
    for num_tokens in range(1, config.max_tokens + 1):
        probabilities = next_probabilities(logits, config)
        drawn = [
            torch.multinomial(row, 1, generator=own)
            for row, own in zip(probabilities, generators, strict=True)
        ]
        tokens = torch.stack(drawn)  # [num, 1]
        yield tokens.squeeze(1)
        if num_tokens < config.max_tokens:
            logits = model.decode_step(tokens, state)


def _generators(num: int, first: torch.Generator) -> list[torch.Generator]:
    """Return a generator for each continuation; the seeds do not depend on their number."""
    seeding = torch.Generator(first.device)
    seeding.set_state(first.get_state())
    largest = torch.iinfo(torch.int64).max
    seeds = [
        int(torch.randint(largest, (), generator=seeding, device=first.device))
        for _ in range(num - 1)
    ]
    return [first, *(torch.Generator(first.device).manual_seed(seed) for seed in seeds)]
