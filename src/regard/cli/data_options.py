"""Options about the data, the same for every verb that reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from cyclopts import Parameter

from regard.cli.parameters import Flag, Name, Text
from regard.runs.train_options import settings_of


@Parameter(name="*")
@dataclass(frozen=True)
class DataOptions:
    """Where the data is and how it is read.

    Attributes:
        columns: Names of the columns to read, such as English,French; detected by default.
        targets: File of target sentences, when DATA holds the source sentences only.
        valid: File or folder of validation data, or a fraction to hold out, such as 10%; by
            default some rows are held out.
        test: File or folder of test data, or a fraction.
        lang: Language codes, such as en-de.
        horizon: Steps ahead that are forecast; by default the shortest season of the series, or 48
            without one, and at most a tenth of the longest series.
        known: Names of the columns that are known ahead, such as holiday,price, of series.
        label_separator: What is between several labels in one cell, such as "|": any number of them
            is then given to a text.
        encoding: Encoding of the data files, such as latin1.
        drop_overlap: Drop held-out sources that are also in the training data.
        allow_overlap: Keep them.
    """

    columns: str | None = None
    targets: Annotated[str | None, Name] = None
    valid: Annotated[str | None, Name] = None
    test: Annotated[str | None, Name] = None
    lang: str | None = None
    horizon: int | None = None
    known: str | None = None
    label_separator: Annotated[str | None, Text] = None
    encoding: str | None = None
    drop_overlap: Annotated[bool, Flag] = False
    allow_overlap: Annotated[bool, Flag] = False

    def settings(self) -> list[str]:
        """Return the options that are set as settings."""
        return settings_of(asdict(self))


UNSET = DataOptions()
"""No option is set."""
