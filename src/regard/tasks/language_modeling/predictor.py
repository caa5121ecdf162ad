"""A trained language model opened for use: text goes in, what may follow comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict, Unpack

import msgspec
import torch

from regard.data.readers.text import TextLines
from regard.data.token_stream import TokenStream
from regard.errors import ConfigError
from regard.generation.sampling import SamplingConfig, sample
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import Decoder
from regard.setup.config import RunConfig
from regard.tasks.language_modeling.loss import evaluation_batches, text_measures

_UNFINISHED = "\ufffd"  # stands for a character of which bytes are missing


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One continuation.

    Args:
        text: What was written after the prompt.
        num_tokens: Tokens written.
        is_complete: Whether the model ended the document, or the stop text was reached.
    """

    text: str
    num_tokens: int
    is_complete: bool


class SamplingOptions(TypedDict, total=False):
    """How a continuation is drawn.

    Args:
        max_tokens: Most tokens of each; 200 where it is left out.
        temperature: 0 takes the most probable token, 1, the default, samples as the model says.
        top_k: Choose among this many tokens only; 0, the default, sets no limit.
        top_p: Choose among the tokens that together reach this probability, above 0 to 1, the
            default.
        stop: Text at which a continuation ends, itself left out.
        seed: Of the choice; None draws one.
    """

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    stop: str | None
    seed: int | None


class TextGenerator:
    """A model folder opened for generating text.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings it was made with.
    """

    def __init__(self, model: Decoder, tokenizer: AnyTokenizer, config: RunConfig) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config

    def generate(
        self, prompt: str | Sequence[str] = "", *, num: int = 1, **options: Unpack[SamplingOptions]
    ) -> Any:
        """Continue a prompt, or several.

        Args:
            prompt: Text to continue; empty begins a document.
            num: Continuations of each, drawn independently.
            options: How tokens are chosen, see `SamplingOptions`.

        Returns:
            One `Generation`; a list where there are several prompts, and in place of each where
            `num` is above 1.

        Raises:
            ConfigError: A number is out of its range.
        """
        if not isinstance(prompt, str):
            return [self.generate(each, num=num, **options) for each in prompt]
        generations = self.generate_all(prompt, num=num, **options)
        return generations[0] if num == 1 else generations

    def generate_all(
        self, prompt: str, *, num: int, **options: Unpack[SamplingOptions]
    ) -> list[Generation]:
        """Continue a prompt several times, independently.

        Args:
            prompt: Text to continue; empty begins a document.
            num: Continuations.
            options: How tokens are chosen, see `SamplingOptions`.

        Raises:
            ConfigError: A number is out of its range.
        """
        stop, seed = options.get("stop"), options.get("seed")
        config = sampling_config(
            temperature=options.get("temperature", 1.0),
            top_k=options.get("top_k", 0),
            top_p=options.get("top_p", 1.0),
            max_tokens=options.get("max_tokens", 200),
        )
        rows: list[list[int]] = [[] for _ in range(num)]
        ended = [False] * num
        for tokens in self._tokens(prompt, config, num, seed):
            for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
                if not ended[place] and token not in self.tokenizer.stop_ids:
                    row.append(token)
                    ended[place] = bool(stop) and str(stop) in self._written(prompt, row)
                else:
                    ended[place] = True
            if all(ended):
                break
        texts = [self._written(prompt, row) for row in rows]
        if stop:
            texts = [text.partition(stop)[0] for text in texts]
        return [
            Generation(text=text, num_tokens=len(row), is_complete=end)
            for text, row, end in zip(texts, rows, ended, strict=True)
        ]

    def stream(
        self, prompt: str, config: SamplingConfig, *, stop: str | None, seed: int | None
    ) -> Iterator[str]:
        """Continue a prompt and hand out the text as it is written.

        Yields:
            The next piece of text, whole characters; nothing of the stop text.
        """
        row: list[int] = []
        shown = ""
        for tokens in self._tokens(prompt, config, 1, seed):
            if tokens[0] in self.tokenizer.stop_ids:
                break
            row.append(tokens[0])
            text = self._written(prompt, row)
            if stop and stop in text:
                yield text.partition(stop)[0][len(shown) :]
                return
            safe = _without_beginning_of(stop, text) if stop else text
            if not text.endswith(_UNFINISHED) and len(safe) > len(shown):
                yield safe[len(shown) :]
                shown = safe
        yield self._written(prompt, row)[len(shown) :]

    def measure(self, lines: TextLines) -> dict[str, float]:
        """Measure how well the model predicts a text: loss, perplexity, bits a byte."""
        stream = TokenStream(lines, self.tokenizer)
        batches = evaluation_batches(self.model, stream, self.config.data.max_length)
        return text_measures(self.model, batches, lines.num_bytes)

    def _tokens(
        self, prompt: str, config: SamplingConfig, num: int, seed: int | None
    ) -> Iterator[list[int]]:
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        ids = [*self.tokenizer.prompt_start, *self.tokenizer.encode_text(prompt)]
        ids = ids or self.tokenizer.document_start
        if not ids:
            raise ConfigError(
                "the prompt is empty, and the vocabulary has no token that begins a text."
            )
        unused = self.tokenizer.unused_ids(self.model.vocab_size)
        config = msgspec.structs.replace(config, forbidden=(*config.forbidden, *unused))
        for tokens in sample(self.model, ids, config, num=num, generator=generator):
            yield tokens.tolist()

    def _written(self, prompt: str, row: list[int]) -> str:
        """Decode what was written, with the space that stands between it and the prompt."""
        ids = self.tokenizer.encode_text(prompt)
        whole, before = self.tokenizer.decode_text([*ids, *row]), self.tokenizer.decode_text(ids)
        return whole[len(before) :]


def sampling_config(
    *, temperature: float, top_k: int, top_p: float, max_tokens: int
) -> SamplingConfig:
    """Check the options of sampling.

    Raises:
        ConfigError: A value is out of its range.
    """
    try:
        return SamplingConfig(
            temperature=temperature, top_k=top_k, top_p=top_p, max_tokens=max_tokens
        )
    except ValueError as error:
        raise ConfigError(f"{error}.") from error


def _without_beginning_of(stop: str, text: str) -> str:
    """Cut off the end of a text that may turn out to begin the stop text."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return text[:-length]
    return text
