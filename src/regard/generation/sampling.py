"""Sampling from a language model: temperature, top-k (Fan et al. 2018), top-p (Holtzman 2020).

They are applied in this order, as in ``transformers``: top-p is of the distribution that top-k
leaves. Cost: one pass over the prompt, then one position a token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.generation.constraints import (
    check_forbidden,
    check_numbers,
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
_FEW = 64  # tokens that are looked at first for those that reach top-p


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
    return _probabilities(logits, _Distribution.of(config))


class _Distribution(NamedTuple):
    """The settings that make probabilities of logits; see `SamplingConfig`."""

    temperature: float
    top_k: int
    top_p: float

    @classmethod
    def of(cls, config: SamplingConfig) -> _Distribution:
        return cls(config.temperature, config.top_k, config.top_p)


def _probabilities(logits: Tensor, distribution: _Distribution) -> Tensor:
    """Compute probabilities, ``[batch, vocab]``, at a temperature above 0."""
    # Less the largest: a low temperature would make infinity of a large logit.
    logits = (logits - logits.amax(-1, keepdim=True)) / distribution.temperature
    if distribution.top_k or distribution.top_p < 1:
        num_kept, smallest = _count_kept(logits, distribution)
        is_above, is_equal = logits > smallest, logits == smallest
        num_equal = num_kept - is_above.sum(-1, keepdim=True)
        # Of tokens with the same logit those of small ids are kept.
        is_kept = is_above | (is_equal & (is_equal.cumsum(-1) <= num_equal))
        logits = logits.masked_fill(~is_kept, -torch.inf)
    return logits.softmax(-1)


def _count_kept(logits: Tensor, distribution: _Distribution) -> tuple[Tensor, Tensor]:
    """Count the tokens that top-k and top-p keep, without sorting the vocabulary.

    Args:
        logits: ``[batch, vocab]``.
        distribution: Has one of the two limits.

    Returns:
        Number of tokens and the smallest of their logits, ``[batch, 1]`` each.
    """
    vocab = logits.shape[-1]
    size = min(distribution.top_k or _FEW, vocab)
    while True:
        ordered, tokens = logits.topk(size)  # [batch, size]
        if distribution.top_p == 1:
            return torch.full_like(tokens[:, :1], size), ordered[:, -1:]
        if distribution.top_k:
            probabilities = ordered.softmax(-1)
        else:
            probabilities = logits.softmax(-1).gather(-1, tokens)
        before = probabilities.cumsum(-1) - probabilities
        num_kept = (before < distribution.top_p).sum(-1, keepdim=True).clamp(min=1)
        if distribution.top_k or size == vocab or int(num_kept.max()) < size:
            return num_kept, ordered.gather(-1, num_kept - 1)
        size = min(8 * size, vocab)


class DrawnTokens(NamedTuple):
    """The next token of each continuation of a prompt.

    Args:
        tokens: Their ids, ``[num]``.
        log_probabilities: Of these tokens by the model, at temperature 1, among those that are not
            forbidden, ``[num]``; in nats.
    """

    tokens: Tensor
    log_probabilities: Tensor


@torch.inference_mode()
def sample(
    model: CausalDecoder[S],
    prompt: Sequence[int],
    config: SamplingConfig,
    *,
    num: int = 1,
    ends: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> Iterator[DrawnTokens]:
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
        The next token of each continuation until the limit of `config`; the caller may stop
        earlier.

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
        yield continuations.draw(logits)
        if not continuations.num_left:
            return
        logits = model.decode_step(continuations.history[:, -1:].to(of_model), state)


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
        self.distribution = _Distribution.of(config)
        self.num_left = config.limit(len(prompt))
        """Tokens of each that may follow."""
        self._num_drawn = 0
        first = torch.default_generator if generator is None else generator
        self._generators = _generators(num, first)
        self.device = first.device
        self.history = torch.tensor([list(prompt)], device=self.device).expand(num, -1)
        """The prompt and what was drawn, ``[num, length]``."""
        self._ends = frozenset(ends)
        self._have_ended = [False] * num

    @property
    def have_ended(self) -> bool:
        """Whether all have a token that ends a text."""
        return all(self._have_ended)

    def draw(self, logits: Tensor) -> DrawnTokens:
        """Draw the next token of each.

        Args:
            logits: Of the token after `history`, ``[num, vocab]``.

        Returns:
            The tokens.

        Raises:
            ConfigError: Every token is forbidden, or the rules leave none.
            WeightsError: The logits are NaN or infinite.
        """
        (draw,) = draw_together([self], [self.apply_rules(logits)])
        return self.append(draw)

    def apply_rules(self, logits: Tensor) -> NextLogits:
        """Find what may follow.

        Args:
            logits: Of the token after `history`, ``[num, vocab]``.

        Returns:
            The logits of what may follow.

        Raises:
            ConfigError: Every token is forbidden.
        """
        config = self.config
        logits = _without_forbidden(logits.to(self.device, torch.float32), config)
        allowed = logits
        if config.repetition_penalty != 1.0:
            allowed = penalize_repetition(allowed, self.history, config.repetition_penalty)
        if 0 < config.no_repeat_size <= self.history.shape[1]:
            allowed = forbid_repeated_ngrams(allowed, self.history, config.no_repeat_size)
        if self._ends and self._num_drawn + 1 < config.min_tokens:
            ends = torch.tensor(list(self._ends), device=self.device)
            allowed = allowed.index_fill(-1, ends, -torch.inf)
        return NextLogits(logits, allowed)

    def random_numbers(self) -> Tensor:
        """Draw a number for each, 0 to below 1, ``[num, 1]`` float64."""
        numbers = [
            torch.rand(1, dtype=torch.float64, device=self.device, generator=own)
            for own in self._generators
        ]
        return torch.stack(numbers)

    def append(self, draw: Draw) -> DrawnTokens:
        """Append what was drawn for each.

        Args:
            draw: Of `draw_together`.

        Returns:
            The tokens.

        Raises:
            ConfigError: The rules left no token.
            WeightsError: The logits were NaN or infinite.
        """
        tokens = draw.drawn.tokens
        self._num_drawn += 1
        self.num_left -= 1
        pairs = zip(tokens.tolist(), draw.largest.tolist(), strict=True)
        for index, (token, largest) in enumerate(pairs):
            check_numbers(largest < torch.inf)
            if largest == -torch.inf and not self._have_ended[index]:
                raise ConfigError(
                    f"no token is left for position {self._num_drawn}: `sampling.no_repeat_size` "
                    f"({self.config.no_repeat_size}) or `sampling.min_tokens` "
                    f"({self.config.min_tokens}) allows none."
                )
            self._have_ended[index] |= token in self._ends
        self.history = torch.cat([self.history, tokens[:, None]], dim=1)
        return draw.drawn


class NextLogits(NamedTuple):
    """Logits of the next token of the continuations of a prompt.

    Args:
        logits: Of the model, minus infinity for forbidden tokens, ``[num, vocab]`` float32.
        allowed: The same by the rules about the tokens before, ``[num, vocab]``.
    """

    logits: Tensor
    allowed: Tensor


class Draw(NamedTuple):
    """What was drawn for the continuations of a prompt.

    Args:
        drawn: The tokens; they mean nothing in rows whose `largest` is not finite.
        largest: Largest of the logits that may follow, ``[num]``.
    """

    drawn: DrawnTokens
    largest: Tensor


def draw_together(texts: Sequence[Continuations], next_logits: Sequence[NextLogits]) -> list[Draw]:
    """Draw the next tokens of the continuations of some prompts, each by its own random numbers.

    Args:
        texts: Of the same `Continuations.distribution` and device.
        next_logits: Of each, by its rules.

    Returns:
        What was drawn for each.
    """
    logits, allowed = (torch.cat(parts) for parts in zip(*next_logits, strict=True))
    distribution, largest = texts[0].distribution, allowed.amax(-1)  # [rows]
    allowed = torch.where(largest.isfinite()[:, None], allowed, 0.0)
    if distribution.temperature == 0:
        tokens = allowed.argmax(-1, keepdim=True)  # [rows, 1]
    else:
        cumulative = _probabilities(allowed, distribution).cumsum(-1, dtype=torch.float64)
        numbers = torch.cat([text.random_numbers() for text in texts])  # [rows, 1]
        tokens = torch.searchsorted(cumulative, numbers * cumulative[:, -1:], right=True)
    log_probabilities = logits.log_softmax(-1).gather(-1, tokens).squeeze(1)
    rows = [text.num for text in texts]
    parts = [part.split(rows) for part in (tokens.squeeze(1), log_probabilities, largest)]
    return [Draw(DrawnTokens(*drawn), most) for *drawn, most in zip(*parts, strict=True)]


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
