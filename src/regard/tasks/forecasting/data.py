"""Series of numbers to be forecast: read, split by time, and measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.listing import list_first, pluralize
from regard.data.readers.series_tables import TimeSeriesFile, read_time_series
from regard.data.readers.source import DataSource, as_source
from regard.data.seasons import count_seasonal, find_seasons
from regard.data.time_series import TimeSeries, TimeStep
from regard.errors import ConfigError, DataError
from regard.metrics.forecasts import LEVELS
from regard.setup.config import HELD_OUT, DataConfig, ForecastConfig
from regard.setup.dataset import Dataset, ReadOptions
from regard.setup.facts import DataDetails, DataFacts
from regard.tasks.forecasting.series_windows import EPOCH_WINDOWS, Calendar, repeated_cycles

_USUAL_FRACTIONS = {"valid": 0.1, "test": 0.05}  # of a series, at least a horizon
_NUMBERS_PER_CHARACTER = 32  # steps that count as one character of text
_HORIZON_FRACTION = 10  # of a series without a season, at most, is predicted
_LONGEST_HORIZON = 48  # steps, without a season
_SEASONS_OF_WINDOW = 3  # of the shortest, at least
_WINDOWS_OF_SERIES = 4  # a series is this many times as long as its window, or longer
_USUAL_WINDOW = 96  # steps, without a season
_MOST_PATCHES = 16  # of a window
_NAMED_SERIES = 3  # in a message
_SMALLEST_STD = 1e-6
_SIZES = ("window", "horizon", "patch", "scaled_steps")


class ForecastData(Dataset[TimeSeries], kw_only=True):
    """Series of a file, split by time.

    `train` ends where validation begins, `valid` ends where the test begins, and `test` is whole:
    each part has the history that its windows need.

    Args:
        file: What was read.
        train_ends: Number of training steps of each series.
        valid_ends: Number of steps of each series before the test.
        forecast: The settings of the forecast, with what the data decides.
        dimensions: Those of the model that follow from the data, by name.
        calendar: The cycles that the model reads.
        is_horizon_cut: Whether the steps ahead are fewer than usual, since the series are short.
        notes: What was noticed about the data.
    """

    file: TimeSeriesFile
    train_ends: list[int]
    valid_ends: list[int]
    forecast: ForecastConfig
    dimensions: dict[str, Any]
    calendar: Calendar
    is_horizon_cut: bool = False
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What is counted."""
        return "steps"

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Steps of training, validation and test, of all series."""
        train, valid = sum(self.train_ends), sum(self.valid_ends)
        return train, valid - train, sum(map(len, self.test.values)) - valid

    @property
    def contents(self) -> str:
        """Number of series, step, seasons and horizon, in words."""
        number = len(self.test.names)
        seasons = self.forecast.seasons or ()
        rhythm = f"season {' and '.join(map(str, seasons))}" if seasons else "no season"
        if seasons and seasons[0] > (window := self.dimensions["window"]):
            rhythm += f" (longer than the window of {window:,} steps)"
        ahead = f"{pluralize(self.dimensions['horizon'], 'step')} ahead"
        if self.is_horizon_cut:
            ahead += ", a tenth of the series"
        return f"{number:,} series, every {self.file.step}, {rhythm}, {ahead}"

    def warnings(self) -> list[str]:
        """Return what was noticed about gaps, repeated rows, and series that are too short."""
        return [*self.file.notes, *self.notes]

    def facts(self) -> DataFacts:
        """Return the number of steps, the sizes, and the settings of the forecast."""
        num_steps = sum(self.train_ends)
        window, horizon, patch = (self.dimensions[name] for name in _SIZES[:3])
        num_patches = (window + horizon) // patch  # of each step, with which a window begins
        num_tokens = max(1, min(num_steps, EPOCH_WINDOWS) * num_patches)
        mean, std = self.known_scale
        return DataFacts(
            num_chars=num_steps // _NUMBERS_PER_CHARACTER,
            num_tokens=num_tokens,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            model=self.dimensions,
            forecast=self.forecast,
        )

    @property
    def known_scale(self) -> NDArray[np.float64]:
        """Mean and deviation of each column known ahead over the training steps, ``[2, known]``."""
        rows = [rows[:end] for rows, end in zip(self.test.known, self.train_ends, strict=True)]
        values = np.concatenate(rows)  # [steps, known]
        if not values.shape[1]:
            return np.zeros((2, 0))
        for name, column in zip(self.file.known_names, values.T, strict=True):
            if np.isnan(column).all():
                raise DataError(
                    f"{self.path}: column {name} has no value in the training steps, so there is "
                    "nothing to learn from it.  Fill it in, or leave it out."
                )
        mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        return np.stack([mean, np.where(std > _SMALLEST_STD, std, 1.0)])

    def details(self) -> DataDetails:
        """Return the series with their lengths, and where validation and test begin."""
        lengths = list(map(len, self.test.values))
        num_missing = sum(int(np.isnan(values).sum()) for values in self.test.values)
        names = list_first(self.test.names, _NAMED_SERIES)
        fields: dict[str, Any] = {
            "num_series": len(lengths),
            "step": str(self.file.step),
            "seasons": list(self.forecast.seasons or ()),
            "horizon": self.dimensions["horizon"],
            "is_horizon_cut": self.is_horizon_cut,
            "shortest": min(lengths),
            "longest": max(lengths),
            "num_missing": num_missing,
        }
        size = (
            f"{min(lengths):,} to {max(lengths):,}" if len(set(lengths)) > 1 else f"{lengths[0]:,}"
        )
        lines = [
            ("Series", f"{names}: {size} steps, {num_missing:,} values missing"),
            ("Time", self._describe_times()),
        ]
        if seasons := self._describe_seasons():
            lines.append(("Seasons", seasons))
        return DataDetails(fields=fields, lines=lines)

    def _describe_seasons(self) -> str:
        """Return in how many of several series each season is found."""
        if len(self.test) < 2:
            return ""
        training = [v[:end] for v, end in zip(self.test.values, self.train_ends, strict=True)]
        counts = {
            season: count_seasonal(training, season) for season in self.forecast.seasons or ()
        }
        return ", ".join(
            f"{season} in {num_seasonal:,} of {num_series:,} series"
            for season, (num_seasonal, num_series) in counts.items()
        )

    def _describe_times(self) -> str:
        """Return first and last time of the first series, and where its parts begin."""
        index, length = self.test.indices[0], len(self.test.values[0])
        first, last = (index.times(number, 1)[0] for number in (0, length - 1))
        text = f"{first} to {last}, every {self.file.step}"
        for name, end in (("validation", self.train_ends[0]), ("test", self.valid_ends[0])):
            if end < length:
                text += f", {name} from {index.times(end, 1)[0]}"
        return text

    def texts(self) -> list[str]:
        """Return no texts: the model has no vocabulary."""
        return []

    def locate(self, rows: Sequence[int]) -> str:  # noqa: ARG002 - windows overlap
        """Name the series; a window is a part of one."""
        return f"series {list_first(self.test.names, _NAMED_SERIES)}"


def read_forecast_data(options: ReadOptions) -> ForecastData:
    """Return the series of a run, read and split by time.

    Raises:
        ConfigError: Settings do not fit together, or ask for held-out files.
        DataError: The file cannot be used, or every series is too short.
    """
    data, forecast = options.data, options.forecast
    source = options.training_source("series.csv")
    _refuse_held_out_files(options)
    file = read_series(source, data, forecast)
    series = file.series
    fractions = _held_out_fractions(data)
    learned = 1 - sum(fractions.values())
    training = [values[: math.ceil(learned * len(values))] for values in series.values]
    seasons = _seasons(forecast, training, file.step)
    set_horizon = _set_horizon(forecast, options)
    most = max(1, max(map(len, training)) // _HORIZON_FRACTION)
    usual = seasons[0] if seasons else _LONGEST_HORIZON
    horizon = set_horizon or min(usual, most)
    train_ends, valid_ends = _split_ends(series, fractions, horizon)
    _require_length(series, horizon, train_ends)
    dimensions, calendar = _fit_sizes(options, file, seasons, horizon, max(train_ends))
    return ForecastData(
        path=series.path,
        train=series.until(train_ends),
        valid=series.until(valid_ends),
        test=series,
        dropped=file.dropped,
        read_as=file.read_as,
        file=file,
        train_ends=train_ends,
        valid_ends=valid_ends,
        forecast=msgspec.structs.replace(
            forecast,
            horizon=horizon,
            seasons=seasons,
            step=str(file.step),
            cycles=calendar.cycles,
        ),
        dimensions=dimensions,
        calendar=calendar,
        is_horizon_cut=set_horizon is None and horizon < usual,
        notes=_note_unsplit_series(series, train_ends),
    )


def _refuse_held_out_files(options: ReadOptions) -> None:
    """Raise where validation or test data is a file of its own."""
    for name in HELD_OUT:
        if options.source(name) is not None:
            raise ConfigError(
                f"`data.{name}`: series are split by time, so that {name} data is the end of the "
                f"same file.  Set how much: `data.{name}=10%`"
            )


def _held_out_fractions(data: DataConfig) -> dict[str, float]:
    """Return the fraction of each series that is held out, by ``valid`` and ``test``.

    Raises:
        ConfigError: They leave nothing.
    """
    fractions = {
        name: data.held_out_fraction(name) or usual for name, usual in _USUAL_FRACTIONS.items()
    }
    if sum(fractions.values()) >= 1:
        parts = " and ".join(f"`data.{name}={100 * part:g}%`" for name, part in fractions.items())
        raise ConfigError(f"{parts} leave nothing to train on.  Hold out less.")
    return fractions


def _seasons(
    forecast: ForecastConfig, training: Sequence[NDArray[np.float64]], step: TimeStep
) -> tuple[int, ...]:
    """Return the seasons: as set, or as found in the training steps.

    Raises:
        ConfigError: One is longer than every series.
    """
    seasons = find_seasons(training, step) if forecast.seasons is None else forecast.seasons
    longest = max(map(len, training))
    if seasons and seasons[-1] > longest:
        raise ConfigError(
            f"forecast.seasons={','.join(map(str, seasons))}: no series has a season of "
            f"{seasons[-1]:,} steps to learn from; the longest has {longest:,}."
        )
    return tuple(seasons)


def _note_unsplit_series(series: TimeSeries, train_ends: Sequence[int]) -> tuple[str, ...]:
    """Return a note about the series that are trained on whole, where there are any."""
    lengths = map(len, series.values)
    ends = zip(series.names, train_ends, lengths, strict=True)
    names = [name for name, end, length in ends if end == length]
    if not names:
        return ()
    return (
        f"{len(names):,} series are too short to be validated on, and are trained on whole: "
        f"{list_first(names, _NAMED_SERIES)}.",
    )


def read_series(
    source: DataSource | str, data: DataConfig, forecast: ForecastConfig
) -> TimeSeriesFile:
    """Return the series of a file, read with the columns that settings name.

    Raises:
        DataError: The file cannot be used, or its step is not that of the training data.
    """
    file = read_time_series(
        as_source(source),
        encoding=data.encoding,
        columns=data.columns,
        targets=forecast.targets,
        known=forecast.known,
        observed=forecast.observed,
        step=forecast.step,
    )
    if forecast.step and str(file.step) != forecast.step:
        raise DataError(
            f"{file.series.path}: a row every {file.step}; the model was trained on one every "
            f"{forecast.step}.  Bring the file to that step, or train a model on it."
        )
    return file


def _set_horizon(forecast: ForecastConfig, options: ReadOptions) -> int | None:
    """Return the steps ahead as they are set, or those of trained weights.

    Raises:
        ConfigError: The settings contradict each other.
    """
    of_model, horizon = options.model.get("horizon"), forecast.horizon
    if horizon is None or of_model is None:
        return of_model if horizon is None else horizon
    if horizon != of_model:
        advice = "Take one of the two."
        if options.has_sizes:
            advice = "That is what the trained weights predict; leave the horizon out."
        raise ConfigError(f"forecast.horizon={horizon}, but model.horizon={of_model}.  {advice}")
    return horizon


def _split_ends(
    series: TimeSeries, fractions: Mapping[str, float], horizon: int
) -> tuple[list[int], list[int]]:
    """Return the ends of the training and of the validation steps of each series.

    A series too short for its held-out steps and two horizons to train on is not split: both ends
    are its length.

    Args:
        series: The series.
        fractions: Fraction of each that is held out, by ``valid`` and ``test``.
        horizon: Steps ahead.
    """
    train_ends, valid_ends = [], []
    for length in map(len, series.values):
        num_valid = _held_out_steps(length, fractions["valid"], horizon)
        num_test = _held_out_steps(length, fractions["test"], horizon)
        is_long = length >= num_valid + num_test + 2 * horizon
        valid_ends.append(length - num_test if is_long else length)
        train_ends.append(length - num_test - num_valid if is_long else length)
    return train_ends, valid_ends


def _held_out_steps(length: int, fraction: float, horizon: int) -> int:
    """Return the steps of a series that are held out: whole horizons, one at least."""
    return max(1, round(fraction * length / horizon)) * horizon


def _require_length(series: TimeSeries, horizon: int, train_ends: Sequence[int]) -> None:
    """Raise where no series is long enough to be validated on, and tested."""
    lengths = list(map(len, series.values))
    if all(end == length for end, length in zip(train_ends, lengths, strict=True)):
        longest = max(lengths)
        advice = f"Predict fewer steps: `forecast.horizon={max(1, longest // 6)}`"
        if horizon <= longest // 6:
            advice = "Hold out less: `data.valid=10%`"
        if longest < 6:
            advice = "At least 6 are needed."
        raise DataError(
            f"{series.path}: {longest:,} steps are too few to learn from and to hold out "
            f"validation and test data of {horizon:,} steps each.  {advice}"
        )


def _fit_sizes(
    options: ReadOptions,
    file: TimeSeriesFile,
    seasons: Sequence[int],
    horizon: int,
    num_steps: int,
) -> tuple[dict[str, Any], Calendar]:
    """Return the dimensions of the model that follow from the data, and its calendar.

    Args:
        options: How the data is read; dimensions that are set, or those of trained weights.
        file: What was read.
        seasons: Seasons of the series, in steps.
        horizon: Steps ahead.
        num_steps: Steps of the longest series to train on.

    Raises:
        ConfigError: The dimensions of trained weights do not fit the data.
    """
    cycles = repeated_cycles(file.step, num_steps)
    if options.has_sizes:
        cycles = options.forecast.cycles
    calendar = Calendar(step=file.step, cycles=cycles, seasons=tuple(seasons))
    columns = {
        "num_calendar": calendar.num_features,
        "num_known": len(file.known_names),
        "num_observed": len(file.observed_names),
        "num_levels": len(LEVELS),
    }
    for name, number in columns.items():
        if options.model.get(name, number) != number:
            advice = "Train from random weights." if options.has_sizes else "Leave it out."
            raise ConfigError(
                f"model.{name}={options.model[name]}: the data asks for {number}.  {advice}"
            )
    if options.has_sizes:
        return {name: options.model[name] for name in (*_SIZES, *columns)}, calendar
    window, patch = _window_and_patch(options.model, seasons, num_steps)
    scaled = seasons[0] if seasons and seasons[0] <= window else window
    sizes = dict(zip(_SIZES, (window, horizon, patch, scaled), strict=True))
    return sizes | columns, calendar


def _window_and_patch(
    settings: Mapping[str, Any], seasons: Sequence[int], num_steps: int
) -> tuple[int, int]:
    """Return the steps of a history and of its parts, those that are set as they are.

    Args:
        settings: Dimensions of the model that are set.
        seasons: Seasons of the series, in steps.
        num_steps: Steps of the longest series to train on.

    Raises:
        ConfigError: The window that is set is longer than that.
    """
    window, patch = settings.get("window"), settings.get("patch")
    if window is not None:
        if window > num_steps:
            raise ConfigError(
                f"model.window={window}: the longest series has {num_steps:,} steps to train on.  "
                "Set a shorter window, or leave it out."
            )
        return window, _patch(window, seasons, is_set=True) if patch is None else patch
    most = max(2, num_steps // _WINDOWS_OF_SERIES)
    window = min(_usual_window(seasons, most), most)
    if patch is None:
        patch = _patch(window, seasons, is_set=False)
    return math.ceil(window / patch) * patch, patch


def _usual_window(seasons: Sequence[int], most: int) -> int:
    """Return the steps of a history: the longest season that fits, and some of the shortest.

    A longer season is known by the calendar alone; a longer window was not better.
    """
    fitting = [season for season in seasons if season <= most]
    if not fitting:
        return _USUAL_WINDOW
    return max(fitting[-1], min(_SEASONS_OF_WINDOW * fitting[0], most))


def _patch(window: int, seasons: Sequence[int], *, is_set: bool) -> int:
    """Return the steps of a patch: a divisor of the shortest season that makes few patches.

    >>> _patch(672, (48, 336), is_set=False), _patch(38, (19,), is_set=False)
    (48, 3)
    """
    least = math.ceil(window / _MOST_PATCHES)
    whole = window if is_set or not seasons else seasons[0]
    fitting = (patch for patch in range(least, 2 * least + 1) if whole % patch == 0)
    return next(fitting, window if is_set else least)
