"""``regard forecast``: what follows the series of a file, as a table, a picture, or JSON."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from regard.cli.model_options import COMPUTE_DEFAULTS, ComputeOptions
from regard.cli.outputs import as_json, print_note, write_rows
from regard.cli.parameters import Flag, Name, Output
from regard.cli.predictors import open_predictor
from regard.data.listing import list_first
from regard.errors import ConfigError

if TYPE_CHECKING:
    from regard.data.readers.series_tables import TimeSeriesFile
    from regard.tasks.forecasting.predictor import Forecast

_Kind = Literal["csv", "tsv", "json", "picture"]
_KINDS: dict[str, _Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".svg": "picture",
    ".png": "picture",
    ".pdf": "picture",
}
"""What is written, by the ending of the file's name."""
_NAMED_SERIES = 3  # in a note


def forecast(
    model: Annotated[str, Name],
    data: Annotated[str | None, Name] = None,
    /,
    *,
    horizon: int | None = None,
    output: Annotated[str | None, Output] = None,
    compute: ComputeOptions = COMPUTE_DEFAULTS,
    encoding: str | None = None,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Forecast what follows the last value of every series of a file.

    Each row has the series, the time, the median, and the quantiles: with a probability of 80 % the
    value is between those of 0.1 and 0.9.

    Parameters
    ----------
    model
        Folder of a trained forecaster.
    data
        File of series like that of training; - or nothing reads standard input. Rows of the future
        with the columns known ahead alone may follow the last values.
    horizon
        Steps ahead, at most those of training, which are the default.
    output
        File to write instead of standard output: a table (.csv, .tsv), JSON lines (.json, .jsonl),
        or a picture (.svg, .png, .pdf).
    compute
        What computes the forecasts.
    encoding
        Encoding of the file. The default is that of the training data.
    json
        One JSON object for each series.
    """
    from regard.tasks.forecasting.predictor import Forecaster

    kind = _check_output(output, json=json)
    forecaster = open_predictor(model, Forecaster, "forecast series", compute)
    file = forecaster.read("-" if data is None else data, encoding)
    _note_reading(file)
    _note_short_series(file, forecaster.model.config.window)
    results = forecaster.forecast(file, horizon)
    if kind == "picture":
        assert output is not None
        forecaster.draw(file, results, output)
        print(f"{output}: written", file=sys.stderr)
    elif kind == "json":
        write_rows((as_json(result) for result in results), output)
    else:
        write_rows(_table(results, "\t" if kind == "tsv" else ","), output)


def _note_reading(file: TimeSeriesFile) -> None:
    """Note on standard error what a file was read as, and what was left out."""
    from regard.data.dropped_rows import count_reasons

    dropped = count_reasons(file.dropped)
    reasons = [f"{count:,} dropped: {reason}" for reason, count in dropped.items()]
    for note in (f"read as {file.read_as.text}", *file.notes, *reasons):
        print_note(f"{file.series.path}: {note}.")


def _note_short_series(file: TimeSeriesFile, window: int) -> None:
    """Note on standard error which series have fewer values than the model reads."""
    series = file.series
    named = zip(series.names, series.values, strict=True)
    short = [f"{name} ({len(values):,})" for name, values in named if len(values) < window]
    if short:
        print_note(
            f"{series.path}: fewer values than the {window:,} that the model reads: "
            f"{list_first(short, _NAMED_SERIES)}."
        )


def _check_output(output: str | None, *, json: bool) -> _Kind:
    """Return what is written, by the name of the file and the option.

    Raises:
        ConfigError: The name does not suit, or a picture cannot be written.
    """
    kind = _kind_of(output, json=json)
    if kind == "picture":
        from regard.plots.output_files import require_writable
        from regard.plots.style import require_matplotlib

        require_matplotlib()
        require_writable(str(output))
    return kind


def _kind_of(output: str | None, *, json: bool) -> _Kind:
    """Return what is written; raise ConfigError for a name of another ending, or not for JSON."""
    if output in (None, "-"):
        return "json" if json else "csv"
    kind = _KINDS.get(Path(str(output)).suffix.lower())
    if kind is None:
        endings = ", ".join(_KINDS)
        raise ConfigError(f"{output}: a name that ends in one of {endings} was expected.")
    if json and kind != "json":
        raise ConfigError(f"{output}: --json writes JSON lines.  Name a .jsonl file.")
    return kind


def _table(results: Sequence[Forecast], delimiter: str) -> Iterator[str]:
    """Yield the lines of a table with a row for each step of each series."""
    line = io.StringIO()
    writer = csv.writer(line, delimiter=delimiter, lineterminator="")
    levels = list(results[0].quantiles)
    rows = (
        (result.series, time, f"{median:.10g}", *(f"{value:.10g}" for value in quantiles))
        for result in results
        for time, median, *quantiles in zip(
            result.time, result.median, *result.quantiles.values(), strict=True
        )
    )
    for row in (("series", "time", "median", *levels), *rows):
        line.seek(0)
        line.truncate()
        writer.writerow(row)
        yield line.getvalue()
