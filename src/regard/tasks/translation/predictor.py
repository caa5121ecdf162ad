"""Inference with a trained translation model: text in, text out."""

from __future__ import annotations

import copy
import itertools
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from msgspec.structs import replace

from regard.data.listing import describe_lines
from regard.errors import ConfigError
from regard.hub.any_tokenizer import vocabulary_of_languages
from regard.settings.validation import iterate_texts, require_texts
from regard.tasks.sequence_to_sequence.predictor import (
    Alignment,
    Candidate,
    SearchOptions,
    TargetWriter,
    require_one_output,
    warn_of_empty,
    write_in_chunks,
)
from regard.tasks.translation.languages import (
    Direction,
    base_code,
    direct_text,
    find_direction,
    split_pair,
    tags_of,
)

if TYPE_CHECKING:
    from regard.generation.beam_search_config import BeamSearchConfig
    from regard.tasks.translation.documents.translation import FileTranslation

_STREAMED_LINES = 512  # lines that are sorted by length and decoded together
_TOKENS_PER_CHARACTER = 5  # at most four bytes, and one token more per word


class Translator(TargetWriter):
    """A trained translation model, which also scores and streams its translations.

    A published model of many languages (M2M100, NLLB, mBART-50) reads in each text which of them is
    to be written, ``<fr> Good morning``, and perhaps which it is in, ``<de-fr> Guten Morgen``, or
    both are named for all texts, ``lang="de-fr"``, which are then taken as they are.
    """

    verb = "translate"

    @property
    def has_choice(self) -> bool:
        """Whether it writes several languages, of which a text or a call names one."""
        return self.tokenizer.languages is not None or bool(self.language_tags)

    def between(self, source: str | None, target: str) -> Translator:
        """Return the translator of a pair of languages of a model of many, with the same weights.

        Args:
            source: Code or name of the language that is read; None is the model's default, which is
                said in a warning.
            target: That of the language that is written.

        Raises:
            ConfigError: One of them is not among those of the model, or it has no others.
        """
        tokenizer = vocabulary_of_languages(self.tokenizer)
        if tokenizer is None or (languages := tokenizer.languages) is None:
            raise ConfigError("this model is not one of many languages, whose vocabulary has them.")
        if source is None and not languages.names_source:
            warnings.warn(
                f"texts are read as {languages.source}, the default of this model.  "
                "From another language: `lang=de-fr`",
                stacklevel=1,  # one location, so that Python shows it once
            )
        other = copy.copy(self)
        other.tokenizer = tokenizer.between(source, target)
        data = replace(self.config.data, languages="")
        other.config = replace(self.config, data=data)
        other.__post_init__()
        return other

    def direct(self, text: str, lang: str = "") -> tuple[Translator, str]:
        """Return what translates a text, and the text without the tag of its languages.

        Args:
            text: A text.
            lang: Its languages, such as ``en-de``; empty reads them in the text, where the model is
                one of many languages.

        Raises:
            ConfigError: No language is named, or one that the model does not have.
        """
        languages = self.tokenizer.languages
        if languages is None:
            return self, self._with_tag(lang) + text
        if lang:
            return self.between(*find_direction(languages, lang)), text
        if languages.target is not None:
            return self, text
        direction, text = direct_text(languages, text)
        return self.between(*direction), text

    def _with_tag(self, lang: str) -> str:
        """Return what goes before each text to be written in a language; empty without a choice.

        Raises:
            ConfigError: The model does not write it.
        """
        if not lang:
            return ""
        target, tags = split_pair(lang)[-1], tags_of(self)
        tag = tags.get(target.lower().replace("_", "-")) or tags.get(base_code(target))
        if tag is None:
            targets = list(tags) or self.config.data.languages.split("-")[-1:]
            writes = ", ".join(filter(None, targets))
            writes = writes or "one language, which its folder does not name"
            raise ConfigError(f"`lang={lang}`: this model writes {writes}.  Leave it out.")
        return f"{tag} "

    @property
    def language_tags(self) -> list[str]:
        """What a text begins with to say which language is to be written, such as ``<de>``."""
        return list(filter(self.tokenizer.language_tag, self.config.tokenizer.tags))

    @overload
    def translate(  # pyright: ignore[reportOverlappingOverload] - a string is a sequence, too
        self, texts: str, *, lang: str = "", **options: Unpack[SearchOptions]
    ) -> str: ...
    @overload
    def translate(
        self, texts: Sequence[str], *, lang: str = "", **options: Unpack[SearchOptions]
    ) -> list[str]: ...
    def translate(
        self, texts: str | Sequence[str], *, lang: str = "", **options: Unpack[SearchOptions]
    ) -> str | list[str]:
        """Translate a sentence, or several.

        Args:
            texts: One sentence or line each; an empty one stays empty. Another one whose
                translation is empty is warned of.
            lang: Languages of all texts, such as ``en-de``, or the one that is written, of a model
                of several; empty reads it in each text.
            options: How the translations are searched for, see `SearchOptions`.

        Returns:
            The best translation of each, in the same order; of one string, a string.

        Raises:
            ConfigError: An option is out of its range, `nbest` is above 1, or a language is not
                named or not known.
        """
        require_one_output(options, "translate_best")
        if isinstance(texts, str):
            return self.translate([texts], lang=lang, **options)[0]
        texts = require_texts(texts, "texts")
        results = zip(texts, self.translate_best(texts, lang=lang, **options), strict=True)
        results = self._warn_of_cut(warn_of_empty(results, "line"), options)
        return [best.text for _, (best, *_) in results]

    def translate_best(
        self, texts: Sequence[str], *, lang: str = "", **options: Unpack[SearchOptions]
    ) -> list[list[Candidate]]:
        """Return the `nbest` best translations of each text, best first, with scores.

        A text longer than the model was trained on is split between words into parts, which are
        translated one by one and joined.

        Args:
            texts: One sentence or line each; an empty one stays empty.
            lang: Languages of all texts, see `translate`.
            options: How the translations are searched for, see `SearchOptions`.

        Raises:
            ConfigError: An option is out of its range, a text is something else, or a language is
                not named or not known.
        """
        texts = require_texts(texts, "texts")
        search = self.search_config(**options)
        if self.tokenizer.languages is not None:
            return self._translate_between(texts, lang, options)
        if tag := self._with_tag(lang):
            texts = [tag + text if text.strip() else text for text in texts]
        self._warn_of_tags(texts)
        return self._translate(texts, search)

    def _translate_between(
        self, texts: Sequence[str], lang: str, options: SearchOptions
    ) -> list[list[Candidate]]:
        """Translate texts whose languages are named, those of a pair together."""
        languages = self.tokenizer.languages
        assert languages is not None, "a vocabulary of many languages"
        named = find_direction(languages, lang) if lang else None
        groups: dict[Direction | None, list[tuple[int, str]]] = defaultdict(list)
        for index, text in enumerate(texts):
            direction, rest = named, text
            if named is None and languages.target is None and text.strip():
                direction, rest = direct_text(languages, text)
            groups[direction].append((index, rest))
        results: list[list[Candidate]] = [[] for _ in texts]
        for direction, rows in groups.items():
            translator = self if direction is None else self.between(*direction)
            search = translator.search_config(**options)
            best = translator._translate([text for _, text in rows], search)
            for (index, _), candidates in zip(rows, best, strict=True):
                results[index] = candidates
        return results

    def _translate(self, texts: Sequence[str], search: BeamSearchConfig) -> list[list[Candidate]]:
        """Translate texts of the languages of the vocabulary, long ones in parts."""
        splits = [self._split(text) if text.strip() else [""] for text in texts]
        rows = self.encode_sources([part for parts in splits for part in parts])
        outputs = iter(self.write(rows, search))
        return [
            _join(list(itertools.islice(outputs, len(parts))), self.tokenizer.language_tag(text))
            for text, parts in zip(texts, splits, strict=True)
        ]

    def align(self, source: str, target: str, *, lang: str = "") -> Alignment:
        """Compute the attention of each token of an output to the tokens of its source.

        Args:
            source: The text.
            target: Its translation.
            lang: Languages of both, see `translate`.

        Returns:
            The pieces of both with their ends, and the weights between them.
        """
        require_texts([source], "source")
        translator, text = self.direct(source, lang)
        return super(Translator, translator).align(text, target)

    def stream(
        self, lines: Iterable[str], *, lang: str = "", **options: Unpack[SearchOptions]
    ) -> Iterator[tuple[str, list[Candidate]]]:
        """Translate lines in order and in constant memory, while they are read.

        After the last one, those whose translation is empty are warned of.

        Args:
            lines: One sentence or line each.
            lang: Languages of all lines, see `translate`.
            options: How the translations are searched for, see `SearchOptions`.

        Yields:
            Each line with its translations.

        Raises:
            ConfigError: An option is out of its range, or a line is not a text.
        """
        write = partial(self.translate_best, lang=lang, **options)
        texts = iterate_texts(lines, "lines")
        results = write_in_chunks(texts, write, chunk_size=_STREAMED_LINES, noun="line")
        yield from self._warn_of_cut(results, options)

    def _warn_of_cut(
        self, results: Iterable[tuple[str, list[Candidate]]], options: SearchOptions
    ) -> Iterator[tuple[str, list[Candidate]]]:
        """Yield texts with their translations; warn at the end where a published limit cut some.

        Folders of `transformers` have one that knows nothing of the source: NLLB's is 200 tokens.
        """
        cut: list[int] = []
        for number, (text, candidates) in enumerate(results, start=1):
            if not candidates[0].is_complete:
                cut.append(number)
            yield text, candidates
        search = self.config.search
        if options.get("max_length") is not None:
            return
        if cut and search.max_length is not None and search.max_length_ratio is None:
            warnings.warn(
                f"{describe_lines(cut)}: cut off at {search.max_length:,} tokens, the limit of "
                f"this folder.  Longer: `max_length={2 * search.max_length}`",
                stacklevel=3,
            )

    def translate_file(
        self,
        path: str | Path,
        output: str | Path | None = None,
        *,
        lang: str | None = None,
        fuzzy: bool = True,
        encoding: str = "utf-8",
        **options: Unpack[SearchOptions],
    ) -> FileTranslation:
        """Translate the texts of a file that are not translated yet, and keep the rest of it.

        Placeholders and markup are the same in a text and its translation. The formats are those of
        `regard.tasks.translation.documents.DOCUMENT_FORMATS`, known by the suffix of the name.

        Args:
            path: The file.
            output: File to write, completely or not at all; None writes none.
            lang: Codes such as ``en-de``, which go before those of the file and of the model. Where
                a model writes several languages, the target says which.
            fuzzy: Whether translations are marked as to be reviewed: as fuzzy in PO, by their state
                in XLIFF 1.2.
            encoding: Encoding of a file that does not say it itself.
            options: How the translations are searched for, see `SearchOptions`.

        Returns:
            The content of the translated file, and a report of what was done.

        Raises:
            ConfigError: An option is out of its range, it is unknown which language is to be
                written, or the output cannot be written.
            DataError: The file is missing, damaged, or of another format.
        """
        from regard.hub.storage import write_atomic
        from regard.tasks.translation.documents.document import DocumentOptions
        from regard.tasks.translation.documents.translation import translate_document

        require_one_output(options, "translate_best")
        settings = DocumentOptions(fuzzy=fuzzy, encoding=encoding)
        translation = translate_document(self, path, settings, lang=lang or "", **options)
        if output is not None:
            write_atomic(Path(output), translation.content)
        return translation

    def _warn_of_tags(self, texts: Sequence[str]) -> None:
        """Warn where texts begin with tags that the model does not have, or lack one of a language.

        A tag is lacking where those of the model name the languages that it writes, of which it
        then writes any, or some of each.
        """
        listed = f"The tags of this model: {', '.join(self.language_tags)}."
        for word in filter(None, map(self.unknown_tag, texts)):
            warnings.warn(f"{word} is read as text.  {listed}", stacklevel=3)
        targets = self.config.data.languages.partition("-")[2].split(",")
        if len(targets) < 2 or not tags_of(self).keys() >= set(map(str.lower, targets)):
            return
        for text in map(str.strip, texts):
            if text and not self.tokenizer.language_tag(text) and self.unknown_tag(text) is None:
                warnings.warn(
                    f"a text without a tag does not say which language is to be written.  {listed}",
                    stacklevel=3,
                )
                return

    def unknown_tag(self, text: str) -> str | None:
        """Return the tag that a text begins with where the model has tags, and no such one."""
        words = text.split(maxsplit=1)
        marks = {(tag[0], tag[-1]) for tag in self.language_tags if not tag[0].isalnum()}
        if not words or (words[0][0], words[0][-1]) not in marks:
            return None
        return None if self.tokenizer.language_tag(words[0]) else words[0]

    def _split(self, text: str) -> list[str]:
        """Split a text into parts of at most the trained length, between words where possible."""
        (prefix,) = self._count_tokens([self.config.data.source_prefix])
        limit = max(1, self.config.data.max_length - prefix)
        if len(text.encode()) <= limit or self._count_tokens([text])[0] <= limit:
            return [text]
        tag = self.tokenizer.language_tag(text)
        text = text.removeprefix(tag)
        if tag:  # each part begins with it, and with a space if the text does
            tag += " " * text.startswith(" ")
            limit -= self._count_tokens([tag])[0]
        words = _split_words(text, max(1, limit // _TOKENS_PER_CHARACTER))
        lengths = self._count_tokens(words)
        # The first word of a part loses the space before it, and may then have more tokens.
        first_lengths = self._count_tokens([word.strip() for word in words])
        parts = _pack(words, lengths, list(map(max, lengths, first_lengths)), limit)
        return [tag + part.strip() for part in parts]

    def _count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(row) for row in self.tokenizer.encode(texts)]


def _split_words(text: str, width: int) -> list[str]:
    """Return the words of a text, each with the space before it, cut to some characters."""
    return [
        word[start : start + width]
        for word in re.findall(r"\s*\S+|\s+$", text)
        for start in range(0, len(word), width)
    ]


def _pack(
    words: Sequence[str], lengths: Sequence[int], first_lengths: Sequence[int], limit: int
) -> list[str]:
    """Return words joined to parts, each as full as the next word allows; at least one.

    Args:
        words: The words, in order.
        lengths: Tokens of each within a part.
        first_lengths: Tokens of each at the beginning of a part.
        limit: Maximum number of tokens of a part of several words.
    """
    parts, room = [""], limit
    for word, length, first_length in zip(words, lengths, first_lengths, strict=True):
        if length > room and parts[-1]:
            parts.append("")
            room = limit
        room -= length if parts[-1] else first_length
        parts[-1] += word
    return parts


def _join(parts: list[list[Candidate]], tag: str) -> list[Candidate]:
    """Join the translations of the parts of one text: the best ones, the second best, and so on.

    A part with fewer translations than others gives its last one again. A tag that translations
    have is of no language but a placeholder, which the text has once where its parts begin with it.

    Args:
        parts: The translations of each part.
        tag: The tag that all parts begin with; empty if with none.

    Returns:
        As many translations as the part with most of them has.
    """
    if len(parts) == 1:
        return parts[0]
    most = max(map(len, parts))
    repeated = [[*part, *part[-1:] * (most - len(part))] for part in parts]
    return [_join_ranked(ranked, tag) for ranked in zip(*repeated, strict=True)]


def _join_ranked(ranked: Sequence[Candidate], tag: str) -> Candidate:
    """Return one translation of a text of one of each of its parts."""
    placeholder = rf"\s*{re.escape(tag)}"  # without a tag, the spaces at the beginning
    rest = [re.sub(placeholder, "", part.text, count=1) for part in ranked[1:]]
    return Candidate(
        text=" ".join(filter(None, map(str.strip, [ranked[0].text, *rest]))),
        score=sum(part.score for part in ranked) / len(ranked),
        confidence=min(part.confidence for part in ranked),
        is_complete=all(part.is_complete for part in ranked),
    )
