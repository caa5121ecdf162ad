"""Sentence pairs made ready for training: read, cleaned, split, encoded as token ids."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from regard.data.cldr_corpus import cldr_corpus
from regard.data.dropped_rows import DroppedRow
from regard.data.languages import guess_language, guess_pair, require_pair
from regard.data.listing import describe_lines
from regard.data.parallel_corpus import ParallelCorpus, describe_labels, describe_numbers
from regard.data.readers.columns import PAIR_ROLES, language_of_column
from regard.data.readers.source import DataSource, as_source
from regard.data.readers.table_bytes import MEMORY_FORMS
from regard.data.readers.table_inspection import inspect_pairs
from regard.data.readers.tables import read_pairs
from regard.errors import ConfigError
from regard.setup.config import HELD_OUT, DataConfig, two_columns
from regard.setup.dataset import Dataset, ReadOptions, TrainingRow
from regard.setup.facts import DataDetails, DataFacts
from regard.tasks.sequence_to_sequence.data import describe_pairs, read_parts

_EMBEDDED_LANGUAGES = "en-de,fr,zh"


class TranslationData(Dataset[ParallelCorpus], kw_only=True):
    """The sentence pairs of a run.

    Args:
        languages: Codes such as ``en-de``, or empty.
        is_generated: Whether the text comes from no file.
    """

    languages: str
    is_generated: bool = False

    @property
    def unit(self) -> str:
        """What is counted."""
        return "pairs"

    @property
    def contents(self) -> str:
        """The languages in words."""
        return self.languages.replace("-", " -> ") or "languages not known"

    @property
    def target_language(self) -> str | None:
        """Code of the target language, where known."""
        return self.languages.partition("-")[2] or None

    def warnings(self) -> list[str]:
        """Name sources or targets that look like labels, and languages that look swapped."""
        warnings = [describe_labels(self.train), describe_numbers(self.train), self._swapped()]
        return list(filter(None, warnings))

    def _swapped(self) -> str:
        """Return that the texts are in the named languages the other way round; else nothing."""
        source, _, target = self.languages.partition("-")
        if self.is_generated or self.languages_are_guessed or not target or source == target:
            return ""
        if (guess_language(self.train.sources), guess_language(self.train.targets)) != (
            target,
            source,
        ):
            return ""
        return (
            f"The sources look like {target} and the targets like {source}: swapped?  Name the "
            f"columns in the other order, or the languages: `data.languages={target}-{source}`"
        )

    def details(self) -> DataDetails:
        """Return the lengths of both sides, in characters."""
        details = describe_pairs((self.train, self.valid, self.test), PAIR_ROLES)
        return replace(details, fields={"num_pairs": sum(self.sizes), **details.fields})

    def facts(self) -> DataFacts:
        """Return the characters of the training targets, and the languages."""
        num_chars = sum(map(len, self.train.targets))
        return DataFacts(num_chars=num_chars, languages=self.languages)

    def texts(self) -> list[str]:
        """Return all training sentences, sources first."""
        return [*self.train.sources, *self.train.targets]

    def locate(self, rows: Sequence[int]) -> str:
        """Describe the lines of training rows, such as ``lines 12, 88, 204 and 29 more``."""
        noun = "row" if self.is_generated else "line"
        return describe_lines([self.train.lines[row] for row in rows], noun)

    def training_row(self, row: int) -> TrainingRow:
        """Return a training pair."""
        return TrainingRow(self.locate([row]), self.train.sources[row], self.train.targets[row])


def read_translation_data(options: ReadOptions) -> TranslationData:
    """Return the sentence pairs of a run, read, cleaned and split; named files stay whole.

    Without a file they are those of the embedded corpus.

    Raises:
        ConfigError: Held-out data is named for the embedded corpus.
        DataError: A file is missing, malformed, or overlaps with another.
    """
    data = options.data
    if data.path is None:
        return _embedded_data(options)
    require_pair(data.languages)
    source = options.training_source("pairs.tsv")
    rejected: list[DroppedRow] = []
    parts = read_parts(
        options,
        read_pairs_of(source, data, targets=options.source("targets"), rejected=rejected),
        lambda file: read_pairs_of(file, data),
    )
    read_as = inspect_pairs(
        source,
        "sentence pairs",
        targets=data.targets,
        encoding=data.encoding,
        columns=_columns_in(source, data),
    )
    named = data.languages or _languages_of_columns(read_as.columns)
    languages = named
    if not languages:
        codes = guess_pair(parts.train, parts.train.path)
        languages = "-".join(map(str, codes)) if all(codes) else ""
    return TranslationData(
        path=parts.train.path,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        dropped=[*rejected, *parts.dropped],
        languages=languages,
        languages_are_guessed=not named,
        read_as=read_as,
    )


def _languages_of_columns(columns: Sequence[str]) -> str:
    """Return the codes of two languages that columns are named for; empty for other names."""
    codes = list(filter(None, map(language_of_column, columns)))
    return "-".join(codes) if len(codes) == len(set(codes)) == 2 else ""


def _embedded_data(options: ReadOptions) -> TranslationData:
    """Return the embedded corpus, which has languages, validation and test data of its own."""
    if (languages := options.data.languages) not in ("", _EMBEDDED_LANGUAGES):
        raise ConfigError(
            f"data.languages={languages}: the embedded corpus is {_EMBEDDED_LANGUAGES}.  Leave it "
            "out, or name a file of pairs."
        )
    for name in HELD_OUT:
        if (value := getattr(options.data, name)) is not None:
            raise ConfigError(
                f"`data.{name}={value}`: the embedded corpus has validation and test data of "
                "its own.  Leave it out, or name a file of pairs."
            )
    corpus = cldr_corpus(seed=options.seed)
    return TranslationData(
        path=corpus.train.path,
        train=corpus.train,
        valid=corpus.valid,
        test=corpus.test,
        dropped=[],
        languages=_EMBEDDED_LANGUAGES,
        is_generated=True,
    )


def columns_of(data: DataConfig) -> tuple[str, str] | None:
    """Return the columns of source and target, where they are named."""
    return two_columns(data, *PAIR_ROLES)


def _columns_in(source: DataSource, data: DataConfig) -> tuple[str, str] | None:
    """Return the columns that are named, of a translation memory else the languages of the pair."""
    columns, table = columns_of(data), source.table
    if columns is None and table is not None and table.form in MEMORY_FORMS:
        languages = data.languages.split("-")
        return (languages[0], languages[1]) if len(languages) == 2 else None
    return columns


def read_pairs_of(
    source: DataSource | str,
    data: DataConfig,
    *,
    targets: DataSource | None = None,
    rejected: list[DroppedRow] | None = None,
) -> ParallelCorpus:
    """Return the sentence pairs of a file, read with the encoding and columns of the settings.

    `rejected` receives the rows that their annotators rejected, which are left out.

    Raises:
        DataError: The file is missing or malformed.
    """
    source = as_source(source)
    return read_pairs(
        source,
        targets=targets,
        encoding=data.encoding,
        columns=_columns_in(source, data),
        rejected=rejected,
    )
