"""The translation of a file: read, its texts translated, written completely or not at all."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Unpack

from regard.data.language_codes import short_codes
from regard.data.languages import require_pair
from regard.data.readers.source import DataSource, open_source
from regard.errors import ConfigError, DataError
from regard.tasks.translation.documents import DOCUMENT_FORMATS
from regard.tasks.translation.documents.document import (
    Document,
    DocumentOptions,
    FileReport,
    is_encodable,
)
from regard.tasks.translation.documents.filling import Filled, Way, fill_segments
from regard.tasks.translation.languages import (
    Languages,
    base_code,
    find_direction,
    languages_of,
    tags_of,
)

if TYPE_CHECKING:
    from regard.tasks.sequence_to_sequence.predictor import SearchOptions
    from regard.tasks.translation.predictor import Translator

_CHUNK_SIZE = 512  # sentences that are sorted by length and decoded together


class FileTranslation(NamedTuple):
    """A translated file.

    Args:
        content: Its bytes.
        report: What was done.
        noun: What an entry of the file is, such as ``cue``.
    """

    content: bytes
    report: FileReport
    noun: str

    def describe(self, name: str) -> str:
        """Return what was done in one line; `name` is that of the file."""
        return f"{name}: {self.report.describe(self.noun)}"


def translate_document(
    translator: Translator,
    source: DataSource | str | Path,
    options: DocumentOptions,
    *,
    lang: str = "",
    on_progress: Callable[[int], None] = lambda _: None,
    **search: Unpack[SearchOptions],
) -> FileTranslation:
    """Return the translation of a file of a format that is known by its name.

    Args:
        translator: The model.
        source: The file.
        options: How it is read and written; its target is that of `lang`, of the file or of the
            model, in this order.
        lang: Codes such as ``en-de``; empty takes those of the file and of the model.
        on_progress: Called with the number of sentences that have been translated since the last
            call.
        search: How translations are searched for.

    Raises:
        ConfigError: An option is out of its range, or it is unknown which of its languages the
            model is to write.
        DataError: The file is damaged, or of another format.
    """
    require_pair(lang)
    if not isinstance(source, DataSource):
        source = open_source(source, as_rows=False)
    translator.search_config(**search)
    languages = languages_of(translator, lang)
    asked = _asked_target(translator, lang)
    target = asked or _only_target(languages)
    document = _read(source, replace(options, target=target))
    target = asked or document.target_language or target
    if languages is not None and languages.sources:
        read = lang.partition("-")[0] or document.source_language or ""
        tag = _tag_of_pair(translator, read, target, source.path)
    else:
        tag = _tag_of(translator, target, source.path, languages.source if languages else "")
        _note_mismatch(source.path, document, languages)
    write = _writer(translator, tag, on_progress, search)
    filled = fill_segments(document.segments, write, is_encodable(document.encoding))
    text = document.fill([item.text for item in filled], replace(options, target=target))
    content = text.encode(document.encoding)
    return FileTranslation(content, _report(document, filled), document.noun)


def _read(source: DataSource, options: DocumentOptions) -> Document:
    """Read a document; raise DataError for a file of another format."""
    read = DOCUMENT_FORMATS.get(source.suffix)
    if read is None:
        raise DataError(
            f"{source.path}: a file of a format with texts to be filled was expected: "
            f"{', '.join(DOCUMENT_FORMATS)}.  Translate the lines of another one: `stream`"
        )
    return read(source, options)


def _asked_target(translator: Translator, lang: str) -> str:
    """Return the target of a pair of codes, as files name languages; empty without a pair."""
    many = translator.tokenizer.languages
    if many is None or not lang:
        return lang.partition("-")[2]
    return short_codes(many.codes)[find_direction(many, lang).target]


def _only_target(languages: Languages | None) -> str:
    """Return the language that a model writes; empty where there are several, or none is known."""
    targets = list(languages.tags) if languages else []
    return targets[0] if len(targets) == 1 else ""


def _tag_of(translator: Translator, target: str, name: str, source: str) -> str:
    """Return the tag that each text is to begin with; empty for a model without tags.

    Raises:
        ConfigError: The model writes several languages, and none of them is asked for.
    """
    tags = tags_of(translator)
    if not tags:
        return ""
    tag = tags.get(target.lower().replace("_", "-")) or tags.get(base_code(target))
    if tag is None:
        asked = f"to be written in {target}" if target else "does not say its language"
        raise ConfigError(
            f"{name}: {asked}, and this model writes {', '.join(tags)}.  Name one: "
            f"`lang={source or 'en'}-{next(iter(tags))}`"
        )
    return tag


def _tag_of_pair(translator: Translator, source: str, target: str, name: str) -> str:
    """Return the tag of a pair of languages of a model of many.

    Args:
        translator: The model.
        source: Code of the language that is read; empty leaves the model's default.
        target: That of the language that is written; empty if nothing says it.
        name: Name of the file, for messages.

    Raises:
        ConfigError: One of them is not among those of the model, or none is to be written.
    """
    many = translator.tokenizer.languages
    assert many is not None, "a model of many languages"
    if not target:
        raise ConfigError(
            f"{name}: does not say its language, and this model writes {', '.join(many.codes)}.  "
            f"Name one: `lang={source or 'en'}-fr`"
        )
    try:
        codes = [many.find(code) for code in (source, target) if code]
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    return f"<{'-'.join(codes)}>"


def _note_mismatch(name: str, document: Document, languages: Languages | None) -> None:
    """Warn where a file is of other languages than the model."""
    if languages is None:
        return
    roles = [
        (document.source_language, [languages.source], "is in", "reads"),
        (document.target_language, list(languages.tags), "is to be in", "writes"),
    ]
    for code, codes, role, verb in roles:
        if code and base_code(code) not in map(base_code, codes):
            warnings.warn(
                f"{name}: the file {role} {code}, and the model {verb} {', '.join(codes)}.",
                stacklevel=3,
            )


def _writer(
    translator: Translator, tag: str, on_progress: Callable[[int], None], search: SearchOptions
) -> Callable[[Sequence[str]], list[list[str]]]:
    """Return what translates sentences to all outputs of the beam."""
    options: SearchOptions = {**search, "nbest": translator.search_config(**search).beam}

    def write(texts: Sequence[str]) -> list[list[str]]:
        outputs: list[list[str]] = []
        for start in range(0, len(texts), _CHUNK_SIZE):
            chunk = [
                f"{tag} {text}" if tag else text for text in texts[start : start + _CHUNK_SIZE]
            ]
            best = translator.translate_best(chunk, **options)
            outputs += [[candidate.text for candidate in candidates] for candidates in best]
            on_progress(len(chunk))
        return outputs

    return write


def _report(document: Document, filled: Sequence[Filled]) -> FileReport:
    """Count how the texts of a document were translated."""
    ways = Counter(item.way for item in filled if item.has_placeholders)
    copied = [item for item in filled if item.way is Way.AS_IN_THE_SOURCE]
    return FileReport(
        entries=document.num_filled + document.num_kept,
        filled=document.num_filled,
        kept=document.num_kept,
        as_written=ways[Way.AS_WRITTEN],
        by_another_output=ways[Way.ANOTHER_OUTPUT],
        in_parts=ways[Way.IN_PARTS],
        as_in_the_source=len(copied),
    )
