"""Documents with summaries made ready for training: read, cleaned and split."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from regard.data.dropped_rows import DroppedRow
from regard.data.languages import guess_language
from regard.data.listing import describe_lines, pluralize
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.columns import SUMMARY_ROLES
from regard.data.readers.source import DataSource
from regard.data.readers.table_inspection import inspect_pairs
from regard.data.readers.tables import read_pairs
from regard.setup.config import DataConfig, two_columns
from regard.setup.dataset import Dataset, ReadOptions, TrainingRow
from regard.setup.facts import DataDetails, DataFacts, LongSources
from regard.tasks.sequence_to_sequence.data import describe_pairs, read_parts

_MOST_CHARS = 1_000_000  # of a document: about 200,000 words
_FEW_SUMMARIES = 10  # rows for each different summary, from which summaries look like labels


class SummarizationData(Dataset[ParallelCorpus], kw_only=True):
    """The documents of a run, as sources, with their summaries, as targets.

    Args:
        language: Code of the language of the summaries; empty where unknown.
        truncated: Training documents whose end is cut off.
    """

    language: str
    truncated: list[DroppedRow] = msgspec.field(default_factory=list)

    @property
    def unit(self) -> str:
        """What is counted."""
        return "documents"

    @property
    def contents(self) -> str:
        """The language."""
        return self.language

    def warnings(self) -> list[str]:
        """Name summaries that are not shorter than their documents, or look like labels."""
        num_rows, num_summaries = len(self.train), len(set(self.train.targets))
        num_long = sum(
            len(summary) >= len(document)
            for document, summary in zip(self.train.sources, self.train.targets, strict=True)
        )
        if num_long > num_rows / 2:
            return [
                f"{num_long:,} of {num_rows:,} training documents are not longer than their "
                "summaries.  Are the columns in the right order, document,summary?"
            ]
        if num_rows < _FEW_SUMMARIES * num_summaries:
            return []
        summaries = pluralize(num_summaries, "different summary", "different summaries")
        return [
            f"{num_rows:,} training documents have only {summaries}.  "
            "Labels?  Texts with labels have a header, text,label: `task=classification`"
        ]

    def details(self) -> DataDetails:
        """Return the lengths of both sides, in characters."""
        return describe_pairs((self.train, self.valid, self.test), SUMMARY_ROLES)

    def facts(self) -> DataFacts:
        """Return the language, the characters of the summaries, and the mean of both sides.

        An encoder reads the documents and a decoder the summaries, so that about half of a model
        sees each side.
        """
        num_chars = sum(map(len, self.train.targets))
        return DataFacts(
            num_chars=num_chars,
            num_read_chars=(num_chars + sum(map(len, self.train.sources))) // 2,
            languages=self.language,
        )

    def texts(self) -> list[str]:
        """Return all training texts, documents first."""
        return [*self.train.sources, *self.train.targets]

    def long_sources(self) -> LongSources:
        """Return the training documents with their summaries."""
        return LongSources(self.train.sources, self.train.targets)

    def locate(self, rows: Sequence[int]) -> str:
        """Describe the lines of training rows, such as ``lines 12, 88, 204 and 29 more``."""
        return describe_lines([self.train.lines[row] for row in rows])

    def training_row(self, row: int) -> TrainingRow:
        """Return a training document with its summary."""
        return TrainingRow(self.locate([row]), self.train.sources[row], self.train.targets[row])

    def reported_rows(self) -> list[DroppedRow]:
        """Return the documents that are left out or cut."""
        return [*self.dropped, *self.truncated]


def read_summarization_data(options: ReadOptions) -> SummarizationData:
    """Return the documents of a run, read, cleaned and split; named files stay whole.

    Raises:
        DataError: A file is missing, malformed, or overlaps with another.
    """
    data = options.data
    source = options.training_source("documents.jsonl")
    rejected: list[DroppedRow] = []
    parts = read_parts(
        options,
        read_documents(source, data, targets=options.source("targets"), rejected=rejected),
        lambda file: read_documents(file, data),
        max_chars=_MOST_CHARS,
    )
    return SummarizationData(
        path=parts.train.path,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        dropped=[*rejected, *parts.dropped],
        language=data.languages or guess_language(parts.train.targets) or "",
        read_as=inspect_pairs(
            source,
            "documents with summaries",
            targets=data.targets,
            encoding=data.encoding,
            columns=_columns(data),
            roles=SUMMARY_ROLES,
        ),
    )


def read_documents(
    source: DataSource | str,
    data: DataConfig,
    *,
    targets: DataSource | None = None,
    rejected: list[DroppedRow] | None = None,
) -> ParallelCorpus:
    """Return the documents of a file, read with the encoding and columns of the settings.

    `rejected` receives the rows that their annotators rejected, which are left out.

    Raises:
        DataError: The file is missing or malformed.
    """
    return read_pairs(
        source,
        targets=targets,
        encoding=data.encoding,
        columns=_columns(data),
        roles=SUMMARY_ROLES,
        rejected=rejected,
    )


def _columns(data: DataConfig) -> tuple[str, str] | None:
    return two_columns(data, *SUMMARY_ROLES)
