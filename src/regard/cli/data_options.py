"""Options about the data, the same for every verb that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from regard.cli.parameters import Flag, Name


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
        horizon: Steps ahead that are forecast; by default the shortest season of the series.
        known: Names of the columns that are known ahead, such as holiday,price, of series.
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
    encoding: str | None = None
    drop_overlap: Annotated[bool, Flag] = False
    allow_overlap: Annotated[bool, Flag] = False

    def settings(self) -> list[str]:
        """Return the options that are set as settings."""
        flags = {"drop_overlap": self.drop_overlap, "allow_overlap": self.allow_overlap}
        values = {
            "columns": self.columns,
            "targets": self.targets,
            "valid": self.valid,
            "test": self.test,
            "languages": self.lang,
            "encoding": self.encoding,
        }
        set_values = {key: value for key, value in values.items() if value is not None}
        set_values |= {key: "true" for key, flag in flags.items() if flag}
        settings = [f"data.{key}={value}" for key, value in set_values.items()]
        forecast = {"horizon": self.horizon, "known": self.known}
        return settings + [f"forecast.{k}={v}" for k, v in forecast.items() if v is not None]


UNSET = DataOptions()
"""No option is set."""
