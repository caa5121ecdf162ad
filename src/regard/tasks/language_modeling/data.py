"""Running text for language models: read, split, and located in its file."""

from __future__ import annotations

from collections.abc import Sequence

from regard.data.dropped_rows import DroppedRow
from regard.data.listing import describe_lines
from regard.data.readers.read_as import ReadAs
from regard.data.readers.running_text import TextLines, has_documents, read_text
from regard.data.readers.source import DataSource
from regard.data.readers.table_inspection import inspect_records
from regard.data.split_rules import EARLIER_SPLIT
from regard.data.text_splits import split_text, without_repeats
from regard.data.token_stream import TokenStream
from regard.errors import ConfigError, DataError
from regard.setup.config import DataConfig
from regard.setup.dataset import Dataset, ReadOptions
from regard.setup.facts import DataFacts


class TextData(Dataset[TextLines], kw_only=True):
    """The running text of a run.

    Args:
        tokens: Tokens of the training text; None before it is encoded.
        length: Length of a segment in tokens.
    """

    tokens: TokenStream | None = None
    length: int = 0

    @property
    def row_unit(self) -> str:
        """What a training row is: a piece of the text, which is measured in characters."""
        return "segments"

    @property
    def unit(self) -> str:
        """What is counted."""
        return "characters"

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of characters for training, validation and test."""
        return self.train.num_chars, self.valid.num_chars, self.test.num_chars

    def facts(self) -> DataFacts:
        """Return the size of the training text."""
        return DataFacts(num_chars=self.train.num_chars)

    def texts(self) -> list[str]:
        """Return the lines of the training text."""
        return self.train.texts

    def locate(self, rows: Sequence[int]) -> str:
        """Describe the lines of segments; `rows` has the index of the first token of each."""
        assert self.tokens is not None
        lines: set[int] = set()
        for row in rows:
            lines.update(self.tokens.lines_between(row, row + self.length + 1))
        return describe_lines(list(lines))


def read_text_data(options: ReadOptions) -> TextData:
    """Return the running text of a run, read and split; named files stay whole.

    Raises:
        DataError: The text is missing or cannot be used.
        ConfigError: A setting is for sentence pairs.
    """
    data = options.data
    source = options.training_source("book.txt")
    for name in ("targets", "languages"):
        if value := getattr(data, name):
            raise ConfigError(
                f"data.{name}={value}: running text has no pairs.  Leave it out, or "
                "set `task=translation`."
            )
    if data.columns and not has_documents(source, data.encoding):
        raise ConfigError(
            f"data.columns={','.join(data.columns)}: {source.path} is read as running text, line "
            "by line, and has no columns.  Leave it out."
        )
    rejected: list[DroppedRow] = []
    parts = split_text(
        read_lines_of(source, data, rejected),
        seed=options.seed,
        with_valid=options.source("valid") is None,
        with_test=options.source("test") is None,
        valid_fraction=data.held_out_fraction("valid"),
        test_fraction=data.held_out_fraction("test"),
        cuts_lines=data.split_rule != EARLIER_SPLIT,
    )
    held_out, dropped = {"valid": parts.valid, "test": parts.test}, [*rejected, *parts.dropped]
    for name in held_out:
        if (file := options.source(name)) is not None:
            held_out[name], repeats = without_repeats(parts.train, read_lines_of(file, data))
            dropped += repeats
    if not len(held_out["valid"]):
        raise DataError(
            f"{held_out['valid'].path}: no line is left to validate on, all are also in the "
            "training text.  Name another file: `data.valid=FILE`"
        )
    return TextData(
        path=parts.train.path,
        train=parts.train,
        valid=held_out["valid"],
        test=held_out["test"],
        dropped=dropped,
        read_as=_describe_reading(source, data),
    )


def _describe_reading(source: DataSource, data: DataConfig) -> ReadAs:
    """Return what a file of running text was read as."""
    if not has_documents(source, data.encoding):
        return ReadAs.of("running text")
    column = data.columns[0] if data.columns else "text"
    return inspect_records(source, (column,), "running text", encoding=data.encoding)


def read_lines_of(
    source: DataSource | str, data: DataConfig, rejected: list[DroppedRow] | None = None
) -> TextLines:
    """Return the lines of a text, read with the encoding and column of the settings.

    `rejected` receives the rows that their annotators rejected, which are left out.

    Raises:
        DataError: The file cannot be read or holds no text.
    """
    column = data.columns[0] if data.columns else "text"
    return read_text(source, encoding=data.encoding, column=column, rejected=rejected)
