"""Inference with a trained model that writes a target for a source."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import msgspec
import numpy as np
import torch
from msgspec.structs import replace

from regard.data.batching import TokenRows
from regard.data.listing import describe_lines
from regard.errors import ConfigError
from regard.generation.decoders import CurrentDecoder, default_precision, seq2seq_decoder
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens, split_tokenizer
from regard.settings.validation import replace_values, require_options, require_texts
from regard.setup.base_predictor import BasePredictor
from regard.tasks.sequence_to_sequence.decode_rows import (
    decode_rows,
    forbid_unused_ids,
    special_ids,
)
from regard.training.distribution import ALONE, World

if TYPE_CHECKING:
    from regard.generation.beam_search import Hypothesis
    from regard.generation.beam_search_config import BeamSearchConfig
    from regard.generation.continuous_decoding import ContinuousDecoding
    from regard.generation.decoding import Seq2SeqDecoder
    from regard.models import EncoderDecoder
    from regard.settings.values import DecodingPrecision
    from regard.setup.config import RunConfig

_END = "</s>"
_LONGEST_OF_LEAST = 2  # maximum length of an output over the minimum length that a call sets


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One output for a source.

    Args:
        text: The output.
        score: Length-penalised log-probability in nats; higher is better.
        confidence: Geometric mean of the token probabilities, 0 to 1.
        is_complete: Whether the model ended it.
    """

    text: str
    score: float
    confidence: float
    is_complete: bool


C = TypeVar("C", bound=Candidate)


class Alignment(msgspec.Struct, frozen=True, kw_only=True):
    """Attention of each output token to the source tokens.

    Args:
        source_pieces: Source tokens as text, ``</s>`` last; a published vocabulary may put none
            there.
        target_pieces: Output tokens as text, ``</s>`` last.
        weights: ``[target_length, source_length]``; rows sum to 1, or to less where a published
            vocabulary puts special tokens before a text, which are left out.
    """

    source_pieces: list[str]
    target_pieces: list[str]
    weights: list[list[float]]

    def words(self) -> list[tuple[int, int]]:
        """Return the source word that each target word attended to most.

        Returns:
            Pairs of source word and target word, counted from 0; words are separated by spaces. In
            a language without spaces each token counts as a word.
        """
        return [(source, target) for source, target, _ in self.links()]

    def links(self) -> list[tuple[int, int, float]]:
        """Return the pairs of `words`, each with the weight that the target word gave the source.

        The weight is 0 to 1, the mean over the tokens of the target word.
        """
        has_end = self.source_pieces[-1:] == [_END]
        source_words = _word_of_each_piece(self.source_pieces[: -1 if has_end else None])
        target_words = _word_of_each_piece(self.target_pieces[:-1])
        num_source = 1 + max(source_words, default=-1)
        num_target = 1 + max(target_words, default=-1)
        mass = torch.zeros(num_target, num_source, dtype=torch.float64)
        num_pieces = [0] * num_target
        for target, row in zip(target_words, self.weights, strict=False):
            num_pieces[target] += 1
            for source, weight in zip(source_words, row, strict=False):
                mass[target, source] += weight
        if not num_source:
            return []
        return [
            (int(row.argmax()), target, float(row.max()) / num_pieces[target])
            for target, row in enumerate(mass)
        ]


def _word_of_each_piece(pieces: Sequence[str]) -> list[int]:
    """Return the index of the word that each piece belongs to, from 0."""
    from regard.data.languages import has_spaces_between_words

    if not has_spaces_between_words(["".join(pieces)]):
        return list(range(len(pieces)))
    words, current = [], -1
    for piece in pieces:
        current += piece.startswith(" ") or current < 0
        words.append(current)
    return words


class SearchOptions(TypedDict, total=False):
    """How outputs are searched for; what is left out or None is as the model's settings say.

    Args:
        beam: Number of hypotheses kept at every step; 1 is greedy.
        nbest: Number of outputs for each text, best first, 1 (the default) to `beam`; fewer where
            the search finds no more, and one of an empty text.
        length_penalty: 0 favours short output, 1 is neutral, more favours long output.
        min_length: Minimum number of tokens of an output, its end counted.
        max_length: Maximum number of tokens of an output, its end counted.
    """

    beam: int | None
    nbest: int
    length_penalty: float | None
    min_length: int | None
    max_length: int | None


def search_config(config: BeamSearchConfig, **options: Unpack[SearchOptions]) -> BeamSearchConfig:
    """Return the search of a model, changed by the options of a call.

    Raises:
        ConfigError: A value is of another type, or out of its range.
    """
    require_options(SearchOptions, options)
    values: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    num_best = values.pop("nbest", 1)
    least = options.get("min_length") or 0
    if least > 0:
        most = options.get("max_length")
        if most is not None and most < least:
            raise ConfigError(
                f"`min_length` must be `max_length` ({most:,}) or less, not {least:,}."
            )
        # Limits of the settings must not end an output before its least length.
        values["max_length_ratio"] = None
        if most is None:
            values["max_length"] = max(_LONGEST_OF_LEAST * least, config.max_length or 0)
    config = replace_values(config, num_best=1, **values)
    if not 1 <= num_best <= config.beam:
        raise ConfigError(f"`nbest` must be 1 to `beam` ({config.beam}), not {num_best}.")
    return replace_values(config, num_best=num_best)


def require_one_output(options: SearchOptions, several: str) -> None:
    """Check that a method which returns the best output is not asked for several.

    Args:
        options: Of the call.
        several: Name of the method that returns several.

    Raises:
        ConfigError: It is.
    """
    if options.get("nbest", 1) != 1:
        raise ConfigError(
            f"`nbest`: the best output alone is returned here.  `{several}` returns several, with "
            "their scores."
        )


def warn_of_empty(
    results: Iterable[tuple[str, list[C]]], noun: str
) -> Iterator[tuple[str, list[C]]]:
    """Yield sources with their outputs, and warn at the end of those whose output is empty.

    Args:
        results: Each source with its outputs, best first.
        noun: What a source is, such as ``line``; they are numbered from 1.

    Yields:
        The same.
    """
    empty: list[int] = []
    for number, (source, outputs) in enumerate(results, start=1):
        if source.strip() and not outputs[0].text.strip():
            empty.append(number)
        yield source, outputs
    if empty:
        warnings.warn(
            f"{describe_lines(empty, noun)}: the model writes nothing.  At least one token: "
            "`min_length=2`",
            stacklevel=3,
        )


def write_in_chunks(
    sources: Iterator[str],
    write: Callable[[list[str]], list[list[C]]],
    *,
    chunk_size: int,
    noun: str,
) -> Iterator[tuple[str, list[C]]]:
    """Write outputs while sources are read, and warn at the end of those that are empty.

    Args:
        sources: Read as they are needed.
        write: Returns the outputs of each of some sources, best first.
        chunk_size: Sources that are written together.
        noun: What a source is, such as ``line``.

    Yields:
        Each source with its outputs.
    """

    def results() -> Iterator[tuple[str, list[C]]]:
        while chunk := list(itertools.islice(sources, chunk_size)):
            yield from zip(chunk, write(chunk), strict=True)

    yield from warn_of_empty(results(), noun)


@dataclass(eq=False, repr=False)
class TargetWriter(BasePredictor):
    """A trained model that writes a target for a source; each task has a subclass.

    Args:
        model: Model in evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings of its run.
        world: The processes that share its batches; all of them call the same methods.
    """

    model: EncoderDecoder[Any]
    tokenizer: AnyTokenizer
    config: RunConfig
    world: World = ALONE
    precision: DecodingPrecision | None = field(default=None, init=False)
    """Type of the weights that outputs are decoded with; None is `default_precision`."""
    shared_decoding: ContinuousDecoding | None = field(default=None, init=False)
    """Decodes for all threads that use the model, as a service does; None decodes each call."""
    check_caller: Callable[[], None] | None = field(default=None, init=False)
    """Called now and then while `shared_decoding` decodes; what it raises ends that."""
    uses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, init=False)
    """What its folder says of tasks, where it was opened for none of them, see `read_uses`."""
    _current: CurrentDecoder[Seq2SeqDecoder[Any]] = field(
        default_factory=CurrentDecoder, init=False
    )

    def __post_init__(self) -> None:
        """Let outputs begin with the token of a language that its vocabulary names."""
        languages = self.tokenizer.languages
        if languages is None or languages.source is None or languages.target is None:
            return
        from regard.data.language_codes import short_codes  # of few models

        short, config = short_codes(languages.codes), self.config
        pair = config.data.languages or f"{short[languages.source]}-{short[languages.target]}"
        search = replace(config.search, forced_first=languages.first_id)
        self.config = replace(config, search=search, data=replace(config.data, languages=pair))

    @property
    def decoder(self) -> Seq2SeqDecoder[Any]:
        """What takes the steps of the model, with its weights as they are now.

        Raises:
            ConfigError: The model cannot be decoded in `precision`.
        """
        trained_in = self.config.training.precision
        precision = self.precision or default_precision(self.model, trained_in)
        return self._current.get(self.model, precision, seq2seq_decoder)

    @property
    def max_source_length(self) -> int:
        """Tokens of a source that are read at most."""
        data = self.config.data
        return data.max_length if data.max_source_length is None else data.max_source_length

    @property
    def longest_output(self) -> int:
        """Maximum number of tokens that an output was trained for, its end counted."""
        return max(self.config.data.max_length + 1, self.config.search.max_length or 0)

    def search_config(self, **options: Unpack[SearchOptions]) -> BeamSearchConfig:
        """Return the search of the model, changed by the options of a call.

        Raises:
            ConfigError: A value is of another type, or out of its range.
        """
        search = search_config(self.config.search, **options)
        least, longest = options.get("min_length"), self.longest_output
        if least is not None and least > longest:
            raise ConfigError(
                f"`min_length` must be {longest:,} or less, the longest output that this model was "
                f"trained for, not {least:,}."
            )
        return forbid_unused_ids(search, self.model, self.tokenizer)

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of sources with their prefix, without special tokens around them."""
        return self.tokenizer.encode(self.config.data.with_prefix(texts))

    def align(self, source: str, target: str) -> Alignment:
        """Compute the attention of each token of an output to the tokens of its source.

        Returns:
            The pieces of both with their ends, and the weights between them.

        Raises:
            ConfigError: One of them is not a text.
        """
        from regard.generation.alignment import cross_attention

        require_texts([source], "source")
        require_texts([target], "target")
        source_tokenizer, target_tokenizer = split_tokenizer(self.tokenizer)
        (source_row,) = self.encode_sources([source])
        (target_row,) = self.tokenizer.encode_targets([target])
        source_begin, target_begin = source_tokenizer.begin_ids, target_tokenizer.begin_ids
        ids = special_ids(self.model, self.tokenizer)
        device = self.model.device
        source_ids = [[*source_begin, *source_row, *ids.after_source]]
        source_ids = torch.tensor(source_ids, device=device)
        target_ids = torch.tensor([[ids.start, *target_begin, *target_row]], device=device)
        weights = cross_attention(self.model, source_ids, target_ids)[0]
        weights = weights[len(target_begin) :, len(source_begin) :]  # [target, source]
        return Alignment(
            source_pieces=[
                *source_tokenizer.pieces(source_row),
                *[_END] * len(ids.after_source),
            ],
            target_pieces=[*target_tokenizer.pieces(target_row), _END],
            weights=weights.tolist(),
        )

    def share_decoding(self) -> ContinuousDecoding:
        """Decode together for all threads that use the model, whose weights must not change.

        Returns:
            What decodes; close it at the end.
        """
        from regard.generation.continuous_decoding import ContinuousDecoding

        ids = special_ids(self.model, self.tokenizer)
        self.shared_decoding = ContinuousDecoding(self.decoder, ids, device=self.model.device)
        return self.shared_decoding

    def decode(self, sources: TokenRows, search: BeamSearchConfig) -> list[list[Hypothesis]]:
        """Return the best outputs for each source as token ids, best first."""
        ids = special_ids(self.model, self.tokenizer)
        if self.shared_decoding is not None:
            ends = np.array(ids.after_source, dtype=np.int64)
            rows = [sources[row].astype(np.int64) for row in range(len(sources))]
            whole = [np.concatenate([row, ends]) for row in rows]
            return self.shared_decoding.decode(whole, search, self.check_caller)
        rows, decoder = range(len(sources)), self.decoder
        return decode_rows(self.model, sources, rows, search, ids, self.world, decoder=decoder)

    def write(
        self, rows: Sequence[Sequence[int]], search: BeamSearchConfig
    ) -> list[list[Candidate]]:
        """Return the best outputs of each row, best first.

        Args:
            rows: Token ids of the sources, without ends; an empty row has one output, which is
                empty.
            search: How outputs are searched for.
        """
        filled = [index for index, row in enumerate(rows) if row]
        empty = Candidate(text="", score=0.0, confidence=1.0, is_complete=True)
        results = [[empty] for _ in rows]
        source_tokenizer, _ = split_tokenizer(self.tokenizer)
        sources = TokenRows(prepend_special_tokens(source_tokenizer, (rows[i] for i in filled)))
        decoded = self.decode(sources, search)
        for index, hypotheses in zip(filled, decoded, strict=True):
            texts = self.tokenizer.decode(map(self._written_ids, hypotheses))
            results[index] = [
                Candidate(
                    text=text,
                    score=hypothesis.score,
                    # The mean counts the end.
                    confidence=math.exp(hypothesis.log_probability / (len(hypothesis.ids) + 1)),
                    is_complete=hypothesis.is_complete,
                )
                for text, hypothesis in zip(texts, hypotheses, strict=True)
            ]
        return results

    def _written_ids(self, hypothesis: Hypothesis) -> list[int]:
        """Return the ids of an output, with its end where that is not special but text."""
        _, tokenizer = split_tokenizer(self.tokenizer)
        end = tokenizer.end_id
        if hypothesis.is_complete and end in tokenizer.written_stop_ids:
            return [*hypothesis.ids, end]
        return hypothesis.ids
