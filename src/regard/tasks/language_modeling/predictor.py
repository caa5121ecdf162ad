"""A trained language model in use: continuations of a text, and how well a text is predicted."""

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
from regard.generation.sampling import SamplingConfig, sample
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
_UNFINISHED = "\ufffd"  # decoded from the first bytes of a character


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One continuation.

    Args:
        text: The text after the prompt.
        num_tokens: Number of its tokens.
        is_complete: Whether the model ended the document, or wrote the stop text.
        score: Mean log-probability of its tokens, in nats, at temperature 1; 0 without tokens.
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
    """A language model in use.

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
        stop = options.get("stop")
        rows: list[list[int]] = [[] for _ in range(num)]
        has_ended = [False] * num
        for tokens in self._sample(prompt, num, options):
            write = partial(self._write_token, prompt, stop=stop)
            has_ended = list(map(write, rows, tokens, has_ended))
            if all(has_ended):
                break
        generations = [
            Generation(
                text=self._text_before(stop, prompt, row),
                num_tokens=len(row),
                is_complete=ended,
                score=self._score(prompt, row),
            )
            for row, ended in zip(rows, has_ended, strict=True)
        ]
        _warn_of_empty(prompt, [generation.text for generation in generations])
        return generations

    def _text_before(self, stop: str | None, prompt: str, row: list[int]) -> str:
        """Decode a continuation up to the stop text, where there is one."""
        text = self._decode(prompt, row)
        return text.partition(stop)[0] if stop else text

    def _write_token(
        self, prompt: str, row: list[int], token: int, has_ended: bool, *, stop: str | None
    ) -> bool:
        """Append a token to a continuation, unless this has ended or ends by a special one.

        Returns:
            Whether the continuation ends here: by a token, special or of the text, such as a
            newline, or by the stop text.
        """
        if has_ended:
            return True
        is_end = token in self.tokenizer.stop_ids
        if not is_end or token in self.tokenizer.written_stop_ids:
            row.append(token)
        return is_end or (bool(stop) and str(stop) in self._decode(prompt, row))

    @torch.inference_mode()
    def _score(self, prompt: str, row: Sequence[int]) -> float:
        """Return the mean log-probability of the tokens of a continuation after its prompt."""
        if not row:
            return 0.0
        before = self._prompt_ids(prompt)
        ids = torch.tensor([*before, *row], device=self.model.device)
        lengths = torch.tensor([len(ids) - 1], device=ids.device)
        hidden = self.model.hidden_states(ids[None, :-1], lengths=lengths)  # [1, length, dim]
        logits = self.model.logits(hidden[0, len(before) - 1 :])  # [len(row), vocab]
        unused = list(self.tokenizer.unused_ids(self.model.vocab_size))
        logits = logits.float().index_fill(-1, ids.new_tensor(unused), -torch.inf)
        log_probabilities = logits.log_softmax(-1).gather(-1, ids[len(before) :, None])
        return float(log_probabilities.mean())

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
        stop = options.get("stop")
        row: list[int] = []
        num_yielded, is_complete = 0, False  # characters
        for (token,) in self._sample(prompt, 1, options):
            is_complete = self._write_token(prompt, row, token, False, stop=stop)
            if is_complete:
                break
            text = self._decode(prompt, row)
            num_certain = len(text) - _num_begun(stop or "", text)
            if not text.endswith(_UNFINISHED) and num_certain > num_yielded:
                yield text[num_yielded:num_certain]
                num_yielded = num_certain
        text = self._text_before(stop, prompt, row)
        yield text[num_yielded:]
        _warn_of_empty(prompt, [text])
        return StreamEnd(num_tokens=len(row), is_complete=is_complete)

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

    def _sample(self, prompt: str, num: int, options: SamplingOptions) -> Iterator[list[int]]:
        """Yield the next token of each continuation, ``[num]``, step by step."""
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
        for length, tokens in enumerate(samples, start=len(ids)):
            if self.on_token is not None:
                self.on_token()
            if trained is not None and length > trained:
                warnings.warn(
                    f"the text is longer than the {trained:,} tokens of max_position_embeddings, "
                    "so what follows may be worse.",
                    stacklevel=1,  # one location, so that Python shows it once
                )
            yield tokens.tolist()

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

    def _decode(self, prompt: str, row: list[int]) -> str:
        """Decode generated tokens, with the space between them and the prompt."""
        ids = self.tokenizer.encode_text(prompt)
        whole, before = self.tokenizer.decode_text([*ids, *row]), self.tokenizer.decode_text(ids)
        return whole[len(before) :]


def _warn_of_empty(prompt: str, texts: Sequence[str]) -> None:
    """Warn where some of the continuations of a prompt have no text."""
    num, num_empty = len(texts), texts.count("")
    which = "" if num == 1 else f" in {num_empty:,} of {num:,} continuations"
    if num_empty:
        warnings.warn(
            f"nothing is written after {quote(prompt)}{which}: the text ends there.", stacklevel=3
        )


def _num_begun(stop: str, text: str) -> int:
    """Return how many characters at the end of a text may begin the stop text.

    >>> _num_begun("\\n\\n", "a\\n"), _num_begun("\\n\\n", "a"), _num_begun("", "a")
    (1, 0, 0)
    """
    lengths = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)
