"""A trained translation model in use: text in, text out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypedDict, Unpack, overload

import msgspec
import torch
from msgspec.structs import replace

from regard.data.batching import TokenRows
from regard.data.languages import has_spaces_between_words
from regard.errors import ConfigError
from regard.generation.alignment import cross_attention
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens
from regard.hub.hugging_face.source_target_tokenizer import split_tokenizer
from regard.models import EncoderDecoder
from regard.setup.config import RunConfig
from regard.tasks.translation.loss import decode_rows, forbid_unused_ids, special_ids

_STREAMED_LINES = 512  # lines that are sorted by length and decoded together
_TOKENS_PER_CHARACTER = 5  # at most four bytes, and one token more per word


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    """One output.

    Args:
        text: The translation.
        score: Length-penalised log-probability in nats; higher is better.
        confidence: Geometric mean of the token probabilities, 0 to 1.
        is_complete: Whether the model ended it.
    """

    text: str
    score: float
    confidence: float
    is_complete: bool


class Alignment(msgspec.Struct, frozen=True, kw_only=True):
    """Attention of each output token to the source tokens.

    Args:
        source_pieces: Source tokens as text, ``</s>`` last.
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
        source_words = _word_of_each_piece(self.source_pieces[:-1])
        target_words = _word_of_each_piece(self.target_pieces[:-1])
        num_source = 1 + max(source_words, default=-1)
        num_target = 1 + max(target_words, default=-1)
        mass = torch.zeros(num_target, num_source, dtype=torch.float64)
        for target, row in zip(target_words, self.weights, strict=False):
            for source, weight in zip(source_words, row, strict=False):
                mass[target, source] += weight
        return [(int(row.argmax()), index) for index, row in enumerate(mass)] if num_source else []


def _word_of_each_piece(pieces: Sequence[str]) -> list[int]:
    """Return the index of the word that each piece belongs to, from 0."""
    if not has_spaces_between_words(["".join(pieces)]):
        return list(range(len(pieces)))
    words, current = [], -1
    for piece in pieces:
        current += piece.startswith(" ") or current < 0
        words.append(current)
    return words


class SearchOptions(TypedDict, total=False):
    """How translations are searched for; what is left out or None is as the model's settings say.

    Args:
        beam: Number of hypotheses kept at every step; 1 is greedy.
        num_best: Number of translations of each text, 1 (the default) to `beam`.
        length_penalty: 0 favours short output, 1 is neutral, more favours long output.
    """

    beam: int | None
    num_best: int
    length_penalty: float | None


def search_config(config: BeamSearchConfig, **options: Unpack[SearchOptions]) -> BeamSearchConfig:
    """Return the search of a model, changed by the options of a call.

    Raises:
        ConfigError: A value is out of its range.
    """
    values = {"num_best": 1, **options}
    try:
        return replace(
            config, **{name: value for name, value in values.items() if value is not None}
        )
    except ValueError as error:
        raise ConfigError(f"{error}.") from error


@dataclass(eq=False, repr=False)
class Translator:
    """A translation model in use.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings of its run.
    """

    model: EncoderDecoder[Any]
    tokenizer: AnyTokenizer
    config: RunConfig

    @overload
    def translate(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, texts: str, **options: Unpack[SearchOptions]
    ) -> str: ...
    @overload
    def translate(self, texts: Sequence[str], **options: Unpack[SearchOptions]) -> list[str]: ...
    def translate(
        self, texts: str | Sequence[str], **options: Unpack[SearchOptions]
    ) -> str | list[str]:
        """Translate a sentence, or several.

        Args:
            texts: One sentence or line each; an empty one stays empty.
            options: How the translations are searched for, see `SearchOptions`.

        Returns:
            The best translation of each, in the same order; of one string, a string.

        Raises:
            ConfigError: An option is out of its range.
        """
        if isinstance(texts, str):
            return self.translate([texts], **options)[0]
        return [best.text for best, *_ in self.translate_best(texts, **options)]

    def translate_best(
        self, texts: Sequence[str], **options: Unpack[SearchOptions]
    ) -> list[list[Translation]]:
        """Translate sentences, with scores and alternatives.

        A text longer than the model was trained on is split between words into parts, which are
        translated one by one and joined.

        Args:
            texts: One sentence or line each; an empty one stays empty.
            options: How the translations are searched for, see `SearchOptions`.

        Returns:
            The `num_best` best translations of each text, best first.

        Raises:
            ConfigError: An option is out of its range.
        """
        search = search_config(self.config.search, **options)
        search = forbid_unused_ids(search, self.model, self.tokenizer)
        splits = [self._split(text) if text.strip() else [""] for text in texts]
        rows = self.tokenizer.encode([part for parts in splits for part in parts])
        outputs = iter(self._search(rows, search))
        return [_join(list(itertools.islice(outputs, len(parts)))) for parts in splits]

    def stream(
        self, lines: Iterable[str], **options: Unpack[SearchOptions]
    ) -> Iterator[tuple[str, list[Translation]]]:
        """Translate lines in order and in constant memory, while they are read.

        Args:
            lines: One sentence or line each.
            options: How the translations are searched for, see `SearchOptions`.

        Yields:
            Each line with its translations.

        Raises:
            ConfigError: An option is out of its range.
        """
        lines = iter(lines)
        while chunk := list(itertools.islice(lines, _STREAMED_LINES)):
            yield from zip(chunk, self.translate_best(chunk, **options), strict=True)

    def align(self, source: str, target: str) -> Alignment:
        """Compute the attention of each token of a translation to the tokens of its source."""
        source_tokenizer, target_tokenizer = split_tokenizer(self.tokenizer)
        (source_row,) = self.tokenizer.encode([source])
        (target_row,) = self.tokenizer.encode_targets([target])
        source_begin, target_begin = source_tokenizer.begin_ids, target_tokenizer.begin_ids
        ids = special_ids(self.model, self.tokenizer)
        source_ids = torch.tensor([[*source_begin, *source_row, ids.end_of_source]])
        target_ids = torch.tensor([[ids.start, *target_begin, *target_row]])
        weights = cross_attention(self.model, source_ids, target_ids)[0]
        weights = weights[len(target_begin) :, len(source_begin) :]  # [target, source]
        return Alignment(
            source_pieces=[*source_tokenizer.pieces(source_row), "</s>"],
            target_pieces=[*target_tokenizer.pieces(target_row), "</s>"],
            weights=weights.tolist(),
        )

    def _split(self, text: str) -> list[str]:
        """Split a text into parts of at most the trained length, between words where possible."""
        limit = self.config.data.max_length
        if len(text.encode()) <= limit:
            return [text]
        tokenizer = self.tokenizer
        tag = tokenizer.language_tag(text)
        text = text.removeprefix(tag)
        limit -= bool(tag)
        width = max(1, limit // _TOKENS_PER_CHARACTER)
        words = [
            word[start : start + width]
            for word in re.findall(r"\s*\S+|\s+$", text)
            for start in range(0, len(word), width)
        ]
        lengths = [len(row) for row in tokenizer.encode(words)]
        # The first word of a part loses the space before it, and may then have more tokens.
        first_lengths = [len(row) for row in tokenizer.encode([word.strip() for word in words])]
        parts, room = [""], limit
        for word, length, first_length in zip(words, lengths, first_lengths, strict=True):
            if length > room and parts[-1]:
                parts.append("")
                room = limit
            room -= length if parts[-1] else max(length, first_length)
            parts[-1] += word
        return [tag + part.strip() for part in parts]

    def _search(
        self, rows: Sequence[Sequence[int]], config: BeamSearchConfig
    ) -> list[list[Translation]]:
        """Decode token rows; an empty row has an empty translation."""
        filled = [index for index, row in enumerate(rows) if row]
        empty = Translation(text="", score=0.0, confidence=1.0, is_complete=True)
        results = [[empty] * config.num_best for _ in rows]
        source_tokenizer, _ = split_tokenizer(self.tokenizer)
        sources = TokenRows(prepend_special_tokens(source_tokenizer, (rows[i] for i in filled)))
        ids = special_ids(self.model, self.tokenizer)
        decoded = decode_rows(self.model, sources, range(len(filled)), config, ids)
        for index, hypotheses in zip(filled, decoded, strict=True):
            texts = self.tokenizer.decode(map(attrgetter("ids"), hypotheses))
            results[index] = [
                Translation(
                    text=text,
                    score=hypothesis.score,
                    confidence=float(  # the mean counts the end
                        torch.tensor(
                            hypothesis.log_probability / (len(hypothesis.ids) + 1),
                            dtype=torch.float64,
                        ).exp()
                    ),
                    is_complete=hypothesis.is_complete,
                )
                for text, hypothesis in zip(texts, hypotheses, strict=True)
            ]
        return results


def _join(parts: list[list[Translation]]) -> list[Translation]:
    """Join the translations of the parts of one text: the best ones, the second best, and so on.

    A part with fewer translations than others gives its last one again.
    """
    if len(parts) == 1:
        return parts[0]
    translations = []
    for rank in range(max(map(len, parts))):
        ranked = [part[min(rank, len(part) - 1)] for part in parts]
        translations.append(
            Translation(
                text=" ".join(part.text for part in ranked if part.text),
                score=sum(part.score for part in ranked) / len(ranked),
                confidence=min(part.confidence for part in ranked),
                is_complete=all(part.is_complete for part in ranked),
            )
        )
    return translations
