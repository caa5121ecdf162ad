"""Inference with a trained language model: what continues a text, and how well it is predicted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from regard.data.readers.problems import quote
from regard.data.readers.running_text import TextLines
from regard.data.token_stream import TokenStream
from regard.errors import ConfigError
from regard.generation.decoders import CurrentDecoder, causal_decoder, default_precision
from regard.generation.decoding import CausalDecoder
from regard.generation.sampling import DrawnTokens, SamplingConfig, sample
from regard.hub.any_tokenizer import AnyTokenizer
from regard.metrics.classification import Reliability, reliability
from regard.models import Decoder, GptConfig
from regard.option_checks import require_whole
from regard.settings.validation import (
    LARGEST,
    replace_values,
    require_options,
    require_range,
    require_texts,
)
from regard.settings.values import DecodingPrecision
from regard.setup.base_predictor import BasePredictor
from regard.setup.config import RunConfig
from regard.tasks.language_modeling.incremental_text import IncrementalText
from regard.tasks.language_modeling.loss import (
    evaluation_batches,
    predict_tokens,
    text_measures,
)
from regard.training.distribution import ALONE, World

if TYPE_CHECKING:
    from regard.generation.continuous_sampling import ContinuousSampling

MOST_CONTINUATIONS = 1_000
"""Of a prompt: they are sampled together."""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One continuation.

    Args:
        text: The text after the prompt.
        num_tokens: Number of its tokens.
        is_complete: Whether the model ended the document, or wrote the stop text.
        score: Mean log-probability of its tokens, in nats, by the model that wrote them, at
            temperature 1; 0 without tokens.
    """

    text: str
    num_tokens: int
    is_complete: bool
    score: float = 0.0


class LinePredictions(NamedTuple):
    """How well the lines of a text are predicted.

    Args:
        losses: Nats of each line with its end, ``[lines]``.
        num_tokens: Tokens of each line, ``[lines]``.
        reliability: How often the most probable next token follows, by its probability.
    """

    losses: NDArray[np.float64]
    num_tokens: NDArray[np.int64]
    reliability: Reliability


class StreamEnd(NamedTuple):
    """The end of a continuation that was yielded while it was generated.

    Args:
        num_tokens: Number of its tokens.
        is_complete: Whether the model ended the document, or wrote the stop text.
    """

    num_tokens: int
    is_complete: bool


class SamplingOptions(TypedDict, total=False):
    """How a continuation is sampled; what is left out or None is as the model's settings say.

    Args:
        max_tokens: Maximum number of tokens of each; 200 by default.
        temperature: 0 takes the most probable token, 1 (the default) samples from the model's
            distribution.
        top_k: Sample from this many of the most probable tokens; 0 (the default) sets no limit.
        top_p: Sample from the most probable tokens that together reach this probability, above 0
            to 1 (the default).
        stop: Text that ends a continuation and is left out of it.
        seed: Seed of the samples; None draws one.
    """

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    stop: str | None
    seed: int | None


def sampling_config(
    options: SamplingOptions,
    config: SamplingConfig = SamplingConfig(),  # noqa: B008 - immutable
) -> SamplingConfig:
    """Return the sampling of a model, changed by the options of a call, and checked.

    Args:
        options: Options of the call; stop text and seed are not used.
        config: The model's settings.

    Raises:
        ConfigError: A value is of another type, or out of its range.
    """
    require_options(SamplingOptions, options)
    if options.get("stop") == "":
        raise ConfigError("`stop` must have a character at least; none is in every text.")
    names = ("max_tokens", "temperature", "top_k", "top_p")
    values = {name: options.get(name) for name in names if options.get(name) is not None}
    if "max_tokens" in values:
        values["max_length"] = None
    if config.temperature == 0 and {"top_k", "top_p"} & values.keys():
        values.setdefault("temperature", 1.0)  # the most probable token alone has no use for them
    return replace_values(config, **values)


@dataclass(eq=False, repr=False)
class TextGenerator(BasePredictor):
    """A trained language model.

    Args:
        model: Model in evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings of its run.
        world: The processes that share its batches; all of them call the same methods.
    """

    verb = "generate"
    model: Decoder
    tokenizer: AnyTokenizer
    config: RunConfig
    world: World = ALONE
    precision: DecodingPrecision | None = field(default=None, init=False)
    """Type of the weights that texts are generated with; None is `default_precision`."""
    shared_sampling: ContinuousSampling | None = field(default=None, init=False)
    """Continues for all threads that use the model, as a service does; None continues each text."""
    on_token: Callable[[], None] | None = field(default=None, init=False)
    """Called before each token; what it raises ends the text."""
    _current: CurrentDecoder[CausalDecoder[Any]] = field(default_factory=CurrentDecoder, init=False)

    @property
    def decoder(self) -> CausalDecoder[Any]:
        """What takes the steps of the model, with its weights as they are now.

        Raises:
            ConfigError: The model cannot generate in `precision`.
        """
        trained_in = self.config.training.precision
        precision = self.precision or default_precision(self.model, trained_in)
        return self._current.get(self.model, precision, causal_decoder)

    def share_sampling(self) -> ContinuousSampling:
        """Continue texts together for all threads that use the model; its weights must not change.

        Returns:
            What continues them; close it at the end.
        """
        from regard.generation.continuous_sampling import ContinuousSampling

        self.shared_sampling = ContinuousSampling(self.decoder)
        return self.shared_sampling

    def generate(
        self, prompt: str | Sequence[str] = "", *, num: int = 1, **options: Unpack[SamplingOptions]
    ) -> Any:
        """Continue a prompt, or several.

        Args:
            prompt: Text to continue; empty begins a document.
            num: Number of continuations of each prompt, sampled independently.
            options: How tokens are chosen, see `SamplingOptions`.

        Returns:
            One `Generation`; a list where there are several prompts, and in place of each where
            `num` is above 1.

        Raises:
            ConfigError: A number is out of its range, or a prompt is not a text.
        """
        require_whole("num", num, 1, most=MOST_CONTINUATIONS)
        if not isinstance(prompt, str):
            prompts = require_texts(prompt, "prompts")
            return [self.generate(text, num=num, **options) for text in prompts]
        require_texts([prompt], "prompt")
        generations = self._generate(prompt, num, options)
        return generations[0] if num == 1 else generations

    def _generate(self, prompt: str, num: int, options: SamplingOptions) -> list[Generation]:
        texts = self._begin(prompt, options, num)
        for drawn in self._sample(prompt, num, options):
            pairs = zip(texts, *(part.tolist() for part in drawn), strict=True)
            for text, token, log_probability in pairs:
                if not text.has_ended:
                    text.append(token, log_probability)
            if all(text.has_ended for text in texts):
                break
        generations = [
            Generation(
                text=text.text(),
                num_tokens=len(text.tokens),
                is_complete=text.has_ended,
                score=text.log_probability / max(1, len(text.tokens)),
            )
            for text in texts
        ]
        _warn_of_empty(prompt, [generation.text for generation in generations])
        return generations

    def _begin(self, prompt: str, options: SamplingOptions, num: int = 1) -> list[IncrementalText]:
        """Return the empty continuations of a prompt."""
        ids, stop = self.tokenizer.encode_text(prompt), options.get("stop")
        return [IncrementalText(self.tokenizer, ids, stop) for _ in range(num)]

    def stream(
        self, prompt: str, **options: Unpack[SamplingOptions]
    ) -> Generator[str, None, StreamEnd]:
        """Continue a prompt, and yield the text while it is generated.

        Args:
            prompt: Text to continue; empty begins a document.
            options: How tokens are chosen, see `SamplingOptions`.

        Yields:
            The next piece of text in whole characters, without the stop text.

        Returns:
            How it ended, as the value of the generator.

        Raises:
            ConfigError: A number is out of its range, or the prompt is not a text.
        """
        require_texts([prompt], "prompt")
        (continuation,) = self._begin(prompt, options)
        num_yielded = 0  # characters
        for drawn in self._sample(prompt, 1, options):
            continuation.append(int(drawn.tokens), float(drawn.log_probabilities))
            if continuation.has_ended:
                break
            text = continuation.certain_text()
            if len(text) > num_yielded:
                yield text[num_yielded:]
                num_yielded = len(text)
        text = continuation.text()
        yield text[num_yielded:]
        _warn_of_empty(prompt, [text])
        return StreamEnd(num_tokens=len(continuation.tokens), is_complete=continuation.has_ended)

    def measure(self, lines: TextLines) -> dict[str, float]:
        """Compute how well the model predicts a text: loss, perplexity, bits per byte."""
        stream = TokenStream(lines, self.tokenizer)
        batches = evaluation_batches(self.model, stream, self.config.data.max_length)
        return text_measures(self.model, batches, lines.num_bytes, self.world)

    def predict_lines(self, lines: TextLines) -> LinePredictions:
        """Return how well the model predicts each line of a text."""
        stream = TokenStream(lines, self.tokenizer)
        batches = evaluation_batches(self.model, stream, self.config.data.max_length)
        tokens = predict_tokens(self.model, batches, self.world)
        indices, num_lines = stream.line_indices(), len(lines.texts)
        losses = np.zeros(num_lines)
        np.add.at(losses, indices[tokens.positions], tokens.losses)
        return LinePredictions(
            losses=losses,
            num_tokens=np.bincount(indices, minlength=num_lines),
            reliability=reliability(tokens.probabilities.tolist(), tokens.is_correct.tolist()),
        )

    def _sample(self, prompt: str, num: int, options: SamplingOptions) -> Iterator[DrawnTokens]:
        """Yield the next token of each of `num` continuations, step by step."""
        config = sampling_config(options, self.config.sampling)
        seed = options.get("seed")
        require_range("seed", seed, -LARGEST, LARGEST)
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        ids = self._prompt_ids(prompt)
        unused = self.tokenizer.unused_ids(self.model.vocab_size)
        config = msgspec.structs.replace(config, forbidden=(*config.forbidden, *unused))
        config = self._within_positions(config, len(ids), options.get("max_tokens") is not None)
        ends, trained = self.tokenizer.stop_ids, self._trained_length()
        continue_prompt = (
            partial(sample, self.decoder)
            if self.shared_sampling is None
            else self.shared_sampling.sample
        )
        samples = continue_prompt(ids, config, num=num, ends=ends, generator=generator)
        for length, drawn in enumerate(samples, start=len(ids)):
            if self.on_token is not None:
                self.on_token()
            if trained is not None and length > trained:
                warnings.warn(
                    f"the text is longer than the {trained:,} tokens of max_position_embeddings, "
                    "so what follows may be worse.",
                    stacklevel=1,  # one location, so that Python shows it once
                )
            yield drawn

    def _prompt_ids(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt; of an empty one those that begin a text.

        Raises:
            ConfigError: It is empty, and no token begins a text.
        """
        ids = self.tokenizer.encode_prompt(prompt) or self.tokenizer.document_start
        if not ids:
            raise ConfigError(
                "the prompt is empty, and the vocabulary has no token that begins a text."
            )
        return ids

    def _trained_length(self) -> int | None:
        """Return the longest text that a published model without a table of positions is for."""
        model, kind = self.config.model, self.config.tokenizer.kind
        if kind == "published" and isinstance(model, GptConfig) and model.positions == "rotary":
            return model.max_positions
        return None

    def _within_positions(
        self, config: SamplingConfig, num_prompt: int, is_asked: bool
    ) -> SamplingConfig:
        """Return the settings with as many tokens as the model has positions for.

        Args:
            config: How tokens are chosen.
            num_prompt: Tokens of the prompt.
            is_asked: Whether the call names the most tokens to write.

        Raises:
            ConfigError: The prompt, or the number of tokens asked for, does not fit.
        """
        limit, most = config.limit(num_prompt), self.model.num_positions
        if not limit:
            raise ConfigError(
                f"the prompt has {num_prompt:,} tokens, and prompt and output together "
                f"{config.max_length:,} at most.  Name the most tokens to write: `max_tokens`."
            )
        if most is None or num_prompt + limit <= most + 1:  # the last token is only written
            return config
        room = most + 1 - num_prompt
        if room < 1 or is_asked:
            raise ConfigError(
                f"the prompt has {num_prompt:,} tokens, the output {limit:,} at most; this model "
                f"has {most:,} positions."
                + (f"  Set `max_tokens` to {room:,} or less." if room > 0 else "")
            )
        return msgspec.structs.replace(config, max_tokens=room, max_length=None)


def _warn_of_empty(prompt: str, texts: Sequence[str]) -> None:
    """Warn where some of the continuations of a prompt have no text."""
    num, num_empty = len(texts), texts.count("")
    which = "" if num == 1 else f" in {num_empty:,} of {num:,} continuations"
    if num_empty:
        warnings.warn(
            f"nothing is written after {quote(prompt)}{which}: the text ends there.", stacklevel=3
        )
