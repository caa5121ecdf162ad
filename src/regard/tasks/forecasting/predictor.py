"""Inference with trained forecasters: the history of series in, quantiles of what follows out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from regard.data.readers.memory import InMemory, source_of_rows
from regard.data.readers.series_tables import TimeSeriesFile
from regard.data.readers.source import DataSource, as_source
from regard.data.time_series import TimeSeries, TimeStep
from regard.errors import ConfigError, DataError
from regard.metrics.forecasts import LEVELS, MEDIAN
from regard.models import PatchTst
from regard.plots.forecast_panels import ForecastPanel, draw_forecasts
from regard.settings.validation import require_number
from regard.setup.base_predictor import BasePredictor
from regard.setup.config import RunConfig
from regard.tasks.forecasting.data import read_series
from regard.tasks.forecasting.loss import stretch_bands
from regard.tasks.forecasting.series_windows import Calendar, SeriesWindows
from regard.training.device import move_batch
from regard.training.distribution import ALONE, World

_FORECAST_TOGETHER = 256  # series
_SEASONS_READ = 2  # before the window, to impute missing values
_SHOWN_HORIZONS = 8  # of a history in a picture


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What follows a series.

    Args:
        series: Its name.
        time: Times of the steps, in the form of the file.
        median: The median of each step, in the units of the series.
        quantiles: Quantiles of each step, by their levels ``0.025``, ``0.1``, ``0.2`` ... ``0.9``,
            ``0.975``.
    """

    series: str
    time: list[str]
    median: list[float]
    quantiles: dict[str, list[float]]


class Forecaster(BasePredictor):
    """A trained forecaster.

    Args:
        model: Model in evaluation mode.
        config: The settings of its run.
    """

    verb = "forecast"
    world: World = ALONE
    """The processes that share its batches; all of them call the same methods."""

    def __init__(self, model: PatchTst, config: RunConfig) -> None:
        self.model, self.config = model, config
        self.bands: dict[str, float] = {}
        """Factors by which bands are stretched, by the names of `BANDS`."""

    @property
    def horizon(self) -> int:
        """Maximum number of steps ahead."""
        return self.model.config.horizon

    def read(
        self, data: str | Path | DataSource | InMemory, encoding: str | None = None
    ) -> TimeSeriesFile:
        """Return the series of a file like that of training, or of rows in memory.

        Args:
            data: The file; ``-`` is standard input. Records with time and values, or a data frame.
            encoding: Encoding of the file; None is that of training.

        Raises:
            DataError: The data cannot be read, has another step, or lacks a column.
        """
        if isinstance(data, str | Path | DataSource):
            source = as_source(data)
        else:
            source = source_of_rows(data)
        settings = self.config.data
        if encoding is not None:
            settings = msgspec.structs.replace(settings, encoding=encoding)
        return read_series(source, settings, self.config.forecast)

    def forecast(
        self,
        data: str | Path | DataSource | InMemory | TimeSeriesFile,
        horizon: int | None = None,
    ) -> list[Forecast]:
        """Return what follows every series of a file, or of rows in memory, in their order.

        Args:
            data: As for `read`, or what it returned. Rows of the future, with the columns known
                ahead alone, may follow the last values.
            horizon: Steps ahead; None is that of training.

        Raises:
            ConfigError: The horizon is longer than that of training.
            DataError: The data cannot be read, has another step, or lacks a column or a row.
        """
        steps = self._require_horizon(horizon)
        series = (data if isinstance(data, TimeSeriesFile) else self.read(data)).series
        rows = zip(series.names, series.values, series.indices, strict=True)
        return [
            Forecast(
                series=name,
                time=index.times(len(values), steps),
                median=quantiles[:, MEDIAN].tolist(),
                quantiles={
                    f"{level:g}": column.tolist()
                    for level, column in zip(LEVELS, quantiles.T, strict=True)
                },
            )
            for (name, values, index), quantiles in zip(
                rows, self.quantiles(series, steps), strict=True
            )
        ]

    def draw(self, file: TimeSeriesFile, forecasts: Sequence[Forecast], path: str | Path) -> None:
        """Draw forecasts with the ends of their histories: medians, and bands of 80 and 95 %.

        Args:
            file: The histories, as `read` returned them.
            forecasts: Forecasts of the same series.
            path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

        Raises:
            ConfigError: The picture cannot be written.
        """
        panels = []
        series = file.series
        rows = zip(series.values, series.indices, forecasts, strict=True)
        for values, index, forecast in rows:
            num_shown = min(len(values), _SHOWN_HORIZONS * len(forecast.time))
            first = len(values) - num_shown
            panels.append(
                ForecastPanel(
                    title=forecast.series,
                    times=index.times(first, num_shown + len(forecast.time)),
                    history=values[first:],
                    actual=None,
                    quantiles=np.array(list(forecast.quantiles.values())).T,
                    levels=LEVELS,
                )
            )
        draw_forecasts(panels, path)

    def quantiles(
        self, series: TimeSeries, horizon: int | None = None
    ) -> list[NDArray[np.float64]]:
        """Forecast what follows the last value of each series.

        Args:
            series: The histories; those shorter than the model's window are read whole.
            horizon: Steps ahead; None is that of training.

        Returns:
            Quantiles of each at `regard.metrics.forecasts.LEVELS`, ``[horizon, levels]``, rising
            with the level.

        Raises:
            ConfigError: The horizon is longer than that of training.
            DataError: A series has no value, or the rows of the future have too few values that
                are known ahead.
        """
        steps = self._require_horizon(horizon)

        def forecast(start: int) -> NDArray[np.float64]:
            chunk = series.select(range(start, min(len(series), start + _FORECAST_TOGETHER)))
            self._check(chunk, steps)
            return self._quantiles(chunk)[:, :steps]

        chunks = self.world.map(forecast, range(0, len(series), _FORECAST_TOGETHER))
        return [quantiles for chunk in chunks for quantiles in chunk]

    def windows(self, series: TimeSeries, last: int | None = None) -> SeriesWindows:
        """Return the windows of series, or of their last values, scaled as in training."""
        config = self.config
        known_scale = np.array([config.data.mean, config.data.std]).reshape(2, -1)
        seasons = config.forecast.seasons or ()
        return SeriesWindows(
            series, self.model.config, self.calendar, seasons, known_scale, last=last
        )

    @property
    def calendar(self) -> Calendar:
        """The cycles of the calendar that the model reads."""
        forecast = self.config.forecast
        return Calendar(
            step=TimeStep.parse(forecast.step),
            cycles=forecast.cycles,
            seasons=forecast.seasons or (),
        )

    @torch.inference_mode()
    def _quantiles(self, series: TimeSeries) -> NDArray[np.float64]:
        """Forecast series that have been checked, ``[series, horizon, levels]``."""
        rows = np.arange(len(series))
        longest = max(self.config.forecast.seasons or (1,))
        windows = self.windows(series, self.model.config.window + _SEASONS_READ * longest)
        batch = move_batch(windows.batch(rows, np.array(windows.lengths)), self.model)
        return stretch_bands(self.model(*batch.inputs).double().cpu().numpy(), self.bands)

    def _require_horizon(self, horizon: int | None) -> int:
        """Return the steps ahead; raise ConfigError where there are more than in training."""
        if horizon is None:
            return self.horizon
        require_number("horizon", horizon, is_whole=True)
        if horizon < 1:
            raise ConfigError(f"`horizon={horizon}`: a number of steps, 1 or more, is expected.")
        if horizon > self.horizon:
            raise ConfigError(
                f"`horizon={horizon}`: the model was trained to predict {self.horizon:,} steps.  "
                f"Train one with `forecast.horizon={horizon}`"
            )
        return horizon

    def _check(self, series: TimeSeries, horizon: int) -> None:
        """Raise DataError where a series cannot be forecast."""
        for name, values, rows in zip(series.names, series.values, series.known, strict=True):
            if np.isnan(values).all():
                raise DataError(f"{series.path}: series {name} has no value to forecast from.")
            ahead = rows[len(values) : len(values) + horizon]
            if self.model.config.num_known and (len(ahead) < horizon or np.isnan(ahead).any()):
                columns = ", ".join(self.config.forecast.known)
                number = int((~np.isnan(ahead).any(1)).sum())
                raise DataError(
                    f"{series.path}: series {name}: {columns} must be known {horizon:,} steps "
                    f"after the last value; {number:,} such rows follow it."
                    "  Add rows with an empty value, or predict fewer steps."
                )
