"""Running text made ready for training: read, split, turned into a stream of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from regard.data.dropped_rows import DroppedRow, count_reasons
from regard.data.listing import describe_lines
from regard.data.readers.text import TextLines, read_text
from regard.data.text_splits import split_text, without_repeats
from regard.data.token_stream import TokenStream
from regard.errors import ConfigError, DataError, NextStep
from regard.setup.base_task import ReadOptions
from regard.setup.config import DataConfig
from regard.setup.facts import DataFacts
from regard.training.events import DataSummary


class Prose(msgspec.Struct, kw_only=True):
    """The text of a run.

    Args:
        path: File as named.
        train: To learn from.
        valid: To choose the best weights by.
        test: For the final figures; may be empty.
        dropped: Lines left out of the held-out parts.
        tokens: Of the training text; None before it is encoded.
        length: Of a segment in tokens.
    """

    path: str
    train: TextLines
    valid: TextLines
    test: TextLines
    dropped: list[DroppedRow]
    tokens: TokenStream | None = None
    length: int = 0

    def facts(self) -> DataFacts:
        """Return the size of the training text."""
        return DataFacts(num_chars=self.train.num_chars)

    def summary(self) -> DataSummary:
        """Describe the text in an event."""
        return DataSummary(
            path=self.path,
            unit="characters",
            languages="",
            languages_are_guessed=False,
            num_train=self.train.num_chars,
            num_valid=self.valid.num_chars,
            num_test=self.test.num_chars,
            dropped=count_reasons(self.dropped),
        )

    def texts(self) -> list[str]:
        """Return the lines of the training text."""
        return self.train.texts

    def locate(self, rows: Sequence[int]) -> str:
        """Describe which lines of the file the segments that begin at some tokens come from."""
        assert self.tokens is not None
        lines: set[int] = set()
        for row in rows:
            lines.update(self.tokens.lines_between(row, row + self.length + 1))
        return describe_lines(list(lines))


def read_prose(options: ReadOptions) -> Prose:
    """Read a text, and hold out what the options do not name.

    Raises:
        DataError: There is no text, or it cannot be used.
        ConfigError: A setting is for pairs.
    """
    data = options.data
    if data.path is None:
        raise DataError(
            "no data.",
            NextStep("Name a file", "train", ("book.txt",), (("output", "FOLDER"),)),
        )
    _refuse_pair_settings(data)
    parts = split_text(
        _read(options, "path"),
        seed=options.seed,
        with_valid=not data.valid,
        with_test=not data.test,
    )
    valid, test, dropped = parts.valid, parts.test, parts.dropped
    if data.valid:
        valid, repeats = without_repeats(parts.train, _read(options, "valid"))
        dropped += repeats
    if data.test:
        test, repeats = without_repeats(parts.train, _read(options, "test"))
        dropped += repeats
    if not len(valid):
        raise DataError(
            f"{data.valid or data.path}: no line is left to validate on, all stand in the "
            "training text too.  Name another file: `data.valid=FILE`"
        )
    return Prose(path=parts.train.path, train=parts.train, valid=valid, test=test, dropped=dropped)


def _read(options: ReadOptions, name: str) -> TextLines:
    source, data = options.source(name), options.data
    assert source is not None
    column = data.columns[0] if data.columns else "text"
    return read_text(source, encoding=data.encoding, column=column)


def _refuse_pair_settings(data: DataConfig) -> None:
    for name in ("targets", "languages"):
        if getattr(data, name):
            raise ConfigError(
                f"data.{name}={getattr(data, name)}: running text has no pairs.  Leave it out, or "
                "set task=translation."
            )
