"""A trained translation model in use: text in, text out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import msgspec
import torch
from msgspec.structs import replace

from regard.data.batching import TokenRows
from regard.errors import ConfigError
from regard.generation.alignment import cross_attention
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.any_tokenizer import AnyTokenizer, prepend_special_tokens
from regard.hub.hugging_face.source_target_tokenizer import split_tokenizer
from regard.models import EncoderDecoder
from regard.setup.config import RunConfig
from regard.tasks.translation.loss import among_tokens, decode_rows, special_ids

_STREAMED_LINES = 512  # lines read ahead, to be sorted by length and decoded together


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    """One output.

    Args:
        text: The translation.
        score: Length-penalised log-probability, natural logarithm; higher is better.
        confidence: Geometric mean of the token probabilities, 0 to 1.
        is_complete: Whether the model ended it by itself.
    """

    text: str
    score: float
    confidence: float
    is_complete: bool


class Alignment(msgspec.Struct, frozen=True, kw_only=True):
    """Which source token each output token attended to.

    Args:
        source_pieces: Source tokens as text, ``</s>`` last.
        target_pieces: Output tokens as text, ``</s>`` last.
        weights: One row an output token, one column a source token; rows sum to 1, or to less
            where a published vocabulary puts tokens before a text, which are not shown.
    """

    source_pieces: list[str]
    target_pieces: list[str]
    weights: list[list[float]]

    def words(self) -> list[tuple[int, int]]:
        """List the pairs (source word, target word), counted from 0 between spaces.

        Each target word is paired with the source word it attended to most.
        """
        source_words = _words_of(self.source_pieces[:-1])
        target_words = _words_of(self.target_pieces[:-1])
        num_source = 1 + max(source_words, default=-1)
        num_target = 1 + max(target_words, default=-1)
        mass = torch.zeros(num_target, num_source, dtype=torch.float64)
        for target, row in zip(target_words, self.weights, strict=False):
            for source, weight in zip(source_words, row, strict=False):
                mass[target, source] += weight
        return [(int(row.argmax()), place) for place, row in enumerate(mass)] if num_source else []


def _words_of(pieces: Sequence[str]) -> list[int]:
    """Return the number of the word that each piece belongs to, from 0."""
    words, current = [], -1
    for piece in pieces:
        current += piece.startswith(" ") or current < 0
        words.append(current)
    return words


class Translator:
    """A model folder opened for translating.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings it was made with.
    """

    def __init__(
        self, model: EncoderDecoder[Any], tokenizer: AnyTokenizer, config: RunConfig
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config

    @overload
    def translate(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, texts: str, *, beam: int | None = None, length_penalty: float | None = None
    ) -> str: ...
    @overload
    def translate(
        self, texts: Sequence[str], *, beam: int | None = None, length_penalty: float | None = None
    ) -> list[str]: ...
    def translate(
        self,
        texts: str | Sequence[str],
        *,
        beam: int | None = None,
        length_penalty: float | None = None,
    ) -> str | list[str]:
        """Translate a sentence, or several.

        Args:
            texts: One sentence or line each; an empty one stays empty.
            beam: Hypotheses kept in the search; 1 is greedy. None is as the model says.
            length_penalty: 0 favours short output, 1 is neutral, more favours long output. None is
                as the model says.

        Returns:
            The best translation of each, in the same order; of one string, a string.
        """
        if isinstance(texts, str):
            return self.translate([texts], beam=beam, length_penalty=length_penalty)[0]
        found = self.translate_best(texts, beam=beam, length_penalty=length_penalty)
        return [translations[0].text for translations in found]

    def translate_best(
        self,
        texts: Sequence[str],
        *,
        beam: int | None = None,
        num_best: int = 1,
        length_penalty: float | None = None,
    ) -> list[list[Translation]]:
        """Translate sentences and return the `num_best` best of each with their scores.

        A text longer than the model was trained on is cut between words into parts that are
        translated one by one and joined.
        """
        search = search_config(
            self.config.search, beam=beam, num_best=num_best, length_penalty=length_penalty
        )
        search = among_tokens(search, self.model, self.tokenizer)
        parts = [self._split(text) for text in texts]
        rows = self.tokenizer.encode([part for split in parts for part in split])
        outputs = iter(self._search(rows, search))
        return [_join(list(itertools.islice(outputs, len(split))), num_best) for split in parts]

    def stream(
        self,
        lines: Iterable[str],
        *,
        beam: int | None = None,
        num_best: int = 1,
        length_penalty: float | None = None,
    ) -> Iterator[tuple[str, list[Translation]]]:
        """Translate lines as they come, in constant memory, order kept.

        Yields:
            Each line with its translations.
        """
        lines = iter(lines)
        while chunk := list(itertools.islice(lines, _STREAMED_LINES)):
            found = self.translate_best(
                chunk, beam=beam, num_best=num_best, length_penalty=length_penalty
            )
            yield from zip(chunk, found, strict=True)

    def align(self, source: str, target: str) -> Alignment:
        """Show which source token each token of a given translation attends to."""
        (source_row,), (target_row,) = (
            self.tokenizer.encode([source]),
            self.tokenizer.encode_targets([target]),
        )
        ids = special_ids(self.model, self.tokenizer)
        sides = split_tokenizer(self.tokenizer)
        before, begin = (side.begin_ids for side in sides)
        source_ids = torch.tensor([[*before, *source_row, ids.end_of_source]])
        target_ids = torch.tensor([[ids.start, *begin, *target_row]])
        weights = cross_attention(self.model, source_ids, target_ids)[0]
        weights = weights[len(begin) :, len(before) :]
        return Alignment(
            source_pieces=[*sides[0].pieces(source_row), "</s>"],
            target_pieces=[*sides[1].pieces(target_row), "</s>"],
            weights=weights.tolist(),
        )

    def _split(self, text: str) -> list[str]:
        """Cut a text into parts of at most the trained length, between words where it can."""
        limit = self.config.data.max_length
        if len(text.encode()) <= limit:
            return [text]
        tokenizer = self.tokenizer
        tag = tokenizer.language_tag(text)
        text = text.removeprefix(tag)
        limit -= bool(tag)
        words = re.findall(r"\s*\S+|\s+$", text)
        width = max(
            1, limit // 5
        )  # no character has more than 4 tokens, no word more than 1 besides
        words = [word[at : at + width] for word in words for at in range(0, len(word), width)]
        lengths = [len(row) for row in tokenizer.encode(words)]
        # Without the space before it, a word may have more tokens.
        firsts = [len(row) for row in tokenizer.encode([word.strip() for word in words])]
        parts, room = [""], limit
        for word, length, first in zip(words, lengths, firsts, strict=True):
            if length > room and parts[-1]:
                parts.append("")
                room = limit
            room -= length if parts[-1] else max(length, first)
            parts[-1] += word
        return [tag + part.strip() for part in parts]

    def _search(
        self, rows: Sequence[Sequence[int]], config: BeamSearchConfig
    ) -> list[list[Translation]]:
        """Decode token rows; an empty row has an empty translation."""
        filled = [place for place, row in enumerate(rows) if row]
        empty = Translation(text="", score=0.0, confidence=1.0, is_complete=True)
        results = [[empty] * config.num_best for _ in rows]
        before, _ = split_tokenizer(self.tokenizer)
        sources = TokenRows(prepend_special_tokens(before, (rows[place] for place in filled)))
        ids = special_ids(self.model, self.tokenizer)
        found = decode_rows(self.model, sources, range(len(filled)), config, ids)
        for place, hypotheses in zip(filled, found, strict=True):
            texts = self.tokenizer.decode(hypothesis.ids for hypothesis in hypotheses)
            results[place] = [
                Translation(
                    text=text,
                    score=hypothesis.score,
                    confidence=_confidence(hypothesis.log_probability, len(hypothesis.ids)),
                    is_complete=hypothesis.is_complete,
                )
                for text, hypothesis in zip(texts, hypotheses, strict=True)
            ]
        return results


def search_config(
    usual: BeamSearchConfig, *, beam: int | None, num_best: int, length_penalty: float | None
) -> BeamSearchConfig:
    """Change how a model searches by the options of a call; None leaves what is usual.

    Raises:
        ConfigError: A value is out of its range.
    """
    given = {"beam": beam, "num_best": num_best, "length_penalty": length_penalty}
    try:
        return replace(usual, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise ConfigError(f"{error}.") from error


def _confidence(log_probability: float, num_tokens: int) -> float:
    return float(torch.tensor(log_probability / (num_tokens + 1), dtype=torch.float64).exp())


def _join(parts: list[list[Translation]], num_best: int) -> list[Translation]:
    """Join the translations of the parts of one text, best with best."""
    if len(parts) == 1:
        return parts[0]
    joined = []
    for rank in range(num_best):
        chosen = [part[rank] for part in parts]
        joined.append(
            Translation(
                text=" ".join(part.text for part in chosen if part.text),
                score=sum(part.score for part in chosen) / len(chosen),
                confidence=min(part.confidence for part in chosen),
                is_complete=all(part.is_complete for part in chosen),
            )
        )
    return joined
