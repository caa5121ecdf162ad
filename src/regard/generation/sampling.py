"""Sampling from a language model: temperature, top-k (Fan et al. 2018), top-p (Holtzman 2020).

They are applied in this order, as in ``transformers``: top-p is of the distribution that top-k
leaves. Cost: one pass over the prompt, then one position a token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.generation.constraints import (
    check_forbidden,
    check_logits,
    forbid_repeated_ngrams,
    penalize_repetition,
)
from regard.settings.binding import check_types
from regard.settings.validation import (
    require_at_least,
    require_at_most,
    require_finite,
    require_fraction,
    require_positive,
)

if TYPE_CHECKING:
    from regard.generation.decoding import CausalDecoder, S

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
        max_tokens: Maximum number of tokens to write.
        max_length: Maximum number of tokens with those of the prompt, in place of `max_tokens`;
            None sets no limit.
        min_tokens: Minimum number of tokens to write before the end of a text, the end counted.
        repetition_penalty: Divisor of the logit of a token that the prompt or the output already
            has, or factor where the logit is below 0 (Keskar et al. 2019); 1 is none.
        no_repeat_size: Length of the n-grams that prompt and output never have twice; 0 allows all.
        forbidden: Ids of tokens that are never written.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 200
    max_length: int | None = None
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    no_repeat_size: int = 0
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(0, self, "temperature", "top_k", "min_tokens", "no_repeat_size")
        require_finite(self, "temperature", "repetition_penalty")
        require_positive(self, "repetition_penalty")
        require_at_most(_LARGEST_COUNT, self, "top_k", "max_tokens", "max_length", "min_tokens")
        if self.temperature and not _COLDEST <= self.temperature <= 1 / _COLDEST:
            raise ValueError(
                f"temperature must be 0, or {_COLDEST} to {1 / _COLDEST:g}, not {self.temperature}"
            )
        require_fraction(self, "top_p")
        require_at_least(1, self, "max_tokens", "max_length")
        if any(token < 0 for token in self.forbidden):
            raise ValueError(f"forbidden: ids must be 0 or more, not {min(self.forbidden)}")

    def limit(self, num_prompt: int) -> int:
        """Return the maximum number of tokens to write after a prompt, 0 or more."""
        return self.max_tokens if self.max_length is None else max(0, self.max_length - num_prompt)


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
    logits = _without_forbidden(logits.float(), config)
    if config.temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    if not config.top_k and config.top_p == 1:  # nothing is cut, so that nothing is sorted
        return (logits / config.temperature).softmax(-1)
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
    ends: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Continue a prompt.

    Args:
        model: Model in evaluation mode.
        prompt: Token ids, one or more.
        config: How to choose the next token.
        num: Number of continuations, 1 or more, computed as one batch. Each has random numbers of
            its own, so that the first ones are the same however many there are.
        ends: Ids that end a text; the first `config.min_tokens` - 1 tokens are others.
        generator: Draws the tokens of the first, and seeds the others.

    Yields:
        The next token of each continuation, ``[num]``, until the limit of `config`; the caller may
        stop earlier.

    Raises:
        ConfigError: Every token is forbidden, the rules leave none, or `num` is below 1.
        WeightsError: The model gives NaN.
    """
    continuations = Continuations(prompt, config, num=num, ends=ends, generator=generator)
    if not continuations.num_left:
        return
    of_model = getattr(model, "device", continuations.device)  # the compiled decoder has none
    state = model.init_state()
    logits = model.decode_step(continuations.history[:1].to(of_model), state)  # [1, vocab]
    logits = logits.expand(num, -1)
    state.select(torch.zeros(num, dtype=torch.long, device=of_model))
    while True:
        tokens = continuations.draw(logits)
        yield tokens
        if not continuations.num_left:
            return
        logits = model.decode_step(tokens[:, None].to(of_model), state)


class Continuations:
    """The continuations of a prompt: draws a token of each where the model gives the logits.

    Tokens are drawn where the generator is. Arguments and errors are those of `sample`.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        config: SamplingConfig,
        *,
        num: int = 1,
        ends: Collection[int] = (),
        generator: torch.Generator | None = None,
    ) -> None:
        if num < 1:
            raise ConfigError(f"num must be 1 or more, not {num}")
        self.config, self.num = config, num
        self.num_left = config.limit(len(prompt))
        """Tokens of each that may follow."""
        self._num_drawn = 0
        first = torch.default_generator if generator is None else generator
        self._generators = _generators(num, first)
        self.device = first.device
        self.history = torch.tensor([list(prompt)], device=self.device).expand(num, -1)
        """The prompt and what was drawn, ``[num, length]``."""
        self._ends = torch.tensor(list(ends), dtype=torch.long, device=self.device)
        self._has_ended = torch.zeros(num, 1, dtype=torch.bool, device=self.device)

    @property
    def have_ended(self) -> bool:
        """Whether all have a token that ends a text."""
        return bool(self._has_ended.all())

    def draw(self, logits: Tensor) -> Tensor:
        """Draw the next token of each.

        Args:
            logits: Of the token after `history`, ``[num, vocab]``.

        Returns:
            The tokens, ``[num]``.

        Raises:
            ConfigError: Every token is forbidden, or the rules leave none.
            WeightsError: The logits are NaN.
        """
        config, logits = self.config, logits.to(self.device)
        check_logits(logits)
        self._num_drawn += 1
        self.num_left -= 1
        logits = _constrain(logits, self.history, config)
        if len(self._ends) and self._num_drawn < config.min_tokens:
            logits = logits.index_fill(-1, self._ends, -torch.inf)
        allowed = _without_forbidden(logits, config)
        is_dead = allowed.amax(-1, keepdim=True) == -torch.inf  # [num, 1]
        logits = logits.masked_fill(is_dead & self._has_ended, 0.0)  # of a text that has ended
        if bool((is_dead & ~self._has_ended).any()):
            raise ConfigError(
                f"no token is left for position {self._num_drawn}: `sampling.no_repeat_size` "
                f"({config.no_repeat_size}) or `sampling.min_tokens` ({config.min_tokens}) allows "
                "none."
            )
        probabilities = next_probabilities(logits, config)
        drawn = [
            torch.multinomial(row, 1, generator=own)
            for row, own in zip(probabilities, self._generators, strict=True)
        ]
        tokens = torch.stack(drawn)  # [num, 1]
        self.history = torch.cat([self.history, tokens], dim=1)
        self._has_ended |= torch.isin(tokens, self._ends)
        return tokens.squeeze(1)


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


def _without_forbidden(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Set the logits of forbidden tokens, ``[batch, vocab]``, to minus infinity."""
    if not config.forbidden:
        return logits
    check_forbidden(config.forbidden, logits.shape[-1])
    forbidden = torch.tensor(config.forbidden, device=logits.device)
    return logits.index_fill(-1, forbidden, -torch.inf)


def _constrain(logits: Tensor, history: Tensor, config: SamplingConfig) -> Tensor:
    """Apply the rules about the tokens so far, ``[num, length]``, to logits ``[num, vocab]``."""
    if config.repetition_penalty != 1.0:
        logits = penalize_repetition(logits.float(), history, config.repetition_penalty)
    if 0 < config.no_repeat_size <= history.shape[1]:
        logits = forbid_repeated_ngrams(logits, history, config.no_repeat_size)
    return logits
